"""What worker processes run: small picklable callables, each a way to read one file, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmadapters.features.guard import Limits, MediaError, checked_size, safe_path
from mmadapters.features.mel import MelPreset, log_mel
from mmadapters.features.outcome import Decoded, Status

_BLOCK = 1 << 20
DIGEST_BYTES = 16


@dataclass(frozen=True)
class ImageDecoder:
    """Reads an image file, uint8 (H, W, 3)."""

    limits: Limits

    def __call__(self, path: Path) -> Decoded:
        """Return the pixels."""
        from mmadapters.features.image import decode_image

        return decode_image(path, self.limits)


@dataclass(frozen=True)
class VideoDecoder:
    """Reads frames of a video file, uint8 (T, H, W, 3), evenly by time.

    Attributes:
        frames: Number T of frames.
        size: Pixels of a frame's shorter side; None for the video's own.
        limits: What the file may be at most.
    """

    frames: int
    size: int | None
    limits: Limits

    def __call__(self, path: Path) -> Decoded:
        """Return the frames."""
        from mmadapters.features.video import decode_video

        return decode_video(path, self.frames, self.limits, size=self.size)


@dataclass(frozen=True)
class WaveformDecoder:
    """Reads the sound of a file, float32 mono.

    Attributes:
        sampling_rate: Samples a second.
        limits: What the file may be at most.
    """

    sampling_rate: int
    limits: Limits

    def __call__(self, path: Path) -> Decoded:
        """Return the samples."""
        from mmadapters.features.audio import decode_audio

        return decode_audio(path, self.sampling_rate, self.limits)


@dataclass(frozen=True)
class LogMelDecoder:
    """Reads the sound of a file as a log-mel spectrogram, float32 (T, bands) in decibels.

    Attributes:
        preset: The recipe.
        limits: What the file may be at most.
    """

    preset: MelPreset
    limits: Limits

    def __call__(self, path: Path) -> Decoded:
        """Return the spectrogram."""
        from mmadapters.features.audio import decode_audio

        sound = decode_audio(path, self.preset.sampling_rate, self.limits, max_seconds=self.preset.seconds)
        return sound if sound.values is None else replace(sound, values=log_mel(sound.values, self.preset))


@dataclass(frozen=True)
class HashMedia:
    """Tells files with the same content from others.

    Attributes:
        root: Folder that paths start from.
        allow_outside_root: Whether they may leave it.
        limits: What a file may be at most.
    """

    root: Path
    allow_outside_root: bool
    limits: Limits

    def __call__(self, path: str) -> Decoded:
        """Return the digest of a file's content, uint8 (16,), or why it may not be read."""
        file = _allowed(path, self.root, self.allow_outside_root)
        if isinstance(file, Decoded):
            return file
        digest = hashlib.sha256()
        try:
            checked_size(file, self.limits)
            with file.open("rb") as content:
                while block := content.read(_BLOCK):
                    digest.update(block)
        except MediaError as error:
            return Decoded(None, Status.ERROR, str(error))
        except OSError as error:
            return Decoded(None, Status.ERROR, f"the file cannot be read: {error.strerror}")
        return Decoded(np.frombuffer(digest.digest()[:DIGEST_BYTES], dtype=np.uint8), Status.OK)


@dataclass(frozen=True)
class ReadMedia:
    """Decodes a path of a table's cell.

    Attributes:
        decode: Reads one kind of file.
        root: Folder that paths start from.
        allow_outside_root: Whether they may leave it.
    """

    decode: Callable[[Path], Decoded]
    root: Path
    allow_outside_root: bool

    def __call__(self, path: str) -> Decoded:
        """Return what the file holds, or why it cannot be read."""
        file = _allowed(path, self.root, self.allow_outside_root)
        return file if isinstance(file, Decoded) else self.decode(file)


def _allowed(path: str, root: Path, allow_outside_root: bool) -> Path | Decoded:
    try:
        return safe_path(path, root, allow_outside_root)
    except MediaError as error:
        return Decoded(None, Status.ERROR, str(error))
