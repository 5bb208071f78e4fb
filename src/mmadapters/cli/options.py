"""Turns the free sections of a run's settings into adapter configuration and training arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmadapters.adapters.config import NOT_FOR_ADAPTER, MultimodalAdapterConfig
from mmadapters.cli.settings import coerce_options
from mmadapters.modality import Modality
from mmadapters.training.arguments import NOT_FOR_TRAINING, MultimodalTrainingArguments
from mmadapters.training.prefix_cache import PrefixCacheOptions

if TYPE_CHECKING:
    from mmadapters.cli.run_config import PrefixCacheConfig


def check_adapter_options(options: Mapping[str, Any], modality_names: Iterable[str]) -> dict[str, Any]:
    """Check the section ``adapter`` before the rows are read, when no modality's width is known.

    Args:
        options: The section.
        modality_names: Of the modalities that the data will have.

    Returns:
        The section with its values brought to their types.

    Raises:
        ConfigurationError: If a key is unknown or a value cannot be used.
    """
    adapter_config(options, [Modality(name, feature_dim=1) for name in modality_names])
    return coerce_options("adapter", MultimodalAdapterConfig, options, exclude=NOT_FOR_ADAPTER)


def prefix_cache_options(settings: PrefixCacheConfig) -> PrefixCacheOptions | None:
    """Return where hidden states are kept, or None where they are not.

    Args:
        settings: The section ``prefix_cache``.
    """
    if not settings.enabled:
        return None
    return PrefixCacheOptions(Path(settings.folder), settings.dtype, round(settings.limit_gb * 1e9))


def adapter_config(options: Mapping[str, Any], modalities: Sequence[Modality]) -> MultimodalAdapterConfig:
    """Return the adapter configuration that the section ``adapter`` describes.

    Args:
        options: The section. ``fusion: none`` trains on the text alone, whatever modalities the rows have.
        modalities: The data's modalities.

    Raises:
        ConfigurationError: If a key is unknown or a value cannot be used.
    """
    checked = coerce_options("adapter", MultimodalAdapterConfig, options, exclude=NOT_FOR_ADAPTER)
    text_only = checked.get("fusion") == "none"
    return MultimodalAdapterConfig(modalities=[] if text_only else list(modalities), **checked)


def training_arguments(options: Mapping[str, Any], seed: int, progress: bool) -> MultimodalTrainingArguments:
    """Return the training arguments that the section ``training`` describes.

    Args:
        options: The section.
        seed: The run's seed.
        progress: Whether progress bars are shown.

    Raises:
        ConfigurationError: If a key is unknown or a value cannot be used.
    """
    return MultimodalTrainingArguments(**coerce_training(options, seed, progress))


def coerce_training(options: Mapping[str, Any], seed: int, progress: bool) -> dict[str, Any]:
    """Return the section ``training`` as keyword arguments of ``MultimodalTrainingArguments``, checked.

    Args:
        options: The section.
        seed: The run's seed.
        progress: Whether progress bars are shown.

    Raises:
        ConfigurationError: If a key is unknown or a value cannot be used.
    """
    checked = coerce_options("training", MultimodalTrainingArguments, options, exclude=NOT_FOR_TRAINING)
    keywords = {"seed": seed, "disable_tqdm": not progress, **checked}
    MultimodalTrainingArguments(**keywords)
    return keywords
