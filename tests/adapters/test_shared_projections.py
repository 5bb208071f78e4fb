"""Projections that all sites share: the same numbers for fewer parameters, saved once, learned through every site."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_models import (
    CASES,
    MODALITIES,
    B,
    C,
    P,
    adapter_config,
    base_model,
    case_features,
    case_model,
    features,
    logits,
    strong,
    text_inputs,
)
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel

from mmadapters.adapters.bottleneck import SharedProjectionView
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.inputs import ModalityInput
from mmadapters.adapters.shared import AttentionPooling
from mmadapters.errors import ConfigurationError
from mmadapters.modality import Modality

SHARED_CASES = [
    "shared",
    "pre-projected",
    "shared and pre-projected",
    "pre-projected sequence",
    "attention pooling",
    "cross-attention over pooled",
    "own widths, shared",
]
MOVIESCOPE = [Modality("poster", 4096), Modality("trailer", 4096), Modality("audio", 96), Modality("metadata", 312)]


def test_without_rotations_they_are_per_site_projections_with_the_same_weights() -> None:
    shared = case_model("shared")
    for view in (module for module in shared.modules() if isinstance(module, SharedProjectionView)):
        view.weight.data.copy_(torch.eye(2).expand_as(view.weight))
        view.units.copy_(torch.arange(P))
    per_site = get_peft_model(base_model(), adapter_config()).eval()
    state, source = per_site.state_dict(), shared.state_dict()
    for key in state:
        if ".projections." in key:
            _, _, rest = key.partition(".mmadapter_blocks.default.projections.")
            name, _, parameter = rest.partition(".")
            state[key] = source[
                f"base_model.model.multimodal_shared.mmadapter_blocks.default.projections.{name}.bottleneck.{parameter}"
            ]
        else:
            state[key] = source[key]
    per_site.load_state_dict(state)
    mask = {"audio": torch.tensor([True, False, True, True])}
    given = {**text_inputs(), "modality_features": features(), "modality_mask": mask}
    torch.testing.assert_close(logits(per_site, **given), logits(shared, **given), rtol=0, atol=1e-6)


def test_number_of_parameters_is_the_closed_formula() -> None:
    summary = case_model("shared").base_model.adapter_summary()
    for modality in MODALITIES:
        d = modality.feature_dim
        assert summary.parameters[f"{modality.name}, shared by all sites"] == 2 * d + d * P + P
        assert summary.parameters[f"{modality.name}, at each site"] == 4 * P * 2


def test_each_site_has_a_rotation_of_units_of_its_own() -> None:
    views = [SharedProjectionView(64, "gelu") for _ in range(2)]
    for view in views:
        view.reset_parameters()
        torch.testing.assert_close(view.weight @ view.weight.transpose(1, 2), torch.eye(2).expand(32, 2, 2))
        assert view.units.sort().values.tolist() == list(range(64))
    assert views[0].units.tolist() != views[1].units.tolist()
    odd = SharedProjectionView(7, "gelu")
    odd.reset_parameters()
    assert odd.weight.shape == (7, 1, 1)


def test_they_are_saved_once_and_come_back(tmp_path: Path) -> None:
    model = case_model("shared")
    model.save_pretrained(str(tmp_path))
    keys = load_file(tmp_path / "adapter_model.safetensors")
    assert len([key for key in keys if "poster_modality" in key and key.endswith("down.weight")]) == 1
    loaded = PeftModel.from_pretrained(base_model(), str(tmp_path)).eval()
    given = {**text_inputs(), "modality_features": features()}
    assert torch.equal(logits(loaded, **given), logits(model, **given))


def test_they_are_switched_and_deleted_with_their_adapter() -> None:
    model = get_peft_model(base_model(), adapter_config(share_projections=True), adapter_name="first")
    model.add_adapter("second", adapter_config(MODALITIES[:1], share_projections=True))
    strong(model).eval()
    learning = {n for n, p in model.named_parameters() if p.requires_grad and "multimodal_shared" in n}
    assert learning
    assert all(".first." in name for name in learning)
    first = logits(model, **text_inputs(), modality_features=features())
    model.set_adapter("second")
    second = logits(model, **text_inputs(), modality_features=features(MODALITIES[:1]))
    model.set_adapter("first")
    assert torch.equal(logits(model, **text_inputs(), modality_features=features()), first)
    model.set_adapter("second")
    model.delete_adapter("first")
    assert torch.equal(logits(model, **text_inputs(), modality_features=features(MODALITIES[:1])), second)
    assert not [name for name, _ in model.named_parameters() if ".first." in name]


def gradients(model: nn.Module, name: str) -> dict[str, torch.Tensor]:
    model.train()
    model(**text_inputs(), modality_features=case_features(name), labels=torch.arange(B) % C).loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", SHARED_CASES)
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    base = base_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = case_model(name, base)
    plain = gradients(model, name)
    assert any("multimodal_shared" in key for key in plain)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    checkpointed = gradients(model, name)
    assert checkpointed.keys() == plain.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(checkpointed[key], gradient, rtol=1e-5, atol=1e-6)


def test_reentrant_checkpointing_is_refused() -> None:
    model = case_model("shared").train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.raises(ConfigurationError, match="Reentrant gradient checkpointing does not go with projections"):
        model(**text_inputs(), modality_features=features())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model(**text_inputs(), modality_features=features()).logits.sum().backward()


def test_attention_pooling_starts_as_the_mean_and_can_prefer_a_step() -> None:
    pool = AttentionPooling(3)
    pool.reset_parameters()
    steps = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    torch.testing.assert_close(pool(steps, mask)[0], steps[0, :2].mean(dim=0))
    assert (pool(steps, mask)[1] == 0).all()
    steps[0, 1] = torch.tensor([3.0, 0.0, -3.0])
    with torch.no_grad():
        pool.attention.weight.copy_(torch.tensor([[100.0, 0.0, -100.0]]))
    torch.testing.assert_close(pool(steps, mask)[0], steps[0, 1])


def test_a_pre_projection_keeps_missing_modalities_at_zero() -> None:
    model = case_model("pre-projected")
    shared = model.base_model.model.multimodal_shared.shared("default")
    missing = ModalityInput(torch.zeros(2, 20), torch.tensor([False, False]))
    assert (shared.projections["poster_modality"](missing).pooled == 0).all()


@pytest.mark.parametrize(("share", "low", "high"), [(True, 0.0, 0.05), (False, 0.16, 0.18)])
def test_the_share_of_bert_base_with_four_modalities(share: bool, low: float, high: float) -> None:
    with torch.device("meta"):
        encoder = BertModel(BertConfig())
    config = MultimodalAdapterConfig(modalities=MOVIESCOPE, bottleneck_size=64, share_projections=share)
    summary = get_peft_model(encoder, config, low_cpu_mem_usage=True).base_model.adapter_summary()
    assert summary.backbone == 109_482_240
    assert low < summary.share <= high
    assert f"{summary.share:.2%} of the backbone" in str(summary)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "cross_attention", "share_projections": True}, "use pre_projection_size to make its features"),
        ({"fusion": "mag", "share_projections": True}, "share_projections=True is for fusions with a bottleneck"),
        ({"pre_projection_size": 0}, "pre_projection_size=0 must be a whole number of at least 1"),
        ({"fusion": "mag", "modalities": [Modality("a", 3, bottleneck_size=2)]}, "has no bottleneck for a modality"),
        ({"modalities": [Modality("a", 3, pooling="none")]}, "reads one vector per example; use 'mean'"),
    ],
)
def test_options_that_do_not_go_together(options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultimodalAdapterConfig(**{"modalities": MODALITIES, **options})


def test_every_case_with_shared_parameters_is_covered() -> None:
    needs = {n for n, o in CASES.items() if o.keys() & {"share_projections", "pre_projection_size", "pooling"}}
    assert needs == set(SHARED_CASES)
