"""What a modality is called and how wide its features are: the leaf that every other module may import."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from mmadapters.errors import ConfigurationError, did_you_mean, listed

ModalityKind = Literal["vector", "image", "video", "audio", "tabular"]
ModalityPooling = Literal["mean", "attention", "none"]
MODALITY_KINDS: tuple[str, ...] = get_args(ModalityKind)
MODALITY_POOLINGS: tuple[str, ...] = get_args(ModalityPooling)
TEXT = "text"
"""The name under which the text's own gate and projection appear; no modality may have it."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")


@dataclass(frozen=True)
class Modality:
    """One source of information beside the text.

    Attributes:
        name: Key of the modality in ``modality_features`` and ``modality_mask``; letters, digits, ``_`` and ``-``.
        feature_dim: Width ``d_i`` of its feature vector, or of one step of its feature sequence.
        kind: What the features were made from. It changes no computation.
        pooling: How a sequence becomes one vector: ``mean`` over its valid steps, ``attention`` (learned weights over
            them), or ``none`` (it stays a sequence, for cross-attention). Without a value: what the fusion wants.
        bottleneck_size: Width of its own bottleneck, where it differs from the adapter's.
        required: Whether a batch must say something about it. A required modality that is absent from
            ``modality_features`` must be masked for every example; one that is not required is then taken as missing.

    Raises:
        ConfigurationError: If the name, a width, the kind or the pooling cannot be used.
    """

    name: str
    feature_dim: int
    kind: ModalityKind = "vector"
    required: bool = True
    pooling: ModalityPooling | None = None
    bottleneck_size: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"A modality was named {self.name!r}. A name starts with a letter or '_' and goes on with letters, "
                "digits, '_' or '-', for example 'poster'."
            )
        if self.name == TEXT:
            raise ConfigurationError(
                f"A modality was named '{TEXT}', which stands for the encoder's own states. Choose another name."
            )
        if not _is_width(self.feature_dim):
            raise ConfigurationError(
                f"Modality '{self.name}' was given feature_dim={self.feature_dim!r}. It is the width of the feature "
                "vector, a whole number of at least 1."
            )
        if self.kind not in MODALITY_KINDS:
            raise ConfigurationError(
                f"Modality '{self.name}' was given kind={self.kind!r}. Accepted are {listed(MODALITY_KINDS)}."
                f"{did_you_mean(str(self.kind), MODALITY_KINDS)}"
            )

        if self.pooling is not None and self.pooling not in MODALITY_POOLINGS:
            raise ConfigurationError(
                f"Modality '{self.name}' was given pooling={self.pooling!r}. Accepted are {listed(MODALITY_POOLINGS)}."
                f"{did_you_mean(str(self.pooling), MODALITY_POOLINGS)}"
            )
        if self.bottleneck_size is not None and not _is_width(self.bottleneck_size):
            raise ConfigurationError(
                f"Modality '{self.name}' was given bottleneck_size={self.bottleneck_size!r}. It is a whole number of "
                "at least 1, or None for the adapter's."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain values, for JSON."""
        return asdict(self)


def _is_width(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
