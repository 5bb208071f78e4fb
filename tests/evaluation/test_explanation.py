"""What a model looked at: shares, gates and what changes without a modality are those of the model itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from explained_model import Explained, explained_model

from mmadapters.baselines.task_model import text_classifier
from mmadapters.data.missing import without
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.ablation import (
    Variant,
    leave_one_out_variants,
    rate_variants,
    subset_variants,
    variant_metrics,
    varied,
)
from mmadapters.evaluation.evaluator import predict
from mmadapters.evaluation.explanation import Explanation, by_layer, explain, mean_by_label, mean_shares
from mmadapters.evaluation.explanation_rows import examples, explanation_rows
from mmadapters.evaluation.explanation_summary import loss_rises, summarise_explanation
from mmadapters.evaluation.row_losses import row_losses

MULTI = "multi_label_classification"
LABELS = ["dark", "war"]


@pytest.fixture(scope="module")
def trained(tiny_backbone: Path) -> Explained:
    torch.manual_seed(0)
    return explained_model(tiny_backbone)


@pytest.fixture(scope="module")
def explanation(trained: Explained) -> Explanation:
    missing = np.arange(len(trained.test)) % 4 == 0
    return explain(trained.model, without(trained.test, {"noise": missing}), trained.collator, MULTI, batch_size=16)


def logits_of(trained: Explained, **missing: bool | np.ndarray) -> np.ndarray:
    return predict(trained.model, without(trained.test, missing), trained.collator, MULTI, batch_size=16).logits


def test_shares_add_up_and_what_is_missing_has_none(trained: Explained, explanation: Explanation) -> None:
    assert explanation.names == ["text", "poster", "noise"]
    assert explanation.sites == [(0, "attention"), (0, "feed_forward"), (1, "attention"), (1, "feed_forward")]
    assert explanation.shares.shape == (60, 4, 3)
    np.testing.assert_allclose(explanation.shares.sum(axis=2), 1.0, atol=1e-6)
    missing = np.arange(60) % 4 == 0
    assert (explanation.shares[missing][:, :, 2] == 0).all()
    assert (explanation.shares[~missing][:, :, 2] > 0).all()
    assert explanation.present.sum(axis=0).tolist() == [60, 60, 45]
    assert explanation.gates is not None
    assert (explanation.gates[missing][:, :, 2] == 0).all()
    assert not trained.model.training


def test_without_a_modality_the_logits_are_those_of_rows_that_lack_it(
    trained: Explained, explanation: Explanation
) -> None:
    missing = np.arange(60) % 4 == 0
    np.testing.assert_array_equal(explanation.without["poster"], logits_of(trained, poster=True, noise=missing))
    np.testing.assert_array_equal(explanation.without["noise"], logits_of(trained, noise=True))
    np.testing.assert_allclose(explanation.logits, logits_of(trained, noise=missing), atol=1e-5)


def test_the_summary_tells_what_matters(trained: Explained, explanation: Explanation) -> None:
    targets = np.asarray(trained.test.labels)
    summary = json.loads(json.dumps(summarise_explanation(explanation, LABELS, targets)))
    whole = summary["metrics"]["micro_average_precision"]
    poster, noise = summary["leave_one_out"]
    assert (poster["modality"], noise["modality"]) == ("poster", "noise")
    assert whole > 0.9
    assert poster["metrics"]["micro_average_precision"] < whole - 0.05
    assert abs(noise["metrics"]["micro_average_precision"] - whole) < 0.05
    assert poster["loss_rise"] > 4 * abs(noise["loss_rise"])
    assert poster["changed"] > noise["changed"]
    rises = loss_rises(explanation, targets)
    whole_loss = row_losses(MULTI, explanation.logits, targets)
    np.testing.assert_allclose(rises["poster"], row_losses(MULTI, explanation.without["poster"], targets) - whole_loss)
    has_noise = np.arange(60) % 4 != 0
    assert noise["loss_rise"] == pytest.approx(rises["noise"][has_noise].mean())
    assert summary["present"] == {"text": 60, "poster": 60, "noise": 45}
    # Means over the rows that have the modality.
    share = explanation.shares[has_noise][:, 0, 2].mean()
    assert summary["shares"][0][2] == pytest.approx(share)
    assert mean_shares(explanation)["noise"] == pytest.approx(explanation.shares[has_noise][:, :, 2].mean())
    dark = targets[:, 0] > 0
    assert summary["rows_by_label"][0] == dark.sum()
    assert summary["shares_by_label"][0][1] == pytest.approx(explanation.row_shares[dark, 1].mean())
    agreed = summary["faithfulness"]
    assert agreed["rows"] == 45
    assert agreed["agreement"] > agreed["chance"]


def test_without_labels_less_is_told(explanation: Explanation) -> None:
    summary = summarise_explanation(explanation, LABELS)
    assert summary["metrics"] is None
    assert summary["faithfulness"] is None
    assert "loss_rise" not in summary["leave_one_out"][0]
    assert summary["rows_by_label"] == (explanation.scores >= 0.5).sum(axis=0).tolist()


def test_rows_and_examples(trained: Explained, explanation: Explanation) -> None:
    targets = np.asarray(trained.test.labels)
    table = explanation_rows(explanation, lambda scores: (scores[:, 0] > 0.5).astype(int).tolist(), targets)
    assert table["prediction"].tolist() == (explanation.scores[:, 0] > 0.5).astype(int).tolist()
    assert np.isnan(table["share_noise"][0])
    assert table["share_poster"][1] == pytest.approx(explanation.row_shares[1, 1])
    changed = np.abs(explanation.scores - explanation.scores_without("poster")).mean(axis=1)
    np.testing.assert_allclose(table["change_without_poster"], changed)
    assert table["change_without_noise"][0] == pytest.approx(0.0, abs=1e-6)
    names, texts = [f"r{row}" for row in range(60)], ["a  long " + "text " * 50] * 60
    shown = examples(table, ["poster", "noise"], names, texts)
    assert [each["modality"] for each in shown] == ["poster"] * 5 + ["noise"] * 5
    assert shown[0]["row"] == f"r{changed.argmax()}"
    assert shown[0]["change"] == pytest.approx(changed.max())
    assert len(shown[0]["text"]) == 160


def test_variants_cover_subsets_and_rates() -> None:
    names = ["a", "b", "c"]
    assert [v.kept for v in subset_variants(names)] == [("a", "b"), ("a", "c"), ("b", "c"), ("a",), ("b",), ("c",), ()]
    assert [(v.kept, v.lost) for v in leave_one_out_variants(["a", "b"])] == [(("b",), ("a",)), (("a",), ("b",))]
    rates = rate_variants(["a", "b"], [0.0, 0.5])
    assert [(v.lost, v.rate) for v in rates] == [(("a",), 0.5), (("b",), 0.5), (("a", "b"), 0.5)]
    assert [v.lost for v in rate_variants(["a"], [0.5])] == [("a",)]
    keys = [v.key for v in (*subset_variants(names), *rate_variants(names, [0.1, 0.25, 0.9]))]
    assert len(set(keys)) == len(keys)
    with pytest.raises(ConfigurationError, match="7 modalities have 128 subsets"):
        subset_variants([str(i) for i in range(7)])


def test_metrics_of_variants_fall_with_the_rate(trained: Explained) -> None:
    variants = [Variant(("poster", "noise"), (), 0.0), *rate_variants(["poster", "noise"], [0.3, 0.9])]
    variants += subset_variants(["poster", "noise"])
    logits = {
        each.key: predict(trained.model, varied(trained.test, each, 3), trained.collator, MULTI, batch_size=16).logits
        for each in variants
    }
    targets = np.asarray(trained.test.labels)
    found = {
        (tuple(each["lost"]), each["rate"]): each["metrics"]["micro_average_precision"]
        for each in variant_metrics(variants, logits, MULTI, targets, LABELS)
    }
    assert found[("poster",), 0.9] < found[("poster",), 0.3] < found[(), 0.0]
    assert found[("poster", "noise"), 1.0] < found[("poster", "noise"), 0.3]
    np.testing.assert_array_equal(logits["without poster+noise at 1"], logits_of(trained, poster=True, noise=True))


def test_means_leave_out_what_nobody_has() -> None:
    layers, means = by_layer(np.array([[1.0], [3.0], [5.0]]), [(0, "attention"), (2, "attention"), (2, "feed_forward")])
    assert layers == [0, 2]
    assert means.tolist() == [[1.0], [4.0]]
    found = mean_by_label(
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[True, True], [True, False]]),
        np.array([[True, False], [True, False]]),
    )
    assert found[0].tolist() == [2.0, 2.0]
    assert np.isnan(found[1]).all()


def test_every_fusion_can_be_explained(tiny_backbone: Path, trained: Explained) -> None:
    summed = explained_model(tiny_backbone, fusion="sum")
    found = explain(summed.model, summed.test, summed.collator, MULTI)
    assert found.gates is None
    np.testing.assert_allclose(found.shares.sum(axis=2), 1.0, atol=1e-6)
    summary = summarise_explanation(found, LABELS, np.asarray(summed.test.labels))
    assert summary["gates"] is None
    assert summary["leave_one_out"][0]["loss_rise"] > 0


def test_only_multimodal_adapters_can_be_explained(trained: Explained) -> None:
    plain = text_classifier(trained.settings, trained.preprocessor)
    with pytest.raises(ConfigurationError, match="A TextClassifier without multimodal adapters was given"):
        explain(plain, trained.test, trained.collator, MULTI)
