"""One row of a request: what a caller gave, held against what a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.dataset import FeatureColumn, MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import TabularColumns, VectorColumn
from mmadapters.errors import did_you_mean, listed
from mmadapters.features.cells import is_missing, to_number, values_in
from mmadapters.features.outcome import Decoded
from mmadapters.modality import Modality
from mmadapters.serving.config import RequestLimits
from mmadapters.serving.problems import unprocessable


@dataclass
class Row:
    """A row that is to be predicted.

    Attributes:
        model: Name of the model.
        texts: One for each text column.
        features: By modality float32 (D,) or (T, D).
        cells: Of table columns, by column; those that are absent are missing.
        decoded: By modality a file that is yet to be encoded.
        notes: What of the row could not be used as it was given.
    """

    model: str
    texts: tuple[str, ...]
    features: dict[str, np.ndarray] = field(default_factory=dict)
    cells: dict[str, Any] = field(default_factory=dict)
    decoded: dict[str, Decoded] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class RowReader:
    """Checks rows for one model, and makes data sets of them.

    Args:
        name: Of the model.
        preprocessor: What the training rows fixed; it has the modalities that the model reads.
        limits: What a row may be at most.
        inside: What modalities are called within the model where that is not their name.
    """

    def __init__(
        self, name: str, preprocessor: Preprocessor, limits: RequestLimits, inside: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.preprocessor = preprocessor
        self.limits = limits
        sources = preprocessor.schema.modalities
        self.modalities = {modality.name: modality for modality in preprocessor.modalities}
        self.tables = {source.name: source for source in sources if isinstance(source, TabularColumns)}
        self._inside = dict(inside or {})
        self.inside = {n: replace(m, name=self._inside.get(n, n)) for n, m in self.modalities.items()}
        # Vectors that are spread over columns of numbers.
        self._spread = {s.name: s.columns for s in sources if isinstance(s, VectorColumn) and len(s.columns) > 1}
        tabular = [column for source in self.tables.values() for column in source.columns]
        self.columns = tuple(dict.fromkeys([*tabular, *(c for columns in self._spread.values() for c in columns)]))
        self._numeric = {column for source in self.tables.values() for column in source.numeric}
        self._numeric |= {column for columns in self._spread.values() for column in columns}
        self._single = {column for source in self.tables.values() for column in source.categorical}

    @property
    def takes_pairs(self) -> bool:
        """Whether the model reads two texts."""
        return len(self.preprocessor.schema.text_columns) == 2

    def read(
        self,
        text: str | None,
        text_pair: str | None = None,
        features: Mapping[str, Any] | None = None,
        table: Mapping[str, Any] | None = None,
        where: str = "",
    ) -> Row:
        """Return a checked row.

        Args:
            text: The text; None for one that is missing.
            text_pair: The second text of a pair.
            features: By modality a list (D,) or (T, D), or None where it is missing.
            table: Cells by column.
            where: Which row it is, for messages.

        Raises:
            RequestProblem: With status 422, if the model cannot take something.
        """
        if text_pair is not None and not self.takes_pairs:
            raise unprocessable(f"{where}text_pair was given and the model '{self.name}' reads one text. Leave it out.")
        row = Row(self.name, (text or "", text_pair or "")[: 2 if self.takes_pairs else 1])
        for given in row.texts:
            if len(given) > self.limits.max_text_chars:
                raise unprocessable(
                    f"{where}A text has {len(given):,} characters; the limit is {self.limits.max_text_chars:,}."
                )
        for name, value in (features or {}).items():
            if (vector := self._checked_features(name, value, where)) is not None:
                row.features[name] = vector
        self._add_cells(row, table or {}, where)
        return row

    def require_content(self, row: Row, where: str = "") -> None:
        """Refuse a row with nothing in it.

        Raises:
            RequestProblem: Then.
        """
        cells = any(
            not is_missing(entry)
            for cell in row.cells.values()
            for entry in (cell if isinstance(cell, list) else [cell])
        )
        if not (any(text.strip() for text in row.texts) or row.features or row.decoded or cells or row.notes):
            accepted = ["text", *self.modalities]
            raise unprocessable(
                f"{where}The row is empty. The model '{self.name}' reads {listed(accepted)}; give at least one."
            )

    def modality(self, name: str, where: str = "") -> Modality:
        """Return a modality of the model.

        Raises:
            RequestProblem: If it has none of this name.
        """
        if name not in self.modalities:
            raise unprocessable(
                f"{where}The model '{self.name}' has no modality '{name}'. Its modalities are "
                f"{listed(self.modalities)}.{did_you_mean(name, self.modalities)}"
            )
        return self.modalities[name]

    def data_set(self, rows: Sequence[Row]) -> MultimodalDataset:
        """Return rows as a data set; their files are encoded. Modalities have the names that the model has for them.

        Raises:
            DataError: If a cell does not fit its column.
        """
        preprocessor = self.preprocessor
        texts = [[row.texts[place] for row in rows] for place in range(len(rows[0].texts))]
        encoded = preprocessor.tokenizer(*texts, truncation=True, max_length=preprocessor.max_length, padding=False)
        tokens = {name: encoded[name] for name in preprocessor.tokenizer.model_input_names if name in encoded}
        return MultimodalDataset(tokens, [self._column(modality, rows) for modality in self.modalities.values()])

    def missing(self, row: Row) -> list[str]:
        """Return the modalities that a row lacks, in their order; a table is never missing, its cells are."""
        return [name for name in self.modalities if name not in row.features and name not in self.tables]

    def _column(self, modality: Modality, rows: Sequence[Row]) -> FeatureColumn:
        if modality.name not in self.tables:
            return FeatureColumn(self.inside[modality.name], [row.features.get(modality.name) for row in rows])
        columns = self.tables[modality.name].columns
        frame = pd.DataFrame({name: [row.cells.get(name) for row in rows] for name in columns}, dtype=object)
        return FeatureColumn(self.inside[modality.name], self.preprocessor.tabular[modality.name].transform(frame))

    def _checked_features(self, name: str, value: Any, where: str) -> np.ndarray | None:
        modality = self.modality(name, where)
        if name in self.tables:
            raise unprocessable(
                f"{where}'{name}' is a table. Give its columns in 'table': {listed(self.tables[name].columns)}."
            )
        if value is None:
            return None
        try:
            with np.errstate(over="ignore"):
                array = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            array = np.empty(0, dtype=np.float32)
        steps = len(array) if array.ndim == 2 else 1
        if array.ndim not in (1, 2) or array.shape[-1] != modality.feature_dim or not steps:
            shape = "lists of different lengths, or an empty one" if not array.size else f"the shape {array.shape}"
            raise unprocessable(
                f"{where}The features of '{name}' have {shape}. Accepted are {modality.feature_dim} numbers, or a list "
                f"of steps of {modality.feature_dim} numbers each."
            )
        if steps > self.limits.max_steps:
            raise unprocessable(f"{where}'{name}' has {steps:,} steps; the limit is {self.limits.max_steps:,}.")
        if not np.isfinite(array).all():
            raise unprocessable(f"{where}The features of '{name}' have a number that is not finite as float32.")
        return array

    def _add_cells(self, row: Row, table: Mapping[str, Any], where: str) -> None:
        for column, cell in table.items():
            if column not in self.columns:
                known = f"Its columns are {listed(self.columns)}." if self.columns else "It reads no table."
                raise unprocessable(
                    f"{where}The model '{self.name}' has no table column '{column}'. {known}"
                    f"{did_you_mean(column, self.columns)}"
                )
            self._check_cell(column, cell, where)
            row.cells[column] = cell
        for name, columns in self._spread.items():
            numbers = [to_number(row.cells.pop(column, None)) for column in columns]
            there = [number is not None and not np.isnan(number) for number in numbers]
            if all(there):
                row.features[name] = np.array(numbers, dtype=np.float32)
            elif any(there):
                absent = [column for column, given in zip(columns, there, strict=True) if not given]
                raise unprocessable(
                    f"{where}Of the vector '{name}' the columns {listed(absent)} are missing. Give all of its columns, "
                    "or none."
                )

    def _check_cell(self, column: str, cell: Any, where: str) -> None:
        if column in self._numeric:
            if isinstance(cell, list) or to_number(cell) is None:
                raise unprocessable(f"{where}The table column '{column}' takes a number, or null where it is missing.")
        elif column in self._single:
            if isinstance(cell, list):
                raise unprocessable(f"{where}The table column '{column}' takes one value, and a list was given.")
        elif not is_missing(cell) and values_in(cell, "|") is None:
            raise unprocessable(f"{where}The table column '{column}' takes a list of values, or text with values.")
