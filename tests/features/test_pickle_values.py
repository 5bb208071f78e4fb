"""Plain values out of pickles: what is read, what is refused, and that nothing is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from mmadapters.errors import DataError
from mmadapters.features.pickles import read_pickled_values

ROWS = [
    {"movie_id": 3, "plot": "caf\xc3\xa9 – a film", "newGenreLabels": "0101", "seen": (True, None, 2.5)},
    {"movie_id": np.int64(4), "plot": "", "newGenreLabels": np.array([0, 1])},
]
PLAIN = [
    {"movie_id": 3, "plot": "caf\xc3\xa9 – a film", "newGenreLabels": "0101", "seen": [True, None, 2.5]},
    {"movie_id": 4, "plot": "", "newGenreLabels": [0, 1]},
]


class RunsOnLoad:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def dump(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_values_are_read(tmp_path: Path, protocol: int) -> None:
    assert read_pickled_values(dump(tmp_path / "rows.p", ROWS, protocol)) == PLAIN


def test_texts_of_python_2_are_latin_1(tmp_path: Path) -> None:
    (tmp_path / "rows.p").write_bytes(b"(lp0\nS'caf\\xc3\\xa9'\np1\na.")
    assert read_pickled_values(tmp_path / "rows.p") == ["caf\xc3\xa9"]


def test_keys_of_dicts_become_texts(tmp_path: Path) -> None:
    rows = dump(tmp_path / "ids.pickle", {7: np.int32(0), "8": 1, np.int64(9): 2})
    assert read_pickled_values(rows) == {"7": 0, "8": 1, "9": 2}


def test_a_dict_that_numpy_wrote_and_only_the_wanted_keys_of_it(tmp_path: Path) -> None:
    np.save(tmp_path / "metadata.npy", {"ix_to_word": {0: "_UNK_", 1: "the"}, "lookup": np.zeros((40, 30))})
    read = read_pickled_values(tmp_path / "metadata.npy", ["ix_to_word", "absent"])
    assert read == {"ix_to_word": {"0": "_UNK_", "1": "the"}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "it holds an object of type set, which is no plain value. Accepted are texts, numbers"),
        ({(1, 2): 3}, "a key is of type list; accepted are texts and whole numbers"),
        ([object()], "it asks for 'builtins.object', which numpy arrays do not need; nothing of it was run"),
    ],
)
def test_what_is_no_plain_value_is_refused(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pickled_values(dump(tmp_path / "x.p", value, protocol=4))


def test_wanted_keys_need_a_dict(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds a list, where a dict was expected"):
        read_pickled_values(dump(tmp_path / "x.p", [1]), ["ix_to_word"])


def test_nothing_is_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(DataError, match=r"it asks for 'posix\.mkdir'"):
        read_pickled_values(dump(tmp_path / "x.p", [RunsOnLoad(target)]))
    assert not target.exists()


def test_what_is_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    shared: list[object] = ["x" * 1000]
    for _ in range(24):
        shared = [shared, shared]
    with pytest.raises(DataError, match="it needs more memory than it may have"):
        read_pickled_values(dump(tmp_path / "x.p", shared), memory_bytes=50_000_000)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_pickled_values(tmp_path / "x.p")
    (tmp_path / "x.p").write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="it is damaged or no pickle"):
        read_pickled_values(tmp_path / "x.p")
    (tmp_path / "x.p").write_bytes(pickle.dumps([1]) * 2)
    with pytest.raises(DataError, match="something follows the pickle"):
        read_pickled_values(tmp_path / "x.p")
