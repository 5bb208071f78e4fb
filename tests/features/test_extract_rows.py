from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.extract_rows import media_rows, row_id, row_ids, share_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (7.0, "7"),
        (np.int64(7), "7"),
        (np.float32(7), "7"),
        ("7", "7"),
        ("007", "007"),
        (" tt1 ", "tt1"),
        (7.5, "7.5"),
    ],
)
def test_an_id_does_not_depend_on_the_type_of_the_file(value: object, text: str) -> None:
    assert row_id(value) == text


@pytest.mark.parametrize("value", [None, float("nan"), "", "  ", pd.NA, pd.NaT])
def test_an_empty_cell_is_no_id(value: object) -> None:
    assert row_id(value) is None


def test_rows_without_an_id_are_refused() -> None:
    with pytest.raises(DataError, match="'id' is empty in 1 of 3 rows"):
        row_ids(pd.DataFrame({"id": ["a", None, "b"]}), "id")
    with pytest.raises(DataError, match="no column 'id'"):
        row_ids(pd.DataFrame({"ids": ["a"]}), "id")


def test_rows_have_ids_and_paths() -> None:
    frame = pd.DataFrame({"id": [1, 2], "poster": [Path("a/b.png"), "c.png"], "clip": [None, np.nan]})
    rows = media_rows(frame, "id", {"poster": "poster", "sound": "clip"})
    assert [row.id for row in rows] == ["1", "2"]
    assert rows[0].paths == {"poster": "a/b.png", "sound": None}
    assert rows[1].paths == {"poster": "c.png", "sound": None}


def test_an_id_that_is_there_twice_is_refused() -> None:
    frame = pd.DataFrame({"id": [1, "1", 2], "poster": ["a", "b", "c"]})
    with pytest.raises(DataError, match="has 1 ids more than once: '1'"):
        media_rows(frame, "id", {"poster": "poster"})


def test_a_cell_that_is_no_path_is_refused() -> None:
    frame = pd.DataFrame({"id": [1, 2], "poster": ["a", [1, 2]]})
    with pytest.raises(DataError, match="'poster' holds a list in row '2'"):
        media_rows(frame, "id", {"poster": "poster"})


def test_jobs_divide_the_rows_by_their_ids() -> None:
    rows = media_rows(pd.DataFrame({"id": range(200)}), "id", {})
    shares = [share_of(rows, 4, index) for index in range(4)]
    assert sorted(int(row.id) for share in shares for row in share) == list(range(200))
    assert all(25 < len(share) < 75 for share in shares)
    assert [int(row.id) for row in shares[0]] == sorted(int(row.id) for row in shares[0])
    fewer = share_of(rows[50:], 4, 0)
    assert fewer == [row for row in shares[0] if int(row.id) >= 50]
    assert share_of(rows, 1, 0) == rows


@pytest.mark.parametrize(("shards", "index"), [(0, 0), (2, 2), (2, -1)])
def test_a_job_that_is_none_is_refused(shards: int, index: int) -> None:
    with pytest.raises(ConfigurationError, match=f"shard_index={index} of num_shards={shards}"):
        share_of([], shards, index)
