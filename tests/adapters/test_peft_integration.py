"""The method behaves as users of PEFT expect, and the encoder stays what it was."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from adapter_models import (
    MODALITIES,
    B,
    C,
    H,
    L,
    P,
    adapted,
    adapter_config,
    base_model,
    bert_config,
    features,
    logits,
    strong,
    text_inputs,
)
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import BertModel, ElectraConfig, ElectraModel, RobertaConfig, RobertaModel

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.layer import MultimodalAdapterLayer
from mmadapters.errors import ConfigurationError
from mmadapters.modality import Modality

UNSORTED = [Modality("zebra", 4), Modality("apple", 9), Modality("mango", 6)]
"""Names whose alphabetical order is not their order."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def train_some_steps(model: nn.Module, steps: int = 3) -> None:
    model.train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-2)
    for _ in range(steps):
        labels = torch.arange(B) % C
        model(**text_inputs(), modality_features=features(), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def test_training_moves_adapters_and_head_and_nothing_else() -> None:
    base = base_model()
    original = copy.deepcopy(base.state_dict())
    model = get_peft_model(base, adapter_config())
    before = {name: p.detach().clone() for name, p in trainable(model).items()}
    train_some_steps(model)
    for name, p in trainable(model).items():
        assert not torch.equal(p, before[name]), f"{name} did not learn"
    after = {key.replace(".original_module.", "."): value for key, value in base.state_dict().items()}
    for key, value in original.items():
        assert torch.equal(after[key], value), key


def test_every_trainable_parameter_receives_a_gradient() -> None:
    model = adapted().train()
    model(**text_inputs(), modality_features=features(), labels=torch.arange(B) % C).loss.backward()
    without = [name for name, p in trainable(model).items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_number_of_trainable_parameters_is_the_closed_formula() -> None:
    m = len(MODALITIES)
    text = 2 * H + H * P + P
    projections = sum(2 * modality.feature_dim + modality.feature_dim * P + P for modality in MODALITIES)
    gates = ((1 + m) * P) ** 2
    up = P * H + H
    head = H * C + C
    expected = 2 * 2 * (text + projections + gates + up) + head
    assert sum(p.numel() for p in trainable(get_peft_model(base_model(), adapter_config())).values()) == expected


def test_a_zero_up_projection_changes_nothing() -> None:
    base = base_model()
    expected = logits(base, **text_inputs())
    model = get_peft_model(base, adapter_config(up_init_std=0.0)).eval()
    assert torch.equal(logits(model, **text_inputs(), modality_features=features()), expected)


@pytest.mark.parametrize("task_type", ["SEQ_CLS", None])
def test_disable_adapter_gives_the_base_model(task_type: str | None) -> None:
    base = base_model()
    expected = logits(base, **text_inputs())
    model = strong(get_peft_model(base, adapter_config(task_type=task_type))).eval()
    inputs = {**text_inputs(), "modality_features": features()}
    with_adapter = logits(model, **inputs)
    assert (with_adapter - expected).abs().max() > 1e-2
    with model.disable_adapter():
        assert torch.equal(logits(model, **inputs), expected)
        assert torch.equal(logits(model, **text_inputs()), expected)
    assert torch.equal(logits(model, **inputs), with_adapter)


@pytest.mark.parametrize("task_type", ["SEQ_CLS", None])
def test_save_and_load_give_the_same_numbers(tmp_path: Path, task_type: str | None) -> None:
    options = {} if task_type else {"modules_to_save": ["classifier"]}
    model = strong(get_peft_model(base_model(), adapter_config(UNSORTED, task_type=task_type, **options)))
    model.train()
    inputs = {**text_inputs(), "modality_features": features(UNSORTED)}
    optimizer = torch.optim.SGD(trainable(model).values(), lr=0.1)
    model(**inputs, labels=torch.arange(B) % C).loss.backward()
    optimizer.step()
    model.eval()
    model.save_pretrained(str(tmp_path))

    loaded = PeftModel.from_pretrained(base_model(), str(tmp_path)).eval()
    assert torch.equal(logits(loaded, **inputs), logits(model, **inputs))
    keys = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert keys
    assert all(".mmadapter_blocks." in key or ".classifier." in key for key in keys)
    assert not any("default" in key for key in keys)


def test_the_order_of_modalities_survives_sorted_keys(tmp_path: Path) -> None:
    model = adapted(UNSORTED)
    model.save_pretrained(str(tmp_path))
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert list(written) == sorted(written)
    config = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(config, MultimodalAdapterConfig)
    assert config.modalities == UNSORTED
    inputs = {**text_inputs(), "modality_features": features(UNSORTED), "output_gates": "full"}
    loaded = PeftModel.from_pretrained(base_model(), str(tmp_path)).eval()
    with torch.no_grad():
        ours, theirs = model(**inputs).gates, loaded(**inputs).gates
    assert list(theirs[0]) == ["text", "zebra", "apple", "mango"]
    for site, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(site[name], other[name]) for name in site)


def test_a_second_adapter_is_added_switched_to_and_deleted(tmp_path: Path) -> None:
    other_modalities = [Modality("table", 11)]
    model = adapted()
    first_inputs = {**text_inputs(), "modality_features": features()}
    second_inputs = {**text_inputs(), "modality_features": features(other_modalities)}
    first = logits(model, **first_inputs)

    model.add_adapter("second", adapter_config(other_modalities, fusion="complementary", bottleneck_size=4))
    for name, parameter in model.named_parameters():
        if ".second." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    assert torch.equal(logits(model, **first_inputs), first)
    model.set_adapter("second")
    second = logits(model, **second_inputs)
    assert all(".second." in name for name in trainable(model))
    model.save_pretrained(str(tmp_path))
    assert all(".default." not in key for key in load_file(tmp_path / "second" / "adapter_model.safetensors"))

    alone = PeftModel.from_pretrained(base_model(), str(tmp_path / "second")).eval()
    assert torch.equal(logits(alone, **second_inputs), second)
    renamed = PeftModel.from_pretrained(base_model(), str(tmp_path), adapter_name="movies").eval()
    renamed.load_adapter(str(tmp_path / "second"), adapter_name="tables")
    assert torch.equal(logits(renamed, **first_inputs), first)
    renamed.set_adapter("tables")
    assert torch.equal(logits(renamed, **second_inputs), second)

    model.set_adapter("default")
    model.delete_adapter("second")
    assert list(model.peft_config) == ["default"]
    assert not [name for name, _ in model.named_parameters() if "second" in name]
    assert torch.equal(logits(model, **first_inputs), first)


def test_deleting_the_active_adapter_makes_the_other_one_active() -> None:
    model = adapted()
    model.add_adapter("second", adapter_config([]))
    with pytest.warns(UserWarning, match="active which is now deleted"):
        model.delete_adapter("default")
    assert model.active_adapters == ["second"]
    assert logits(model, **text_inputs()).shape == (B, C)


def test_two_active_adapters_add_their_updates() -> None:
    model = adapted([], task_type=None)
    model.add_adapter("second", adapter_config([], task_type=None))
    model.base_model.set_adapter(["default", "second"])
    layer = next(m for m in model.modules() if isinstance(m, MultimodalAdapterLayer))
    states = torch.randn(B, L, H)
    with torch.no_grad():
        expected = states + sum(layer.adapter(name)(states, {})[0] for name in ("default", "second"))
        torch.testing.assert_close(layer(states), expected)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_gives_the_gradients_of_each_forward_pass(use_reentrant: bool) -> None:
    model = get_peft_model(base_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), adapter_config())
    strong(model).train()
    batches = [features(seed=2), features(seed=3)]

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        losses = [model(**text_inputs(), modality_features=batch, labels=torch.arange(B) % C).loss for batch in batches]
        sum(losses).backward()
        return {name: p.grad.clone() for name, p in trainable(model).items()}

    expected = gradients()
    base = model.get_base_model()
    base.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    base.enable_input_require_grads()
    checkpointed = gradients()
    assert model.base_model.context.state is None
    for name, gradient in expected.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_copies_and_pickles_are_independent() -> None:
    model = adapted()
    inputs = {**text_inputs(), "modality_features": features()}
    expected = logits(model, **inputs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other, **inputs), expected)
        assert other.base_model.context is not model.base_model.context
        layers = [m for m in other.modules() if isinstance(m, MultimodalAdapterLayer)]
        assert all(layer.context is other.base_model.context for layer in layers)


def test_unload_gives_the_base_model_back() -> None:
    base = base_model()
    keys = set(base.state_dict())
    expected = logits(base, **text_inputs())
    model = get_peft_model(base, adapter_config(task_type=None))
    restored = model.unload()
    assert set(restored.state_dict()) == keys
    assert torch.equal(logits(restored, **text_inputs()), expected)
    assert not restored._forward_pre_hooks
    assert not restored._forward_hooks


def test_merging_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be merged"):
        adapted().merge_and_unload()


def test_float32_adapters_in_a_bfloat16_backbone() -> None:
    model = get_peft_model(base_model().to(torch.bfloat16), adapter_config()).eval()
    dtypes = {p.dtype for name, p in model.named_parameters() if ".mmadapter_" in name}
    assert dtypes == {torch.float32}
    output = logits(model, **text_inputs(), modality_features=features())
    assert torch.isfinite(output).all()


@pytest.mark.parametrize(
    ("encoder_class", "config_class"),
    [(BertModel, None), (RobertaModel, RobertaConfig), (ElectraModel, ElectraConfig)],
)
def test_bare_encoders(encoder_class: type, config_class: type | None) -> None:
    config = bert_config()
    if config_class is not None:
        config = config_class(**{**config.to_dict(), "model_type": config_class.model_type, "embedding_size": H})
    encoder = encoder_class(config).eval()
    with torch.no_grad():
        expected = encoder(**text_inputs()).last_hidden_state
        model = get_peft_model(encoder, adapter_config(task_type=None, up_init_std=0.0)).eval()
        inputs = {**text_inputs(), "modality_features": features()}
        assert torch.equal(model(**inputs).last_hidden_state, expected)
        assert (strong(model)(**inputs).last_hidden_state - expected).abs().max() > 1e-2
    assert len(model.base_model.site_layers) == 4


def test_chosen_layers_only() -> None:
    model = adapted(layers_to_transform=[-1])
    assert model.base_model.site_layers == [1, 1]
    paths = [name for name, m in model.named_modules() if isinstance(m, MultimodalAdapterLayer)]
    assert all("layer.1." in path for path in paths)
    assert len(paths) == 2


def test_positional_arguments_reach_the_hook_too() -> None:
    model = get_peft_model(base_model(), adapter_config(task_type=None)).eval()
    text = text_inputs()
    by_name = logits(model, **text, modality_features=features())
    with torch.no_grad():
        by_place = model(text["input_ids"], text["attention_mask"], modality_features=features()).logits
    assert torch.equal(by_name, by_place)
