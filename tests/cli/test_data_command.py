"""``mmadapters data``: what its verbs write and print, their exit status, and the commands of docs/datasets.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from emoji_files import LABEL_COUNTS, N_ROWS, package_files, png, write_archive
from mmadapters.cli.main import app, main
from mmadapters.data.sources import emoji, movielens
from mmadapters.data.sources.movielens import AUDIENCE_COLUMNS
from mmadapters.errors import ConfigurationError, DataError

DOCUMENT = Path(__file__).parents[2] / "docs" / "datasets.md"


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package that counts as the published one."""
    monkeypatch.setattr(emoji, "N_ROWS", N_ROWS)
    monkeypatch.setattr(emoji, "LABEL_COUNTS", LABEL_COUNTS)
    return write_archive(tmp_path / "emoji.tgz", package_files())


@pytest.fixture
def movies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``movies.csv`` that the document speaks of, in the working folder."""
    (tmp_path / "a.png").write_bytes(png((1, 2, 3)))
    frame = pd.DataFrame(
        {
            "movie_id": [f"tt{number}" for number in range(6)],
            "title": [f"the film number {number}" for number in range(6)],
            "year": [1990, 1991, None, 1993, 1994, 1995],
            "genres": ["drama|war", "war", "war", "drama", "drama|war", "drama"],
            "poster": ["a.png", None, None, "a.png", "a.png", "a.png"],
        }
    )
    frame.to_csv(tmp_path / "movies.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "movies.csv"


def test_emoji_are_written_and_counted(archive: Path, tmp_path: Path) -> None:
    result = command("data", "emoji", "--output", tmp_path / "emoji", "--package", archive, "--seed", 2)
    assert result.exit_code == 0
    assert re.search(r"rows +│ +41 │ +6 │ +12 │ +59 ", result.stdout)
    (flags,) = re.findall(r"Flags/country-flag +│ +(\d+) │ +(\d+) │ +(\d+) │ +14 ", result.stdout)
    assert sum(map(int, flags)) == 14
    written = str(tmp_path / "emoji")
    assert result.stdout.splitlines()[-4:] == [
        f"Written to {written}. Next:",
        f"  cd {written}",
        "  mmadapters extract extract.yaml",
        "  mmadapters train train.yaml",
    ]
    assert "seed: 2\n" in (tmp_path / "emoji" / "train.yaml").read_text()


def test_a_used_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    for verb in ("emoji", "movies", "trailers"):
        result = command("data", verb, "-o", tmp_path)
        assert isinstance(result.exception, ConfigurationError)
        assert "Name a new folder" in str(result.exception)
        assert result.output == ""


def test_trailers_are_written_with_what_reads_them(tmp_path: Path) -> None:
    result = command("data", "trailers", "-o", tmp_path / "trailers", "--rows", 20, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert re.search(r"rows +│ +12 │ +3 │ +5 │ +20 ", result.stdout)
    folder = tmp_path / "trailers"
    run = yaml.safe_load((folder / "train.yaml").read_text())
    rows = {name: pd.read_csv(folder / f"{name}.csv") for name in ("rows", "train", "validation", "test")}
    ids = [id for name in ("train", "validation", "test") for id in rows[name]["id"]]
    assert sorted(ids) == rows["rows"]["id"].tolist()
    columns = [*run["modalities"]["table"]["numeric"], *run["modalities"]["table"]["categorical"]]
    assert {run["data"]["text"], run["data"]["label"], *columns} <= set(rows["train"])
    assert run["seed"] == 3
    assert run["data"]["synthetic"] is True
    extract = yaml.safe_load((folder / "extract.yaml").read_text())
    named = {entry["column"] for entry in extract["modalities"].values()}
    paths = [path for column in named for path in rows["rows"][column].dropna()]
    assert paths
    assert all((folder / path).is_file() for path in paths)
    stored = {name for name, entry in run["modalities"].items() if "store" in entry}
    assert stored == set(extract["modalities"])


def test_a_package_that_is_none_leaves_no_folder(tmp_path: Path) -> None:
    result = command("data", "emoji", "-o", tmp_path / "emoji", "--package", tmp_path / "absent.tgz")
    assert isinstance(result.exception, DataError)
    assert list(tmp_path.iterdir()) == []


def test_a_checked_table_is_printed(movies: Path) -> None:
    result = command("data", "check", movies, "--min-members", 4)
    assert result.exit_code == 0
    lines = [re.sub(r"[ │]+", " ", line).strip() for line in result.stdout.splitlines()]
    assert "movie_id identifier 0 6" in lines
    assert "title text 0 6 4.0 words on average, 4 at most" in lines
    assert "year number 1 (16.7%) 5 1990 to 1995, mean 1993" in lines
    assert "genres list 0 2 separated by '|', drama (4), war (4)" in lines
    assert "poster image path 2 (33.3%) 1 4 of 4 files can be used" in lines
    assert "war 4 66.7%" in lines
    assert lines[-1] == "no problems found"


def test_errors_are_printed_and_are_the_exit_status(movies: Path) -> None:
    movies.write_text(movies.read_text().replace("tt3,", "tt1,").replace("a.png\ntt5", "b.png\ntt5"))
    result = command("data", "check", movies)
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith(("error", "warning"))]
    assert lines == [
        "error: poster: the file does not exist: row 4",
        "error: movie_id: 1 id is not unique: 'tt1' (2 rows). Name another column with --id if this one is no id.",
        "warning: genres: 2 labels have less than 10 rows: 'drama' (4), 'war' (4)",
    ]
    plain = json.loads(command("data", "check", movies, "--json").stdout)
    assert plain["file"] == str(movies)
    assert [f"{each['level']}: {each['column']}: {each['message']}" for each in plain["problems"]] == lines
    named = json.loads(command("data", "check", movies, "--json", "--id", "title", "--label", "poster").stdout)
    assert (named["id"], named["labels"]["columns"]) == ("title", ["poster"])


def test_vectors_numbers_and_long_values_in_a_line(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "viewers": [np.zeros(64), np.ones(64), np.ones(64)],
            "votes": [1_234_567, 20_000, 1],
            "studio": ["a studio with a very long name indeed"] * 3,
            "words": [["a"], ["b"], []],
        }
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    lines = command("data", "check", tmp_path / "rows.parquet").stdout.splitlines()
    content = {line.split("│")[1].strip(): line.split("│")[5].strip() for line in lines if line.count("│") == 6}
    assert content == {
        "viewers": "(64,)",
        "votes": "1 to 1,234,567, mean 4.182e+05",
        "studio": "a studio with a very long nam… (3)",
        "words": "a (1), b (1)",
    }
    assert "labels: words (guessed; --label names another), multi_label_classification" in lines


def commands() -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run_line(line: str, *extra: str) -> None:
    with patch.object(sys, "argv", [*shlex.split(line), *extra]), pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0, line


def run_documented(lines: list[str], extra: dict[str, list[str]]) -> None:
    for line in lines:
        if line.startswith("cd "):
            os.chdir(line.removeprefix("cd "))
        else:
            run_line(line, *extra.get(line.split()[1], []))


def test_emoji_as_documented(archive: Path, tmp_path: Path, tiny_backbone: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.chdir(tmp_path)
    tiny = ["--set", f"model.backbone={tiny_backbone}", "--set", "training.num_train_epochs=1"]
    run_documented(commands()[:4], {"data": ["--package", str(archive)], "train": tiny})
    assert "59 rows: 0 done before, 59 extracted" in capsys.readouterr().out
    pipeline = json.loads((tmp_path / "emoji/runs/emoji/artefact/pipeline.json").read_text())
    assert pipeline["labels"] == sorted(LABEL_COUNTS)


def test_movies_as_documented(tmp_path: Path, tiny_backbone: Path, monkeypatch, capsys) -> None:
    random = np.random.default_rng(0)

    def splits(seed: int, cache_dir: Path | None = None) -> dict[str, pd.DataFrame]:
        columns = {
            "movie_id": range(8),
            "title": ["love and war", "the school"] * 4,
            "genres": [["Drama", "War"], ["Comedy"]] * 4,
            **{name: random.random(8) for name in AUDIENCE_COLUMNS},
            "viewers": list(random.random((8, 64)).astype(np.float32)),
        }
        return {name: pd.DataFrame(columns) for name in movielens.DEFAULT_FRACTIONS}

    monkeypatch.setattr(movielens, "movie_splits", splits)
    monkeypatch.chdir(tmp_path)
    tiny = ["--set", f"model.backbone={tiny_backbone}", "--set", "training.num_train_epochs=1"]
    run_documented(commands()[4:7], {"train": tiny})
    written = json.loads((tmp_path / "movies/runs/movies/metrics.json").read_text())
    assert set(written["splits"]) == {"validation", "test"}


def test_the_check_as_documented(movies: Path, capsys) -> None:
    lines = [line for line in commands() if line.startswith("mmadapters data check")]
    assert [line.split()[2] for line in lines] == ["check", "check"]
    run_documented(lines, {})
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{\n") :])["labels"]["counts"] == {"drama": 4, "war": 4}
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    exec(compile(code, str(DOCUMENT), "exec"), {})
    assert capsys.readouterr().out.startswith("True {'drama': 4, 'war': 4} [")


def test_the_document_states_the_published_counts() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"{emoji.N_ROWS:,} pictures" in text
    categories = sum("/" not in label for label in emoji.LABEL_COUNTS)
    assert f"{categories} categories and {len(emoji.LABEL_COUNTS) - categories} subcategories" in text
    assert f"{emoji.PACKAGE.name}@{emoji.PACKAGE.version}" in text
    assert f"{emoji.PACKAGE.file_name}`" in text
    columns = {name for row in re.findall(r"^\| (`[a-z_]+`.*?) \|", text, re.MULTILINE) for name in row.split(", ")}
    assert {f"`{name}`" for name in emoji.TABLE_COLUMNS} <= columns
