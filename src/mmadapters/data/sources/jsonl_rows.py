"""Rows of ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``, as MMBT and the sets around it are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mmadapters.data.files import read_rows
from mmadapters.data.sources.problems import SPLITS, Problems, check_ids, named_ids
from mmadapters.data.sources.published import ID
from mmadapters.errors import listed
from mmadapters.features.cells import is_missing

PICTURE = "picture"

JSONL_FILES: dict[str, tuple[str, ...]] = {
    "train": ("train.jsonl",),
    "validation": ("dev.jsonl",),
    "test": ("test.jsonl",),
}


@dataclass(frozen=True)
class JsonlField:
    """A field of the objects, and the column that it becomes.

    Attributes:
        column: Name of the column.
        names: Names that the field has in files, the first of which is there.
        types: Of its values.
        required: Whether every row has it; else None stands for it.
    """

    column: str
    names: tuple[str, ...]
    types: tuple[type, ...] = (str,)
    required: bool = True


@dataclass(frozen=True)
class JsonlLayout:
    """How a data set's rows are laid out.

    Attributes:
        fields: What is read of a row.
        files: Names that a split's file may have, the first of which is there.
        id_names: Fields that name a row, the first of which is there.
        picture_names: Fields with the path of the picture, likewise; empty where there are none.
        ids_from_pictures: Whether a row without an id is named by its picture's file; else by split and number.
        unlabelled: Splits that may have no labels.
    """

    fields: tuple[JsonlField, ...]
    files: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: JSONL_FILES)
    id_names: tuple[str, ...] = ("id",)
    picture_names: tuple[str, ...] = ("img", "image")
    ids_from_pictures: bool = False
    unlabelled: tuple[str, ...] = ()


def read_jsonl_rows(root: Path, layout: JsonlLayout, problems: Problems) -> dict[str, pd.DataFrame]:
    """Read the rows of all splits.

    Args:
        root: Folder of the files; pictures' paths start from it.
        layout: What is where.
        problems: Where what is wrong is noted: absent files, fields and pictures, values of another type, ids that are
            there twice or in two splits.

    Returns:
        By split, a column ``id``, those of the fields, and ``picture`` (None where it is absent).
    """
    splits = {}
    for name in SPLITS:
        file = _file(root, layout.files[name], problems)
        frame = None if file is None else problems.attempt(lambda file=file: read_rows(file))  # type: ignore[misc]
        if file is None or frame is None:
            splits[name] = pd.DataFrame({column: [] for column in _columns(layout)}, dtype=object)
        else:
            splits[name] = _rows(root, layout, name, file.name, frame, problems)
    check_ids(problems, {name: frame[ID] for name, frame in splits.items()})
    return splits


def _columns(layout: JsonlLayout) -> list[str]:
    pictures = [PICTURE] if layout.picture_names else []
    return [ID, *(entry.column for entry in layout.fields), *pictures]


def _file(root: Path, names: tuple[str, ...], problems: Problems) -> Path | None:
    for name in names:
        if (root / name).is_file():
            return root / name
    problems.add(f"There is no file {' or '.join(repr(name) for name in names)}.")
    return None


def _rows(
    root: Path, layout: JsonlLayout, split: str, file: str, frame: pd.DataFrame, problems: Problems
) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {}
    for entry in layout.fields:
        values = _values(entry, file, frame, problems, may_lack=split in layout.unlabelled and entry.column == "label")
        if values is not None:
            columns[entry.column] = values
    if layout.picture_names:
        columns[PICTURE] = _pictures(root, layout, split, file, frame, problems)
    ids = [str(id) for id in _ids(layout, split, frame, columns)]
    return pd.DataFrame({ID: ids, **{name: pd.Series(values, dtype=object) for name, values in columns.items()}})


def _values(entry: JsonlField, file: str, frame: pd.DataFrame, problems: Problems, may_lack: bool) -> list[Any] | None:
    """Return the values of a field, or None where there are none and none are needed."""
    name = _first(entry.names, frame)
    if name is None:
        if may_lack:
            return None
        if entry.required:
            problems.add(
                f"'{file}' has no field {' or '.join(map(repr, entry.names))}; it has {listed(frame.columns)}."
            )
        return [None] * len(frame)
    wrong = [
        place
        for place, value in enumerate(frame[name], start=1)
        if not isinstance(value, entry.types) and (entry.required or not _is_absent(value))
    ]
    if wrong:
        accepted = " or ".join(kind.__name__ for kind in entry.types)
        problems.add(f"'{file}': '{name}' is not of type {accepted} in row {named_ids(wrong)}.")
    return [None if _is_absent(value) else value for value in frame[name]]


def _pictures(
    root: Path, layout: JsonlLayout, split: str, file: str, frame: pd.DataFrame, problems: Problems
) -> list[str | None]:
    entry = JsonlField(PICTURE, layout.picture_names)
    paths = _values(JsonlField(PICTURE, entry.names, required=False), file, frame, problems, may_lack=False)
    if _first(entry.names, frame) is None or paths is None:
        problems.add(f"'{file}' has no field {' or '.join(map(repr, entry.names))}; it has {listed(frame.columns)}.")
        return [None] * len(frame)
    there = {path: (root / path).is_file() for path in paths if isinstance(path, str)}
    absent = [path for path, is_there in there.items() if not is_there]
    if absent:
        problems.add_incomplete(
            f"{split}: {len(absent):,} of {len(there):,} pictures are not there, such as '{absent[0]}'."
        )
    return [path if isinstance(path, str) and there[path] else None for path in paths]


def _ids(layout: JsonlLayout, split: str, frame: pd.DataFrame, columns: Mapping[str, list[Any]]) -> list[Any]:
    name = _first(layout.id_names, frame)
    if name is not None and not frame[name].isna().any():
        return list(frame[name])
    picture = _first(layout.picture_names, frame)
    if layout.ids_from_pictures and picture is not None and not frame[picture].isna().any():
        return [Path(str(path)).stem for path in frame[picture]]
    return [f"{split}-{number}" for number in range(1, len(frame) + 1)]


def _first(names: tuple[str, ...], frame: pd.DataFrame) -> str | None:
    return next((name for name in names if name in frame), None)


def _is_absent(value: Any) -> bool:
    return not isinstance(value, str) and is_missing(value)
