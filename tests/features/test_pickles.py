"""Pickled features read in a process of their own: files as data sets ship them, limits, and what a death is called."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features import pickle_reader
from mmadapters.features.pickles import pickled_arrays, read_pickled_arrays

POSTER = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)
BUDGET = 256 * 2**20


def dump(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_of_many_arrays_is_read(tmp_path: Path, protocol: int) -> None:
    written = {"tt1": POSTER, 2: np.zeros((0, 3)), "three": np.arange(6, dtype=">i4").reshape(2, 3).T, "4": np.array(9)}
    read = read_pickled_arrays(dump(tmp_path / "films.p", written, protocol))
    assert list(read) == ["tt1", "2", "three", "4"]
    for array, original in zip(read.values(), written.values(), strict=True):
        assert array.shape == original.shape
        assert array.dtype == original.dtype.newbyteorder("=")
        np.testing.assert_array_equal(array, original)
        assert array.flags.writeable


def test_lists_have_positions_and_a_single_array_the_files_name_as_ids(tmp_path: Path) -> None:
    assert list(read_pickled_arrays(dump(tmp_path / "list.pkl", [POSTER, POSTER[0]]))) == ["0", "1"]
    read = read_pickled_arrays(str(dump(tmp_path / "tt0111161.p", POSTER)))
    assert list(read) == ["tt0111161"]
    np.testing.assert_array_equal(read["tt0111161"], POSTER)


def test_an_empty_dict_has_no_arrays(tmp_path: Path) -> None:
    assert read_pickled_arrays(dump(tmp_path / "none.p", {})) == {}


def test_an_array_larger_than_a_pipe_holds_arrives_whole(tmp_path: Path) -> None:
    video = np.random.default_rng(0).random((200, 4096), dtype=np.float32)
    read = read_pickled_arrays(dump(tmp_path / "video.p", {"a": video, "b": video[:3]}))
    np.testing.assert_array_equal(read["a"], video)
    np.testing.assert_array_equal(read["b"], video[:3])


def test_many_files_are_read_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    original = subprocess.Popen

    def counted(*arguments: Any, **options: Any) -> Any:
        started.append(original(*arguments, **options))
        return started[-1]

    monkeypatch.setattr("mmadapters.features.pickles.subprocess.Popen", counted)
    files = [dump(tmp_path / f"{number}.p", POSTER * number) for number in range(40)]
    read = dict(pickled_arrays(files))
    assert list(read) == [str(number) for number in range(40)]
    np.testing.assert_array_equal(read["7"], POSTER * 7)
    assert len(started) == 1
    assert started[0].returncode is not None


def test_a_reader_that_is_left_early_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    original = subprocess.Popen

    def kept(*arguments: Any, **options: Any) -> Any:
        started.append(original(*arguments, **options))
        return started[-1]

    monkeypatch.setattr("mmadapters.features.pickles.subprocess.Popen", kept)
    arrays = pickled_arrays([dump(tmp_path / "films.p", [np.zeros(100_000)] * 20)])
    assert next(arrays)[0] == "0"
    arrays.close()  # type: ignore[attr-defined]
    assert started[0].returncode is not None


def test_an_id_in_two_files_is_refused(tmp_path: Path) -> None:
    files = [dump(tmp_path / "a.p", {"x": POSTER}), dump(tmp_path / "b.p", {"x": POSTER})]
    with pytest.raises(DataError, match=r"b\.p' and '.*a\.p' both have the id 'x'"):
        dict(pickled_arrays(files))


def test_hostile_names_are_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    file = tmp_path / "films.p"
    file.write_bytes(b"cposix\nsystem\n(S'touch " + os.fsencode(marker) + b"'\ntR.")
    with pytest.raises(DataError) as caught:
        read_pickled_arrays(file)
    assert str(caught.value) == (
        f"'{file}' was not read: it asks for 'posix.system', which numpy arrays do not need; nothing of it was run. "
        "Accepted are a dict from id to numpy array, a list of arrays, or one array."
    )
    assert not marker.exists()


MEMORY_ATTACKS = {
    "4 TB of bytes": b"\x80\x04\x8e" + (4 * 10**12).to_bytes(8, "little") + b"x.",
    "4 TB of bytearray": b"\x80\x05\x96" + (4 * 10**12).to_bytes(8, "little") + b"x.",
    "4 TB of text": b"\x80\x04\x8d" + (4 * 10**12).to_bytes(8, "little") + b"x.",
    "a frame of 4 TB": b"\x80\x04\x95" + (4 * 10**12).to_bytes(8, "little") + b"x.",
    "a memo of 2**32 entries": b"\x80\x02]r\xff\xff\xff\xff.",
    "a memo of 2**31 entries": b"\x80\x02]r\xff\xff\xff\x7f.",
    "lists of lists": b"\x80\x02]" + b"".join(b"](" + b"h\x00" * 200 + b"e" for _ in range(3)) + b".",
}


@pytest.mark.parametrize("attack", MEMORY_ATTACKS)
def test_a_pickle_that_asks_for_memory_is_refused(tmp_path: Path, attack: str) -> None:
    file = tmp_path / "films.p"
    file.write_bytes(MEMORY_ATTACKS[attack])
    started = time.monotonic()
    with pytest.raises(DataError, match="was not read: "):
        read_pickled_arrays(file, memory_bytes=BUDGET)
    assert time.monotonic() - started < 20


def test_the_limit_of_memory_is_the_systems(tmp_path: Path) -> None:
    memo = tmp_path / "memo.p"
    memo.write_bytes(MEMORY_ATTACKS["a memo of 2**31 entries"])
    with pytest.raises(DataError, match=r"it needs more memory than it may have. The limit is 268,435,456 bytes"):
        read_pickled_arrays(memo, memory_bytes=BUDGET)
    large = dump(tmp_path / "large.p", np.zeros(5_000_000))
    with pytest.raises(DataError, match="it needs more memory than it may have. The limit is 20,000,000 bytes"):
        read_pickled_arrays(large, memory_bytes=20_000_000)
    assert read_pickled_arrays(large, memory_bytes=200_000_000)["large"].shape == (5_000_000,)


def test_one_array_under_many_ids_counts_each_time(tmp_path: Path) -> None:
    file = dump(tmp_path / "films.p", dict.fromkeys(range(300), np.zeros(125_000)))
    assert file.stat().st_size < 1_100_000
    with pytest.raises(DataError, match="more memory"):
        read_pickled_arrays(file, memory_bytes=200_000_000)


def test_a_pickle_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    # Multiples of 2**61 - 1 all have the hash 0, so that each new key is compared with all before it.
    slow = tmp_path / "slow.p"
    keys = b"".join(pickle.dumps(number * (2**61 - 1), 2)[2:-1] + b"N" for number in range(1, 40_000))
    slow.write_bytes(b"\x80\x02}(" + keys + b"u.")
    started = time.monotonic()
    with pytest.raises(DataError, match=r"slow\.p' was not read: it took longer than 0\.3 s"):
        read_pickled_arrays(slow, seconds=0.3)
    assert time.monotonic() - started < 10


def test_a_pickle_that_ends_the_process_is_an_error(tmp_path: Path) -> None:
    # A tuple in a tuple in a tuple …: its hash is computed by C functions that call each other, until the stack ends.
    file = tmp_path / "deep.p"
    file.write_bytes(b"\x80\x02})" + b"\x85" * 2_000_000 + b"Ns.")
    with pytest.raises(DataError, match="was not read: ") as caught:
        read_pickled_arrays(file)
    # Where the stack has no limit of its own, memory's ends it.
    assert re.search(r"process that read it ended \(SIG(SEGV|BUS)\)|needs more memory", str(caught.value))


def test_a_process_that_cannot_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmadapters.features.pickles._PROGRAM", "raise SystemExit(3)")
    with pytest.raises(DataError, match=r"the process that read it ended \(exit status 3\)"):
        read_pickled_arrays(dump(tmp_path / "a.p", POSTER))


def test_the_process_loads_little_and_has_its_limits(tmp_path: Path) -> None:
    program = (
        "import json, resource, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "reader = runpy.run_path(sys.argv[2]); reader['limit_resources'](2**28); "
        "print(sorted({'pandas', 'torch', 'mmadapters'} & set(sys.modules)), "
        "resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_CORE), "
        "resource.getrlimit(resource.RLIMIT_AS)[1] < 2**28 + reader['_address_space']() + 2**22)"
    )
    arguments = [json.dumps(sys.path), str(pickle_reader.__file__)]
    done = subprocess.run([sys.executable, "-I", "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "[] (0, 0) (0, 0) True\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is no regular file"),
        (lambda path: os.mkfifo(path), "is no regular file"),
        (lambda path: path.write_bytes(b""), r"damaged or no pickle \(EOFError: 'Ran out of input'\)"),
        (lambda path: path.write_bytes(pickle.dumps(POSTER)[:90]), "damaged or no pickle"),
    ],
)
def test_what_is_no_pickle_file_is_told(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "x.p")
    with pytest.raises(DataError, match=message):
        read_pickled_arrays(tmp_path / "x.p")


def test_a_file_whose_name_cannot_be_an_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="that name cannot be printed"):
        read_pickled_arrays(dump(tmp_path / "a\nb.p", POSTER))


@pytest.mark.parametrize("limit", [{"memory_bytes": 0}, {"seconds": -1}, {"seconds": float("nan")}])
def test_limits_have_to_be_above_zero(tmp_path: Path, limit: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used. Give a number above 0"):
        read_pickled_arrays(dump(tmp_path / "a.p", POSTER), **limit)
