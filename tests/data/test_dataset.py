import pickle

import numpy as np
import pandas as pd
import pytest
from data_helpers import ids, movies, tiny_tokenizer

from mmadapters.data.dataset import FeatureColumn, FeatureFile, MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.errors import DataError
from mmadapters.modality import Modality

SCHEMA = DatasetSchema("title", modalities=(VectorColumn("trailer", "trailer"), VectorColumn("poster", "poster")))


@pytest.fixture
def dataset(tmp_path):
    frame = movies(tmp_path)
    return Preprocessor.fit(frame, SCHEMA, tiny_tokenizer()).transform(frame)


def test_lengths_and_modalities(dataset):
    assert dataset.lengths.tolist() == [5, 3, 2, 6]
    assert dataset.modalities == [Modality("trailer", 2), Modality("poster", 3)]
    assert dataset.labels is None
    assert dataset.unseen_labels == {}


def test_rows_by_position(dataset):
    assert (
        dataset[-1]["input_ids"]
        == dataset[np.int64(3)]["input_ids"]
        == ids("[CLS]", "not", "a", "long", "film", "[SEP]")
    )
    assert dataset[3]["attention_mask"] == [1] * 6
    assert "labels" not in dataset[0]
    assert len(list(dataset)) == 4
    for row in (4, -5):
        with pytest.raises(IndexError, match=f"Row {row} of a data set of 4 rows"):
            dataset[row]


def test_an_unknown_modality_is_named_with_the_nearest(dataset):
    with pytest.raises(
        DataError, match="has no modality 'trailers'. Its modalities are 'trailer', 'poster'. Did you mean"
    ):
        dataset.present("trailers")


def test_sequences_in_files_are_read_when_they_are_asked_for(tmp_path, dataset):
    assert len(pickle.dumps(dataset)) < 5000
    np.save(tmp_path / "long.npy", np.full((2, 2), 5.0))
    features = dataset[0]["modality_features"]["trailer"]
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, [[5, 5], [5, 5]])
    np.save(tmp_path / "long.npy", np.full((2, 2), np.nan))
    with pytest.raises(DataError, match="Modality 'trailer', row 0, file '.*long.npy': 4 of 4 features are NaN"):
        dataset[0]
    (tmp_path / "long.npy").unlink()
    with pytest.raises(DataError, match="Modality 'trailer', row 0: the file '.*long.npy' does not exist"):
        dataset[0]


def test_a_file_on_disk_is_not_held_in_memory(tmp_path):
    np.save(tmp_path / "big.npy", np.zeros((1000, 64), dtype=np.float32))
    column = FeatureColumn(Modality("m", 64), [FeatureFile(tmp_path / "big.npy", 64, "here"), None])
    assert len(pickle.dumps(column)) < 2000
    assert column[0].shape == (1000, 64)
    assert column[1] is None


def test_a_pickled_copy_gives_the_same_rows(dataset):
    copy = pickle.loads(pickle.dumps(dataset))
    for row in range(4):
        assert copy[row]["input_ids"] == dataset[row]["input_ids"]
        for name, features in dataset[row]["modality_features"].items():
            np.testing.assert_array_equal(copy[row]["modality_features"][name], features)


def test_vectors_sequences_and_gaps_in_one_column():
    vector, sequence = np.ones(2, dtype=np.float32), np.zeros((3, 2), dtype=np.float32)
    column = FeatureColumn(Modality("m", 2), [None, vector, sequence, 2 * vector])
    assert len(column) == 4
    assert column.present.tolist() == [False, True, True, True]
    assert column[0] is None
    assert column[2].shape == (3, 2)
    assert column[3].tolist() == [2, 2]
    nothing = FeatureColumn(Modality("m", 2), [None])
    assert nothing.present.tolist() == [False]


def test_a_data_set_of_one_modality_and_labels():
    tokens = {"input_ids": [[2, 3], [2, 5, 3]], "attention_mask": [[1, 1], [1, 1, 1]]}
    dataset = MultimodalDataset(tokens, labels=np.array([1, 0]))
    assert dataset[1] == {"input_ids": [2, 5, 3], "attention_mask": [1, 1, 1], "labels": 0}


def test_changing_the_frame_does_not_change_the_data_set():
    vector = np.array([1.0, 2.0], dtype=np.float32)
    frame = pd.DataFrame({"t": ["a"], "v": [vector]})
    schema = DatasetSchema("t", modalities=(VectorColumn("m", "v"),))
    dataset = Preprocessor.fit(frame, schema, tiny_tokenizer()).transform(frame)
    vector[:] = 0
    assert dataset[0]["modality_features"]["m"].tolist() == [1, 2]
