"""Reads the npm package ``emoji-datasource-google``: its archive, or the folder that it was unpacked to."""

from __future__ import annotations

import json
import re
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmadapters.errors import DataError, listed

PICTURE_SIZE = 64
"""Width and height of a picture in pixels, the largest that the package has apart from sheets."""

_ENTRIES = "emoji.json"
_MANIFEST = "package.json"
_PICTURES = f"img/google/{PICTURE_SIZE}/"
_PICTURE_NAME = re.compile(r"[0-9a-f]+(-[0-9a-f]+)*\.png")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)?")
_PNG_START = struct.Struct(">8s4x4sII")
_MOST_BYTES = 64 << 20
_SHOWN = 5
_FIELDS: dict[str, type] = {
    "name": str,
    "unified": str,
    "image": str,
    "category": str,
    "subcategory": str,
    "added_in": str,
    "short_names": list,
    "has_img_google": bool,
}


@dataclass(frozen=True)
class EmojiPackage:
    """What the package says and shows.

    Attributes:
        version: Of the package, or None where its folder does not say.
        entries: One object for each emoji, as in ``emoji.json``. Those with a picture have a plain file name for it.
        pictures: The PNG files by their name, ``PICTURE_SIZE`` pixels wide and high.
    """

    version: str | None
    entries: list[dict[str, Any]]
    pictures: dict[str, bytes]


def read_emoji_package(path: str | Path) -> EmojiPackage:
    """Read the package.

    Args:
        path: The ``.tgz`` file of ``npm pack``, or the folder that it was unpacked to.

    Raises:
        DataError: If nothing is there, it cannot be read, or it is not laid out as it was published: entries lack a
            field, or pictures are absent, no PNG files or of another size. All such problems are listed.
    """
    source = Path(path).expanduser()
    files = _archive_files(source) if source.is_file() else _folder_files(source)
    if _ENTRIES not in files or not any(name.startswith(_PICTURES) for name in files):
        raise DataError(
            f"'{path}' has no '{_ENTRIES}' and '{_PICTURES}'. Accepted is the package emoji-datasource-google: the "
            "file of `npm pack emoji-datasource-google`, or its folder."
        )
    entries = _parsed(path, _ENTRIES, files[_ENTRIES])
    manifest = _parsed(path, _MANIFEST, files[_MANIFEST]) if _MANIFEST in files else {}
    problems = list(_entry_problems(entries))
    if not problems:
        wanted = [entry["image"] for entry in entries if entry["has_img_google"]]
        pictures = {name: files[_PICTURES + name] for name in wanted if _PICTURES + name in files}
        problems = list(_picture_problems(wanted, pictures))
    if problems:
        raise DataError(
            f"'{path}' is not laid out as emoji-datasource-google was published:\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )
    version = manifest.get("version") if isinstance(manifest, dict) else None
    return EmojiPackage(version, entries, pictures)


def _is_wanted(name: str) -> bool:
    return name in (_ENTRIES, _MANIFEST) or name.startswith(_PICTURES)


def _archive_files(source: Path) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(source, "r:gz") as archive:
            for member in archive:
                # npm puts everything into one folder.
                name = member.name.partition("/")[2]
                if member.isfile() and _is_wanted(name):
                    content = archive.extractfile(member)
                    files[name] = content.read(_MOST_BYTES) if content is not None else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"'{source}' cannot be read as a .tgz archive: {error}. Fetch it again, or give the unpacked folder."
        ) from error
    return files


def _folder_files(source: Path) -> dict[str, bytes]:
    root = source / "package" if (source / "package").is_dir() else source
    if not root.is_dir():
        raise DataError(f"'{source}' does not exist. Give the package's .tgz file or its unpacked folder.")
    paths = [root / _ENTRIES, root / _MANIFEST, *sorted((root / _PICTURES).glob("*.png"))]
    try:
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()}
    except OSError as error:
        raise DataError(f"'{source}' cannot be read: {error}. Check the permissions.") from error


def _parsed(path: str | Path, name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise DataError(f"'{name}' in '{path}' is no valid JSON: {error}. Fetch the package again.") from error


def _entry_problems(entries: Any) -> Iterator[str]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        yield f"'{_ENTRIES}' is not a list of objects"
        return
    for field, kind in _FIELDS.items():
        wrong = [place for place, entry in enumerate(entries) if not isinstance(entry.get(field), kind)]
        if wrong:
            yield f"the field '{field}' is absent or no {kind.__name__} in {_some(map(str, wrong), 'entry', 'entries')}"
    # An image is the name of a file that is going to be written: it may not lead anywhere else.
    for field, pattern, what in (("added_in", _VERSION, "version"), ("image", _PICTURE_NAME, "picture")):
        unfit = [text for entry in entries if not pattern.fullmatch(text := str(entry.get(field)))]
        if unfit:
            yield f"the field '{field}' holds {_some(unfit, f'value that is no {what}', f'values that are no {what}')}"


def _picture_problems(wanted: list[str], pictures: dict[str, bytes]) -> Iterator[str]:
    absent = [name for name in wanted if name not in pictures]
    if absent:
        yield f"'{_PICTURES}' lacks {_some(absent, 'picture', 'pictures')}"
    wrong = [name for name, content in pictures.items() if _png_size(content) != (PICTURE_SIZE, PICTURE_SIZE)]
    if wrong:
        size = f"{PICTURE_SIZE} x {PICTURE_SIZE} pixels"
        what = _some(wrong, f"file that is no PNG of {size}", f"files that are no PNG of {size}")
        yield f"'{_PICTURES}' holds {what}"


def _png_size(content: bytes) -> tuple[int, int] | None:
    if len(content) < _PNG_START.size:
        return None
    start, chunk, width, height = _PNG_START.unpack_from(content)
    return (width, height) if (start, chunk) == (b"\x89PNG\r\n\x1a\n", b"IHDR") else None


def _some(names: Iterable[str], one: str, several: str) -> str:
    given = list(names)
    more = f" and {len(given) - _SHOWN} more" if len(given) > _SHOWN else ""
    return f"{len(given)} {one if len(given) == 1 else several}: {listed(given[:_SHOWN])}{more}"
