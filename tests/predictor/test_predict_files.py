"""``mmadapters predict`` at any size: bad rows are marked, killed runs go on, and numbers are those in memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predictor_rows import QUICK, movie_rows, predictor

from mmadapters import MultimodalPredictor
from mmadapters.cli.main import main
from mmadapters.data.files import read_rows, write_rows
from mmadapters.evaluation.evaluator import predict
from mmadapters.features.store_lock import FolderLock
from mmadapters.predictor import predict_files, prediction_file
from mmadapters.predictor.chunks import CHUNK_ROWS
from mmadapters.predictor.prediction_file import staging_folder

pytest.importorskip("resource", reason="peak memory is asked for as Unix has it")
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""What is freed goes back to the system at once, so that peaks are of what lives and not of what allocators keep."""


@pytest.fixture(scope="module")
def trained(tiny_backbone: Path) -> MultimodalPredictor:
    columns: dict[str, Any] = {"text": "plot", "tabular": ["budget", "country"], "vectors": "viewers", "id": "movie"}
    return predictor(tiny_backbone, **columns, label_separator="|", training=QUICK).fit(movie_rows(80))


@pytest.fixture(scope="module")
def model(trained: MultimodalPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained.save(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def strict(model: Path) -> Path:
    """The same as an artefact that no predictor trained, whose number columns take numbers alone."""
    folder = shutil.copytree(model, model.with_name("strict"))
    pipeline = json.loads((folder / "pipeline.json").read_text())
    del pipeline["predictor"]
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    return folder


def command(*arguments: object, status: int = 0) -> None:
    before = sys.argv
    sys.argv = ["mmadapters", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        sys.argv = before
    assert (stopped.value.code or 0) == status


def written(rows: pd.DataFrame, file: Path) -> Path:
    """Rows as a file; in CSV vectors are lists of numbers in quotes."""
    if file.suffix == ".csv":
        rows = rows.assign(viewers=[None if v is None else json.dumps(v.tolist()) for v in rows["viewers"]])
    write_rows(rows, file)
    return file


def test_a_file_of_several_runs_has_the_numbers_of_the_frame(
    trained: MultimodalPredictor, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = movie_rows(2 * CHUNK_ROWS + 100, seed=3)
    for ending in ("jsonl", "parquet"):
        file = written(rows, tmp_path / f"rows.{ending}")
        command("predict", model, file, "-o", tmp_path / f"out-{ending}.parquet")
    assert "2,148 predictions written to" in capsys.readouterr().err
    table = pd.read_parquet(tmp_path / "out-jsonl.parquet")
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "out-parquet.parquet"))
    names = [f"probability_{name}" for name in trained.classes_]
    expected = trained.predict_proba(rows).to_numpy()
    assert table[names].to_numpy().tobytes() == np.ascontiguousarray(expected).tobytes()
    assert table["prediction"].tolist() == ["|".join(labels) for labels in trained.predict(rows)]
    assert table["movie"].tolist() == rows["movie"].tolist()
    assert set(table["status"]) == {"ok"}
    # Other batches have other last bits, and no more than these.
    artefact = trained.artefact_
    whole = artefact.preprocessor.transform(rows, with_labels=False)
    together = predict(artefact.model, whole, artefact.collator, artefact.problem_type, batch_size=7).scores
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-6)


def test_bad_rows_are_marked_and_end_nothing(strict: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    rows = movie_rows(6, seed=3).drop(columns="genres")
    rows["movie"] = ["=1+1", "007", "+m", "@x", "-3", "b"]
    whole = written(rows, tmp_path / "whole.csv")
    command("predict", strict, whole, "-o", tmp_path / "whole.out.jsonl")
    expected = read_rows(tmp_path / "whole.out.jsonl")
    lines = whole.read_text().splitlines(keepends=True)
    wrong = [
        'w1,"the war","[1, 2, 3]",1,fr\n',
        'w2,"the war",nowhere.npy,1,fr\n',
        'w3,"the war","[1, 2, 3, 4]",a lot,fr\n',
        "w4,the,war,of,the,worlds\n",
        'w5,"the war","[1, NaN, 3, 4]",1,fr\n',
    ]
    bad = tmp_path / "bad.csv"
    bad.write_text("".join([*lines[:3], *wrong, *lines[3:], 'w6,"open\n']))
    command("predict", strict, bad, "-o", tmp_path / "bad.out.csv")
    said = " ".join(capsys.readouterr().err.split())
    assert "12 predictions written" in said
    assert "6 rows cannot be read and have no prediction; see the column error" in said
    text = (tmp_path / "bad.out.csv").read_text()
    table = pd.read_csv(tmp_path / "bad.out.csv", dtype={"movie": str})
    assert table["movie"].tolist() == ["'=1+1", "007", "w1", "w2", "w3", "w4", "w5", "'+m", "'@x", "-3", "b", "w6"]
    assert table["status"].tolist() == ["ok"] * 2 + ["error"] * 5 + ["ok"] * 4 + ["error"]
    assert "\n'=1+1," in text
    errors = table.loc[table["status"] == "error"]
    assert errors["prediction"].isna().all()
    assert errors.filter(like="probability").isna().all().all()
    messages = (
        *("has 3 features in row 2 and 4", "nowhere.npy' does not exist", "'a lot' in row 4"),
        *("6 cells for 5 columns", "NaN", "never closed"),
    )
    for message, found in zip(messages, errors["error"], strict=True):
        assert message in found
    good = table.loc[table["status"] == "ok"]
    columns = [name for name in expected if name.startswith("probability_")]
    np.testing.assert_allclose(good[columns], expected[columns], rtol=0, atol=1e-6)
    # A model that a predictor trained takes what is no number for missing, and says so.
    command("predict", model, bad, "-o", tmp_path / "bad.out.jsonl")
    table = read_rows(tmp_path / "bad.out.jsonl")
    assert table["movie"].tolist()[:2] == ["=1+1", "007"]
    assert table["status"].tolist()[4] == "partial"
    assert table["error"].tolist()[4] == "budget: 'a lot' is no number"
    assert "1 rows name something that cannot be used" in " ".join(capsys.readouterr().err.split())


def test_rows_without_ids_have_numbers_and_no_row_may_be_good(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"plot": "war", "budget": 1, "country": "fr", "viewers": null}\nbroken\n')
    command("predict", model, file, "-o", tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["row"].tolist() == [0, 1]
    assert table["status"].tolist() == ["ok", "error"]
    file.write_text("broken\nas well\n")
    command("predict", model, file, "-o", tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["status"].tolist() == ["error"] * 2


def test_a_folder_of_files_and_keys_that_come_later_or_never(model: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    first = movie_rows(3, seed=3).drop(columns="genres")
    written(first.assign(viewers=[np.ones(4)] * 3), folder / "a.jsonl")
    (folder / "b.jsonl").write_text('{"movie": "x", "plot": "war"}\n')
    command("predict", model, folder, "-o", tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["movie"].tolist() == [*first["movie"], "x"]
    (folder / "a.jsonl").unlink()
    command("predict", model, folder, "-o", tmp_path / "none.csv", status=2)
    assert "The rows have no column 'budget'" in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "rows"]


@pytest.fixture
def runs_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_files, "CHUNK_ROWS", 8)


class Killed(BaseException):
    """What ends a process without a word."""


@pytest.mark.usefixtures("runs_of_eight")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("moment", ["rows written", "noted"])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    model: Path, tmp_path: Path, ending: str, moment: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows = written(movie_rows(44, seed=3).drop(columns="genres"), tmp_path / "rows.jsonl")
    command("predict", model, rows, "-o", tmp_path / f"whole.{ending}")
    output = tmp_path / f"out.{ending}"
    noted = prediction_file.PredictionFile._note
    for end in (1, 3, 5):
        done = 0

        def dying(self: Any, end: int = end) -> None:
            nonlocal done
            done = self.runs
            if self.runs == end and moment == "rows written":
                raise Killed
            noted(self)
            if self.runs == end:
                raise Killed

        monkeypatch.setattr(prediction_file.PredictionFile, "_note", dying)
        with pytest.raises(Killed):
            command("predict", model, rows, "-o", output, *(["--resume"] if end > 1 else []))
        assert done == end
        assert not output.exists()
    monkeypatch.setattr(prediction_file.PredictionFile, "_note", noted)
    capsys.readouterr()
    command("predict", model, rows, "-o", output, "--resume")
    assert f"going on after {40 if moment == 'noted' else 32} rows" in " ".join(capsys.readouterr().err.split())
    assert output.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert len(read_rows(output)) == 44
    assert not staging_folder(output).exists()


@pytest.mark.usefixtures("runs_of_eight")
def test_an_unfinished_run_is_neither_lost_nor_mixed_with_another(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows, output = written(movie_rows(20, seed=3), tmp_path / "rows.jsonl"), tmp_path / "out.csv"
    noted = prediction_file.PredictionFile._note

    def interrupted(self: Any) -> None:
        noted(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction_file.PredictionFile, "_note", interrupted)
    command("predict", model, rows, "-o", output, status=130)
    assert "the same command with --resume goes on from here" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(prediction_file.PredictionFile, "_note", noted)
    command("predict", model, rows, "-o", output, status=2)
    said = " ".join(capsys.readouterr().err.split())
    assert "An unfinished run has left 8 rows for" in said
    assert "--resume, or remove the folder" in said
    command("predict", model, rows, "-o", output, "--resume", "--max-tokens-per-batch", "64", status=2)
    assert "had other inputs: max_tokens_per_batch was None, is now 64" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "other.jsonl").write_text(rows.read_text() + "\n")
    os.replace(tmp_path / "other.jsonl", rows)
    command("predict", model, rows, "-o", output, "--resume", status=2)
    assert "had other inputs: rows." in " ".join(capsys.readouterr().err.split())
    lock = FolderLock(staging_folder(output))
    command("predict", model, rows, "-o", output, "--resume", status=2)
    assert "Another process writes" in capsys.readouterr().err
    lock.release()
    # What cannot be read of an earlier run is none.
    (staging_folder(output) / "progress.json").write_text("{")
    command("predict", model, rows, "-o", output, "--resume")
    assert "nothing to go on with: a new start" in capsys.readouterr().err
    assert len(pd.read_csv(output)) == 20


@pytest.mark.usefixtures("runs_of_eight")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_run_that_dies_with_its_work_done_can_be_made_again(
    model: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, output = written(movie_rows(20, seed=3), tmp_path / "rows.jsonl"), tmp_path / f"out.{ending}"

    def dying(folder: Path, ignore_errors: bool = False) -> None:
        for part in Path(folder).glob("part-000000*"):
            part.unlink()
        raise Killed

    with monkeypatch.context() as during:
        during.setattr(prediction_file.shutil, "rmtree", dying)
        with pytest.raises(Killed):
            command("predict", model, rows, "-o", output)
    whole = output.read_bytes()
    command("predict", model, rows, "-o", output, "--resume")
    assert output.read_bytes() == whole
    assert not staging_folder(output).exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows_and_a_kill_loses_one_run(model: Path, tmp_path: Path) -> None:
    for name, n in (("few", 2), ("many", 8)):
        rows = movie_rows(CHUNK_ROWS, seed=3)
        rows["viewers"] = [np.zeros(4, np.float32)] * len(rows)
        # Most of a file is a column that the model does not read.
        rows["notes"] = "x" * 3000
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            for part in range(n):
                rows["movie"] = [f"m{part}-{row}" for row in range(len(rows))]
                rows.to_json(file, orient="records", lines=True)
    script = Path(__file__).with_name("predict_memory.py")
    arguments = [sys.executable, "-W", "ignore", str(script), str(model), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=280, env=os.environ | RETURNED)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # The files differ by 19 MB, and all rows in memory by more.
    assert found["many"]["rows"] == 4 * found["few"]["rows"] == 8 * CHUNK_ROWS
    assert found["many"]["peak_mb"] - found["few"]["peak_mb"] < 8
    assert found["killed"] == -9
    assert found["rows_before"] == CHUNK_ROWS
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "few.csv").read_bytes()
