"""The adapters reproduce the original research implementation layer by layer."""

from __future__ import annotations

import pytest
import torch
from vectors import Vectors, adapter_state, assert_close, gated_state, projected_state

from mmadapters.adapters.adaptation_gate import MultimodalAdaptationGate
from mmadapters.adapters.adapter import MultimodalAdapter, SiteAdapter
from mmadapters.adapters.composition import AttentionAdapterFusion, GatedAdapterFusion
from mmadapters.adapters.cross_attention import CrossAttentionAdapter
from mmadapters.adapters.family import FUSIONS
from mmadapters.adapters.inputs import prepare_inputs
from mmadapters.modality import Modality

LAYERS = [
    ("text_only", "none", "gelu"),
    ("text_only_relu", "none", "relu"),
    ("text_only_tanh", "none", "tanh"),
    ("text_only_swish", "none", "swish"),
    ("text_only_leakyrelu", "none", "leakyrelu"),
    ("complementary_gate", "complementary", "gelu"),
    ("gmu_two_modalities", "gmu", "gelu"),
    ("gmu_three_modalities", "gmu", "gelu"),
]


@pytest.mark.parametrize(("name", "fusion", "non_linearity"), LAYERS)
def test_layer_reproduces_the_original(name: str, fusion: str, non_linearity: str) -> None:
    vectors = Vectors(name)
    hidden_states = vectors.inputs["hidden_states"]
    modalities = [Modality(key, vectors.inputs[key].shape[-1]) for key in vectors.modalities]
    bottleneck_size = vectors.weights["text.down.weight"].shape[0]
    adapter = MultimodalAdapter(
        hidden_states.shape[-1], modalities, bottleneck_size, FUSIONS[fusion].fusion, non_linearity
    )
    adapter.load_state_dict(adapter_state(vectors.weights, vectors.modalities), strict=True)
    features = {key: vectors.inputs[key] for key in vectors.modalities}
    inputs = prepare_inputs(modalities, features, None, len(hidden_states), hidden_states.device, hidden_states.dtype)

    with torch.no_grad():
        update, gates = adapter(hidden_states, inputs, with_gates=True)

    assert_close(hidden_states + update, vectors.outputs["hidden_states"])
    if "update" in vectors.outputs:
        assert_close(update, vectors.outputs["update"])
    for k, key in enumerate(("text", *vectors.modalities)):
        if f"gates.{key}" in vectors.outputs:
            assert gates is not None
            assert_close(gates[:, :, k], vectors.outputs[f"gates.{key}"])


def updated(adapter: SiteAdapter, vectors: Vectors, modalities: list[Modality]) -> torch.Tensor:
    """Return the file's hidden states after the adapter."""
    hidden_states = vectors.inputs["hidden_states"]
    features = {modality.name: vectors.inputs[modality.name] for modality in modalities}
    inputs = prepare_inputs(modalities, features, None, len(hidden_states), hidden_states.device, hidden_states.dtype)
    with torch.no_grad():
        return hidden_states + adapter.eval()(hidden_states, inputs)[0]


def test_cross_attention_reproduces_the_original() -> None:
    vectors = Vectors("cross_attention")
    modalities = [Modality("video", vectors.inputs["video"].shape[-1], pooling="none")]
    bottleneck_size, hidden_size = vectors.weights["query.weight"].shape
    adapter = CrossAttentionAdapter(hidden_size, modalities, bottleneck_size)
    adapter.load_state_dict(projected_state(vectors.weights, "video", ("key.", "value.")), strict=True)
    assert_close(updated(adapter, vectors, modalities), vectors.outputs["hidden_states"])


def test_mag_reproduces_the_original() -> None:
    vectors = Vectors("mag")
    modalities = [Modality("image", vectors.inputs["image"].shape[-1])]
    adapter = MultimodalAdaptationGate(vectors.inputs["hidden_states"].shape[-1], modalities)
    adapter.load_state_dict(projected_state(vectors.weights, "image", ("gate.", "shift.")), strict=True)
    assert_close(updated(adapter, vectors, modalities), vectors.outputs["hidden_states"])


def test_attention_over_adapters_reproduces_the_original() -> None:
    vectors = Vectors("adapter_fusion_attention")
    hidden_states, updates = vectors.inputs["hidden_states"], vectors.inputs["updates"]
    fusion = AttentionAdapterFusion(hidden_states.shape[-1])
    fusion.load_state_dict(vectors.weights, strict=True)
    with torch.no_grad():
        update, weights = fusion(hidden_states, updates)
    assert_close(hidden_states + update, vectors.outputs["hidden_states"])
    assert_close(weights.squeeze(-1), vectors.outputs["attention"])


def test_gates_over_adapters_reproduce_the_original() -> None:
    vectors = Vectors("adapter_fusion_gated")
    hidden_states, updates = vectors.inputs["hidden_states"], vectors.inputs["updates"]
    fusion = GatedAdapterFusion(hidden_states.shape[-1], updates.shape[2], vectors.weights["up.weight"].shape[1])
    fusion.load_state_dict(gated_state(vectors.weights), strict=True)
    with torch.no_grad():
        update, gates = fusion(hidden_states, updates)
    assert_close(hidden_states + update, vectors.outputs["hidden_states"])
    assert_close(gates.sum(dim=2), torch.ones_like(gates[:, :, 0]))
