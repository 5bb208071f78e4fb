"""Moviescope: both layouts through the real code path, and one error for all that is wrong."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import moviescope_files as files
import numpy as np
import pytest
import yaml
from published_runs import inside, run_command, trained
from typer.testing import CliRunner

from mmadapters.cli.main import app
from mmadapters.data.files import read_rows
from mmadapters.data.sources.moviescope import GENRES, read_moviescope, repair_mojibake
from mmadapters.data.sources.moviescope_features import joined_clips
from mmadapters.data.sources.prepared import PreparedData
from mmadapters.data.sources.published import write_published
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store import FeatureStore

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.write_released(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def research(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder around, as research code names it; the files are in ``moviescope``."""
    around = tmp_path_factory.mktemp("research")
    files.write_research(around / "moviescope")
    return around


def prepared(source: Path, target: Path, **options: object) -> PreparedData:
    return write_published(read_moviescope(source, counts=files.COUNTS, **options), target)


def test_rows_of_the_released_files(released: Path, tmp_path: Path) -> None:
    written = prepared(released, tmp_path / "out")
    assert written.split_rows == files.ROWS
    assert written.commands == ("mmadapters extract extract.yaml", "mmadapters train train.yaml")
    for name, ids in files.split_ids().items():
        rows = read_rows(tmp_path / "out" / f"{name}.parquet")
        assert rows["id"].tolist() == [str(id) for id in ids]
        assert rows["text"].tolist() == [files.plot(id) for id in ids]
        assert rows["labels"].map(list).tolist() == [files.genres(id) for id in ids]
        assert rows["title"].tolist() == [f"Film {id}" for id in ids]
        assert rows["duration"].tolist() == [id + 1 for id in ids]
        assert rows["budget"].isna().tolist() == [id % 4 == 0 for id in ids]
        assert rows["keywords"].map(list).tolist() == [[] if id % 4 == 0 else ["war", "love"] for id in ids]
        assert [len(actors) for actors in rows["actors"]] == [2 if id % 4 == 0 else 3 for id in ids]
        assert "genres" not in rows
    assert {label: counts["test"] for label, counts in written.label_counts.items()} == {
        genre: sum(genre in files.genres(id) for id in files.split_ids()["test"]) for genre in GENRES
    }


def test_features_of_the_released_files(released: Path, tmp_path: Path) -> None:
    prepared(released, tmp_path / "out", dtype="float32")
    store = FeatureStore(tmp_path / "out" / "features")
    assert store.ids == tuple(str(id) for ids in files.split_ids().values() for id in ids)
    for index, id in enumerate(map(int, store.ids)):
        np.testing.assert_array_equal(store.read(index, "trailer"), files.frames(id)[0])
        np.testing.assert_allclose(store.read(index, "trailer_mean"), files.frames(id)[0].mean(axis=0), atol=1e-6)
    assert [column.name for column in store.columns] == ["trailer"]


def test_features_of_the_research_layout(research: Path, tmp_path: Path) -> None:
    prepared(research, tmp_path / "out", dtype="float32")
    store = FeatureStore(tmp_path / "out" / "features")
    lengths = set()
    for index, id in enumerate(map(int, store.ids)):
        np.testing.assert_array_equal(store.read(index, "poster"), files.poster(id)[0])
        np.testing.assert_array_equal(store.read(index, "trailer"), files.frames(id)[0])
        np.testing.assert_array_equal(store.read(index, "metadata"), files.metadata_row(id))
        clips = files.clips(id)[0][:4]
        expected = np.concatenate([clip.T for clip in clips])
        np.testing.assert_array_equal(store.read(index, "audio"), expected)
        np.testing.assert_allclose(store.read(index, "audio_mean"), expected.mean(axis=0), atol=1e-6)
        lengths.add(len(expected))
    # Every movie keeps its own length; the original code cut all to the shortest of a batch.
    assert lengths == {min(1 + id % 6, 4) * (2 + id % 3) for id in map(int, store.ids)}
    assert lengths == {2, 6, 8, 12, 16}


def test_rows_of_the_research_layout(research: Path, tmp_path: Path) -> None:
    prepared(research, tmp_path / "out")
    for name, ids in files.split_ids().items():
        rows = read_rows(tmp_path / "out" / f"{name}.parquet")
        assert rows["id"].tolist() == [str(id) for id in ids]
        assert rows["labels"].map(list).tolist() == [files.genres(id) for id in ids]
    assert not (tmp_path / "out" / "extract.yaml").exists()


def test_only_the_means_are_kept_on_request(research: Path, tmp_path: Path) -> None:
    prepared(research, tmp_path / "out", pooled=True, without=["poster", "metadata"])
    store = FeatureStore(tmp_path / "out" / "features")
    assert [(column.name, column.feature_dim, column.is_sequence, column.dtype) for column in store.columns] == [
        ("trailer", 4096, False, "float16"),
        ("audio", 128, False, "float16"),
    ]
    id = int(store.ids[0])
    np.testing.assert_allclose(store.read(0, "trailer"), files.frames(id)[0].mean(axis=0), atol=1e-3)
    settings = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    assert settings["modalities"] == {
        "trailer": {"store": "features", "pooling": "mean"},
        "audio": {"store": "features", "pooling": "mean"},
    }


@pytest.mark.parametrize(
    ("array", "length"), [((1, 6, 128, 5), 20), ((2, 128, 5), 10), ((1, 1, 128, 5), 5), ((4, 128, 1407), 5628)]
)
def test_clips_are_joined_on_time(array: tuple[int, ...], length: int) -> None:
    clips = np.arange(np.prod(array), dtype=np.float64).reshape(array)
    joined = joined_clips(clips)
    assert joined.shape == (length, 128)
    in_order = clips.reshape(-1, *array[-2:])
    steps = array[-1]
    np.testing.assert_array_equal(joined[:steps], in_order[0].T)
    np.testing.assert_array_equal(joined[-steps:], in_order[min(4, len(in_order)) - 1].T)


@pytest.mark.parametrize("shape", [(1, 2, 96, 5), (128, 5), (2, 2, 128, 5), (1, 2, 128, 0)])
def test_other_spectrograms_are_refused(shape: tuple[int, ...]) -> None:
    assert joined_clips(np.zeros(shape)) is None


@pytest.mark.parametrize(
    ("given", "repaired"),
    [
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("caf\u00e9", "caf\u00e9"),
        ("\u00e2\u0080\u0093", "\u2013"),
        ("\u2013 caf\u00c3\u00a9", "\u2013 caf\u00c3\u00a9"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_mojibake_is_repaired_where_it_is_any(given: str, repaired: str) -> None:
    assert repair_mojibake(given) == repaired


def test_the_released_files_train(released: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    prepared(released, tmp_path / "out")
    with inside(tmp_path / "out"):
        run_command("extract", "extract.yaml")
    metrics = trained(tmp_path / "out", tiny_backbone, "runs/moviescope")
    assert set(metrics["splits"]) == {"validation", "test"}
    pipeline = json.loads((tmp_path / "out/runs/moviescope/artefact/pipeline.json").read_text())
    assert pipeline["labels"] == list(GENRES)
    adapter = json.loads((tmp_path / "out/runs/moviescope/artefact/adapter_config.json").read_text())
    assert [(entry["name"], entry["feature_dim"]) for entry in adapter["modalities"][:2]] == [
        ("poster", 1280),
        ("trailer", 4096),
    ]
    assert adapter["fusion"] == "gmu"


def test_the_research_layout_trains(research: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    prepared(research, tmp_path / "out")
    metrics = trained(tmp_path / "out", tiny_backbone, "runs/moviescope")
    assert 0 < metrics["splits"]["test"]["metrics"]["micro_average_precision"] <= 1
    adapter = json.loads((tmp_path / "out/runs/moviescope/artefact/adapter_config.json").read_text())
    assert [(entry["name"], entry["feature_dim"], entry["kind"]) for entry in adapter["modalities"]] == [
        ("poster", 4096, "image"),
        ("trailer", 4096, "video"),
        ("audio", 128, "audio"),
        ("metadata", 312, "tabular"),
    ]


def test_the_protocol_of_the_original(research: Path, tmp_path: Path) -> None:
    write_published(read_moviescope(research, counts=files.COUNTS), tmp_path / "out", seed=4)
    settings = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    training = settings["training"]
    assert training["lr_scheduler_kwargs"] == {"factor": 0.5, "patience": 2}
    assert training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] == 128
    assert training["early_stopping_patience"] == 10
    assert training["class_weights"] is True
    assert training["metric_for_best_model"] == "micro_average_precision"
    assert (settings["data"]["max_length"], settings["adapter"]["bottleneck_size"], settings["seed"]) == (512, 64, 4)


def test_all_problems_of_the_research_layout_are_one_error(tmp_path: Path) -> None:
    root = files.write_research(tmp_path / "moviescope")
    train, test = files.split_ids()["train"], files.split_ids()["test"]
    lines = (root / "test.jsonl").read_text().splitlines()
    mixed = json.dumps({"id": train[0], "label": ["drama"], "synopsis": "a film"})
    (root / "test.jsonl").write_text("\n".join([*lines[1:], lines[1], mixed]))
    (root / "200F_VGG16" / f"{train[3]}.p").unlink()
    (root / "Metadata_matrices" / "val_ids.pickle").unlink()
    np.save(root / "Metadata_matrices" / "train_metadata.npy", np.zeros((10, 7)))
    with pytest.raises(DataError) as caught:
        read_moviescope(root, counts=files.COUNTS)
    message = str(caught.value)
    assert message.startswith(f"Moviescope, research layout, in '{root}': 7 problems.\n  - ")
    for part in (
        f"test: 1 ids are there more than once: {test[1]}.",
        f"train and test are mixed up: 1 ids are in both: {train[0]}.",
        "test: 7 movies; 6 were published.",
        f"'200F_VGG16' has no file for 1 of 21 movies: {train[3]}.",
        "train_metadata.npy' has the shape (10, 7) and type float64; published were numbers of the shape (movies, 312)",
        f"test_ids.pickle' has no row for 1 movies: {train[0]}.",
        "val_ids.pickle' does not exist",
        "If it is a part of the data set on purpose, add --allow-partial.",
        "https://www.paolacascante.com/research/moviescope.html",
    ):
        assert part in message


def test_all_problems_of_the_released_files_are_one_error(tmp_path: Path) -> None:
    root = files.write_released(tmp_path / "released")
    table = (root / "movie_metadata.csv").read_text().replace("aspect_ratio", "aspect")
    (root / "movie_metadata.csv").write_text(table + table.splitlines()[-1] + "\n")
    rows = pickle.loads((root / "raw_data_val.p").read_bytes())
    rows[0]["newGenreLabels"] = "0101"
    files.write_pickle(root / "raw_data_val.p", rows)
    (root / "raw_data_test.p").write_bytes(b"no pickle")
    with pytest.raises(DataError) as caught:
        read_moviescope(root, counts=files.COUNTS)
    for part in (
        "movie_metadata.csv: 25 rows; 24 were published.",
        "'movie_metadata.csv' has no column 'aspect_ratio'.",
        "'raw_data_val.p': entry 0 is no movie with 'movie_id'",
        "raw_data_test.p' was not read: it is damaged or no pickle",
        "validation: 3 movies; 4 were published.",
        "test: 0 movies; 6 were published.",
    ):
        assert part in str(caught.value)


def test_bad_pickles_are_listed_together_and_nothing_is_written(tmp_path: Path) -> None:
    root = files.write_research(tmp_path / "moviescope")
    ids = files.split_ids()["train"]
    files.write_pickle(root / "200F_VGG16" / f"{ids[0]}.p", np.zeros((1, 3, 12), np.float32))
    files.write_pickle(root / "PosterFeatures" / f"{ids[1]}.p", {"a": files.poster(1), "b": files.poster(2)})
    (root / "MelgramPorcessed" / f"{ids[2]}.p").write_bytes(b"\x80\x02cos\nsystem\n.")
    infinite = files.poster(ids[3])
    infinite[0, 5] = np.inf
    files.write_pickle(root / "PosterFeatures" / f"{ids[3]}.p", infinite)
    with pytest.raises(DataError) as caught:
        write_published(read_moviescope(root, counts=files.COUNTS), tmp_path / "out")
    message = str(caught.value)
    assert "4 problems" in message
    for part in (
        f"{ids[0]}.p' has the shape (1, 3, 12); published were (1, frames, 4096).",
        f"{ids[1]}.p' holds 2 arrays, where one was expected.",
        "it asks for 'os.system', which numpy arrays do not need; nothing of it was run",
        f"{ids[3]}.p' has NaN or infinite numbers.",
    ):
        assert part in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moviescope"]


def test_a_part_of_the_data_set(tmp_path: Path) -> None:
    root = files.write_research(tmp_path / "moviescope")
    absent = files.split_ids()["train"][2]
    for folder in ("200F_VGG16", "MelgramPorcessed"):
        (root / folder / f"{absent}.p").unlink()
    with pytest.raises(DataError, match="add --allow-partial"):
        read_moviescope(root)
    result = CliRunner().invoke(app, ["data", "moviescope", str(root), "-o", str(tmp_path / "out"), "--allow-partial"])
    assert result.exit_code == 0, result.output
    assert "action" in result.stdout
    store = FeatureStore(tmp_path / "out" / "features")
    index = store.index_of(str(absent))
    assert store.read(index, "trailer") is None
    assert store.status(index, "audio") == "missing"
    assert store.read(index, "poster") is not None


def test_more_rows_than_published_are_no_part(research: Path) -> None:
    counts = files.MoviescopeCounts(rows={**files.ROWS, "train": 9}, movies=24)
    with pytest.raises(DataError, match="train: 10 movies; 9 were published"):
        read_moviescope(research, counts=counts, allow_partial=True)


def test_an_absent_folder_says_how_to_go_without(tmp_path: Path) -> None:
    root = files.write_research(tmp_path / "moviescope")
    os.rename(root / "MelgramPorcessed", root / "Melspectrogram")
    with pytest.raises(DataError, match="The folder 'MelgramPorcessed' does not exist. Without it: --without audio"):
        read_moviescope(root, counts=files.COUNTS, allow_partial=True)
    assert list(read_moviescope(root, without=["audio"], counts=files.COUNTS).run.modalities) == [
        *("poster", "trailer", "metadata")
    ]


def test_a_folder_without_the_data_set_says_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither 'raw_data_train\.p'.*\n.*paolacascante"):
        read_moviescope(tmp_path)


def test_the_layout_is_asked_for_where_both_are_there(tmp_path: Path) -> None:
    files.write_released(tmp_path)
    files.write_research(tmp_path)
    with pytest.raises(ConfigurationError, match="--layout released or --layout research"):
        read_moviescope(tmp_path, counts=files.COUNTS)
    assert "PosterFeatures" in read_moviescope(tmp_path, "research", counts=files.COUNTS).readme
    with pytest.raises(ConfigurationError, match="without names 'audio'; the released layout has"):
        read_moviescope(tmp_path, "released", ["audio"], counts=files.COUNTS)
