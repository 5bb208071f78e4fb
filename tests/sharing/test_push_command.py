"""``mmadapters push``, and the other verbs with a name on the Hub in place of a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from fake_hub import FakeHub
from hub_artefacts import BACKBONE, FILES, FIXTURES

from mmadapters.cli.main import main

# Of huggingface_hub's own, in uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["mmadapters", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return run


def test_pushed_and_used_by_name(
    hub: FakeHub, folder: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    status, out, err = command("push", folder, "ann/movies", "--private", "--message", "first", "--revision", "v1")
    assert (status, out) == (0, "")
    said = " ".join(err.split())
    assert (
        "uploaded adapter_config.json, adapter_model.safetensors, pipeline.json, README.md to ann/movies@v1: http"
        in said
    )
    assert "no licence was given, so nobody knows what they may do with it; push again with --license" in said
    assert hub.repositories["ann/movies"].private
    status, out, err = command("push", folder, "ann/movies", "--license", "mit")
    assert (status, "no licence" in err) == (0, False)
    predictions = {}
    for name in (folder, "ann/movies", "ann/movies@v1"):
        file = tmp_path / f"{len(predictions)}.csv"
        status, _, err = command("predict", name, FIXTURES / "rows.jsonl", "-o", file, "--backbone", BACKBONE)
        assert status == 0, err
        predictions[name] = pd.read_csv(file)
        pd.testing.assert_frame_equal(predictions[name], predictions[folder])
    assert set(predictions[folder]["prediction"].dropna()) <= {"dark", "new", "war", "dark|new"}
    status, out, _ = command("info", "ann/movies", "--backbone", BACKBONE, "--json")
    info = json.loads(out)
    repository = hub.repositories["ann/movies"]
    assert info["on the Hub"] == f"ann/movies, commit {repository.branches['main']}"
    assert info["licence"] == "mit"
    status, out, _ = command("info", folder, "--backbone", BACKBONE)
    assert "licence: none given" in out
    assert "on the Hub" not in out


def test_a_dry_run_uploads_nothing(hub: FakeHub, folder: Path, command: Command) -> None:
    (folder / "README.md").unlink()
    status, out, err = command("push", folder, "ann/movies", "--dry-run", "--license", "mit")
    assert status == 0
    assert "# ann/movies" in out
    assert "license: mit" in out
    said = " ".join(err.split())
    assert "would upload to ann/movies: adapter_config.json (1 kB), adapter_model.safetensors (18 kB)" in said
    assert said.endswith("; nothing was uploaded, the model card is above")
    assert (hub.log, hub.repositories) == ([], {})


def test_errors_are_one_line(hub: FakeHub, folder: Path, command: Command) -> None:
    for arguments, message in (
        (
            ("push", folder, "ann/movies"),
            "error: 'ann/movies' could not be written on the Hub: there is no token. Log in",
        ),
        (("push", folder, "movies"), "error: 'movies' is no repository of a user. Give user/name"),
        (("push", folder / "none", "ann/movies"), "none' is no artefact: it has no adapter_config.json"),
        (
            ("info", "ann/nothing"),
            "error: There is no folder 'ann/nothing' here, so it was taken for a repository. 'ann",
        ),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert message in err
        assert err.strip().count("\n") == 0


def test_no_escape_sequence_reaches_the_terminal(folder: Path, command: Command) -> None:
    file = folder / "pipeline.json"
    pipeline = json.loads(file.read_text())
    pipeline["labels"] = ["dark\x1b]0;owned\x07", "new\x9b31m", "war"]
    pipeline["preprocessor"]["schema"]["text"] = "plot\x1b[2J"
    file.write_text(json.dumps(pipeline))
    status, out, _ = command("info", folder, "--backbone", BACKBONE)
    assert status == 0
    assert "dark\\x1b]0;owned\\x07, new\\x9b31m, war" in out
    status, shown, err = command(
        "predict", folder, FIXTURES / "rows.jsonl", "-o", folder / "p.csv", "--backbone", BACKBONE
    )
    assert status == 2
    assert "The rows have no column 'plot\\x1b[2J'" in err
    assert not [character for character in out + shown + err if character in "\x1b\x07\x9b"]
    assert sorted(path.name for path in folder.iterdir()) == FILES
