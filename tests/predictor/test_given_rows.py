"""What people give as rows and labels, and what is no rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmadapters.errors import DataError
from mmadapters.predictor import given_rows
from mmadapters.predictor.given_rows import as_frame, as_source, with_labels


def test_a_frame_keeps_its_index_and_is_not_changed() -> None:
    rows = pd.DataFrame({"a": [1, 2], 3: [4, 5]}, index=pd.MultiIndex.from_tuples([("x", 1), ("x", 1)]))
    rows.attrs["root"] = "there"
    frame = as_frame(rows)
    frame["a"] = 0
    assert frame.columns.tolist() == ["a", "3"]
    assert frame.index.equals(rows.index)
    assert frame.attrs == {"root": "there"}
    assert rows.columns.tolist() == ["a", 3]
    assert rows["a"].tolist() == [1, 2]


def test_dictionaries_files_and_what_can_become_a_frame(tmp_path: Path) -> None:
    records = [{"a": 1, "b": "x"}, {"b": "y"}]
    assert as_frame(records)["a"].isna().tolist() == [False, True]
    pd.DataFrame(records).to_csv(tmp_path / "rows.csv", index=False)
    assert as_frame(tmp_path / "rows.csv")["b"].tolist() == ["x", "y"]
    assert as_frame(str(tmp_path / "rows.csv")).attrs["root"] == str(tmp_path.resolve())

    class Table:
        def to_pandas(self) -> pd.DataFrame:
            return pd.DataFrame(records)

    assert as_frame(Table())["b"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.DataFrame({"a": []}), "There are no rows. Give a frame with at least one row"),
        ([], "There are no rows"),
        ({"a": 1}, r"One dictionary was given as rows. Give a list of them: \[row\]"),
        ([{"a": 1}, "b"], "Row 1 is a str. Accepted are a pandas DataFrame, a list of dictionaries"),
        (np.zeros((2, 2)), "A ndarray was given as rows. Accepted are a pandas DataFrame"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'. Rename or drop"),
        (7, "A int was given as rows"),
    ],
)
def test_what_is_no_rows(rows: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_frame(rows)


def test_labels_that_are_given_apart() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    assert with_labels(frame, "label", pd.Series(["p", "q"], index=[5, 6]))["label"].to_dict() == {"x": "p", "y": "q"}
    assert with_labels(frame, "label", np.array([3, 4]))["label"].tolist() == [3, 4]
    assert with_labels(frame, "label", [["p"], []])["label"].tolist() == [["p"], []]
    assert with_labels(frame, "label", np.array([[1, 0], [1, 1]]))["label"].tolist() == [[0], [0, 1]]
    indicators = pd.DataFrame({"p": [0, 1], "q": [1, 1]})
    assert with_labels(frame, "label", indicators)["label"].tolist() == [["q"], ["p", "q"]]
    assert with_labels(frame, ["p", "q"], indicators).to_numpy().tolist() == [[1, 0, 1], [2, 1, 1]]
    assert with_labels(frame, "label", np.array([[3], [4]]))["label"].tolist() == [3, 4]
    assert list(frame.columns) == ["a"]
    with pytest.raises(DataError, match="3 labels were given for 2 rows"):
        with_labels(frame, "label", [1, 2, 3])
    with pytest.raises(DataError, match=r"shape \(2,\) were given for 'p', 'q'"):
        with_labels(frame, ["p", "q"], [1, 2])


def test_what_is_read_while_a_model_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n")

    class Stream:
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter([{"x": 1}])

    assert as_source(pd.DataFrame({"a": [1]})) is None
    assert as_source([{"a": 1}]) is None
    assert as_source(tmp_path / "a.csv") is None
    assert as_source(tmp_path / "gone.json") is None
    for streamed in (tmp_path, str(tmp_path / "*.csv"), [tmp_path / "a.csv", tmp_path / "b.csv"], Stream()):
        source = as_source(streamed)
        assert source is not None
        assert source.names()[0] == "x"
    monkeypatch.setattr(given_rows, "STREAMED_BYTES", 3)
    assert as_source(tmp_path / "a.csv") is not None
    with pytest.raises(DataError, match="can be gone through only once"):
        as_source(iter([{"x": 1}]))
