"""An exported model gives what the artefact gives: at any shape, and whatever is missing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_models import MODALITIES, ROWS, Export, eager, logits
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.errors import ArtefactError, ConfigurationError
from mmadapters.export import ExportedModel, load_exported
from mmadapters.export.files import Form
from mmadapters.export.parity import TOLERANCE, check_tolerance, difference

RUNTIMES = ("onnxruntime", "openvino")
SHAPES = [(1, 3, 1), (2, 17, 9), (5, 64, 1), (1, 64, 9), (5, 3, 9)]
SUBSETS = [subset for size in range(len(MODALITIES) + 1) for subset in combinations(MODALITIES, size)]


@pytest.fixture(scope="module", params=RUNTIMES)
def loaded(request: pytest.FixtureRequest, export: Export) -> ExportedModel:
    return load_exported(export.folder, runtime=request.param, threads=1)


@cache
def once(folder: Path) -> ExportedModel:
    return load_exported(folder, threads=1)


def batch(model: ExportedModel, rows: int, tokens: int, steps: int, seed: int = 0) -> tuple[dict, dict, dict]:
    """Return texts, features and masks of made-up rows, every second text being shorter."""
    random = np.random.default_rng(seed)
    mask = np.ones((rows, tokens), np.int64)
    mask[1::2, 2:] = 0
    text = {"input_ids": random.integers(5, 20, (rows, tokens)), "attention_mask": mask}
    text["token_type_ids"] = np.zeros_like(mask)
    widths = {modality.name: modality.feature_dim for modality in model.preprocessor.modalities}
    features = {
        name: random.normal(size=(rows, steps + place, width)).astype(np.float32)
        for place, (name, width) in enumerate(widths.items())
    }
    masks = {name: np.ones(values.shape[:2], bool) for name, values in features.items()}
    return text, features, masks


def assert_same(export: Export, model: ExportedModel, inputs: tuple[dict, dict, dict]) -> np.ndarray:
    found = model.infer(*inputs)["logits"]
    np.testing.assert_allclose(found, eager(export.artefact, *inputs), rtol=0, atol=1e-4)
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_number_of_rows_tokens_and_steps(export: Export, loaded: ExportedModel, shape: tuple) -> None:
    assert_same(export, loaded, batch(loaded, *shape))


def test_any_modalities_missing(export: Export, loaded: ExportedModel) -> None:
    text, features, masks = batch(loaded, 2, 17, 9)
    results = []
    for present in SUBSETS:
        some = {name: mask & (name in present) for name, mask in masks.items()}
        results.append(assert_same(export, loaded, (text, features, some)))
        # What is masked may be NaN, and a modality of the mask may as well not be given.
        dirty = {name: np.where(some[name][..., None], values, np.nan) for name, values in features.items()}
        assert np.array_equal(loaded.infer(text, dirty, some)["logits"], results[-1])
        given_only = {name: features[name] for name in present}
        np.testing.assert_allclose(loaded.infer(text, given_only)["logits"], results[-1], rtol=0, atol=1e-5)
    assert len(results) == 8
    apart = [np.abs(a - b).max() for a, b in combinations(results, 2)]
    assert min(apart) > 1e-3


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_steps_of_any_rows_missing(export: Export, data: st.DataObject) -> None:
    model = once(export.folder)
    rows, tokens, steps = (data.draw(st.sampled_from(sizes)) for sizes in ((1, 2, 5), (3, 17, 64), (1, 9)))
    text, features, masks = batch(model, rows, tokens, steps, seed=data.draw(st.integers(0, 3)))
    bits = st.lists(st.booleans(), min_size=rows * (steps + 2), max_size=rows * (steps + 2))
    for name, mask in masks.items():
        masks[name] = np.array(data.draw(bits))[: mask.size].reshape(mask.shape)
    assert_same(export, model, (text, features, masks))


def test_a_vector_is_a_sequence_of_one_step(export: Export, loaded: ExportedModel) -> None:
    text, features, masks = batch(loaded, 2, 5, 1)
    vectors = {name: values[:, 0] for name, values in features.items()}
    present = {"clip": np.array([True, False])}
    found = loaded.infer(text, vectors, present)["logits"]
    steps = {name: values[:, :1] for name, values in features.items()}
    same = loaded.infer(text, steps, {"clip": present["clip"][:, None]})["logits"]
    assert np.array_equal(found, same)
    np.testing.assert_allclose(found, eager(export.artefact, text, vectors, present), rtol=0, atol=1e-4)


def test_gates_are_the_artefact_s(export: Export, loaded: ExportedModel) -> None:
    dataset = export.artefact.preprocessor.transform(ROWS, with_labels=False)
    expected = export.artefact.predict_dataset(dataset, output_gates=True).gates
    found = loaded.predict_dataset(dataset, output_gates=True).gates
    assert found.shape == (5, 2, 4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_artefact_is_as_it_was(export: Export) -> None:
    """Nothing that the tracer put into the model stays there."""
    assert np.array_equal(logits(export.artefact), export.logits)
    assert export.artefact.model.base_model.context.state is None


def test_what_is_reported(export: Export) -> None:
    onnx, openvino, int8 = Form("float32", "onnxruntime"), Form("openvino", "openvino"), Form("int8", "onnxruntime")
    assert list(export.report.differences) == [onnx, openvino]
    assert all(0 <= found < 1e-5 for found in export.report.differences.values())
    checks = export.report.checks
    assert list(checks) == [onnx, openvino, int8]
    assert {check.rows for check in checks.values()} == {5}
    assert checks[onnx].largest < 1e-5
    assert checks[onnx].metrics == checks[onnx].metrics_before
    assert 1e-4 < checks[int8].largest < 1
    assert checks[int8].mean < checks[int8].largest


def test_what_differs_too_much_is_refused() -> None:
    ones: Any = np.ones((2, 3), np.float32)
    assert difference(ones, ones) == 0.0
    assert difference(ones, ones + 2e-4) == pytest.approx(2e-4, rel=1e-3)
    assert difference(1000 * ones, 1000 * ones + 0.01) == pytest.approx(1e-5, rel=1e-2)
    assert difference(ones, ones[:1]) == difference(ones, ones * np.nan) == float("inf")
    check_tolerance("onnxruntime", TOLERANCE)
    for found in (2e-4, float("inf"), float("nan")):
        with pytest.raises(
            ArtefactError, match="differs from the artefact by .*, more than 0.0001, so it was not written"
        ):
            check_tolerance("onnxruntime, float32", found)


def test_gates_that_were_not_exported(export: Export) -> None:
    model = once(export.folder)
    without = replace(model, signature=replace(model.signature, n_sites=0, n_gates=0))
    dataset = model.preprocessor.transform(ROWS, with_labels=False)
    with pytest.raises(ConfigurationError, match="exported without its gates. Export it again with --gates"):
        without.predict_dataset(dataset, output_gates=True)
