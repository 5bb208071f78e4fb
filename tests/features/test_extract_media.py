"""Pictures, clips and their sound through decoding, encoders and the store, as a user runs it."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from counting_extractor import save_picture
from tiny_encoders import save_vit, save_wav2vec2

from mmadapters.features.extract import ExtractionOptions, MediaSource, extract
from mmadapters.features.extractor import ExtractorSpec, build_extractor
from mmadapters.features.store import FeatureStore

av = pytest.importorskip("av")
RATE = 16_000


def save_clip(path: Path, seconds: float, hertz: float = 440.0) -> None:
    """A clip of 10 frames a second that grows brighter, with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for number in range(round(seconds * 10)):
            shade = np.full((24, 32, 3), min(255, 10 + 20 * number), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        tone = np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)
        for start in range(0, len(tone) - 1023, 1024):
            block = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    save_vit(folder / "vit")
    save_wav2vec2(folder / "wav2vec2")
    save_picture(folder / "poster.png", 90)
    save_clip(folder / "a.mp4", 1.0)
    save_clip(folder / "b.mkv", 0.7, hertz=880.0)
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:2000])
    return folder


def test_posters_trailers_and_sound_of_the_same_rows(root: Path, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "id": ["a", "b", "cut", "none"],
            "poster": ["poster.png", "poster.png", None, "a.mp4"],
            "file": ["a.mp4", "b.mkv", "cut.mp4", None],
        }
    )
    vit, device = str(root / "vit"), "cpu"
    specs = {
        "poster": ExtractorSpec("poster", "image", encoder=vit, device=device),
        "trailer": ExtractorSpec("trailer", "video", encoder=vit, frames=4, device=device),
        "audio": ExtractorSpec("audio", "audio"),
        "speech": ExtractorSpec("speech", "audio", encoder=str(root / "wav2vec2"), clip_seconds=0.25, device=device),
    }
    extractors = {name: build_extractor(spec) for name, spec in specs.items()}
    sources = [MediaSource("poster" if name == "poster" else "file", entry) for name, entry in extractors.items()]
    summary = extract(rows, sources, tmp_path / "store", ExtractionOptions("id", root, workers=2))
    store = FeatureStore.open(tmp_path / "store")
    status = {name: [store.status(row, name) for row in range(4)] for name in specs}
    assert status["poster"] == ["ok", "ok", "missing", "error"]
    for name in ("trailer", "audio", "speech"):
        assert status[name] == ["ok", "ok", "error", "missing"], [store.error(row, name) for row in range(4)]
    assert {name: modality.encoded for name, modality in summary.modalities.items()} == {
        "poster": 1,
        "trailer": 2,
        "audio": 2,
        "speech": 2,
    }
    for row in range(2):
        assert store.read(row, "trailer").shape == (4, 8)
        assert store.read(row, "audio").shape[1] == extractors["audio"].feature_dim
    assert [len(store.read(row, "speech")) for row in range(2)] == [4, 3]
    frames = extractors["trailer"].decode(root / "a.mp4").values
    np.testing.assert_allclose(store.read(0, "trailer"), extractors["trailer"].encode([frames])[0], atol=2e-3)
