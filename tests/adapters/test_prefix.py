"""Starting at the first layer with an adapter: exact on every encoder, refused where something below changes."""

from __future__ import annotations

import copy

import pytest
import torch
from adapter_models import B, adapter_config, features, strong
from encoders import ENCODERS, classifier, text
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from mmadapters.adapters.lora import add_lora
from mmadapters.adapters.prefix import FrozenPrefix
from mmadapters.errors import ConfigurationError, InputError

LAST = {"layers_to_transform": [-1]}
CHANGING = [name for name in ENCODERS if name != "albert"]


def model_of(model_type: str) -> PeftModel:
    return strong(get_peft_model(classifier(model_type), adapter_config(**LAST))).eval()


class Counted(nn.Module):
    """Counts how often layers below the first adapter do their work."""

    def __init__(self, prefix: FrozenPrefix) -> None:
        super().__init__()
        self.calls = 0
        self.handles = [
            module.register_forward_hook(self._count)
            for layer in prefix.below
            for module in layer.modules()
            if isinstance(module, nn.Linear)
        ]

    def _count(self, *args: object) -> None:
        self.calls += 1


@pytest.mark.parametrize("model_type", CHANGING)
def test_outputs_are_those_of_the_whole_encoder(model_type: str) -> None:
    model = model_of(model_type)
    inputs = {**text(), "modality_features": features()}
    with torch.no_grad():
        whole = model(**inputs, output_gates=True)
    with FrozenPrefix(model) as prefix:
        counted = Counted(prefix)
        states = prefix.hidden_states(**text())
        assert counted.calls > 0, "else the next count says nothing"
        before = counted.calls
        with torch.no_grad():
            started = model(**inputs, prefix_states=states, output_gates=True)
            assert counted.calls == before
            torch.testing.assert_close(model(**inputs).logits, whole.logits, rtol=0, atol=0)
        assert counted.calls > before
        torch.testing.assert_close(started.logits, whole.logits, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(started["gates"], whole["gates"], rtol=1e-5, atol=1e-6)
        prefix.check(**inputs)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, whole.logits, rtol=0, atol=0)
    assert all("forward" not in module.__dict__ for module in (*prefix.below, prefix._embeddings))


def trained(model: PeftModel, steps: int, prefix: FrozenPrefix | None) -> list[float]:
    """Losses of some steps in training mode; the only dropout is in the layers from the first adapter on."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    inputs = {**text(), "modality_features": features(), "labels": torch.ones(B, 3)}
    states = {} if prefix is None else {"prefix_states": prefix.hidden_states(**text())}
    losses = []
    for _ in range(steps):
        loss = model(**inputs, **states).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "modernbert", "llama"])
def test_training_takes_the_same_steps(model_type: str) -> None:
    plain, started = model_of(model_type), model_of(model_type)
    expected = trained(plain, 4, None)
    with FrozenPrefix(started) as prefix:
        assert trained(started, 4, prefix) == pytest.approx(expected, rel=1e-6)
    assert expected[-1] < expected[0]
    for (name, ours), (_, theirs) in zip(started.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_states_are_without_dropout_and_leave_the_mode_alone() -> None:
    model = model_of("bert").train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model.base_model.model.classifier.eval()
    modes = [module.training for module in model.modules()]
    with FrozenPrefix(model) as prefix:
        torch.testing.assert_close(prefix.hidden_states(**text()), prefix.hidden_states(**text()), rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes


def test_weights_that_are_not_needed_can_be_given_back() -> None:
    model = model_of("bert")
    encoder = copy.deepcopy(classifier("bert").encoder)
    inputs = {**text(), "modality_features": features()}
    with torch.no_grad():
        whole = model(**inputs).logits
    names = list(model.state_dict())
    with FrozenPrefix(model) as prefix:
        states = prefix.hidden_states(**text())
        size = sum(p.numel() for p in model.parameters())
        prefix.release()
        freed = sum(p.numel() for layer in classifier("bert").encoder.encoder.layer[:1] for p in layer.parameters())
        freed += classifier("bert").encoder.embeddings.word_embeddings.weight.numel()
        assert sum(p.numel() for p in model.parameters()) == size - freed
        assert list(model.state_dict()) == names
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs, prefix_states=states).logits, whole, rtol=1e-5, atol=1e-6)
        with pytest.raises(InputError, match="weights of the layers below the first adapter were given back"):
            model(**inputs)
        prefix.restore(encoder)
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs).logits, whole, rtol=0, atol=0)


def test_the_fingerprint_is_of_what_the_states_depend_on() -> None:
    def fingerprint(model: PeftModel) -> str:
        return FrozenPrefix(model).fingerprint

    first = fingerprint(model_of("bert"))
    assert fingerprint(strong(model_of("bert"), seed=9)) == first, "adapters above change nothing below"
    above = model_of("bert")
    with torch.no_grad():
        above.base_model.model.encoder.encoder.layer[1].output.dense.weight += 1
    assert fingerprint(above) == first
    for path in ("encoder.layer.0.output.dense.weight", "embeddings.word_embeddings.weight"):
        changed = model_of("bert")
        with torch.no_grad():
            changed.base_model.model.encoder.get_parameter(path)[0, 0] += 1e-3
        assert fingerprint(changed) != first, path


@pytest.fixture
def model() -> PeftModel:
    return model_of("bert")


def test_what_cannot_be_cached_is_refused(model: PeftModel) -> None:
    with pytest.raises(ConfigurationError, match="adapters start at layer 0 of 2"):
        FrozenPrefix(get_peft_model(classifier("bert"), adapter_config()))
    with pytest.raises(ConfigurationError, match="share their weights"):
        FrozenPrefix(get_peft_model(classifier("albert"), adapter_config()))
    model.base_model.model.encoder.embeddings.LayerNorm.weight.requires_grad_(True)
    with pytest.raises(ConfigurationError, match=r"1 parameters are trained, such as 'embeddings\.LayerNorm\.weight'"):
        FrozenPrefix(model)


def test_lora_below_is_refused(model: PeftModel) -> None:
    add_lora(model, LoraConfig(r=2, target_modules=["query"]))
    with pytest.raises(ConfigurationError, match="parameters are trained, such as"):
        FrozenPrefix(model)


def test_an_encoder_that_does_something_between_its_layers_is_noticed() -> None:
    base = classifier("bert")
    model = strong(get_peft_model(base, adapter_config(**LAST))).eval()
    # As a module between the layers would: what enters layer 1 is changed on every way to it.
    base.encoder.encoder.layer[1].register_forward_pre_hook(lambda module, args: (args[0] * 2, *args[1:]))
    with FrozenPrefix(model) as prefix, pytest.raises(ConfigurationError, match="gives other outputs"):
        prefix.check(**text(), modality_features=features())


def test_states_that_do_not_fit_are_refused(model: PeftModel) -> None:
    inputs = {**text(), "modality_features": features()}
    with pytest.raises(InputError, match="no FrozenPrefix is installed"):
        model(**inputs, prefix_states=torch.zeros(1))
    with FrozenPrefix(model) as prefix:
        states = prefix.hidden_states(**text())
        with pytest.raises(InputError, match=r"shape \(\d+, \d+, 31\)\. It must be a tensor \(B, L, H\)"):
            model(**inputs, prefix_states=states[..., :-1])
        with pytest.raises(InputError, match="type list"):
            model(**inputs, prefix_states=[1.0])
        model.add_adapter("other", adapter_config(**LAST))
        model.set_adapter("other")
        with pytest.raises(InputError, match="made for the adapters 'default', active are 'other'"):
            model(**inputs, prefix_states=states)
