"""Beside other tools: LoRA, half precision, compilation, export, pickling, loading without memory."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from adapter_models import (
    CASES,
    adapted,
    adapter_config,
    base_model,
    case_features,
    case_model,
    features,
    logits,
    strong,
    text_inputs,
)
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from mmadapters.adapters.lora import add_lora, load_lora
from mmadapters.errors import ConfigurationError

INPUTS = {**text_inputs(), "modality_features": features()}
COMPILED = ("gmu", "adapter_fusion_gated")
"""What the default suite compiles and exports; the other cases take long."""
LORA = LoraConfig(target_modules=["query", "value"], r=4)


def with_lora() -> PeftModel:
    model = get_peft_model(base_model(), adapter_config())
    add_lora(model, LORA)
    return model


def shaken(model: nn.Module) -> nn.Module:
    """Draw LoRA's second matrix too, which starts at zero."""
    for name, parameter in strong(model).named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return model.eval()


def test_lora_on_the_attention_learns_beside_the_adapters() -> None:
    model = with_lora()
    plain = logits(strong(model).eval(), **INPUTS)
    assert (logits(shaken(model), **INPUTS) - plain).abs().max() > 1e-3
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("lora_A" in name for name in trainable)
    assert any("mmadapter_blocks" in name for name in trainable)
    assert all("lora_" in n or "mmadapter_" in n or "modules_to_save" in n for n in trainable)


def test_lora_and_adapters_are_saved_and_loaded_together(tmp_path: Path) -> None:
    model = shaken(with_lora())
    model.save_pretrained(str(tmp_path))
    keys = load_file(tmp_path / "adapter_model.safetensors")
    assert not [key for key in keys if "lora" in key]
    loaded = PeftModel.from_pretrained(base_model(), str(tmp_path))
    load_lora(loaded, tmp_path / "lora")
    assert torch.equal(logits(loaded.eval(), **INPUTS), logits(model, **INPUTS))
    assert not [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded, **text_inputs()), logits(base_model(), **text_inputs()))


def test_lora_needs_a_name_and_a_folder_of_its_own(tmp_path: Path) -> None:
    model = with_lora()
    with pytest.raises(ConfigurationError, match="has an adapter 'default' already"):
        add_lora(model, LORA, "default")
    adapted().save_pretrained(str(tmp_path))
    with pytest.raises(ConfigurationError, match="holds a MultimodalAdapterConfig, not LoRA"):
        load_lora(model, tmp_path, "other")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_float32_adapters_in_a_half_precision_encoder(name: str, dtype: torch.dtype) -> None:
    model = case_model(name, base_model().to(dtype))
    adapters = [p for n, p in model.named_parameters() if ".mmadapter_" in n]
    assert {p.dtype for p in adapters} == {torch.float32}
    half = logits(model, **text_inputs(), modality_features=case_features(name))
    whole = logits(case_model(name), **text_inputs(), modality_features=case_features(name))
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), whole, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", CASES)
def test_copies_and_pickles(name: str) -> None:
    model = case_model(name)
    given = {**text_inputs(), "modality_features": case_features(name)}
    expected = logits(model, **given)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other, **given), expected)
        for parameter in other.parameters():
            parameter.data.zero_()
    assert torch.equal(logits(model, **given), expected)


@pytest.mark.parametrize("name", CASES)
def test_loading_without_memory_for_random_weights(name: str, tmp_path: Path) -> None:
    model = case_model(name)
    given = {**text_inputs(), "modality_features": case_features(name)}
    model.save_pretrained(str(tmp_path), selected_adapters=["default"])
    loaded = PeftModel.from_pretrained(base_model(), str(tmp_path), low_cpu_mem_usage=True).eval()
    assert not [n for n, p in loaded.named_parameters() if p.device.type == "meta"]
    assert torch.equal(logits(loaded, **given), logits(model, **given))
    loaded.load_adapter(str(tmp_path), adapter_name="again", low_cpu_mem_usage=True)
    loaded.set_adapter("again")
    assert torch.equal(logits(loaded, **given), logits(model, **given))


class Exportable(nn.Module):
    """Names the inputs that an exported program has."""

    def __init__(self, model: PeftModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, features: dict, masks: dict) -> Tensor:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, modality_features=features, modality_mask=masks
        ).logits


def arguments(name: str) -> tuple:
    values = case_features(name)
    masks = {key: torch.ones(len(value), dtype=torch.bool) for key, value in values.items()}
    return (*text_inputs().values(), values, masks)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in COMPILED else pytest.mark.slow) for n in CASES])
def test_compilation_has_no_graph_break(name: str) -> None:
    torch._dynamo.reset()
    model = case_model(name)
    compiled = torch.compile(Exportable(model), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*arguments(name)), Exportable(model)(*arguments(name)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in COMPILED else pytest.mark.slow) for n in CASES])
def test_export(name: str) -> None:
    model = Exportable(case_model(name)).eval()
    ids, mask, values, masks = arguments(name)
    batch = torch.export.Dim("batch")
    text = {0: batch, 1: torch.export.Dim.DYNAMIC}
    shapes = (text, text, {key: {0: batch} for key in values}, {key: {0: batch} for key in masks})
    program = torch.export.export(model, (ids, mask, values, masks), dynamic_shapes=shapes).module()
    fewer = (ids[:3, :5], mask[:3, :5], {k: v[:3] for k, v in values.items()}, {k: v[:3] for k, v in masks.items()})
    with torch.no_grad():
        for given in (arguments(name), fewer):
            torch.testing.assert_close(program(*given), model(*given), rtol=0, atol=1e-5)


def test_what_cannot_be_merged_says_so() -> None:
    with pytest.raises(ConfigurationError, match="cannot be merged into the encoder"):
        adapted().merge_and_unload()
    with pytest.raises(ConfigurationError, match="cannot be merged"):
        adapted().merge_adapter()


class Int8Linear(nn.Module):
    """A linear layer as quantisation libraries make them: integer weights and a scale for each output."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.scale = nn.Parameter(linear.weight.abs().amax(dim=1) / 127, requires_grad=False)
        rounded = torch.round(linear.weight / self.scale[:, None]).to(torch.int8)
        self.weight = nn.Parameter(rounded, requires_grad=False)
        self.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states, self.weight * self.scale[:, None], self.bias)


def quantised() -> nn.Module:
    base = base_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for module in list(base.bert.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
    return base


def test_float32_adapters_learn_in_an_int8_encoder(tmp_path: Path) -> None:
    model = strong(get_peft_model(quantised(), adapter_config())).eval()
    torch.testing.assert_close(logits(model, **INPUTS), logits(adapted(), **INPUTS), rtol=0.1, atol=0.1)
    integers = {name: p.clone() for name, p in model.named_parameters() if p.dtype == torch.int8}
    assert len(integers) == 13
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.05)
    losses = []
    for _ in range(5):
        loss = model.train()(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, integers[name]) for name, p in model.named_parameters() if name in integers)
    model.eval().save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(quantised(), str(tmp_path)).eval()
    assert torch.equal(logits(loaded, **INPUTS), logits(model, **INPUTS))
