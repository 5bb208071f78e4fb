"""The configuration of a multimodal adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

from peft import PeftConfig

from mmadapters.adapters.bottleneck import NON_LINEARITIES
from mmadapters.adapters.composition import COMPOSITIONS
from mmadapters.adapters.family import FUSIONS
from mmadapters.adapters.sites import SITE_NAMES
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.modality import Modality, ModalityPooling

NOT_FOR_ADAPTER = (
    "modalities",
    "members",
    "labels",
    "problem_type",
    "task_type",
    "peft_type",
    "peft_version",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "target_modules",
    "exclude_modules",
    "layers_pattern",
)
"""Fields of the configuration that PEFT fills in, or that follow from the data: no options for a person who trains."""


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
        fusion: ``gmu``, ``softmax_gmu``, ``sum``, ``concat``, ``cross_attention`` or ``mag`` for any number of
            modalities, ``complementary`` for exactly one, ``none`` for the text alone; ``adapter_fusion_attention`` and
            ``adapter_fusion_gated`` for ``members``. Without a value: ``gmu`` where there are modalities, else
            ``none``.
        non_linearity: ``gelu`` (tanh approximation), ``relu``, ``tanh``, ``swish`` or ``leakyrelu``.
        dropout: Dropout of the fused bottleneck in training, before the up-projection.
        feature_dropout: Dropout of the modalities' normalised features in training, drawn once a forward pass for all
            sites: pre-computed features are wide and the rows often few.
        modality_dropout: Probability with which each modality of each example is made missing in training.
        up_init_std: Standard deviation of the up-projection at the start; with 0 a new adapter changes nothing.
        share_projections: Whether LayerNorm and down-projection of a modality are shared by all sites.
        pre_projection_size: Common width to which every modality is projected first, once for all sites.
        sites: ``attention`` and ``feed_forward``: behind which blocks of a layer adapters sit.
        layers_to_transform: Layers that get adapters, counted from 0, negative numbers from the last; without a value
            all of them.
        leave_out: Layers whose adapters are skipped in evaluation mode, which makes inference faster (adapter dropping,
            Rücklé et al. 2021, https://arxiv.org/abs/2010.11918).
        labels: Labels of this adapter's own task, where they are others than the model's; it then has a head of its own
            width. For models that can make heads, such as ``TextClassifier``.
        problem_type: Of this adapter's own task.
        members: For the two AdapterFusions: the adapters that are fused, frozen; ``add_adapter_fusion`` fills it in.
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
    share_projections: bool = False
    pre_projection_size: int | None = None
    sites: list[str] = field(default_factory=lambda: list(SITE_NAMES))
    layers_to_transform: list[int] | int | None = None
    leave_out: list[int] = field(default_factory=list)
    labels: list[str] | None = None
    problem_type: str | None = None
    members: list[AdapterMember] = field(default_factory=list)
    modules_to_save: list[str] | None = None
    encoder_sites: dict[str, str] | None = None
    # PEFT reads these three of every method. The sites are found by the encoder's type, so they stay empty.
    target_modules: None = field(default=None, repr=False)
    exclude_modules: None = field(default=None, repr=False)
    layers_pattern: None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = MultimodalAdapterType.MULTIMODAL_ADAPTER
        self.members = [_as_member(member) for member in self.members or []]
        self.modalities = [_as_modality(modality) for modality in self.modalities or []]
        if self.is_composed and not self.modalities:
            self.modalities = _united([member.config.modalities for member in self.members])
        if self.fusion is None:
            self.fusion = "gmu" if self.modalities else "none"
        problems = [*self._modality_problems(), *self._fusion_problems(), *self._value_problems()]
        if problems:
            raise ConfigurationError("MultimodalAdapterConfig: " + " ".join(problems))

    @property
    def modality_names(self) -> list[str]:
        """The names of the modalities, in their order."""
        return [modality.name for modality in self.modalities]

    @property
    def is_composed(self) -> bool:
        """Whether the adapter fuses members (AdapterFusion)."""
        return self.fusion in COMPOSITIONS

    @property
    def gate_names(self) -> list[str]:
        """What ``output_gates`` reports, in its order; empty where the fusion has no gates."""
        if self.is_composed:
            return [member.name for member in self.members]
        return ["text", *self.modality_names] if FUSIONS[self.fusion or "none"].has_gates else []

    @property
    def prepared_modalities(self) -> list[Modality]:
        """The modalities with their pooling settled: by default what the fusion reads, a mean or the sequence."""
        default: ModalityPooling = "none" if FUSIONS[self.fusion or "none"].reads == "raw_steps" else "mean"
        return [replace(modality, pooling=modality.pooling or default) for modality in self.modalities]

    def _modality_problems(self) -> list[str]:
        names = self.modality_names
        duplicates = list(dict.fromkeys(name for name in names if names.count(name) > 1))
        if not duplicates:
            return []
        return [f"modalities names {listed(duplicates)} more than once; every modality needs a name of its own."]

    def _fusion_problems(self) -> list[str]:
        if self.is_composed:
            return self._composition_problems()
        if self.fusion not in FUSIONS:
            accepted = [*FUSIONS, *COMPOSITIONS]
            return [
                f"fusion={self.fusion!r} is unknown; accepted are {listed(accepted)}.{_nearest(self.fusion, accepted)}"
            ]
        if self.members:
            return [f"members are for fusion={listed(COMPOSITIONS)}; with fusion={self.fusion!r} give modalities."]
        return [*self._count_problems(), *self._option_problems()]

    def _count_problems(self) -> list[str]:
        n_modalities, wanted = len(self.modalities), FUSIONS[self.fusion or "none"].n_modalities
        if self.fusion == "none" and n_modalities:
            return [
                f"fusion='none' reads text only, but modalities has {listed(self.modality_names)}; use fusion='gmu'."
            ]
        if wanted and n_modalities != wanted:
            return [f"fusion='complementary' is for exactly one modality, {n_modalities} were given; use fusion='gmu'."]
        if wanted is None and not n_modalities:
            return [f"fusion={self.fusion!r} needs modalities and none were given; pass some, or fusion='none'."]
        return []

    def _option_problems(self) -> list[str]:
        family, problems = FUSIONS[self.fusion or "none"], []
        if self.share_projections and not family.has_bottleneck:
            problems.append(
                f"share_projections=True is for fusions with a bottleneck for each modality, and {self.fusion!r} has "
                "none; use pre_projection_size to make its features narrower once for all sites."
            )
        for modality in self.modalities:
            if modality.bottleneck_size is not None and not family.has_bottleneck:
                problems.append(
                    f"modality '{modality.name}' has bottleneck_size={modality.bottleneck_size}, but fusion="
                    f"{self.fusion!r} has no bottleneck for a modality; leave it out."
                )
            if modality.pooling == "none" and family.reads != "raw_steps":
                problems.append(
                    f"modality '{modality.name}' has pooling='none', but fusion={self.fusion!r} reads one vector per "
                    "example; use 'mean' or 'attention', or fusion='cross_attention'."
                )
        return problems

    def _composition_problems(self) -> list[str]:
        names = [member.name for member in self.members]
        problems = []
        if len(names) < 2 or len(set(names)) < len(names):
            problems.append(
                f"fusion={self.fusion!r} fuses at least two adapters with different names, members has "
                f"{listed(names) if names else 'none'}; add_adapter_fusion(model, name, members) fills it in."
            )
        problems += [
            f"member '{member.name}' is itself an AdapterFusion; name its members instead."
            for member in self.members
            if member.config.is_composed
        ]
        if self.share_projections or self.pre_projection_size:
            problems.append(f"share_projections and pre_projection_size belong to the members of {self.fusion!r}.")
        if self.modalities != _united([member.config.modalities for member in self.members]):
            problems.append("modalities are those of the members; leave them out, or mend members of one name.")
        return problems

    def _value_problems(self) -> list[str]:
        problems = [
            f"{name}={value!r} must be a whole number of at least 1."
            for name, value in (("bottleneck_size", self.bottleneck_size), *self._optional_sizes())
            if not _is_int(value) or value < 1
        ]
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
        if isinstance(self.sites, str) or not self.sites or not set(self.sites) <= set(SITE_NAMES):
            problems.append(f"sites={self.sites!r} must be a list of at least one of {listed(SITE_NAMES)}.")
        if not isinstance(self.leave_out, list) or not all(_is_int(layer) for layer in self.leave_out):
            problems.append(f"leave_out={self.leave_out!r} must be a list of layer numbers.")
        if self.labels is not None and (not self.labels or len(set(self.labels)) < len(self.labels)):
            problems.append(f"labels={self.labels!r} must be a list of different names, at least one.")
        problems += [
            f"{name} is not used by this method: adapters sit after attention and feed-forward block of the layers in "
            "layers_to_transform; for an unknown encoder give encoder_sites."
            for name in ("target_modules", "exclude_modules", "layers_pattern")
            if getattr(self, name) is not None
        ]
        return problems

    def _optional_sizes(self) -> list[tuple[str, Any]]:
        return [] if self.pre_projection_size is None else [("pre_projection_size", self.pre_projection_size)]


@dataclass
class AdapterMember:
    """One of the adapters that an AdapterFusion fuses.

    Attributes:
        name: Its name in the fusion.
        config: The configuration that it was trained with.
    """

    name: str
    config: MultimodalAdapterConfig


def _as_member(value: Any) -> AdapterMember:
    """Return a member from one, or from the dictionary that a saved configuration holds."""
    if isinstance(value, AdapterMember):
        return value
    if isinstance(value, Mapping) and set(value) == {"name", "config"}:
        config = value["config"]
        return AdapterMember(
            value["name"], config if isinstance(config, MultimodalAdapterConfig) else MultimodalAdapterConfig(**config)
        )
    raise ConfigurationError(
        f"members has the entry {value!r}. Accepted are AdapterMember objects: a name and a configuration."
    )


def _united(lists: Sequence[Sequence[Modality]]) -> list[Modality]:
    """Return the modalities of several adapters, each once, in the order of their first appearance."""
    united: dict[str, Modality] = {}
    for modality in (modality for modalities in lists for modality in modalities):
        known = united.setdefault(modality.name, modality)
        if known.feature_dim != modality.feature_dim:
            raise ConfigurationError(
                f"Two members read a modality '{modality.name}', one {known.feature_dim} and the other "
                f"{modality.feature_dim} wide. One batch has one of them: give them different names before training."
            )
    return list(united.values())


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
