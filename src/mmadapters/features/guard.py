"""What media files may be opened, and how large they may be; ``GuardedPool`` reads them in processes of their own."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from mmadapters.errors import ConfigurationError
from mmadapters.features.outcome import MediaError
from mmadapters.features.worker_pool import GuardedPool, run_guarded

__all__ = [
    "GuardedPool",
    "Limits",
    "MediaError",
    "checked_size",
    "refuse_other_kinds",
    "run_guarded",
    "safe_path",
    "sniff_kind",
]

ContentKind = Literal["image", "video", "audio"]

_HEAD_BYTES = 512
_TRANSPORT_PACKET = 188
_IMAGE_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
_AUDIO_BRANDS = {b"M4A ", b"M4B ", b"F4A "}
_QUICKTIME_ATOMS = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_BITMAP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_STARTS: tuple[tuple[bytes, ContentKind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF87a", "image"),
    (b"GIF89a", "image"),
    (b"II*\x00", "image"),
    (b"MM\x00*", "image"),
    (b"\x1a\x45\xdf\xa3", "video"),
    (b"fLaC", "audio"),
    (b"ID3", "audio"),
)
_RIFF_FORMS: dict[bytes, ContentKind] = {b"WEBP": "image", b"AVI ": "video", b"WAVE": "audio"}


@dataclass(frozen=True)
class Limits:
    """What a file may be at most; one that is more is refused before it is decoded.

    Attributes:
        max_bytes: Size of the file.
        max_pixels: Width times height of an image or of a frame.
        max_seconds: Duration of video or sound.
        max_frames: Number of frames that are decoded to find those that are wanted.
        max_decoded_bytes: Size of what is returned.
        max_streams: Number of streams in a video file.
        max_channels: Number of channels of sound.

    Raises:
        ConfigurationError: If a limit is not above 0.
    """

    max_bytes: int = 8 << 30
    max_pixels: int = 64_000_000
    max_seconds: float = 4 * 3600.0
    max_frames: int = 1_000_000
    max_decoded_bytes: int = 2 << 30
    max_streams: int = 64
    max_channels: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ConfigurationError(f"The limit {field.name}={value!r} cannot be used. Give a number above 0.")


def safe_path(path: str | os.PathLike[str], root: str | os.PathLike[str], allow_outside_root: bool = False) -> Path:
    """Return the regular file that a path of a table leads to.

    The path is followed through all symbolic links. What it leads to may change afterwards: the root is a folder that
    only its owner writes to.

    Args:
        path: As the table has it: relative to ``root``, or absolute.
        root: Folder of the media, which the path may not leave.
        allow_outside_root: Whether it may leave it all the same.

    Returns:
        The absolute path, without symbolic links.

    Raises:
        MediaError: If the path is empty, holds a NUL byte, is a URL or leaves the root, or if no regular file is
            there.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str) or not text.strip():
        raise MediaError("the path is empty or no text")
    if "\x00" in text:
        raise MediaError("the path holds a NUL byte")
    if "://" in text:
        raise MediaError("the path is a URL; give the path of a file")
    try:
        folder = Path(root).resolve()
        target = (folder / text).resolve()
    # RuntimeError is what a loop of links raises before Python 3.13.
    except (OSError, RuntimeError, ValueError) as error:
        raise MediaError(
            f"the path cannot be followed: {getattr(error, 'strerror', None) or 'it is malformed'}"
        ) from None
    if not allow_outside_root and not target.is_relative_to(folder):
        raise MediaError("the path leads out of the data root; move the file there, or allow paths outside the root")
    _regular_file(target)
    return target


def checked_size(path: Path, limits: Limits) -> int:
    """Return the size of a file in bytes.

    Raises:
        MediaError: If no regular file is there, it is empty or larger than it may be.
    """
    size = _regular_file(path)
    if size == 0:
        raise MediaError("the file is empty")
    if size > limits.max_bytes:
        raise MediaError(f"the file has {size:,} bytes; the limit max_bytes is {limits.max_bytes:,}")
    return size


def sniff_kind(path: str | os.PathLike[str]) -> ContentKind | None:
    """Return what a file holds by its first bytes, whatever it is called.

    Containers that may hold either, such as MP4 and Matroska, count as video.

    Returns:
        ``image``, ``video``, ``audio``, or None where the bytes are not known.

    Raises:
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    return _riff_kind(head) or _mp4_kind(head) or _ogg_kind(head) or _weak_kind(head)


def refuse_other_kinds(path: Path, wanted: ContentKind, accepted: tuple[ContentKind, ...]) -> None:
    """Refuse a file whose first bytes say that it is something else; unknown ones pass.

    Raises:
        MediaError: If it is something else.
        OSError: If the file cannot be read.
    """
    kind = sniff_kind(path)
    if kind is not None and kind not in accepted:
        raise MediaError(f"the file was given as {wanted} and holds {'an image' if kind == 'image' else kind}")


def _regular_file(path: Path) -> int:
    """Return the size of a regular file, without opening it: opening a FIFO waits for ever."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise MediaError(_why_absent(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise MediaError("the path is a folder; give the path of a file")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("the path is no regular file")
    return status.st_size


def _why_absent(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "the file does not exist"
    return f"the file cannot be opened: {getattr(error, 'strerror', None) or 'its path is malformed'}"


def _riff_kind(head: bytes) -> ContentKind | None:
    return _RIFF_FORMS.get(head[8:12]) if head[:4] in (b"RIFF", b"RIFX", b"RF64") else None


def _mp4_kind(head: bytes) -> ContentKind | None:
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "image" if brand in _IMAGE_BRANDS else "audio" if brand in _AUDIO_BRANDS else "video"
    return "video" if head[4:8] in _QUICKTIME_ATOMS else None


def _ogg_kind(head: bytes) -> ContentKind | None:
    if not head.startswith(b"OggS"):
        return None
    return "video" if b"\x80theora" in head else "audio"


def _weak_kind(head: bytes) -> ContentKind | None:
    """Tell formats that start with a byte or two."""
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return "image"
    if head.startswith(b"G") and head[_TRANSPORT_PACKET : _TRANSPORT_PACKET + 1] == b"G":
        return "video"
    # MPEG audio: eleven bits set, then version, layer, bit rate and sampling rate, each with a forbidden value. A layer
    # of 0 is ADTS (AAC).
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08:
        adts = head[1] & 0xF6 == 0xF0
        mpeg = head[1] & 0x06 != 0 and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C
        return "audio" if adts or mpeg else None
    return None
