"""Tiny adapted encoders and inputs for the tests of the adapters."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.modality import Modality

B, L, H, P, C = 4, 7, 32, 8, 3
MODALITIES = [Modality("poster", 20), Modality("audio", 6), Modality("metadata", 5)]


def bert_config(**changes: Any) -> BertConfig:
    return BertConfig(
        **{
            "vocab_size": 90,
            "hidden_size": H,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "num_labels": C,
            "initializer_range": 0.2,
            **changes,
        }
    )


def base_model(seed: int = 0, **changes: Any) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    return BertForSequenceClassification(bert_config(**changes)).eval()


def adapter_config(modalities: list[Modality] | None = None, **options: Any) -> MultimodalAdapterConfig:
    chosen = MODALITIES if modalities is None else modalities
    return MultimodalAdapterConfig(
        modalities=chosen,
        **{"bottleneck_size": P, "task_type": "SEQ_CLS", "dropout": 0.0, "feature_dropout": 0.0, **options},
    )


def strong(model: nn.Module, seed: int = 5) -> nn.Module:
    """Draw adapter weights large enough for every part to matter in the output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".mmadapter_" in name:
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def adapted(modalities: list[Modality] | None = None, **options: Any) -> PeftModel:
    return strong(get_peft_model(base_model(), adapter_config(modalities, **options))).eval()


def text_inputs(batch_size: int = B, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch_size, L, dtype=torch.long)
    mask[0, 4:] = 0
    return {"input_ids": torch.randint(0, 90, (batch_size, L), generator=generator), "attention_mask": mask}


def features(modalities: list[Modality] | None = None, batch_size: int = B, seed: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chosen = MODALITIES if modalities is None else modalities
    return {m.name: torch.randn(batch_size, m.feature_dim, generator=generator) for m in chosen}


def logits(model: nn.Module, **inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits
