"""A small artefact to damage, and its backbone."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

OLD = Path(__file__).parents[1] / "fixtures" / "artefact_0_1"
BACKBONE = str(OLD / "backbone")
WEIGHTS = "adapter_model.safetensors"


def copy(name: str, target: Path) -> Path:
    return Path(shutil.copytree(OLD / name, target / name))


def edit_json(folder: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a JSON file holds; ``change`` gets it, and changes it or returns another."""
    value = json.loads((folder / file).read_text())
    changed = change(value)
    (folder / file).write_text(json.dumps(value if changed is None else changed))


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one entry: ``preprocessor.modalities.0.feature_dim``."""

    def change(content: Any) -> None:
        *parents, last = path.split(".")
        for part in parents:
            content = content[int(part) if isinstance(content, list) else part]
        content[int(last) if isinstance(content, list) else last] = value

    return change


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and what is behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
