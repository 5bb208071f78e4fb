"""AdapterFusion: members stay as they were, their fusion learns, and the artefact contains them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_models import MODALITIES, B, C, P, adapter_config, base_model, case_model, features, strong, text_inputs
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from mmadapters.adapters.adapter_fusion import add_adapter_fusion
from mmadapters.adapters.composition import ATTENTION, COMPOSITIONS, GATED, GatedAdapterFusion
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.errors import ConfigurationError
from mmadapters.modality import Modality

POSTER, AUDIO, METADATA = MODALITIES


def two_adapters(**options) -> PeftModel:
    model = get_peft_model(base_model(), adapter_config([POSTER], fusion="complementary"), adapter_name="poster")
    model.add_adapter("audio", adapter_config([AUDIO], **options))
    return strong(model).eval()


def run(model: nn.Module, *names: str) -> Tensor:
    chosen = {name: values for name, values in features().items() if name in (names or ("poster", "audio"))}
    with torch.no_grad():
        return model(**text_inputs(), modality_features=chosen).logits


def train(model: PeftModel, steps: int = 3) -> None:
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        chosen = {name: features()[name] for name in ("poster", "audio")}
        model(**text_inputs(), modality_features=chosen, labels=torch.arange(B) % C).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.mark.parametrize("fusion", COMPOSITIONS)
def test_only_fusion_and_head_learn(fusion: str) -> None:
    model = two_adapters()
    add_adapter_fusion(model, "fused", ["poster", "audio"], fusion=fusion, bottleneck_size=P)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names
    assert all(".mmadapter_blocks.fused." in name or ".modules_to_save.fused." in name for name in names)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    train(model)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= set(names)
    assert len(moved) > len(names) / 2


def test_members_are_the_adapters_as_they_were_trained() -> None:
    model = two_adapters(share_projections=True)
    alone = {name: (model.set_adapter(name), run(model, name))[1] for name in ("poster", "audio")}
    add_adapter_fusion(model, "fused", ["poster", "audio"])
    for name, expected in alone.items():
        model.set_adapter(name)
        assert torch.equal(run(model, name), expected)
    model.set_adapter("fused")
    fused_at_first = run(model)
    for member in ("poster", "audio"):
        model.delete_adapter(member)
    assert torch.equal(run(model), fused_at_first)


def test_attention_starts_as_the_members_mean() -> None:
    model = two_adapters()
    add_adapter_fusion(model, "fused", ["poster", "audio"])
    layer = model.base_model.model.bert.encoder.layer[0].attention.output.dropout
    states, updates = torch.randn(B, 5, 32), torch.randn(B, 5, 2, 32)
    with torch.no_grad():
        layer.adapter("fused").query.weight.zero_()
        update, weights = layer.adapter("fused")(states, updates)
    torch.testing.assert_close(update, updates.mean(dim=2))
    torch.testing.assert_close(weights, torch.full_like(weights, 0.5))


def test_the_artefact_names_and_contains_its_members(tmp_path: Path) -> None:
    model = two_adapters()
    add_adapter_fusion(model, "fused", ["poster", "audio"])
    train(model)
    expected = run(model)
    model.save_pretrained(str(tmp_path), selected_adapters=["fused"])
    config = json.loads((tmp_path / "fused" / "adapter_config.json").read_text())
    assert [member["name"] for member in config["members"]] == ["poster", "audio"]
    assert config["members"][0]["config"]["fusion"] == "complementary"
    keys = load_file(tmp_path / "fused" / "adapter_model.safetensors")
    assert any("mmadapter_members.poster_member" in key for key in keys)

    loaded = PeftModel.from_pretrained(base_model(), str(tmp_path / "fused"), adapter_name="renamed").eval()
    assert torch.equal(run(loaded), expected)
    again = PeftModel.from_pretrained(base_model(), str(tmp_path / "fused"), is_trainable=True)
    learning = [name for name, parameter in again.named_parameters() if parameter.requires_grad]
    assert learning
    assert not any("mmadapter_members" in name for name in learning)


@pytest.mark.parametrize("fusion", COMPOSITIONS)
def test_fusion_weights_on_request(fusion: str) -> None:
    model = case_model(fusion)
    with torch.no_grad():
        output = model(**text_inputs(), modality_features=features(), output_gates=True)
        full = model(**text_inputs(), modality_features=features(), output_gates="full").gates
    assert model.base_model.gate_names == ["first", "second"]
    assert output.gates.shape == (B, 4, 2)
    torch.testing.assert_close(output.gates.sum(dim=-1), torch.ones(B, 4))
    for site in full:
        assert list(site) == ["first", "second"]
        torch.testing.assert_close(site["first"] + site["second"], torch.ones_like(site["first"]))


def test_a_modality_joins_later_without_the_others_being_trained_again(tmp_path: Path) -> None:
    model = two_adapters()
    add_adapter_fusion(model, "fused", ["poster", "audio"])
    train(model)
    model.save_pretrained(str(tmp_path), selected_adapters=["fused"])

    later = PeftModel.from_pretrained(base_model(), str(tmp_path / "fused"), adapter_name="fused")
    later.add_adapter("metadata", adapter_config([METADATA]))
    add_adapter_fusion(later, "wider", ["fused.poster", "fused.audio", "metadata"], start_from="fused")
    state, old = later.state_dict(), model.state_dict()
    kept = [key for key in old if ".mmadapter_members.fused." in key or ".mmadapter_blocks.fused." in key]
    assert kept
    for key in kept:
        assert torch.equal(state[key.replace(".fused.", ".wider.")], old[key])
    assert later.base_model.gate_names == ["poster", "audio", "metadata"]
    assert run(later, "poster", "audio", "metadata").shape == (B, C)


def test_members_in_different_layers() -> None:
    model = get_peft_model(base_model(), adapter_config([POSTER], layers_to_transform=[0]), adapter_name="low")
    model.add_adapter("high", adapter_config([AUDIO], layers_to_transform=[1], sites=["feed_forward"]))
    add_adapter_fusion(model, "fused", ["low", "high"])
    with torch.no_grad():
        gates = model.eval()(
            **text_inputs(), modality_features={n: features()[n] for n in ("poster", "audio")}, output_gates=True
        ).gates
    assert gates.shape == (B, 3, 2)
    assert torch.equal(gates[0], torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    with pytest.raises(ConfigurationError, match="have adapters in different places"):
        add_adapter_fusion(model, "gated", ["low", "high"], fusion=GATED)


def test_three_gated_members_have_gates_that_add_up_to_one() -> None:
    fusion = GatedAdapterFusion(32, 3, P)
    fusion.reset_parameters()
    update, gates = fusion(torch.randn(B, 5, 32), torch.randn(B, 5, 3, 32))
    assert update.shape == (B, 5, 32)
    torch.testing.assert_close(gates.sum(dim=2), torch.ones(B, 5, P))


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        (["poster", "sound"], {}, r"no adapter 'sound'. Load it first.*has 'poster', 'audio'"),
        (["poster"], {}, r"fuses at least two adapters with different names, members has 'poster'"),
        (["poster", "poster"], {}, r"at least two adapters with different names"),
        (["poster", "audio"], {"fusion": "gmu"}, r"members are for fusion='adapter_fusion_attention'"),
        (["poster", "audio"], {"fusion": "adapter_fusion"}, r"is unknown.*Did you mean 'adapter_fusion_gated'"),
        (["poster", "audio.deep"], {}, r"'audio' has no member 'deep'. Its members are none"),
        (["poster", "audio"], {"start_from": "poster"}, r"both must be AdapterFusions of the model"),
        (["poster", "audio"], {"share_projections": True}, r"belong to the members"),
    ],
)
def test_compositions_that_cannot_be_made(members: list[str], options: dict, message: str) -> None:
    model = two_adapters()
    before = set(model.peft_config)
    with pytest.raises(ConfigurationError, match=message):
        add_adapter_fusion(model, "fused", members, **options)
    assert set(model.peft_config) == before
    assert run(model, "poster").shape == (B, C)


def test_a_fusion_of_fusions_is_refused() -> None:
    model = two_adapters()
    add_adapter_fusion(model, "fused", ["poster", "audio"])
    with pytest.raises(ConfigurationError, match="is itself an AdapterFusion; name its members instead"):
        add_adapter_fusion(model, "twice", ["fused", "audio"])


def test_members_that_disagree_on_a_width_are_refused() -> None:
    model = two_adapters()
    model.add_adapter("other", adapter_config([Modality("poster", 7)]))
    with pytest.raises(ConfigurationError, match="read a modality 'poster', one 20 and the other 7 wide"):
        add_adapter_fusion(model, "fused", ["poster", "other"])


def test_members_come_from_multimodal_adapters() -> None:
    with pytest.raises(ConfigurationError, match="needs a PEFT model with multimodal adapters"):
        add_adapter_fusion(PeftModelOf(), "fused", ["a", "b"])


class PeftModelOf:
    base_model = nn.Linear(1, 1)


def test_a_composition_without_members_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"members has none; add_adapter_fusion\(model, name, members\)"):
        MultimodalAdapterConfig(fusion=ATTENTION)
