"""Frames of video files, sampled evenly by time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmadapters.errors import ConfigurationError
from mmadapters.features.container import DamageCount, check_seconds
from mmadapters.features.frame_sampler import FrameSampler
from mmadapters.features.guard import Limits, checked_size, refuse_other_kinds
from mmadapters.features.outcome import Decoded, MediaError, Status, ending_in_an_outcome
from mmadapters.features.video_file import VideoFile

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_QUARTER_TURN = 90
# A file counts as cut where more than this is missing before the last time; the sound may be a little longer.
_MISSING_PART = 10
_MISSING_SECONDS = 1


def sample_times(start: int, duration: int, count: int) -> list[int]:
    """Return the middles of equal parts of a duration.

    Args:
        start: Time at which the first part starts, in ticks.
        duration: Of all parts together, in ticks.
        count: Number n of parts.

    Returns:
        n times in ticks, rising: ``start + (i + 1/2) * duration / n``, rounded down.
    """
    return [start + (2 * part + 1) * duration // (2 * count) for part in range(count)]


@ending_in_an_outcome
def decode_video(
    path: Path, n_frames: int = 32, limits: Limits | None = None, size: int | None = None, seeking: bool = True
) -> Decoded:
    """Read frames of a video, sampled evenly by time.

    The video's duration is cut into ``n_frames`` equal parts, and the frame that is shown in the middle of each is
    taken: the last one whose time stamp is not later. So a short video gives the same frame several times, and one
    whose frames come at uneven times is sampled as it is watched. MP4 and Matroska files are sought in, which finds
    exactly the frames that decoding everything finds.

    Of a damaged video the frames that decode are kept, each once, and the status is ``DEGRADED``. Damage that lies
    where nothing was read stays unknown. All frames have the shape of the first, whatever the file does, and are turned
    upright by its rotation.

    Args:
        path: The file: MP4, MOV, 3GP, Matroska, WebM, AVI, MPEG-TS or Ogg, told by its content.
        n_frames: Number of frames.
        limits: What the file may be at most; None for the defaults.
        size: Pixels of the frames' shorter side; smaller frames stay as they are. None for the video's own.
        seeking: Whether to seek. Without it all frames are decoded; the result is the same.

    Returns:
        uint8 (T, H, W, 3) with T = ``n_frames``, or fewer where the video is damaged; or an error. See ``Decoded``.

    Raises:
        ConfigurationError: If ``n_frames`` or ``size`` is below 1.
        MissingDependencyError: If PyAV is not installed.
        MemoryError: If the process has too little memory.
    """
    for name, value in (("n_frames", n_frames), ("size", size)):
        if value is not None and value < 1:
            raise ConfigurationError(f"{name}={value!r} cannot be used. Give a whole number of at least 1.")
    limits = Limits() if limits is None else limits
    checked_size(path, limits)
    refuse_other_kinds(path, "video", ("video",))
    damage = DamageCount()
    with VideoFile(path, limits) as file:
        duration = file.duration(damage)
        check_seconds(file.seconds(duration), limits)
        times = sample_times(file.start, duration, n_frames)
        sampler = FrameSampler(file, limits, times[-1], damage, seeking)
        picked = _Picked(n_frames, size, limits)
        for time in times:
            frame = sampler.frame_at(time)
            if frame is None:
                break
            picked.add(frame)
        spare = max(duration // _MISSING_PART, file.ticks(_MISSING_SECONDS))
        ends_early = sampler.ended and picked.end + spare < times[-1]
    return _outcome(picked, damage, ends_early)


class _Picked:
    """The frames that were picked, as arrays of one shape."""

    def __init__(self, n_frames: int, size: int | None, limits: Limits) -> None:
        self.end = 0
        self._last: int | None = None
        self._pixels: list[np.ndarray] = []
        self._is_new: list[bool] = []
        self._n_frames = n_frames
        self._size = size
        self._limits = limits
        self._shape: tuple[int, int] | None = None

    def add(self, frame: VideoFrame) -> None:
        assert frame.pts is not None
        is_new = frame.pts != self._last
        self._pixels.append(self._to_pixels(frame) if is_new else self._pixels[-1])
        self._is_new.append(is_new)
        self._last = frame.pts
        self.end = frame.pts + (frame.duration or 0)

    def all(self) -> np.ndarray:
        return np.stack(self._pixels)

    def distinct(self) -> np.ndarray:
        return np.stack([pixels for pixels, is_new in zip(self._pixels, self._is_new, strict=True) if is_new])

    def __len__(self) -> int:
        return len(self._pixels)

    def _to_pixels(self, frame: VideoFrame) -> np.ndarray:
        """Return uint8 (H, W, 3), upright."""
        turns = round(frame.rotation / _QUARTER_TURN) % 4
        if self._shape is None:
            self._shape = self._choose_shape(frame, turns)
        height, width = self._shape if turns % 2 == 0 else self._shape[::-1]
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
        return np.ascontiguousarray(np.rot90(pixels, turns))

    def _choose_shape(self, frame: VideoFrame, turns: int) -> tuple[int, int]:
        height, width = (frame.height, frame.width) if turns % 2 == 0 else (frame.width, frame.height)
        shorter = min(height, width)
        if self._size is not None and self._size < shorter:
            height, width = (max(1, round(side * self._size / shorter)) for side in (height, width))
        needed = self._n_frames * height * width * 3
        if needed > self._limits.max_decoded_bytes:
            raise MediaError(
                f"{self._n_frames} frames of {width} x {height} pixels take {needed:,} bytes; the limit "
                f"max_decoded_bytes is {self._limits.max_decoded_bytes:,}. Ask for a smaller size"
            )
        return height, width


def _outcome(picked: _Picked, damage: DamageCount, ends_early: bool) -> Decoded:
    if not len(picked):
        raise MediaError(f"no frame of the video can be decoded ({damage})")
    if not damage.packets and not ends_early:
        return Decoded(picked.all(), Status.OK)
    frames = picked.distinct()
    why = str(damage) if damage.packets else "the video ends earlier than it says"
    return Decoded(frames, Status.DEGRADED, f"{len(frames)} of {len(picked)} frames could be decoded: {why}")
