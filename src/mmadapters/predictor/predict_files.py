"""Predictions for files of any size: rows are read, predicted and written run by run, and bad ones are marked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mmadapters.data.files import check_writable_rows
from mmadapters.data.marked_rows import MarkedRows, marked_chunks, row_files
from mmadapters.data.preprocessor import missing_texts, warn_of_missing_texts
from mmadapters.data.schema import REGRESSION
from mmadapters.features.extract_rows import row_id
from mmadapters.predictor.chunks import CHUNK_ROWS, PredictedChunk, RowPredictor
from mmadapters.predictor.decisions import decided_texts
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.prediction_file import PredictionFile

OK, PARTIAL, ERROR = "ok", "partial", "error"
"""The row was predicted; it was, without something that it names; it could not be read."""

_CARD = "README.md"
_PACKAGES = ("mmadapters", "numpy", "torch", "transformers", "peft", "onnxruntime", "openvino")
"""Those that predictions follow from."""

_COUNTED = ("rows", OK, PARTIAL, ERROR)


@dataclass(frozen=True)
class FileOptions:
    """How files are predicted.

    Attributes:
        model: Folder of the model, whose files are noted for a resumption.
        root: Folder that paths of media start from and may not leave; None for that of each file.
        resume: Whether to go on with a run that was killed.
        progress: Whether to show a progress bar.
        options: What else the predictions follow from, as plain values.
    """

    model: Path
    root: Path | None = None
    resume: bool = False
    progress: bool = False
    options: Any = None


def predict_files(
    predictor: RowPredictor,
    rows: str | Path,
    output: Path,
    how: FileOptions,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Predict the rows of a file, a folder or a pattern of files, and write a row for each.

    A row has its id (or its number), ``prediction``, a ``probability_<label>`` for each label, ``status`` and
    ``error``. The file gets its name when it is whole. Memory does not grow with the rows.

    Args:
        predictor: The model.
        rows: The rows.
        output: Where to.
        how: See ``FileOptions``.
        tell: Called with a line for a person.

    Returns:
        Number of ``rows``, and how many are ``ok``, ``partial`` and ``error``.

    Raises:
        DataError: If a file cannot be read as a whole, or a column is absent.
        ConfigurationError: If an unfinished run is there that this one is not the same as, or ``resume`` is not given.
    """
    target = Path(output).expanduser()
    check_writable_rows(target)
    files = row_files(rows)
    schema = predictor.artefact.preprocessor.schema
    id_column, missing = schema.id, Counter[str]()
    with PredictionFile(target, _inputs(predictor, files, how), how.resume) as written:
        counts = {name: written.counts.get(name, 0) for name in _COUNTED}
        if how.resume:
            tell(f"going on after {counts['rows']:,} rows" if written.runs else "nothing to go on with: a new start")
        with (
            predictor.preparation.workers(),
            tqdm(desc="predicting", unit="row", initial=counts["rows"], disable=not how.progress) as bar,
        ):
            known: list[str] = []
            for chunk in marked_chunks(files, CHUNK_ROWS, id_column, written.runs, schema.text_columns):
                known += [name for name in chunk.frame.columns if name not in known]
                frame = _with_columns(chunk.frame, known)
                place = Place((how.root or Path(frame.attrs["root"])).expanduser().absolute())
                predicted = predictor.predict_chunk(frame, place) if len(frame) else None
                missing += missing_texts(frame, schema) if len(frame) else Counter()
                table = prediction_table(predictor, chunk, predicted, id_column)
                for status in table["status"]:
                    counts[status] += 1
                counts["rows"] += len(table)
                written.add(table, counts)
                bar.update(len(table))
        written.finish()
    warn_of_missing_texts(missing, counts["rows"])
    return counts


def prediction_table(
    predictor: RowPredictor, chunk: MarkedRows, predicted: PredictedChunk | None, id_column: str | None
) -> pd.DataFrame:
    """Return a row for each row of a run, in their order.

    Args:
        predictor: The model.
        chunk: The run.
        predicted: What is predicted for the rows that could be read as lines; None where none could.
        id_column: Column that names a row; the number of the row takes its place.
    """
    artefact = predictor.artefact
    n = len(chunk.numbers)
    read = np.array([number - chunk.numbers.start for number in chunk.frame.index], dtype=np.int64)
    errors = {number - chunk.numbers.start: error for number, error in chunk.errors.items()}
    notes: dict[int, list[str]] = {}
    places = np.empty(0, dtype=np.int64)
    if predicted is not None:
        errors |= {int(read[row]): error for row, error in predicted.errors.items()}
        notes = {int(read[row]): lines for row, lines in predicted.notes.items()}
        places = read[predicted.rows]
    decided: list[Any] = [None] * n
    scores = np.full((n, len(artefact.labels)), np.nan)
    if predicted is not None and predicted.predictions is not None:
        for place, value in zip(places, decided_texts(artefact, predicted.predictions.scores), strict=True):
            decided[place] = value
        scores[places] = predicted.predictions.scores.reshape(len(places), -1)
    has_ids = id_column is not None and (id_column in chunk.frame.columns or any(id is not None for id in chunk.ids))
    table: dict[str, Any] = {str(id_column): _shown_ids(chunk.ids)} if has_ids else {"row": list(chunk.numbers)}
    table["prediction"] = decided if artefact.problem_type != REGRESSION else scores[:, 0]
    if artefact.problem_type != REGRESSION:
        table |= {f"probability_{name}": scores[:, index] for index, name in enumerate(artefact.labels)}
    table["status"] = [ERROR if row in errors else PARTIAL if row in notes else OK for row in range(n)]
    table["error"] = [_one_line(errors.get(row) or "; ".join(notes.get(row, ()))) for row in range(n)]
    return pd.DataFrame(table)


def _shown_ids(ids: Sequence[Any]) -> list[Any]:
    """Return ids as they stand in the file; whole numbers that a missing id has made fractions are whole again."""
    return [row_id(id) if isinstance(id, float) else id for id in ids]


def _one_line(text: str) -> str | None:
    return " ".join(text.split()) or None


def _with_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return rows with the columns that earlier ones had; JSON leaves out what none of some rows has."""
    if not len(frame) or all(name in frame.columns for name in columns):
        return frame
    whole = frame.reindex(columns=list(columns))
    whole.attrs = frame.attrs
    return whole


def _inputs(predictor: RowPredictor, files: Sequence[Path], how: FileOptions) -> dict[str, Any]:
    digest = hashlib.sha256()
    for file in sorted(_folder(how.model).iterdir()):
        if file.is_file() and file.name != _CARD:
            digest.update(file.name.encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return {
        "model": digest.hexdigest(),
        "rows": {str(file.resolve()): [file.stat().st_size, file.stat().st_mtime_ns] for file in files},
        "root": None if how.root is None else str(how.root.expanduser().resolve()),
        "max_tokens_per_batch": predictor.max_tokens_per_batch,
        "rows_at_once": CHUNK_ROWS,
        "options": how.options,
        "versions": _versions(),
    }


def _folder(model: Path) -> Path:
    if model.is_dir():
        return model
    # What is not on this machine under its name was had from the Hub.
    from mmadapters.artefact import find_artefact

    return find_artefact(model).folder


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
