"""The linear-probe start: the head's last layer is what a convex fit on the frozen features finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional as F

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.evaluator import predict
from mmadapters.modality import Modality
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import FitResult, ModelSettings, active_modalities, build_model, fit
from mmadapters.training.losses import StepLoss, inverse_frequency_weights
from mmadapters.training.probe import (
    DEFAULT_STRENGTH,
    STRENGTHS,
    Choice,
    LinearProbe,
    encode,
    fit_linear_probe,
    last_layer,
    solve,
    starts_from_linear_probe,
)

MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"
WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
AVERAGE_PRECISION = Choice("micro_average_precision", True, ["big", "dark", "war"])


def rows(n: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    vectors = random.normal(size=(n, 6)).astype(np.float32)
    told = [{"war": w < 3, "dark": v[0] > 0, "big": w % 2 == 0} for w, v in zip(words, vectors, strict=True)]
    return pd.DataFrame(
        {
            "plot": [f"{WORDS[word]} and {WORDS[(word * 2) % 6]}" for word in words],
            "labels": [[label for label, true in row.items() if true] for row in told],
            "kind": [WORDS[word // 2] for word in words],
            "length": 90.0 + 5 * words + vectors[:, 0],
            "vector": list(vectors),
        }
    )


COLUMNS = {MULTI: "labels", SINGLE: "kind", REGRESSION: "length"}


def prepared(backbone: Path, problem_type: str = MULTI, head: str = "linear", modalities: bool = True):
    """A preprocessor, training rows, validation rows, a model and its collator."""
    schema = DatasetSchema(
        text="plot",
        label=COLUMNS[problem_type],
        modalities=(VectorColumn("poster", "vector"),) if modalities else (),
        problem_type=problem_type,
    )
    preprocessor = Preprocessor.fit(rows(60), schema, load_tokenizer(str(backbone)))
    train, validation = preprocessor.transform(rows(60)), preprocessor.transform(rows(30, seed=1))
    torch.manual_seed(0)
    settings = ModelSettings(backbone=str(backbone), head=head)
    adapter = MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8)
    model = build_model(preprocessor, settings, adapter)
    collator = MultimodalCollator(preprocessor.tokenizer, active_modalities(model, preprocessor))
    return preprocessor, train, validation, model, collator


def run(backbone: Path, problem_type: str = MULTI, with_validation: bool = True, **options) -> FitResult:
    preprocessor, train, validation, _, _ = prepared(backbone, problem_type)
    chosen = {
        "linear_probe_start": True,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
        **options,
    }
    return fit(
        preprocessor,
        train,
        validation if with_validation else None,
        settings=ModelSettings(backbone=str(backbone), head_dropout=0.0),
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8),
        arguments=MultimodalTrainingArguments(**chosen),
    )


def problem(problem_type: str, n: int = 200, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(4)
    features = random.normal(size=(n, width))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    values = features @ random.normal(size=(width, 3)) + random.normal(size=(n, 3)) + [0.5, 0.0, -1.0]
    labels = {MULTI: (values > 0).astype(float), SINGLE: values.argmax(axis=1), REGRESSION: 50 + values[:, 0]}
    return torch.tensor(features), torch.tensor(labels[problem_type])


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_solutions_are_scikit_learn_s(strength: float) -> None:
    features, labels = problem(MULTI)
    weights = solve(features, labels, 3, StepLoss(MULTI), strength).numpy()
    for c in range(3):
        fitted = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(features, labels[:, c])
        np.testing.assert_allclose(weights[c], [*fitted.coef_[0], fitted.intercept_[0]], atol=2e-4)
    features, classes = problem(SINGLE)
    weights = solve(features, classes, 3, StepLoss(SINGLE), strength).numpy()
    fitted = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(features, classes)
    np.testing.assert_allclose(weights[:, :-1], fitted.coef_, atol=2e-4)
    intercepts = weights[:, -1] - weights[:, -1].mean()
    np.testing.assert_allclose(intercepts, fitted.intercept_ - fitted.intercept_.mean(), atol=2e-4)
    features, values = problem(REGRESSION)
    weights = solve(features, values, 1, StepLoss(REGRESSION), strength).numpy()
    ridge = Ridge(alpha=0.5 / strength).fit(features, values)
    np.testing.assert_allclose(weights[0], [*ridge.coef_, ridge.intercept_], atol=1e-3)


def test_class_weights_are_those_of_the_training() -> None:
    features, labels = problem(MULTI)
    class_weights = inverse_frequency_weights(labels.numpy(), MULTI, 3)
    weights = solve(features, labels, 3, StepLoss(MULTI, class_weights), 0.1).numpy()
    for c in range(3):
        of_rows = np.where(labels[:, c] > 0, float(class_weights[c]), 1.0)
        fitted = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(features, labels[:, c], of_rows)
        np.testing.assert_allclose(weights[c], [*fitted.coef_[0], fitted.intercept_[0]], atol=2e-4)
    features, classes = problem(SINGLE)
    class_weights = inverse_frequency_weights(classes.numpy(), SINGLE, 3)
    weights = solve(features, classes, 3, StepLoss(SINGLE, class_weights), 0.1).numpy()
    fitted = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000, class_weight=dict(enumerate(class_weights.tolist())))
    np.testing.assert_allclose(weights[:, :-1], fitted.fit(features, classes).coef_, atol=2e-4)


def test_labels_with_one_class_get_their_smoothed_frequency() -> None:
    features, labels = problem(MULTI)
    alone = solve(features, labels, 3, StepLoss(MULTI), 0.1)
    labels[:, 0], labels[:, 2] = 0.0, 1.0
    weights = solve(features, labels, 3, StepLoss(MULTI, torch.tensor([9.0, 1.0, 1.0])), 0.1)
    assert (weights[[0, 2], :-1] == 0).all()
    assert weights[:, -1].sigmoid()[[0, 2]].tolist() == pytest.approx([0.5 / 201, 200.5 / 201])
    torch.testing.assert_close(weights[1], alone[1], atol=2e-4, rtol=0)


def test_a_class_without_rows_is_improbable_and_disturbs_no_other() -> None:
    features, classes = problem(SINGLE)
    alone = solve(features, classes, 3, StepLoss(SINGLE), 0.1)
    # Classes 1, 2 and 4 of five: the same problem beside two classes that no row has.
    moved = torch.tensor([1, 2, 4])[classes]
    weights = solve(features, moved, 5, StepLoss(SINGLE, torch.tensor([7.0, 1.0, 1.0, 7.0, 1.0])), 0.1)
    torch.testing.assert_close(weights[[1, 2, 4]], alone, atol=1e-6, rtol=0)
    probabilities = (features @ weights[:, :-1].T + weights[:, -1]).softmax(dim=1)
    assert 0 < probabilities[:, [0, 3]].mean() < 0.01
    only = solve(features, torch.full((200,), 2), 3, StepLoss(SINGLE), 0.1)
    assert only.isfinite().all()
    assert only[:, -1].argmax() == 2


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("problem_type", [MULTI, SINGLE, REGRESSION])
def test_the_head_says_what_the_fit_says(tiny_backbone: Path, problem_type: str, head: str) -> None:
    _, train, _, model, collator = prepared(tiny_backbone, problem_type, head)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer = last_layer(model)
    features, labels = encode(model, layer, train, collator, np.arange(len(train)), 16)
    state = torch.get_rng_state()
    probe = fit_linear_probe(model, train, None, collator, StepLoss(problem_type), AVERAGE_PRECISION, batch_size=16)
    assert torch.equal(state, torch.get_rng_state())
    assert probe == LinearProbe(DEFAULT_STRENGTH, rows=60)
    # By another way: through the model, against scikit-learn on the standardised features.
    scaled = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    logits = predict(model, train, collator, problem_type, batch_size=16).logits[
        np.argsort(train.lengths, kind="stable")
    ]
    if problem_type == MULTI:
        fitted = LogisticRegression(C=DEFAULT_STRENGTH, tol=1e-10, max_iter=9999).fit(scaled, labels[:, 1])
        np.testing.assert_allclose(logits[:, 1], fitted.decision_function(scaled), atol=1e-3)
    elif problem_type == SINGLE:
        fitted = LogisticRegression(C=DEFAULT_STRENGTH, tol=1e-10, max_iter=9999).fit(scaled, labels)
        expected = F.softmax(torch.tensor(fitted.decision_function(scaled)), dim=1)
        np.testing.assert_allclose(F.softmax(torch.tensor(logits), dim=1), expected, atol=1e-3)
    else:
        ridge = Ridge(alpha=0.5 / DEFAULT_STRENGTH).fit(scaled, labels)
        np.testing.assert_allclose(logits[:, 0], ridge.predict(scaled), atol=1e-2)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    prefix = "base_model.model.classifier.modules_to_save.default.out."
    assert changed == {f"{prefix}weight", f"{prefix}bias"}


def test_the_regularisation_is_chosen_on_the_validation_rows(tiny_backbone: Path) -> None:
    _, train, validation, model, collator = prepared(tiny_backbone)
    probe = fit_linear_probe(model, train, validation, collator, StepLoss(MULTI), AVERAGE_PRECISION)
    tried = probe.validation_scores
    assert list(tried) == list(STRENGTHS[: len(tried)])
    assert tried[probe.strength] == max(tried.values())
    by_loss = fit_linear_probe(model, train, validation, collator, StepLoss(MULTI), Choice("eval_loss", False, []))
    assert by_loss.validation_scores[by_loss.strength] == min(by_loss.validation_scores.values())
    assert isinstance(model, PeftModel)
    layer = last_layer(model)
    features, targets = encode(model, layer, validation, collator, np.arange(len(validation)), 64)
    value = StepLoss(MULTI)({"logits": layer(features.float())}, targets).item()
    assert value == pytest.approx(by_loss.validation_scores[by_loss.strength], rel=1e-4)


def test_of_many_rows_some_are_drawn(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmadapters.training.probe.MOST_ROWS", 25)
    _, train, _, model, collator = prepared(tiny_backbone)
    probes = []
    for seed in (0, 0, 1):
        probe = fit_linear_probe(model, train, None, collator, StepLoss(MULTI), AVERAGE_PRECISION, seed=seed)
        assert probe.rows == 25
        probes.append(last_layer(model).weight.detach().clone())
    assert torch.equal(probes[0], probes[1])
    assert not torch.equal(probes[0], probes[2])


@pytest.mark.parametrize("problem_type", [MULTI, SINGLE, REGRESSION])
def test_a_run_starts_from_the_fitted_head(tiny_backbone: Path, problem_type: str) -> None:
    result = run(tiny_backbone, problem_type, learning_rate=1e-4)
    probe = result.linear_probe
    name = {MULTI: "micro_average_precision", SINGLE: "macro_f1", REGRESSION: "rmse"}[problem_type]
    assert probe.metric == name
    evaluations = [entry for entry in result.log if f"eval_{name}" in entry]
    assert [round(entry["epoch"]) for entry in evaluations] == [0, 1, 2]
    assert evaluations[0][f"eval_{name}"] == pytest.approx(probe.validation_scores[probe.strength], abs=1e-4)


def test_the_start_may_be_the_best(tiny_backbone: Path, tmp_path: Path) -> None:
    result = run(tiny_backbone, REGRESSION, learning_rate=0.3, output_dir=str(tmp_path))
    values = [entry["eval_rmse"] for entry in result.log if "eval_rmse" in entry]
    assert values[0] < min(values[1:]), "the training must not help for this test to say anything"
    assert result.best_metric == values[0]
    preprocessor, _, validation, _, collator = prepared(tiny_backbone, REGRESSION)
    predicted = predict(result.model, validation, collator, REGRESSION).scores
    assert np.sqrt(np.mean((predicted - validation.labels) ** 2)) == pytest.approx(values[0], rel=1e-5)
    assert (tmp_path / "checkpoint-0").is_dir()


def test_without_validation_and_without_the_option(tiny_backbone: Path) -> None:
    assert run(tiny_backbone, with_validation=False, num_train_epochs=1).linear_probe.strength == DEFAULT_STRENGTH
    assert run(tiny_backbone, num_train_epochs=1, linear_probe_start=False).linear_probe is None


def test_rows_without_labels_and_other_heads_are_refused(tiny_backbone: Path) -> None:
    preprocessor, train, _, model, collator = prepared(tiny_backbone, SINGLE)
    bare = preprocessor.transform(rows(5), with_labels=False)
    with pytest.raises(DataError, match="needs rows with labels"):
        fit_linear_probe(model, bare, None, collator, StepLoss(SINGLE), AVERAGE_PRECISION)
    train.labels[:] = -100
    with pytest.raises(DataError, match="no training row has a label that is known"):
        fit_linear_probe(model, train, None, collator, StepLoss(SINGLE), AVERAGE_PRECISION)
    model.get_base_model().classifier = torch.nn.Linear(32, 3)
    with pytest.raises(ConfigurationError, match=r"TextClassifier; this model's is Linear\. Set both to false"):
        last_layer(model)


def test_features_that_are_no_numbers_are_an_error(tiny_backbone: Path) -> None:
    _, train, _, model, collator = prepared(tiny_backbone)
    model.get_base_model().classifier.modules_to_save["default"].layer_norm.weight.data.fill_(torch.inf)
    with pytest.raises(ConfigurationError, match="what enters the head is NaN or infinite"):
        fit_linear_probe(model, train, None, collator, StepLoss(MULTI), AVERAGE_PRECISION)


@pytest.mark.parametrize(
    ("chosen", "text_alone", "with_poster"), [(None, True, False), (True, True, True), (False, False, False)]
)
def test_without_a_choice_adapters_of_the_text_alone_start_from_it(
    chosen: bool | None, text_alone: bool, with_poster: bool
) -> None:
    arguments = MultimodalTrainingArguments(linear_probe_start=chosen, use_cpu=True)
    assert starts_from_linear_probe(arguments, MultimodalAdapterConfig()) is text_alone
    poster = MultimodalAdapterConfig(modalities=[Modality("poster", 6)])
    assert starts_from_linear_probe(arguments, poster) is with_poster
