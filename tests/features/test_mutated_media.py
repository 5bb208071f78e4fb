"""Media files broken in a thousand ways: each ends as an outcome, in time, and the process goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media_files import tone, write_clip
from PIL import Image

from mmadapters.features.audio import decode_audio
from mmadapters.features.guard import GuardedPool
from mmadapters.features.image import decode_image
from mmadapters.features.outcome import Decoded, Status
from mmadapters.features.video import decode_video

MUTATIONS = 1000
SECONDS = 20.0
DECODERS: dict[str, Callable[[Path], Decoded]] = {
    "image": decode_image,
    "video": partial(decode_video, n_frames=4, size=8),
    "audio": partial(decode_audio, sampling_rate=12_000, max_seconds=5.0),
}
DIMENSIONS = {"image": 3, "video": 4, "audio": 1}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    """Intact files, with the kind that they are."""
    folder = tmp_path_factory.mktemp("originals")
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    for ending in ("jpg", "png", "bmp"):
        Image.fromarray(noise).save(folder / f"x.{ending}")
    for ending in ("gif", "webp"):
        frames = [Image.fromarray(np.roll(noise, step, axis=0)) for step in range(3)]
        frames[0].save(folder / f"x.{ending}", save_all=True, append_images=frames[1:])
    write_clip(folder / "x.mp4", [40] * 20, gop=5, sound=True)
    write_clip(folder / "y.mp4", [40] * 20, gop=5, container_options={"movflags": "frag_keyframe+empty_moov"})
    write_clip(folder / "x.mkv", [40] * 20, "mpeg4", gop=5)
    write_clip(folder / "x.webm", [40] * 20, "libvpx-vp9", gop=5, options={"deadline": "realtime"}, sound=True)
    for ending in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"x.{ending}", tone(440, 16_000, 0.3), 16_000)
    kinds = {
        "mp4": "video",
        "mkv": "video",
        "webm": "video",
        "wav": "audio",
        "flac": "audio",
        "ogg": "audio",
        "mp3": "audio",
    }
    return [(kinds.get(path.suffix[1:], "image"), path) for path in sorted(folder.iterdir())]


def truncate(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(1, len(content))]


def empty(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return b""


def flip(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(changed), rng.integers(1, 40))
    changed[places] ^= np.left_shift(1, rng.integers(0, 8, len(places))).astype(np.uint8)
    return changed.tobytes()


def flip_in_head(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return flip(content[:200], other, rng) + content[200:]


def flip_in_tail(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return content[:-800] + flip(content[-800:], other, rng)


def overwrite(content: bytes, rng: np.random.Generator, filling: Callable[[int], bytes]) -> bytes:
    start = int(rng.integers(0, len(content)))
    length = int(rng.integers(1, max(2, len(content) // 4)))
    return content[:start] + filling(length) + content[start + length :]


def zero(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return overwrite(content, rng, bytes)


def fill_with_noise(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return overwrite(content, rng, rng.bytes)


def splice(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))] + other[rng.integers(0, len(other)) :]


def repeat(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(0, len(content), 2).tolist())
    return content[:end] + content[start:]


def largest_numbers(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Four bytes of ones: lengths, counts and sizes as large as they can be."""
    start = int(rng.integers(0, min(1000, len(content))))
    return content[:start] + b"\xff\xff\xff\xff" + content[start + 4 :]


def mislabel(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return other


MUTATORS = (
    *(truncate, empty, flip, flip_in_head, flip_in_tail, zero, fill_with_noise),
    *(splice, repeat, largest_numbers, mislabel),
)


def mutated(folder: Path, originals: list[tuple[str, Path]], count: int) -> Iterator[tuple[str, str, Path]]:
    """Write broken files one by one; yield how each was broken, what it is to be read as, and its path."""
    for number in range(count):
        rng = np.random.default_rng(number)
        mutator = MUTATORS[number % len(MUTATORS)]
        kind, path = originals[rng.integers(len(originals))]
        _, other = originals[rng.integers(len(originals))]
        target = folder / f"{number}{path.suffix}"
        target.write_bytes(mutator(path.read_bytes(), other.read_bytes(), rng))
        yield mutator.__name__, kind, target


def test_the_originals_are_intact(originals: list[tuple[str, Path]]) -> None:
    assert len(originals) == 13
    for kind, path in originals:
        assert DECODERS[kind](path).status is Status.OK


def test_a_thousand_mutated_files_each_end_in_an_outcome(tmp_path: Path, originals: list[tuple[str, Path]]) -> None:
    statuses: Counter[Status] = Counter()
    by_mutator: dict[str, Counter[Status]] = {}
    with GuardedPool(2, SECONDS, memory_bytes=1 << 30) as pool:
        tasks = (
            ((mutator, kind, path.name), DECODERS[kind], path)
            for mutator, kind, path in mutated(tmp_path, originals, MUTATIONS)
        )
        for key, decoded in pool.run(tasks):
            mutator, kind, name = key
            check_outcome(decoded, kind, tmp_path)
            statuses[decoded.status] += 1
            by_mutator.setdefault(mutator, Counter())[decoded.status] += 1
    assert statuses.total() == MUTATIONS
    assert statuses[Status.TIMEOUT] == 0
    assert min(statuses[Status.OK], statuses[Status.ERROR]) > 100
    assert statuses[Status.DEGRADED] > 10
    assert set(by_mutator["empty"]) == {Status.ERROR}


def check_outcome(decoded: Decoded, kind: str, folder: Path) -> None:
    assert decoded.seconds <= SECONDS
    assert str(folder) not in decoded.error
    if decoded.status in (Status.OK, Status.DEGRADED):
        assert decoded.values is not None
        assert decoded.values.ndim == DIMENSIONS[kind]
        assert decoded.values.size
        assert decoded.values.dtype == (np.float32 if kind == "audio" else np.uint8)
        assert bool(decoded.error) == (decoded.status is Status.DEGRADED)
        assert np.isfinite(decoded.values).all()
    else:
        assert decoded.values is None
        assert decoded.error
