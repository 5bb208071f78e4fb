"""Tiny adapted encoders and inputs for the tests of the adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from mmadapters.adapters.adapter_fusion import add_adapter_fusion
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


FUSIONS = ["gmu", "complementary", "softmax_gmu", "sum", "concat", "cross_attention", "mag"]
CASES: dict[str, dict[str, Any]] = {fusion: {"fusion": fusion} for fusion in FUSIONS} | {
    "shared": {"fusion": "gmu", "share_projections": True},
    "pre-projected": {"fusion": "gmu", "pre_projection_size": 5},
    "shared and pre-projected": {"fusion": "concat", "share_projections": True, "pre_projection_size": 5},
    "pre-projected sequence": {"fusion": "cross_attention", "pre_projection_size": 5},
    "attention pooling": {"fusion": "gmu", "pooling": "attention"},
    "cross-attention over pooled": {"fusion": "cross_attention", "pooling": "attention"},
    "own widths": {"fusion": "gmu", "own_size": 3},
    "own widths, shared": {"fusion": "softmax_gmu", "own_size": 3, "share_projections": True},
    "adapter_fusion_attention": {"fusion": "adapter_fusion_attention"},
    "adapter_fusion_gated": {"fusion": "adapter_fusion_gated"},
}
"""Every way in which text and modalities meet, by name."""


def case_modalities(name: str) -> list[Modality]:
    options = CASES[name]
    chosen = MODALITIES[:1] if options["fusion"] == "complementary" else MODALITIES
    return [replace(m, pooling=options.get("pooling"), bottleneck_size=options.get("own_size")) for m in chosen]


def case_features(name: str, seed: int = 2) -> dict[str, Tensor]:
    """Return features of a case: sequences of three steps where their steps matter, else vectors."""
    if "pooling" not in CASES[name] and CASES[name]["fusion"] != "cross_attention":
        return features(case_modalities(name), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return {m.name: torch.randn(B, 3, m.feature_dim, generator=generator) for m in case_modalities(name)}


def case_model(name: str, base: nn.Module | None = None, **options: Any) -> PeftModel:
    """Return a model with adapters of a case, all weights drawn so that every part matters."""
    base = base_model() if base is None else base
    chosen = {key: value for key, value in CASES[name].items() if key not in ("pooling", "own_size")} | options
    if not name.startswith("adapter_fusion"):
        return strong(get_peft_model(base, adapter_config(case_modalities(name), **chosen))).eval()
    model = get_peft_model(base, adapter_config(MODALITIES[:1], fusion="complementary"), adapter_name="first")
    model.add_adapter("second", adapter_config(MODALITIES[1:], share_projections=True))
    strong(model)
    add_adapter_fusion(model, "default", ["first", "second"], bottleneck_size=P, **chosen)
    strong(model)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith((".query.weight", ".key.weight", ".query.bias")) and ".mmadapter_" in parameter_name:
            # Or the softmax over members is 0 and 1 in float32, and nothing can be learned.
            parameter.data.mul_(0.1)
    return model.eval()


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
