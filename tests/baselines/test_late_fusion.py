"""Heads on frozen features: the paper's formulas, and what is chosen on the validation rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from method_rows import MULTI, REGRESSION, prepared, settings_for

from mmadapters.backbones import load_encoder, load_tokenizer
from mmadapters.baselines.frozen_features import frozen_inputs
from mmadapters.baselines.frozen_linear import embed_texts
from mmadapters.baselines.head_search import HeadOptions, Split, search_head
from mmadapters.baselines.late_fusion import ConcatenatedHead, GatedHead, GatedMultimodalUnit
from mmadapters.baselines.method import build_method
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.training.arguments import MultimodalTrainingArguments


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def weights(module: torch.nn.Module) -> np.ndarray:
    return module.weight.detach().double().numpy()


@pytest.mark.parametrize("widths", [[4], [4, 3, 2], [4, 3, 2, 5]])
def test_the_unit_is_the_formula_of_the_paper(widths: list[int]) -> None:
    unit = GatedMultimodalUnit(widths, 6)
    inputs = [torch.randn(5, width) for width in widths]
    arrays = [x.double().numpy() for x in inputs]
    joined = np.concatenate(arrays, axis=1)
    expected = sum(
        sigmoid(joined @ weights(gate).T) * np.tanh(x @ weights(transform).T)
        for gate, transform, x in zip(unit.gates, unit.transforms, arrays, strict=True)
    )
    np.testing.assert_allclose(unit(inputs).detach().numpy(), expected, atol=1e-6)


def test_of_two_inputs_one_gate_weighs_both() -> None:
    unit = GatedMultimodalUnit([4, 3], 6)
    text, image = torch.randn(5, 4), torch.randn(5, 3)
    joined = torch.cat([text, image], dim=1).double().numpy()
    z = sigmoid(joined @ weights(unit.gates[0]).T)
    h_text = np.tanh(text.double().numpy() @ weights(unit.transforms[0]).T)
    h_image = np.tanh(image.double().numpy() @ weights(unit.transforms[1]).T)
    np.testing.assert_allclose(unit([text, image]).detach().numpy(), z * h_image + (1 - z) * h_text, atol=1e-6)
    assert len(unit.gates) == 1


def test_an_input_of_zeros_adds_nothing() -> None:
    unit = GatedMultimodalUnit([4, 3, 2], 6)
    text, image = torch.randn(5, 4), torch.randn(5, 3)
    before = unit([text, image, torch.zeros(5, 2)])
    with torch.no_grad():
        unit.transforms[2].weight.mul_(7.0)
        unit.gates[2].weight.mul_(-3.0)
    torch.testing.assert_close(unit([text, image, torch.zeros(5, 2)]), before)


def test_the_heads_are_what_they_say() -> None:
    inputs = [torch.randn(5, 4), torch.randn(5, 3)]
    gated, concatenated = GatedHead([4, 3], 6, 2, 0.5).eval(), ConcatenatedHead([4, 3], 6, 2, 0.5).eval()
    torch.testing.assert_close(gated(inputs), gated.out(gated.unit(inputs)))
    joined = torch.cat(inputs, dim=1)
    torch.testing.assert_close(concatenated(inputs), concatenated.out(concatenated.dense(joined).clamp(min=0)))
    assert not torch.equal(gated.train()(inputs), gated(inputs))


def split(seed: int, n: int = 60) -> Split:
    random = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(n, 4, generator=random), torch.randn(n, 3, generator=random)]
    return Split(inputs, torch.stack([inputs[0][:, 0] > 0, inputs[1][:, 0] + inputs[0][:, 1] > 0], dim=1).float())


def arguments(problem_type: str = MULTI, **options) -> MultimodalTrainingArguments:
    made = MultimodalTrainingArguments(use_cpu=True, seed=3, **options)
    made.for_run(problem_type, has_validation=True)
    return made


def test_the_combination_and_the_epoch_that_validation_rows_like_best_are_kept() -> None:
    options = HeadOptions(
        hidden_sizes=[2, 8], learning_rates=[1e-5, 3e-2], dropouts=[0.0], max_epochs=8, patience=2, batch_size=16
    )
    found, logs = {}, {}

    def build(hidden_size: int, dropout: float) -> torch.nn.Module:
        return ConcatenatedHead([4, 3], hidden_size, 2, dropout)

    for hidden_size in options.hidden_sizes:
        for rate in options.learning_rates:
            one = HeadOptions([hidden_size], [rate], [0.0], max_epochs=8, patience=2, batch_size=16)
            trained = search_head(build, split(0), split(1), one, arguments(), MULTI, ["a", "b"])
            found[hidden_size, rate], logs[hidden_size, rate] = trained.value, trained.log
            values = [entry["eval_micro_average_precision"] for entry in trained.log]
            assert trained.value == max(values)
            assert trained.epoch == values.index(max(values)) + 1
            assert len(values) == min(8, trained.epoch + 2)
    best = search_head(build, split(0), split(1), options, arguments(), MULTI, ["a", "b"])
    assert best.value == max(found.values())
    assert (best.settings["hidden_size"], best.settings["learning_rate"]) == max(found, key=lambda key: found[key])
    assert best.log == logs[best.settings["hidden_size"], best.settings["learning_rate"]]
    scores = scores_from_logits(best.logits(split(1).inputs), MULTI)
    measured = compute_metrics(MULTI, scores, split(1).targets.numpy(), ["a", "b"]).values["micro_average_precision"]
    assert measured == pytest.approx(best.value, abs=1e-12)
    assert measured > 0.8


def test_a_regression_is_learned_in_its_own_units() -> None:
    train, validation = split(0), split(1)
    train, validation = (Split(part.inputs, part.inputs[0][:, 0] * 50 + 1000) for part in (train, validation))
    options = HeadOptions([8], [3e-2], [0.0], max_epochs=40, batch_size=16)
    best = search_head(
        lambda hidden_size, dropout: ConcatenatedHead([4, 3], hidden_size, 1, dropout),
        train,
        validation,
        options,
        arguments(REGRESSION),
        REGRESSION,
        [],
    )
    errors = best.logits(validation.inputs)[:, 0] - validation.targets.numpy()
    assert best.value == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)
    assert best.value < 15
    assert best.mean == pytest.approx(float(train.targets.mean()), rel=1e-5)


def test_frozen_inputs_are_standardised_means(tiny_backbone: Path) -> None:
    preprocessor, data = prepared(tiny_backbone, missing=0.3)
    inputs = frozen_inputs(str(tiny_backbone), preprocessor, data, batch_size=7)
    tokenizer, encoder = load_tokenizer(str(tiny_backbone)), load_encoder(str(tiny_backbone))
    texts = [tokenizer.decode(data["test"].tokens(row)["input_ids"], skip_special_tokens=True) for row in range(48)]
    trained = [tokenizer.decode(data["train"].tokens(row)["input_ids"], skip_special_tokens=True) for row in range(96)]
    of_train, of_test = (embed_texts(part, encoder, tokenizer) for part in (trained, texts))
    expected = (of_test - of_train.mean(axis=0)) / of_train.std(axis=0)
    np.testing.assert_allclose(inputs.splits["test"].values["text"], expected, atol=1e-3)
    present = data["test"].present("poster")
    assert 0 < present.sum() < 48
    posters = inputs.splits["test"].values["poster"]
    assert (posters[~present] == 0).all()
    known = np.stack([data["train"].features("poster", row) for row in np.flatnonzero(data["train"].present("poster"))])
    raw = np.stack([data["test"].features("poster", row) for row in np.flatnonzero(present)])
    np.testing.assert_allclose(posters[present], (raw - known.mean(axis=0)) / known.std(axis=0), atol=1e-4)
    assert inputs.sometimes_missing == ("poster",)
    assert inputs.splits["test"].joined(("poster",))[:, -1].tolist() == present.astype(float).tolist()
    assert inputs.encoder_parameters == sum(p.numel() for p in encoder.parameters())
    assert inputs.widths == {"text": 32, "poster": 6}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"hidden_sizes": []}, "hidden_sizes=[]: give at least one value, each at least 1."),
        ({"dropouts": [1.0]}, "dropouts=[1.0]: give at least one value, each at least 0 and below 1."),
        ({"learning_rates": ["fast"]}, "late_gmu.learning_rates is ['fast']; expected is a list of which each entry"),
        ({"hidden_size": 3}, "late_gmu.hidden_size is unknown. Did you mean 'hidden_sizes'?"),
        ({"adapter": {}}, "late_gmu.adapter is unknown."),
    ],
)
def test_options_that_cannot_be_used(options: dict, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_method("late_gmu", settings_for(Path("any")), {}, {}, options)
    assert problem in str(caught.value)


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    method = build_method("late_gmu", settings_for(Path("any")), {}, {}, {"learning_rates": ["1e-3", 2]})
    assert method.settings.own.learning_rates == [1e-3, 2]


def test_without_text_and_modalities_there_is_nothing_to_read(tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, data = prepared(tiny_backbone)
    method = build_method("late_concat", settings_for(tiny_backbone), {}, {"use_cpu": True}, {"text": False})
    none = {name: rows.restricted_to([]) for name, rows in data.items()}
    with pytest.raises(ConfigurationError, match="text: false leaves nothing to read"):
        method.run(preprocessor.restricted_to([]), none, seed=0, folder=tmp_path)
