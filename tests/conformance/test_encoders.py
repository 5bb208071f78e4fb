"""A whole encoder with adapters at every site reproduces the original research implementation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import BertConfig, BertModel
from vectors import Vectors, adapter_state, assert_close, below

import mmadapters.adapters.register  # noqa: F401
from mmadapters.adapters.adapter_fusion import add_adapter_fusion
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.layer import MultimodalAdapterLayer
from mmadapters.modality import Modality

N_HEADS = 4
SITE_PATHS = {"attention": "attention.output.dropout", "feed_forward": "output.dropout"}
ENCODERS = [
    ("encoder_text_only", "none"),
    ("encoder_complementary_gate", "complementary"),
    ("encoder_gmu_three_modalities", "gmu"),
]


def bert(weights: dict[str, torch.Tensor]) -> BertModel:
    """Return the encoder of a file, its sizes read from its tensors."""
    vocab_size, hidden_size = weights["embeddings.word_embeddings.weight"].shape
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.layer.")),
        num_attention_heads=N_HEADS,
        intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=weights["embeddings.token_type_embeddings.weight"].shape[0],
        layer_norm_eps=1e-12,
    )
    model = BertModel(config)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert not [key for key in missing if "position_ids" not in key and "token_type_ids" not in key]
    return model


@pytest.mark.parametrize(("name", "fusion"), ENCODERS)
def test_encoder_reproduces_the_original(name: str, fusion: str) -> None:
    vectors = Vectors(name)
    encoder = bert(below(vectors.weights, "bert"))
    modalities = [Modality(key, vectors.inputs[key].shape[-1]) for key in vectors.modalities]
    bottleneck_size = vectors.weights["adapter.0.attention.text.down.weight"].shape[0]
    config = MultimodalAdapterConfig(modalities=modalities, fusion=fusion, bottleneck_size=bottleneck_size)
    model = get_peft_model(encoder, config).eval()
    for layer, site, adapter_layer in site_layers(encoder):
        weights = below(vectors.weights, f"adapter.{layer}.{site}")
        adapter_layer.adapter("default").load_state_dict(adapter_state(weights, vectors.modalities), strict=True)

    assert_output(model, vectors)


def test_fused_adapters_reproduce_the_original() -> None:
    vectors = Vectors("encoder_adapter_fusion")
    encoder = bert(below(vectors.weights, "bert"))
    members = [name for name in vectors.modalities if below(vectors.weights, f"adapter.{name}")]
    model = None
    for name in members:
        weights = below(vectors.weights, f"adapter.{name}")
        config = MultimodalAdapterConfig(
            modalities=[Modality(name, vectors.inputs[name].shape[-1])],
            fusion="complementary",
            bottleneck_size=weights["0.attention.text.down.weight"].shape[0],
        )
        if model is None:
            model = get_peft_model(encoder, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        for layer, site, adapter_layer in site_layers(encoder):
            adapter_layer.adapter(name).load_state_dict(
                adapter_state(below(weights, f"{layer}.{site}"), [name]), strict=True
            )
    add_adapter_fusion(model, "fused", members)
    for layer, site, adapter_layer in site_layers(encoder):
        adapter_layer.adapter("fused").load_state_dict(below(vectors.weights, f"fusion.{layer}.{site}"), strict=True)
    assert_output(model.eval(), vectors)


def site_layers(encoder: BertModel) -> Iterator[tuple[int, str, MultimodalAdapterLayer]]:
    for layer in range(encoder.config.num_hidden_layers):
        for site, path in SITE_PATHS.items():
            yield layer, site, encoder.get_submodule(f"encoder.layer.{layer}.{path}")


def assert_output(model: PeftModel, vectors: Vectors) -> None:
    attention_mask = vectors.inputs["attention_mask"]
    with torch.no_grad():
        output = model(
            input_ids=vectors.inputs["input_ids"],
            token_type_ids=vectors.inputs["token_type_ids"],
            attention_mask=attention_mask,
            modality_features={key: vectors.inputs[key] for key in vectors.modalities},
        )

    valid = attention_mask.bool()
    assert_close(output.last_hidden_state[valid], vectors.outputs["last_hidden_state"][valid])
    assert_close(output.pooler_output, vectors.outputs["pooler_output"])
