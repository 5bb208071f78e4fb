"""The unpickler itself: what numpy writes comes back exactly, everything else is refused and nothing of it runs."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mmadapters.features.pickle_reader import FILE_BLOCK_BYTES, RefusedError, failure, load_arrays

GENEROUS = 2**30

# Written by cPickle of Python 2.7.18, of classes named like numpy 1's that reduce to what numpy 1 reduces to:
# {"tt0111161": (1, 4), 12: (2,), numpy.int64(3): (2,)}, and an OrderedDict with the first of them.
PYTHON_2 = [
    b"(dp1\ncnumpy.core.multiarray\nscalar\np2\n(cnumpy\ndtype\np3\n(S'i8'\np4\nI0\nI1\ntRp5\n(I3\nS'<'\nNNNI-1\nI-1\n"
    b"I0\ntp6\nbS'\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntRp7\ncnumpy.core.multiarray\n_reconstruct\np8\n(cnumpy\n"
    b"ndarray\np9\n(I0\ntp10\nS'b'\ntRp11\n(I1\n(I2\ntp12\ng3\n(S'f4'\np13\nI0\nI1\ntRp14\ng6\nbI00\nS'\\x00\\x00\\xe0@"
    b"\\x00\\x00\\x00A'\ntp15\nbsI12\ng11\nsS'tt0111161'\np16\ng8\n(g9\ng10\nS'b'\ntRp17\n(I1\n(I1\nI4\ntp18\ng14\nI00\n"
    b"S'\\x00\\x00\\x00?\\x00\\x00\\x80\\xbf\\xe6\\xb1a\\x7fo\\x12\\x83:'\ntp19\nbs.",
    b"}q\x01(cnumpy.core.multiarray\nscalar\nq\x02(cnumpy\ndtype\nq\x03(U\x02i8q\x04K\x00K\x01tRq\x05(K\x03U\x01<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x06bU\x08\x03\x00\x00\x00\x00\x00\x00\x00tRq\x07cnumpy.core.multiarray\n"
    b"_reconstruct\nq\x08(cnumpy\nndarray\nq\t(K\x00tq\nU\x01btRq\x0b(K\x01(K\x02tq\x0ch\x03(U\x02f4q\rK\x00K\x01tRq\x0e"
    b"h\x06bI00\nU\x08\x00\x00\xe0@\x00\x00\x00Atq\x0fbK\x0ch\x0bU\ttt0111161q\x10h\x08(h\th\nU\x01btRq\x11(K\x01(K\x01"
    b"K\x04tq\x12h\x0eI00\nU\x10\x00\x00\x00?\x00\x00\x80\xbf\xe6\xb1a\x7fo\x12\x83:tq\x13bu.",
    b"\x80\x02}q\x01(cnumpy.core.multiarray\nscalar\nq\x02cnumpy\ndtype\nq\x03U\x02i8q\x04K\x00K\x01\x87Rq\x05(K\x03"
    b"U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x06bU\x08\x03\x00\x00\x00\x00\x00\x00\x00\x86Rq\x07cnumpy.core."
    b"multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\tK\x00\x85q\nU\x01b\x87Rq\x0b(K\x01K\x02\x85q\x0ch\x03U\x02f4q\r"
    b"K\x00K\x01\x87Rq\x0eh\x06b\x89U\x08\x00\x00\xe0@\x00\x00\x00Atq\x0fbK\x0ch\x0bU\ttt0111161q\x10h\x08h\th\nU\x01b"
    b"\x87Rq\x11(K\x01K\x01K\x04\x86q\x12h\x0e\x89U\x10\x00\x00\x00?\x00\x00\x80\xbf\xe6\xb1a\x7fo\x12\x83:tq\x13bu.",
]
PYTHON_2_ORDERED = (
    b"\x80\x02ccollections\nOrderedDict\nq\x01]q\x02]q\x03(U\x01xcnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\n"
    b"ndarray\nq\x05K\x00\x85q\x06U\x01b\x87Rq\x07(K\x01K\x01K\x04\x86q\x08cnumpy\ndtype\nq\tU\x02f4q\nK\x00K\x01\x87R"
    b"q\x0b(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89U\x10\x00\x00\x00?\x00\x00\x80\xbf\xe6\xb1"
    b"a\x7fo\x12\x83:tq\rbea\x85Rq\x0e."
)
FIRST = np.array([[0.5, -1, 3e38, 1e-3]], dtype=np.float32)


def load(content: bytes, max_bytes: int = GENEROUS) -> dict[str | None, np.ndarray]:
    return dict(load_arrays(io.BufferedReader(io.BytesIO(content)), max_bytes))  # type: ignore[arg-type]


def assert_same(read: np.ndarray, written: np.ndarray) -> None:
    assert read.dtype == written.dtype
    assert read.shape == written.shape
    assert read.tobytes() == written.tobytes()


@pytest.mark.parametrize("protocol", range(6))
def test_a_dict_of_arrays_comes_back(protocol: int) -> None:
    written = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 4)),
        "number": np.array(2.5),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "transposed": np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(2, 0, 1),
        "strided": np.arange(10, dtype=np.uint8)[::3],
        "big-endian": np.array([1, 2, 3], dtype=">f8"),
        "half": np.array([1, 65504], dtype=np.float16),
        "truth": np.array([[True], [False]]),
    }
    read = load(pickle.dumps(written, protocol))
    assert list(read) == list(written)
    for name, array in written.items():
        assert_same(read[name], array)


@pytest.mark.parametrize("protocol", range(6))
def test_names_of_numpy_1_are_read_too(protocol: int) -> None:
    content = pickle.dumps({"a": FIRST, "b": np.asfortranarray(np.eye(2)), np.int64(1): FIRST}, protocol)
    if protocol < 4:
        content = content.replace(b"numpy._core", b"numpy.core")
    else:
        for module in ("multiarray", "numeric"):
            old, new = f"numpy._core.{module}".encode(), f"numpy.core.{module}".encode()
            content = content.replace(bytes([len(old)]) + old, bytes([len(new)]) + new)
        content = b"\x80" + bytes([protocol]) + content[11:]  # without the frame, whose length is another now
    assert b"_core" not in content
    read = load(content)
    assert_same(read["a"], FIRST)
    assert_same(read["b"], np.eye(2))
    assert list(read) == ["a", "b", "1"]


@pytest.mark.parametrize("content", PYTHON_2, ids=["protocol 0", "protocol 1", "protocol 2"])
def test_pickles_of_python_2_come_back(content: bytes) -> None:
    read = load(content)
    assert sorted(map(str, read)) == ["12", "3", "tt0111161"]
    assert_same(read["tt0111161"], FIRST)
    for name in ("12", "3"):
        assert_same(read[name], np.array([7, 8], dtype=np.float32))


def test_an_ordered_dict_comes_back() -> None:
    assert_same(load(PYTHON_2_ORDERED)["x"], FIRST)
    written = OrderedDict([("b", FIRST), ("a", FIRST[0])])
    for protocol in range(6):
        assert list(load(pickle.dumps(written, protocol))) == ["b", "a"]


@pytest.mark.parametrize("container", [list, tuple])
def test_the_ids_of_a_list_are_its_positions(container: type) -> None:
    read = load(pickle.dumps(container([FIRST, FIRST[0]])))
    assert list(read) == ["0", "1"]
    assert_same(read["1"], FIRST[0])


def test_a_single_array_has_no_id_of_its_own() -> None:
    read = load(pickle.dumps(FIRST))
    assert list(read) == [None]
    assert_same(read[None], FIRST)


def test_an_array_that_two_ids_share_comes_back_twice() -> None:
    read = load(pickle.dumps({"a": FIRST, "b": FIRST}))
    assert_same(read["a"], FIRST)
    assert_same(read["b"], FIRST)


@pytest.mark.parametrize("protocol", range(6))
def test_ids_become_text(protocol: int) -> None:
    keys: list[Any] = ["für", 7, -1, b"bytes", np.int32(9), np.str_("né"), np.bytes_(b"raw"), 2**63 - 1]
    read = load(pickle.dumps(dict.fromkeys(keys, FIRST), protocol))
    assert list(read) == ["für", "7", "-1", "bytes", "9", "né", "raw", str(2**63 - 1)]


@settings(max_examples=60, deadline=None)
@given(
    array=npst.arrays(
        dtype=npst.integer_dtypes() | npst.floating_dtypes() | npst.boolean_dtypes() | npst.unsigned_integer_dtypes(),
        shape=npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    protocol=st.integers(0, 5),
    axes=st.randoms(use_true_random=False),
)
def test_any_array_comes_back(array: np.ndarray, protocol: int, axes: Any) -> None:
    order = list(range(array.ndim))
    axes.shuffle(order)
    turned = array.transpose(order)
    assert_same(load(pickle.dumps(turned, protocol))[None], turned)


def stack_global(module: bytes, name: bytes) -> bytes:
    return b"".join(b"\x8c" + bytes([len(part)]) + part for part in (module, name)) + b"\x93"


RECONSTRUCT = stack_global(b"numpy._core.multiarray", b"_reconstruct")
NDARRAY = stack_global(b"numpy", b"ndarray")
DTYPE = stack_global(b"numpy", b"dtype")
START = b"\x80\x04"

CALLS = {
    "posix.system": b"cposix\nsystem\n(S'touch {marker}'\ntR.",
    "os.system": b"cos\nsystem\n(S'touch {marker}'\ntR.",
    "builtins.eval": b'cbuiltins\neval\n(S\'open("{marker}", "w")\'\ntR.',
    "__builtin__.eval": b'c__builtin__\neval\n(S\'open("{marker}", "w")\'\ntR.',
    "builtins.getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
    "numpy.load": b"cnumpy\nload\n(S'{marker}'\ntR.",
    "numpy.memmap": b"cnumpy\nmemmap\n(S'{marker}'\nS'u1'\nS'w+'\nI0\nI1\ntR.",
    "copy_reg._reconstructor": b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
    "subprocess.Popen": b"(S'touch {marker}'\nisubprocess\nPopen\n.",
    "numpy.f2py.os.abc": START + stack_global(b"numpy", b"f2py.os.abc") + b".",
    "numpy._core.multiarray._reconstruct.__globals__": START
    + stack_global(b"numpy._core.multiarray", b"_reconstruct.__globals__")
    + b".",
    "torch._utils._rebuild_tensor_v2": b"ctorch._utils\n_rebuild_tensor_v2\n(tR.",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_name_that_arrays_do_not_need_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(RefusedError, match="which numpy arrays do not need; nothing of it was run") as caught:
        load(CALLS[name].replace(b"{marker}", os.fsencode(marker)))
    assert f"it asks for '{name}'" in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([{}, None], dtype=object), "an array of type 'O8'"),
        (np.array(["a", "b"]), "an array of type 'U1'"),
        (np.array([1 + 2j]), "an array of type 'c16'"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "an array of type 'M8'"),
        (np.zeros(2, dtype=[("x", "f4")]), "an array of type 'V4'"),
        ({"a": [1.0, 2.0]}, "the entry 'a' is of type list, not an array"),
        ({"a": None}, "the entry 'a' is of type NoneType"),
        ({"a": np.float64(1)}, "the entry 'a' is of type numpy scalar"),
        ({"a": {"b": FIRST}}, "the entry 'a' is of type dict"),
        ({"a": np.dtype("f4")}, "the entry 'a' is of type numpy dtype"),
        ([FIRST, "x"], "the entry '1' is of type str"),
        ("text", "it holds an object of type str"),
        (np.float32(1), "it holds an object of type numpy scalar"),
        ({1: FIRST, "1": FIRST}, "it has the id '1' twice"),
        ({(1, 2): FIRST}, "an id is of type tuple"),
        ({1.5: FIRST}, "an id is of type float"),
        ({True: FIRST}, "an id is of type bool"),
        ({None: FIRST}, "an id is of type NoneType"),
        ({2**63: FIRST}, "an id is of type int"),
        ({"": FIRST}, "the id '' is empty"),
        ({"a\nb": FIRST}, "not printable"),
        ({"\ud800": FIRST}, "not printable"),
        ({"x" * 501: FIRST}, "longer than 500 characters"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(value: Any, reason: str) -> None:
    for protocol in (2, 4, 5):
        with pytest.raises(RefusedError) as caught:
            load(pickle.dumps(value, protocol))
        assert reason in str(caught.value)
        assert len(str(caught.value)) < 300


def array_with(shape: bytes, data: bytes, dtype: bytes = b"\x8c\x02f4\x89\x88\x87R") -> bytes:
    """An array as numpy writes it, but with a shape, a type and data of one's own."""
    return (
        START + RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R(K\x01" + shape + DTYPE + dtype + b"\x89" + data + b"tb."
    )


def test_the_attacks_below_start_from_an_array_that_is_read() -> None:
    assert_same(load(array_with(b"K\x01\x85", b"C\x04\x00\x00\x80?"))[None], np.ones(1, np.float32))


HUGE = b"\x8a\x06" + (10**12).to_bytes(6, "little")
STRANGE_ARRAYS = {
    "a shape of 10**12": (array_with(HUGE + b"\x85", b"C\x04abcd"), "do not fit"),
    "a negative size": (array_with(b"J\xff\xff\xff\xff\x85", b"C\x04abcd"), "no short tuple of whole numbers"),
    "two negative sizes": (array_with(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"C\x04abcd"), "no short tuple"),
    "a size of 2**64": (array_with(b"\x8a\x09" + b"\x00" * 8 + b"\x01\x85", b"C\x00"), "no short tuple"),
    "a truth value as size": (array_with(b"\x88\x85", b"C\x04abcd"), "no short tuple"),
    "33 dimensions": (array_with(b"(" + b"K\x01" * 33 + b"t", b"C\x04abcd"), "no short tuple"),
    "a list as shape": (array_with(b"]", b"C\x04abcd"), "no short tuple"),
    "too few bytes": (array_with(b"K\x02\x85", b"C\x04abcd"), "do not fit"),
    "too many bytes": (array_with(b"K\x01\x85", b"C\x05abcde"), "do not fit"),
    "a list as content": (array_with(b"K\x01\x85", b"]"), "is of type list, not bytes"),
    "an object type": (array_with(b"K\x01\x85", b"]", b"\x8c\x02O8\x89\x88\x87R"), "an array of type 'O8'"),
    "fields": (
        array_with(
            b"K\x01\x85",
            b"C\x04abcd",
            b"\x8c\x02f4\x89\x88\x87R(K\x03\x8c\x01<N\x8c\x01x\x85}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        ),
        "with fields",
    ),
    "_reconstruct with a shape": (
        START + RECONSTRUCT + NDARRAY + HUGE + b"\x85C\x01b\x87R.",
        "in a way that numpy does not",
    ),
    "_reconstruct of another class": (START + RECONSTRUCT + DTYPE + b"K\x00\x85C\x01b\x87R.", "numpy does not"),
    "_reconstruct of objects": (START + RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01O\x87R.", "numpy does not"),
    "another encoding": (
        START + stack_global(b"_codecs", b"encode") + b"\x8c\x01a\x8c\x05rot13\x86R.",
        "encodes text in a way",
    ),
    "an object outside the file": (b"\x80\x02S'x'\nQ.", "objects outside the file"),
    "two pickles": (pickle.dumps(FIRST) + pickle.dumps(FIRST), "something follows the pickle"),
}


@pytest.mark.parametrize("attack", STRANGE_ARRAYS)
def test_arrays_that_numpy_does_not_write_are_refused(attack: str) -> None:
    content, reason = STRANGE_ARRAYS[attack]
    with pytest.raises(RefusedError, match=reason):
        load(content)


BROKEN = {
    "nothing": (b"", EOFError),
    "text": (b"id,path\n1,a.npy\n", pickle.UnpicklingError),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", pickle.UnpicklingError),
    "half a pickle": (pickle.dumps(FIRST)[:60], pickle.UnpicklingError),
    "a class called as ndarray": (START + NDARRAY + HUGE + b"\x85R.", TypeError),
    "ndarray made by NEWOBJ": (START + NDARRAY + HUGE + b"\x85\x81.", pickle.UnpicklingError),
    "bytes of a given size": (START + stack_global(b"builtins", b"bytes") + HUGE + b"\x85R.", TypeError),
    "an extension code": (START + b"\x82\x01.", ValueError),
    "a buffer outside the file": (b"\x80\x05\x97.", pickle.UnpicklingError),
    "attributes of a function": (START + RECONSTRUCT + b"N}\x8c\x08__code__K\x01s\x86b.", TypeError),
    "attributes of a class": (START + DTYPE + b"}\x8c\x07resolveK\x01sb.", TypeError),
    "attributes of a dict": (
        START + stack_global(b"collections", b"OrderedDict") + b")R}\x8c\x05itemsK\x01sb.",
        AttributeError,
    ),
    "a type without anything": (
        START + RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R(K\x01K\x01\x85" + DTYPE + b")\x81\x89C\x04abcdtb.",
        AttributeError,
    ),
}


@pytest.mark.parametrize("attack", BROKEN)
def test_damaged_and_twisted_pickles_raise_and_do_no_more(attack: str) -> None:
    content, kind = BROKEN[attack]
    with pytest.raises(kind) as caught:
        load(content)
    said = failure(caught.value)
    assert len(said["error"]) < 250
    assert "\n" not in said["error"]


def outcome(content: bytes) -> str:
    try:
        arrays = load(content)
    except Exception as error:
        return failure(error)["error"]
    return "" if all(array.dtype.kind in "biuf" for array in arrays.values()) else "no numbers"


def test_a_flipped_byte_is_read_or_raises() -> None:
    content = pickle.dumps({"a": FIRST, 3: np.arange(12).reshape(3, 4)}, 4)
    outcomes = []
    for place in range(len(content)):
        for change in (0x01, 0x80, 0xFF):
            changed = bytearray(content)
            changed[place] ^= change
            outcomes.append(outcome(bytes(changed)))
    assert "no numbers" not in outcomes
    assert 0.2 < np.mean([said != "" for said in outcomes]) < 0.9


def test_arrays_count_against_the_limit_with_their_references() -> None:
    array = np.zeros(1000)
    content = pickle.dumps([array] * 10)
    assert len(content) < 10_000
    assert len(load(content, 80_000)) == 10
    with pytest.raises(MemoryError):
        load(content, 79_999)


def test_empty_arrays_count_as_a_block_of_a_file() -> None:
    content = pickle.dumps([np.zeros(0)] * 10)
    assert len(load(content, 10 * FILE_BLOCK_BYTES)) == 10
    with pytest.raises(MemoryError):
        load(content, 10 * FILE_BLOCK_BYTES - 1)


def test_what_went_wrong_is_told_in_one_line() -> None:
    assert failure(MemoryError()) == {"error": "it needs more memory than it may have"}
    assert failure(PermissionError(13, "Permission denied", "/root/x"))["error"] == "Permission denied"
    damaged = failure(pickle.UnpicklingError("pickle data\nwas truncated"))
    assert damaged["error"] == "it is damaged or no pickle (UnpicklingError: 'pickle data was truncated')"
    assert damaged["hint"].startswith("Accepted are a dict from id to numpy array")
