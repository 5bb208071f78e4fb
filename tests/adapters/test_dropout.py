"""Dropout of features and of the bottleneck: in training only, drawn once a pass, and of the right expectation."""

from __future__ import annotations

import pytest
import torch
from adapter_models import adapter_config, base_model, features, strong, text_inputs
from peft import PeftModel, get_peft_model

from mmadapters.adapters.bottleneck import normalise
from mmadapters.adapters.inputs import ModalityInput


def undropped_backbone(**options: float) -> PeftModel:
    base = base_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return strong(get_peft_model(base, adapter_config(**options))).eval()


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"feature_dropout": 0.5}])
def test_it_acts_in_training_only(options: dict) -> None:
    model, plain = undropped_backbone(**options), undropped_backbone()
    inputs = {**text_inputs(), "modality_features": features()}
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, rtol=0, atol=0)
        model.train(), plain.train()
        torch.testing.assert_close(plain(**inputs).logits, plain(**inputs).logits, rtol=0, atol=0)
        assert not torch.allclose(model(**inputs).logits, model(**inputs).logits)


def test_features_are_dropped_once_a_pass_and_keep_their_expectation() -> None:
    pooled = torch.randn(200, 50)
    modality = ModalityInput(pooled, torch.ones(200, dtype=torch.bool), dropout=0.3)
    dropped = modality.normalised
    assert modality.normalised is dropped
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.02)
    torch.testing.assert_close(dropped[kept], normalise(pooled)[kept] / 0.7)
