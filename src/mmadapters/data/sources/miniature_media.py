"""Pixels and samples of miniature trailers: posters, moving scenes and sounds, drawn by formulas.

What is drawn for a genre is a picture, a movement or a tone of its own; see ``mmadapters.data.sources.miniatures`` for
which of them a row shows. Genres are counted in the order of its ``GENRES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mmadapters.errors import MissingDependencyError

POSTER_SIZE = (128, 128)
"""Width and height of a poster in pixels. A square, since image encoders cut the longer side off."""
FRAME_SIZE = (96, 64)
"""Width and height of a trailer in pixels."""
FRAME_RATE = 10
SECONDS = 4
SAMPLING_RATE = 16_000
AAC_BIT_RATE = 48_000
N_SCENES = 6
TONES = ((220.0, 8.0), (430.0, 5.0), (820.0, 1.0), (1450.0, 0.5), (2400.0, 6.0), (3900.0, 2.0))
"""Pitch in Hz and pulses a second of each genre's tone."""

_OTHER_TONES = (310.0, 600.0, 1100.0, 1900.0, 3100.0)
# Without lookahead and on one thread: x264's lookahead gave other bytes for the same frames in about 1 of 30 runs.
_H264_OPTIONS = {"qp": "22", "preset": "veryfast", "tune": "zerolatency"}
_GRID = 3
_MARGIN = 8

Layers = list[tuple[np.ndarray, tuple[int, int, int]]]


def draw_poster(shown: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw an emblem for each shown genre, and grey shapes beside them, on a muted background.

    Args:
        shown: Bool (6,): the genres.
        random: Chooses places, sizes and the rest.

    Returns:
        Uint8 (128, 128, 3).
    """
    width, height = POSTER_SIZE
    top, bottom = random.uniform(90, 165, (2, 1, 1, 3))
    poster = np.broadcast_to(np.linspace(top, bottom, height).reshape(height, 1, 3), (height, width, 3)).copy()
    cells = random.permutation(_GRID**2)
    genres = np.flatnonzero(shown)
    for place, cell in enumerate(cells):
        if place >= len(genres) and random.random() < 0.5:
            continue
        u, v = _cell(cell, random)
        layers = _EMBLEMS[genres[place]](u, v) if place < len(genres) else _grey_shape(u, v, random)
        for mask, colour in layers:
            poster[mask] = colour
    return _pixels(poster)


def draw_frames(shown: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw scenes in random order: one for each shown genre, and grey ones up to six.

    Args:
        shown: Bool (6,): the genres.
        random: Chooses order, phases and the rest.

    Returns:
        Uint8 (40, 64, 96, 3): 4 s of 10 frames each.
    """
    width, height = FRAME_SIZE
    scenes = random.permutation(np.where(shown, np.arange(N_SCENES), -1))
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1.5, 1.5, width), indexing="ij")
    frames = np.empty((FRAME_RATE * SECONDS, height, width, 3), dtype=np.uint8)
    for scene, part in zip(scenes, np.array_split(np.arange(len(frames)), N_SCENES), strict=True):
        phase, shade = random.random(4), random.uniform(60, 180, (2, 3))
        for step, frame in enumerate(part):
            time = step / FRAME_RATE
            picture = _grey_scene(u, v, time, phase, shade) if scene < 0 else _SCENES[scene](u, v, time, phase)
            frames[frame] = _pixels(picture + 2 * random.standard_normal(picture.shape, dtype=np.float32))
    return frames


def make_sound(shown: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Make a pulsing tone for each shown genre, over noise and tones that mean nothing.

    Args:
        shown: Bool (6,): the genres.
        random: Chooses loudness, phases and the rest.

    Returns:
        Float32 (64000,) between -1 and 1: 4 s of 16,000 samples each.
    """
    time = np.arange(SAMPLING_RATE * SECONDS) / SAMPLING_RATE
    sound = np.cumsum(random.normal(0, 0.002, len(time))) * 0.2 + random.normal(0, 0.01, len(time))
    sound -= sound.mean()
    for genre in np.flatnonzero(shown):
        pitch, pulses = TONES[genre]
        pitch *= random.uniform(0.97, 1.03)
        envelope = (np.sin(2 * np.pi * (pulses * time + random.random())) > -0.2).astype(float)
        sound += random.uniform(0.08, 0.16) * np.sin(2 * np.pi * (pitch * time + random.random())) * envelope
    for pitch in _OTHER_TONES:
        if random.random() < 0.3:
            start, stop = np.sort(random.uniform(0, SECONDS, 2))
            heard = (time >= start) & (time < stop)
            sound += random.uniform(0.05, 0.12) * np.sin(2 * np.pi * pitch * time) * heard
    return np.clip(sound, -1, 1).astype(np.float32)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W, 3) as a PNG file.

    Raises:
        MissingDependencyError: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            'Posters are written with Pillow, which is not installed: pip install "mmadapters[image]"'
        ) from error
    Image.fromarray(pixels).save(path)


def write_mp4(path: Path, frames: np.ndarray, sound: np.ndarray | None) -> None:
    """Write an MP4 file: H.264, and AAC where there is sound.

    Args:
        path: Where to.
        frames: Uint8 (T, H, W, 3), ``FRAME_RATE`` a second; H and W are even.
        sound: Float32 (samples,), ``SAMPLING_RATE`` a second, or None for a film without a sound track.

    Raises:
        MissingDependencyError: If PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            'Trailers are written with PyAV, which is not installed: pip install "mmadapters[video]"'
        ) from error
    with av.open(str(path), "w", format="mp4") as container:
        video: Any = container.add_stream("libx264", rate=FRAME_RATE, options=dict(_H264_OPTIONS))
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio: Any = None
        if sound is not None:
            audio = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
            audio.bit_rate = AAC_BIT_RATE
        for pixels in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = SAMPLING_RATE, 0, Fraction(1, SAMPLING_RATE)
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))


def _cell(cell: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates of the poster's pixels in which an emblem fills about -1 to 1, around the middle of a cell."""
    width, height = POSTER_SIZE
    side = (width - 2 * _MARGIN) / _GRID
    row, column = divmod(int(cell), _GRID)
    x, y = _MARGIN + (np.array([column, row]) + 0.5 + random.uniform(-0.06, 0.06, 2)) * side
    radius = side / 2 * random.uniform(0.85, 1.0)
    v, u = np.meshgrid((np.arange(height) - y) / radius, (np.arange(width) - x) / radius, indexing="ij")
    return u, v


def _grey_shape(u: np.ndarray, v: np.ndarray, random: np.random.Generator) -> Layers:
    grey = int(random.integers(40, 220))
    stretch = random.uniform(0.5, 2)
    round_shape = u**2 + (stretch * v) ** 2 < 0.6
    mask = round_shape if random.random() < 0.5 else (abs(u) < 0.7) & (abs(stretch * v) < 0.7)
    return [(mask, (grey, grey, grey))]


def _explosion(u: np.ndarray, v: np.ndarray) -> Layers:
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    rays = 0.65 + 0.35 * np.cos(9 * angle)
    return [(radius < rays, (225, 45, 20)), (radius < 0.55 * rays, (255, 160, 30))]


def _smile(u: np.ndarray, v: np.ndarray) -> Layers:
    radius = np.hypot(u, v)
    eyes = (np.hypot(abs(u) - 0.35, v + 0.3) < 0.13) | ((abs(radius - 0.6) < 0.08) & (v > 0.15))
    return [(radius < 0.95, (250, 225, 50)), (eyes, (60, 40, 10))]


def _teeth(u: np.ndarray, v: np.ndarray) -> Layers:
    teeth = (abs(v) > 0.15 + 0.7 * abs((2 * u) % 1 - 0.5)) & (abs(v) < 0.75)
    inside = (abs(u) < 0.95) & (abs(v) < 0.9)
    return [(inside, (10, 5, 15)), (inside & teeth, (235, 235, 225)), (inside & (abs(v) < 0.08), (120, 0, 0))]


def _heart(u: np.ndarray, v: np.ndarray) -> Layers:
    x, y = 1.25 * u, 0.15 - 1.25 * v
    return [((x**2 + y**2 - 1) ** 3 - x**2 * y**3 < 0, (255, 105, 180))]


def _planet(u: np.ndarray, v: np.ndarray) -> Layers:
    ring = np.hypot(u, 3 * v + 0.6 * u)
    return [
        (np.hypot(u, v) < 0.95, (10, 20, 70)),
        (np.hypot(u, v) < 0.5, (40, 130, 255)),
        ((ring > 0.65) & (ring < 0.95), (80, 240, 250)),
    ]


def _cactus(u: np.ndarray, v: np.ndarray) -> Layers:
    trunk = (abs(u) < 0.16) & (abs(v) < 0.75)
    arms = ((abs(u) < 0.6) & (abs(v - 0.15) < 0.11)) | ((abs(abs(u) - 0.5) < 0.1) & (abs(v + 0.1) < 0.35))
    return [((abs(u) < 0.9) & (abs(v) < 0.9), (225, 180, 115)), (trunk | arms, (60, 100, 40))]


_EMBLEMS: Sequence[Callable[[np.ndarray, np.ndarray], Layers]] = (
    _explosion,
    _smile,
    _teeth,
    _heart,
    _planet,
    _cactus,
)


def _grey_scene(u: np.ndarray, v: np.ndarray, time: float, phase: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """A slow blend of two muted shades."""
    angle = 2 * np.pi * phase[0] + time
    blend = 0.5 + 0.5 * np.sin(1.5 * (u * np.cos(angle) + v * np.sin(angle)) + 2 * np.pi * phase[1])
    greyish = 0.7 * shade.mean(axis=1, keepdims=True) + 0.3 * shade
    return blend[..., None] * greyish[0] + (1 - blend[..., None]) * greyish[1]


def _chase(u: np.ndarray, v: np.ndarray, time: float, phase: np.ndarray) -> np.ndarray:
    """Red and yellow bars that run from right to left."""
    bars = np.sin(2 * np.pi * (1.6 * u + 3 * time + phase[0]) + 0.8 * v) > 0
    return np.where(bars[..., None], (255, 190, 40), (200, 30, 15))


def _juggling(u: np.ndarray, v: np.ndarray, time: float, phase: np.ndarray) -> np.ndarray:
    """Balls that bounce before a light green wall."""
    picture = np.full((*u.shape, 3), (170, 240, 160), dtype=float)
    for ball, colour in enumerate(((250, 220, 0), (240, 80, 200), (60, 90, 250))):
        height = 0.7 - 1.3 * abs(np.sin(np.pi * (1.5 * time + phase[ball])))
        picture[np.hypot(u - (ball - 1) * 0.62, v - height) < 0.26] = colour
    return picture


def _lightning(u: np.ndarray, v: np.ndarray, time: float, phase: np.ndarray) -> np.ndarray:
    """Darkness with a jagged white line, lit up at times."""
    lit = (2.5 * time + phase[0]) % 1 < 0.25
    jagged = abs(u - 1.2 * (phase[1] - 0.5) - 0.25 * abs((3 * v + phase[2]) % 1 - 0.5) * 2) < 0.06
    return np.where(jagged[..., None], (255, 255, 255), (110, 110, 140) if lit else (8, 6, 12))


def _heartbeat(u: np.ndarray, v: np.ndarray, time: float, phase: np.ndarray) -> np.ndarray:
    """A pink glow that swells and shrinks."""
    size = 0.8 + 0.3 * np.sin(2 * np.pi * (1.2 * time + phase[0]))
    glow = np.exp(-((u - phase[1] + 0.5) ** 2 + v**2) / size**2)[..., None]
    return glow * (255, 170, 200) + (1 - glow) * (130, 20, 80)


def _warp(u: np.ndarray, v: np.ndarray, time: float, phase: np.ndarray) -> np.ndarray:
    """Cyan rings that grow out of the dark."""
    radius = np.hypot(u - 0.4 * (phase[1] - 0.5), v)
    rings = 0.5 + 0.5 * np.cos(2 * np.pi * (2.2 * radius - 2 * time - phase[0]))
    return (rings**2)[..., None] * (60, 240, 255) + np.array((5, 5, 40))


def _ride(u: np.ndarray, v: np.ndarray, time: float, phase: np.ndarray) -> np.ndarray:
    """Brown hills that pass before a pale sky, over sand."""
    hills = 0.45 * abs((0.8 * u + 0.5 * time + phase[0]) % 1 - 0.5) * 2 - 0.35
    ground = np.where((v > 0.45)[..., None], (230, 190, 120), (125, 70, 30))
    return np.where((v > hills)[..., None], ground, (200, 215, 225))


_SCENES: Sequence[Callable[[np.ndarray, np.ndarray, float, np.ndarray], np.ndarray]] = (
    _chase,
    _juggling,
    _lightning,
    _heartbeat,
    _warp,
    _ride,
)


def _pixels(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture, 0, 255).round().astype(np.uint8)
