"""Contributions are the lengths of the parts of an update, whatever the fusion; what is missing has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.adapters.adapter_models import (
    CASES,
    adapted,
    case_features,
    case_modalities,
    case_model,
    features,
    logits,
    text_inputs,
)
from torch import Tensor

from mmadapters.adapters.layer import MultimodalAdapterLayer
from mmadapters.errors import InputError


def contributions(model: PeftModel, **inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(**text_inputs(), **inputs, output_gates="contributions").gates


def first_site(model: PeftModel, **inputs: Any) -> tuple[MultimodalAdapterLayer, Tensor, Tensor]:
    """Return the first site with what it reads (the wrapped module's output) and its update, both (B, L, H)."""
    layer = next(module for module in model.modules() if isinstance(module, MultimodalAdapterLayer))
    seen: dict[str, Tensor] = {}
    handles = [
        layer.base_layer.register_forward_hook(lambda _, __, output: seen.__setitem__("read", output)),
        layer.register_forward_hook(lambda _, __, output: seen.__setitem__("updated", output)),
    ]
    logits(model, **text_inputs(), **inputs)
    for handle in handles:
        handle.remove()
    return layer, seen["read"], seen["updated"] - seen["read"]


def over_valid_tokens(values: Tensor) -> Tensor:
    mask = text_inputs()["attention_mask"][..., None].to(values.dtype)
    return (values * mask).sum(dim=1) / mask.sum(dim=1)


def test_those_of_a_gmu_are_the_lengths_of_its_gated_parts() -> None:
    model = adapted()
    layer, read, update = first_site(model, modality_features=features())
    block = layer.adapter("default")
    with torch.no_grad():
        gates = model(**text_inputs(), modality_features=features(), output_gates="full").gates[0]
        parts = {"text": block.text(read)}
        for name, values in features().items():
            projection = block.projection(name)
            parts[name] = projection(values)[:, None].expand_as(parts["text"])
        updates = {name: torch.nn.functional.linear(gates[name] * z, block.up.weight) for name, z in parts.items()}
    torch.testing.assert_close(sum(updates.values()) + block.up.bias, update, rtol=1e-4, atol=1e-5)
    expected = torch.stack([over_valid_tokens(u.norm(dim=-1)[..., None])[:, 0] for u in updates.values()], dim=1)
    found = contributions(model, modality_features=features())
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_every_fusion_has_them_and_what_is_missing_has_none(case: str) -> None:
    model = case_model(case)
    names = model.base_model.contribution_names
    inputs = case_features(case)
    found = contributions(model, modality_features=inputs)
    assert found.shape == (4, len(model.base_model.gate_sites), len(names))
    assert bool((found >= 0).all())
    last = case_modalities(case)[-1].name
    present = torch.tensor([True, False, True, False])
    partly = contributions(model, modality_features=inputs, modality_mask={last: present})
    assert bool((found[:, :, -1] > 0).all())
    if not case.startswith("adapter_fusion"):
        assert bool((partly[~present][:, :, -1] == 0).all())
    torch.testing.assert_close(partly[present], found[present], rtol=1e-4, atol=1e-5)
    # Asking for them changes nothing else.
    with torch.no_grad():
        asked = model(**text_inputs(), modality_features=inputs, output_gates="contributions").logits
    torch.testing.assert_close(asked, logits(model, **text_inputs(), modality_features=inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case]["fusion"] != "mag"])
def test_an_update_is_no_longer_than_its_parts_together(case: str) -> None:
    model = case_model(case)
    for name, parameter in model.named_parameters():
        if name.endswith((".up.bias", ".mix.bias")):
            parameter.data.zero_()
    inputs = case_features(case)
    _, _, update = first_site(model, modality_features=inputs)
    together = contributions(model, modality_features=inputs)[:, 0].sum(dim=1)
    assert bool((over_valid_tokens(update.norm(dim=-1, keepdim=True))[:, 0] <= together * 1.0001 + 1e-5).all())


def test_a_modality_alone_stays_within_the_bound_of_the_adaptation_gate() -> None:
    model = case_model("mag")
    missing = {name: torch.zeros(4, dtype=torch.bool) for name in ("audio", "metadata")}
    layer, read, _ = first_site(model, modality_features=features(), modality_mask=missing)
    found = contributions(model, modality_features=features(), modality_mask=missing)[:, 0]
    longest = layer.adapter("default").beta * over_valid_tokens(read.norm(dim=-1, keepdim=True))[:, 0]
    assert bool((found[:, [0, 2, 3]] == 0).all())
    torch.testing.assert_close(found[:, 1], longest, rtol=1e-3, atol=0.0)


def test_text_alone_contributes_all_of_its_update() -> None:
    model = adapted([], fusion="none")
    assert model.base_model.contribution_names == ["text"]
    layer, _, update = first_site(model)
    found = contributions(model)
    bias = layer.adapter("default").up.bias.detach()
    torch.testing.assert_close(found[:, 0, 0], over_valid_tokens((update - bias).norm(dim=-1)[..., None])[:, 0])


def test_an_unknown_request_names_what_is_accepted() -> None:
    with pytest.raises(InputError, match=r"output_gates='shares'\. Accepted are False, True .*'contributions'"):
        adapted()(**text_inputs(), modality_features=features(), output_gates="shares")
