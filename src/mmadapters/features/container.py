"""Video and sound files as FFmpeg reads them: which are opened, and packets that go on behind damage."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmadapters.errors import MissingDependencyError
from mmadapters.features.guard import Limits
from mmadapters.features.outcome import MediaError, one_line

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

# Without the lists a file may be a playlist, whatever it is called, and make FFmpeg open other files and addresses.
_PROTOCOLS = "file"
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,ogg,wav,mp3,flac,aac"
_MOST_READ_ERRORS = 16
_MICROSECONDS = Fraction(1, 1_000_000)

AnyFrame = TypeVar("AnyFrame")


def open_container(path: Path, limits: Limits) -> InputContainer:
    """Open a file of one of the accepted formats, told by its content; nothing else is opened on its behalf.

    Args:
        path: The file.
        limits: ``max_streams`` counts.

    Raises:
        MediaError: If it is damaged, of another format or has too many streams.
        MissingDependencyError: If PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            'Video and sound are read with PyAV, which is not installed: pip install "mmadapters[video]", or [audio]'
        ) from error
    # A fresh dictionary for each call: FFmpeg takes out what it has understood.
    options = {"protocol_whitelist": _PROTOCOLS, "format_whitelist": _FORMATS}
    try:
        container = av.open(str(path.absolute()), mode="r", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise MediaError(f"the file is damaged or of a format that is not read: {reason(error)}") from error
    if len(container.streams) > limits.max_streams:
        count = len(container.streams)
        container.close()
        raise MediaError(f"the file has {count} streams; the limit max_streams is {limits.max_streams}")
    return container


def reason(error: Exception) -> str:
    """Return what FFmpeg says of an error, without the path."""
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


class DamageCount:
    """How much of a file could not be read.

    Attributes:
        packets: Number of places where reading or decoding failed.
    """

    def __init__(self) -> None:
        self.packets = 0

    def __str__(self) -> str:
        return f"{self.packets} damaged packet{'' if self.packets == 1 else 's'}"


def packets(container: InputContainer, stream: Stream, damage: DamageCount) -> Iterator[Packet]:
    """Yield the packets of a stream from where the container is, and at the end the empty one that flushes a decoder.

    Args:
        container: The file.
        stream: One of its streams.
        damage: Counts what cannot be read; a file that fails again and again ends there.
    """
    import av

    failures = 0
    while failures < _MOST_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except MemoryError:
            raise
        except av.FFmpegError:
            failures += 1
            damage.packets += 1


def decode_packet(packet: Any, damage: DamageCount) -> list[Any]:
    """Return the frames that a packet completes; one that cannot be decoded completes none and is counted."""
    import av

    try:
        return list(packet.decode())
    except MemoryError:
        raise
    except av.error.EOFError:
        return []
    except (av.FFmpegError, ValueError):
        damage.packets += 1
        return []


def stated_seconds(container: InputContainer) -> Fraction | None:
    """Return how long the file says to be, or None where it does not say."""
    duration = container.duration
    return None if duration is None or duration <= 0 else duration * _MICROSECONDS


def check_seconds(seconds: float, limits: Limits) -> None:
    """Refuse media that are too long.

    Raises:
        MediaError: If they are longer than ``max_seconds``.
    """
    if seconds > limits.max_seconds:
        raise MediaError(f"it lasts {seconds:,.0f} s; the limit max_seconds is {limits.max_seconds:,.0f}")
