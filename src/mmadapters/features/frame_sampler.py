"""The frames of a video that are shown at given times, found by seeking where that spares decoding."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from mmadapters.features.container import DamageCount, decode_packet, packets
from mmadapters.features.guard import Limits
from mmadapters.features.outcome import MediaError
from mmadapters.features.video_file import VideoFile, check_pixels

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

_MOST_STEPS_BACK = 4
_USUAL_RATE = Fraction(25)


class FrameSampler:
    """Finds frames by their time, in rising order of times.

    The frame at a time is the last one whose time stamp is not later; before the first frame it is the first. What is
    found is what decoding all frames would find: after a seek, frames count only from the key frame on that decoding
    started with, since what comes before it in time may refer to frames that were skipped. Where that is too late, or
    the key frame is none, the one before it is tried, and at last everything is decoded from the start of the file.

    MP4 (MOV, 3GP) and Matroska (WebM) are sought in, as their time stamps and key frames can be trusted; files of other
    formats are decoded from the start.

    Args:
        file: The video. Nothing else reads from it meanwhile.
        limits: ``max_frames`` and ``max_pixels`` count.
        last_time: The last time that will be asked for, in the stream's time base.
        damage: Counts what cannot be read or decoded on the way.
        seeking: Whether to seek; without it all frames are decoded.

    Attributes:
        decoded: Number of frames that were decoded.
        ended: Whether the last frame has been decoded.
    """

    def __init__(
        self, file: VideoFile, limits: Limits, last_time: int, damage: DamageCount, seeking: bool = True
    ) -> None:
        self.decoded = 0
        self.ended = False
        self._file = file
        self._limits = limits
        self._damage = damage
        self._held: VideoFrame | None = None
        self._ahead: VideoFrame | None = None
        self._starts_afresh = False
        self._read_until: int | None = None
        self._seeking = seeking and (file.is_mp4 or file.is_matroska)
        if self._seeking:
            self._load_index(last_time)
        self._frames = self._decode(after_seek=False)

    def frame_at(self, time: int) -> VideoFrame | None:
        """Return the frame that is shown at a time.

        Args:
            time: In the stream's time base; not before the time that was asked for last.

        Returns:
            The frame, with a time stamp; None where none can be decoded.

        Raises:
            MediaError: If a limit is exceeded.
        """
        if not self._next_is_after(time):
            keyframe = self._unread_keyframe(time)
            if keyframe is not None:
                self._seek(time, keyframe)
        while not self.ended and not self._next_is_after(time):
            self._held = self._ahead or self._held
            self._ahead = self._next()
        return self._held or self._ahead

    def _next_is_after(self, time: int) -> bool:
        return self._ahead is not None and self._ahead.pts is not None and self._ahead.pts > time

    def _next(self) -> VideoFrame | None:
        frame = next(self._frames, None)
        self.ended = frame is None
        return frame

    def _load_index(self, last_time: int) -> None:
        """Make the index of key frames complete, and note how far index and time stamps are apart."""
        entries = self._file.stream.index_entries
        if self._file.is_matroska:
            # The first seek reads the index, or all packets up to there where the file has none.
            self._seek_container(last_time)
        elif len(entries):
            self._read_until = entries[0].timestamp
        # MP4 indexes decoding times, which are some frames before the times at which frames are shown.
        self._delay = max(0, self._file.start - entries[0].timestamp) if len(entries) else 0

    def _keyframe_before(self, time: int) -> int | None:
        """Return the index's time of the last key frame that is not later than a time."""
        entries = self._file.stream.index_entries
        position = entries.search_timestamp(time, backward=True)
        return entries[position].timestamp if 0 <= position < len(entries) else None

    def _unread_keyframe(self, time: int) -> int | None:
        """Return the last key frame before a time, None where what was read comes after it."""
        keyframe = self._keyframe_before(time - self._delay) if self._seeking else None
        if keyframe is None or (self._read_until is not None and keyframe <= self._read_until):
            return None
        return keyframe

    def _seek(self, time: int, keyframe: int) -> None:
        """Go on from the last key frame from which the frame at a time is sure to be found.

        Args:
            time: The time.
            keyframe: The key frame before it, by the index.
        """
        goal, candidate = time, self._keyframe_before(keyframe - 1)
        for _ in range(_MOST_STEPS_BACK):
            self._held = self._ahead = None
            if self._seek_container(goal):
                self._frames = self._decode(after_seek=True)
                self._ahead = self._next()
            if self._ahead is not None and self._starts_afresh and not self._next_is_after(time):
                return
            if candidate is None:
                break
            goal, candidate = candidate, self._keyframe_before(candidate - 1)
        self._start_again()

    def _start_again(self) -> None:
        """Decode everything from the start: a file that comes to this is damaged, and would again."""
        self._file.reopen()
        self._seeking = False
        self._held = self._ahead = None
        self.ended = False
        self._frames = self._decode(after_seek=False)

    def _seek_container(self, time: int) -> bool:
        import av

        try:
            self._file.container.seek(time, stream=self._file.stream)
        except MemoryError:
            raise
        except av.FFmpegError:
            self._damage.packets += 1
            return False
        self.ended = False
        self._read_until = None
        return True

    def _decode(self, after_seek: bool) -> Iterator[VideoFrame]:
        """Yield frames with time stamps, in the order in which they are shown.

        Args:
            after_seek: Whether frames count only from the first key frame on.
        """
        from av.video.frame import PictureType

        trusted_from: int | None = None
        self._starts_afresh = False
        for packet in packets(self._file.container, self._file.stream, self._damage):
            if after_seek and trusted_from is None:
                trusted_from = packet.pts if packet.is_keyframe else None
                if trusted_from is None:
                    continue
            self._note_position(packet)
            for frame in decode_packet(packet, self._damage):
                self._check(frame)
                if trusted_from is None:
                    yield frame
                elif frame.pts >= trusted_from:
                    # Where pictures are refreshed bit by bit, files call key frames what cannot be decoded alone.
                    self._starts_afresh |= frame.pts == trusted_from and frame.pict_type == PictureType.I
                    yield frame

    def _note_position(self, packet: Packet) -> None:
        time = packet.dts if packet.dts is not None else packet.pts
        if time is not None:
            self._read_until = time if self._read_until is None else max(time, self._read_until)

    def _check(self, frame: VideoFrame) -> None:
        """Count a frame, hold it to the limits and give it a time stamp where it has none, as in some AVI files."""
        self.decoded += 1
        if self.decoded > self._limits.max_frames:
            raise MediaError(f"more than {self._limits.max_frames:,} frames were decoded; the limit is max_frames")
        check_pixels(frame.width, frame.height, self._limits)
        if frame.pts is None:
            rate = self._file.stream.average_rate or _USUAL_RATE
            frame.pts = frame.dts if frame.dts is not None else self._file.start + self._file.ticks(self.decoded / rate)
