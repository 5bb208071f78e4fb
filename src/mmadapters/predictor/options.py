"""Options of other parts that a predictor hands on: adapters, training, head, extractors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmadapters.adapters.config import NOT_FOR_ADAPTER, MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.features.extractor import ExtractorSpec
from mmadapters.modality import Modality
from mmadapters.predictor.fit_settings import FitSettings
from mmadapters.training.arguments import NOT_FOR_TRAINING, MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings

_NOT_FOR_EXTRACTOR = ("name", "kind")
_NOT_FOR_MODEL = ("backbone",)


def check_options(settings: FitSettings, modalities: Iterable[str]) -> None:
    """Look for what can be wrong with options before work is done for nothing.

    Args:
        settings: What a fit was told.
        modalities: Names of what the adapters will read.

    Raises:
        ConfigurationError: If an option is unknown or cannot be used, or the backbone cannot be loaded.
    """
    adapter_config(settings.adapter, [Modality(name, feature_dim=1) for name in modalities])
    training_arguments(settings.training, {}, settings.seed, progress=False)
    load_tokenizer(model_settings(settings.backbone, settings.model).backbone)


def adapter_config(options: Any, modalities: Sequence[Modality]) -> MultimodalAdapterConfig:
    """Return the configuration of the adapters.

    Args:
        options: Fields of ``MultimodalAdapterConfig``, or None.
        modalities: What they read beside the text.

    Raises:
        ConfigurationError: If an option is unknown or cannot be used.
    """
    checked = checked_options("adapter", options, MultimodalAdapterConfig, NOT_FOR_ADAPTER)
    return MultimodalAdapterConfig(modalities=[] if reads_text_alone(checked) else list(modalities), **checked)


def reads_text_alone(options: Any) -> bool:
    """Tell whether adapters are asked for that read nothing but the text.

    Args:
        options: Fields of ``MultimodalAdapterConfig``, or None.
    """
    return isinstance(options, Mapping) and options.get("fusion") == "none"


def training_arguments(options: Any, defaults: Mapping[str, Any], seed: int, progress: bool) -> Any:
    """Return the arguments of the training.

    Args:
        options: Fields of ``MultimodalTrainingArguments``, or None; they win.
        defaults: Those that follow from the data.
        seed: Of initialisation and order.
        progress: Whether to show progress bars.

    Raises:
        ConfigurationError: If an option is unknown or cannot be used.
    """
    checked = checked_options("training", options, MultimodalTrainingArguments, NOT_FOR_TRAINING)
    # An evaluation by steps makes no sense beside a choice of epochs, and the other way round.
    theirs = {"eval_strategy", "eval_steps", "save_strategy", "save_steps"} & set(checked)
    chosen = {name: value for name, value in defaults.items() if not (theirs and name.startswith(("eval_s", "save_s")))}
    return MultimodalTrainingArguments(**{"seed": seed, "disable_tqdm": not progress, **chosen, **checked})


def model_settings(backbone: str, options: Any) -> ModelSettings:
    """Return backbone, pooling and head.

    Args:
        backbone: Alias, folder or name on the Hub.
        options: Fields of ``ModelSettings``, or None.

    Raises:
        ConfigurationError: If an option is unknown.
    """
    return ModelSettings(backbone=backbone, **checked_options("model", options, ModelSettings, _NOT_FOR_MODEL))


def extractor_options(options: Any, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return by modality how its media become features, where it differs from the defaults.

    Args:
        options: By modality, fields of ``ExtractorSpec``; or None.
        modalities: Names of the modalities that are made from media.

    Raises:
        ConfigurationError: If a modality or an option is unknown.
    """
    names = list(modalities)
    if options is not None and not isinstance(options, Mapping):
        raise ConfigurationError(f"extractors={options!r} cannot be used. Give options by modality.")
    found = {}
    for name, own in (options or {}).items():
        if name not in names:
            raise ConfigurationError(
                f"extractors names '{name}', and the modalities that are made from media are {listed(names)}."
                f"{did_you_mean(str(name), names)}"
            )
        found[name] = checked_options(f"extractors['{name}']", own, ExtractorSpec, _NOT_FOR_EXTRACTOR)
    return found


def checked_options(setting: str, options: Any, cls: type, exclude: Iterable[str]) -> dict[str, Any]:
    """Return options that are fields of a dataclass.

    Args:
        setting: Their name, for messages.
        options: A mapping, or None for none.
        cls: The dataclass.
        exclude: Fields that are no options.

    Raises:
        ConfigurationError: If they are no mapping, or one is unknown.
    """
    if options is None:
        return {}
    accepted = sorted({field.name for field in dataclasses.fields(cls) if field.init} - set(exclude))
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{setting}={options!r} cannot be used. Give a dictionary of options.")
    for name in options:
        if name not in accepted:
            raise ConfigurationError(
                f"{setting} has no option '{name}'.{did_you_mean(str(name), accepted)} Accepted are {listed(accepted)}."
            )
    return dict(options)
