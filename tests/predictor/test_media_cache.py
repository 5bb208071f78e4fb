"""Features of media, kept by content: extracted once, found again wherever files are, refused when made otherwise."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predictor_rows import save_vit, write_clip, write_picture, write_sound

from mmadapters.errors import ArtefactError, ConfigurationError, DataError
from mmadapters.features.extract import ExtractionOptions, MediaSource, extract
from mmadapters.features.extractor import ExtractorSpec, build_extractor
from mmadapters.features.mean_extractor import MeanExtractor
from mmadapters.features.store import FeatureStore
from mmadapters.features.store_lock import FolderLock
from mmadapters.predictor import media_cells, media_features
from mmadapters.predictor.column_plan import MediaColumn
from mmadapters.predictor.media_cells import MediaDigests, Place
from mmadapters.predictor.media_features import MediaFeatures, MediaRecipe, media_recipe


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("encoder") / "vit")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for i in range(3):
        write_picture(tmp_path / f"p{i}.png", 60 * i)
    (tmp_path / "broken.png").write_bytes((tmp_path / "p0.png").read_bytes()[:40])
    return tmp_path


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The paths of each extraction."""
    calls: list[list[str]] = []

    def counted(rows: pd.DataFrame, *args: Any) -> Any:
        calls.append(rows["path"].tolist())
        return extract(rows, *args)

    monkeypatch.setattr(media_features, "extract", counted)
    return calls


def poster(vit: Path, **changes: Any) -> MediaRecipe:
    recipe = media_recipe(MediaColumn("poster", "image", "poster"), {"encoder": str(vit), "device": "cpu"}, False)
    return replace(recipe, **changes)


def rows(*paths: Any) -> pd.DataFrame:
    return pd.DataFrame({"poster": list(paths)}, index=[f"r{i}" for i in range(len(paths))])


def test_an_extraction_ends_with_the_time_and_keeps_what_it_has(
    vit: Path, media: Path, extracted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_features, "TIMED_FILES", 2)
    features = MediaFeatures([poster(vit)], media / "cache")
    given, place = rows("p0.png", "p1.png", "p2.png"), Place(media)

    def check() -> None:
        if extracted:
            raise ConfigurationError("the time is over")

    with features.timed(check), pytest.raises(ConfigurationError, match="the time is over"):
        features.of(given, place)
    assert extracted == [["p0.png", "p1.png"]]
    assert features.of(given, place).problems == {}
    assert extracted == [["p0.png", "p1.png"], ["p2.png"]]


def test_what_was_extracted_once_is_never_extracted_again(vit: Path, media: Path, extracted: list[list[str]]) -> None:
    place = Place(media)
    features = MediaFeatures([poster(vit)], media / "cache")
    first = features.of(rows("p0.png", None, "p1.png", "p0.png"), place)
    assert extracted == [["p0.png", "p1.png"]]
    assert first.given == {"poster": 3}
    assert first.problems == {}
    digests = first.frame["poster"].tolist()
    assert digests[0] == digests[3] != digests[2]
    assert digests[1] is None
    store = first.stores["poster"]
    assert store.read(store.index_of(digests[0]), "image").shape == (8,)
    assert store.folder.parent == media / "cache" / "features"
    # Moved, copied, and in another process, which knows nothing but the cache.
    (media / "moved").mkdir()
    (media / "p0.png").rename(media / "moved" / "x")
    again = MediaFeatures(features.with_fingerprints().recipes, media / "cache")
    second = again.of(rows("moved/x", "p1.png"), place)
    assert second.frame["poster"].tolist() == [digests[0], digests[2]]
    assert extracted == [["p0.png", "p1.png"]]
    assert again._extractors == {}
    # A file that changed is another one.
    write_picture(media / "p1.png", 10)
    third = again.of(rows("p1.png"), place)
    assert extracted[1:] == [["p1.png"]]
    assert third.frame["poster"].tolist() != [digests[2]]


def test_files_are_read_again_only_when_they_changed(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    hash_media = media_cells.HashMedia

    def counted(*args: Any) -> Any:
        return lambda path: read.append(path) or hash_media(*args)(path)  # type: ignore[func-returns-value]

    monkeypatch.setattr(media_cells, "HashMedia", counted)
    digests = MediaDigests(media_features.Limits())
    digests.remembered = 2
    series = pd.Series(["p0.png", "p1.png", "p0.png"], name="poster")
    first = digests.of(series, Place(media))
    assert digests.of(series, Place(media)) == first
    assert sorted(read) == ["p0.png", "p1.png"]
    digests.of(pd.Series(["p2.png"], name="poster"), Place(media))
    digests.of(series, Place(media))
    # Which of the three was forgotten, and whether that made another one go, is up to the threads.
    assert len(read) in (4, 5)
    assert first.paths == {first.digests[0]: "p0.png", first.digests[1]: "p1.png"}


def test_what_cannot_be_read_is_missing_and_told(vit: Path, media: Path, extracted: list[list[str]]) -> None:
    features = MediaFeatures([poster(vit)], media / "cache")
    (media / "clip.png").write_bytes(write_clip(media / "clip.mp4", 10, None).read_bytes())
    given = rows("p0.png", "gone.png", "broken.png", "clip.png", 7, "../p0.png", " ")
    found = features.of(given, Place(media))
    assert sorted(found.problems) == [1, 2, 3, 4, 5]
    told = {row: problems["poster"] for row, problems in found.problems.items()}
    assert told[1] == "gone.png: the file does not exist"
    assert told[2].startswith("broken.png: ")
    assert told[3] == "clip.png: the file holds video, not an image"
    assert told[4] == "a int is no path"
    assert told[5].startswith("../p0.png: the path leads out of the data root")
    assert found.given == {"poster": 6}
    # A broken file stays one: it is not decoded again.
    assert features.of(rows("broken.png"), Place(media)).problems[0]["poster"] == told[2]
    assert len(extracted) == 1


def test_an_encoder_that_makes_other_features_is_refused(vit: Path, media: Path, tmp_path: Path) -> None:
    features = MediaFeatures([poster(vit)], media / "cache")
    features.of(rows("p0.png"), Place(media))
    (recipe,) = features.with_fingerprints().recipes
    other = {**json.loads(recipe.fingerprint), "weights": "of another"}
    elsewhere = MediaFeatures([replace(recipe, fingerprint=json.dumps(other))], media / "cache")
    with pytest.raises(DataError, match="'poster' would be made in another way here.*weights was of another, is now"):
        elsewhere.of(rows("p0.png"), Place(media))
    # Other versions of libraries make features of their own, in a store of their own.
    versions = json.loads(recipe.fingerprint)
    versions["versions"]["pillow"] = "1.0"
    older = MediaFeatures([replace(recipe, fingerprint=json.dumps(versions))], media / "cache")
    assert len(older.of(rows("p0.png"), Place(media)).stores["poster"]) == 1
    with pytest.raises(ArtefactError, match="of its media cannot be read"):
        MediaRecipe.from_dict({"modality": "poster"})
    # The device belongs to a machine.
    assert recipe.spec.device == "cpu"
    saved = json.loads(json.dumps(recipe.to_dict()))
    assert MediaRecipe.from_dict(saved) == replace(recipe, spec=replace(recipe.spec, device=None))


def test_images_are_encoded_alone_so_that_no_other_changes_their_bits(vit: Path, media: Path) -> None:
    alone = MediaFeatures([poster(vit)], media / "a").of(rows("p2.png"), Place(media))
    together = MediaFeatures([poster(vit)], media / "b").of(rows("p0.png", "p1.png", "p2.png"), Place(media))
    digest = alone.frame["poster"].iloc[0]
    stores = [found.stores["poster"] for found in (alone, together)]
    one, other = (store.read(store.index_of(digest), "image") for store in stores)
    assert one.tobytes() == other.tobytes()


def test_means_are_those_of_a_store_with_sequences(vit: Path, tmp_path: Path) -> None:
    for i in range(2):
        write_clip(tmp_path / f"c{i}.mp4", 80 * i, 300.0 + 100 * i)
    clips = pd.DataFrame({"id": ["a", "b"], "trailer": ["c0.mp4", "c1.mp4"]})
    video = ExtractorSpec("video", "video", encoder=str(vit), frames=3, batch_size=1, device="cpu")
    audio = ExtractorSpec("audio", "audio")
    sources = [MediaSource("trailer", build_extractor(spec), pool_mean=True) for spec in (video, audio)]
    extract(clips, sources, tmp_path / "store", ExtractionOptions("id", root=tmp_path))
    reference = FeatureStore.open(tmp_path / "store")
    recipes = [
        media_recipe(MediaColumn("trailer", "video", "trailer"), {"encoder": str(vit), "frames": 3}, False),
        media_recipe(MediaColumn("sound", "audio", "trailer"), {}, False),
    ]
    features = MediaFeatures(recipes, tmp_path / "cache")
    found = features.of(clips, Place(tmp_path))
    for name, kind in (("trailer", "video"), ("sound", "audio")):
        store = found.stores[name]
        assert not store.column(kind).is_sequence
        for row, id in enumerate("ab"):
            mean = reference.read(reference.index_of(id), f"{kind}_mean")
            assert store.read(store.index_of(found.frame["trailer"].iloc[row]), kind).tobytes() == mean.tobytes()
        assert store.column(kind).fingerprint == reference.column(kind).fingerprint
    assert [(source.name, source.column, source.pooling, source.id) for source in features.sources()] == [
        ("trailer", "video", "mean", "trailer"),
        ("sound", "audio", "mean", "trailer"),
    ]
    steps = MediaFeatures([replace(recipes[1], reads_steps=True)], tmp_path / "cache")
    whole = steps.of(clips, Place(tmp_path)).stores["sound"]
    sequence = whole.read(whole.index_of(found.frame["trailer"].iloc[0]), "audio")
    assert sequence.tobytes() == reference.read(reference.index_of("a"), "audio").tobytes()


def test_a_film_without_sound_lacks_it_and_nothing_is_wrong(tmp_path: Path) -> None:
    write_clip(tmp_path / "silent.mp4", 10, None)
    write_sound(tmp_path / "sound.wav", 440.0)
    recipe = media_recipe(MediaColumn("sound", "audio", "poster"), {}, False)
    found = MediaFeatures([recipe], tmp_path / "cache").of(rows("silent.mp4", "sound.wav"), Place(tmp_path))
    assert found.problems == {}
    store = found.stores["sound"]
    assert [store.read(store.index_of(d), "audio") is None for d in found.frame["poster"]] == [True, False]
    features = MediaFeatures([recipe], tmp_path / "cache")
    assert features.is_empty(recipe, found.frame["poster"].iloc[:1], store)
    assert not features.is_empty(recipe, found.frame["poster"], store)


def test_two_that_extract_wait_for_each_other(vit: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    features = MediaFeatures([poster(vit)], media / "cache", tell=told.append)
    features.of(rows("p0.png"), Place(media))
    (folder,) = (media / "cache" / "features").iterdir()
    monkeypatch.setattr(media_features, "_WAIT_SECONDS", 0.02)
    lock = FolderLock(folder)
    waiting = threading.Thread(target=features.of, args=(rows("p1.png"), Place(media)))
    waiting.start()
    while not any("waiting" in line for line in told):
        time.sleep(0.01)
    lock.release()
    waiting.join(30)
    assert told[1:] == [
        "poster: extracting features of 1 image files",
        "poster: waiting for another process that extracts such features",
    ]
    assert len(FeatureStore.open(folder)) == 2


def test_where_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"a": [1]})
    assert Place.of(frame, None) == Place(tmp_path, allow_outside=True)
    assert Place.of(frame, "media") == Place(tmp_path / "media", allow_outside=False)
    frame.attrs["root"] = str(tmp_path / "rows")
    assert Place.of(frame, None) == Place(tmp_path / "rows", allow_outside=True)


def test_numbers_of_the_mean_that_do_not_fit_are_not_rounded_first() -> None:
    class Loud:
        name, kind, feature_dim, is_sequence, fingerprint, batch_size = "audio", "audio", 1, True, "{}", 1
        decode = None

        def encode(self, decoded: Any) -> list[np.ndarray]:
            return [np.array([[1e5], [0.0]], np.float32), np.array([[1.0], [2.0]], np.float32)]

    loud, quiet = MeanExtractor(Loud()).encode([None, None])  # type: ignore[arg-type]
    assert loud.tolist() == [float(np.float16(50_000))]
    assert quiet.tolist() == [1.5]
