"""All methods alike: they learn from what they read and from nothing else, and report what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from method_rows import MULTI, QUICK, REGRESSION, SINGLE, SIZES, prepared, run, settings_for

from mmadapters.baselines.frozen_features import frozen_inputs
from mmadapters.baselines.frozen_linear import FrozenLinearBaseline
from mmadapters.baselines.lora_late_fusion import LoraLateFusion, LoraOptions
from mmadapters.baselines.method import METHODS, READ_TEXT_ONLY, build_method
from mmadapters.baselines.modality_tokens import Standardiser
from mmadapters.baselines.task_model import text_classifier
from mmadapters.data.collator import MultimodalCollator
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.evaluation.scores import scores_from_logits

NAMES = sorted(METHODS)
LABELS = {MULTI: ["far", "high", "low"], SINGLE: ["no", "yes"], REGRESSION: []}
MEASURE = {MULTI: "micro_average_precision", SINGLE: "accuracy", REGRESSION: "r2"}


def quality(result, data, problem_type: str, split: str = "test") -> float:
    logits = result.logits[split]
    wide = logits[:, None] if problem_type == REGRESSION else logits
    scores = scores_from_logits(wide, problem_type)
    return compute_metrics(problem_type, scores, data[1][split].labels, LABELS[problem_type]).values[
        MEASURE[problem_type]
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "majority"])
@pytest.mark.parametrize("told_by", ["poster", "text"])
def test_a_method_learns_from_what_it_reads_alone(name: str, told_by: str, tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone, MULTI, told_by)
    result = run(name, tiny_backbone, tmp_path, data)
    chance = quality(run("majority", tiny_backbone, tmp_path, data), data, MULTI)
    reached = quality(result, data, MULTI)
    if told_by == "text" or name not in READ_TEXT_ONLY:
        assert reached > chance + 0.25, (reached, chance)
    else:
        assert abs(reached - chance) < 0.15, (reached, chance)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_method_reports(name: str, tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone)
    result = run(name, tiny_backbone, tmp_path, data, num_train_epochs=2)
    assert {split: logits.shape for split, logits in result.logits.items()} == {
        "validation": (48, 3),
        "test": (48, 3),
    }
    assert all(np.isfinite(logits).all() for logits in result.logits.values())
    assert 0 < result.trainable_parameters <= result.parameters
    # Four bytes a number, and what stands around them.
    assert 4 * result.trainable_parameters <= result.file_bytes < 4 * result.parameters + 20_000
    assert list(tmp_path.iterdir()) == []
    if "metric" in result.settings:
        metric = result.settings["metric"]
        assert result.settings["value"] == pytest.approx(quality(result, data, MULTI, "validation"), abs=1e-9)
        values = [entry[f"eval_{metric}"] for entry in result.log if f"eval_{metric}" in entry]
        assert not values or result.settings["value"] == max(values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("problem_type", [SINGLE, REGRESSION])
def test_every_problem_type_is_learned(name: str, problem_type: str, tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone, problem_type, "text")
    result = run(name, tiny_backbone, tmp_path, data)
    reached = quality(result, data, problem_type)
    assert result.logits["test"].shape == ((48,) if problem_type == REGRESSION else (48, 2))
    if name == "majority":
        assert abs(reached - (0.0 if problem_type == REGRESSION else 0.5)) < 0.2
    elif not (problem_type == REGRESSION and name.startswith("adapters")):
        # The adapters' own training does not standardise a regression's targets, and these lie about 100.
        assert reached > 0.8, reached


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_numbers(name: str, tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone)
    options = {key: value for key, value in QUICK[name].items() if key != "max_epochs"}
    if "batch_size" in options:
        options["max_epochs"] = 3
    first, second, other = (
        run(name, tiny_backbone, tmp_path, data, options, seed=seed, num_train_epochs=1) for seed in (4, 4, 5)
    )
    for split, logits in first.logits.items():
        np.testing.assert_array_equal(logits, second.logits[split])
    if name not in ("majority", "logistic_regression"):
        assert not np.array_equal(first.logits["test"], other.logits["test"])


def test_logistic_regression_is_the_frozen_baseline(tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, data = prepared(tiny_backbone)
    cs = [0.01, 0.1, 1.0]
    result = run("logistic_regression", tiny_backbone, tmp_path, (preprocessor, data), {"cs": cs})
    parts = frozen_inputs(str(tiny_backbone), preprocessor, data).splits
    raw = {
        split: np.concatenate(
            [part.values["text"], np.stack([data[split].features("poster", row) for row in range(SIZES[split])])],
            axis=1,
        )
        for split, part in parts.items()
    }
    baseline = FrozenLinearBaseline(MULTI, cs)
    baseline.fit(raw["train"], data["train"].labels, raw["validation"], data["validation"].labels)
    assert result.settings["c"] == baseline.chosen_c
    assert result.trainable_parameters == baseline.n_parameters == 3 * (32 + 6 + 1)
    np.testing.assert_allclose(
        scores_from_logits(result.logits["test"], MULTI), baseline.predict_proba(raw["test"]), atol=1e-3
    )


def test_logistic_regression_is_told_what_is_missing(tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone, missing=0.3)
    result = run("logistic_regression", tiny_backbone, tmp_path, data)
    assert result.trainable_parameters == 3 * (32 + 6 + 1 + 1)
    without_text = run("logistic_regression", tiny_backbone, tmp_path, data, {"text": False})
    assert without_text.trainable_parameters == without_text.parameters == 3 * (6 + 1 + 1)


def test_the_majority_is_the_frequency_of_the_training_rows(tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone)
    positives = data[1]["train"].labels.sum(axis=0)
    result = run("majority", tiny_backbone, tmp_path, data)
    scores = scores_from_logits(result.logits["test"], MULTI)
    np.testing.assert_allclose(scores, np.tile((positives + 0.5) / 97, (48, 1)), atol=1e-6)
    data = prepared(tiny_backbone, SINGLE, "text")
    counts = np.bincount(data[1]["train"].labels, minlength=2)
    scores = scores_from_logits(run("majority", tiny_backbone, tmp_path, data).logits["test"], SINGLE)
    np.testing.assert_allclose(scores[7], (counts + 0.5) / 97, atol=1e-6)
    data = prepared(tiny_backbone, REGRESSION, "text")
    values = run("majority", tiny_backbone, tmp_path, data).logits["validation"]
    np.testing.assert_allclose(values, data[1]["train"].labels.mean(), rtol=1e-6)


def test_lora_trains_the_parameters_of_its_rank(tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone)
    results = {
        rank: run("lora_late_fusion", tiny_backbone, tmp_path, data, {"r": rank}, num_train_epochs=1) for rank in (2, 8)
    }
    # Two layers, query and value, two matrices of 32 by the rank each; LayerNorm of the text and a linear head.
    head = 2 * 32 + 3 * (32 + 6) + 3
    for rank, result in results.items():
        assert result.trainable_parameters == 2 * 2 * 2 * 32 * rank + head
    with pytest.raises(ConfigurationError, match="LoRA cannot be put into BertModel"):
        run("lora_late_fusion", tiny_backbone, tmp_path, data, {"target_modules": ["q_proj"]})


def test_what_is_masked_never_changes_a_logit_of_lora(tiny_backbone: Path) -> None:
    preprocessor, data = prepared(tiny_backbone)
    standardiser = {"poster": Standardiser.fit(data["train"], preprocessor.modalities[0])}
    text = text_classifier(settings_for(tiny_backbone), preprocessor)
    model = LoraLateFusion(text, preprocessor.modalities, standardiser, LoraOptions()).eval()
    batch = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)([data["test"][row] for row in range(3)])
    batch["modality_mask"]["poster"][1] = False
    before = model(**batch).logits
    for content in (1e6, torch.nan):
        batch["modality_features"]["poster"][1] = content
        assert torch.equal(model(**batch).logits, before)
    # A missing vector is the mean of the training rows.
    batch["modality_features"]["poster"][1] = standardiser["poster"].mean
    batch["modality_mask"]["poster"][1] = True
    torch.testing.assert_close(model(**batch).logits, before)


def test_the_last_epoch_is_named_where_the_best_is_not_restored(tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone)
    options = {"training": {"learning_rate": 3e-2, "load_best_model_at_end": False}}
    result = run("mmbt", tiny_backbone, tmp_path, data, options, num_train_epochs=3, early_stopping_patience=None)
    assert result.settings["epoch"] == 3
    assert result.settings["value"] == pytest.approx(quality(result, data, MULTI, "validation"), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_is_an_error_with_the_nearest_name(name: str, tiny_backbone: Path) -> None:
    if name == "majority":
        cases = [({"training": {}}, "majority.training is unknown.")]
    else:
        cases = [
            ({"training": {"learning_rat": 1e-3}}, f"{name}.training.learning_rat is unknown. Did you mean 'learning_"),
            ({"trainin": {}}, f"{name}.trainin is unknown. Did you mean 'training'?"),
            (
                {"training": {"learning_rate": "fast"}},
                f"{name}.training.learning_rate is 'fast'; expected is a number.",
            ),
            ({"training": {"seed": 1}}, f"{name}.training.seed is unknown."),
            ({"training": 3}, f"{name}.training is 3; expected is a mapping of keys to values."),
        ]
    if name.startswith("adapters"):
        cases.append(({"adapter": {"fuson": "gmu"}}, f"{name}.adapter.fuson is unknown. Did you mean 'fusion'?"))
    for options, problem in cases:
        with pytest.raises(ConfigurationError) as caught:
            build_method(name, settings_for(tiny_backbone), {}, {}, options)
        assert problem in str(caught.value)


STEPWISE = ("adapters", "adapters_text_only", "mmbt", "full_text_only", "lora_late_fusion")


@pytest.mark.parametrize("name", STEPWISE)
def test_a_method_may_have_a_head_of_its_own(name: str, tiny_backbone: Path) -> None:
    shared = settings_for(tiny_backbone)
    own = {"model": {"head_dropout": 0.25, "pooling": "cls"}}
    assert build_method(name, shared, {}, {}, own).settings.model == replace(shared, head_dropout=0.25, pooling="cls")
    assert build_method(name, shared, {}, {}, {}).settings.model == shared
    with pytest.raises(ConfigurationError, match=f"{name}.model.backbone is unknown"):
        build_method(name, shared, {}, {}, {"model": {"backbone": "minilm"}})


def test_the_heads_dropout_of_a_method_is_that_of_its_training(tiny_backbone: Path, tmp_path: Path) -> None:
    data = prepared(tiny_backbone)
    little, much = (
        run("mmbt", tiny_backbone, tmp_path / str(dropout), data, {"model": {"head_dropout": dropout}}).logits["test"]
        for dropout in (0.1, 0.9)
    )
    assert not np.allclose(little, much)


def test_all_problems_are_told_at_once(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_method("mmbt", settings_for(tiny_backbone), {}, {"epochs": 2}, {"x": 1, "training": {"y": 2}})
    assert str(caught.value).splitlines()[0] == "The method 'mmbt' cannot be set up:"
    assert [line.partition(" is unknown")[0] for line in str(caught.value).splitlines()[1:]] == [
        "- training.epochs",
        "- mmbt.training.y",
        "- mmbt.x",
    ]


def test_an_unknown_method_is_an_error_with_the_nearest_name(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no method 'late_gnu'. Did you mean 'late_gmu'?"):
        build_method("late_gnu", settings_for(tiny_backbone))


def test_the_learning_rates_of_a_run_are_the_adapters(tiny_backbone: Path) -> None:
    training = {"learning_rate": "2e-3", "num_train_epochs": 5, "output_dir": "elsewhere"}
    rates = {}
    for name in ("adapters", "mmbt", "full_text_only", "lora_late_fusion"):
        settings = build_method(name, settings_for(tiny_backbone), {}, training).settings
        rates[name] = settings.training["learning_rate"]
        assert settings.training["num_train_epochs"] == 5
        assert "output_dir" not in settings.training
    assert rates == {"adapters": 2e-3, "mmbt": 5e-5, "full_text_only": 5e-5, "lora_late_fusion": 1e-3}
    assert build_method("mmbt", settings_for(tiny_backbone)).settings.training["num_train_epochs"] == 30
    own = build_method("mmbt", settings_for(tiny_backbone), {}, training, {"training": {"learning_rate": "1e-5"}})
    assert own.settings.training["learning_rate"] == 1e-5


def test_options_about_modalities_do_not_stop_a_method_that_reads_none(tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, data = prepared(tiny_backbone)
    adapter = {"fusion": "gmu", "modality_dropout": 0.1, "bottleneck_size": 8}
    for name, given in (
        ("adapters_text_only", (preprocessor, data)),
        ("adapters", (preprocessor.restricted_to([]), {s: rows.restricted_to([]) for s, rows in data.items()})),
    ):
        method = build_method(name, settings_for(tiny_backbone), adapter, {"num_train_epochs": 1, "use_cpu": True})
        result = method.run(*given, seed=0, folder=tmp_path)
        # Per layer and site: LayerNorm, down and up; and the head.
        assert result.trainable_parameters == 4 * (2 * 32 + 32 * 8 + 8 + 8 * 32 + 32) + 2 * 32 + 3 * 32 + 3


def test_rows_to_choose_on_are_needed(tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, data = prepared(tiny_backbone)
    for name in NAMES:
        with pytest.raises(DataError, match="the data has none for 'validation'"):
            run(name, tiny_backbone, tmp_path, (preprocessor, {"train": data["train"]}))


def test_a_training_that_diverges_says_so(tiny_backbone: Path, tmp_path: Path) -> None:
    options = {"training": {"learning_rate": 1e30, "max_grad_norm": 0.0}}
    with pytest.raises(ConfigurationError, match="The training diverged: .* lower it"):
        run("mmbt", tiny_backbone, tmp_path, prepared(tiny_backbone), options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["adapters", "mmbt", "full_text_only", "lora_late_fusion", "late_gmu", "late_concat"])
def test_all_that_is_trained_starts_at_the_labels_frequencies(name: str, tiny_backbone: Path, tmp_path: Path) -> None:
    """A comparison in which only the adapters' head did so would not be one."""
    preprocessor, data = prepared(tiny_backbone, MULTI)
    frequency = np.asarray(data["train"].labels).mean(axis=0)
    # Steps too small to see: what is predicted is the start.
    still = {"learning_rates": [1e-9], "hidden_sizes": [16], "dropouts": [0.0], "max_epochs": 1}
    options = still if name.startswith("late") else {"training": {"learning_rate": 1e-9}}
    drawn, started = (
        run(
            name,
            tiny_backbone,
            tmp_path,
            (preprocessor, data),
            options,
            num_train_epochs=1,
            label_prior_start=starts,
            linear_probe_start=False,
        ).logits["validation"]
        for starts in (False, True)
    )
    shift = started - drawn
    # The same head but for its bias, which is the log-odds in place of a small number drawn.
    np.testing.assert_allclose(shift, np.broadcast_to(shift.mean(axis=0), shift.shape), atol=1e-4)
    np.testing.assert_allclose(shift.mean(axis=0), np.log(frequency / (1 - frequency)), atol=0.26)
