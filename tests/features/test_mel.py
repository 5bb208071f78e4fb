"""Log-mel spectrograms against those of transformers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from mmadapters.errors import ConfigurationError
from mmadapters.features.mel import MEL_PRESETS, MOVIESCOPE, MOVIESCOPE_128, MelPreset, log_mel, mel_filters, mel_preset

SMALL = MelPreset(sampling_rate=8000, hop_length=100, fft_length=256, bands=20, clip_seconds=1.0, clips=3)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def reference(clip: np.ndarray, preset: MelPreset) -> np.ndarray:
    filters = mel_filter_bank(
        preset.fft_length // 2 + 1,
        preset.bands,
        0.0,
        preset.sampling_rate / 2,
        preset.sampling_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    window = window_function(preset.fft_length, "hann")
    return spectrogram(
        clip,
        window,
        preset.fft_length,
        preset.hop_length,
        power=2.0,
        mel_filters=filters,
        mel_floor=preset.floor,
        log_mel="dB",
        min_value=preset.floor,
    ).T


@pytest.mark.parametrize("preset", [*MEL_PRESETS.values(), SMALL], ids=[*MEL_PRESETS, "small"])
def test_filters_are_those_of_transformers(preset: MelPreset) -> None:
    expected = mel_filter_bank(
        preset.fft_length // 2 + 1,
        preset.bands,
        0.0,
        preset.sampling_rate / 2,
        preset.sampling_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    np.testing.assert_allclose(mel_filters(preset), expected, rtol=1e-9, atol=1e-12)
    assert (mel_filters(preset).max(axis=0) > 0).all()


@pytest.mark.parametrize("preset", [*MEL_PRESETS.values(), SMALL], ids=[*MEL_PRESETS, "small"])
@pytest.mark.parametrize("samples", [1, 2, 100, 8000, 7999])
def test_spectrograms_are_those_of_transformers(preset: MelPreset, samples: int) -> None:
    found = log_mel(noise(samples), preset)
    assert found.dtype == np.float32
    assert found.shape == (1 + samples // preset.hop_length, preset.bands)
    np.testing.assert_allclose(found, reference(noise(samples), preset), atol=2e-3)


def test_moviescopes_four_clips_have_1407_steps_each() -> None:
    wave = noise(round(12_000 * 150))
    found = log_mel(wave, MOVIESCOPE)
    assert found.shape == (4 * 1407, 96)
    assert log_mel(wave[: 12_000 * 30], MOVIESCOPE_128).shape == (1407, 128)
    assert MOVIESCOPE.seconds == 120.0
    np.testing.assert_array_equal(found[1407:2814], log_mel(wave[360_000:720_000], MOVIESCOPE))


@pytest.mark.parametrize(
    ("samples", "steps"), [(8000, 81), (8001, 81), (8255, 81), (8256, 84), (16_000, 162), (40_000, 243)]
)
def test_clips_are_analysed_one_by_one_and_a_short_rest_is_left_out(samples: int, steps: int) -> None:
    wave = noise(samples)
    found = log_mel(wave, SMALL)
    assert found.shape == (steps, 20)
    np.testing.assert_array_equal(found[:81], log_mel(wave[:8000], SMALL))


def test_a_tone_is_in_its_band_and_silence_at_the_floor() -> None:
    time = np.arange(8000) / 8000
    found = log_mel(np.sin(2 * np.pi * 1000 * time).astype(np.float32), SMALL)
    middles = mel_filters(SMALL).argmax(axis=0) * 8000 / 256
    assert abs(middles[found[40].argmax()] - 1000) < 100
    assert (log_mel(np.zeros(8000, np.float32), SMALL) == -100.0).all()
    assert (log_mel(np.zeros(8000, np.float32), replace(SMALL, floor=1e-5)) == -50.0).all()


def test_recipes_are_found_by_name() -> None:
    assert mel_preset("moviescope") is MOVIESCOPE
    assert (MOVIESCOPE.sampling_rate, MOVIESCOPE.hop_length, MOVIESCOPE.bands) == (12_000, 256, 96)
    with pytest.raises(
        ConfigurationError, match="Accepted are 'moviescope', 'moviescope-128'. Did you mean 'moviescope'"
    ):
        mel_preset("movie-scope")


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="hop_length=0 of a mel preset"):
        replace(SMALL, hop_length=0)
    for shape in ((0,), (2, 100)):
        with pytest.raises(ConfigurationError, match="A waveform of shape"):
            log_mel(np.zeros(shape, np.float32), SMALL)
