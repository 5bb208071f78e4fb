"""A small package in the published layout of ``emoji-datasource-google``: as an archive of npm's, or as a folder."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

VERSION = "16.0.0"
GROUPS = {
    "Flags/country-flag": "{} Flag",
    "Animals & Nature/animal-bird": "{} BIRD",
    "Symbols/arrow": "{} ARROW",
    "Symbols/keycap": "KEYCAP {}",
}
"""How the emoji of a group are called; each group has 14."""
N_EACH = 14
WORDS = ("Ah", "Be", "Cu", "Do", "El", "Fa", "Go", "Ho", "If", "Jo", "Ka", "La", "Me", "No")

FileContent = dict[str, bytes]


def png(colour: tuple[int, int, int], size: int = 64) -> bytes:
    """A PNG file of one colour, half transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    row = b"\x00" + bytes((*colour, 255)) * (size // 2) + bytes((0, 0, 0, 0)) * (size - size // 2)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * size)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def entry(name: str, code: int, group: str, **changes: Any) -> dict[str, Any]:
    """An object of ``emoji.json`` with every field that the real ones have."""
    category, _, subcategory = group.partition("/")
    unified = f"{code:X}"
    return {
        "name": name,
        "unified": unified,
        "non_qualified": None,
        "docomo": None,
        "au": "E4F6",
        "softbank": None,
        "google": "FEB98",
        "image": f"{unified.lower()}.png",
        "sheet_x": 1,
        "sheet_y": 2,
        "short_name": name.lower().replace(" ", "_"),
        "short_names": [name.lower().replace(" ", "_")],
        "text": None,
        "texts": None,
        "category": category,
        "subcategory": subcategory,
        "sort_order": code,
        "added_in": "0.6",
        "has_img_apple": True,
        "has_img_google": True,
        "has_img_twitter": True,
        "has_img_facebook": False,
    } | changes


def entries() -> list[dict[str, Any]]:
    """56 emoji of four groups, three of a group that is too small, one of a category that is, one without a picture."""
    made = []
    for group, pattern in GROUPS.items():
        for word in WORDS:
            made.append(entry(pattern.format(word), 0x1F600 + len(made), group))
    for name in ("LOVELY FROG", "ARROW", "FROG"):
        made.append(entry(name, 0x1F600 + len(made), "Animals & Nature/animal-amphibian"))
    made.append(entry("EMOJI MODIFIER FITZPATRICK TYPE-6", 0x1F3FF, "Component/skin-tone"))
    made.append(entry("HIDDEN ARROW", 0x1F5FF, "Symbols/arrow", has_img_google=False))
    tone = {"unified": "1F600-1F3FB", "image": "1f600-1f3fb.png", "added_in": "1.0", "has_img_google": True}
    made[0] |= {"skin_variations": {"1F3FB": tone}, "non_qualified": "1F600", "added_in": "15.1"}
    made[1] |= {"docomo": "E6E0", "softbank": "E00F", "au": None, "google": None, "short_names": ["flag-be", "be"]}
    return made


N_ROWS = len(GROUPS) * N_EACH + 3
LABEL_COUNTS = {
    "Animals & Nature": N_EACH + 3,
    "Animals & Nature/animal-bird": N_EACH,
    "Flags": N_EACH,
    "Flags/country-flag": N_EACH,
    "Symbols": 2 * N_EACH,
    "Symbols/arrow": N_EACH,
    "Symbols/keycap": N_EACH,
}


def package_files(made: list[dict[str, Any]] | None = None) -> FileContent:
    """The files of the package, by their path in it."""
    made = entries() if made is None else made
    files = {
        "package.json": json.dumps({"name": "emoji-datasource-google", "version": VERSION}).encode(),
        "emoji.json": json.dumps(made).encode(),
        "img/google/sheets/64.png": png((9, 9, 9), 128),
        "img/google/64/1f600-1f3fb.png": png((1, 1, 1)),
    }
    for place, one in enumerate(made):
        if one["has_img_google"]:
            group = list(GROUPS).index(key) if (key := f"{one['category']}/{one['subcategory']}") in GROUPS else 4
            files[f"img/google/64/{one['image']}"] = png((60 * group, 255 - 60 * group, place))
    return files


def write_archive(path: Path, files: FileContent) -> Path:
    """Write the files as ``npm pack`` would."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_folder(folder: Path, files: FileContent) -> Path:
    """Write the files as they lie in an unpacked archive."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
