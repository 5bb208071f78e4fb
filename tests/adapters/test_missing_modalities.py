"""What is masked cannot matter, and what cannot matter does not: properties of every fusion."""

from __future__ import annotations

import pytest
import torch
from adapter_models import (
    CASES,
    MODALITIES,
    B,
    adapted,
    adapter_config,
    base_model,
    case_modalities,
    case_model,
    features,
    logits,
    text_inputs,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch import Tensor

from mmadapters.adapters.adapter_fusion import add_adapter_fusion
from mmadapters.adapters.config import MultimodalAdapterConfig

PROPERTY = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
masks = st.lists(st.booleans(), min_size=B, max_size=B).map(torch.tensor)


MEAN_POOLED = [name for name in CASES if not name.startswith(("cross", "attention", "pre-projected sequence"))]


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest):
    return case_model(request.param), case_modalities(request.param)


@PROPERTY
@given(data=st.data())
def test_masked_content_never_changes_a_logit(case, data) -> None:
    model, modalities = case
    mask = {m.name: data.draw(masks) for m in modalities}
    clean = features(modalities)
    dirty = {name: values.clone() for name, values in clean.items()}
    for name, values in dirty.items():
        junk = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30, 3.0]))
        values[~mask[name]] = junk
    expected = logits(model, **text_inputs(), modality_features=clean, modality_mask=mask)
    assert torch.equal(logits(model, **text_inputs(), modality_features=dirty, modality_mask=mask), expected)


@PROPERTY
@given(data=st.data())
def test_batch_rows_are_independent(case, data) -> None:
    model, modalities = case
    mask = {m.name: data.draw(masks) for m in modalities}
    text, values = text_inputs(), features(modalities)
    together = logits(model, **text, modality_features=values, modality_mask=mask)
    row = data.draw(st.integers(0, B - 1))
    alone = logits(
        model,
        **{name: tensor[row : row + 1] for name, tensor in text.items()},
        modality_features={name: tensor[row : row + 1] for name, tensor in values.items()},
        modality_mask={name: tensor[row : row + 1] for name, tensor in mask.items()},
    )
    torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


@PROPERTY
@given(steps=st.integers(1, 4), padding=st.integers(0, 3), seed=st.integers(0, 99))
def test_padding_a_sequence_changes_nothing(case, steps: int, padding: int, seed: int) -> None:
    model, modalities = case
    generator = torch.Generator().manual_seed(seed)
    values = features(modalities)
    sequence = torch.randn(B, steps, modalities[0].feature_dim, generator=generator)
    mask = torch.rand(B, steps, generator=generator) > 0.3
    junk = torch.full((B, padding, modalities[0].feature_dim), float("nan"))
    padded = torch.cat([sequence, junk], dim=1)
    padded_mask = torch.cat([mask, torch.zeros(B, padding, dtype=torch.bool)], dim=1)
    name = modalities[0].name
    short = logits(model, **text_inputs(), modality_features=values | {name: sequence}, modality_mask={name: mask})
    long = logits(model, **text_inputs(), modality_features=values | {name: padded}, modality_mask={name: padded_mask})
    torch.testing.assert_close(short, long, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", MEAN_POOLED, indirect=True)
def test_a_sequence_is_averaged_over_its_valid_steps(case) -> None:
    model, modalities = case
    name, width = modalities[0].name, modalities[0].feature_dim
    sequence = torch.randn(B, 3, width)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.bool)
    mean = torch.stack([sequence[i][mask[i]].mean(0) if mask[i].any() else torch.zeros(width) for i in range(B)])
    values = features(modalities)
    of_steps = logits(model, **text_inputs(), modality_features=values | {name: sequence}, modality_mask={name: mask})
    of_mean = logits(
        model, **text_inputs(), modality_features=values | {name: mean}, modality_mask={name: mask.any(dim=1)}
    )
    torch.testing.assert_close(of_steps, of_mean, rtol=0, atol=1e-5)


def test_a_mask_of_examples_applies_to_all_steps(case) -> None:
    model, modalities = case
    name, width = modalities[0].name, modalities[0].feature_dim
    sequence, present = torch.randn(B, 3, width), torch.tensor([True, False, True, True])
    values = features(modalities) | {name: sequence}
    a = logits(model, **text_inputs(), modality_features=values, modality_mask={name: present})
    b = logits(model, **text_inputs(), modality_features=values, modality_mask={name: present[:, None].expand(B, 3)})
    assert torch.equal(a, b)


def test_features_may_be_left_out_where_the_whole_batch_lacks_them(case) -> None:
    model, modalities = case
    none = {m.name: torch.zeros(B, dtype=torch.bool) for m in modalities}
    absent = logits(model, **text_inputs(), modality_mask=none)
    masked = logits(model, **text_inputs(), modality_features=features(modalities), modality_mask=none)
    assert torch.equal(absent, masked)


def test_without_its_modality_the_complementary_gate_is_the_text_only_adapter() -> None:
    gated = adapted(MODALITIES[:1], fusion="complementary")
    text_only = get_peft_model(
        base_model(), MultimodalAdapterConfig(bottleneck_size=8, fusion="none", task_type="SEQ_CLS")
    ).eval()
    state = gated.state_dict()
    text_only.load_state_dict({key: state[key] for key in text_only.state_dict()})
    none = {"poster": torch.zeros(B, dtype=torch.bool)}
    assert torch.equal(logits(gated, **text_inputs(), modality_mask=none), logits(text_only, **text_inputs()))


@pytest.mark.parametrize("order", [[1, 0, 2], [2, 1, 0], [1, 2, 0]])
@pytest.mark.parametrize("name", ["gmu", "softmax_gmu", "sum", "concat", "cross_attention", "mag", "shared"])
def test_permuting_modalities_with_their_weights_changes_nothing(name: str, order: list[int]) -> None:
    model = case_model(name)
    permuted = get_peft_model(base_model(), adapter_config([MODALITIES[i] for i in order], **CASES[name])).eval()
    blocks = [0, *(1 + i for i in order)]
    state = model.state_dict()
    for key, value in state.items():
        if key.endswith("fusion.gate.weight"):
            state[key] = _permute_blocks(_permute_blocks(value, blocks).T, blocks).T.contiguous()
        if key.endswith("fusion.mix.weight"):
            state[key] = _permute_blocks(value.T, blocks).T.contiguous()
    permuted.load_state_dict(state)
    mask = {"audio": torch.tensor([True, False, True, True])}
    a = logits(model, **text_inputs(), modality_features=features(), modality_mask=mask)
    b = logits(permuted, **text_inputs(), modality_features=features(), modality_mask=mask)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def _permute_blocks(weight: Tensor, blocks: list[int]) -> Tensor:
    size = weight.shape[0] // len(blocks)
    return torch.cat([weight[size * k : size * (k + 1)] for k in blocks])


def test_modality_dropout_acts_in_training_only_and_alike_at_all_sites() -> None:
    model = adapted(modality_dropout=0.5)
    text, values = text_inputs(batch_size=400), features(batch_size=400)
    assert torch.equal(logits(model, **text, modality_features=values), logits(model, **text, modality_features=values))
    model.train()
    with torch.no_grad():
        gates = model(**text, modality_features=values, output_gates=True).gates
    closed = gates == 0
    assert not closed[..., 0].any()
    assert torch.equal(closed, closed[:, :1].expand_as(closed))
    rates = closed[:, 0, 1:].float().mean(dim=0)
    assert ((rates > 0.42) & (rates < 0.58)).all(), rates
    drops = closed[:, 0, 1:].float()
    assert abs(float((drops[:, 0] * drops[:, 1]).mean()) - 0.25) < 0.07


def test_strong_weights_make_every_modality_matter(case) -> None:
    model, modalities = case
    expected = logits(model, **text_inputs(), modality_features=features(modalities))
    for name in features(modalities):
        changed = features(modalities) | {name: features(modalities, seed=9)[name]}
        assert (logits(model, **text_inputs(), modality_features=changed) - expected).abs().max() > 1e-4, name


def test_members_of_an_adapter_fusion_lose_a_modality_together() -> None:
    model = get_peft_model(base_model(), adapter_config(MODALITIES[:2]), adapter_name="first")
    model.add_adapter("second", adapter_config(MODALITIES[:1]))
    add_adapter_fusion(model, "fused", ["first", "second"], modality_dropout=0.5)
    model.train()
    seen = []
    layer = model.base_model.model.bert.encoder.layer[0].output.dropout
    for member in layer.members("fused").values():
        member.register_forward_pre_hook(lambda _, args: seen.append(args[1]["poster"].present))
    model(**text_inputs(batch_size=64), modality_features=features(MODALITIES[:2], batch_size=64))
    assert torch.equal(seen[0], seen[1])
    assert 0 < int(seen[0].sum()) < 64
