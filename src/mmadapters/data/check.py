"""Checks a table before anything is trained on it: what its columns hold, which labels it has, and what is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmadapters.data.columns import EMPTY, LIST, NPY_PATH, VECTOR, Column, describe_column, vector_shape
from mmadapters.data.files import ROOT
from mmadapters.data.labels import LabelEncoder, rows_named
from mmadapters.data.schema import MULTI_LABEL, REGRESSION
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.cells import is_missing
from mmadapters.features.guard import Limits, checked_size, refuse_other_kinds, safe_path
from mmadapters.features.outcome import MediaError
from mmadapters.features.tabular import require_columns

LABEL_NAMES = ("label", "labels", "genre", "genres", "class", "classes", "category", "categories", "target", "tags")
"""Names by which a column is taken for that of the labels, where none is given; the first that is there."""

_ACCEPTED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "image path": ("image", ("image",)),
    "audio path": ("audio", ("audio", "video")),
    "video path": ("video", ("video",)),
}
_SHOWN = 5


@dataclass(frozen=True)
class CheckOptions:
    """What is known of a table.

    Attributes:
        label: Column of the labels, or several columns of 0 and 1; guessed where empty.
        label_separator: Text between several labels in one cell; guessed where None.
        id: Column that names a row; guessed where None.
        root: Folder that relative paths start from; that of the rows' file where None.
        min_members: Labels that fewer rows have are reported.

    Raises:
        ConfigurationError: If ``min_members`` is negative.
    """

    label: tuple[str, ...] = ()
    label_separator: str | None = None
    id: str | None = None
    root: Path | None = None
    min_members: int = 10

    def __post_init__(self) -> None:
        if self.min_members < 0:
            raise ConfigurationError(f"min_members={self.min_members} cannot be used. Give a number of at least 0.")


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a table.

    Attributes:
        level: ``error`` where extraction or training would stop or learn from wrong rows; else ``warning``.
        column: Column that has it, or None.
        message: What it is.
    """

    level: Literal["error", "warning"]
    column: str | None
    message: str


@dataclass(frozen=True)
class Labels:
    """The labels of a table.

    Attributes:
        columns: The column, or the columns of 0 and 1.
        guessed: Whether nobody said that it is that one.
        problem_type: As training would infer it.
        separator: Text between the labels of a cell, or None.
        counts: Rows that have each label, the most frequent first; of a regression none.
    """

    columns: tuple[str, ...]
    guessed: bool
    problem_type: str
    separator: str | None
    counts: dict[str, int]


@dataclass(frozen=True)
class TableCheck:
    """What was found.

    Attributes:
        rows: Number of rows.
        columns: The columns, in their order.
        files: Of each column of paths, how many rows name a file that can be used.
        labels: The labels, or None where no column is known to have them.
        id: Column that names a row, or None.
        problems: What is wrong, errors first.
    """

    rows: int
    columns: list[Column]
    files: dict[str, int] = field(default_factory=dict)
    labels: Labels | None = None
    id: str | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return all(problem.level != "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        columns = [
            {key: value for key, value in asdict(column).items() if value not in (None, {}, 0) or key == "missing"}
            | {"odd": [{"row": row, "cell": cell} for row, cell in column.odd.items()]}
            for column in self.columns
        ]
        return {
            "rows": self.rows,
            "ok": self.ok,
            "id": self.id,
            "columns": columns,
            "files": self.files,
            "labels": None if self.labels is None else asdict(self.labels),
            "problems": [asdict(problem) for problem in self.problems],
        }


def check_table(frame: pd.DataFrame, options: CheckOptions | None = None) -> TableCheck:
    """Check a table.

    Args:
        frame: N rows, as ``read_rows`` gives them; ``frame.attrs["root"]`` is where relative paths start.
        options: What is known of it.

    Raises:
        DataError: If a column that the options name is absent.
    """
    known = options or CheckOptions()
    require_columns(frame, [*known.label, *([] if known.id is None else [known.id])])
    one_label = known.label[0] if len(known.label) == 1 else None
    columns = [
        describe_column(frame[name], known.label_separator if name == one_label else None) for name in frame.columns
    ]
    id = known.id or _guessed_id(frame)
    root = known.root or Path(frame.attrs.get(ROOT, "."))
    problems = [problem for column in columns for problem in _column_problems(column, len(frame))]
    if len(columns) == 1 and any(separator in columns[0].name for separator in ";\t|"):
        advice = "is that how its cells are separated? CSV has commas, and .tsv files tabs"
        problems.append(Problem("warning", columns[0].name, f"the only column's name holds a separator; {advice}"))
    files = {}
    for column in columns:
        if column.type.endswith(" path"):
            usable, found = _check_files(frame[column.name], column, root)
            files[column.name] = usable
            problems += found
    problems += _id_problems(frame, id, guessed=known.id is None)
    problems += _duplicates(frame, id)
    labels, found = _check_labels(frame, columns, known, id)
    problems += found
    return TableCheck(len(frame), columns, files, labels, id, sorted(problems, key=lambda each: each.level))


def _guessed_id(frame: pd.DataFrame) -> str | None:
    names = [str(name) for name in frame.columns]
    exact = [name for name in names if name.lower() == "id"]
    first = [name for name in names[:1] if name.lower().endswith(("_id", "-id")) or name.endswith("Id")]
    return next(iter(exact + first), None)


def _column_problems(column: Column, rows: int) -> Iterator[Problem]:
    if column.type == EMPTY:
        yield Problem("warning", column.name, "no row has a value")
    elif column.distinct == 1 and rows > 1 and not column.missing and column.type != LIST:
        yield Problem("warning", column.name, "every row has the same value")
    if len(column.shapes) > 1:
        counted = ", ".join(f"{shape} in {count} rows" for shape, count in column.shapes.items())
        yield Problem("error", column.name, f"the vectors have different forms: {counted}")
    if column.odd:
        cells = ", ".join(f"{cell} in row {row}" for row, cell in column.odd.items())
        more = f" and {column.n_odd - len(column.odd)} more" if column.n_odd > len(column.odd) else ""
        what = "a finite vector" if column.type == VECTOR else f"a {column.type}".replace("a image", "an image")
        yield Problem("error", column.name, f"not {what}, as most cells are: {cells}{more}")


def _check_files(series: pd.Series, column: Column, root: Path) -> tuple[int, list[Problem]]:
    """Return how many rows name a file that can be used, and why the others do not."""
    outcomes: dict[str, str | tuple[int, ...]] = {}
    rows: dict[str, list[Hashable]] = defaultdict(list)
    shapes: Counter[str] = Counter()
    usable = 0
    for row, cell in series.items():
        if is_missing(cell):
            continue
        path = str(cell).strip()
        outcome = outcomes[path] if path in outcomes else outcomes.setdefault(path, _file_outcome(path, column, root))
        if isinstance(outcome, str):
            rows[outcome].append(row)
            continue
        usable += 1
        if outcome:
            shapes[vector_shape(outcome)] += 1
    problems = [Problem("error", column.name, f"{why}: {rows_named(where)}") for why, where in rows.items()]
    if len(shapes) > 1:
        counted = ", ".join(f"{shape} in {count} files" for shape, count in shapes.most_common(_SHOWN))
        problems.append(Problem("error", column.name, f"the arrays have different forms: {counted}"))
    return usable, problems


def _file_outcome(path: str, column: Column, root: Path) -> str | tuple[int, ...]:
    """Return why a file cannot be used; else the shape of the array in it, or nothing for media."""
    try:
        # Training reads .npy files from anywhere; extraction keeps to the folder of the media.
        file = safe_path(path, root, allow_outside_root=column.type == NPY_PATH)
        checked_size(file, Limits())
        if column.type == NPY_PATH:
            return tuple(np.load(file, mmap_mode="r", allow_pickle=False).shape)
        wanted, accepted = _ACCEPTED[column.type]
        refuse_other_kinds(file, wanted, accepted)
    except MediaError as error:
        return str(error)
    except (OSError, ValueError, EOFError) as error:
        return f"the file cannot be read: {error}"
    return ()


def _id_problems(frame: pd.DataFrame, id: str | None, guessed: bool) -> Iterator[Problem]:
    if id is None:
        return
    missing = [row for row, cell in frame[id].items() if is_missing(cell)]
    if missing:
        yield Problem("error", id, f"no id in {rows_named(missing)}")
    counts = Counter(_hashable(cell) for cell in frame[id] if not is_missing(cell))
    repeated = [f"{cell!r} ({count} rows)" for cell, count in counts.most_common(_SHOWN) if count > 1]
    if repeated:
        more = sum(count > 1 for count in counts.values())
        advice = " Name another column with --id if this one is no id." if guessed else ""
        are = "1 id is" if more == 1 else f"{more} ids are"
        yield Problem("error", id, f"{are} not unique: {', '.join(repeated)}.{advice}")


def _duplicates(frame: pd.DataFrame, id: str | None) -> Iterator[Problem]:
    others = [name for name in frame.columns if name != id]
    for names, what in ((list(frame.columns), "in every column"), (others, f"in every column but '{id}'")):
        if not names or (id is None and names is others):
            continue
        first: dict[tuple[Any, ...], Hashable] = {}
        again = []
        cells = zip(*(map(_hashable, frame[name]) for name in names), strict=True)
        for row, values in zip(frame.index, cells, strict=True):
            if first.setdefault(values, row) != row:
                again.append(row)
        if again:
            repeat = "1 row repeats" if len(again) == 1 else f"{len(again)} rows repeat"
            yield Problem("warning", None, f"{repeat} an earlier one {what}: {rows_named(again)}")
            return


def _hashable(cell: Any) -> Any:
    if is_missing(cell):
        return None
    if isinstance(cell, np.ndarray):
        return (cell.shape, tuple(map(_hashable, cell)) if cell.dtype.kind == "O" else cell.tobytes())
    if isinstance(cell, (list, tuple)):
        return tuple(map(_hashable, cell))
    if isinstance(cell, (set, frozenset)):
        return frozenset(map(_hashable, cell))
    return cell if isinstance(cell, Hashable) else repr(cell)


def _check_labels(
    frame: pd.DataFrame, columns: Sequence[Column], known: CheckOptions, id: str | None
) -> tuple[Labels | None, list[Problem]]:
    names = known.label or _guessed_label(columns, id)
    if not names:
        return None, []
    values = frame[list(names)] if len(names) > 1 else frame[names[0]]
    label = names[0] if len(names) == 1 else None
    described = {column.name: column for column in columns}
    separator = known.label_separator or (None if label is None else described[label].separator)
    problems = []
    missing = [] if label is None else [row for row, cell in frame[label].items() if is_missing(cell)]
    if missing:
        problems.append(Problem("error", label, f"no label in {rows_named(missing)}"))
        values = values.drop(index=missing)
    try:
        encoder = LabelEncoder(None, separator).fit(values)
        encoded, _ = encoder.transform(values)
    except DataError as error:
        return None, [*problems, Problem("error", label, str(error))]
    counts = _label_counts(encoder, encoded)
    found = Labels(tuple(names), not known.label, str(encoder.problem_type), separator, counts)
    return found, [*problems, *_label_problems(label, counts, known.min_members)]


def _guessed_label(columns: Sequence[Column], id: str | None) -> tuple[str, ...]:
    by_lower = {column.name.lower(): column.name for column in columns if column.type != EMPTY}
    named = [by_lower[name] for name in LABEL_NAMES if name in by_lower]
    lists = [column.name for column in columns if column.type == LIST and column.name != id]
    return tuple(named[:1] or (lists if len(lists) == 1 else []))


def _label_counts(encoder: LabelEncoder, encoded: np.ndarray) -> dict[str, int]:
    if encoder.problem_type == REGRESSION:
        return {}
    if encoder.problem_type == MULTI_LABEL:
        sums = encoded.sum(axis=0)
    else:
        sums = np.bincount(encoded, minlength=len(encoder.classes))
    counted = zip(encoder.names, map(int, sums), strict=True)
    return dict(sorted(counted, key=lambda pair: -pair[1]))


def _label_problems(label: str | None, counts: dict[str, int], min_members: int) -> Iterator[Problem]:
    rare = [f"'{name}' ({count})" for name, count in counts.items() if count < min_members]
    if rare:
        more = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
        what = "1 label has" if len(rare) == 1 else f"{len(rare)} labels have"
        yield Problem("warning", label, f"{what} less than {min_members} rows: {', '.join(rare[-_SHOWN:])}{more}")
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        spellings[" ".join(name.casefold().split())].append(name)
    for same in spellings.values():
        if len(same) > 1:
            listing = ", ".join(f"'{name}' ({counts[name]})" for name in same)
            yield Problem("warning", label, f"labels that differ in case or blanks only: {listing}")
