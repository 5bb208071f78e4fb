"""Time 8 frames of a 60 s clip: seeking against decoding everything, in turns.

``python benchmarks/video-sampling/run.py`` writes ``result.json`` beside itself where there is none; with a number
behind it, the clips last so many seconds and nothing is written. The clips are made by the script: a textured picture
that drifts, 640 x 360 pixels, 25 frames a second. Both ways go through ``decode_video`` with its one thread, the file
is in the page cache, and for each clip both must give the same pixels.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import sys
import tempfile
import time
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np

from mmadapters.cli.console import step
from mmadapters.features.video import decode_video
from mmadapters.files import write_json_atomically

SECONDS, RATE, HEIGHT, WIDTH = 60, 25, 360, 640
FRAMES, SIZE, REPEATS = 8, 256, 9
MILLISECOND = Fraction(1, 1000)
H264 = {"preset": "veryfast", "x264-params": "scenecut=0"}
VP9 = {"deadline": "realtime", "cpu-used": "8"}
CLIPS: dict[str, dict[str, Any]] = {
    "mp4, a key frame every 2 s": {"name": "x.mp4", "codec": "libx264", "gop": 50, "options": H264},
    "mp4, every 2 s, variable rate": {
        "name": "x.mp4",
        "codec": "libx264",
        "gop": 50,
        "options": H264,
        "variable": True,
    },
    "mp4, every 10 s": {"name": "x.mp4", "codec": "libx264", "gop": 250, "options": H264},
    "mp4, a single key frame": {"name": "x.mp4", "codec": "libx264", "gop": 100_000, "options": H264},
    "mkv, every 2 s": {"name": "x.mkv", "codec": "libx264", "gop": 50, "options": H264},
    "webm (VP9), every 5 s": {"name": "x.webm", "codec": "libvpx-vp9", "gop": 128, "options": VP9},
}


def write_clip(path: Path, seconds: int, codec: str, gop: int, options: dict[str, str], variable: bool = False) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 4, 3), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = MILLISECOND
        start = 0
        for number in range(seconds * RATE):
            left = 2 * number % WIDTH
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, left : left + WIDTH]), format="rgb24")
            frame.pts, frame.time_base = start, MILLISECOND
            # The same mean rate: 20 and 60 ms in turns.
            start += 40 if not variable else 20 if number % 2 else 60
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def timed(path: Path, seeking: bool) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    decoded = decode_video(path, FRAMES, size=SIZE, seeking=seeking)
    elapsed = time.perf_counter() - started
    assert decoded.values is not None, decoded.error
    return elapsed, decoded.values


def measure(path: Path) -> dict[str, Any]:
    assert np.array_equal(timed(path, True)[1], timed(path, False)[1])
    runs = [(timed(path, True)[0], timed(path, False)[0]) for _ in range(REPEATS)]
    seeking, everything = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "seeking_ms": round(1000 * seeking, 1),
        "everything_ms": round(1000 * everything, 1),
        "ratio": round(statistics.median(slow / fast for fast, slow in runs), 2),
        "ratios": [round(slow / fast, 2) for fast, slow in runs],
    }


def main(seconds: int, target: Path | None) -> None:
    if target is not None and target.exists():
        sys.exit(f"{target} exists. Results are added, never edited: copy the folder under another name.")
    results = {}
    for name, clip in CLIPS.items():
        with tempfile.TemporaryDirectory() as folder:
            settings = dict(clip)
            path = Path(folder) / settings.pop("name")
            write_clip(path, seconds, **settings)
            results[name] = measure(path)
            step(f"{name}: {results[name]}")
    if target is None:
        return
    write_json_atomically(
        target,
        {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": 1},
            "versions": {package: version(package) for package in ("mmadapters", "av", "numpy")},
            "clip": {"seconds": seconds, "frames_per_second": RATE, "height": HEIGHT, "width": WIDTH},
            "sampling": {"frames": FRAMES, "size": SIZE, "repeats": REPEATS},
            "clips": results,
        },
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else SECONDS, None if given else Path(__file__).with_name("result.json"))
