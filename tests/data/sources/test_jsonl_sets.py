"""Food-101, V-SNLI, Hateful Memes and MPAA ratings: from their published files to a training run."""

from __future__ import annotations

import json
from pathlib import Path

import jsonl_files as files
import pytest
import yaml
from published_runs import inside, run_command, trained
from typer.testing import CliRunner

from mmadapters.cli.main import app
from mmadapters.data.files import read_rows
from mmadapters.data.sources.food101 import Food101Counts, read_food101
from mmadapters.data.sources.hateful_memes import HatefulMemesCounts, read_hateful_memes
from mmadapters.data.sources.mpaa import MPAACounts, read_mpaa
from mmadapters.data.sources.published import write_published
from mmadapters.data.sources.vsnli import VSNLICounts, read_vsnli
from mmadapters.errors import DataError
from mmadapters.features.store import FeatureStore

ROWS = {"train": 12, "validation": 6, "test": 6}
FOOD = Food101Counts(rows=ROWS, classes=3, reported={})
VSNLI = VSNLICounts(reported=ROWS)
MEMES = HatefulMemesCounts(seen=ROWS, unseen=ROWS)
SEEN = {"train": "train.jsonl", "dev": "dev_seen.jsonl", "test": "test_seen.jsonl"}


def artefact(folder: Path, name: str) -> dict:
    return json.loads((folder / "runs" / name / "artefact" / "pipeline.json").read_text())


def test_pairs_of_sentences_train(tmp_path: Path, tiny_backbone: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    source = files.write_set(tmp_path / "source", files.vsnli_row)
    data = read_vsnli(source, counts=VSNLI)
    assert data.notes == ()
    write_published(data, tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "train.parquet")
    assert rows["id"].tolist()[:2] == ["train-1", "train-2"]
    assert rows["premise"].tolist() == [files.text(number // 2) for number in range(12)]
    assert rows["hypothesis"].tolist() == [files.text(number) for number in range(12)]
    with inside(tmp_path / "out"):
        run_command("extract", "extract.yaml")
    metrics = trained(tmp_path / "out", tiny_backbone, "runs/vsnli")
    assert 0 <= metrics["splits"]["test"]["metrics"]["accuracy"] <= 1
    pipeline = artefact(tmp_path / "out", "vsnli")
    assert pipeline["labels"] == ["contradiction", "entailment", "neutral"]
    settings = yaml.safe_load((tmp_path / "out" / "runs" / "vsnli" / "config.resolved.yaml").read_text())
    assert settings["data"]["text"] == ["premise", "hypothesis"]
    assert settings["training"]["class_weights"] is True


def test_pairs_in_the_fields_of_snli_and_without_agreement(tmp_path: Path) -> None:
    def row(split: str, number: int) -> dict:
        pair = files.vsnli_row(split, number)
        label = "-" if number in (0, 13) else pair.pop("label")
        return {**pair, "gold_label": label, "pairID": f"pair{number}"}

    data = read_vsnli(files.write_set(tmp_path, lambda split, number: _without_label(row(split, number))), counts=VSNLI)
    assert data.splits["train"]["id"].tolist() == [f"pair{number}" for number in range(1, 12)]
    assert data.notes == (
        "train: 1 pairs without agreement are left out.",
        "validation: 1 pairs without agreement are left out.",
        "train: 11 pairs, where 12 are reported.",
        "validation: 5 pairs, where 6 are reported.",
    )


def _without_label(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "label"}


def test_all_problems_of_the_pairs_are_one_error(tmp_path: Path) -> None:
    source = files.write_set(tmp_path, files.vsnli_row)
    rows = files.read_lines(source / "train.jsonl")
    rows[1]["label"] = "maybe"
    files.write_lines(source / "train.jsonl", rows)
    rows = files.read_lines(source / "dev.jsonl")
    del rows[2]["sentence2"]
    files.write_lines(source / "dev.jsonl", rows)
    (source / "flickr30k" / "10.jpg").unlink()
    with pytest.raises(DataError) as caught:
        read_vsnli(source, counts=VSNLI)
    for part in (
        "train: 1 labels are none of entailment, neutral, contradiction: ids train-2.",
        "'dev.jsonl': 'sentence2' is not of type str in row 3.",
        "test: 1 of 3 pictures are not there, such as 'flickr30k/10.jpg'.",
        "add --allow-partial",
        "https://github.com/claudiogreco/coling18-gte",
    ):
        assert part in str(caught.value)


@pytest.mark.slow
def test_dishes_train(tmp_path: Path, tiny_backbone: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    source = files.write_set(tmp_path / "source", files.food101_row)
    written = write_published(read_food101(source, counts=FOOD), tmp_path / "out")
    assert written.label_counts["ramen"] == {"train": 4, "validation": 2, "test": 2}
    with inside(tmp_path / "out"):
        run_command("extract", "extract.yaml")
    trained(tmp_path / "out", tiny_backbone, "runs/food101")
    assert artefact(tmp_path / "out", "food101")["labels"] == ["apple_pie", "ramen", "sushi"]
    store = FeatureStore(tmp_path / "out" / "pictures")
    assert store.ids[0] == "apple_pie_apple_pie_0.jpg"
    assert all(store.status(row, "picture") == "ok" for row in range(24))


def test_problems_of_the_dishes(tmp_path: Path) -> None:
    source = files.write_set(tmp_path, files.food101_row)
    rows = files.read_lines(source / "train.jsonl")
    files.write_lines(source / "test.jsonl", [*files.read_lines(source / "test.jsonl"), rows[0]])
    with pytest.raises(DataError) as caught:
        read_food101(source)
    for part in (
        f"train and test are mixed up: 1 ids are in both: {rows[0]['id']}.",
        "validation: 6 rows; 5,000 were published.",
        "train: 3 dishes; 101 were published.",
    ):
        assert part in str(caught.value)
    files.write_lines(source / "test.jsonl", files.read_lines(source / "test.jsonl")[:-1])
    notes = read_food101(source, allow_partial=True).notes
    assert notes == ("train: 12 rows, where 60,101 are reported.", "test: 6 rows, where 21,695 are reported.")


@pytest.mark.slow
def test_memes_train(tmp_path: Path, tiny_backbone: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    source = files.write_set(tmp_path / "source", files.memes_row, SEEN)
    write_published(read_hateful_memes(source, counts=MEMES), tmp_path / "out")
    with inside(tmp_path / "out"):
        run_command("extract", "extract.yaml")
    metrics = trained(tmp_path / "out", tiny_backbone, "runs/hateful-memes")
    assert set(metrics["splits"]) == {"validation", "test"}
    pipeline = artefact(tmp_path / "out", "hateful-memes")
    assert (pipeline["problem_type"], len(pipeline["labels"])) == ("single_label_classification", 2)


def test_memes_of_the_first_phase_have_no_test_labels(tmp_path: Path, tiny_backbone: Path) -> None:
    def row(split: str, number: int) -> dict:
        meme = files.memes_row(split, number)
        return _without_label(meme) if split == "test" else meme

    data = read_hateful_memes(files.write_set(tmp_path / "source", row), counts=MEMES)
    assert data.notes == ("The test rows have no labels: train.yaml does not name them.",)
    written = write_published(data, tmp_path / "out")
    assert written.label_counts["0"] == {"train": 6, "validation": 3, "test": 0}
    settings = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    assert "test" not in settings["data"]
    assert "label" not in read_rows(tmp_path / "out" / "test.parquet")
    assert "the test rows have none" in (tmp_path / "out" / "README.txt").read_text()
    with pytest.raises(DataError, match=r"There is no file 'dev_unseen\.jsonl'"):
        read_hateful_memes(tmp_path / "source", unseen=True, counts=MEMES)


def test_the_second_phase_of_the_memes(tmp_path: Path) -> None:
    unseen = {"train": "train.jsonl", "dev": "dev_unseen.jsonl", "test": "test_unseen.jsonl"}
    source = files.write_set(tmp_path, files.memes_row, unseen)
    data = read_hateful_memes(source, unseen=True, counts=MEMES)
    assert data.splits["validation"]["id"].tolist() == [str(10_012 + place) for place in range(6)]
    rows = files.read_lines(source / "train.jsonl")
    rows[0]["label"] = 2
    files.write_lines(source / "train.jsonl", rows)
    with pytest.raises(DataError, match=r"train: labels are 0, 1, 2; accepted are 0 and 1\.") as caught:
        read_hateful_memes(source, unseen=True)
    assert "test: 6 memes; 2,000 were published." in str(caught.value)


def test_ratings_train(tmp_path: Path, tiny_backbone: Path) -> None:
    source = files.write_set(tmp_path / "source", files.mpaa_row)
    written = write_published(read_mpaa(source), tmp_path / "out")
    assert written.commands == ("mmadapters train train.yaml",)
    metrics = trained(tmp_path / "out", tiny_backbone, "runs/mpaa")
    assert "weighted_f1" in metrics["splits"]["test"]["metrics"]
    pipeline = artefact(tmp_path / "out", "mpaa")
    assert pipeline["labels"] == ["G", "PG", "PG-13", "R"]
    with pytest.raises(DataError, match="train: 12 movies; 13 were published"):
        read_mpaa(source, counts=MPAACounts({"train": 13}))


@pytest.mark.parametrize(
    ("verb", "row", "labels"),
    [
        ("food101", files.food101_row, ["apple_pie", "ramen", "sushi"]),
        ("vsnli", files.vsnli_row, ["entailment", "neutral", "contradiction"]),
        ("hateful-memes", files.memes_row, ["0", "1"]),
        ("mpaa", files.mpaa_row, ["G", "PG", "PG-13", "R"]),
    ],
)
def test_the_command_line(verb: str, row, labels: list[str], tmp_path: Path) -> None:
    source = files.write_set(tmp_path / "source", row)
    arguments = ["data", verb, str(source), "-o", str(tmp_path / "out"), "--seed", "3"]
    result = CliRunner().invoke(app, [*arguments, "--allow-partial"])
    assert result.exit_code == 0, result.output
    shown = [line.split("│")[1].strip() for line in result.stdout.splitlines() if line.startswith("│")]
    assert sorted(shown) == sorted(["rows", *labels])
    assert yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())["seed"] == 3
    again = CliRunner().invoke(app, [*arguments, "--allow-partial"])
    assert "is not empty, and nothing in it is overwritten" in str(again.exception)
    nowhere = CliRunner().invoke(app, ["data", verb, str(tmp_path / "nowhere"), "-o", str(tmp_path / "other")])
    assert isinstance(nowhere.exception, DataError)
    assert "There is no file 'train.jsonl'." in str(nowhere.exception)
    assert "The folder has to hold train.jsonl" in " ".join(str(nowhere.exception).split())
    assert not (tmp_path / "other").exists()
