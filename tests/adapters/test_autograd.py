"""The autograd functions give the numbers of the modules that they stand for, forwards and backwards."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import get_peft_model
from torch import Tensor
from transformers import BertConfig, BertModel

from mmadapters.adapters import adapter as adapter_module
from mmadapters.adapters import all_sites, autograd
from mmadapters.adapters.autograd import SiteFunction, SiteProjections
from mmadapters.adapters.bottleneck import NON_LINEARITIES
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.layer import MultimodalAdapterLayer
from mmadapters.classifier import TextClassifier, TextClassifierConfig
from mmadapters.modality import Modality

B, L, H, P, M = 2, 2, 5, 3, 2


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def arguments(modalities: int) -> tuple[Tensor | None, ...]:
    size = (1 + modalities) * P
    gated = modalities > 0
    return (
        drawn(B, L, H),
        drawn(B, modalities, P) if gated else None,
        drawn(H),
        drawn(H),
        drawn(P, H),
        drawn(P),
        drawn(size, size) if gated else None,
        drawn(H, P),
        drawn(H),
    )


@pytest.mark.parametrize("modalities", [0, 1, M])
@pytest.mark.parametrize("non_linearity", NON_LINEARITIES)
def test_gradients_of_a_site_are_those_of_finite_differences(non_linearity: str, modalities: int) -> None:
    assert torch.autograd.gradcheck(
        lambda *tensors: SiteFunction.apply(*tensors, non_linearity, 0.0, 0.0), arguments(modalities)
    )


def test_gradients_with_both_dropouts_are_those_of_finite_differences() -> None:
    def run(*tensors: Tensor | None) -> Tensor:
        torch.manual_seed(3)
        return SiteFunction.apply(*tensors, "gelu", 0.3, 0.2)

    assert torch.autograd.gradcheck(run, arguments(M))


def test_gradients_of_projections_are_those_of_finite_differences() -> None:
    of_sites = [tensor for _ in range(3) for tensor in (drawn(H), drawn(H), drawn(P, H), drawn(P))]
    assert torch.autograd.gradcheck(SiteProjections.apply, (drawn(B, H), *of_sites))


def test_a_large_common_offset_of_the_states_does_not_spoil_the_gradient() -> None:
    tensors = [None if t is None else (t * 1.0).detach() for t in arguments(M)]
    tensors[0] = tensors[0] * 0.5 + 20.0
    exact = [None if t is None else t.clone().requires_grad_() for t in tensors]
    rounded = [None if t is None else t.float().requires_grad_() for t in tensors]
    for given in (exact, rounded):
        SiteFunction.apply(*given, "gelu", 0.0, 0.0).square().sum().backward()
    for of_double, of_single in zip(exact, rounded, strict=True):
        if of_double is not None:
            scale = float(of_double.grad.abs().max())
            assert float((of_double.grad - of_single.grad).abs().max()) < 1e-3 * scale


def model(encoder_dropout: float = 0.1, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=encoder_dropout,
        attention_probs_dropout_prob=0.0,
    )
    settings = TextClassifierConfig(encoder=encoder, problem_type="multi_label_classification", num_labels=3)
    modalities = [Modality("poster", 12), Modality("sound", 7)]
    config = MultimodalAdapterConfig(
        modalities=modalities, bottleneck_size=8, task_type="SEQ_CLS", up_init_std=0.3, **options
    )
    return get_peft_model(TextClassifier(settings, BertModel(encoder)), config)


def batch() -> dict[str, object]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(0, 50, (4, 6), generator=generator),
        "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 6, [1] * 2 + [0] * 4]),
        "labels": torch.ones(4, 3),
        "modality_features": {
            "poster": torch.randn(4, 12, generator=generator),
            "sound": torch.randn(4, 7, generator=generator),
        },
        "modality_mask": {"sound": torch.tensor([True, False, True, True])},
    }


def noise_of_torch(like: Tensor, probability: float) -> tuple[Tensor, float]:
    return torch.empty_like(like).bernoulli_(1.0 - probability).bool(), 1.0 / (1.0 - probability)


def step(adapted: torch.nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(5)
    output = adapted(**batch())
    output["loss"].backward()
    return output["logits"].detach(), {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None}


@pytest.fixture
def by_modules(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make all adapters run by their modules and autograd alone."""
    monkeypatch.setattr(adapter_module.MultimodalAdapter, "runs_as_one", lambda *_: False)
    monkeypatch.setattr(all_sites, "runs_in_full_precision", lambda *_: False)
    return monkeypatch


@pytest.mark.parametrize("options", [{}, {"share_projections": True}, {"dropout": 0.0}, {"layers_to_transform": [1]}])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_training_step_is_that_of_the_modules(
    options: dict[str, object], dropout: float, by_modules: pytest.MonkeyPatch
) -> None:
    adapted = model(dropout, **options).train()
    logits, gradients = step(copy.deepcopy(adapted))
    by_modules.undo()
    by_modules.setattr(autograd, "kept_at_random", noise_of_torch)
    fast_logits, fast_gradients = step(adapted)
    if dropout or options.get("dropout", 0.2):
        torch.testing.assert_close(fast_logits, logits)
    else:
        assert torch.equal(fast_logits, logits)
    assert fast_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_hooks_on_the_modules_of_an_adapter_are_called() -> None:
    adapted = model(0.0).eval()
    seen = []
    site = next(module for module in adapted.modules() if isinstance(module, MultimodalAdapterLayer))
    before = adapted(**batch())["logits"]
    site.adapter("default").fusion.register_forward_hook(lambda *_: seen.append(1))
    assert torch.equal(adapted(**batch())["logits"], before)
    assert seen == [1]


def test_hooks_on_the_encoders_dropout_are_called() -> None:
    adapted = model(0.2).train()
    seen = []
    for site in adapted.modules():
        if isinstance(site, MultimodalAdapterLayer):
            site.base_layer.register_forward_hook(lambda *_: seen.append(1))
    adapted(**batch())
    assert len(seen) == 4


def test_less_is_kept_for_the_backward_pass(by_modules: pytest.MonkeyPatch) -> None:
    """Of what is as large as the hidden states one tensor a site is kept, and the dropout's noise as bytes."""

    def kept_bytes(adapted: torch.nn.Module) -> int:
        kept: dict[int, int] = {}
        own = {p.untyped_storage().data_ptr() for p in adapted.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = adapted(**batch())
        assert output["loss"].requires_grad
        return sum(kept.values())

    adapted = model(0.2).train()
    by_the_modules = kept_bytes(adapted)
    by_modules.undo()
    states = 4 * 6 * 32 * 4
    sites = 4
    # The LayerNorm's result (4 bytes a number) and of the dropout's noise three bytes of four.
    assert by_the_modules - kept_bytes(adapted) > sites * states * 1.75


def test_frozen_adapters_pass_the_gradient_on() -> None:
    adapted = model(0.0).eval()
    adapted.requires_grad_(False)
    words = adapted.get_input_embeddings()(batch()["input_ids"]).detach().requires_grad_()
    inputs = {name: value for name, value in batch().items() if name != "input_ids"}
    adapted(inputs_embeds=words, **inputs)["loss"].backward()
    assert float(words.grad.abs().sum()) > 0


def test_autocast_and_half_precision_take_the_modules() -> None:
    adapted = model(0.0).eval()
    states = torch.zeros(1, 2, 32)
    block = next(m for m in adapted.modules() if isinstance(m, MultimodalAdapterLayer)).adapter("default")
    assert block.runs_as_one(states)
    assert not block.runs_as_one(states.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not block.runs_as_one(states)
