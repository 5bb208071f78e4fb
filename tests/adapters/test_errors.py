"""Every refusal says what was given, what is accepted and what to change."""

from __future__ import annotations

import pytest
import torch
from adapter_models import MODALITIES, B, adapted, adapter_config, base_model, bert_config, features, text_inputs
from peft import get_peft_model
from torch import nn
from transformers import BertModel, T5Config, T5EncoderModel

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.errors import ConfigurationError, InputError, UnsupportedBackboneError
from mmadapters.modality import Modality

POSTER = Modality("poster", 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": [POSTER, POSTER]}, r"names 'poster' more than once"),
        ({"modalities": {"poster": 20}}, r"in a list: a dictionary would lose its order"),
        ({"modalities": [{"name": "poster"}]}, r"needs 'name' and 'feature_dim'"),
        ({"modalities": [{"name": "poster", "feature_dim": 3, "width": 3}]}, r"accepted\s+keys are 'name'"),
        ({"fusion": "gmv", "modalities": [POSTER]}, r"fusion='gmv' is unknown.*Did you mean 'gmu'"),
        (
            {"fusion": "complementary", "modalities": MODALITIES},
            r"exactly one modality, 3 were given",
        ),
        ({"fusion": "none", "modalities": [POSTER]}, r"reads text only"),
        ({"fusion": "gmu"}, r"needs modalities and none were given"),
        ({"bottleneck_size": 0}, r"bottleneck_size=0 must be a whole number of at least 1"),
        ({"non_linearity": "gleu"}, r"non_linearity='gleu' is unknown.*Did you mean 'gelu'"),
        ({"modality_dropout": 1.0}, r"modality_dropout=1.0 must be at least 0 and below 1"),
        ({"dropout": -0.1}, r"dropout=-0.1 must be at least 0 and below 1"),
        ({"up_init_std": -1.0}, r"up_init_std=-1.0 must be 0 or more"),
        ({"target_modules": ["query"]}, r"target_modules is not used by this method"),
    ],
)
def test_configuration(options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultimodalAdapterConfig(**options)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        MultimodalAdapterConfig(bottleneck_size=-1, non_linearity="sine", fusion="magic")
    assert all(word in str(caught.value) for word in ("bottleneck_size=-1", "'sine'", "'magic'"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("9lives", 3), r"named '9lives'. A name starts with a letter"),
        (("a.b", 3), r"named 'a.b'"),
        (("text", 3), r"named 'text', which stands for the encoder's own states"),
        (("poster", 0), r"feature_dim=0.*at least 1"),
        (("poster", True), r"feature_dim=True"),
        (("poster", 3, "picture"), r"kind='picture'. Accepted are 'vector', 'image'"),
    ],
)
def test_modality(arguments: tuple, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Modality(*arguments)


def with_nan(value: float) -> torch.Tensor:
    values = torch.zeros(B, 20)
    values[[1, 3], 5] = value
    return values


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"modality_features": {"postre": torch.zeros(1)}},
            r"'postre', which is no modality.*Did you mean 'poster'",
        ),
        ({"modality_mask": {"posters": torch.ones(B)}}, r"modality_mask has the key 'posters'.*Did you mean 'poster'"),
        ({"modality_features": torch.zeros(B, 20)}, r"modality_features is a Tensor. It must be a dictionary"),
        ({"modality_features": {"poster": torch.zeros(B, 19)}}, r"shape \(4, 19\).*made for \(B, 20\).*feature|19\)"),
        ({"modality_features": {"poster": torch.zeros(B)}}, r"shape \(4,\)"),
        ({"modality_features": {"poster": torch.zeros(B + 1, 20)}}, r"has 5 examples, the text has 4"),
        ({"modality_features": {"poster": [[0.0] * 20] * B}}, r"is a list. It must be a float tensor \(B, 20\)"),
        ({"modality_features": {"poster": with_nan(float("nan"))}}, r"'poster'\] is NaN or infinite in .* \[1, 3\]"),
        ({"modality_features": {"poster": with_nan(float("inf"))}}, r"'poster'\] is NaN or infinite in .* \[1, 3\]"),
        ({}, r"modality_features has no 'poster' \(given: none\).*required=False"),
        (
            {"modality_features": {"poster": torch.zeros(B, 20)}, "modality_mask": {"poster": torch.ones(B + 1)}},
            r"modality_mask\['poster'\] is \(5,\). It must be a bool tensor \(4,\)",
        ),
        (
            {"modality_features": {"poster": torch.zeros(B, 20)}, "modality_mask": {"poster": torch.ones(B, 3)}},
            r"names steps, but the\s+features \(4, 20\) are one vector",
        ),
        (
            {"modality_features": {"poster": torch.zeros(B, 2, 20)}, "modality_mask": {"poster": torch.ones(B, 3)}},
            r"names 3 steps, the features \(4, 2, 20\) have\s+2",
        ),
        ({"modality_features": {"poster": torch.zeros(B, 20)}, "output_gates": "all"}, r"output_gates='all'. Accepted"),
    ],
)
def test_batches(inputs: dict, message: str) -> None:
    model = adapted([POSTER])
    with pytest.raises(InputError, match=f"(?s){message}"):
        model(**text_inputs(), **inputs)


def test_an_absent_modality_that_is_not_required_is_missing() -> None:
    optional = [Modality("poster", 20, required=False)]
    model = adapted(optional)
    with torch.no_grad():
        absent = model(**text_inputs()).logits
        masked = model(
            **text_inputs(),
            modality_features=features(optional),
            modality_mask={"poster": torch.zeros(B, dtype=torch.bool)},
        ).logits
    assert torch.equal(absent, masked)


def test_no_text() -> None:
    with pytest.raises(InputError, match="without input_ids"):
        adapted([POSTER])(modality_features=features([POSTER]))


def test_gates_of_a_text_only_adapter() -> None:
    with pytest.raises(InputError, match="fusion='none' and no gates"):
        adapted([])(**text_inputs(), output_gates=True)


def test_gates_of_two_active_adapters() -> None:
    model = adapted([POSTER], task_type=None)
    model.add_adapter("second", adapter_config([POSTER], task_type=None))
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(InputError, match="exactly one active adapter, active are 'default', 'second'"):
        model(**text_inputs(), modality_features=features([POSTER]), output_gates=True)


def test_an_encoder_called_past_its_model() -> None:
    model = adapted([POSTER])
    with pytest.raises(InputError, match="outside of its model's forward pass"):
        model.get_base_model().bert(**text_inputs())


def test_an_unknown_encoder() -> None:
    encoder = T5EncoderModel(T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4))
    with pytest.raises(UnsupportedBackboneError) as caught:
        get_peft_model(encoder, adapter_config(task_type=None))
    message = str(caught.value)
    assert "T5EncoderModel (model_type 't5')" in message
    assert all(word in message for word in ("'bert'", "'roberta'", "encoder_sites={'layers'", "ENCODER_SITES"))
    assert isinstance(caught.value, ConfigurationError)


def test_an_encoder_by_paths() -> None:
    encoder = T5EncoderModel(T5Config(vocab_size=90, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)).eval()
    sites = {"layers": "encoder.block", "attention": "layer.0.dropout", "feed_forward": "layer.1.dropout"}
    with torch.no_grad():
        expected = encoder(**text_inputs()).last_hidden_state
        model = get_peft_model(encoder, adapter_config(task_type=None, encoder_sites=sites, up_init_std=0.0)).eval()
        actual = model(**text_inputs(), modality_features=features()).last_hidden_state
    assert torch.equal(actual, expected)
    assert model.base_model.site_layers == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ({"layers": "encoder.layer"}, r"has the keys 'layers'. It needs exactly 'layers', 'attention', 'feed_forward'"),
        (
            {"layers": "layers", "attention": "a", "feed_forward": "b"},
            r"Lists of layers were found at 'encoder.layer'",
        ),
        (
            {"layers": "encoder.layer", "attention": "attention.dropout", "feed_forward": "output.dropout"},
            r"no module 'attention.dropout' for the site 'attention'. Its modules are .*'attention.output.dropout'",
        ),
    ],
)
def test_wrong_paths(sites: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        get_peft_model(BertModel(bert_config()), adapter_config(task_type=None, encoder_sites=sites))


@pytest.mark.parametrize("layers", [[2], [-3], []])
def test_layers_that_do_not_exist(layers: list[int]) -> None:
    with pytest.raises(ConfigurationError, match="an encoder of 2 layers. Accepted are indices from -2 to 1"):
        get_peft_model(base_model(), adapter_config(layers_to_transform=layers))


@pytest.mark.parametrize("name", ["encoder", "classifier", "text", "up", "weight", "my.adapter"])
def test_adapter_names_that_collide_with_the_model(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"named '{name}'.*Choose another name"):
        get_peft_model(base_model(), adapter_config(), adapter_name=name)
    model = adapted()
    with pytest.raises(ConfigurationError, match=rf"named '{name}'"):
        model.add_adapter(name, adapter_config())
    assert list(model.peft_config) == ["default"]
    assert isinstance(model, nn.Module)
