"""Artefacts that version 0.1.0 wrote are loaded and predict what they predicted then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmadapters.artefact import load_artefact
from mmadapters.evaluation.evaluator import predict

FOLDER = Path(__file__).parent / "fixtures" / "artefact_0_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", list(EXPECTED))
def test_an_artefact_of_version_0_1(name: str) -> None:
    artefact = load_artefact(FOLDER / name, backbone=str(FOLDER / "backbone"))
    rows = pd.read_json(FOLDER / "rows.jsonl", lines=True)
    data = artefact.preprocessor.transform(rows, with_labels=False)
    logits = predict(artefact.model, data, artefact.collator, artefact.problem_type, batch_size=8).logits
    np.testing.assert_allclose(logits, EXPECTED[name], atol=1e-5)
    if name == "multi_label":
        assert artefact.labels == ["dark", "new", "war"]
        assert artefact.decision_thresholds == pytest.approx([0.47671309] * 3)
        assert artefact.metrics["validation"]["micro_average_precision"] == pytest.approx(0.80814427)
    elif name == "regression":
        assert artefact.problem_type == "regression"
        assert [modality.name for modality in artefact.preprocessor.modalities] == ["poster"]
    else:
        assert artefact.model.active_peft_config.fusion == "adapter_fusion_attention"
        assert artefact.thresholds is None


def test_the_folder_is_small_and_holds_nothing_of_the_machine_that_wrote_it() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 200_000
    texts = [path.read_text() for path in files if path.suffix in (".json", ".jsonl", ".md")]
    assert not [text for text in texts if "/home" in text or "/tmp" in text]
