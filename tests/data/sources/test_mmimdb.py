"""MM-IMDb: its three forms through the real code path, what is left out, and one error for all that is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mmimdb_files as files
import numpy as np
import pytest
import yaml
from published_runs import inside, run_command, trained
from typer.testing import CliRunner

from mmadapters.cli.main import app
from mmadapters.data.files import read_rows
from mmadapters.data.sources import mmimdb
from mmadapters.data.sources.mmimdb import MMIMDbCounts, read_mmimdb
from mmadapters.data.sources.published import write_published
from mmadapters.errors import ConfigurationError, DataError, MissingDependencyError
from mmadapters.features.store import FeatureStore

WRITERS = {
    "archive": files.write_archive,
    "jsonl": files.write_jsonl,
    "hdf5": files.write_hdf5,
}


@pytest.mark.parametrize("form", ["archive", "jsonl", "hdf5"])
def test_rows_of_each_form(form: str, tmp_path: Path) -> None:
    source = WRITERS[form](tmp_path / "source")
    written = write_published(read_mmimdb(source, counts=files.counts()), tmp_path / "out")
    assert written.split_rows == {"train": 10, "validation": 4, "test": 6}
    for name, ids in files.ids().items():
        rows = read_rows(tmp_path / "out" / f"{files.COLUMNS[name]}.parquet")
        assert rows["id"].tolist() == ids
        assert rows["text"].tolist() == [files.plot(id) for id in ids]
        assert rows["labels"].map(sorted).tolist() == [sorted(files.genres(id)) for id in ids]
    positives = files.counts().test_positives
    assert {label: counts["test"] for label, counts in written.label_counts.items()} == positives


@pytest.mark.parametrize("form", ["archive", "jsonl"])
def test_a_form_with_pictures_trains(form: str, tmp_path: Path, tiny_backbone: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    source = WRITERS[form](tmp_path / "source")
    write_published(read_mmimdb(source, counts=files.counts()), tmp_path / "out")
    settings = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    assert settings["training"]["metric_for_best_model"] == "micro_f1"
    with inside(tmp_path / "out"):
        run_command("extract", "extract.yaml")
    metrics = trained(tmp_path / "out", tiny_backbone, "runs/mmimdb")
    assert set(metrics["splits"]) == {"validation", "test"}
    adapter = json.loads((tmp_path / "out/runs/mmimdb/artefact/adapter_config.json").read_text())
    assert (adapter["fusion"], adapter["modalities"][0]["feature_dim"]) == ("complementary", 1280)
    store = FeatureStore(tmp_path / "out" / "pictures")
    assert all(store.status(row, "poster") == "ok" for row in range(20))


def test_the_hdf5_file_trains(tmp_path: Path, tiny_backbone: Path) -> None:
    source = files.write_hdf5(tmp_path / "source")
    data = read_mmimdb(source / "multimodal_imdb.hdf5", dtype="float32", counts=files.counts())
    assert write_published(data, tmp_path / "out").commands == ("mmadapters train train.yaml",)
    store = FeatureStore(tmp_path / "out" / "features")
    for row, id in enumerate(store.ids):
        np.testing.assert_array_equal(store.read(row, "poster"), files.vgg(id))
    metrics = trained(tmp_path / "out", tiny_backbone, "runs/mmimdb")
    assert 0 < metrics["splits"]["test"]["metrics"]["micro_average_precision"] <= 1
    pipeline = json.loads((tmp_path / "out/runs/mmimdb/artefact/pipeline.json").read_text())
    assert pipeline["labels"] == sorted(files.GENRES)


def test_an_hdf5_file_that_names_neither_splits_nor_genres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    source = files.write_hdf5(tmp_path, named=False)
    with h5py.File(source / "multimodal_imdb.hdf5", "a") as file:
        del file["genres"].attrs["target_names"]
    monkeypatch.setattr("mmadapters.data.sources.mmimdb_hdf5.GENRES", files.GENRES)
    data = read_mmimdb(source, counts=files.counts())
    assert {name: frame["id"].tolist() for name, frame in data.splits.items()} == {
        files.COLUMNS[name]: ids for name, ids in files.ids().items()
    }


def test_the_published_order_of_the_genres_of_the_hdf5_file() -> None:
    from mmadapters.data.sources.mmimdb_hdf5 import GENRES

    assert set(GENRES) == set(mmimdb.TEST_POSITIVES)
    assert len(GENRES) == 23


def test_the_published_counts() -> None:
    counts = MMIMDbCounts()
    assert counts.rows == {"train": 15_552, "validation": 2_608, "test": 7_799}
    assert (len(counts.test_positives), sum(counts.test_positives.values())) == (23, 19_370)


def test_posters_may_be_under_image_and_rows_without_an_id(tmp_path: Path) -> None:
    expected = read_mmimdb(files.write_jsonl(tmp_path / "a"), counts=files.counts()).splits
    source = files.write_jsonl(tmp_path / "b", picture_field="image", with_ids=False)
    found = read_mmimdb(source, counts=files.counts()).splits
    for name, frame in expected.items():
        assert frame.to_dict("list") == found[name].to_dict("list")
        assert frame["picture"].tolist() == [f"mmimdb/dataset/{id}.jpeg" for id in frame["id"]]


def test_news_and_genres_unseen_in_training_are_left_out(tmp_path: Path) -> None:
    source = files.write_archive(tmp_path / "mmimdb")
    ids = files.ids()
    files.write_movie(source, ids["train"][0], ["Drama", "News"], ["a film"])
    files.write_movie(source, ids["dev"][1], ["News"], ["a film"])
    files.write_movie(source, ids["dev"][2], ["Drama", "Adult"], ["a film"])
    files.write_movie(source, ids["train"][3], ["Short", "Drama"], ["a film"])
    files.write_movie(source, ids["train"][4], ["Drama"], [""])
    data = read_mmimdb(tmp_path, counts=files.counts())
    assert data.notes == (
        "train: 1 movies of the genre News are left out.",
        "train: 1 movies without a plot are left out.",
        "validation: 1 movies of the genre News are left out.",
        "validation: 1 movies with a genre that no training movie has are left out.",
    )
    assert [id for id in ids["train"] if id not in set(data.splits["train"]["id"])] == [
        ids["train"][0],
        ids["train"][4],
    ]
    assert data.splits["validation"]["id"].tolist() == [ids["dev"][0], ids["dev"][3]]
    assert "Short" in {label for labels in data.splits["train"]["labels"] for label in labels}
    write_published(data, tmp_path / "out")
    assert "1 movies of the genre News" in (tmp_path / "out" / "README.txt").read_text()


def test_all_problems_of_the_archive_are_one_error(tmp_path: Path) -> None:
    source = files.write_archive(tmp_path / "source")
    ids = files.ids()
    (source / "dataset" / f"{ids['train'][0]}.jpeg").unlink()
    (source / "dataset" / f"{ids['train'][1]}.json").write_text("{")
    (source / "dataset" / f"{ids['dev'][0]}.json").unlink()
    # One test movie has become a drama that it was not, and one is also a training movie.
    changed = next(id for id in ids["test"] if "Drama" not in files.genres(id))
    files.write_movie(source, changed, [*files.genres(changed), "Drama"], [files.plot(changed)])
    splits = {**ids, "train": [*ids["train"], ids["test"][5]]}
    (source / "split.json").write_text(json.dumps(splits))
    with pytest.raises(DataError) as caught:
        read_mmimdb(source, counts=files.counts())
    dramas = files.counts().test_positives["Drama"]
    for part in (
        f"Drama: {dramas + 1} test movies; {dramas} were published.",
        f"train and test are mixed up: 1 ids are in both: {ids['test'][5]}.",
        f"train: 1 posters are not in dataset/: {ids['train'][0]}.",
        f"train: 1 files are no JSON object with lists of texts 'plot' and 'genres': {ids['train'][1]}.",
        f"validation: 1 movies have no file in dataset/: {ids['dev'][0]}.",
        "validation: 3 movies; 4 were published.",
        "https://archive.org/details/mmimdb",
    ):
        assert part in str(caught.value)


def test_all_problems_of_the_jsonl_files_are_one_error(tmp_path: Path) -> None:
    source = files.write_jsonl(tmp_path / "source")
    rows = [json.loads(line) for line in (source / "train.jsonl").read_text().splitlines()]
    rows[0]["label"] = "Drama"
    rows[2]["id"] = rows[1]["id"]
    (source / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (source / "dev.jsonl").unlink()
    (source / "test.jsonl").write_text('{"id": "1", "text": "a", "label": ["Drama"]}\n')
    with pytest.raises(DataError) as caught:
        read_mmimdb(source, counts=files.counts())
    for part in (
        "'train.jsonl': 'label' is not of type list in row 1.",
        f"train: 1 ids are there more than once: {rows[1]['id']}.",
        "There is no file 'dev.jsonl'.",
        "'test.jsonl' has no field 'img' or 'image'; it has 'id', 'text', 'label'.",
        "test: 1 movies; 6 were published.",
    ):
        assert part in str(caught.value)


def test_all_problems_of_the_hdf5_file_are_one_error(tmp_path: Path) -> None:
    import h5py

    source = files.write_hdf5(tmp_path / "source")
    with h5py.File(source / "multimodal_imdb.hdf5", "a") as file:
        file["imdb_ids"][1] = file["imdb_ids"][0]
        file["imdb_ids"][12] = file["imdb_ids"][0]
    counts = files.counts()
    counts = MMIMDbCounts({**counts.rows, "train": 11}, counts.test_positives)
    with pytest.raises(DataError) as caught:
        read_mmimdb(source, counts=counts)
    for part in ("train: 1 ids are there more than once", "train and validation are mixed up", "train: 10 movies; 11"):
        assert part in str(caught.value)
    (source / "metadata.npy").unlink()
    with pytest.raises(DataError, match=r"metadata\.npy' does not exist"):
        read_mmimdb(source, counts=counts)


def test_features_of_the_hdf5_file_that_are_not_finite(tmp_path: Path) -> None:
    import h5py

    source = files.write_hdf5(tmp_path / "source")
    with h5py.File(source / "multimodal_imdb.hdf5", "a") as file:
        file["vgg_features"][3, 7] = np.nan
    with pytest.raises(DataError, match=f"Movie {files.ids()['train'][3]}: features of the poster are NaN"):
        write_published(read_mmimdb(source, counts=files.counts()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_hdf5_file_of_another_shape(tmp_path: Path) -> None:
    import h5py

    source = files.write_hdf5(tmp_path / "source")
    with h5py.File(source / "multimodal_imdb.hdf5", "a") as file:
        del file["vgg_features"]
    with pytest.raises(DataError, match="The HDF5 file has no 'vgg_features'; it has"):
        read_mmimdb(source, counts=files.counts())
    (source / "multimodal_imdb.hdf5").write_bytes(b"no hdf5")
    with pytest.raises(DataError, match="'multimodal_imdb.hdf5' was not read"):
        read_mmimdb(source, counts=files.counts())


def test_h5py_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = files.write_hdf5(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mmadapters\[hdf5\]'"):
        read_mmimdb(source, counts=files.counts())


def test_a_part_on_the_command_line(tmp_path: Path) -> None:
    files.write_archive(tmp_path / "mmimdb")
    refused = CliRunner().invoke(app, ["data", "mmimdb", str(tmp_path), "-o", str(tmp_path / "out")])
    assert isinstance(refused.exception, DataError)
    assert "train: 10 movies; 15,552 were published." in str(refused.exception)
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(app, ["data", "mmimdb", str(tmp_path), "-o", str(tmp_path / "out"), "--allow-partial"])
    assert result.exit_code == 0, result.output
    assert "Film-Noir" in result.stdout
    assert yaml.safe_load((tmp_path / "out" / "extract.yaml").read_text())["data"]["root"] == str(tmp_path / "mmimdb")


def test_the_form_is_asked_for_where_there_are_several(tmp_path: Path) -> None:
    files.write_archive(tmp_path)
    files.write_jsonl(tmp_path)
    with pytest.raises(ConfigurationError, match="Name one: --layout archive or --layout jsonl"):
        read_mmimdb(tmp_path)
    assert read_mmimdb(tmp_path, "jsonl", counts=files.counts()).title == "MM-IMDb (jsonl layout)"
    with pytest.raises(DataError, match=r"There is none of 'split\.json'"):
        read_mmimdb(tmp_path / "dataset")
    with pytest.raises(ConfigurationError, match="accepted are 'archive', 'hdf5', 'jsonl'"):
        read_mmimdb(tmp_path, "parquet")
