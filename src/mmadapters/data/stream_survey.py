"""The one pass over rows that are to be streamed: what a preprocessor learns of them, and how long each is."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from mmadapters.data.label_statistics import deviation_of_sums
from mmadapters.data.preprocessor import Preprocessor, missing_texts, text_length, warn_of_missing_texts
from mmadapters.data.preprocessor_statistics import PreprocessorStatistics
from mmadapters.data.row_reader import named_rows, with_columns
from mmadapters.data.row_source import RowSource
from mmadapters.data.schema import REGRESSION, DatasetSchema
from mmadapters.errors import DataError
from mmadapters.features.store import FeatureStore
from mmadapters.features.table_columns import require_columns

REPORTED_ROWS = 250_000


@dataclass(frozen=True)
class Survey:
    """What one pass over rows found.

    Attributes:
        rows_of_pieces: Int64 (pieces,): rows of each piece of the source.
        lengths: (N,) tokens of each row, memory-mapped from a file that is gone when nobody needs it any more.
        label_frequencies: Int64 (C,): rows with each label, or None without classes.
        label_mean: Mean of the labels of a regression, or None.
        label_deviation: Their standard deviation, or None.
        content_digest: SHA-256 of the rows' cells and lengths, in their order.
    """

    rows_of_pieces: np.ndarray
    lengths: np.ndarray
    content_digest: str
    label_frequencies: np.ndarray | None = None
    label_mean: float | None = None
    label_deviation: float | None = None

    def __len__(self) -> int:
        return len(self.lengths)


def fit_and_survey(
    source: RowSource,
    schema: DatasetSchema,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Preprocessor, Survey]:
    """Learn labels, table statistics and feature widths of training rows as ``Preprocessor.fit`` does, in one pass.

    Every cell that a training will read is read, so that what is wrong in a row is found before the training. At most
    some thousand rows are in memory; in addition two bytes a row on disk, the counted labels and categories, and where
    features come from a store its ids.

    Args:
        source: The training rows.
        schema: What the columns mean.
        tokenizer: Tokenizer of the text encoder.
        max_length: Number of tokens to cut a text to; None for what the tokenizer allows, at most 512.
        report: Called with a line for a person every ``REPORTED_ROWS`` rows.

    Raises:
        DataError: As ``Preprocessor.fit`` and ``Preprocessor.transform`` would, with the file that has the row.
        ConfigurationError: If ``max_length`` leaves no room for text.
    """
    length = text_length(max_length, schema, tokenizer)
    statistics = PreprocessorStatistics(schema)
    texts = Preprocessor(DatasetSchema(schema.text), tokenizer, None, {}, [], length)

    def look_at(frame: pd.DataFrame) -> np.ndarray:
        statistics.add(frame)
        statistics.check_widths(frame)
        return texts.transform_chunk(frame, {}).lengths

    found = _go_through(source, schema, length, look_at, report)
    preprocessor = Preprocessor.learned_from(statistics, tokenizer, length)
    labels = statistics.labels
    if labels is not None:
        found = replace(
            found, label_frequencies=labels.frequencies(), label_mean=labels.mean(), label_deviation=labels.deviation()
        )
    return preprocessor, found


def survey(source: RowSource, preprocessor: Preprocessor) -> Survey:
    """Count rows that a fitted preprocessor is to read, in one pass that reads each of them as a training will.

    Args:
        source: The rows.
        preprocessor: Fitted on these or other rows.

    Raises:
        DataError: As ``Preprocessor.transform``, with the file that has the row.
    """
    stores: dict[str, FeatureStore] = {}
    labels = preprocessor.labels
    sums = np.zeros(labels.num_labels if labels else 0)
    squares = np.zeros(1)

    def look_at(frame: pd.DataFrame) -> np.ndarray:
        data = preprocessor.transform_chunk(frame, stores)
        if data.labels is not None:
            np.add(sums, _sums(data.labels, len(sums)), out=sums)
            np.add(squares, np.square(data.labels, dtype=np.float64).sum(), out=squares)
        return data.lengths

    found = _go_through(source, preprocessor.schema, preprocessor.max_length, look_at)
    if labels is None:
        return found
    if labels.problem_type == REGRESSION:
        mean = float(sums[0]) / len(found)
        deviation = deviation_of_sums(mean, float(squares[0]), len(found))
        return replace(found, label_mean=mean, label_deviation=deviation)
    return replace(found, label_frequencies=sums.astype(np.int64))


def columns_of(schema: DatasetSchema) -> list[str]:
    """Return every column that is read for training, each once."""
    return list(dict.fromkeys([*schema.input_columns, *schema.label_columns]))


def _go_through(
    source: RowSource,
    schema: DatasetSchema,
    max_length: int,
    look_at: Callable[[pd.DataFrame], np.ndarray],
    report: Callable[[str], None] | None = None,
) -> Survey:
    """Read all rows once.

    Args:
        source: The rows.
        schema: What the columns mean.
        max_length: The greatest number of tokens.
        look_at: Called with each chunk of rows; returns their lengths.
        report: Called with a line for a person every ``REPORTED_ROWS`` rows.
    """
    columns = columns_of(schema)
    found: set[str] = set()
    missing: Counter[str] = Counter()
    digest = hashlib.sha256()
    rows_of_pieces = np.zeros(len(source.pieces), dtype=np.int64)
    with tempfile.TemporaryFile(prefix="mmadapters-lengths-") as file:
        for place, piece in enumerate(source.pieces):
            with named_rows(piece.name):
                for part in source.read(place, columns):
                    if not found:
                        _require_known(source, part.columns, (*schema.text_columns, *schema.label_columns))
                    found.update(part.columns)
                    frame = with_columns(part, columns)
                    lengths = look_at(frame).astype(np.min_scalar_type(max_length))
                    file.write(lengths.tobytes())
                    missing += missing_texts(frame, schema)
                    rows_of_pieces[place] += len(frame)
                    _tell(report, source, int(rows_of_pieces.sum()), len(frame))
                    for content in chain([lengths.tobytes()], *(_content(frame[column]) for column in columns)):
                        digest.update(content)
        total = int(rows_of_pieces.sum())
        if not total:
            where = f" in '{_named(source)}'" if source.pieces else ""
            raise DataError(f"There are no rows{where}. Give shards with at least one row.")
        with named_rows(_named(source)):
            _require_known(source, found, columns)
        file.flush()
        # The mapping keeps the file's content after the file is closed.
        kept = np.memmap(file, dtype=np.min_scalar_type(max_length), mode="r", shape=(total,))
    warn_of_missing_texts(missing, total)
    digest.update(rows_of_pieces.tobytes())
    return Survey(rows_of_pieces, kept, digest.hexdigest())


def _require_known(source: RowSource, found: Iterable[str], columns: Sequence[str]) -> None:
    """Check that columns are among those that were found; the message names all that the rows have."""
    if not set(columns) <= set(found):
        require_columns(pd.DataFrame(columns=list(dict.fromkeys([*source.names(), *found]))), columns)


def _tell(report: Callable[[str], None] | None, source: RowSource, done: int, chunk: int) -> None:
    """Report how far a pass is, if one of the rows of the last chunk is to be reported."""
    if report is not None and done // REPORTED_ROWS > (done - chunk) // REPORTED_ROWS:
        sizes = [piece.rows for piece in source.pieces if piece.rows is not None]
        total = f" of {sum(sizes)}" if len(sizes) == len(source.pieces) else ""
        report(f"  {done}{total} rows read")


def _sums(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Return how many rows have each label, float64 (C,), of encoded labels; of a regression the sum of its numbers."""
    if labels.ndim == 2:
        return labels.sum(axis=0, dtype=np.float64)
    if labels.dtype.kind == "f":
        return labels.sum(dtype=np.float64, keepdims=True)
    return np.bincount(labels[labels >= 0], minlength=num_labels).astype(np.float64)


def _named(source: RowSource) -> str:
    """Return the name of the file, or of the first and the last one, for single quotes around it."""
    names = [piece.name for piece in (*source.pieces[:1], *source.pieces[-1:])]
    return "' to '".join(dict.fromkeys(names))


def _content(cells: pd.Series) -> Iterator[bytes]:
    """Yield bytes that tell the cells of a column from others."""
    if pd.api.types.is_numeric_dtype(cells):
        yield cells.to_numpy(dtype=np.float64, na_value=np.nan).tobytes()
        return
    for cell in cells:
        array = cell if isinstance(cell, np.ndarray) else np.asarray(cell) if _is_vector(cell) else None
        if array is None or array.dtype == object:
            shown = sorted(map(str, cell)) if isinstance(cell, (set, frozenset)) else cell
            yield f"{shown}\x1f".encode("utf-8", "surrogatepass")
        else:
            yield f"{array.dtype} {array.shape}\x1f".encode()
            yield np.ascontiguousarray(array).tobytes()


def _is_vector(cell: Any) -> bool:
    return isinstance(cell, Sequence) and not isinstance(cell, str) and bool(cell) and isinstance(cell[0], float)
