"""Features of sound: log-mel spectrograms, or a frozen audio encoder's vector for each clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmadapters.errors import ConfigurationError
from mmadapters.features.decoding import LogMelDecoder, WaveformDecoder
from mmadapters.features.extractor import Extractor, ExtractorSpec, fingerprint_of
from mmadapters.features.guard import Limits
from mmadapters.features.mel import mel_preset
from mmadapters.features.outcome import Decoded
from mmadapters.modality import ModalityKind

if TYPE_CHECKING:
    import torch

SHORTEST_CLIP = 0.1
"""Seconds. A shorter clip is filled up with silence, and left out where it is not the only one."""


class LogMelExtractor:
    """A log-mel spectrogram (T, bands) a file, computed in the worker process; see ``Extractor``.

    Args:
        spec: What was asked for.
        limits: What a file may be at most.
    """

    kind: ModalityKind = "audio"
    is_sequence = True
    batch_size = 1

    def __init__(self, spec: ExtractorSpec, limits: Limits) -> None:
        preset = mel_preset(spec.preset)
        self.spec = spec
        self.name = spec.name
        self.feature_dim = preset.bands
        self.decode: Callable[[Path], Decoded] = LogMelDecoder(preset, limits)
        self.fingerprint = fingerprint_of(
            {"kind": self.kind, "encoder": "log-mel", "preprocessing": asdict(preset)},
            ("numpy", "soundfile", "soxr", "av"),
        )

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the spectrograms as they are, float32 (T, bands)."""
        return [np.asarray(spectrogram, dtype=np.float32) for spectrogram in decoded]


class AudioEncoderExtractor:
    """A transformers audio encoder's vector for each clip, (T, D) a file; see ``Extractor``.

    Each clip is encoded by itself, so that no padding and no other clip changes its features.

    Args:
        spec: What was asked for.
        limits: What a file may be at most.

    Raises:
        ConfigurationError: If model or feature extractor cannot be loaded.
    """

    kind: ModalityKind = "audio"
    is_sequence = True
    batch_size = 1

    def __init__(self, spec: ExtractorSpec, limits: Limits) -> None:
        from mmadapters.features.pretrained import PretrainedEncoder, choose_device

        assert spec.encoder is not None
        self._device = choose_device(spec.device)
        self._encoder = PretrainedEncoder(spec.encoder, spec.revision, self._device)
        self._processor = _feature_extractor(spec.encoder, spec.revision)
        self._rate = int(self._processor.sampling_rate)
        self._clip = max(1, round(spec.clip_seconds * self._rate))
        self._shortest = min(self._clip, round(SHORTEST_CLIP * self._rate))
        output = self._forward(np.zeros(self._clip, dtype=np.float32))
        self._pooling = self._encoder.choose_pooling(spec.pooling, output)
        self.spec = spec
        self.name = spec.name
        self.feature_dim = int(self._pooling(output).shape[-1])
        self.decode: Callable[[Path], Decoded] = WaveformDecoder(self._rate, limits)
        self.fingerprint = fingerprint_of(
            {
                "kind": self.kind,
                "encoder": type(self._encoder.model).__name__,
                "weights": self._encoder.digest(),
                "pooling": self._pooling.name,
                "preprocessing": self._processor.to_dict(),
                "sampling": {"clip_seconds": spec.clip_seconds, "sampling_rate": self._rate},
            },
            ("torch", "transformers", "numpy", "soundfile", "soxr", "av"),
        )

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return float32 (T, D) for each waveform, float32 mono at the encoder's own rate."""
        return [np.concatenate([self._vector(clip) for clip in self._clips(wave)]) for wave in decoded]

    def _clips(self, waveform: np.ndarray) -> list[np.ndarray]:
        wave = waveform.reshape(-1)
        starts = range(0, max(1, len(wave)), self._clip)
        clips = [wave[start : start + self._clip] for start in starts]
        if len(clips) > 1 and len(clips[-1]) < self._shortest:
            clips.pop()
        return [np.pad(clip, (0, max(0, self._shortest - len(clip)))) for clip in clips]

    def _vector(self, clip: np.ndarray) -> np.ndarray:
        pooled: torch.Tensor = self._pooling(self._forward(clip))
        return pooled.float().cpu().numpy()

    def _forward(self, clip: np.ndarray) -> Any:
        import torch

        inputs = self._processor(clip, sampling_rate=self._rate, return_tensors="pt")
        main = inputs[self._processor.model_input_names[0]].to(self._device)
        with torch.inference_mode():
            return self._encoder.model(main)


def build_audio_extractor(spec: ExtractorSpec, limits: Limits) -> Extractor:
    """Return the extractor of a modality of the kind ``audio``; see ``build_extractor``."""
    return LogMelExtractor(spec, limits) if spec.encoder is None else AudioEncoderExtractor(spec, limits)


def _feature_extractor(name: str, revision: str | None) -> Any:
    from transformers import AutoFeatureExtractor

    try:
        processor = AutoFeatureExtractor.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(
            f"The feature extractor of '{name}' cannot be loaded: {reason} It needs a preprocessor_config.json."
        ) from error
    if not hasattr(processor, "sampling_rate"):
        raise ConfigurationError(
            f"'{name}' is no audio encoder: its {type(processor).__name__} has no sampling rate. Give a model that "
            "reads sound, such as Wav2Vec2 or AST."
        )
    return processor
