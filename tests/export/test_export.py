"""What can be exported, how it is written, and what is refused."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from adapter_models import CASES, MODALITIES, adapter_config, case_modalities, case_model, strong
from encoders import ENCODERS, classifier
from exported_models import ROWS, Export, made_artefact
from peft import get_peft_model

from mmadapters.adapters.adapter_fusion import add_adapter_fusion
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.data.schema import DatasetSchema
from mmadapters.errors import ArtefactError, ConfigurationError, MissingDependencyError
from mmadapters.export import export_artefact, graph, load_exported
from mmadapters.export.files import check_files, file_entries
from mmadapters.export.graph import TensorsOnly, example, plain_model, quiet, signature_of, write_onnx
from mmadapters.export.runtime import open_session
from mmadapters.export.signature import Signature
from mmadapters.modality import Modality

REFUSED = {"longformer": "Could not guard on data-dependent expression"}
"""Encoders that torch cannot trace, with what it says."""
TRIED = ((1, 3, 1), (2, 17, 9), (5, 60, 1))


def assert_exported_equals(model: torch.nn.Module, modalities: list[Modality], path: Path, opset: int = 20) -> None:
    plain = TensorsOnly(model, Signature(("input_ids", "attention_mask"), tuple(modalities), 3)).eval()
    write_onnx(plain, path, opset)
    session = open_session(path, "onnxruntime", plain.signature, threads=1)
    for seed, shape in enumerate(TRIED):
        for present in (1.0, 0.5, 0.0):
            inputs = example(plain.signature, *shape, vocabulary=80, present=present, seed=seed)
            with torch.no_grad():
                (expected,) = plain(*inputs)
            feeds = {name: tensor.numpy() for name, tensor in zip(plain.signature.inputs, inputs, strict=True)}
            np.testing.assert_allclose(session.run(feeds)["logits"], expected.numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [name for name in ENCODERS if name not in REFUSED])
def test_encoders(model_type: str, tmp_path: Path) -> None:
    model = strong(get_peft_model(classifier(model_type), adapter_config(MODALITIES))).eval()
    assert_exported_equals(model, MODALITIES, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("model_type", REFUSED)
def test_encoders_that_cannot_be_exported(model_type: str, tmp_path: Path) -> None:
    model = get_peft_model(classifier(model_type), adapter_config([])).eval()
    plain = TensorsOnly(model, Signature(("input_ids", "attention_mask"), (), 3))
    message = f"encoder '{model_type}' cannot be exported by torch .*: {REFUSED[model_type]}.*docs/export.md lists"
    with pytest.raises(ArtefactError, match=message):
        write_onnx(plain, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_fusions(case: str, tmp_path: Path) -> None:
    modalities = MODALITIES if case.startswith("adapter_fusion") else case_modalities(case)
    assert_exported_equals(case_model(case, classifier("bert")), modalities, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23])
def test_other_operator_versions(opset: int, tmp_path: Path) -> None:
    model = strong(get_peft_model(classifier("bert"), adapter_config(MODALITIES))).eval()
    assert_exported_equals(model, MODALITIES, tmp_path / "model.onnx", opset)
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == opset


@pytest.mark.slow
def test_large_weights_have_a_file_of_their_own(
    small_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of the text alone, a regression, whose weights are said to be too large for one file."""
    monkeypatch.setattr(graph, "EMBEDDED_BYTES", 1000)
    rows = ROWS.assign(votes=[1000.0, 2000.0, 3500.0, 500.0, 1250.0])
    artefact = made_artefact(small_backbone, DatasetSchema("plot", "votes", problem_type="regression"), rows)
    report = export_artefact(artefact, tmp_path / "model", check=rows)
    assert list(report.bytes) == ["tokenizer.json", "model.onnx", "model.onnx.data"]
    assert report.bytes["model.onnx.data"] > report.bytes["model.onnx"]
    check = next(iter(report.checks.values()))
    assert check.decisions_changed is None
    assert check.metrics["mae"] == pytest.approx(check.metrics_before["mae"], rel=1e-5)
    table = load_exported(tmp_path / "model", threads=1).predict(rows)
    assert list(table) == ["prediction"]
    values = artefact.predict_dataset(artefact.preprocessor.transform(rows)).scores
    np.testing.assert_allclose(table["prediction"].to_numpy(float), values, rtol=1e-5)
    (tmp_path / "model" / "model.onnx.data").write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match="model.onnx.data' is not as it was exported"):
        load_exported(tmp_path / "model")


def test_an_export_that_fails_leaves_what_was_there(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(plain: TensorsOnly, path: Path, opset: int) -> None:
        path.write_bytes((export.folder / "model.onnx").read_bytes())

    monkeypatch.setattr("mmadapters.export.exporter.write_onnx", written)
    target = tmp_path / "model"
    report = export_artefact(export.artefact, target, gates=True)
    assert report.bytes["model.onnx"] == export.report.bytes["model.onnx"]
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    other = replace(export.artefact, model=made_artefact(small(export)).model)
    with torch.no_grad():
        other.model.get_base_model().classifier.modules_to_save["default"].out.bias.add_(0.01)
    with pytest.raises(ArtefactError, match=r"differs from the artefact by 0.0\d+, more than 0.0001, so it was"):
        export_artefact(other, target, gates=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def small(export: Export) -> Path:
    return Path(export.artefact.settings.backbone)


def test_what_is_refused_before_work_is_done(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(ArtefactError, match="holds no pipeline.json"):
        export_artefact(export.artefact, tmp_path / "thesis")
    with pytest.raises(ConfigurationError, match="opset=7 was given. Accepted are 18 to 23"):
        export_artefact(export.artefact, tmp_path / "model", opset=7)
    concatenated = made_artefact(small(export), fusion="concat")
    with pytest.raises(ConfigurationError, match="the adapter's fusion 'concat' has none. Leave them out"):
        export_artefact(concatenated, tmp_path / "model", gates=True)
    with monkeypatch.context() as without:
        without.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
        with pytest.raises(MissingDependencyError, match=r"Exporting needs 'onnxscript', .*mmadapters\[export\]"):
            export_artefact(export.artefact, tmp_path / "model")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match="needs the package 'openvino'"):
        export_artefact(export.artefact, tmp_path / "model", openvino=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_another_precision_is_exported_in_float32(export: Export) -> None:
    artefact = made_artefact(small(export))
    signature = signature_of(artefact)
    assert plain_model(artefact, signature).model is artefact.model
    artefact.model.get_base_model().encoder.to(torch.bfloat16)
    plain = plain_model(artefact, signature)
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    assert torch.bfloat16 in {parameter.dtype for parameter in artefact.model.parameters()}
    training = replace(artefact, model=made_artefact(small(export)).model.train())
    assert not plain_model(training, signature).training
    assert training.model.training


def test_only_files_that_were_noted_may_be_opened(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    entries = file_entries(tmp_path)
    assert list(entries) == ["model.onnx"]
    check_files(tmp_path, {"files": entries}, ["model.onnx", "model.onnx.data"])
    with pytest.raises(ArtefactError, match="is not among the files"):
        check_files(tmp_path, {"files": "all"}, ["model.onnx"])


def test_notes_of_the_exporters_are_kept_quiet(caplog: pytest.LogCaptureFixture) -> None:
    noisy = logging.getLogger("onnxscript")
    level = noisy.level
    with quiet():
        noisy.getChild("optimizer").warning("Skipping constant folding")
        warnings.warn("a note", FutureWarning, stacklevel=1)
    assert caplog.records == []
    assert noisy.level == level


def test_single_label_predictions_are_labels(export: Export) -> None:
    model = load_exported(export.folder, threads=1)
    single = replace(model, problem_type="single_label_classification")
    table = single.predict(pd.DataFrame(ROWS))
    probabilities = table.filter(like="probability_").to_numpy(float)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-9)
    assert table["prediction"].tolist() == ["abc"[place] for place in probabilities.argmax(axis=1)]


@pytest.mark.slow
def test_one_of_several_adapters_with_a_head_of_its_own(export: Export, tmp_path: Path) -> None:
    artefact = made_artefact(small(export))
    clip, poster, _ = artefact.preprocessor.modalities
    own = {"bottleneck_size": 8, "task_type": "SEQ_CLS"}
    artefact.model.add_adapter("clips", MultimodalAdapterConfig(modalities=[clip], labels=["x", "y"], **own))
    artefact.model.add_adapter("posters", MultimodalAdapterConfig(modalities=[poster], **own))
    add_adapter_fusion(artefact.model, "fused", ["clips", "posters"], labels=["p", "q", "r", "s"])
    for name, labels, modalities in (("fused", list("pqrs"), ["clip", "the-poster"]), ("clips", ["x", "y"], ["clip"])):
        artefact.model.set_adapter(name)
        chosen = replace(artefact, model=strong(artefact.model).eval(), thresholds=None)
        export_artefact(chosen, tmp_path / name, gates=True)
        loaded = load_exported(tmp_path / name, threads=1)
        assert loaded.labels == labels
        assert [modality.name for modality in loaded.signature.modalities] == modalities
        data = chosen.preprocessor.transform(ROWS, with_labels=False)
        expected, found = (model.predict_dataset(data, output_gates=True) for model in (chosen, loaded))
        np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.gates, expected.gates, rtol=0, atol=1e-5)
    assert loaded.pipeline["export"]["gates"]["names"] == ["text", "clip"]
