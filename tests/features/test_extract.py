import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from counting_extractor import MeanColour, save_picture

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.extract import (
    ExtractionOptions,
    ExtractionSummary,
    MediaSource,
    extract,
    store_folder,
)
from mmadapters.features.guard import GuardedPool
from mmadapters.features.media_index import MEDIA_INDEX
from mmadapters.features.store import FeatureStore, compact, verify

SHARED: list[GuardedPool] = []
SHADES = [10, 20, 10, 30, 40, 20, 50, 60, 10, 70]
"""Of the pictures of rows 0 to 9: three are the same as an earlier one, in another file."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for row, shade in enumerate(SHADES):
        save_picture(tmp_path / f"{row}.png", shade)
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def _shared_pool() -> Iterator[None]:
    """One worker for all tests but those that ask for a number of them; starting one takes longer than a test."""
    with GuardedPool(1) as pool:
        SHARED.append(pool)
        yield
        SHARED.clear()


def table(n: int = len(SHADES), start: int = 0) -> pd.DataFrame:
    places = range(start, n)
    return pd.DataFrame({"id": [f"m{row}" for row in places], "path": [f"{row}.png" for row in places]})


def run(
    rows: pd.DataFrame, root: Path, store: str = "store", extractor: MeanColour | None = None, **options: object
) -> ExtractionSummary:
    source = MediaSource("path", extractor or MeanColour())
    settings = {"id_column": "id", "root": root, "rows_per_shard": 4, **options}
    pool = None if "workers" in options else SHARED[0]
    return extract(rows, [source], root / store, ExtractionOptions(**settings), pool)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def shades(folder: Path) -> dict[str, float | None]:
    store = FeatureStore.open(folder)
    values = {id: store.read(row, "poster") for row, id in enumerate(store.ids)}
    return {id: None if value is None else float(value[0]) for id, value in values.items()}


def test_every_row_gets_the_features_of_its_file_in_order(root: Path) -> None:
    extractor = MeanColour()
    summary = run(table(), root, extractor=extractor)
    assert shades(root / "store") == {f"m{row}": float(shade) for row, shade in enumerate(SHADES)}
    assert list(FeatureStore.open(root / "store").ids) == [f"m{row}" for row in range(10)]
    assert (summary.rows, summary.done_before, summary.extracted) == (10, 0, 10)
    assert summary.modalities["poster"].statuses == {"ok": 10}
    assert summary.modalities["poster"].encoded == 7
    assert summary.rows_per_second > 0
    assert json.loads(json.dumps(summary.to_dict()))["modalities"]["poster"]["encoded"] == 7
    assert verify(root / "store").problems == ()


def test_identical_files_are_encoded_once_in_batches_that_the_rows_decide(root: Path) -> None:
    extractor = MeanColour()
    run(table(), root, extractor=extractor)
    # Chunks of 4 rows bring the new shades 10 20 30 | 40 50 60 | 70.
    assert extractor.batches == [3, 3, 1]
    store = FeatureStore.open(root / "store")
    assert [float(store.read(row, "poster")[3]) for row in range(10)] == [3, 3, 3, 3, 3, 3, 3, 3, 3, 1]


def test_a_second_run_does_nothing_and_new_rows_alone_are_extracted(root: Path) -> None:
    run(table(6), root)
    before = contents(root / "store")
    extractor = MeanColour()
    summary = run(table(6), root, extractor=extractor)
    assert (summary.done_before, summary.extracted, extractor.batches) == (6, 0, [])
    assert contents(root / "store") == before
    summary = run(table(), root, extractor=extractor)
    assert (summary.done_before, summary.extracted) == (6, 4)
    # Row 8 has the picture of row 0, which an earlier run encoded.
    assert summary.modalities["poster"].encoded == 3
    assert shades(root / "store")["m8"] == 10.0


def test_every_kind_of_cell_ends_as_features_missing_or_an_error(root: Path) -> None:
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (root / "folder").mkdir()
    cells = ["0.png", None, "", float("nan"), "none.png", "broken.png", "folder", "../x.png", "1.png", "a\0b"]
    summary = run(pd.DataFrame({"id": range(10), "path": cells}), root)
    store = FeatureStore.open(root / "store")
    found = [store.status(row, "poster") for row in range(10)]
    assert found == ["ok", "missing", "missing", "missing", "error", "error", "error", "error", "ok", "error"]
    assert [store.read(row, "poster") is not None for row in range(10)] == [status == "ok" for status in found]
    assert [bool(store.error(row, "poster")) for row in range(10)] == [status == "error" for status in found]
    assert str(root) not in "".join(store.error(row, "poster") for row in range(10))
    examples = summary.modalities["poster"].examples
    assert [id for id, _ in examples] == ["4", "5", "6", "7", "9"]


def test_an_encoder_that_fails_costs_only_its_own_row(root: Path) -> None:
    class Picky(MeanColour):
        def encode(self, decoded):
            if any(image[0, 0, 0] == 20 for image in decoded):
                raise RuntimeError("no twenties\nin this house")
            features = super().encode(decoded)
            for vector in features:
                vector[1] = np.nan if vector[0] == 30 else 1e6 if vector[0] == 40 else vector[1]
            return features

    run(table(6), root, extractor=Picky())
    store = FeatureStore.open(root / "store")
    assert [store.status(row, "poster") for row in range(6)] == ["ok", "error", "ok", "error", "error", "error"]
    assert store.error(1, "poster") == "the encoder failed: RuntimeError: no twenties"
    assert store.error(3, "poster") == "the features are not finite"
    assert store.error(4, "poster") == "a feature of 1e+06 does not fit into float16; use float32"


def test_several_modalities_share_rows(root: Path) -> None:
    rows = table(5).assign(back=["9.png", None, "9.png", "0.png", "none.png"])
    sources = [MediaSource("path", MeanColour("front")), MediaSource("back", MeanColour("back"), "float32")]
    summary = extract(rows, sources, root / "store", ExtractionOptions("id", root), SHARED[0])
    store = FeatureStore.open(root / "store")
    values = [store.read(row, "back") for row in range(5)]
    assert [None if value is None else float(value[0]) for value in values] == [70, None, 70, 10, None]
    assert [store.column(name).dtype for name in ("front", "back")] == ["float16", "float32"]
    assert {name: modality.encoded for name, modality in summary.modalities.items()} == {"front": 4, "back": 2}
    assert summary.modalities["back"].statuses == {"ok": 3, "missing": 1, "error": 1}


def test_jobs_share_the_rows_and_their_stores_join(root: Path) -> None:
    parts = [run(table(), root, num_shards=3, shard_index=index) for index in range(3)]
    assert sum(part.rows for part in parts) == 10
    folders = [store_folder(root / "store", 3, index) for index in range(3)]
    assert [part.store for part in parts] == folders
    compact([folder for folder, part in zip(folders, parts, strict=True) if part.rows], root / "all")
    assert dict(sorted(shades(root / "all").items())) == {f"m{row}": float(s) for row, s in enumerate(SHADES)}
    again = [run(table(), root, num_shards=3, shard_index=index) for index in range(3)]
    assert [part.done_before for part in again] == [part.rows for part in parts]
    with pytest.raises(ConfigurationError, match="shard_index=3 of num_shards=3"):
        run(table(), root, num_shards=3, shard_index=3)


def test_features_made_in_another_way_are_refused_unless_they_may_be_discarded(root: Path) -> None:
    run(table(), root)
    other = MeanColour(fingerprint='{"weights": "b"}')
    with pytest.raises(ConfigurationError, match="'poster': weights was a, is now b\nName another folder"):
        run(table(), root, extractor=other)
    assert shades(root / "store")["m1"] == 20
    summary = run(table(3), root, extractor=other, overwrite=True)
    assert (summary.done_before, summary.extracted, summary.modalities["poster"].encoded) == (0, 3, 2)
    assert run(table(3), root, extractor=other, overwrite=True).done_before == 3
    with pytest.raises(ConfigurationError, match="has other columns"):
        run(table(), root, extractor=MeanColour("back", fingerprint='{"weights": "b"}'))


@pytest.mark.parametrize("stop_in", [1, 2, 3])
def test_a_run_that_was_interrupted_ends_with_the_same_bytes(root: Path, stop_in: int) -> None:
    run(table(), root, "whole")

    class Interrupted(MeanColour):
        def encode(self, decoded):
            if len(self.batches) == stop_in - 1:
                raise KeyboardInterrupt
            return super().encode(decoded)

    with pytest.raises(KeyboardInterrupt):
        run(table(), root, "cut", extractor=Interrupted())
    assert len(FeatureStore.open(root / "cut")) == 4 * (stop_in - 1)
    run(table(), root, "cut")
    assert contents(root / "cut") == contents(root / "whole")


def test_the_number_of_workers_changes_nothing(root: Path) -> None:
    run(table(), root, "one", workers=1)
    run(table(), root, "three", workers=3)
    assert contents(root / "one") == contents(root / "three")


def test_a_lost_index_of_media_costs_only_time(root: Path) -> None:
    run(table(6), root)
    (root / "store" / MEDIA_INDEX).unlink()
    summary = run(table(), root)
    assert summary.modalities["poster"].encoded == 4
    assert shades(root / "store")["m8"] == 10.0


def test_unusable_calls(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="no modality"):
        extract(table(), [], root / "s", ExtractionOptions("id", root))
    with pytest.raises(ConfigurationError, match="'poster' are there twice"):
        extract(table(), [MediaSource("path", MeanColour())] * 2, root / "s", ExtractionOptions("id", root))
    with pytest.raises(DataError, match="no column 'file'"):
        extract(table(), [MediaSource("file", MeanColour())], root / "s", ExtractionOptions("id", root))
    for options, problem in [
        ({"workers": 0}, "workers=0"),
        ({"rows_per_shard": 0}, "rows_per_shard=0"),
        ({"seconds": 0}, "seconds=0"),
    ]:
        with pytest.raises(ConfigurationError, match=problem):
            ExtractionOptions("id", root, **options)
    assert not (root / "s").exists()
