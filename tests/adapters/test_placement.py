"""Which layers and sites have adapters, which of them are left out at inference, and the summary of it all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_models import (
    P,
    adapted,
    adapter_config,
    base_model,
    case_model,
    features,
    logits,
    strong,
    text_inputs,
)
from peft import PeftModel, get_peft_model

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.errors import ConfigurationError

INPUTS = {**text_inputs(), "modality_features": features()}


def places(model: PeftModel) -> list[tuple[int, str]]:
    return [(site.layer, site.name) for site in model.base_model.site_maps["default"].sites]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(0, "attention"), (0, "feed_forward"), (1, "attention"), (1, "feed_forward")]),
        ({"sites": ["feed_forward"]}, [(0, "feed_forward"), (1, "feed_forward")]),
        ({"sites": ["attention"], "layers_to_transform": -1}, [(1, "attention")]),
        ({"sites": ["feed_forward", "attention"], "layers_to_transform": [0]}, [(0, "attention"), (0, "feed_forward")]),
    ],
)
def test_adapters_sit_where_they_were_asked_for(options: dict, expected: list, tmp_path: Path) -> None:
    model = adapted(**options)
    assert places(model) == expected
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(base_model(), str(tmp_path)).eval()
    assert places(loaded) == expected
    assert torch.equal(logits(loaded, **INPUTS), logits(model, **INPUTS))
    with torch.no_grad():
        gates = model(**INPUTS, output_gates=True).gates
    assert gates.shape[1] == len(expected) == len(model.base_model.site_layers)


def test_layers_left_out_are_as_if_they_had_no_adapter() -> None:
    model = adapted()
    upper = get_peft_model(base_model(), adapter_config(layers_to_transform=[1])).eval()
    state = model.state_dict()
    upper.load_state_dict({key: state[key] for key in upper.state_dict()})
    whole = logits(model, **INPUTS)
    model.base_model.set_leave_out([0])
    assert torch.equal(logits(model, **INPUTS), logits(upper, **INPUTS))
    with torch.no_grad():
        assert model(**INPUTS, output_gates=True).gates.shape[1] == 2
    assert model.base_model.site_layers == [1, 1]
    model.base_model.set_leave_out([])
    assert torch.equal(logits(model, **INPUTS), whole)


def test_layers_are_left_out_in_evaluation_only_and_the_choice_is_saved(tmp_path: Path) -> None:
    base = base_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = strong(get_peft_model(base, adapter_config(leave_out=[-1]))).eval()
    dropped = logits(model, **INPUTS)
    model.train()
    whole = logits(model, **INPUTS)
    assert (whole - dropped).abs().max() > 1e-3
    model.eval()
    model.save_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["leave_out"] == [-1]
    assert torch.equal(logits(PeftModel.from_pretrained(base_model(), str(tmp_path)).eval(), **INPUTS), dropped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": []}, r"sites=\[\] must be a list of at least one of 'attention', 'feed_forward'"),
        ({"sites": ["mlp"]}, r"sites=\['mlp'\]"),
        ({"sites": "attention"}, r"sites='attention'"),
        ({"leave_out": 3}, r"leave_out=3 must be a list of layer numbers"),
        ({"labels": ["a", "a"]}, r"labels=\['a', 'a'\] must be a list of different names"),
    ],
)
def test_choices_that_cannot_be_made(options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultimodalAdapterConfig(**options)


def test_leaving_out_a_layer_that_does_not_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"leave_out=\[7\] does not fit an encoder of 2 layers"):
        adapted().base_model.set_leave_out([7])


def test_the_summary_counts_every_parameter_once() -> None:
    model = adapted()
    summary = model.adapter_summary()
    assert summary.parameters == {
        "text bottleneck": 4 * (2 * 32 + 32 * P + P + P * 32 + 32),
        "poster, at each site": 4 * (2 * 20 + 20 * P + P),
        "audio, at each site": 4 * (2 * 6 + 6 * P + P),
        "metadata, at each site": 4 * (2 * 5 + 5 * P + P),
        "fusion": 4 * (4 * P) ** 2,
        "head": 32 * 3 + 3,
    }
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert summary.adapters + summary.parameters["head"] == trainable
    assert summary.bytes == 4 * trainable
    assert summary.backbone == sum(p.numel() for p in base_model().bert.parameters())
    printed = str(summary)
    assert "adapter 'default': gmu, 4 sites in layers 0, 1" in printed
    assert "reads: poster (20), audio (6), metadata (5)" in printed
    assert json.loads(json.dumps(summary.to_dict()))["share_of_backbone"] == summary.adapters / summary.backbone


@pytest.mark.parametrize("name", ["mag", "cross_attention", "concat", "sum", "adapter_fusion_gated"])
def test_the_summary_of_every_form_counts_what_learns(name: str) -> None:
    model = case_model(name)
    summary = model.adapter_summary()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert summary.adapters + summary.parameters["head"] == trainable
    assert ("members, frozen" in summary.parameters) == name.startswith("adapter_fusion")


def test_the_size_on_disk_is_the_summary_s(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(str(tmp_path))
    size = (tmp_path / "adapter_model.safetensors").stat().st_size
    assert 0 < size - model.adapter_summary().bytes < 15_000
