"""``--store`` of ``predict`` and ``evaluate``: which modality reads which store, and that it is read."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmadapters.cli.main import main
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.cli.store_option import with_chosen_stores
from mmadapters.cli.train import run
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, StoredFeatures, VectorColumn
from mmadapters.errors import ConfigurationError
from mmadapters.features.store import StoreColumn, StoreWriter

SETTINGS = """
data: {train: rows.jsonl, text: plot, label: genres, id: movie}
modalities: {poster: {store: FOLDER}, clip: {store: FOLDER, column: trailer}}
adapter: {bottleneck_size: 4}
training: {num_train_epochs: 1, per_device_train_batch_size: 4, report_to: none, use_cpu: true}
"""
SOURCES = (
    VectorColumn("numbers", "vector"),
    StoredFeatures("poster", "images"),
    StoredFeatures("clip", "videos", "trailer"),
)


def preprocessor(*sources: VectorColumn | StoredFeatures) -> Preprocessor:
    schema = DatasetSchema("plot", modalities=sources, id="movie")
    tokenizer: Any = None
    return Preprocessor(schema, tokenizer, None, {}, [], 8)


def stores(*chosen: str, sources: tuple[VectorColumn | StoredFeatures, ...] = SOURCES) -> dict[str, str]:
    changed = with_chosen_stores(preprocessor(*sources), chosen).schema.modalities
    return {source.name: source.store for source in changed if isinstance(source, StoredFeatures)}


@pytest.mark.parametrize(
    ("chosen", "read"),
    [
        ([], {"poster": "images", "clip": "videos"}),
        (["clip=other"], {"poster": "images", "clip": "other"}),
        (["clip=a=b", "poster=c d/é"], {"poster": "c d/é", "clip": "a=b"}),
        (["all"], {"poster": "all", "clip": "all"}),
        (["./a=b"], {"poster": "./a=b", "clip": "./a=b"}),
        (["all", "clip=other"], {"poster": "all", "clip": "other"}),
    ],
)
def test_which_modality_reads_which_store(chosen: list[str], read: dict[str, str]) -> None:
    assert stores(*chosen) == read


def test_one_folder_may_be_for_two_readers_of_one_column() -> None:
    readers = (StoredFeatures("poster", "images"), StoredFeatures("again", "images", "poster"))
    assert stores("other", sources=readers) == {"poster": "other", "again": "other"}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["postr=a"], "A store was given for 'postr', .* 'poster', 'clip'. Did you mean 'poster'"),
        (["numbers=a"], "A store was given for 'numbers', and the modalities that are read from stores are 'poster', "),
        (["poster="], "--store 'poster=' names no folder"),
        ([""], "--store '' names no folder"),
        (["poster=a", "poster=b"], "--store names 'poster' twice"),
        (["a", "b"], "--store gives 'a', 'b' without a modality. Say which is for which"),
        (["a", "poster=b", "clip=c"], "--store gives a folder for all modalities, and each has one of its own"),
    ],
)
def test_stores_that_cannot_be_chosen(chosen: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        stores(*chosen)


def test_a_folder_that_leaves_open_what_is_meant() -> None:
    with pytest.raises(ConfigurationError, match="the model reads none from a store"):
        stores("a", sources=SOURCES[:1])
    two = (StoredFeatures("poster", "a", "image"), StoredFeatures("still", "b", "image"))
    message = (
        "'poster' and 'still' read the column 'image' of two stores, 'a' and 'b'. Give each its own: --store poster=fol"
    )
    with pytest.raises(ConfigurationError, match=message):
        stores("c", sources=two)
    assert stores("c", "still=d", sources=two) == {"poster": "c", "still": "d"}


def call(*arguments: object) -> int:
    before = sys.argv
    sys.argv = ["mmadapters", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    """A model that was trained on a store, and other rows with a store of their own."""
    folder = tmp_path_factory.mktemp("stores")
    random = np.random.default_rng(0)
    for name, ids in (("features", range(12)), ("later", range(12, 18))):
        columns = [StoreColumn("poster", 3, is_sequence=False), StoreColumn("trailer", 2, is_sequence=True)]
        with StoreWriter(folder / name, columns) as writer:
            for id in ids:
                writer.add(str(id), {"poster": random.normal(size=3), "trailer": random.normal(size=(3, 2))})
    frame = pd.DataFrame(
        {"movie": range(18), "plot": ["war", "love"] * 9, "genres": [["war"], ["love"], ["ghost"]] * 6}
    )
    frame[:12].to_json(folder / "rows.jsonl", orient="records", lines=True)
    frame[12:].to_json(folder / "later.jsonl", orient="records", lines=True)
    (folder / "run.yaml").write_text(SETTINGS.replace("FOLDER", str(folder / "features")))
    overrides = [f"model.backbone={tiny_backbone}", f"output_dir={folder / 'out'}"]
    run(load_settings(RunConfig, folder / "run.yaml", overrides), folder, progress=False)
    return folder


def test_rows_are_predicted_and_scored_from_the_store_that_is_named(folder: Path, capsys) -> None:
    model = folder / "out" / "artefact"
    one_store, two_stores = folder / "one.csv", folder / "two.csv"
    assert call("predict", model, folder / "later.jsonl", "-o", one_store, "--store", folder / "later") == 0
    shutil.copytree(folder / "later", folder / "copy")
    named = ["--store", f"clip={folder / 'copy'}", "--store", f"poster={folder / 'later'}"]
    assert call("predict", model, folder / "later.jsonl", "-o", two_stores, *named) == 0
    assert one_store.read_bytes() == two_stores.read_bytes()
    assert pd.read_csv(one_store)["movie"].tolist() == list(range(12, 18))
    capsys.readouterr()
    assert call("evaluate", model, folder / "later.jsonl", "--json", "--store", folder / "later") == 0
    assert json.loads(capsys.readouterr().out)["n_examples"] == 6


def test_what_is_wrong_with_a_store_is_said(folder: Path, capsys) -> None:
    model = folder / "out" / "artefact"

    def said(*chosen: object) -> str:
        assert call("evaluate", model, folder / "later.jsonl", *chosen) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "lacks 6 of 6 rows: '12', '13'" in said()
    assert "'nowhere' is no feature store" in said("--store", "poster=nowhere")
    assert "A store was given for 'postr'" in said("--store", "postr=nowhere")
