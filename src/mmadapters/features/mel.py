"""Log-mel spectrograms in numpy, after published recipes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmadapters.errors import ConfigurationError, did_you_mean, listed

_LINEAR_HERTZ = 200.0 / 3.0
_LOG_FROM_HERTZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HERTZ / _LINEAR_HERTZ
_MELS_PER_LOG = 27.0 / np.log(6.4)
_FRAMES_AT_ONCE = 512


@dataclass(frozen=True)
class MelPreset:
    """A recipe of a log-mel spectrogram.

    Frames are centred (the waveform is mirrored at its ends), windowed by a periodic Hann window, and their power
    spectra filtered by triangles on Slaney's mel scale, each of area 1, between 0 Hz and half the sampling rate.
    Powers become decibels, ``10 log10(max(power, floor))``.

    Attributes:
        sampling_rate: Samples a second that the waveform has.
        hop_length: Samples between the middles of two frames.
        fft_length: Samples of a frame.
        bands: Number of mel bands.
        clip_seconds: Length of a clip; clips are analysed one by one.
        clips: The most clips, from the start of the sound.
        floor: Power below which everything is silence.
    """

    sampling_rate: int
    hop_length: int
    fft_length: int
    bands: int
    clip_seconds: float
    clips: int
    floor: float = 1e-10

    @property
    def seconds(self) -> float:
        """The most sound that the spectrogram is of."""
        return self.clip_seconds * self.clips

    def __post_init__(self) -> None:
        for name in ("sampling_rate", "hop_length", "fft_length", "bands", "clip_seconds", "clips", "floor"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"{name}={getattr(self, name)!r} of a mel preset cannot be used. Give a number above 0."
                )


MOVIESCOPE = MelPreset(sampling_rate=12_000, hop_length=256, fft_length=512, bands=96, clip_seconds=30.0, clips=4)
"""Moviescope's: 4 clips of 30 s of a trailer at 12 kHz, 1,407 frames each. The 96 bands and the frames of 512 samples
are those of the network that it follows (Choi et al., "Convolutional recurrent neural networks for music
classification", 2017)."""
MOVIESCOPE_128 = MelPreset(sampling_rate=12_000, hop_length=256, fft_length=2048, bands=128, clip_seconds=30.0, clips=4)
"""The same in 128 bands. The length of its frames is not published; 2,048 is librosa's default, as are 128 bands."""
MEL_PRESETS = {"moviescope": MOVIESCOPE, "moviescope-128": MOVIESCOPE_128}


def mel_preset(name: str) -> MelPreset:
    """Return a recipe by its name.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    if name not in MEL_PRESETS:
        raise ConfigurationError(
            f"There is no mel preset '{name}'. Accepted are {listed(MEL_PRESETS)}.{did_you_mean(name, MEL_PRESETS)}"
        )
    return MEL_PRESETS[name]


def log_mel(waveform: np.ndarray, preset: MelPreset = MOVIESCOPE) -> np.ndarray:
    """Return the log-mel spectrogram of a waveform, its clips one behind the other.

    A last clip that is shorter than one frame is left out, unless it is the only one.

    Args:
        waveform: Float (samples,), mono, at the preset's sampling rate; at least one sample.
        preset: The recipe.

    Returns:
        Float32 (T, bands) in decibels. A clip of n samples gives ``1 + n // hop_length`` steps.

    Raises:
        ConfigurationError: If the waveform is not one-dimensional or has no samples.
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ConfigurationError(f"A waveform of shape {waveform.shape} was given. Give (samples,), at least one.")
    length = round(preset.clip_seconds * preset.sampling_rate)
    clips = [waveform[start : start + length] for start in range(0, len(waveform), length)][: preset.clips]
    if len(clips) > 1 and len(clips[-1]) < preset.fft_length:
        clips.pop()
    window = np.hanning(preset.fft_length + 1)[:-1]
    filters = mel_filters(preset)
    return np.concatenate([_clip_log_mel(clip, window, filters, preset) for clip in clips])


def mel_filters(preset: MelPreset) -> np.ndarray:
    """Return the weights of the mel bands, float64 (fft_length // 2 + 1, bands)."""
    highest = preset.sampling_rate / 2
    corners = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(highest), preset.bands + 2))
    frequencies = np.linspace(0.0, highest, preset.fft_length // 2 + 1)[:, None]
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequencies - lower) / (centre - lower), (upper - frequencies) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (upper - lower))


def _clip_log_mel(clip: np.ndarray, window: np.ndarray, filters: np.ndarray, preset: MelPreset) -> np.ndarray:
    padded = np.pad(clip.astype(np.float64), preset.fft_length // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, preset.fft_length)[:: preset.hop_length]
    decibels = np.empty((len(frames), preset.bands), dtype=np.float32)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        spectra = np.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * window)
        power = np.square(np.abs(spectra)) @ filters
        decibels[start : start + _FRAMES_AT_ONCE] = 10.0 * np.log10(np.maximum(power, preset.floor))
    return decibels


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _LOG_FROM_HERTZ:
        return hertz / _LINEAR_HERTZ
    return _LOG_FROM_MEL + float(np.log(hertz / _LOG_FROM_HERTZ)) * _MELS_PER_LOG


def _mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    bent = _LOG_FROM_HERTZ * np.exp((mel - _LOG_FROM_MEL) / _MELS_PER_LOG)
    return np.where(mel < _LOG_FROM_MEL, mel * _LINEAR_HERTZ, bent)
