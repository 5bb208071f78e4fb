"""An open video file: its pictures' stream, where they start and how long they last."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mmadapters.features.container import DamageCount, open_container, packets, stated_seconds
from mmadapters.features.guard import Limits
from mmadapters.features.outcome import MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# What Matroska keeps of a single track's end; the segment's duration is the longest track's.
_TRACK_END = re.compile(r"(\d{1,4}):(\d{2}):(\d{2}(?:\.\d{1,9})?)")


class VideoFile:
    """A video file that is open for reading, decoded in one thread.

    Args:
        path: The file.
        limits: ``max_streams`` and ``max_pixels`` count.

    Attributes:
        container: The open file.
        stream: The video stream, not a cover picture.
        start: Time stamp of the first frame, in the stream's time base.

    Raises:
        MediaError: If it cannot be opened, has no video stream or exceeds a limit.
        MissingDependencyError: If PyAV is not installed.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._open()
        self.start = self.stream.start_time or 0

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.container.close()

    @property
    def is_mp4(self) -> bool:
        """Whether it is of the MP4 and QuickTime family, whose index is complete as soon as it is open."""
        return "mp4" in self.container.format.name.split(",")

    @property
    def is_matroska(self) -> bool:
        """Whether it is Matroska or WebM, whose index is read by the first seek."""
        return "matroska" in self.container.format.name.split(",")

    def reopen(self) -> None:
        """Go back to the start, as if nothing had been read; ``container`` and ``stream`` are new."""
        self.container.close()
        self._open()

    def duration(self, damage: DamageCount) -> int:
        """Return how long the pictures last, in the stream's time base.

        It is what the file says of the stream, else of its track or itself. Where it says nothing, as recordings of
        browsers do, the packets are read, which takes the file back to its start.

        Args:
            damage: Counts what cannot be read.
        """
        stated = self._stated_duration()
        if stated is not None:
            return stated
        end = self.start
        for packet in packets(self.container, self.stream, damage):
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None:
                end = max(end, time + (packet.duration or 0))
        self.reopen()
        return end - self.start

    def ticks(self, seconds: Fraction | int) -> int:
        """Return seconds in the stream's time base, rounded down."""
        time_base = self.stream.time_base
        assert time_base is not None
        return int(seconds / time_base)

    def seconds(self, ticks: int) -> float:
        """Return a time in the stream's time base as seconds."""
        time_base = self.stream.time_base
        assert time_base is not None
        return float(ticks * time_base)

    def _open(self) -> None:
        self.container = open_container(self._path, self._limits)
        import av.stream

        try:
            stream = self.container.streams.best("video")
            cover = stream is not None and stream.disposition & av.stream.Disposition.attached_pic
            if stream is None or cover or stream.time_base is None:
                raise MediaError("the file has no video stream")
            self.stream = stream  # type: ignore[assignment]
            self._prepare_decoder()
        except BaseException:
            self.container.close()
            raise

    def _prepare_decoder(self) -> None:
        context = self.stream.codec_context
        if context is None:
            raise MediaError("the video is of a codec that is not known")
        check_pixels(context.width, context.height, self._limits)
        # Worker processes are as many as the cores already.
        context.thread_count = 1
        context.options = {"max_pixels": str(int(self._limits.max_pixels))}

    def _stated_duration(self) -> int | None:
        if self.stream.duration is not None and self.stream.duration > 0:
            return self.stream.duration
        total = stated_seconds(self.container)
        match = _TRACK_END.match(self.stream.metadata.get("DURATION", ""))
        if match is not None:
            hours, minutes, seconds = match.groups()
            end = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
            total = end if total is None or end < total else total
        elif total is not None and not self.is_matroska:
            return max(1, self.ticks(total))
        return None if total is None else max(1, self.ticks(total) - self.start)


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Refuse frames that are too large.

    Raises:
        MediaError: If they have more than ``max_pixels``.
    """
    if width * height > limits.max_pixels:
        raise MediaError(f"the video has {width} x {height} pixels; the limit max_pixels is {limits.max_pixels:,}")
