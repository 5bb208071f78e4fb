"""What a preprocessor learns of the training rows, collected from one chunk of them after the other."""

from __future__ import annotations

import pandas as pd

from mmadapters.data.label_statistics import LabelStatistics
from mmadapters.data.labels import LabelEncoder
from mmadapters.data.schema import DatasetSchema, StoredFeatures, TabularColumns, VectorColumn
from mmadapters.data.stored import look_up, open_store, stored_column
from mmadapters.data.vector_cells import first_width, of_width
from mmadapters.errors import DataError
from mmadapters.features.store import FeatureStore
from mmadapters.features.table_columns import require_columns
from mmadapters.features.tabular import TabularEncoder
from mmadapters.modality import Modality


class PreprocessorStatistics:
    """Labels, table statistics and widths of features, of any number of rows in chunks.

    Attributes:
        rows: Number of rows so far.
        labels: Statistics of the labels, or None where the schema names none.
        fingerprints: What the features of each modality that a store holds were made with, by its name.

    Args:
        schema: What the columns mean.
    """

    def __init__(self, schema: DatasetSchema) -> None:
        self.schema = schema
        self.rows = 0
        self.labels = None if schema.label is None else LabelStatistics(schema.problem_type, schema.label_separator)
        self.fingerprints: dict[str, str] = {}
        self._encoders = {
            source.name: source.encoder() for source in schema.modalities if isinstance(source, TabularColumns)
        }
        self._tables = {name: encoder.statistics() for name, encoder in self._encoders.items()}
        self._read: dict[str, Modality] = {}
        self._present: set[str] = set()
        self._stores: dict[str, FeatureStore] = {}

    def add(self, frame: pd.DataFrame) -> PreprocessorStatistics:
        """Look at some training rows.

        Args:
            frame: At least one row.

        Returns:
            The statistics themselves.

        Raises:
            DataError: If there are no rows, a column is absent, labels, tables or vectors cannot be used, or a store
                cannot be read or lacks rows.
        """
        require_rows(frame, (*self.schema.input_columns, *self.schema.label_columns))
        if self.labels is not None:
            self.labels.add(label_values(frame, self.schema))
        for statistics in self._tables.values():
            statistics.add(frame)
        for source in self.schema.modalities:
            if isinstance(source, StoredFeatures):
                self._add_stored(frame, source)
            elif isinstance(source, VectorColumn) and source.name not in self._read:
                width = first_width(frame, source)
                if width is not None:
                    self._read[source.name] = Modality(source.name, width, kind="vector")
        self.rows += len(frame)
        return self

    def check_widths(self, frame: pd.DataFrame) -> None:
        """Read every vector of rows that were added, as ``Preprocessor.transform`` will.

        Raises:
            DataError: If one cannot be read or has another width than the first.
        """
        for source in self.schema.modalities:
            if isinstance(source, VectorColumn) and source.name in self._read:
                for _ in of_width(frame, source, self._read[source.name].feature_dim):
                    pass

    def label_encoder(self) -> LabelEncoder | None:
        """Return the encoder of the labels, or None where the schema names none.

        Raises:
            DataError: If there is only one label.
        """
        if self.labels is None:
            return None
        return LabelEncoder(self.schema.problem_type, self.schema.label_separator).learn(self.labels)

    def table_encoders(self) -> dict[str, TabularEncoder]:
        """Return the fitted encoder of each tabular modality, by its name.

        Raises:
            DataError: If the numbers of a column are too large to be standardised.
        """
        return {name: encoder.learn(self._tables[name]) for name, encoder in self._encoders.items()}

    def modalities(self) -> list[Modality]:
        """Return the modalities in the order of the schema; the tables must have been fitted by ``table_encoders``.

        Raises:
            DataError: If a vector modality or one from a store is missing in every row.
        """
        return [self._modality(source.name) for source in self.schema.modalities]

    def _modality(self, name: str) -> Modality:
        if name in self._encoders:
            return Modality(name, self._encoders[name].feature_dim, kind="tabular")
        if name in self.fingerprints and name not in self._present:
            raise _missing_everywhere(name, "Look at the errors with `mmadapters store info`")
        if name not in self._read:
            raise _missing_everywhere(name, "Fill its column")
        return self._read[name]

    def _add_stored(self, frame: pd.DataFrame, source: StoredFeatures) -> None:
        if source.name not in self._read:
            self._read[source.name], self.fingerprints[source.name] = look_up(source)
            self._stores[source.name] = open_store(source)
        column = stored_column(
            source,
            self._read[source.name],
            self.fingerprints[source.name],
            frame,
            self.schema.id,
            self._stores[source.name],
        )
        if source.name not in self._present and column.present.any():
            self._present.add(source.name)


def require_rows(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Check that a frame has rows and the columns.

    Raises:
        DataError: If it has not.
    """
    require_columns(frame, columns)
    if not len(frame):
        raise DataError("There are no rows. Give a frame with at least one row.")


def label_values(frame: pd.DataFrame, schema: DatasetSchema) -> pd.Series | pd.DataFrame:
    """Return the label column, or the columns of 0 and 1 as a frame."""
    return frame[list(schema.label)] if isinstance(schema.label, tuple) else frame[schema.label]


def _missing_everywhere(name: str, advice: str) -> DataError:
    return DataError(f"Modality '{name}' is missing in every training row. {advice}, or leave the modality out.")
