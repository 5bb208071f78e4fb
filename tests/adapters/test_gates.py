"""Gates on request: their layout, their means, and the fast form against the definition."""

from __future__ import annotations

import pytest
import torch
from adapter_models import MODALITIES, B, H, L, P, adapted, features, text_inputs
from torch import nn

from mmadapters.adapters.adapter import MultimodalAdapter
from mmadapters.adapters.fusion import GatedMultimodalUnit
from mmadapters.adapters.inputs import prepare_inputs
from mmadapters.errors import InputError
from mmadapters.modality import Modality


def gates_of(model: nn.Module, request, **inputs):
    with torch.no_grad():
        return model(**text_inputs(), output_gates=request, **inputs).gates


def test_there_are_none_without_a_request() -> None:
    with torch.no_grad():
        output = adapted()(**text_inputs(), modality_features=features())
    assert "gates" not in output


def test_means_are_those_of_the_full_gates_over_units_and_valid_tokens() -> None:
    model = adapted()
    means = gates_of(model, True, modality_features=features())
    full = gates_of(model, "full", modality_features=features())
    assert means.shape == (B, 4, 4)
    assert len(full) == 4
    valid = text_inputs()["attention_mask"].bool()
    for site, by_name in enumerate(full):
        assert list(by_name) == ["text", "poster", "audio", "metadata"]
        for k, gate in enumerate(by_name.values()):
            assert gate.shape == (B, L, P)
            for row in range(B):
                expected = gate[row][valid[row]].mean()
                torch.testing.assert_close(means[row, site, k], expected, rtol=0, atol=1e-6)


def test_complementary_gates_add_up_to_one() -> None:
    model = adapted(MODALITIES[:1], fusion="complementary")
    for site in gates_of(model, "full", modality_features=features(MODALITIES[:1])):
        torch.testing.assert_close(site["text"] + site["poster"], torch.ones(B, L, P))


@pytest.mark.parametrize("fusion", ["gmu", "complementary"])
def test_a_missing_modality_has_gate_zero(fusion: str) -> None:
    modalities = MODALITIES[:1]
    model = adapted(modalities, fusion=fusion)
    mask = {"poster": torch.tensor([True, False, True, False])}
    gates = gates_of(model, True, modality_features=features(modalities), modality_mask=mask)
    assert (gates[[1, 3], :, 1] == 0).all()
    assert (gates[[0, 2], :, 1] > 0).all()
    if fusion == "complementary":
        assert (gates[[1, 3], :, 0] == 1).all()


def test_the_state_is_forgotten_after_the_pass_and_after_an_error() -> None:
    model = adapted()
    context = model.base_model.context
    gates_of(model, True, modality_features=features())
    assert context.state is None
    with pytest.raises(IndexError):
        model(input_ids=torch.full((B, L), 10_000), modality_features=features())
    assert context.state is None
    with pytest.raises(InputError):
        model(**text_inputs(), modality_features={"poster": torch.zeros(B, 3)})
    assert context.state is None


def test_tuples_get_the_gates_at_their_end() -> None:
    model = adapted()
    with torch.no_grad():
        output = model(**text_inputs(), modality_features=features(), output_gates=True, return_dict=False)
    assert isinstance(output, tuple)
    assert output[-1].shape == (B, 4, 4)


@pytest.mark.parametrize("n_modalities", [1, 2, 3, 4])
def test_the_fast_form_is_the_definition(n_modalities: int) -> None:
    modalities = [Modality(f"m{i}", 5 + i) for i in range(n_modalities)]
    adapter = MultimodalAdapter(H, modalities, P, GatedMultimodalUnit)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.4)
    states = torch.randn(B, L, H)
    values = {m.name: torch.randn(B, m.feature_dim) for m in modalities}
    inputs = prepare_inputs(modalities, values, None, B, states.device, states.dtype)
    with torch.no_grad():
        update, gates = adapter(states, inputs, with_gates=True)
        z = [adapter.text(states)]
        z += [adapter.projection(name)(value)[:, None].repeat(1, L, 1) for name, value in values.items()]
        joined = torch.cat(z, dim=-1)
        weights = adapter.fusion.gate.weight.chunk(1 + n_modalities)
        plain_gates = [torch.sigmoid(joined @ weight.T) for weight in weights]
        expected = adapter.up(sum(gate * part for gate, part in zip(plain_gates, z, strict=True)))
    torch.testing.assert_close(update, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(gates, torch.stack(plain_gates, dim=2), rtol=0, atol=1e-5)
