"""The process that reads pickles for ``mmadapters.features.pickles``; it knows numpy arrays and nothing else.

A pickle is a program. Here its names lead to stand-ins that only keep what they are given, and arrays are made from
the stand-ins' bytes by checked lengths: neither functions that a pickle names nor numpy's own ``__setstate__`` are ever
called. The process has a memory limit, which is what stops a pickle that asks for terabytes.

``serve`` reads requests from standard input and answers on standard output; ``pickles`` holds the other end.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import struct
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

MAX_DIMENSIONS = 32
MAX_ID_CHARACTERS = 500
FILE_BLOCK_BYTES = 4096
"""What an array counts at least, so that a small file cannot stand for millions of empty arrays."""
FRAME = struct.Struct(">Q")
"""Length in bytes of the JSON header that follows; after the header of an array follow its bytes, in C order."""

_NUMBERS = "biuf"
_TYPE_CODE = re.compile(r"([biufSU])([0-9]{1,6})")
_SHOWN = 80
Load = Callable[[IO[bytes], int], list[Any]]
"""Reads a file within a number of bytes, as ``load_arrays`` does."""

_ACCEPTED = "Accepted are a dict from id to numpy array, a list of arrays, or one array."


class RefusedError(Exception):
    """A pickle holds something else than numpy arrays."""


class DTypeStandIn:
    """What a pickle says of a ``numpy.dtype``."""

    __slots__ = ("code", "state")

    def __init__(self, code: Any = None, align: Any = False, copy: Any = False) -> None:
        self.code = code
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def resolve(self, kinds: str) -> np.dtype[Any]:
        """Return the data type, one of the given kinds.

        Raises:
            RefusedError: If it is another kind, has fields or contradicts itself.
        """
        match = _TYPE_CODE.fullmatch(self.code) if isinstance(self.code, str) else None
        if match is None or match[1] not in kinds:
            raise RefusedError(
                f"it has an array of type {_shown(self.code)}; accepted are whole numbers, truth values and floats"
            )
        order, details = "|", (None, None, None)
        if self.state is not None:
            _, order, *rest = self.state
            details = tuple(rest[:3])
        if details != (None, None, None) or order not in ("<", ">", "=", "|"):
            raise RefusedError("it has an array with fields, whose elements are no plain numbers")
        return np.dtype(order + self.code)


class ArrayStandIn:
    """What a pickle says of a ``numpy.ndarray``: data, type, shape, order of the elements, order of the axes."""

    __slots__ = ("array", "parts")

    def __init__(self, *parts: Any) -> None:
        self.parts: Any = parts
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.parts = (data, dtype, shape, "F" if fortran else "C", None)

    def resolve(self) -> np.ndarray:
        """Return the array, a view of the pickle's bytes where they are bytes.

        Raises:
            RefusedError: If it is no array of numbers, or its size is not what its shape says.
        """
        if self.array is None:
            data, dtype, shape, order, axes = self.parts
            self.array = _array(data, dtype, shape, order, axes)
            self.parts = None
        return self.array


class ScalarStandIn:
    """What a pickle says of a numpy scalar, which may be an id."""

    __slots__ = ("data", "dtype")

    def __init__(self, dtype: Any, data: Any) -> None:
        self.dtype = dtype
        self.data = data

    def resolve(self) -> Any:
        """Return the Python value.

        Raises:
            RefusedError: If it is no number and no text.
        """
        if not isinstance(self.dtype, DTypeStandIn):
            raise RefusedError("it has a scalar without a type")
        return np.frombuffer(_bytes(self.data), self.dtype.resolve("biuSU"), count=1)[0].item()


_ARRAY_TYPE = object()


def _reconstruct(kind: Any, shape: Any, code: Any) -> ArrayStandIn:
    if kind is not _ARRAY_TYPE or shape != (0,) or code not in (b"b", "b"):
        raise RefusedError("it builds an array in a way that numpy does not")
    return ArrayStandIn()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> ArrayStandIn:
    return ArrayStandIn(data, dtype, shape, order, axes)


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError("it encodes text in a way that numpy does not")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): DTypeStandIn,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", ScalarStandIn),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles stand-ins for numpy arrays, and the containers around them. Texts of Python 2 are read as Latin-1."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name.

        Raises:
            RefusedError: If numpy arrays do not need the name.
        """
        if (module, name) not in _NAMES:
            raise RefusedError(
                f"it asks for {_shown(f'{module}.{name}')}, which numpy arrays do not need; nothing of it was run"
            )
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse.

        Raises:
            RefusedError: Always.
        """
        raise RefusedError("it refers to objects outside the file")


def load_arrays(file: IO[bytes], max_bytes: int) -> list[tuple[str | None, np.ndarray]]:
    """Read a pickled dict from id to array, list or tuple of arrays, or single array.

    Args:
        file: Open for reading, buffered.
        max_bytes: The most that all arrays may have together, each counted with at least ``FILE_BLOCK_BYTES``.

    Returns:
        Ids and arrays of whole numbers, truth values or floats, in the order of the file. The id in a list is the
        position; a single array has None.

    Raises:
        RefusedError: If the pickle holds something else, or too much.
        Exception: Whatever a damaged pickle makes the unpickler raise, MemoryError included.
    """
    value = ArrayUnpickler(file).load()
    if file.read(1):
        raise RefusedError("something follows the pickle; accepted is one pickle a file")
    found: dict[str | None, np.ndarray] = {}
    total = 0
    for key, entry in _entries(value):
        if not isinstance(entry, ArrayStandIn):
            raise RefusedError(f"{_of(key)} is of type {_kind(entry)}, not an array")
        if key in found:
            raise RefusedError(f"it has the id '{key}' twice")
        found[key] = entry.resolve()
        total += max(found[key].nbytes, FILE_BLOCK_BYTES)
        if total > max_bytes:
            raise MemoryError
    return list(found.items())


def _entries(value: Any) -> Iterator[tuple[str | None, Any]]:
    if isinstance(value, ArrayStandIn):
        yield None, value
    elif isinstance(value, dict):
        yield from ((_id(key), entry) for key, entry in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), entry) for place, entry in enumerate(value))
    else:
        raise RefusedError(f"it holds an object of type {_kind(value)}")


def _id(key: Any) -> str:
    value = key.resolve() if isinstance(key, ScalarStandIn) else key
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return str(value)
    if not isinstance(value, str):
        raise RefusedError(f"an id is of type {_kind(value)}; accepted are texts and whole numbers")
    if not value or len(value) > MAX_ID_CHARACTERS or not value.isprintable():
        raise RefusedError(
            f"the id {_shown(value)} is empty, longer than {MAX_ID_CHARACTERS} characters or not printable"
        )
    return value


def _array(data: Any, dtype: Any, shape: Any, order: Any, axes: Any) -> np.ndarray:
    if not isinstance(dtype, DTypeStandIn):
        raise RefusedError("it has an array without a type")
    element = dtype.resolve(_NUMBERS)
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS or not all(_is_size(size) for size in shape):
        raise RefusedError("it has an array whose shape is no short tuple of whole numbers")
    content = _bytes(data)
    if math.prod(shape) * element.itemsize != len(content):
        raise RefusedError(f"it has an array of the shape {_shown(shape)} with {len(content)} bytes, which do not fit")
    if order not in ("C", "F", "K"):
        raise RefusedError("it has an array in an unknown order")
    array: np.ndarray = np.ndarray(shape, element, content, order="F" if order == "F" else "C")
    return array.transpose(axes) if order == "K" and axes is not None else array


def _bytes(data: Any) -> bytes | bytearray:
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)):
        raise RefusedError(f"the content of an array is of type {_kind(data)}, not bytes")
    return data


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63


def _of(key: str | None) -> str:
    return "what it holds" if key is None else f"the entry {_shown(key)}"


def _kind(value: Any) -> str:
    names = {ArrayStandIn: "numpy array", DTypeStandIn: "numpy dtype", ScalarStandIn: "numpy scalar"}
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float, tuple)) else _kind(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def failure(error: Exception, accepted: str = _ACCEPTED) -> dict[str, str]:
    """Return why a file was not read, without a full stop, and what to do, for a frame.

    Where memory ran out there is no ``hint``: the reader of the frame knows the limit.
    """
    if isinstance(error, MemoryError):
        return {"error": "it needs more memory than it may have"}
    if isinstance(error, OSError):
        return {"error": error.strerror or type(error).__name__, "hint": "Give a file that can be read."}
    reason = str(error)
    if not isinstance(error, RefusedError):
        reason = f"it is damaged or no pickle ({type(error).__name__}: {_shown(' '.join(reason.split()))})"
    return {"error": reason, "hint": accepted}


def limit_resources(memory_bytes: int) -> None:
    """Let this process take so many bytes of memory beyond what it has, and write no files.

    Raises:
        OSError: If the system has no such limits.
        ValueError: If it does not accept them.
    """
    try:
        import resource
    except ImportError:
        raise OSError("this system cannot limit the memory of a process") from None
    limit = _address_space() + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def serve(memory_bytes: int, load: Load = load_arrays, accepted: str = _ACCEPTED) -> None:
    """Answer requests until standard input ends.

    A request is a line of JSON, ``{"path": …}``. The answer is a frame ``{"arrays": n}`` and n frames
    ``{"id": …, "dtype": …, "shape": …}``, each followed by the array's bytes; or, at any place, a frame
    ``{"error": …, "hint": …}``.

    Args:
        memory_bytes: See ``limit_resources`` and ``load_arrays``.
        load: Reads a file.
        accepted: What it accepts, for messages.
    """
    output = sys.stdout.buffer
    try:
        limit_resources(memory_bytes)
    except (OSError, ValueError) as error:
        reason = f"the memory of the process that reads it cannot be limited ({error})"
        _send(output, {"error": reason, "hint": "Read it on a system that can, such as Linux."})
        return
    _send(output, {"ready": True})
    for line in sys.stdin.buffer:
        try:
            _answer(output, json.loads(line)["path"], memory_bytes, load)
        except BrokenPipeError:
            return
        except Exception as error:
            _send(output, failure(error, accepted))


def _answer(output: IO[bytes], path: str, memory_bytes: int, load: Load) -> None:
    with open(path, "rb") as file:
        entries = load(file, memory_bytes)
    _send(output, {"arrays": len(entries)})
    for key, array in entries:
        native = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        _send(output, {"id": key, "dtype": native.dtype.str, "shape": native.shape}, native)


def _send(output: IO[bytes], header: dict[str, Any], array: np.ndarray | None = None) -> None:
    content = json.dumps(header).encode("ascii")
    output.write(FRAME.pack(len(content)) + content)
    if array is not None:
        output.write(array.reshape(-1).view(np.uint8).data)
    output.flush()
