"""LoRA in the same encoder: PEFT's own mixed models do not know other methods, so it is put in beside the adapters."""

from __future__ import annotations

import warnings
from pathlib import Path

from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    inject_adapter_in_model,
    load_peft_weights,
    set_peft_model_state_dict,
)

from mmadapters.errors import ConfigurationError


def add_lora(model: PeftModel, config: LoraConfig, adapter_name: str = "lora") -> None:
    """Put LoRA into the encoder of a model with multimodal adapters; both learn, and both are saved.

    ``model.save_pretrained(folder)`` writes LoRA to ``folder/<adapter_name>``; ``load_lora`` reads it. LoRA stays on
    whichever multimodal adapter is active, and ``disable_adapter`` switches both off.

    Args:
        model: A PEFT model with multimodal adapters.
        config: Of LoRA, for example ``LoraConfig(target_modules=["query", "value"], r=8)``.
        adapter_name: Its name, which no adapter of the model has.

    Raises:
        ConfigurationError: If there is an adapter of that name.
    """
    if adapter_name in model.peft_config:
        raise ConfigurationError(
            f"The model has an adapter '{adapter_name}' already. Choose another adapter_name for LoRA."
        )
    with warnings.catch_warnings():
        # PEFT warns that it finds another method's configuration, which is the purpose here.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        inject_adapter_in_model(config, model.get_base_model(), adapter_name=adapter_name)


def load_lora(model: PeftModel, folder: str | Path, adapter_name: str = "lora", is_trainable: bool = False) -> None:
    """Load LoRA that was saved with a model of multimodal adapters.

    Args:
        model: The loaded PEFT model with multimodal adapters.
        folder: Where LoRA was saved: ``<folder of the model>/<adapter_name>``.
        adapter_name: Its name in this model.
        is_trainable: Whether it is to learn further.

    Raises:
        ConfigurationError: If there is an adapter of that name, or the folder holds another method.
    """
    config = PeftConfig.from_pretrained(str(folder))
    if not isinstance(config, LoraConfig):
        raise ConfigurationError(f"'{folder}' holds a {type(config).__name__}, not LoRA. Name LoRA's own folder.")
    add_lora(model, config, adapter_name)
    set_peft_model_state_dict(model, load_peft_weights(str(folder)), adapter_name=adapter_name)
    for name, parameter in model.named_parameters():
        if "lora_" in name and f".{adapter_name}." in name:
            parameter.requires_grad_(is_trainable)
