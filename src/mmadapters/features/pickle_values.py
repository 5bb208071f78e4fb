"""Plain values out of pickles, in the process of ``pickle_reader``: texts, numbers, lists and dicts.

Moviescope's splits are pickled lists of dicts, MM-IMDb's vocabulary is a pickled dict in an ``.npy`` file. They are
read by the unpickler that knows numpy arrays only, and come out as JSON. This file runs without the package around it,
like ``pickle_reader``, whose names it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import IO, Any

import numpy as np

VALUES = "values"
"""Id under which the JSON is handed over, as an array of bytes."""

ACCEPTED = "Accepted are texts, numbers, truth values, None and arrays, in lists and dicts."
_NPY_START = b"\x93NUMPY"
_OBJECTS = ("O", "O4", "O8")


def value_loader(
    reader: Mapping[str, Any], keys: Collection[str] | None
) -> Callable[[IO[bytes], int], list[tuple[str, np.ndarray]]]:
    """Return what reads a file instead of ``load_arrays``.

    Args:
        reader: The names of ``pickle_reader``.
        keys: Keys of the dict that the file holds; the others are not looked at. None for all, and for other values.
    """

    def load(file: IO[bytes], max_bytes: int) -> list[tuple[str, np.ndarray]]:
        _skip_npy_header(file)
        value = reader["ArrayUnpickler"](file).load()
        if file.read(1):
            raise reader["RefusedError"]("something follows the pickle; accepted is one pickle a file")
        value = _single_object(reader, value)
        if keys is not None:
            if not isinstance(value, dict):
                raise reader["RefusedError"](f"it holds a {type(value).__name__}, where a dict was expected")
            value = {key: entry for key, entry in value.items() if key in keys}
        content = json.dumps(_plain(reader, value), ensure_ascii=False).encode("utf-8", errors="surrogatepass")
        if len(content) > max_bytes:
            raise MemoryError
        return [(VALUES, np.frombuffer(content, dtype=np.uint8))]

    return load


def _skip_npy_header(file: IO[bytes]) -> None:
    """Go to the pickle of an ``.npy`` file; of another file, stay at its start."""
    if file.read(len(_NPY_START)) != _NPY_START:
        file.seek(0)
        return
    major = file.read(2)[0]
    file.read(int.from_bytes(file.read(2 if major == 1 else 4), "little"))


def _single_object(reader: Mapping[str, Any], value: Any) -> Any:
    """Return the one object of an array of objects without axes, which is how ``numpy.save`` writes a dict."""
    if isinstance(value, reader["ArrayStandIn"]) and value.parts is not None:
        data, dtype, shape, _, _ = value.parts
        if getattr(dtype, "code", None) in _OBJECTS and shape == () and isinstance(data, list) and len(data) == 1:
            return data[0]
    return value


def _plain(reader: Mapping[str, Any], value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, dict):
        return {_key(reader, key): _plain(reader, entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(reader, entry) for entry in value]
    if isinstance(value, reader["ArrayStandIn"]):
        return value.resolve().tolist()
    if isinstance(value, reader["ScalarStandIn"]):
        return _plain(reader, value.resolve())
    raise reader["RefusedError"](f"it holds an object of type {type(value).__name__}, which is no plain value")


def _key(reader: Mapping[str, Any], key: Any) -> str:
    plain = _plain(reader, key)
    if isinstance(plain, bool) or not isinstance(plain, (int, str)):
        raise reader["RefusedError"](f"a key is of type {type(plain).__name__}; accepted are texts and whole numbers")
    return str(plain)
