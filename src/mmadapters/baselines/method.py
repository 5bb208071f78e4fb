"""All methods of a comparison by name: same data, same result, whatever is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmadapters.baselines.adapter_methods import AdaptersMethod, AdaptersTextOnlyMethod
from mmadapters.baselines.full_text import FullTextOnly
from mmadapters.baselines.late_methods import LateConcatMethod, LateGMUMethod
from mmadapters.baselines.linear import LogisticRegressionMethod, MajorityMethod
from mmadapters.baselines.lora_late_fusion import LoraLateFusionMethod
from mmadapters.baselines.mmbt import MMBTMethod
from mmadapters.baselines.result import Method, MethodResult
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.training.fit import ModelSettings

__all__ = ["METHODS", "READ_TEXT_ONLY", "Method", "MethodResult", "build_method"]

METHODS: dict[str, type] = {
    method.name: method
    for method in (
        AdaptersMethod,
        AdaptersTextOnlyMethod,
        MMBTMethod,
        FullTextOnly,
        LoraLateFusionMethod,
        LateGMUMethod,
        LateConcatMethod,
        LogisticRegressionMethod,
        MajorityMethod,
    )
}
"""Every method by its name."""

READ_TEXT_ONLY = ("adapters_text_only", "full_text_only", "majority")
"""Methods that read no modality, whatever the data has: one run a seed is enough."""


def build_method(
    name: str,
    model: ModelSettings,
    adapter: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Method:
    """Return a method, ready to run.

    Args:
        name: One of ``METHODS``.
        model: Backbone, pooling and head.
        adapter: The run's section: options of ``MultimodalAdapterConfig``.
        training: The run's section: options of ``MultimodalTrainingArguments``. Its learning rates are the adapters';
            the other methods have their own, which ``options`` changes.
        options: The method's own: ``training``, ``adapter`` and ``model`` win over the run's sections; others are its
            keys.

    Raises:
        ConfigurationError: If there is no such method, or an option is unknown or cannot be used.
    """
    if name not in METHODS:
        raise ConfigurationError(
            f"There is no method '{name}'.{did_you_mean(str(name), METHODS)} Accepted are {listed(METHODS)}."
        )
    return METHODS[name](model, adapter or {}, training or {}, options or {})
