"""A frame as a source of rows: the same in pieces, with its index, as often as it is read."""

from __future__ import annotations

import pandas as pd
import pytest
from data_helpers import tiny_tokenizer

from mmadapters.data.frame_rows import FrameRows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.row_source import row_source
from mmadapters.data.schema import DatasetSchema, TabularColumns
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import DataError


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"title": ["good film"] * rows, "label": ["a", "b"] * (rows // 2), "year": range(rows)},
        index=[f"row {i}" for i in range(rows)],
    )


def test_pieces_make_the_frame() -> None:
    rows = frame(20_000)
    source = FrameRows(rows)
    assert [piece.rows for piece in source.pieces] == [16_384, 3616]
    parts = [part for piece in range(2) for part in source.read(piece, ["year", "title"])]
    pd.testing.assert_frame_equal(pd.concat(parts), rows[["year", "title"]])
    assert next(source.read(1, ["year"], skip=1030))["year"].iloc[0] == 16_384 + 1030
    assert source.names() == ["title", "label", "year"]
    assert row_source(source) is source
    with pytest.raises(DataError, match="no column 'yaer'.*Did you mean 'year'"):
        next(source.read(0, ["yaer"]))


def test_it_is_streamed_with_the_items_of_a_data_set_in_memory() -> None:
    rows = frame(40)
    schema = DatasetSchema("title", "label", (TabularColumns("table", numeric=("year",)),))
    preprocessor, streamed = StreamedDataset.fit(FrameRows(rows), schema, tiny_tokenizer(), shuffle_buffer=1)
    data = Preprocessor.fit(rows, schema, tiny_tokenizer()).transform(rows)
    assert preprocessor.to_dict() == Preprocessor.fit(rows, schema, tiny_tokenizer()).to_dict()
    items = list(streamed)
    assert len(items) == len(streamed) == 40
    for item, row in zip(items, (data[i] for i in range(40)), strict=True):
        assert item["labels"] == row["labels"]
        assert item["modality_features"]["table"].tolist() == row["modality_features"]["table"].tolist()
