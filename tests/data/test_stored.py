import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_helpers import tiny_tokenizer

from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, StoredFeatures, VectorColumn
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store import StoreColumn, StoreWriter

IMAGE = json.dumps({"kind": "image", "weights": "a", "versions": {"torch": "2.13"}})
VIDEO = json.dumps({"kind": "video", "weights": "a"})


def write_store(folder: Path, fingerprint: str = IMAGE, pool_mean: bool = True, ids: str = "abcd") -> Path:
    columns = [
        StoreColumn("poster", 3, is_sequence=False, dtype="float32", fingerprint=fingerprint),
        StoreColumn("trailer", 2, is_sequence=True, fingerprint=VIDEO, pool_mean=pool_mean),
    ]
    with StoreWriter(folder, columns) as writer:
        for number, id in enumerate(ids):
            poster = None if id == "c" else np.full(3, number + 0.5, np.float32)
            trailer = None if id == "d" else np.arange(2 * number, dtype=np.float32).reshape(number, 2)
            writer.add(id, {"poster": poster, "trailer": trailer})
    return folder


def rows(ids: str = "badc") -> pd.DataFrame:
    return pd.DataFrame(
        {"id": list(ids), "title": ["good film"] * len(ids), "genres": [["drama"], ["war"]] * (len(ids) // 2)}
    )


def schema(store: Path, **changes: object) -> DatasetSchema:
    modalities = (StoredFeatures("poster", str(store)), StoredFeatures("clip", str(store), "trailer"))
    values: dict = {"text": "title", "label": "genres", "modalities": modalities, "id": "id", **changes}
    return DatasetSchema(**values)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "features")


def test_rows_find_their_features_by_id(store: Path) -> None:
    fitted = Preprocessor.fit(rows(), schema(store), tiny_tokenizer())
    found = [(modality.name, modality.feature_dim, modality.kind) for modality in fitted.modalities]
    assert found == [("poster", 3, "image"), ("clip", 2, "video")]
    data = fitted.transform(rows())
    features = [data[row]["modality_features"] for row in range(4)]
    assert [None if f["poster"] is None else f["poster"].tolist() for f in features] == [
        [1.5] * 3,
        [0.5] * 3,
        [3.5] * 3,
        None,
    ]
    assert features[0]["clip"].tolist() == [[0, 1]]
    assert features[0]["clip"].dtype == np.float32
    assert features[1]["clip"] is None
    assert features[2]["clip"] is None
    assert features[3]["clip"].tolist() == [[0, 1], [2, 3]]
    assert data.present("poster").tolist() == [True, True, True, False]
    assert data.present("clip").tolist() == [True, False, False, True]


def test_ids_that_are_numbers_match_text_and_a_row_may_come_twice(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "features", ids="12")
    frame = rows("1212")
    frame["id"] = [1.0, 2, 1, 2]
    data = Preprocessor.fit(frame, schema(folder), tiny_tokenizer()).transform(frame)
    assert [data[row]["modality_features"]["poster"][0] for row in range(4)] == [0.5, 1.5, 0.5, 1.5]


@pytest.mark.parametrize("pool_mean", [True, False])
def test_a_sequence_is_read_as_its_mean_where_that_is_asked_for(tmp_path: Path, pool_mean: bool) -> None:
    folder = write_store(tmp_path / "features", pool_mean=pool_mean)
    clip = (StoredFeatures("clip", str(folder), "trailer", pooling="mean"),)
    data = Preprocessor.fit(rows(), schema(folder, modalities=clip), tiny_tokenizer()).transform(rows())
    assert data[0]["modality_features"]["clip"].tolist() == [0, 1]
    assert data[3]["modality_features"]["clip"].tolist() == [1, 2]
    assert data[1]["modality_features"]["clip"] is None


def test_plain_values_bring_back_the_same_preprocessor(store: Path) -> None:
    fitted = Preprocessor.fit(rows(), schema(store), tiny_tokenizer())
    state = json.loads(json.dumps(fitted.to_dict()))
    assert state["schema"]["modalities"][1] == {
        "kind": "store",
        "name": "clip",
        "store": str(store),
        "column": "trailer",
        "pooling": None,
    }
    again = Preprocessor.from_dict(state, tiny_tokenizer())
    assert again.fingerprints == {"poster": IMAGE, "clip": VIDEO}
    assert again.to_dict() == fitted.to_dict()
    assert again.transform(rows())[3]["modality_features"]["clip"].tolist() == [[0, 1], [2, 3]]


def test_a_preprocessor_without_stores_says_nothing_of_them(tmp_path: Path) -> None:
    frame = rows().assign(poster=[[1.0, 2.0]] * 4)
    plain = schema(tmp_path, modalities=(VectorColumn("poster", "poster"),))
    assert "fingerprints" not in Preprocessor.fit(frame, plain, tiny_tokenizer()).to_dict()


def test_a_data_set_can_be_sent_to_the_workers_of_a_loader(store: Path) -> None:
    data = Preprocessor.fit(rows(), schema(store), tiny_tokenizer()).transform(rows())
    data[0]
    again = pickle.loads(pickle.dumps(data))
    assert again[0]["modality_features"]["poster"].tolist() == [1.5] * 3


def test_other_stores_of_the_same_kind_can_take_the_place(store: Path, tmp_path: Path) -> None:
    fitted = Preprocessor.fit(rows(), schema(store), tiny_tokenizer())
    newer = IMAGE.replace("2.13", "2.14")
    other = write_store(tmp_path / "other", newer, ids="zyxw")
    moved = fitted.with_stores({"poster": str(other), "clip": str(other)})
    assert moved.transform(rows("wxyz"))[0]["modality_features"]["poster"].tolist() == [3.5] * 3
    assert fitted.transform(rows())[0]["modality_features"]["poster"].tolist() == [1.5] * 3
    with pytest.raises(ConfigurationError, match="A store was given for 'posters'.*Did you mean 'poster'"):
        fitted.with_stores({"posters": str(other)})


def test_a_store_that_is_gone_is_named_with_its_modality(store: Path) -> None:
    fitted = Preprocessor.fit(rows(), schema(store), tiny_tokenizer())
    store.rename(store.parent / "elsewhere")
    with pytest.raises(
        DataError, match="modality 'poster' cannot be read. '.*features' is no .* --store poster=folder"
    ):
        fitted.transform(rows())


def test_features_made_in_another_way_are_refused(store: Path, tmp_path: Path) -> None:
    fitted = Preprocessor.fit(rows(), schema(store), tiny_tokenizer())
    other = write_store(tmp_path / "other", IMAGE.replace('"a"', '"b"'))
    with pytest.raises(DataError, match="'poster'.*another way.*weights was a, is now b"):
        fitted.with_stores({"poster": str(other)}).transform(rows())


def test_rows_that_were_not_extracted_are_an_error(store: Path) -> None:
    fitted = Preprocessor.fit(rows(), schema(store), tiny_tokenizer())
    with pytest.raises(DataError, match="lacks 2 of 4 rows: 'x', 'y'. Extract them"):
        fitted.transform(rows("axby"))


def test_a_modality_that_is_missing_throughout_is_an_error(store: Path) -> None:
    with pytest.raises(DataError, match="Modality 'poster' is missing in every training row"):
        Preprocessor.fit(rows("cc"), schema(store), tiny_tokenizer())


def test_features_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", [StoreColumn("poster", 2, is_sequence=False, dtype="float32")]) as writer:
        writer.add("a", {"poster": np.array([1.0, np.nan])})
    stored = schema(tmp_path, modalities=(StoredFeatures("poster", str(tmp_path / "s")),), label=None)
    data = Preprocessor.fit(rows("aa"), stored, tiny_tokenizer()).transform(rows("aa"))
    with pytest.raises(DataError, match="'poster', row 'a' of the store"):
        data[0]


def test_a_schema_with_a_store_needs_the_id_column(store: Path) -> None:
    with pytest.raises(ConfigurationError, match="'poster' is read from a store.*names no id column"):
        schema(store, id=None)
    assert schema(store).input_columns == ("title", "id")
    with pytest.raises(DataError, match="no column 'id'"):
        Preprocessor.fit(rows().drop(columns="id"), schema(store), tiny_tokenizer())


def test_unusable_sources_are_refused(store: Path) -> None:
    with pytest.raises(ConfigurationError, match="pooling='max'"):
        StoredFeatures("poster", str(store), pooling="max")
    with pytest.raises(ConfigurationError, match="store=''"):
        StoredFeatures("poster", "")
    with pytest.raises(ConfigurationError, match="A store modality needs the key 'store'"):
        DatasetSchema.from_dict({"text": "t", "modalities": [{"kind": "store", "name": "poster"}]})
    with pytest.raises(DataError, match="no column 'posters'.*Did you mean 'poster'"):
        Preprocessor.fit(rows(), schema(store, modalities=(StoredFeatures("posters", str(store)),)), tiny_tokenizer())
    with pytest.raises(DataError, match="is no feature store"):
        Preprocessor.fit(rows(), schema(store / "none"), tiny_tokenizer())


def test_a_model_that_reads_fewer_modalities_needs_no_store_of_the_others(store: Path) -> None:
    fitted = Preprocessor.fit(rows(), schema(store), tiny_tokenizer())
    assert fitted.restricted_to(["clip"]).fingerprints == {"clip": VIDEO}
    assert fitted.restricted_to([]).schema.input_columns == ("title",)


def test_a_modality_may_have_an_id_column_of_its_own_whose_empty_cells_are_missing(store: Path) -> None:
    own = (
        StoredFeatures("poster", str(store), id="picture"),
        StoredFeatures("clip", str(store), "trailer", "mean", "film"),
    )
    frame = rows().drop(columns="id").assign(picture=["a", None, "b", "d"], film=["d", "b", " ", "b"])
    described = schema(store, modalities=own, id=None)
    assert described.input_columns == ("title", "picture", "film")
    assert DatasetSchema.from_dict(json.loads(json.dumps(described.to_dict()))) == described
    data = Preprocessor.fit(frame, described, tiny_tokenizer()).transform(frame)
    features = [data[row]["modality_features"] for row in range(4)]
    assert [None if f["poster"] is None else f["poster"].tolist() for f in features] == [
        [0.5] * 3,
        None,
        [1.5] * 3,
        [3.5] * 3,
    ]
    assert [f["clip"] is None for f in features] == [True, False, True, False]
    assert data.present("poster").tolist() == [True, False, True, True]
    assert data.present("clip").tolist() == [False, True, False, True]


def test_a_named_store_finds_rows_by_the_id_of_the_schema(store: Path, tmp_path: Path) -> None:
    own = (StoredFeatures("poster", str(store), "poster", id="picture"),)
    frame = rows().assign(picture=list("abca"))
    other = write_store(tmp_path / "other", ids="dcba")
    fitted = Preprocessor.fit(frame, schema(store, modalities=own), tiny_tokenizer())
    moved = fitted.with_stores({"poster": str(other)})
    assert moved.schema.modalities == (StoredFeatures("poster", str(other)),)
    assert moved.transform(frame)[2]["modality_features"]["poster"].tolist() == [0.5] * 3
    nameless = Preprocessor.fit(frame, schema(store, modalities=own, id=None), tiny_tokenizer())
    with pytest.raises(ConfigurationError, match="'poster' is read from a store.*names no id column"):
        nameless.with_stores({"poster": str(other)})


def test_what_an_own_id_column_can_be(store: Path) -> None:
    with pytest.raises(ConfigurationError, match="id of modality 'poster' was given as ''"):
        StoredFeatures("poster", "features", id="")
    own = (StoredFeatures("poster", str(store), id="picture"),)
    with pytest.raises(DataError, match="The rows have no column 'picture'"):
        Preprocessor.fit(rows(), schema(store, modalities=own), tiny_tokenizer())
    frame = rows().assign(picture=["a", None, "nowhere.png", "b"])
    with pytest.raises(DataError, match="lacks 1 of 4 rows: 'nowhere.png'"):
        Preprocessor.fit(frame, schema(store, modalities=own), tiny_tokenizer())
