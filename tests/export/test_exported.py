"""An exported model predicts by itself: rows of any kind, without PyTorch, under either runtime, in 8 bits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exported_models import ROWS, Export

from mmadapters.errors import ConfigurationError, DataError, InputError
from mmadapters.export import ExportedModel, load_exported

OTHER_PROCESS = """
import sys

BLOCKED = ("torch", "transformers", "peft", "accelerate", "onnx", "onnxscript", "sklearn", "safetensors")

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
from mmadapters.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def model(export: Export) -> ExportedModel:
    return load_exported(export.folder, threads=1)


def test_rows_are_predicted_with_their_index(export: Export, model: ExportedModel) -> None:
    rows = ROWS.drop(columns="labels").set_axis([f"row {place}" for place in range(len(ROWS))])
    table = model.predict(rows)
    assert list(table.index) == list(rows.index)
    assert list(table) == ["prediction", "probability_a", "probability_b", "probability_c"]
    probabilities = 1 / (1 + np.exp(-export.logits))
    np.testing.assert_allclose(table.iloc[:, 1:].to_numpy(float), probabilities, rtol=0, atol=1e-6)
    expected = [
        [label for label, p, t in zip("abc", row, (0.4, 0.5, 0.6), strict=True) if p >= t] for row in probabilities
    ]
    assert table["prediction"].tolist() == expected
    assert 0 < sum(map(len, expected)) < 15
    as_dictionaries = model.predict(rows.to_dict("records"))
    assert list(as_dictionaries.index) == [0, 1, 2, 3, 4]
    assert as_dictionaries["prediction"].tolist() == expected


def test_what_the_artefact_knows_is_kept(export: Export, model: ExportedModel) -> None:
    artefact = export.artefact
    assert (model.problem_type, model.labels) == (artefact.problem_type, artefact.labels)
    assert model.decision_thresholds == artefact.decision_thresholds == (0.4, 0.5, 0.6)
    assert model.preprocessor.to_dict() == artefact.preprocessor.to_dict()
    assert (model.batch_size, model.max_tokens_per_batch) == (2, None)
    assert (model.form.name, model.form.runtime) == ("float32", "onnxruntime")


@pytest.mark.parametrize(("runtime", "int8"), [("openvino", False), ("onnxruntime", True)])
def test_other_forms(export: Export, runtime: str, int8: bool) -> None:
    other = load_exported(export.folder, runtime=runtime, int8=int8, threads=1)
    data = other.preprocessor.transform(ROWS, with_labels=False)
    apart = np.abs(other.predict_dataset(data).logits - export.logits).max()
    assert (apart < 1e-4) is not int8
    assert apart < 1
    sizes = export.report.bytes
    assert sizes["model.int8.onnx"] < sizes["model.onnx"]


def test_token_budgets_and_batch_sizes_change_no_more_than_the_last_digits(
    export: Export, model: ExportedModel
) -> None:
    data = model.preprocessor.transform(ROWS, with_labels=False)
    for options in ({"batch_size": 5}, {"max_tokens_per_batch": 24}, {"batch_size": 1}):
        found = model.predict_dataset(data, **options).logits
        np.testing.assert_allclose(found, export.logits, rtol=0, atol=1e-5)
    with pytest.raises(ConfigurationError, match="max_tokens_per_batch=3 is less than"):
        model.predict_dataset(data, max_tokens_per_batch=3)


def test_the_command_line_predicts_where_there_is_no_pytorch(export: Export, tmp_path: Path) -> None:
    rows, target = tmp_path / "rows.jsonl", tmp_path / "predictions.csv"
    ROWS.drop(columns="labels").to_json(rows, orient="records", lines=True)
    arguments = ["predict", str(export.folder), str(rows), "-o", str(target)]
    process = subprocess.run([sys.executable, "-c", OTHER_PROCESS, *arguments], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    table = pd.read_csv(target)
    assert table["id"].tolist() == ROWS["id"].tolist()
    probabilities = 1 / (1 + np.exp(-export.logits))
    columns = [f"probability_{label}" for label in "abc"]
    np.testing.assert_allclose(table[columns].to_numpy(float), probabilities, rtol=0, atol=1e-6)


def test_the_readme_runs_the_graph_alone(export: Export, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    text = (export.folder / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)[1]
    assert "mmadapters" not in code
    monkeypatch.chdir(export.folder)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["scores"].shape == (2, 3)
    capsys.readouterr()
    model = load_exported(export.folder, threads=1)
    data = model.preprocessor.transform(
        pd.DataFrame({"id": ["x", "y"], "plot": ["A text.", "A second, longer text."]}).assign(
            clip=[[0.0] * 3, None], poster=[[0.0] * 2, None], year=None, country=None
        ),
        with_labels=False,
    )
    tokens = data.tokens(1)["input_ids"]
    assert names["feeds"]["input_ids"][1].tolist() == tokens
    for said in (
        "`modality_features.the-poster` | float32 | (batch, steps_the-poster, 2)",
        "`logits` | float32 | (batch, 3)",
    ):
        assert said in text
    assert "On 5 rows, beside the artefact" in text
    assert "| test | micro F1 | 0.5000 |" in text


def test_nothing_tells_where_it_was_made(export: Export) -> None:
    here = str(Path(__file__).parents[2]).encode()
    for path in export.folder.iterdir():
        assert here not in path.read_bytes(), path.name
        assert b"site-packages" not in path.read_bytes(), path.name
    section = json.loads((export.folder / "pipeline.json").read_text())["export"]
    assert section["opset"] == 20
    assert section["versions"]["onnxruntime"]


TEXT = {
    "input_ids": np.ones((2, 4), int),
    "attention_mask": np.ones((2, 4), int),
    "token_type_ids": np.zeros((2, 4), int),
}


@pytest.mark.parametrize(
    ("text", "features", "masks", "message"),
    [
        (
            {**TEXT, "position_ids": TEXT["input_ids"]},
            {},
            {},
            "text has 'position_ids', which the exported model does not",
        ),
        (
            {"input_ids": TEXT["input_ids"]},
            {},
            {},
            "The text lacks 'attention_mask', 'token_type_ids'|'token_type_ids'",
        ),
        ({**TEXT, "attention_mask": np.ones((2, 3))}, {}, {}, r"'attention_mask' has the shape \(2, 3\)"),
        ({name: np.ones((2, 0)) for name in TEXT}, {}, {}, "with at least one row and one token"),
        (TEXT, {"the_poster": np.ones((2, 2))}, {}, "Did you mean 'the-poster'"),
        (TEXT, {}, {"klip": np.ones(2, bool)}, "modality_mask has 'klip'.*Did you mean 'clip'"),
        (
            TEXT,
            {"clip": np.ones((2, 4))},
            {},
            r"\['clip'\] has the shape \(2, 4\). For this batch it is \(2, 3\), or \(2, ",
        ),
        (TEXT, {"clip": np.ones((3, 3))}, {}, r"\['clip'\] has the shape \(3, 3\)"),
        (TEXT, {"clip": np.ones((2, 0, 3))}, {}, "with at least one step"),
        (
            TEXT,
            {"clip": np.ones((2, 5, 3))},
            {"clip": np.ones((2, 4), bool)},
            r"Pass one value a row, \(2,\), or one a step",
        ),
        (
            TEXT,
            {"clip": np.full((2, 3), np.nan)},
            {"clip": np.array([False, True])},
            r"NaN or infinite in the rows \[1\]",
        ),
        (TEXT, {"clip": np.full((2, 3), np.inf)}, {}, r"in the rows \[0, 1\] of the batch. Mend the features"),
    ],
)
def test_batches_that_do_not_fit(model: ExportedModel, text: dict, features: dict, masks: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.infer(text, features, masks)


def test_rows_that_do_not_fit(model: ExportedModel) -> None:
    with pytest.raises(DataError, match="plot"):
        model.predict(ROWS.drop(columns="plot"))
    with pytest.raises(DataError, match="no rows"):
        model.predict(ROWS.iloc[:0])
