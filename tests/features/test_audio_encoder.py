import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoders import save_ast, save_vit, save_wav2vec2
from transformers import AutoFeatureExtractor, AutoModel

from mmadapters.errors import ConfigurationError
from mmadapters.features.audio import decode_audio
from mmadapters.features.audio_encoder import AudioEncoderExtractor
from mmadapters.features.extractor import ExtractorSpec, build_extractor
from mmadapters.features.mel import log_mel

RATE = 16_000


def wave(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * 300 * time * (1 + time)).astype(np.float32)


def spec(encoder: object, **options: object) -> ExtractorSpec:
    return ExtractorSpec(**{"name": "audio", "kind": "audio", "encoder": str(encoder), "device": "cpu", **options})


def expected(folder: Path, clip: np.ndarray) -> object:
    inputs = AutoFeatureExtractor.from_pretrained(folder)(clip, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder).eval()(next(iter(inputs.values())))


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_wav2vec2(tmp_path_factory.mktemp("wav2vec2"))


def test_a_waveform_is_a_vector_a_clip(wav2vec2: Path) -> None:
    extractor = build_extractor(spec(wav2vec2, clip_seconds=0.5))
    assert isinstance(extractor, AudioEncoderExtractor)
    assert (extractor.kind, extractor.feature_dim, extractor.is_sequence) == ("audio", 8, True)
    sound = wave(1.25)
    (features,) = extractor.encode([sound])
    assert features.shape == (3, 8)
    assert features.dtype == np.float32
    for row, clip in zip(features, (sound[:8000], sound[8000:16000], sound[16000:]), strict=True):
        np.testing.assert_allclose(row, expected(wav2vec2, clip).last_hidden_state[0].mean(0).numpy(), atol=1e-5)


def test_clips_of_one_file_do_not_depend_on_other_files(wav2vec2: Path) -> None:
    extractor = build_extractor(spec(wav2vec2, clip_seconds=0.5))
    together = extractor.encode([wave(1.0), wave(0.3)])
    np.testing.assert_array_equal(together[0], extractor.encode([wave(1.0)])[0])
    np.testing.assert_array_equal(together[1], extractor.encode([wave(0.3)[None]])[0])


@pytest.mark.parametrize(("samples", "clips"), [(1, 1), (0, 1), (1599, 1), (8000, 1), (8001, 1), (9600, 2)])
def test_a_rest_that_is_too_short_is_left_out_unless_it_is_all(wav2vec2: Path, samples: int, clips: int) -> None:
    (features,) = build_extractor(spec(wav2vec2, clip_seconds=0.5)).encode([wave(1.0)[:samples]])
    assert features.shape == (clips, 8)
    assert np.isfinite(features).all()


def test_an_encoder_of_spectrograms_uses_its_pooler(tmp_path: Path) -> None:
    folder = save_ast(tmp_path)
    extractor = build_extractor(spec(folder, clip_seconds=0.4))
    (features,) = extractor.encode([wave(0.4)])
    np.testing.assert_allclose(features[0], expected(folder, wave(0.4)).pooler_output[0].numpy(), atol=1e-5)
    parts = json.loads(extractor.fingerprint)
    assert (parts["pooling"], parts["sampling"]) == ("pooler", {"clip_seconds": 0.4, "sampling_rate": RATE})
    assert build_extractor(spec(folder, clip_seconds=0.5)).fingerprint != extractor.fingerprint
    assert build_extractor(spec(folder, clip_seconds=0.4)).fingerprint == extractor.fingerprint


def test_a_log_mel_spectrogram_needs_no_encoder(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", wave(1.5), RATE)
    extractor = build_extractor(ExtractorSpec("audio", "audio"))
    assert (extractor.feature_dim, extractor.is_sequence, extractor.batch_size) == (96, True, 1)
    decoded = extractor.decode(tmp_path / "a.wav")
    (features,) = extractor.encode([decoded.values])
    assert features.shape == (1 + 18_000 // 256, 96)
    heard = decode_audio(tmp_path / "a.wav", 12_000).values
    np.testing.assert_array_equal(features, log_mel(heard))
    assert pickle.loads(pickle.dumps(extractor.decode)) == extractor.decode


def test_presets_have_their_own_fingerprints() -> None:
    wide = build_extractor(ExtractorSpec("audio", "audio", preset="moviescope-128"))
    assert wide.feature_dim == 128
    parts = json.loads(wide.fingerprint)
    assert (parts["encoder"], parts["preprocessing"]["hop_length"]) == ("log-mel", 256)
    assert wide.fingerprint != build_extractor(ExtractorSpec("audio", "audio")).fingerprint
    with pytest.raises(ConfigurationError, match="no mel preset 'moviescop'.*Did you mean 'moviescope'"):
        build_extractor(ExtractorSpec("audio", "audio", preset="moviescop"))


def test_the_sound_of_an_encoder_comes_at_its_own_rate(wav2vec2: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", wave(1.0), RATE)
    extractor = build_extractor(spec(wav2vec2, clip_seconds=0.5))
    decoded = extractor.decode(tmp_path / "a.wav")
    assert decoded.values.shape == (RATE,)
    assert extractor.encode([decoded.values])[0].shape == (2, 8)


def test_an_encoder_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no audio encoder|cannot be loaded"):
        build_extractor(spec(save_vit(tmp_path)))
