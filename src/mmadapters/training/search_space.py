"""What a search may choose: for each option a range or a list of choices, and a space that is searched without one.

Options are named by section and field: ``adapter.bottleneck_size``, ``training.learning_rate``, ``model.head``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from peft import PeftConfig

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.family import FUSIONS
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.modality import Modality
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SECTIONS: dict[str, type] = {
    "adapter": MultimodalAdapterConfig,
    "training": MultimodalTrainingArguments,
    "model": ModelSettings,
}
"""Where an option may belong, and the dataclass that has it as a field."""

NOT_SEARCHED = {
    # What PEFT fills in, what the data decides, and what names places for adapters.
    "adapter": {
        *(entry.name for entry in fields(PeftConfig)),
        *("modalities", "members", "labels", "problem_type", "modules_to_save", "encoder_sites"),
        *("target_modules", "exclude_modules", "layers_pattern"),
    },
    # What trials are compared by has to be the same in all of them.
    "training": {
        *("output_dir", "logging_dir", "seed", "data_seed", "report_to", "run_name", "disable_tqdm"),
        *("metric_for_best_model", "greater_is_better", "load_best_model_at_end", "eval_strategy", "eval_steps"),
        *("remove_unused_columns", "label_names", "use_cpu"),
    },
    # Another encoder has another tokenizer: its rows would be others.
    "model": {"backbone"},
}
"""Fields that a search may not choose."""

BOTTLENECK_SIZES = (16, 32, 64, 128, 256)
SHARES_OF_LAYERS = (1, 2, 3)
"""All layers, the last half, the last third."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        low: The smallest.
        high: The largest.
        step: Distance of the numbers that are tried; without one all of a float's, and every whole number.
        log: Whether small numbers are as likely as large ones (uniform in the logarithm).

    Raises:
        ConfigurationError: If there is no such range.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.low) and math.isfinite(self.high)):
            raise ConfigurationError(f"low={self.low!r} must be below high={self.high!r}, and both finite.")
        if self.log and not self.low > 0:
            raise ConfigurationError(f"log=True needs a low above 0, and it is {self.low!r}.")
        if self.step is not None and (self.log or not 0 < self.step <= self.high - self.low):
            raise ConfigurationError(
                f"step={self.step!r} must be above 0 and at most high - low, and cannot be combined with log=True."
            )


@dataclass(frozen=True)
class Choices:
    """One of several values: text, numbers, true and false, None, or lists.

    Attributes:
        values: At least two different ones.

    Raises:
        ConfigurationError: If there are fewer.
    """

    values: Sequence[Any]

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence):
            raise ConfigurationError(f"choices={self.values!r} must be a list.")
        storable = [encoded(value) for value in self.values]
        if len(storable) < 2 or any(value in storable[:index] for index, value in enumerate(storable)):
            raise ConfigurationError(f"choices={list(self.values)!r} must be at least two different values.")


OptionSpace = Range | Choices


def full_space(
    named: Mapping[str, OptionSpace],
    fixed: Mapping[str, Mapping[str, Any]],
    modalities: Sequence[Modality],
    n_layers: int,
    with_default: bool = True,
) -> dict[str, OptionSpace]:
    """Return what is searched: what was named, and of the default space what is neither named nor fixed.

    Args:
        named: Options that the user wants searched.
        fixed: Options that the user gave a value, by section.
        modalities: Of the data.
        n_layers: Of the encoder.
        with_default: Whether the default space is there at all.

    Raises:
        ConfigurationError: If a named option cannot be searched, or nothing is left to search.
    """
    problems = [problem for name, option in named.items() for problem in _problems(name, option)]
    if problems:
        raise ConfigurationError("The search space cannot be used:\n" + "\n".join(f"- {line}" for line in problems))
    default = default_space(fixed.get("adapter", {}), modalities, n_layers) if with_default else {}
    given = {f"{section}.{name}" for section, options in fixed.items() for name in options}
    space = {name: option for name, option in default.items() if name not in named and name not in given}
    space |= {name: _typed(name, option) for name, option in named.items()}
    if not space:
        raise ConfigurationError(
            "There is nothing to search: every option of the default space has a fixed value, and the search space "
            f"names none. Name some of them, or take their values out: {listed(default or SECTIONS)}."
        )
    return space


def default_space(adapter: Mapping[str, Any], modalities: Sequence[Modality], n_layers: int) -> dict[str, OptionSpace]:
    """Return what is searched where the user names nothing.

    Args:
        adapter: The adapter's options as the user gave them; they decide which fusions can be used.
        modalities: Of the data.
        n_layers: Of the encoder.
    """
    read = [] if adapter.get("fusion") == "none" else list(modalities)
    space: dict[str, OptionSpace] = {"adapter.bottleneck_size": Choices(BOTTLENECK_SIZES)}
    fusions = usable_fusions(adapter, read)
    if len(fusions) > 1:
        space["adapter.fusion"] = Choices(fusions)
    space["adapter.dropout"] = Range(0.0, 0.5, step=0.05)
    if read:
        space["adapter.modality_dropout"] = Range(0.0, 0.5, step=0.05)
    layers = layer_choices(n_layers)
    if len(layers) > 1:
        space["adapter.layers_to_transform"] = Choices(layers)
    space["training.learning_rate"] = Range(3e-4, 1e-2, log=True)
    space["training.head_learning_rate_multiplier"] = Range(1.0, 10.0, log=True)
    return space


def usable_fusions(adapter: Mapping[str, Any], modalities: Sequence[Modality]) -> list[str]:
    """Return the fusions that can be built for the modalities with the other options of the adapter."""
    usable = []
    for fusion in FUSIONS:
        try:
            MultimodalAdapterConfig(**{**adapter, "modalities": list(modalities), "fusion": fusion})
        except ConfigurationError:
            continue
        usable.append(fusion)
    return usable


def layer_choices(n_layers: int) -> list[list[int] | None]:
    """Return lists of an encoder's last layers: all of them (None), half, a third; each once."""
    counts = dict.fromkeys(n_layers // share for share in SHARES_OF_LAYERS if n_layers // share)
    return [None if count == n_layers else list(range(n_layers - count, n_layers)) for count in counts]


def distribution(name: str, option: OptionSpace) -> BaseDistribution:
    """Return an option's space as Optuna has it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(option, Choices):
        return CategoricalDistribution([encoded(value) for value in option.values])
    if field_type(name) is int:
        return IntDistribution(int(option.low), int(option.high), log=option.log, step=int(option.step or 1))
    return FloatDistribution(option.low, option.high, log=option.log, step=option.step)


def contains(name: str, option: OptionSpace, value: Any) -> bool:
    """Return whether a value of an option is one that the search may choose."""
    if isinstance(option, Choices):
        return encoded(value) in [encoded(choice) for choice in option.values]
    if not isinstance(value, int | float) or isinstance(value, bool) or not option.low <= value <= option.high:
        return False
    step = option.step or (1 if field_type(name) is int else None)
    steps = 0.0 if step is None else (value - option.low) / step
    return math.isclose(steps, round(steps), abs_tol=1e-8)


def decoded(option: OptionSpace, stored: Any) -> Any:
    """Return the value of an option that ``encoded`` made storable."""
    if isinstance(option, Choices):
        return next(value for value in option.values if encoded(value) == stored)
    # Steps add up to numbers such as 0.30000000000000004.
    return stored if option.step is None or isinstance(stored, int) else float(f"{stored:.12g}")


def encoded(value: Any) -> Any:
    """Return a value of a kind that Optuna can store: itself, or JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value)


def extremes(option: OptionSpace) -> list[Any]:
    """Return the values by which it is checked that a space can be used: all choices, or both ends."""
    return list(option.values) if isinstance(option, Choices) else [option.low, option.high]


@cache
def searchable(section: str) -> list[str]:
    """Return the fields of a section that a search may choose."""
    return sorted(
        entry.name for entry in fields(SECTIONS[section]) if entry.init and entry.name not in NOT_SEARCHED[section]
    )


@cache
def field_type(name: str) -> type | None:
    """Return ``int`` or ``float`` for an option that takes such numbers, else None."""
    section, _, field_name = name.partition(".")
    hint = _hints(section)[field_name]
    members = get_args(hint) or (hint,)
    return float if float in members else int if int in members else None


@cache
def _hints(section: str) -> dict[str, Any]:
    return get_type_hints(SECTIONS[section])


def _typed(name: str, option: OptionSpace) -> OptionSpace:
    """Return an option's space with whole numbers where the option takes no others."""
    if isinstance(option, Choices) or field_type(name) is not int:
        return option
    return Range(int(option.low), int(option.high), None if option.step is None else int(option.step), option.log)


def _problems(name: str, option: OptionSpace) -> Iterator[str]:
    """Yield what is wrong with a named option, values aside."""
    section, _, field_name = name.partition(".")
    if section not in SECTIONS:
        near = did_you_mean(section, SECTIONS)
        yield f"'{name}' is unknown.{near} Options are named by section and field; sections are {listed(SECTIONS)}."
    elif field_name in NOT_SEARCHED[section]:
        yield f"'{name}' cannot be searched; it is the same in all trials. Take it out, or give it under {section}."
    elif field_name not in searchable(section):
        near = did_you_mean(field_name, searchable(section))
        yield f"'{name}' is unknown.{near} Accepted are the options of {SECTIONS[section].__name__}."
    elif isinstance(option, Range):
        kind = field_type(name)
        if kind is None:
            yield f"'{name}' is no number: give choices, not low and high."
        elif kind is int and any(
            part is not None and part != int(part) for part in (option.low, option.high, option.step)
        ):
            yield f"'{name}' is a whole number, and so must low, high and step be; {option} was given."
