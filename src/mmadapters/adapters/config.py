"""The configuration of a multimodal adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from peft import PeftConfig

from mmadapters.adapters.adapter import FUSIONS
from mmadapters.adapters.bottleneck import NON_LINEARITIES
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.modality import Modality


class MultimodalAdapterType(str, Enum):
    """The key of the method in PEFT's tables, and the ``peft_type`` of a saved configuration."""

    MULTIMODAL_ADAPTER = "MULTIMODAL_ADAPTER"


@dataclass
class MultimodalAdapterConfig(PeftConfig):
    """Configuration of gated multimodal adapters inside a frozen text encoder.

    Attributes:
        modalities: What the adapters read beside the text. The order is that of gates and weights and is kept by
            saving and loading. None at all gives the text-only adapter of Houlsby et al. 2019.
        bottleneck_size: Width p of the bottleneck.
        fusion: ``gmu`` (any number of modalities), ``complementary`` (exactly one) or ``none`` (text only). Without a
            value: ``gmu`` where there are modalities, else ``none``.
        non_linearity: ``gelu`` (tanh approximation), ``relu``, ``tanh``, ``swish`` or ``leakyrelu``.
        dropout: Dropout of the fused bottleneck in training, before the up-projection.
        feature_dropout: Dropout of the modalities' normalised features in training, drawn once a forward pass for all
            sites: pre-computed features are wide and the rows often few.
        modality_dropout: Probability with which each modality of each example is made missing in training.
        up_init_std: Standard deviation of the up-projection at the start; with 0 a new adapter changes nothing.
        layers_to_transform: Layers that get adapters, counted from 0, negative numbers from the last; without a value
            all of them.
        modules_to_save: Modules beside the adapters that learn and are saved with them, such as the head. PEFT adds
            ``classifier`` and ``score`` by itself under ``task_type="SEQ_CLS"``.
        encoder_sites: For an encoder that the library does not know: ``{"layers": …, "attention": …, "feed_forward":
            …}``, the path from the encoder to its list of layers and the two paths within a layer of the modules after
            which the adapters sit.

    Raises:
        ConfigurationError: If a value cannot be used; the message lists every problem.
    """

    modalities: list[Modality] = field(default_factory=list)
    bottleneck_size: int = 64
    fusion: str | None = None
    non_linearity: str = "gelu"
    dropout: float = 0.2
    feature_dropout: float = 0.3
    modality_dropout: float = 0.0
    up_init_std: float = 0.02
    layers_to_transform: list[int] | int | None = None
    modules_to_save: list[str] | None = None
    encoder_sites: dict[str, str] | None = None
    # PEFT reads these three of every method. The sites are found by the encoder's type, so they stay empty.
    target_modules: None = field(default=None, repr=False)
    exclude_modules: None = field(default=None, repr=False)
    layers_pattern: None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = MultimodalAdapterType.MULTIMODAL_ADAPTER
        self.modalities = [_as_modality(modality) for modality in self.modalities or []]
        if self.fusion is None:
            self.fusion = "gmu" if self.modalities else "none"
        problems = [*self._modality_problems(), *self._fusion_problems(), *self._value_problems()]
        if problems:
            raise ConfigurationError("MultimodalAdapterConfig: " + " ".join(problems))

    @property
    def modality_names(self) -> list[str]:
        """The names of the modalities, in their order."""
        return [modality.name for modality in self.modalities]

    def _modality_problems(self) -> list[str]:
        names = self.modality_names
        duplicates = list(dict.fromkeys(name for name in names if names.count(name) > 1))
        if not duplicates:
            return []
        return [f"modalities names {listed(duplicates)} more than once; every modality needs a name of its own."]

    def _fusion_problems(self) -> list[str]:
        n_modalities = len(self.modalities)
        if self.fusion not in FUSIONS:
            return [
                f"fusion={self.fusion!r} is unknown; accepted are {listed(FUSIONS)}.{_nearest(self.fusion, FUSIONS)}"
            ]
        if self.fusion == "none" and n_modalities:
            return [
                f"fusion='none' reads text only, but modalities has {listed(self.modality_names)}; use fusion='gmu'."
            ]
        if self.fusion == "complementary" and n_modalities != 1:
            return [f"fusion='complementary' is for exactly one modality, {n_modalities} were given; use fusion='gmu'."]
        if self.fusion != "none" and not n_modalities:
            return [f"fusion={self.fusion!r} needs modalities and none were given; pass some, or fusion='none'."]
        return []

    def _value_problems(self) -> list[str]:
        problems = []
        if not _is_int(self.bottleneck_size) or self.bottleneck_size < 1:
            problems.append(f"bottleneck_size={self.bottleneck_size!r} must be a whole number of at least 1.")
        if self.non_linearity not in NON_LINEARITIES:
            problems.append(
                f"non_linearity={self.non_linearity!r} is unknown; accepted are {listed(NON_LINEARITIES)}."
                f"{_nearest(self.non_linearity, NON_LINEARITIES)}"
            )
        problems += [
            f"{name}={getattr(self, name)!r} must be at least 0 and below 1."
            for name in ("dropout", "feature_dropout", "modality_dropout")
            if not 0.0 <= getattr(self, name) < 1.0
        ]
        if not self.up_init_std >= 0.0:
            problems.append(f"up_init_std={self.up_init_std!r} must be 0 or more.")
        problems += [
            f"{name} is not used by this method: adapters sit after attention and feed-forward block of the layers in "
            "layers_to_transform; for an unknown encoder give encoder_sites."
            for name in ("target_modules", "exclude_modules", "layers_pattern")
            if getattr(self, name) is not None
        ]
        return problems


def _as_modality(value: Any) -> Modality:
    """Return a ``Modality`` from one, or from the dictionary that a saved configuration holds."""
    if isinstance(value, Modality):
        return value
    if isinstance(value, Mapping):
        known = [f.name for f in fields(Modality)]
        unknown = [name for name in value if name not in known]
        if unknown or not {"name", "feature_dim"} <= set(value):
            raise ConfigurationError(
                f"A modality was given as the dictionary {dict(value)!r}. It needs 'name' and 'feature_dim'; accepted "
                f"keys are {listed(known)}."
            )
        return Modality(**value)
    raise ConfigurationError(
        f"modalities has an entry of type {type(value).__name__}: {value!r}. Accepted are Modality objects, for "
        "example Modality('poster', 4096), in a list: a dictionary would lose its order when it is saved."
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _nearest(given: object, accepted: Mapping[str, Any] | Sequence[str]) -> str:
    return did_you_mean(str(given), accepted)
