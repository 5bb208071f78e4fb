"""Every supported encoder: adapters at the right place, with every fusion, trained, saved, disabled and missing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from adapter_models import (
    CASES,
    MODALITIES,
    adapter_config,
    case_features,
    case_modalities,
    case_model,
    features,
    strong,
)
from encoders import ENCODERS, H, classifier, linears, text
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForSequenceClassification, Qwen2Config, Qwen2ForSequenceClassification

from mmadapters.adapters.sites import ENCODER_SITES

CELLS = [*CASES]


def run(model: nn.Module, **inputs) -> Tensor:
    with torch.no_grad():
        return model(**text(), **inputs).logits


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The encoder's tensors by their original names."""
    return {
        key.replace(".base_layer", "").replace(".original_module", ""): value
        for key, value in model.state_dict().items()
        if ".mmadapter_" not in key and ".modules_to_save." not in key
    }


def test_every_family_in_the_table_is_tested() -> None:
    assert set(ENCODERS) == set(ENCODER_SITES)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_an_adapter_sits_behind_the_block_and_before_the_residual(model_type: str) -> None:
    """An adapter that adds a constant does what the same constant in the block's last bias does."""
    constants = torch.randn(2, H)
    model = get_peft_model(classifier(model_type), adapter_config([])).eval()
    by_bias = classifier(model_type)
    for layer in model.base_model.site_maps["default"].sites:
        which = 0 if layer.name == "attention" else 1
        adapter = model.base_model.model.get_submodule(layer.path).adapter("default")
        with torch.no_grad():
            adapter.up.weight.zero_()
            adapter.up.bias.copy_(constants[which] * (1 + layer.layer))
            linear = by_bias.encoder.get_submodule(linears(model_type)[which].format(layer.layer))
            old = linear.bias if linear.bias is not None else torch.zeros(H)
            linear.bias = nn.Parameter(old + constants[which] * (1 + layer.layer))
    assert len(model.base_model.site_maps["default"].sites) == (2 if model_type == "albert" else 4)
    plain = run(classifier(model_type))
    assert (run(model) - plain).abs().max() > 1e-3
    torch.testing.assert_close(run(model), run(by_bias), rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", ["gmu", "shared and pre-projected", "cross_attention"])
@pytest.mark.parametrize("model_type", ENCODERS)
def test_a_zero_up_projection_changes_nothing(model_type: str, case: str) -> None:
    model = case_model(case, classifier(model_type))
    for name, parameter in model.named_parameters():
        if ".mmadapter_" in name and ".up." in name:
            parameter.data.zero_()
    with torch.no_grad():
        head = model.base_model.model.classifier
        head.modules_to_save["default"].load_state_dict(head.original_module.state_dict())
    assert torch.equal(run(model, modality_features=case_features(case)), run(classifier(model_type)))


@pytest.mark.parametrize("case", CELLS)
@pytest.mark.parametrize("model_type", ENCODERS)
def test_the_whole_way(model_type: str, case: str, tmp_path: Path) -> None:
    """One training step, then saving and loading, disabling, gates, and missing modalities."""
    modalities = case_modalities(case)
    inputs = {"modality_features": case_features(case)}
    base = classifier(model_type)
    plain, original = run(base), copy.deepcopy(own_tensors(base))
    model = case_model(case, base)
    members = {n: p.clone() for n, p in model.named_parameters() if ".mmadapter_members." in n}

    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    assert not any(".mmadapter_members." in name for name in trainable)
    optimizer = torch.optim.SGD(trainable.values(), lr=0.1)
    model.train()
    model(**text(), **inputs, labels=torch.ones(4, 3)).loss.backward()
    optimizer.step()
    model.eval()
    unmoved = [name for name, parameter in trainable.items() if torch.equal(parameter, before[name])]
    assert not [name for name in unmoved if not _may_rest(name)], unmoved
    after = own_tensors(base)
    assert all(torch.equal(after[key], value) for key, value in original.items() if "classifier" not in key)
    assert all(torch.equal(p, members[n]) for n, p in model.named_parameters() if n in members)

    model.save_pretrained(str(tmp_path), selected_adapters=["default"])
    loaded = PeftModel.from_pretrained(classifier(model_type), str(tmp_path)).eval()
    trained = run(model, **inputs)
    assert torch.equal(run(loaded, **inputs), trained)

    with model.disable_adapter():
        assert torch.equal(run(model, **inputs), plain)
    assert torch.equal(run(model, **inputs), trained)

    if model.base_model.gate_names:
        with torch.no_grad():
            gates = model(**text(), **inputs, output_gates=True).gates
            full = model(**text(), **inputs, output_gates="full").gates
        assert gates.shape == (4, len(model.base_model.site_layers), len(model.base_model.gate_names))
        assert [list(site) for site in full] == [model.base_model.gate_names] * gates.shape[1]
        valid = text()["attention_mask"][0].bool()
        first = full[0][model.base_model.gate_names[-1]][0]
        torch.testing.assert_close(gates[0, 0, -1], first[valid].mean(), rtol=0, atol=1e-5)

    name = modalities[0].name
    mask = {name: torch.tensor([False, True, False, True])}
    dirty = case_features(case)
    dirty[name][[0, 2]] = float("nan")
    masked = run(model, **inputs, modality_mask=mask)
    assert torch.equal(run(model, modality_features=dirty, modality_mask=mask), masked)
    assert not torch.equal(masked[0], trained[0])
    torch.testing.assert_close(masked[[1, 3]], trained[[1, 3]], rtol=0, atol=1e-5)


def _may_rest(name: str) -> bool:
    """Whether a parameter may have no gradient: a key's bias shifts every score alike, which a softmax does not see."""
    return name.endswith(".key.bias")


@pytest.mark.parametrize(
    ("config", "model_class"),
    [(LlamaConfig, LlamaForSequenceClassification), (Qwen2Config, Qwen2ForSequenceClassification)],
)
def test_decoders_with_their_own_head(config: type, model_class: type, tmp_path: Path) -> None:
    def new() -> nn.Module:
        torch.manual_seed(0)
        small = {"hidden_size": H, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        options = config(vocab_size=90, intermediate_size=64, pad_token_id=0, num_labels=3, **small)
        return model_class(options).eval()

    model = strong(get_peft_model(new(), adapter_config())).eval()
    inputs = {"modality_features": features()}
    assert (run(model, **inputs) - run(new())).abs().max() > 1e-3
    model.save_pretrained(str(tmp_path))
    assert torch.equal(run(PeftModel.from_pretrained(new(), str(tmp_path)).eval(), **inputs), run(model, **inputs))


def test_layers_that_share_their_weights_run_their_adapters_each_time() -> None:
    model = strong(get_peft_model(classifier("albert"), adapter_config(MODALITIES))).eval()
    assert len(model.base_model.site_maps["default"].sites) == 2
    assert model.base_model.site_layers == [0] * 6
    with torch.no_grad():
        gates = model(**text(), modality_features=features(), output_gates=True).gates
    assert gates.shape == (4, 6, 4)
    assert not torch.equal(gates[:, 0], gates[:, 2])
