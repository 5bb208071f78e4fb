import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_helpers import ids, movies, tiny_tokenizer

from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.modality import Modality

SCHEMA = DatasetSchema(
    text="title",
    label="genres",
    modalities=(
        VectorColumn("trailer", "trailer"),
        TabularColumns("facts", ["year"], ["country"]),
        VectorColumn("poster", "poster"),
        VectorColumn("scores", ("y", "x")),
    ),
)


def vectors(cells, root=None):
    frame = pd.DataFrame({"t": ["a"] * len(cells), "v": pd.Series(cells, dtype=object)})
    frame.index = pd.RangeIndex(20, 20 + len(cells))
    if root is not None:
        frame.attrs["root"] = str(root)
    return frame


VECTOR = DatasetSchema("t", modalities=(VectorColumn("poster", "v"),))


def test_modalities_have_the_order_of_the_schema_and_the_widths_of_the_training_rows(tmp_path):
    preprocessor = Preprocessor.fit(movies(tmp_path), SCHEMA, tiny_tokenizer())
    assert preprocessor.modalities == [
        Modality("trailer", 2),
        Modality("facts", 6, kind="tabular"),
        Modality("poster", 3),
        Modality("scores", 2),
    ]
    assert preprocessor.tabular["facts"].feature_names[2:] == [
        "country=fr",
        "country=it",
        "country__other",
        "country__missing",
    ]
    assert preprocessor.labels.classes == ["comedy", "drama", "war"]
    assert preprocessor.max_length == 16


def test_rows_become_a_data_set(tmp_path, caplog):
    frame = movies(tmp_path)
    with caplog.at_level(logging.INFO):
        dataset = Preprocessor.fit(frame, SCHEMA, tiny_tokenizer()).transform(frame)
    assert len(dataset) == 4
    assert dataset[0]["input_ids"] == ids("[CLS]", "a", "good", "film", "[SEP]")
    assert dataset[2]["input_ids"] == ids("[CLS]", "[SEP]")
    np.testing.assert_array_equal(dataset.labels, [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert dataset.present("trailer").tolist() == [True, False, False, True]
    assert dataset.present("poster").tolist() == [True, True, False, True]
    assert dataset.present("scores").tolist() == [True, False, True, True]
    assert dataset.present("facts").tolist() == [True] * 4
    first = dataset[0]["modality_features"]
    assert list(first) == ["trailer", "facts", "poster", "scores"]
    np.testing.assert_array_equal(first["trailer"], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(first["poster"], [1, 2, 3])
    np.testing.assert_array_equal(first["scores"], [1, 0.5])
    np.testing.assert_allclose(first["facts"], [-np.sqrt(1.5), 0, 1, 0, 0, 0], rtol=1e-6)
    assert dataset[1]["modality_features"]["trailer"] is None
    assert all(first[name].dtype == np.float32 for name in first)
    assert "Text column 'title' is empty in 1 of 4 rows." in caplog.text
    assert "Modality 'trailer' is missing in 2 of 4 rows." in caplog.text
    assert "Problem type inferred from the labels: multi_label_classification." in caplog.text


def test_state_survives_json_and_gives_the_same_data_set(tmp_path):
    frame = movies(tmp_path)
    preprocessor = Preprocessor.fit(frame, SCHEMA, tiny_tokenizer(), max_length=4)
    state = json.loads(json.dumps(preprocessor.to_dict(), sort_keys=True))
    again = Preprocessor.from_dict(state, tiny_tokenizer())
    assert (again.schema, again.modalities, again.max_length) == (SCHEMA, preprocessor.modalities, 4)
    assert list(again.tabular) == list(preprocessor.tabular)
    one, other = preprocessor.transform(frame), again.transform(frame)
    np.testing.assert_array_equal(one.labels, other.labels)
    for row in range(4):
        assert one[row]["input_ids"] == other[row]["input_ids"]
        for name, features in one[row]["modality_features"].items():
            np.testing.assert_array_equal(features, other[row]["modality_features"][name])


def test_tables_with_several_values_a_cell_survive_json_and_those_from_before_are_read(tmp_path):
    frame = movies(tmp_path).assign(cast=["Ann; Bo", "Bo;Cy", None, "[]"])
    table = TabularColumns("facts", ["year"], multi_valued=["cast"], max_categories=2, value_separator=";")
    schema = DatasetSchema("title", modalities=(table,))
    fitted = Preprocessor.fit(frame, schema, tiny_tokenizer())
    assert fitted.tabular["facts"].feature_names[2:] == ["cast=Bo", "cast=Ann", "cast__other", "cast__missing"]
    again = Preprocessor.from_dict(json.loads(json.dumps(fitted.to_dict(), sort_keys=True)), tiny_tokenizer())
    assert again.schema == schema
    data = again.transform(frame)
    features = [data[row]["modality_features"]["facts"][2:].tolist() for row in range(4)]
    assert features == [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    old = Preprocessor.fit(frame, SCHEMA, tiny_tokenizer()).to_dict()
    for described in (old["schema"]["modalities"][1], old["tabular"]["facts"]):
        del described["multi_valued"], described["value_separator"]
    assert Preprocessor.from_dict(old, tiny_tokenizer()).schema == SCHEMA


def test_a_preprocessor_for_fewer_modalities_asks_for_fewer_columns(tmp_path):
    frame = movies(tmp_path)
    whole = Preprocessor.fit(frame, SCHEMA, tiny_tokenizer(), max_length=5)
    fewer = whole.restricted_to(["poster", "facts"])
    assert fewer.schema.input_columns == ("title", "year", "country", "poster")
    assert [modality.name for modality in fewer.modalities] == ["facts", "poster"]
    again = Preprocessor.from_dict(json.loads(json.dumps(fewer.to_dict())), tiny_tokenizer())
    one, other = whole.transform(frame), again.transform(frame[["title", "year", "country", "poster", "genres"]])
    for row in range(4):
        assert other[row]["input_ids"] == one[row]["input_ids"]
        assert list(other[row]["modality_features"]) == ["facts", "poster"]
        for name, features in other[row]["modality_features"].items():
            np.testing.assert_array_equal(features, one[row]["modality_features"][name])
    np.testing.assert_array_equal(one.labels, other.labels)
    assert whole.schema == SCHEMA
    assert whole.restricted_to([]).modalities == []


def test_without_labels():
    frame = pd.DataFrame({"t": ["a", "bad"], "y": ["u", "v"]})
    labelled = Preprocessor.fit(frame, DatasetSchema("t", "y"), tiny_tokenizer())
    assert labelled.transform(frame[["t"]], with_labels=False).labels is None
    with pytest.raises(DataError, match="have no column 'y'. Their columns are 't'"):
        labelled.transform(frame[["t"]])
    bare = Preprocessor.fit(frame, DatasetSchema("t"), tiny_tokenizer())
    assert bare.labels is None
    assert bare.modalities == []
    item = bare.transform(frame)[1]
    assert sorted(item) == ["attention_mask", "input_ids", "token_type_ids"]
    assert Preprocessor.from_dict(bare.to_dict(), tiny_tokenizer()).labels is None


def test_single_labels_and_unseen_ones():
    frame = pd.DataFrame({"t": ["a", "bad", "good"], "y": [3, 5, 3]})
    preprocessor = Preprocessor.fit(frame, DatasetSchema("t", "y"), tiny_tokenizer())
    dataset = preprocessor.transform(pd.DataFrame({"t": ["a", "a"], "y": ["5", "9"]}))
    assert dataset.labels.tolist() == [1, -100]
    assert dataset.unseen_labels == Counter({"9": 1})


def test_indicator_columns():
    frame = pd.DataFrame({"t": ["a", "bad"], "war": [1, 0], "drama": [0, 1]})
    preprocessor = Preprocessor.fit(frame, DatasetSchema("t", ("war", "drama")), tiny_tokenizer())
    assert preprocessor.labels.classes == ["war", "drama"]
    assert preprocessor.transform(frame[::-1]).labels.tolist() == [[0, 1], [1, 0]]


def test_two_text_columns_are_a_pair():
    frame = pd.DataFrame({"p": ["a good film"], "h": ["bad"]})
    dataset = Preprocessor.fit(frame, DatasetSchema(("p", "h")), tiny_tokenizer()).transform(frame)
    assert dataset[0]["input_ids"] == ids("[CLS]", "a", "good", "film", "[SEP]", "bad", "[SEP]")
    assert dataset[0]["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1]


def test_numbers_are_texts_without_a_decimal_point():
    frame = pd.DataFrame({"t": [1984.0, None]})
    dataset = Preprocessor.fit(frame, DatasetSchema("t"), tiny_tokenizer()).transform(frame)
    assert dataset[0]["input_ids"] == ids("[CLS]", "1984", "[SEP]")


def test_texts_are_cut_to_max_length(caplog):
    frame = pd.DataFrame({"t": ["a good film a good film"]})

    def length(max_length, model_max_length):
        tokenizer = tiny_tokenizer(model_max_length)
        return int(Preprocessor.fit(frame, DatasetSchema("t"), tokenizer, max_length).transform(frame).lengths[0])

    assert length(None, 6) == 6
    assert length(5, 6) == 5
    assert Preprocessor.fit(frame, DatasetSchema("t"), tiny_tokenizer(10**30)).max_length == 512
    with caplog.at_level(logging.WARNING):
        assert length(7, 6) == 7
    assert "max_length=7 is above the 6 tokens that the tokenizer states" in caplog.text


@pytest.mark.parametrize("max_length", [2, 0, True, 5.0])
def test_a_max_length_without_room_is_refused(max_length):
    frame = pd.DataFrame({"t": ["a"]})
    with pytest.raises(ConfigurationError, match=f"max_length={max_length} leaves no room for text beside 2 special"):
        Preprocessor.fit(frame, DatasetSchema("t"), tiny_tokenizer(), max_length)


def test_every_way_to_write_a_vector(tmp_path):
    np.save(tmp_path / "v.npy", np.array([7, 8], dtype=np.int16))
    nested = np.array([np.array([1.0, 2.0]), np.array([3.0, 4.0])] + [None], dtype=object)[:2]
    cells = [[1, 2], (3.0, 4.0), np.array([5, 6]), "v.npy", str(tmp_path / "v.npy"), Path("v.npy"), "[9, 10]", nested]
    frame = vectors(cells, tmp_path)
    dataset = Preprocessor.fit(frame, VECTOR, tiny_tokenizer()).transform(frame)
    features = [dataset[row]["modality_features"]["poster"].tolist() for row in range(len(cells))]
    assert features == [[1, 2], [3, 4], [5, 6], [7, 8], [7, 8], [7, 8], [9, 10], [[1, 2], [3, 4]]]


def test_paths_without_a_root_start_from_the_working_folder(tmp_path, monkeypatch):
    np.save(tmp_path / "v.npy", np.ones(2))
    monkeypatch.chdir(tmp_path)
    frame = vectors(["v.npy"])
    assert Preprocessor.fit(frame, VECTOR, tiny_tokenizer()).modalities == [Modality("poster", 2)]


def test_missing_cells(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    frame = vectors([[1, 2], None, float("nan"), "", " ", [], "[]", "none.npy", pd.NA], tmp_path)
    dataset = Preprocessor.fit(frame, VECTOR, tiny_tokenizer()).transform(frame)
    assert dataset.present("poster").tolist() == [True] + [False] * 8


def test_a_modality_may_be_missing_throughout_after_training_but_not_in_it():
    preprocessor = Preprocessor.fit(vectors([[1, 2]]), VECTOR, tiny_tokenizer())
    assert preprocessor.transform(vectors([None, None])).present("poster").tolist() == [False, False]
    with pytest.raises(DataError, match="Modality 'poster' is missing in every training row"):
        Preprocessor.fit(vectors([None, ""]), VECTOR, tiny_tokenizer())


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([1, 2, 3], "Modality 'poster' has 3 features in row 21 and 2 in the training rows"),
        ([[1, 2, 3]], "Modality 'poster' has 3 features in row 21 and 2"),
        ("wide.npy", "Modality 'poster' has 3 features in row 21 and 2"),
        ([1, float("nan")], "Modality 'poster', row 21: 1 of 2 features are NaN or infinite"),
        ([1, 1e300], "Modality 'poster', row 21: 1 of 2 features are NaN or infinite"),
        ("nan.npy", "Modality 'poster', row 21, file '.*nan.npy': 2 of 2 features are NaN"),
        ("gone.npy", "Modality 'poster', row 21: the file '.*gone.npy' does not exist"),
        ("broken.npy", "Modality 'poster', row 21: '.*broken.npy' cannot be read as a '.npy' file"),
        ("pickled.npy", "Modality 'poster', row 21: '.*pickled.npy' cannot be read"),
        ("words.npy", "Modality 'poster', row 21, file '.*words.npy': .* cannot be read as numbers"),
        ("picture.jpg", "Modality 'poster', row 21: 'picture.jpg' is no '.npy' path"),
        ("[1, 2", r"Modality 'poster', row 21: '\[1, 2' starts like a JSON list but is none"),
        (3.5, r"Modality 'poster', row 21: the features have the shape \(\)\. A cell is accepted as"),
        ([[[1, 2]]], r"Modality 'poster', row 21: the features have the shape \(1, 1, 2\)"),
        ([[1], [1, 2]], "Modality 'poster', row 21: a list cannot be read as numbers"),
        (["a", "b"], "Modality 'poster', row 21: a list cannot be read as numbers .*elements of type"),
        ({"a": 1}, "Modality 'poster', row 21: a dict cannot be read as numbers"),
    ],
)
def test_features_that_cannot_be_used(tmp_path, cell, message):
    np.save(tmp_path / "wide.npy", np.ones((4, 3)))
    np.save(tmp_path / "nan.npy", np.full(2, np.nan))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    preprocessor = Preprocessor.fit(vectors([[1, 2]]), VECTOR, tiny_tokenizer())
    with pytest.raises(DataError, match=message):
        preprocessor.transform(vectors([[1, 2], cell], tmp_path))


def test_columns_of_a_vector_are_there_together_or_not_at_all():
    schema = DatasetSchema("t", modalities=(VectorColumn("scores", ("x", "y")),))
    frame = pd.DataFrame({"t": ["a"] * 3, "x": [1.0, 2.0, 3.0], "y": [1.0, None, np.inf]})
    with pytest.raises(DataError, match=r"'scores' is missing or infinite .*\(such as 'y'\) in rows 1, 2. Fill them"):
        Preprocessor.fit(frame, schema, tiny_tokenizer()).transform(frame)
    with pytest.raises(
        DataError, match="Column 'y' holds 'much' in row 0, which is no number. Every column of the vec"
    ):
        Preprocessor.fit(pd.DataFrame({"t": ["a"], "x": [1], "y": ["much"]}), schema, tiny_tokenizer())


def test_columns_that_are_not_there_are_named_with_the_nearest(tmp_path):
    frame = movies(tmp_path).rename(columns={"poster": "posters"})
    with pytest.raises(
        DataError, match="have no column 'poster'. Their columns are 'title', .* Did you mean 'posters'?"
    ):
        Preprocessor.fit(frame, SCHEMA, tiny_tokenizer())


def test_no_rows_and_no_texts_are_refused():
    frame = pd.DataFrame({"t": ["a"]})
    preprocessor = Preprocessor.fit(frame, DatasetSchema("t"), tiny_tokenizer())
    for use in (preprocessor.transform, lambda rows: Preprocessor.fit(rows, DatasetSchema("t"), tiny_tokenizer())):
        with pytest.raises(DataError, match="There are no rows"):
            use(frame[:0])
    with pytest.raises(DataError, match="Text column 't' holds a list in row 0"):
        preprocessor.transform(pd.DataFrame({"t": [["a", "b"]]}))
