"""Checks the free sections that a method is given: a misspelt option is an error, not a silent default."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Union, get_args, get_origin, get_type_hints

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings

TRAINING, ADAPTER, MODEL = "training", "adapter", "model"
SECTIONS = {TRAINING: MultimodalTrainingArguments, ADAPTER: MultimodalAdapterConfig, MODEL: ModelSettings}
"""Sections of a method's options that override the run's, and whose fields they have."""
DECIDED_ELSEWHERE = {
    TRAINING: {"seed", "output_dir", "remove_unused_columns", "label_names"},
    ADAPTER: {
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
    },
    MODEL: {"backbone"},
}
"""Fields that the data, the seed or the run's folder decide, and the backbone, which all methods share."""
MULTIMODAL_ONLY = ("fusion", "feature_dropout", "modality_dropout", "share_projections", "pre_projection_size")
"""Options of adapters that say nothing where only the text is read."""


@dataclass(frozen=True)
class MethodSettings:
    """What a method is made from.

    Attributes:
        model: Backbone, pooling and head: the run's, and over them the method's own.
        adapter: Options of ``MultimodalAdapterConfig``: the run's, and over them the method's own.
        training: Options of ``MultimodalTrainingArguments``: the run's, over them the method's defaults, and over them
            the method's own.
        own: The method's other options, checked.
    """

    model: ModelSettings
    adapter: dict[str, Any]
    training: dict[str, Any]
    own: Any

    def arguments(self, seed: int, output_dir: str | None = None) -> MultimodalTrainingArguments:
        """Return the training arguments of a run.

        Args:
            seed: Of the run.
            output_dir: Where checkpoints go; None for a temporary folder.
        """
        chosen = {"disable_tqdm": True, **self.training, "seed": seed}
        return MultimodalTrainingArguments(output_dir=output_dir, **chosen)


@dataclass(frozen=True)
class NoOptions:
    """A method without options of its own."""


class ConfiguredMethod:
    """A method with its sections checked; what the sections are about is said by the class.

    Args:
        model: Backbone, pooling and head.
        adapter: The run's options of the adapters.
        training: The run's training options.
        options: The method's own, which win.

    Attributes:
        name: Of the method.
        own_options: Dataclass of its options that are in no section.
        sections: The sections of a run that its own options may override.
        defaults: Its training options that take the place of the run's, which are made for adapters.
        weak_defaults: Its training options where the run names none.

    Raises:
        ConfigurationError: With a list of every unknown key and unfitting value.
    """

    name: str
    own_options: Callable[..., Any] = NoOptions
    sections: tuple[str, ...] = (TRAINING,)
    defaults: Mapping[str, Any] = types.MappingProxyType({})
    weak_defaults: Mapping[str, Any] = types.MappingProxyType({})

    def __init__(
        self,
        model: ModelSettings,
        adapter: Mapping[str, Any],
        training: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        self.settings = method_settings(
            self.name,
            model,
            adapter,
            training,
            options,
            own=type(self).own_options,
            defaults=self.defaults,
            weak_defaults=self.weak_defaults,
            sections=self.sections,
        )


def method_settings(
    name: str,
    model: ModelSettings,
    adapter: Mapping[str, Any],
    training: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    own: Callable[..., Any] = NoOptions,
    defaults: Mapping[str, Any] | None = None,
    weak_defaults: Mapping[str, Any] | None = None,
    sections: Iterable[str] = (TRAINING,),
) -> MethodSettings:
    """Check the sections of a run and a method's options, and put them together.

    Args:
        name: Of the method, for messages.
        model: Backbone, pooling and head.
        adapter: The run's section.
        training: The run's section.
        options: The method's: ``training``, ``adapter`` and ``model`` as far as it has these sections, and keys of
            ``own``.
        own: Dataclass of the method's other options.
        defaults: Training options of the method that take the place of the run's, which are made for adapters.
        weak_defaults: Training options of the method where the run names none.
        sections: Those that the method reads.

    Raises:
        ConfigurationError: With a list of every unknown key and unfitting value.
    """
    problems: list[str] = []
    given = _own_sections(name, options, sections, problems)
    run_adapter = _without(ADAPTER, adapter)
    checked_training = _checked(TRAINING, SECTIONS[TRAINING], _without(TRAINING, training), problems)
    checked_adapter = _checked(ADAPTER, SECTIONS[ADAPTER], run_adapter, problems) if ADAPTER in sections else {}
    accepted = [*sections, *(entry.name for entry in fields(own))]  # type: ignore[arg-type]
    others = {key: value for key, value in options.items() if key not in sections}
    overrides = {
        section: _checked(f"{name}.{section}", SECTIONS[section], values, problems) for section, values in given.items()
    }
    checked_own = _checked(name, own, others, problems, accepted)
    if problems:
        raise ConfigurationError(
            f"The method '{name}' cannot be set up:\n" + "\n".join(f"- {problem}" for problem in problems)
        )
    return MethodSettings(
        replace(model, **overrides.get(MODEL, {})),
        {**checked_adapter, **overrides.get(ADAPTER, {})},
        {**(weak_defaults or {}), **checked_training, **(defaults or {}), **overrides.get(TRAINING, {})},
        own(**checked_own),
    )


def _own_sections(
    name: str, options: Mapping[str, Any], sections: Iterable[str], problems: list[str]
) -> dict[str, dict[str, Any]]:
    """Return the sections among a method's options; ``training: null`` is none."""
    given = {}
    for section in sections:
        values = options.get(section) or {}
        if isinstance(values, Mapping):
            given[section] = dict(values)
        else:
            problems.append(f"{name}.{section} is {values!r}; expected is a mapping of keys to values.")
    return given


def _without(section: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's section without what is decided for each method anew."""
    return {key: value for key, value in options.items() if key not in DECIDED_ELSEWHERE[section]}


def _checked(
    where: str, cls: Any, options: Mapping[str, Any], problems: list[str], accepted: Iterable[str] | None = None
) -> dict[str, Any]:
    section = where.rpartition(".")[2]
    names = [entry.name for entry in fields(cls) if entry.init and entry.name not in DECIDED_ELSEWHERE.get(section, ())]
    allowed = list(accepted) if accepted is not None else names
    hints = get_type_hints(cls)
    checked = {}
    for key, value in options.items():
        if key not in names:
            problems.append(
                f"{where}.{key} is unknown.{did_you_mean(str(key), allowed)} Accepted are {listed(allowed)}."
            )
        elif not _fits(hints[key], converted := _number(hints[key], value)):
            problems.append(f"{where}.{key} is {value!r}; expected is {_described(hints[key])}.")
        else:
            checked[key] = converted
    return checked


def _number(hint: Any, value: Any) -> Any:
    """Return the number that a text stands for where a number is expected: YAML reads 1e-4 as text."""
    if isinstance(value, list):
        inner = get_args(hint)[0] if get_origin(hint) is list and get_args(hint) else Any
        return [_number(inner, entry) for entry in value]
    kinds = _members(hint)
    if isinstance(value, bool) or str in kinds or float not in kinds or not isinstance(value, str | int):
        return value
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _fits(hint: Any, value: Any) -> bool:
    """Return whether a plain value may be given; what is no plain type is left to the class to check."""
    for kind in _members(hint):
        origin = get_origin(kind) or kind
        if kind is Any or origin not in (bool, int, float, str, list, dict, type(None)):
            return True
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return True
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return True
        if origin is list and isinstance(value, list | tuple):
            inner = get_args(kind)
            if not inner or all(_fits(inner[0], entry) for entry in value):
                return True
        elif origin in (bool, str, dict, type(None)) and isinstance(value, origin):
            return True
    return False


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _described(hint: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
    shown = []
    for kind in _members(hint):
        inner = get_args(kind)
        if get_origin(kind) is list:
            shown.append(f"a list of which each entry is {_described(inner[0])}")
        else:
            shown.append("a mapping" if (get_origin(kind) or kind) is dict else names.get(kind, str(kind)))
    return " or ".join(shown)
