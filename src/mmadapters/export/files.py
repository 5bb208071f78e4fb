"""The folder of an exported model: which files may be in it, their digests, and what ``pipeline.json`` says of them."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmadapters.errors import ArtefactError, ConfigurationError, did_you_mean, listed

EXPORT_FORMAT = 1
PIPELINE_FILE = "pipeline.json"
SECTION = "export"
"""The key of ``pipeline.json`` that only an exported model has."""
SECTION_KEYS = ("tokenizer", "gates", "opset", "files", "differences", "versions")
TOKENIZER_FILE = "tokenizer.json"
README_FILE = "README.md"
MODELS: dict[str, tuple[str, ...]] = {
    "float32": ("model.onnx", "model.onnx.data"),
    "int8": ("model.int8.onnx", "model.int8.onnx.data"),
    "openvino": ("model.xml", "model.bin"),
}
"""The forms of a model: the file to open first, then the one with the weights, which ONNX has for large models only."""
MOST_JSON_BYTES = 50_000_000


@dataclass(frozen=True)
class Form:
    """Which form of a model runs, and under what.

    Attributes:
        name: A key of ``MODELS``.
        runtime: ``onnxruntime`` or ``openvino``.
    """

    name: str
    runtime: str

    @property
    def title(self) -> str:
        """For people: ``onnxruntime, int8``."""
        return self.runtime if self.name == "openvino" else f"{self.runtime}, {self.name}"


def is_exported(folder: str | Path) -> bool:
    """Tell whether a folder holds an exported model, and not an artefact or something else."""
    try:
        return SECTION in read_json(Path(folder) / PIPELINE_FILE)
    except ArtefactError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtefactError: If it is absent, too large or no JSON object.
    """
    try:
        size = path.stat().st_size
        if size > MOST_JSON_BYTES:
            raise ArtefactError(f"'{path}' has {size:,} bytes, which no exported model needs. It is damaged.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(
            f"'{path}' cannot be read: {error}. Name a folder that `mmadapters export` wrote."
        ) from error
    if not isinstance(content, dict):
        raise ArtefactError(f"'{path}' holds no JSON object. Name a folder that `mmadapters export` wrote.")
    return content


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of the files of a model and of its tokenizer, by name.

    Args:
        folder: Where they are.
    """
    known = [TOKENIZER_FILE, *(name for files in MODELS.values() for name in files)]
    paths = [folder / name for name in known if (folder / name).is_file()]
    return {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths}


def read_section(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``pipeline.json`` of an exported model, and its section on the export.

    Raises:
        ArtefactError: If the folder holds something else, or a newer format.
    """
    pipeline = read_json(folder / PIPELINE_FILE)
    section = pipeline.get(SECTION)
    if not isinstance(section, dict):
        raise ArtefactError(
            f"'{folder}' is no exported model. Make one of an artefact by `mmadapters export {folder} -o <folder>`, or "
            "load the artefact itself by load_artefact."
        )
    found = section.get("format_version")
    if not isinstance(found, int) or found > EXPORT_FORMAT:
        raise ArtefactError(
            f"'{folder}' is of the export format {found!r}, this version of mmadapters reads up to {EXPORT_FORMAT}. "
            "Install a newer mmadapters."
        )
    absent = [name for name in SECTION_KEYS if name not in section]
    if absent:
        raise ArtefactError(f"'{folder / PIPELINE_FILE}' lacks {listed(absent)} of the export. Export the model again.")
    return pipeline, section


def choose_form(folder: Path, section: dict[str, Any], runtime: str | None, int8: bool) -> Form:
    """Return which form of the model is to run.

    Args:
        folder: Of the exported model.
        section: Its section on the export.
        runtime: ``onnxruntime`` or ``openvino``; None for the former.
        int8: Whether the quantised model is wanted.

    Raises:
        ConfigurationError: If the runtime is unknown, or there is no such form.
    """
    runtimes = ("onnxruntime", "openvino")
    if runtime is not None and runtime not in runtimes:
        raise ConfigurationError(
            f"runtime={runtime!r} is unknown. Accepted are {listed(runtimes)}.{did_you_mean(runtime, runtimes)}"
        )
    if int8 and runtime == "openvino":
        raise ConfigurationError(
            "The int8 model was asked for under 'openvino'. It is made by and for 'onnxruntime': leave out one of both."
        )
    wanted = ("openvino", "float32") if runtime == "openvino" else ("int8",) if int8 else ("float32",)
    written = section.get("files")
    written = written if isinstance(written, dict) else {}
    there = [name for name, files in MODELS.items() if files[0] in written and (folder / files[0]).exists()]
    for name in wanted:
        if name in there:
            return Form(name, runtime or "onnxruntime")
    option = {"int8": " with --int8", "openvino": " with --openvino"}.get(wanted[0], "")
    raise ConfigurationError(
        f"'{folder}' has no {wanted[0]} model, but {listed(there)}. Export it again{option}, or choose another."
    )


def check_files(folder: Path, section: dict[str, Any], names: Iterable[str]) -> None:
    """Refuse files that are not those that were exported.

    A file must lie in the folder itself, since a link may lead anywhere, and have the size and digest that were noted.

    Args:
        folder: Of the exported model.
        section: Its section on the export.
        names: The files that are about to be opened.

    Raises:
        ArtefactError: Names the file and what is wrong with it.
    """
    entries = section.get("files")
    entries = entries if isinstance(entries, dict) else {}
    for name in names:
        path, entry = folder / name, entries.get(name)
        if entry is None and not path.is_symlink() and not path.exists():
            # A model that is small enough has its weights inside.
            continue
        if not isinstance(entry, dict):
            raise ArtefactError(f"'{path}' is not among the files that were exported. Export the model again.")
        try:
            kind, size = stat.S_IFMT(path.lstat().st_mode), path.lstat().st_size
        except OSError as error:
            raise ArtefactError(f"'{path}' is absent, and was exported. Copy the whole folder.") from error
        if kind != stat.S_IFREG:
            raise ArtefactError(
                f"'{path}' is a link or no file at all, and could lead out of the folder. Put the file itself there."
            )
        if size != entry.get("bytes") or _sha256(path) != entry.get("sha256"):
            raise ArtefactError(
                f"'{path}' is not as it was exported: size or digest differ. Copy the folder again, or export again."
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
