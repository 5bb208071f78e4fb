"""docs/sharing.md is true: its commands and code run as they stand, against the Hub on the loopback interface."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_hub import FakeHub
from hub_artefacts import BACKBONE, FILES, FIXTURES

from mmadapters.artefact.files import LARGEST
from mmadapters.artefact.weights_file import LARGEST_HEADER, MOST_TENSORS
from mmadapters.cli.main import main

# Of huggingface_hub's own, in uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
PAGE = Path(__file__).parents[2] / "docs" / "sharing.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_commands_and_code_of_the_page(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    shutil.copytree(FIXTURES / "multi_label", "runs/movies/artefact")
    pd.read_json(FIXTURES / "rows.jsonl", lines=True).to_csv("movies.csv", index=False)
    (lines,) = blocks("console")
    verbs = []
    for line in lines.splitlines():
        words = shlex.split(line)
        verbs.append(words[1])
        monkeypatch.setattr(sys, "argv", [*words, *(["--backbone", BACKBONE] if words[1] != "push" else [])])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 0
    assert verbs == ["push", "push", "predict", "info"]
    assert "licence: apache-2.0" in capsys.readouterr().out
    assert len(pd.read_csv("predictions.csv")) == 10
    assert sorted(set(hub.repositories["ann/movie-genres"].commits.popitem()[1]) - {".gitattributes"}) == FILES
    hub.repositories.clear()
    first, second = blocks("python")
    names: dict = {}
    exec(compile(first.replace("commit)", f"commit, backbone={BACKBONE!r})"), str(PAGE), "exec"), names)
    assert names["artefact"].license == "apache-2.0"
    assert hub.repositories["ann/movie-genres"].private
    exec(compile(second.replace('"minilm"', repr(BACKBONE)), str(PAGE), "exec"), names)
    assert names["artefact"].license is None


def test_the_page_names_files_and_limits() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)) == sorted(
        [*FILES, "adapter_config.json", "pipeline.json"]
    )
    assert set(LARGEST) == set(FILES)
    sizes = (LARGEST["pipeline.json"], LARGEST["adapter_config.json"], LARGEST["adapter_model.safetensors"])
    assert sizes == (16_000_000, 8_000_000, 4_000_000_000)
    assert "more than 16 MB of `pipeline.json`, 8 MB of `adapter_config.json`, 4 GB of weights" in text
    assert (LARGEST_HEADER, MOST_TENSORS) == (16_000_000, 50_000)
    assert "more than 16 MB or 50,000 tensors" in text
