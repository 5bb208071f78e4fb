"""The predictor as a scikit-learn estimator: copied, searched, in pipelines, and under scikit-learn's own checks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predictor_rows import QUICK, SMALL, movie_rows, predictor
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from mmadapters import MultimodalPredictor
from mmadapters.data.schema import MULTI_LABEL, REGRESSION, SINGLE_LABEL

COLUMNS: dict[str, Any] = {"text": "plot", "tabular": ["budget"], "label_separator": "|"}
ONCE = {**QUICK, "num_train_epochs": 1}


def test_parameters_are_kept_as_they_are_given(tiny_backbone: Path) -> None:
    given = predictor(tiny_backbone, **COLUMNS)
    parameters = given.get_params()
    assert parameters["tabular"] is COLUMNS["tabular"]
    assert given.set_params(seed=3, text="title") is given
    assert (given.seed, given.text) == (3, "title")
    copied = clone(given)
    assert copied.get_params() == given.get_params()
    assert copied.tabular is not given.tabular
    with pytest.raises(ValueError, match="Invalid parameter 'colour'"):
        given.set_params(colour="red")
    assert MultimodalPredictor().get_params() == MultimodalPredictor(None).get_params()
    assert "verbose=0" in repr(predictor(tiny_backbone))


def test_it_says_what_it_is_where_it_knows(tiny_backbone: Path) -> None:
    unknown = predictor(tiny_backbone, **COLUMNS)
    assert not is_classifier(unknown)
    assert not is_regressor(unknown)
    assert is_classifier(predictor(tiny_backbone, problem_type=SINGLE_LABEL))
    assert predictor(tiny_backbone, problem_type=MULTI_LABEL).__sklearn_tags__().classifier_tags.multi_label
    assert is_regressor(predictor(tiny_backbone, problem_type=REGRESSION))
    assert not hasattr(predictor(tiny_backbone, problem_type=REGRESSION), "predict_proba")
    unknown.set_params(training=ONCE).fit(movie_rows(30))
    assert is_classifier(unknown)


def test_cross_validation_with_labels_in_the_rows_and_apart(tiny_backbone: Path) -> None:
    rows = movie_rows(60)
    inside = cross_val_score(predictor(tiny_backbone, **COLUMNS, training=ONCE), rows, cv=2)
    nameless = predictor(tiny_backbone, **COLUMNS, training=ONCE, label=None)
    apart = cross_val_score(nameless, rows.drop(columns="genres"), rows["genres"], cv=2)
    assert inside.tolist() == apart.tolist()
    assert np.isfinite(inside).all()
    one = predictor(tiny_backbone, **{**COLUMNS, "label_separator": None}, problem_type=SINGLE_LABEL, training=ONCE)
    countries = rows["country"].fillna("uk")
    predicted = cross_val_predict(one, rows.drop(columns="country"), countries, cv=2)
    assert set(predicted) <= set(countries)


@pytest.mark.slow
def test_pipelines_and_searches_hold_it(tiny_backbone: Path) -> None:
    def louder(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(plot=rows["plot"].str.upper())

    rows = movie_rows(60)
    steps = [("louder", FunctionTransformer(louder)), ("model", predictor(tiny_backbone, **COLUMNS, training=ONCE))]
    pipeline = Pipeline(steps).fit(rows)
    assert pipeline.predict_proba(rows).equals(pipeline[-1].predict_proba(louder(rows)))
    assert pipeline.score(rows) == pipeline[-1].score(louder(rows))
    search = GridSearchCV(pipeline, {"model__adapter": [SMALL, {**SMALL, "bottleneck_size": 4}]}, cv=2).fit(rows)
    assert search.best_params_["model__adapter"]["bottleneck_size"] in (4, 8)
    assert len(search.predict(rows)) == 60


class OverArrays(MultimodalPredictor):
    """Takes arrays, as the checks of scikit-learn give them: their columns become a table beside a text that is one."""

    def _table(self, X: Any, reset: bool) -> pd.DataFrame:
        if not reset:
            check_is_fitted(self)
        array = validate_data(self, X, reset=reset, ensure_all_finite="allow-nan")
        return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])]).assign(words="war")

    def fit(self, X: Any, y: Any = None, **options: Any) -> OverArrays:
        width = self._table(X, reset=True).shape[1] - 1
        super().fit(self._table(X, reset=True), y, **options)
        del self.feature_names_in_
        self.n_features_in_ = width
        return self

    def predict(self, X: Any) -> Any:
        return super().predict(self._table(X, reset=False), as_pandas=False)

    @available_if(lambda self: self.known_problem_type != REGRESSION)
    def predict_proba(self, X: Any) -> Any:
        return super().predict_proba(self._table(X, reset=False), as_pandas=False)

    def score(self, X: Any, y: Any = None) -> float:
        return super().score(self._table(X, reset=False), y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.string = tags.input_tags.categorical = False
        if tags.classifier_tags is not None:
            # One epoch, or the checks would take minutes.
            tags.classifier_tags.poor_score = True
        if tags.regressor_tags is not None:
            tags.regressor_tags.poor_score = True
        return tags


NOT_MET = {
    "check_classifiers_one_label": "one class alone is an error, since there is nothing to tell apart",
    "check_classifiers_regression_target": "numbers may be the names of classes where problem_type says so",
    "check_supervised_y_2d": "a column of labels is taken as it is, without a warning",
    "check_fit2d_1sample": "the error says that there is only one label, in words of its own",
    "check_array_api_input": "it needs SCIPY_ARRAY_API, and the rows are tables",
}
"""Checks of scikit-learn that the predictor does not meet, and why it should not."""

QUICK_CHECKS = {
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_dont_overwrite_parameters",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_n_features_in_after_fitting",
    "check_dict_unchanged",
    "check_supervised_y_no_nan",
}


def run_checks(backbone: Path, problem_type: str, only: set[str] | None) -> tuple[set[str], dict[str, str]]:
    """The names of the checks that were met, and the errors of the others."""
    estimator = OverArrays(
        text="words",
        tabular=None,
        column_kinds={},
        backbone=str(backbone),
        verbose=0,
        training={**ONCE, "per_device_train_batch_size": 32},
        adapter=SMALL,
        problem_type=problem_type,
    )
    met: set[str] = set()
    failed: dict[str, str] = {}
    for checked, check in estimator_checks_generator(estimator, legacy=True):
        name = getattr(check, "func", check).__name__
        if only is not None and name not in only:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(checked)
            met.add(name)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return met, failed


def test_quick_checks_of_scikit_learn(tiny_backbone: Path) -> None:
    met, failed = run_checks(tiny_backbone, SINGLE_LABEL, QUICK_CHECKS)
    assert failed == {}
    assert met == QUICK_CHECKS


@pytest.mark.slow
def test_all_checks_of_scikit_learn(tiny_backbone: Path) -> None:
    all_failed: set[str] = set()
    for problem_type in (SINGLE_LABEL, REGRESSION):
        met, failed = run_checks(tiny_backbone, problem_type, None)
        unexpected = {name: error for name, error in failed.items() if name not in NOT_MET}
        assert unexpected == {}
        assert len(met) > 35
        assert {"check_fit_idempotent", "check_estimators_pickle", "check_methods_subset_invariance"} <= met
        all_failed |= set(failed)
    assert all_failed == set(NOT_MET)


def test_the_checks_that_scikit_learn_gives_to_tables_are_met(tiny_backbone: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = list(estimator_checks_generator(predictor(tiny_backbone, **COLUMNS)))
        for estimator, check in checks:
            check(estimator)
    assert checks
