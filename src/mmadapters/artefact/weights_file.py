"""``adapter_model.safetensors``: its header is compared with what the configuration says before a tensor is read.

The format: eight bytes with the header's length, the header in JSON, and the tensors' bytes one after the other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mmadapters.artefact.files import WEIGHTS_FILE, file_size, read_file, strict_json
from mmadapters.artefact.values import UnfitValue, fail, fields, list_of, mapping_of, one_of, text, whole
from mmadapters.errors import ArtefactError

LARGEST_HEADER = 16_000_000
MOST_TENSORS = 50_000
MOST_DIMENSIONS = 8

_LENGTH_BYTES = 8
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_TYPES = {
    torch.float64: ("F64",),
    # Half precision is half a file; the adapters compute in float32 all the same.
    torch.float32: ("F32", "F16", "BF16"),
    torch.float16: ("F16",),
    torch.bfloat16: ("BF16",),
    torch.int64: ("I64",),
}
_OFFSET = whole(0, 2**62)
_TENSOR = fields(
    {
        "dtype": one_of(*_BYTES),
        "shape": list_of(whole(0, 2**40), MOST_DIMENSIONS),
        "data_offsets": list_of(_OFFSET, 2, at_least=2),
    }
)
_METADATA = mapping_of(text(100_000, empty=True), 1000)
_NAMED = 4


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of a tensor.

    Attributes:
        dtype: Its type, as safetensors names it.
        shape: Its shape.
        start: Its first byte behind the header.
        stop: The byte behind its last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(folder: Path) -> dict[str, TensorInfo]:
    """Return what an artefact's weights are, by name, without reading them.

    Args:
        folder: The artefact's.

    Raises:
        ArtefactError: If the header is malformed or too large, or does not describe the whole file.
    """
    path = folder / WEIGHTS_FILE
    size = file_size(folder, WEIGHTS_FILE)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(LARGEST_HEADER, size - _LENGTH_BYTES):
                raise UnfitValue(
                    f"its header would have {length:,} bytes; the file has {size:,}, and at most {LARGEST_HEADER:,} "
                    "are read of a header."
                )
            header = strict_json(file.read(length))
        return _checked_header(header, size - _LENGTH_BYTES - length)
    except UnfitValue as error:
        raise _damaged(path, str(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read: {error}.") from error


def check_tensors(folder: Path, found: Mapping[str, TensorInfo], expected: Mapping[str, Tensor]) -> None:
    """Check that weights are those that the configuration asks for: names, shapes and types.

    Args:
        folder: The artefact's.
        found: What the file holds.
        expected: By name, tensors of the right shapes and types; they need no memory (``meta``).

    Raises:
        ArtefactError: If a tensor is absent, not asked for, or of another shape or type.
    """
    path = folder / WEIGHTS_FILE
    absent, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if absent or extra:
        said = [
            f"{len(names)} {what}: {_named(names)}" for names, what in ((absent, "lack"), (extra, "are extra")) if names
        ]
        raise ArtefactError(
            f"'{path}' does not have the tensors that the adapters' configuration asks for: {'; '.join(said)}. The "
            "files are of two models, or damaged; take all of them from one place."
        )
    for name, tensor in expected.items():
        info = found[name]
        if info.shape != tuple(tensor.shape) or info.dtype not in _TYPES.get(tensor.dtype, ()):
            accepted = " or ".join(_TYPES.get(tensor.dtype, (str(tensor.dtype),)))
            raise ArtefactError(
                f"'{path}': the tensor '{name[:300]}' is {info.dtype} {info.shape}, the adapters' configuration asks "
                f"for {accepted} {tuple(tensor.shape)}. The files are of two models, or damaged; take all of them from "
                "one place."
            )


def read_tensors(folder: Path, digest: str | None = None) -> dict[str, Tensor]:
    """Return the weights of an artefact; call it after ``check_tensors``.

    Args:
        folder: The artefact's.
        digest: SHA-256 that the file has to have, if one was recorded.

    Raises:
        ArtefactError: If the file has another digest or cannot be read, or a weight is no finite number.
    """
    path = folder / WEIGHTS_FILE
    content = read_file(folder, WEIGHTS_FILE)
    check_digest(path, content, digest)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(path, f"it cannot be read: {error}.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            if not bool(torch.isfinite(tensor).all()):
                raise ArtefactError(
                    f"'{path}': the tensor '{name[:300]}' holds NaN or infinite numbers. The training that made it "
                    "diverged, or the file is damaged."
                )
        elif not bool(((tensor >= 0) & (tensor < max(len(tensor), 1))).all() if tensor.dim() else True):
            raise _damaged(path, f"the tensor '{name[:300]}' holds places that do not exist.")
    return tensors


def check_digest(path: Path, content: bytes, digest: str | None) -> None:
    """Check that a file is the one that was saved.

    Args:
        path: The file, for messages.
        content: What it holds.
        digest: SHA-256 that was recorded, or None.

    Raises:
        ArtefactError: If it has another.
    """
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise ArtefactError(
            f"'{path}' is not the file that was saved with the artefact (SHA-256 {found[:12]}…, recorded "
            f"{digest[:12]}…): it is damaged, or was replaced. Take all files from one place, or save the model again "
            "with save_artefact."
        )


def _checked_header(header: Any, data_bytes: int) -> dict[str, TensorInfo]:
    """Return a header's tensors where they lie one behind the other and fill the file."""
    if not isinstance(header, dict):
        fail("its header", header, "a JSON object")
    metadata = header.pop("__metadata__", {})
    _METADATA(metadata, "__metadata__")
    if len(header) > MOST_TENSORS:
        raise UnfitValue(f"its header has {len(header):,} tensors; at most {MOST_TENSORS:,} are read.")
    tensors = {}
    for name, value in header.items():
        text(1000)(name, "a tensor's name")
        _TENSOR(value, f"the tensor '{name[:300]}'")
        start, stop = value["data_offsets"]
        tensors[name] = TensorInfo(value["dtype"], tuple(value["shape"]), start, stop)
        if stop - start != math.prod(value["shape"]) * _BYTES[value["dtype"]]:
            raise UnfitValue(f"the tensor '{name[:300]}' has another size than its shape and type say.")
    end = 0
    for info in sorted(tensors.values(), key=lambda info: (info.start, info.stop)):
        if info.start != end:
            raise UnfitValue("its tensors overlap or leave gaps.")
        end = info.stop
    if end != data_bytes:
        raise UnfitValue(f"its tensors have {end:,} bytes and the file holds {data_bytes:,} behind the header.")
    return tensors


def _named(names: list[str]) -> str:
    shown = ", ".join(f"'{name[:300]}'" for name in names[:_NAMED])
    return f"{shown}, …" if len(names) > _NAMED else shown


def _damaged(path: Path, reason: str) -> ArtefactError:
    return ArtefactError(f"'{path}' cannot be used: {reason} The file is damaged, or no safetensors file.")
