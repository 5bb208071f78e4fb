"""The command line with exported models: predict, evaluate, info, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from exported_models import ROWS, Export

from mmadapters.artefact import save_artefact
from mmadapters.cli.export import print_export
from mmadapters.cli.main import main


@pytest.fixture
def rows(tmp_path: Path) -> str:
    ROWS.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    return str(tmp_path / "rows.jsonl")


def run(*arguments: str | Path) -> int:
    with patch.object(sys, "argv", ["mmadapters", *map(str, arguments)]), pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_predictions_of_every_form(export: Export, rows: str, tmp_path: Path) -> None:
    artefact = save_artefact(export.artefact, tmp_path / "artefact")
    tables = {}
    for name, model, options in (
        ("artefact", artefact, []),
        ("onnxruntime", export.folder, ["--runtime", "onnxruntime"]),
        ("openvino", export.folder, ["--runtime", "openvino", "--max-tokens-per-batch", "24"]),
        ("int8", export.folder, ["--int8"]),
    ):
        assert run("predict", model, rows, "-o", tmp_path / f"{name}.csv", *options) == 0
        tables[name] = pd.read_csv(tmp_path / f"{name}.csv")
    columns = [f"probability_{label}" for label in "abc"]
    expected = tables["artefact"]
    for name, tolerance in (("onnxruntime", 1e-6), ("openvino", 1e-6), ("int8", 0.1)):
        assert list(tables[name]) == list(expected)
        np.testing.assert_allclose(tables[name][columns], expected[columns], rtol=0, atol=tolerance)
    assert tables["onnxruntime"]["prediction"].equals(expected["prediction"])
    assert not tables["int8"][columns].equals(expected[columns])


def test_evaluation(export: Export, rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", export.folder, rows, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    check = next(iter(export.report.checks.values()))
    assert found["metrics"] == pytest.approx(dict(check.metrics_before))
    assert "tuned_micro_f1" in found["metrics"]


def test_info(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", export.folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modalities"]["the-poster"] == "vector, 2 wide"
    assert found["gates"] == "text, clip, the-poster, table"
    assert found["opset"] == 20
    assert found["files"]["model.onnx"] == f"{export.report.bytes['model.onnx']:,} bytes"
    assert list(found["differs from the artefact by"]) == ["onnxruntime, float32", "openvino"]


def test_options_of_the_other_kind_of_model(
    export: Export, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = save_artefact(export.artefact, tmp_path / "artefact")
    target = tmp_path / "out.csv"
    for arguments, message in (
        (("predict", artefact, rows, "-o", target, "--int8"), "--runtime and --int8 are for exported models, and"),
        (("evaluate", artefact, rows, "--runtime", "openvino"), "mmadapters export"),
        (
            ("predict", export.folder, rows, "-o", target, "--backbone", "minilm"),
            "which holds its encoder. Leave it",
        ),
        (("predict", export.folder, rows, "-o", target, "--runtime", "onyx"), "runtime='onyx' is unknown"),
        (
            ("explain", export.folder, rows, "-o", tmp_path / "explained"),
            "is an exported model, which is for",
        ),
        (("export", artefact, "-o", artefact), "holds an artefact, which would be lost"),
        (("export", artefact, "-o", tmp_path / "model", "--opset", "3"), "Accepted are 18 to 23"),
    ):
        assert run(*arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not target.exists()


def test_what_export_prints(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    print_export(export.report)
    printed = capsys.readouterr()
    assert "model.int8.onnx" in printed.out
    assert "largest difference from the saved model" in printed.out
    assert "rows decided otherwise" in printed.out
    assert "micro AP" in printed.out
    assert "mmadapters predict" in printed.err
