"""Parameters of a modality that no row of a process has get gradients, of zero: several processes rely on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import get_peft_model

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.family import FUSIONS
from mmadapters.classifier import TextClassifier
from mmadapters.modality import Modality

CASES = [(fusion, options) for fusion in FUSIONS for options in ({}, {"pre_projection_size": 4})] + [
    ("gmu", {"share_projections": True}),
    ("gmu", {"pooling": "attention"}),
]


@pytest.mark.parametrize(("fusion", "options"), CASES)
@pytest.mark.parametrize("steps", [None, 4])
def test_every_trained_parameter_gets_a_gradient(
    tiny_backbone: Path, fusion: str, options: dict, steps: int | None
) -> None:
    options = dict(options)
    pooling = options.pop("pooling", None)
    names = {"none": [], "complementary": ["poster"]}.get(fusion, ["poster", "sound"])
    modalities = [Modality(name, 5, pooling=pooling) for name in names]
    classifier = TextClassifier.from_backbone(
        str(tiny_backbone), problem_type="single_label_classification", labels=["a", "b"]
    )
    config = MultimodalAdapterConfig(
        modalities=modalities, bottleneck_size=8, fusion=fusion, task_type="SEQ_CLS", **options
    )
    model = get_peft_model(classifier, config).train()
    shape = (3,) if steps is None else (3, steps)
    given = {
        "modality_features": {name: torch.zeros(*shape, 5) for name in names},
        "modality_mask": {name: torch.zeros(shape, dtype=torch.bool) for name in names},
    }
    tokens = {"input_ids": torch.tensor([[2, 5, 3]] * 3), "attention_mask": torch.ones(3, 3, dtype=torch.long)}
    model(**tokens, labels=torch.tensor([0, 1, 0]), **(given if names else {}))["loss"].backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
