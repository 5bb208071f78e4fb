"""What benchmarks/export.py measures: all forms run the same batch, and give the same logits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_models import ROWS, Export

from mmadapters.artefact import save_artefact

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("a source distribution has no benchmarks", allow_module_level=True)
sys.path.append(str(BENCHMARKS))

from exported_forms import FORMS, SAVED, ExportedForm, run_command  # noqa: E402


@pytest.fixture(scope="module")
def places(export: Export, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("benchmark")
    ROWS.to_json(folder / "rows.jsonl", orient="records", lines=True)
    artefact = save_artefact(export.artefact, folder / "artefact")
    return {"artefact": artefact, "exported": export.folder, "file": folder / "rows.jsonl", "threads": 1}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_form_runs_the_same_batch(places: dict[str, Any], form: str) -> None:
    settings = {**places, "rows": 3, "tokens": 9, "ids": (5, 20)}
    expected, found = ExportedForm(SAVED, settings).infer(), ExportedForm(form, settings).infer()
    assert found.shape == expected.shape == (3, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.5 if "int8" in form else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", [SAVED, *FORMS])
def test_the_command_is_timed_in_a_process_of_its_own(places: dict[str, Any], tmp_path: Path, form: str) -> None:
    target = tmp_path / "predictions.csv"
    measured = run_command(form, {**places, "target": target})
    assert target.is_file()
    assert measured["seconds"] > 0
    assert 50 < measured["peak_megabytes"] < 4000
