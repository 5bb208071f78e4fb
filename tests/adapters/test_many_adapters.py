"""Several tasks on one encoder: modalities and heads of their own, mixed batches, deletion, and what they cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_models import MODALITIES, B, adapter_config, base_model, features, strong
from encoders import classifier, text
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from mmadapters.adapters.adapter_fusion import add_adapter_fusion
from mmadapters.adapters.heads import TaskHeads
from mmadapters.errors import ConfigurationError, InputError

READS = {"genres": ("poster",), "mood": ("audio", "metadata"), "rating": (), "both": ("poster", "audio", "metadata")}


def tasks() -> PeftModel:
    """Four adapters with different modalities, fusions and heads on one encoder."""
    poster, audio, metadata = MODALITIES
    model = get_peft_model(classifier("bert"), adapter_config([poster]), adapter_name="genres")
    model.add_adapter("mood", adapter_config([audio, metadata], share_projections=True, labels=["sad", "glad"]))
    model.add_adapter("rating", adapter_config([], problem_type="regression"))
    strong(model)
    add_adapter_fusion(model, "both", ["genres", "mood"], labels=list("abcde"))
    return strong(model).eval()


def run(model: nn.Module, adapter: str, row: int) -> Tensor:
    inputs = {name: tensor[row : row + 1] for name, tensor in text().items()}
    values = {name: features()[name][row : row + 1] for name in READS.get(adapter, ())}
    with torch.no_grad():
        if adapter == "__base__":
            with model.disable_adapter():
                return model(**inputs).logits[0]
        model.set_adapter(adapter)
        return model(**inputs, modality_features=values).logits[0]


@pytest.mark.parametrize(
    "names",
    [
        ["genres", "mood", "rating", "genres"],
        ["both", "mood", "__base__", "rating"],
        ["rating"] * 4,
        ["__base__"] * 4,
        ["mood", "genres", "mood", "both"],
    ],
)
def test_a_mixed_batch_equals_its_rows_apart(names: list[str]) -> None:
    model = tasks()
    read = {name for adapter in names for name in READS.get(adapter, ())}
    values = {name: features()[name] for name in read}
    for adapter, row in zip(names, range(B), strict=True):
        for name in read - set(READS.get(adapter, ())):
            values[name][row] = float("nan")
    with torch.no_grad():
        mixed = model(**text(), modality_features=values, adapter_names=names).logits
    assert mixed.shape[0] == B
    for row, adapter in enumerate(names):
        alone = run(model, adapter, row)
        torch.testing.assert_close(mixed[row, : len(alone)], alone, rtol=0, atol=1e-6)
        assert (mixed[row, len(alone) :] == -torch.inf).all()


def test_masks_reach_the_rows_of_a_mixed_batch() -> None:
    model = tasks()
    names = ["genres", "genres", "rating", "mood"]
    mask = {"poster": torch.tensor([True, False, True, True])}
    with torch.no_grad():
        mixed = model(**text(), modality_features=features(), modality_mask=mask, adapter_names=names).logits
    model.set_adapter("genres")
    values = {"poster": features()["poster"][1:2]}
    with torch.no_grad():
        alone = model(
            **{name: tensor[1:2] for name, tensor in text().items()},
            modality_features=values,
            modality_mask={"poster": torch.tensor([False])},
        ).logits[0]
    torch.testing.assert_close(mixed[1, :3], alone, rtol=0, atol=1e-6)
    assert (mixed[0, :3] - run(model, "genres", 0)).abs().max() < 1e-6


def test_a_mixed_batch_with_the_models_own_linear_head() -> None:
    model = get_peft_model(base_model(), adapter_config(MODALITIES[:1]), adapter_name="one")
    model.add_adapter("two", adapter_config([]))
    strong(model).eval()
    values = {"poster": features()["poster"]}
    with torch.no_grad():
        mixed = model(**text(), modality_features=values, adapter_names=["one", "two", "one", "two"]).logits
        for row, adapter in enumerate(["one", "two", "one", "two"]):
            model.set_adapter(adapter)
            given = {"modality_features": values} if adapter == "one" else {}
            torch.testing.assert_close(mixed[row], model(**text(), **given).logits[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["genres", "mood"], {}, r"names 2 adapters, the batch has 4 rows"),
        (["genres", "genre", "mood", "mood"], {}, r"has 'genre', the model has.*Did you mean 'genres'"),
        ("genres", {}, r"adapter_names is 'genres'. It must be a list"),
        (["both"] * 4, {"output_gates": True}, r"needs exactly one active adapter"),
        (["genres"] * 4, {"modality_features": {"poster": torch.zeros(3, 20)}}, r"of shape \(3, 20\).*each of the 4"),
        (["rating"] * 4, {"modality_features": {"poster": torch.zeros(4, 20)}}, r"no modality of the active adapter"),
    ],
)
def test_mixed_batches_that_cannot_be_run(names, options: dict, message: str) -> None:
    model = tasks()
    inputs = {"modality_features": features(), **options}
    with torch.no_grad(), pytest.raises(InputError, match=message):
        model(**text(), adapter_names=names, **inputs)
    run(model, "genres", 0)


def test_mixing_is_for_inference() -> None:
    with pytest.raises(InputError, match="for inference. Call model.eval"):
        tasks().train()(**text(), modality_features=features(), adapter_names=["genres"] * 4)


def test_each_task_has_its_own_loss() -> None:
    model = tasks()
    model.set_adapter("rating")
    output = model(**text(), labels=torch.arange(4.0))
    torch.testing.assert_close(output.loss, ((output.logits[:, 0] - torch.arange(4.0)) ** 2).mean())
    model.set_adapter("mood")
    labels = torch.tensor([[1.0, 0.0]] * 4)
    values = {name: features()[name] for name in READS["mood"]}
    output = model(**text(), modality_features=values, labels=labels)
    torch.testing.assert_close(output.loss, nn.functional.binary_cross_entropy_with_logits(output.logits, labels))


def test_adapters_are_saved_apart_and_renamed_on_loading(tmp_path: Path) -> None:
    model = tasks()
    expected = {adapter: run(model, adapter, 1) for adapter in READS}
    model.save_pretrained(str(tmp_path))
    folders = list(READS)
    loaded = PeftModel.from_pretrained(classifier("bert"), str(tmp_path / folders[0]), adapter_name="new_0")
    for i, folder in enumerate(folders[1:], start=1):
        loaded.load_adapter(str(tmp_path / folder), adapter_name=f"new_{i}")
    loaded.eval()
    for i, folder in enumerate(folders):
        READS[f"new_{i}"] = READS[folder]
        assert torch.equal(run(loaded, f"new_{i}", 1), expected[folder]), folder
        del READS[f"new_{i}"]


def test_loading_in_any_order_gives_each_its_head(tmp_path: Path) -> None:
    model = tasks()
    expected = {adapter: run(model, adapter, 2) for adapter in READS}
    model.save_pretrained(str(tmp_path))
    for first in READS:
        loaded = PeftModel.from_pretrained(classifier("bert"), str(tmp_path / first), adapter_name=first)
        for other in READS:
            if other != first:
                loaded.load_adapter(str(tmp_path / other), adapter_name=other)
        loaded.eval()
        for adapter in READS:
            assert torch.equal(run(loaded, adapter, 2), expected[adapter]), (first, adapter)


def test_deleting_leaves_the_others_as_they_were() -> None:
    model = tasks()
    expected = {adapter: run(model, adapter, 3) for adapter in ("genres", "both")}
    model.set_adapter("genres")
    model.delete_adapter("mood")
    model.delete_adapter("rating")
    assert {adapter: run(model, adapter, 3) for adapter in expected}.keys() == expected.keys()
    for adapter, logits in expected.items():
        assert torch.equal(run(model, adapter, 3), logits)
    assert not [name for name, _ in model.named_parameters() if ".mood." in name]


def test_all_sites_agree_on_the_next_adapter() -> None:
    model = get_peft_model(base_model(), adapter_config([], layers_to_transform=[0, 1]), adapter_name="first")
    model.add_adapter("low", adapter_config([], layers_to_transform=[0]))
    model.add_adapter("high", adapter_config([], layers_to_transform=[1]))
    with pytest.warns(UserWarning, match="was active which is now deleted"):
        model.delete_adapter("first")
    active = model.active_adapters
    assert len(active) == 1
    layers = [m for m in model.modules() if hasattr(m, "mmadapter_blocks")]
    assert {tuple(layer.active_adapters) for layer in layers} == {tuple(active)}


def test_memory_is_one_encoder_and_small_adapters() -> None:
    model = tasks()
    encoder = sum(p.numel() for p in classifier("bert").encoder.parameters())
    summaries = [model.base_model.adapter_summary(name) for name in READS]
    head = sum(p.numel() for p in classifier("bert").classifier.parameters())
    assert sum(p.numel() for p in model.parameters()) == encoder + head + sum(
        sum(summary.parameters.values()) for summary in summaries
    )
    assert {summary.backbone for summary in summaries} == {encoder}


def test_a_head_of_ones_own_joins_heads_that_peft_copied() -> None:
    model = get_peft_model(classifier("bert"), adapter_config([]), adapter_name="first")
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    model.add_adapter("second", adapter_config([], labels=["x", "y"]))
    heads = model.base_model.model.classifier
    assert isinstance(heads, TaskHeads)
    assert (heads.modules_to_save["first"].out.out_features, heads.modules_to_save["second"].out.out_features) == (3, 2)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[n], value) and after[n].requires_grad == g for n, (value, g) in before.items())
    assert not after["base_model.model.classifier.modules_to_save.second.out.weight"].requires_grad
    model.set_adapter("second")
    assert after["base_model.model.classifier.modules_to_save.second.out.weight"].requires_grad


def test_models_that_cannot_make_heads_say_so() -> None:
    with pytest.raises(ConfigurationError, match="BertForSequenceClassification cannot make a head of another width"):
        get_peft_model(base_model(), adapter_config([], labels=["x", "y"]))
    with pytest.raises(ConfigurationError, match="problem_type='ranking' is unknown"):
        get_peft_model(classifier("bert"), adapter_config([], problem_type="ranking"))


@pytest.mark.parametrize("name", ["my_score", "classifier"])
def test_adapters_named_like_a_head_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="ends like one that is saved"):
        get_peft_model(base_model(), adapter_config([]), adapter_name=name)
