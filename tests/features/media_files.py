"""Writes tiny media files for tests: clips whose frames carry their number, tones, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)
BITS = 10
BLOCK = 8
CLIP_SHAPE = (16, BITS * BLOCK)
"""Height and width of a clip's frames."""


def numbered_frame(number: int, shape: tuple[int, int] = CLIP_SHAPE) -> np.ndarray:
    """A frame whose columns, black or white, are the bits of a number; it survives any compression."""
    bits = [number >> bit & 1 for bit in range(BITS)]
    columns = np.repeat(np.array(bits, np.uint8) * 255, shape[1] // BITS)
    return np.ascontiguousarray(np.broadcast_to(columns[None, :, None], (shape[0], len(columns), 3)))


def number_of(frame: np.ndarray) -> int:
    """The number that a frame carries, uint8 (H, W, 3) of any size."""
    width = frame.shape[1] // BITS
    middles = frame[frame.shape[0] // 2, width // 2 :: width].mean(axis=-1)
    return sum(int(value > 127) << bit for bit, value in enumerate(middles[:BITS]))


def write_clip(
    path: Path,
    durations: Sequence[int],
    codec: str = "libx264",
    gop: int = 12,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    shape: tuple[int, int] = CLIP_SHAPE,
    sound: bool = False,
    start: int = 0,
    first_number: int = 0,
    rotation: int = 0,
) -> Path:
    """Write a video whose frame ``i`` shows the number ``i`` for ``durations[i]`` milliseconds.

    The last duration is to be 40, which is what files take for granted.
    """
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=25, options=dict(options or {}))
        stream.height, stream.width = shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = MILLISECOND
        if rotation:
            stream.set_display_rotation(rotation)
        track = None
        if sound:
            codec, sample_format = ("libopus", "flt") if path.suffix == ".webm" else ("aac", "fltp")
            track = container.add_stream(codec, rate=48_000, layout="mono", format=sample_format)
        time = start
        for number, duration in enumerate(durations, start=first_number):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, shape), format="rgb24")
            frame.pts, frame.time_base = time, MILLISECOND
            container.mux(stream.encode(frame))
            time += duration
        container.mux(stream.encode(None))
        if track is not None:
            _write_samples(container, track, tone(440.0, 48_000, time / 1000), sample_format)
    return path


def tone(hertz: float, rate: int, seconds: float, amplitude: float = 0.5) -> np.ndarray:
    """A sine, float32 (samples,)."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def write_sound(path: Path, samples: np.ndarray, rate: int, codec: str, sample_format: str = "fltp") -> Path:
    """Write sound with FFmpeg: float32 (samples,) or what the format holds, (channels, samples)."""
    with av.open(str(path), "w") as container:
        samples = np.atleast_2d(samples)
        layout = {1: "mono", 2: "stereo", 8: "7.1"}[len(samples)]
        track = container.add_stream(codec, rate=rate, layout=layout, format=sample_format)
        _write_samples(container, track, samples, sample_format)
    return path


def _write_samples(container, track, samples: np.ndarray, sample_format: str) -> None:
    """Encode samples (channels, samples), of the type that the format holds."""
    samples = np.atleast_2d(samples)
    step = track.codec_context.frame_size or 1024
    for start in range(0, samples.shape[1], step):
        piece = samples[:, start : start + step]
        if not sample_format.endswith("p"):
            piece = piece.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(piece), format=sample_format, layout=track.codec_context.layout.name
        )
        frame.rate, frame.pts, frame.time_base = track.codec_context.sample_rate, start, Fraction(1, track.rate)
        container.mux(track.encode(frame))
    container.mux(track.encode(None))
