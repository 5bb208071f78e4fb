"""Pickled numpy features, as older data sets ship them, read without running what the pickle says.

Moviescope's features are ``.p`` files: one array a film (``200F_VGG16/<id>.p``), or a dict from id to array, partly
written by Python 2. Each file is read by a process of its own kind (``pickle_reader``), which has a memory limit, is
killed when it takes too long, and hands over plain numbers.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features import pickle_reader, pickle_values
from mmadapters.features.pickle_reader import FILE_BLOCK_BYTES, FRAME, MAX_ID_CHARACTERS

MEMORY_BYTES = 4 * 2**30
VALUES_MEMORY_BYTES = 2**30
SECONDS = 60.0
_START_SECONDS = 60.0
_MAX_HEADER_BYTES = 64 * 1024
# The process is started with the parent's module paths and without the package around its file, which loads pandas.
_START = "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); reader = runpy.run_path(sys.argv[2]); "
_PROGRAM = f"{_START}reader['serve'](int(sys.argv[3]))"
_VALUES_PROGRAM = (
    f"{_START}values = runpy.run_path(sys.argv[4]); "
    "reader['serve'](int(sys.argv[3]), values['value_loader'](reader, json.loads(sys.argv[5])), values['ACCEPTED'])"
)


def read_pickled_arrays(
    path: str | os.PathLike[str], *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS
) -> dict[str, np.ndarray]:
    """Read a pickled dict from id to array, list or tuple of arrays, or single array.

    Arrays hold whole numbers, truth values or floats, of any shape; protocols 0 to 5, of Python 2 (whose texts are
    read as Latin-1) or 3, of numpy 1 or 2.

    Args:
        path: The file.
        memory_bytes: The most memory that reading may take, and the most that the arrays may have together.
        seconds: The longest time that reading may take.

    Returns:
        The arrays by id, in the file's order and the machine's byte order. Whole numbers as ids become texts. The ids
        of a list are its positions ``"0"``, ``"1"``, …; the id of a single array is the file's name without its
        ending.

    Raises:
        DataError: If the file does not exist, is damaged, holds or asks for anything but such arrays, or exceeds a
            limit; also where the system cannot limit the memory of a process, as on Windows.
        ConfigurationError: If a limit is not above 0.
    """
    return dict(pickled_arrays([path], memory_bytes=memory_bytes, seconds=seconds))


def pickled_arrays(
    paths: Iterable[str | os.PathLike[str]], *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS
) -> Iterator[tuple[str, np.ndarray]]:
    """Read the arrays of many files one after the other; see ``read_pickled_arrays``.

    Args:
        paths: The files.
        memory_bytes: For each file.
        seconds: For each file.

    Yields:
        Id and array. An id occurs once in all files together.

    Raises:
        DataError: As ``read_pickled_arrays``, and if two files have the same id.
        ConfigurationError: If a limit is not above 0.
    """
    for name, limit in (("memory_bytes", memory_bytes), ("seconds", seconds)):
        if not limit > 0:
            raise ConfigurationError(f"{name}={limit!r} cannot be used. Give a number above 0.")
    seen: dict[str, Path] = {}
    with _Reader(int(memory_bytes), float(seconds)) as reader:
        for path in map(Path, paths):
            if not path.is_file():
                what = "is no regular file" if path.exists() else "does not exist"
                raise DataError(f"The file '{path}' {what}. Give the path of a file with pickled arrays.")
            for key, array in reader.arrays(path):
                if key in seen:
                    raise DataError(f"'{path}' and '{seen[key]}' both have the id '{key}'. Import them apart.")
                seen[key] = path
                yield key, array


def read_pickled_values(
    path: str | os.PathLike[str],
    keys: Collection[str] | None = None,
    *,
    memory_bytes: int = VALUES_MEMORY_BYTES,
    seconds: float = SECONDS,
) -> Any:
    """Read a pickle of plain values: texts, numbers, truth values, None, and lists and dicts of these.

    Protocols and limits are those of ``read_pickled_arrays``. Texts of Python 2 are read as Latin-1. A dict that
    ``numpy.save`` wrote to an ``.npy`` file is read, too.

    Args:
        path: The file.
        keys: Keys of the dict that the file holds, where only these are wanted.
        memory_bytes: The most memory that reading may take.
        seconds: The longest time that reading may take.

    Returns:
        The value as JSON has it: tuples and arrays are lists, and the keys of dicts are texts.

    Raises:
        DataError: As ``read_pickled_arrays``, and if the file holds anything else.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"The file '{file}' does not exist. Give the path of a file with pickled values.")
    wanted = None if keys is None else list(keys)
    extra = (str(pickle_values.__file__), json.dumps(wanted))
    with _Reader(int(memory_bytes), float(seconds), _VALUES_PROGRAM, extra) as reader:
        ((_, content),) = reader.arrays(file)
    return json.loads(content.tobytes().decode("utf-8", errors="surrogatepass"))


def each_pickled_file(
    paths: Iterable[str | os.PathLike[str]], *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS
) -> Iterator[dict[str, np.ndarray] | DataError]:
    """Read many files, where one that cannot be read is no reason to stop; see ``read_pickled_arrays``.

    Args:
        paths: The files.
        memory_bytes: For each file.
        seconds: For each file.

    Yields:
        For each file its arrays by id, or the error that says why there are none.
    """
    reader: _Reader | None = None
    try:
        for path in map(Path, paths):
            found: dict[str, np.ndarray] | DataError
            try:
                if not path.is_file():
                    raise DataError(f"The file '{path}' does not exist. Give the path of a file with pickled arrays.")
                if reader is None:
                    reader = _Reader(int(memory_bytes), float(seconds)).__enter__()
                found = dict(reader.arrays(path))
            except DataError as error:
                found = error
                _end(reader)
                reader = None
            yield found
    finally:
        _end(reader)


def _end(reader: _Reader | None) -> None:
    if reader is not None:
        reader.__exit__(None, None, None)


class _Reader:
    """A running ``pickle_reader``. Not to be used again after an error."""

    def __init__(
        self, memory_bytes: int, seconds: float, program: str | None = None, extra: tuple[str, ...] = ()
    ) -> None:
        self.memory_bytes = memory_bytes
        self.seconds = seconds
        self._program = program or _PROGRAM
        self._extra = extra
        self._left = _START_SECONDS
        self._ready = False

    def __enter__(self) -> _Reader:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-c", self._program),
                *(json.dumps(sys.path), str(pickle_reader.__file__), str(self.memory_bytes), *self._extra),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **threads},
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipes[1], selectors.EVENT_READ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for pipe in self._pipes:
            pipe.close()

    @property
    def _pipes(self) -> tuple[Any, Any]:
        return self._process.stdin, self._process.stdout

    def arrays(self, path: Path) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the arrays of a file with their ids."""
        if not self._ready:
            self._header(path)
            self._ready = True
        self._left = self.seconds
        try:
            self._pipes[0].write(json.dumps({"path": str(path.absolute())}).encode("ascii") + b"\n")
        except BrokenPipeError:
            raise self._ended(path) from None
        room = self.memory_bytes
        for _ in range(self._header(path)["arrays"]):
            header = self._header(path)
            dtype, shape = np.dtype(header["dtype"]), tuple(header["shape"])
            room -= max(dtype.itemsize * int(np.prod(shape, dtype=object)), FILE_BLOCK_BYTES)
            if dtype.kind not in "biuf" or room < 0:
                raise DataError(f"'{path}' was not read: its arrays are not what was announced.")
            array = np.empty(shape, dtype)
            self._fill(array.reshape(-1).view(np.uint8).data, path)
            yield (_stem(path) if header["id"] is None else header["id"]), array

    def _header(self, path: Path) -> dict[str, Any]:
        (length,) = FRAME.unpack(self._take(FRAME.size, path))
        if length > _MAX_HEADER_BYTES:
            raise DataError(f"'{path}' was not read: its arrays are not what was announced.")
        header = json.loads(self._take(length, path))
        if "error" in header:
            hint = header.get("hint") or f"The limit is {self.memory_bytes:,} bytes; raise it if you trust the file."
            raise DataError(f"'{path}' was not read: {header['error']}. {hint}")
        return header

    def _take(self, size: int, path: Path) -> bytearray:
        content = bytearray(size)
        self._fill(memoryview(content), path)
        return content

    def _fill(self, room: memoryview, path: Path) -> None:
        """Fill the room with what the process sends next. Waiting for it counts as its time."""
        while room:
            started = time.monotonic()
            ready = self._selector.select(max(self._left, 0.0))
            self._left -= time.monotonic() - started
            if not ready:
                raise DataError(
                    f"'{path}' was not read: it took longer than {self.seconds:g} s. Raise the limit if you trust it."
                )
            got = self._pipes[1].readinto(room)
            if not got:
                raise self._ended(path)
            room = room[got:]

    def _ended(self, path: Path) -> DataError:
        self._process.kill()
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return DataError(
            f"'{path}' was not read: the process that read it ended ({how}), as happens with hostile files or where "
            "memory is short."
        )


def _stem(path: Path) -> str:
    name = path.stem
    if len(name) > MAX_ID_CHARACTERS or not name.isprintable():
        raise DataError(f"'{path}' holds one array, whose id is the file's name, and that name cannot be printed.")
    return name
