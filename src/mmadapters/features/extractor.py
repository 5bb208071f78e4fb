"""What turns one kind of media into features, and the table of what there is."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.modality import Modality, ModalityKind

if TYPE_CHECKING:
    from mmadapters.features.guard import Limits
    from mmadapters.features.outcome import Decoded

MediaKind = Literal["image", "video", "audio"]
EncoderPooling = Literal["auto", "pooler", "cls", "mean"]

MOVIESCOPE = "moviescope"


@dataclass(frozen=True)
class ExtractorSpec:
    """How one modality's media become features.

    Attributes:
        name: Name of the modality, and of its column in the store.
        kind: ``image``: one file, one vector (D,). ``video``: ``frames`` frames sampled evenly by time, each through
            the image encoder, (T, D). ``audio``: a log-mel spectrogram (T, bands), or with an encoder one vector for
            each clip of ``clip_seconds``, (T, D).
        encoder: For images and video ``efficientnet-lite0``, ``timm:<model>``, a local folder or the name of a model
            on the Hub; for audio a local folder or a Hub name, or None for a log-mel spectrogram.
        revision: Branch, tag or commit of a Hub model.
        pooling: How an encoder's states become one vector. ``pooler`` is its ``pooler_output``, ``cls`` the first
            token, ``mean`` the mean over all tokens or places. ``auto`` is the pooler where the checkpoint holds its
            weights, else the first token where the encoder has one, else the mean.
        frames: Number of frames of a video (Moviescope: 200).
        frame_size: Pixels of a frame's shorter side when it leaves the decoder; None for the video's own. Frames that
            are larger than what the encoder takes only cost time.
        preset: Recipe of the log-mel spectrogram.
        clip_seconds: Length of the clips that an audio encoder is given; the last may be shorter.
        batch_size: Images that are encoded together, or frames of one video.
        device: Where the encoder runs, such as ``cuda:0``; None for CUDA where there is any, else the CPU.

    Raises:
        ConfigurationError: If a value cannot be used.
    """

    name: str
    kind: MediaKind
    encoder: str | None = None
    revision: str | None = None
    pooling: EncoderPooling = "auto"
    frames: int = 32
    frame_size: int | None = 256
    preset: str = MOVIESCOPE
    clip_seconds: float = 10.0
    batch_size: int = 16
    device: str | None = None

    def __post_init__(self) -> None:
        Modality(self.name, feature_dim=1)
        self._check_choice("kind", get_args(MediaKind))
        self._check_choice("pooling", get_args(EncoderPooling))
        if self.encoder is None and self.kind != "audio":
            raise ConfigurationError(
                f"Modality '{self.name}' of kind '{self.kind}' has no encoder. Give 'efficientnet-lite0', a local "
                "folder, the name of a vision model on the Hub or 'timm:<model>'."
            )
        for setting in ("frames", "batch_size", *(() if self.frame_size is None else ("frame_size",))):
            value = getattr(self, setting)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(
                    f"Modality '{self.name}' was given {setting}={value!r}. Give a whole number of at least 1."
                )
        if not 0 < self.clip_seconds < float("inf"):
            raise ConfigurationError(
                f"Modality '{self.name}' was given clip_seconds={self.clip_seconds!r}. Give seconds above 0."
            )

    def _check_choice(self, setting: str, accepted: Sequence[str]) -> None:
        value = getattr(self, setting)
        if value not in accepted:
            raise ConfigurationError(
                f"Modality '{self.name}' was given {setting}={value!r}. Accepted are {listed(accepted)}."
                f"{did_you_mean(str(value), accepted)}"
            )


class Extractor(Protocol):
    """What makes features of one modality.

    Those of ``build_extractor`` also have their ``spec``, from which another machine builds the same one.

    Attributes:
        name: Name of the modality.
        kind: What it is made from.
        feature_dim: Width D of a vector, or of a step.
        is_sequence: Whether an example is (T, D) rather than (D,).
        fingerprint: JSON of all that the features depend on beside the file.
        batch_size: How many decoded files ``encode`` is to be given at once.
        decode: Reads a file in a worker process: picklable, and without torch.
    """

    name: str
    kind: ModalityKind
    feature_dim: int
    is_sequence: bool
    fingerprint: str
    batch_size: int
    decode: Callable[[Path], Decoded]

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Make features of decoded files.

        Args:
            decoded: What ``decode`` returned for each file.

        Returns:
            Float32 (D,) or (T, D) for each.
        """
        ...


_BUILDERS: dict[str, tuple[str, str]] = {
    "image": ("mmadapters.features.image_encoder", "build_image_extractor"),
    "video": ("mmadapters.features.image_encoder", "build_video_extractor"),
    "audio": ("mmadapters.features.audio_encoder", "build_audio_extractor"),
}
"""For each kind the module and the function that builds its extractor; imported when first asked for."""


def build_extractor(spec: ExtractorSpec, limits: Limits | None = None) -> Extractor:
    """Load the encoder of a modality.

    Args:
        spec: How its media become features.
        limits: What a file may be at most; None for the defaults.

    Returns:
        The extractor.

    Raises:
        ConfigurationError: If the encoder does not exist or cannot be used.
        MissingDependencyError: If a package is needed that is not installed.
    """
    from mmadapters.features.guard import Limits

    module, function = _BUILDERS[spec.kind]
    builder: Callable[[ExtractorSpec, Limits], Extractor] = getattr(importlib.import_module(module), function)
    return builder(spec, Limits() if limits is None else limits)


def fingerprint_of(parts: Mapping[str, Any], packages: Sequence[str]) -> str:
    """Return what features depend on as one line of JSON, keys sorted.

    Args:
        parts: Encoder, weights, preprocessing, pooling and sampling, as plain values.
        packages: Distributions that compute them; their versions are taken to the second number.
    """
    versions = {package: version_of(package) for package in packages}
    return json.dumps({**parts, "versions": versions}, sort_keys=True, ensure_ascii=False, default=str)


def version_of(package: str) -> str:
    """Return ``major.minor`` of an installed distribution, or ``none`` where it is not installed."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
    return ".".join(version.split("+")[0].split(".")[:2])


def fingerprint_changes(old: str, new: str, wording: str = "{key} was {old}, is now {new}") -> list[str]:
    """Say in what two fingerprints differ.

    Args:
        old: One fingerprint.
        new: Another.
        wording: How to say it.

    Returns:
        One text for each difference, such as ``frames was 32, is now 16``; nothing where they are equal.
    """
    if old == new:
        return []
    try:
        before, after = _flat(json.loads(old)), _flat(json.loads(new))
    except json.JSONDecodeError:
        return [wording.format(key="the fingerprint", old=repr(old), new=repr(new))]
    return [
        wording.format(key=key, old=before.get(key, "absent"), new=after.get(key, "absent"))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, where: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {where: value}
    entries: dict[str, Any] = {}
    for key, entry in value.items():
        entries |= _flat(entry, f"{where}.{key}" if where else str(key))
    return entries
