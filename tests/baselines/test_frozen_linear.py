"""Linear models on frozen features: scikit-learn's own probabilities, C by validation, texts embedded one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, average_precision_score, mean_absolute_error
from sklearn.preprocessing import StandardScaler

from mmadapters.backbones import load_encoder, load_tokenizer
from mmadapters.baselines.frozen_linear import DEFAULT_CS, FrozenLinearBaseline, embed_texts
from mmadapters.errors import DataError

MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"
CS = (0.001, 0.03, 1.0)
TEXTS = ["war", "space love robot murder", "a cold night in the last summer", "", "love war", "ghost king school"]


def features(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(loc=[3.0, -50.0, 0.0, 0.1], scale=[1.0, 20.0, 0.01, 5.0], size=(rows, 4))


def noise(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows)


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - [3.0, -50.0, 0.0, 0.1]) / [1.0, 20.0, 0.01, 5.0]


def multi_label_targets(values: np.ndarray, seed: int) -> np.ndarray:
    scaled = standardised(values)
    drawn = [scaled[:, 0] + noise(seed, len(values)), scaled[:, 1] - scaled[:, 2], noise(seed + 1, len(values))]
    return (np.stack(drawn, axis=1) > 0).astype(int)


def class_targets(values: np.ndarray, seed: int, n_classes: int) -> np.ndarray:
    mixed = standardised(values)[:, 0] + 0.7 * noise(seed, len(values))
    return np.digitize(mixed, [-0.3, 0.6][: n_classes - 1])


def logistic(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=5000).fit(x, y)


def test_a_multi_label_problem_is_a_logistic_regression_for_each_label() -> None:
    x, held_out = features(0, 60), features(1, 30)
    y, held_out_y = multi_label_targets(x, 2), multi_label_targets(held_out, 4)
    baseline = FrozenLinearBaseline(MULTI, CS).fit(x, y, held_out, held_out_y)
    scaler = StandardScaler().fit(x)
    probabilities = {}
    for c in CS:
        fitted = [logistic(scaler.transform(x), y[:, label], c) for label in range(3)]
        probabilities[c] = np.stack([m.predict_proba(scaler.transform(held_out))[:, 1] for m in fitted], axis=1)
    expected = {c: average_precision_score(held_out_y, probabilities[c], average="micro") for c in CS}
    assert baseline.validation_scores == pytest.approx(expected, abs=1e-12)
    assert baseline.chosen_c == max(CS, key=lambda c: expected[c])
    np.testing.assert_allclose(baseline.predict_proba(held_out), probabilities[baseline.chosen_c], atol=1e-12)
    assert baseline.n_parameters == 3 * 4 + 3


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_single_label_problem_has_the_probabilities_of_scikit_learn(n_classes: int) -> None:
    x, held_out = features(0, 60), features(1, 30)
    y, held_out_y = class_targets(x, 2, n_classes), class_targets(held_out, 4, n_classes)
    baseline = FrozenLinearBaseline(SINGLE, CS).fit(x, y, held_out, held_out_y)
    scaler = StandardScaler().fit(x)
    fitted = {c: logistic(scaler.transform(x), y, c) for c in CS}
    expected = {c: accuracy_score(held_out_y, fitted[c].predict(scaler.transform(held_out))) for c in CS}
    assert baseline.validation_scores == pytest.approx(expected, abs=1e-12)
    assert baseline.chosen_c == max(CS, key=lambda c: expected[c])
    probabilities = baseline.predict_proba(held_out)
    assert probabilities.shape == (30, n_classes)
    np.testing.assert_allclose(
        probabilities, fitted[baseline.chosen_c].predict_proba(scaler.transform(held_out)), atol=1e-12
    )
    assert baseline.n_parameters == n_classes * 4 + n_classes


def test_validation_rows_with_an_unknown_label_do_not_choose_c() -> None:
    x, held_out = features(0, 60), features(1, 30)
    y, held_out_y = class_targets(x, 2, 3), class_targets(held_out, 4, 3)
    plain = FrozenLinearBaseline(SINGLE, CS).fit(x, y, held_out, held_out_y)
    with_unknown = FrozenLinearBaseline(SINGLE, CS).fit(
        x, y, np.vstack([held_out, features(5, 7)]), np.append(held_out_y, [-100] * 7)
    )
    assert with_unknown.validation_scores == plain.validation_scores


def test_a_regression_is_a_ridge_regression() -> None:
    x, held_out = features(0, 60), features(1, 30)
    y = 2.0 * standardised(x)[:, 0] + 7.0 + noise(2, 60)
    held_out_y = 2.0 * standardised(held_out)[:, 0] + 7.0
    baseline = FrozenLinearBaseline(REGRESSION, CS).fit(x, y, held_out, held_out_y)
    scaler = StandardScaler().fit(x)
    predicted = {c: Ridge(alpha=1 / c).fit(scaler.transform(x), y).predict(scaler.transform(held_out)) for c in CS}
    expected = {c: mean_absolute_error(held_out_y, predicted[c]) for c in CS}
    assert baseline.validation_scores == pytest.approx(expected, abs=1e-12)
    assert baseline.chosen_c == min(CS, key=lambda c: expected[c])
    np.testing.assert_allclose(baseline.predict_proba(held_out), predicted[baseline.chosen_c], atol=1e-12)
    assert baseline.n_parameters == 4 + 1


@pytest.mark.parametrize("order", [(0.001, 1.0), (1.0, 0.001)])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_c_is_what_the_validation_split_wants(order: tuple[float, ...], strength: float) -> None:
    x, held_out = features(0, 60), features(1, 30)
    y = standardised(x)[:, 0]
    held_out_y = y.mean() + strength * (standardised(held_out)[:, 0] - y.mean())
    baseline = FrozenLinearBaseline(REGRESSION, order).fit(x, y, held_out, held_out_y)
    assert list(baseline.validation_scores) == list(order)
    assert baseline.chosen_c == (1.0 if strength else 0.001)
    expected = Ridge(alpha=1 / baseline.chosen_c).fit(StandardScaler().fit_transform(x), y)
    np.testing.assert_allclose(
        baseline.predict_proba(held_out), expected.predict(StandardScaler().fit(x).transform(held_out)), atol=1e-12
    )


def test_the_first_of_equally_good_cs_is_chosen() -> None:
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    y = np.array([0, 0, 1, 1])
    baseline = FrozenLinearBaseline(SINGLE, (0.1, 1.0, 0.01)).fit(x, y, x, y)
    assert baseline.validation_scores == {0.1: 1.0, 1.0: 1.0, 0.01: 1.0}
    assert baseline.chosen_c == 0.1


def test_the_default_cs_are_all_tried() -> None:
    x = features(0, 20)
    baseline = FrozenLinearBaseline(REGRESSION).fit(x, x[:, 0], x, x[:, 0])
    assert tuple(baseline.validation_scores) == DEFAULT_CS
    assert FrozenLinearBaseline().problem_type == MULTI


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_the_units_of_the_features_do_not_matter(scale: float) -> None:
    x, held_out = features(0, 60), features(1, 30)
    y, held_out_y = class_targets(x, 2, 3), class_targets(held_out, 4, 3)
    plain = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x, y, held_out, held_out_y)
    scaled = FrozenLinearBaseline(SINGLE, (0.1,)).fit(scale * x + 5, y, scale * held_out + 5, held_out_y)
    np.testing.assert_allclose(scaled.predict_proba(scale * held_out + 5), plain.predict_proba(held_out), atol=1e-6)


def test_a_constant_feature_is_no_problem() -> None:
    x = np.column_stack([features(0, 30), np.full(30, 4.0)])
    y = class_targets(x[:, :4], 2, 2)
    with_constant = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x, y, x, y).predict_proba(x)
    without = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x[:, :4], y, x[:, :4], y).predict_proba(x[:, :4])
    np.testing.assert_allclose(with_constant, without, atol=1e-6)


def test_a_label_with_one_class_in_training_gets_its_smoothed_frequency() -> None:
    x = features(0, 9)
    y = np.column_stack([np.zeros(9), np.ones(9), [0, 1, 0, 1, 0, 1, 0, 1, 0]])
    baseline = FrozenLinearBaseline(MULTI, (1.0,)).fit(x, y, x, y)
    probabilities = baseline.predict_proba(features(1, 4))
    np.testing.assert_allclose(probabilities[:, 0], 0.5 / 10, atol=1e-12)
    np.testing.assert_allclose(probabilities[:, 1], 9.5 / 10, atol=1e-12)
    scaler = StandardScaler().fit(x)
    expected = logistic(scaler.transform(x), y[:, 2], 1.0).predict_proba(scaler.transform(features(1, 4)))[:, 1]
    np.testing.assert_allclose(probabilities[:, 2], expected, atol=1e-12)


def test_probabilities_far_from_the_training_rows_do_not_overflow() -> None:
    x = features(0, 60)
    far = x * 1e6
    multi = FrozenLinearBaseline(MULTI, (1.0,)).fit(x, multi_label_targets(x, 2), x, multi_label_targets(x, 2))
    single = FrozenLinearBaseline(SINGLE, (1.0,)).fit(x, class_targets(x, 2, 3), x, class_targets(x, 2, 3))
    with np.errstate(over="raise", invalid="raise"):
        probabilities = multi.predict_proba(far)
        of_classes = single.predict_proba(far)
    assert {0.0, 1.0} <= set(np.unique(np.round(probabilities, 12)))
    np.testing.assert_allclose(of_classes.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("present", [[0, 2], [1, 2], [0, 2, 3], [2]])
@pytest.mark.parametrize("dtype", [int, float])
def test_classes_that_training_does_not_have_get_a_probability_of_0(present: list[int], dtype: type) -> None:
    x, held_out = features(0, 60), features(1, 30)
    y = np.array(present)[class_targets(x, 2, len(present))].astype(dtype)
    held_out_y = np.full(30, 4)
    baseline = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x, y, held_out, held_out_y)
    probabilities = baseline.predict_proba(held_out)
    assert probabilities.shape == (30, 5)
    absent = [index for index in range(5) if index not in present]
    assert (probabilities[:, absent] == 0).all()
    expected = np.ones((30, 1))
    if len(present) > 1:
        scaler = StandardScaler().fit(x)
        expected = logistic(scaler.transform(x), y, 0.1).predict_proba(scaler.transform(held_out))
    np.testing.assert_allclose(probabilities[:, present], expected, atol=1e-12)
    assert baseline.n_parameters == len(present) * 5
    assert baseline.validation_scores == {0.1: 0.0}


def test_the_number_of_classes_may_be_given() -> None:
    x, y = features(0, 60), class_targets(features(0, 60), 2, 3)
    baseline = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x, y, x, y, n_classes=6)
    assert baseline.predict_proba(x).shape == (60, 6)
    plain = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x, y, x, y)
    np.testing.assert_array_equal(baseline.predict_proba(x)[:, :3], plain.predict_proba(x))
    with pytest.raises(DataError, match="A target is 2. Accepted are 0 to 1, and -100."):
        FrozenLinearBaseline(SINGLE, (0.1,)).fit(x, y, x, y, n_classes=2)


def test_training_rows_without_a_class_are_left_out() -> None:
    x, held_out = features(0, 60), features(1, 30)
    y, held_out_y = class_targets(x, 2, 3), class_targets(held_out, 4, 3)
    known = np.arange(60) >= 7
    plain = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x[known], y[known], held_out, held_out_y)
    with_unknown = FrozenLinearBaseline(SINGLE, (0.1,)).fit(x, np.where(known, y, -100), held_out, held_out_y)
    np.testing.assert_array_equal(with_unknown.predict_proba(held_out), plain.predict_proba(held_out))
    with pytest.raises(DataError, match="No training row has a class"):
        FrozenLinearBaseline(SINGLE).fit(x, np.full(60, -100), held_out, held_out_y)


@pytest.mark.parametrize("value", [-1, 0.5, float("nan")])
def test_what_is_no_class_index_is_refused(value: float) -> None:
    x, y = features(0, 60), class_targets(features(0, 60), 2, 3).astype(float)
    wrong = y.copy()
    wrong[3] = value
    for targets, validation in ((wrong, y), (y, wrong)):
        with pytest.raises(DataError, match=f"A target is {value:g}. Accepted are whole numbers from 0, and -100."):
            FrozenLinearBaseline(SINGLE).fit(x, targets, x, validation)


def test_a_validation_split_without_any_positive_cannot_choose_c() -> None:
    x = features(0, 60)
    with pytest.raises(DataError) as caught:
        FrozenLinearBaseline(MULTI, CS).fit(x, multi_label_targets(x, 2), x[:9], np.zeros((9, 3)))
    assert str(caught.value) == (
        "C is chosen by micro_average_precision, which the validation split of 9 rows does not have: none of its rows "
        "has a label. Give validation rows with labels."
    )


@pytest.mark.parametrize("cs", [(), [], (0.1, 0.0), (-1.0,), (float("nan"),), (float("inf"),)])
def test_cs_that_cannot_be_tried_are_refused(cs: tuple[float, ...]) -> None:
    with pytest.raises(DataError) as caught:
        FrozenLinearBaseline(MULTI, cs)
    assert str(caught.value) == f"cs={tuple(cs)} cannot be used. Give at least one value of C, each above 0."


def test_a_second_fit_forgets_the_first() -> None:
    x = features(0, 20)
    baseline = FrozenLinearBaseline(REGRESSION, CS).fit(x, x[:, 0], x, x[:, 0])
    baseline.cs = (1.0,)
    assert list(baseline.fit(x, x[:, 0], x, x[:, 0]).validation_scores) == [1.0]


@pytest.mark.parametrize(("problem_type", "outputs"), [(MULTI, 3), (SINGLE, 2), (REGRESSION, 1)])
def test_a_saved_baseline_holds_all_that_predicts(tmp_path: Path, problem_type: str, outputs: int) -> None:
    x = features(0, 40)
    y = {MULTI: multi_label_targets(x, 2), SINGLE: class_targets(x, 2, 2), REGRESSION: x[:, 0]}[problem_type]
    baseline = FrozenLinearBaseline(problem_type, (0.1,)).fit(x, y, x, y)
    path = tmp_path / "results" / "baseline.safetensors"
    assert baseline.save(path) == path.stat().st_size
    stored = load_file(path)
    assert {name: (value.dtype, value.shape) for name, value in stored.items()} == {
        "coefficients": (np.float32, (outputs, 4)),
        "intercepts": (np.float32, (outputs,)),
        "mean": (np.float32, (4,)),
        "scale": (np.float32, (4,)),
    }
    assert stored["coefficients"].size + stored["intercepts"].size == baseline.n_parameters
    logits = (x - stored["mean"]) / stored["scale"] @ stored["coefficients"].T + stored["intercepts"]
    expected = {
        MULTI: lambda: 1 / (1 + np.exp(-logits)),
        SINGLE: lambda: np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
        REGRESSION: lambda: logits[:, 0],
    }[problem_type]()
    np.testing.assert_allclose(baseline.predict_proba(x), expected, atol=1e-4)


def test_an_unknown_problem_type_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        FrozenLinearBaseline("multilabel")
    assert str(caught.value) == (
        "problem_type='multilabel' is unknown. Accepted are multi_label_classification, single_label_classification, "
        "regression."
    )


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_texts_are_embedded_as_the_mean_of_their_own_states(tiny_backbone: Path, batch_size: int) -> None:
    encoder, tokenizer = load_encoder(str(tiny_backbone)), load_tokenizer(str(tiny_backbone))
    embedded = embed_texts(TEXTS, encoder, tokenizer, batch_size=batch_size)
    assert embedded.shape == (6, 32)
    assert embedded.dtype == np.float32
    for text, row in zip(TEXTS, embedded, strict=True):
        with torch.no_grad():
            states = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(row, states.mean(dim=0).numpy(), atol=1e-5)
    assert np.abs(embedded[0] - embedded[1]).max() > 0.1


def test_texts_are_cut_to_the_length_asked_for(tiny_backbone: Path) -> None:
    encoder, tokenizer = load_encoder(str(tiny_backbone)), load_tokenizer(str(tiny_backbone))
    cut = embed_texts(["love war king ghost", "war"], encoder, tokenizer, max_length=4)
    whole = embed_texts(["love war", "war"], encoder, tokenizer)
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_texts_are_cut_to_what_the_tokenizer_allows(tiny_backbone: Path) -> None:
    encoder, tokenizer = load_encoder(str(tiny_backbone)), load_tokenizer(str(tiny_backbone))
    tokenizer.model_max_length = 5
    cut = embed_texts(["love war king ghost"], encoder, tokenizer)
    np.testing.assert_allclose(cut, embed_texts(["love war king"], encoder, tokenizer), atol=1e-6)


def test_texts_are_embedded_without_dropout(tiny_backbone: Path) -> None:
    encoder, tokenizer = load_encoder(str(tiny_backbone)), load_tokenizer(str(tiny_backbone))
    expected = embed_texts(TEXTS, encoder, tokenizer)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    encoder.train()
    np.testing.assert_array_equal(embed_texts(TEXTS, encoder, tokenizer), expected)


def test_no_texts_are_an_empty_table(tiny_backbone: Path) -> None:
    encoder, tokenizer = load_encoder(str(tiny_backbone)), load_tokenizer(str(tiny_backbone))
    assert embed_texts([], encoder, tokenizer).shape == (0, 32)
