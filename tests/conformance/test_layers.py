"""The adapters reproduce the original research implementation layer by layer."""

from __future__ import annotations

import pytest
import torch
from vectors import Vectors, adapter_state, assert_close

from mmadapters.adapters.adapter import MultimodalAdapter
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
    adapter = MultimodalAdapter(hidden_states.shape[-1], modalities, bottleneck_size, fusion, non_linearity)
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
