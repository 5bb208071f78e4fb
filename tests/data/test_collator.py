import numpy as np
import pytest
import torch
from data_helpers import ids, movies, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.modality import Modality

SCHEMA = DatasetSchema(
    "title",
    "genres",
    (VectorColumn("trailer", "trailer"), TabularColumns("facts", ["year"]), VectorColumn("poster", "poster")),
)
TOKENIZER = tiny_tokenizer()


def item(**modality_features):
    return {"input_ids": [2, 3], "attention_mask": [1, 1], "modality_features": modality_features}


def test_a_batch_of_every_kind(tmp_path):
    frame = movies(tmp_path)
    preprocessor = Preprocessor.fit(frame, SCHEMA, TOKENIZER)
    dataset = preprocessor.transform(frame)
    batch = MultimodalCollator(TOKENIZER, preprocessor.modalities)([dataset[row] for row in (0, 1, 3)])
    assert list(batch["modality_features"]) == list(batch["modality_mask"]) == ["trailer", "facts", "poster"]
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"][1].tolist() == ids("[CLS]", "bad", "[SEP]", "[PAD]", "[PAD]", "[PAD]")
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 0, 0, 0]
    assert batch["token_type_ids"].shape == (3, 6)
    trailer = [[[0, 1], [2, 3], [4, 5]], [[0, 0]] * 3, [[9, 9], [0, 0], [0, 0]]]
    assert batch["modality_features"]["trailer"].tolist() == trailer
    assert batch["modality_mask"]["trailer"].tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert batch["modality_features"]["poster"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert batch["modality_mask"]["poster"].tolist() == [True, True, True]
    assert batch["modality_features"]["facts"].shape == (3, 2)
    for name in batch["modality_features"]:
        assert batch["modality_features"][name].dtype == torch.float32
        assert batch["modality_mask"][name].dtype == torch.bool
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 1]]


def test_a_vector_among_sequences_is_one_step():
    rows = [item(m=np.ones(2)), item(m=None), item(m=np.full((2, 2), 3.0))]
    batch = MultimodalCollator(TOKENIZER, [Modality("m", 2)])(rows)
    assert batch["modality_features"]["m"].tolist() == [[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[3, 3], [3, 3]]]
    assert batch["modality_mask"]["m"].tolist() == [[True, False], [False, False], [True, True]]


def test_a_batch_without_a_feature_has_zeros_of_the_width():
    batch = MultimodalCollator(TOKENIZER, [Modality("m", 4)])([item(m=None), item()])
    assert batch["modality_features"]["m"].tolist() == [[0] * 4] * 2
    assert batch["modality_mask"]["m"].tolist() == [False, False]


def test_without_modalities_the_keys_are_absent():
    batch = MultimodalCollator(TOKENIZER)([item(m=np.ones(2))])
    assert sorted(batch) == ["attention_mask", "input_ids"]


def test_modalities_come_in_the_order_of_the_model():
    rows = [item(a=np.ones(1), b=np.ones(2), c=np.ones(3))]
    batch = MultimodalCollator(TOKENIZER, [Modality("c", 3), Modality("a", 1)])(rows)
    assert list(batch["modality_features"]) == ["c", "a"]


@pytest.mark.parametrize(
    ("labels", "dtype", "values"),
    [
        ([1, -100], torch.int64, [1, -100]),
        ([np.int64(1), np.int64(0)], torch.int64, [1, 0]),
        ([True, False], torch.int64, [1, 0]),
        ([0.5, 2.0], torch.float32, [0.5, 2.0]),
        ([np.float32(0.5), np.float32(1)], torch.float32, [0.5, 1.0]),
        ([[0, 1], [1, 1]], torch.float32, [[0.0, 1.0], [1.0, 1.0]]),
        ([np.array([0, 1], dtype=np.float32)], torch.float32, [[0.0, 1.0]]),
    ],
)
def test_labels_have_the_type_of_their_loss(labels, dtype, values):
    batch = MultimodalCollator(TOKENIZER)([{**item(), "labels": label} for label in labels])
    assert batch["labels"].dtype == dtype
    assert batch["labels"].tolist() == values


def test_padding_to_a_multiple_and_on_the_side_of_the_tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    batch = MultimodalCollator(tokenizer, pad_to_multiple_of=4)([item()])
    assert batch["input_ids"].tolist() == [[0, 0, 2, 3]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1]]


def test_keys_that_are_no_input_of_the_model_are_left_out():
    batch = MultimodalCollator(TOKENIZER)([{**item(), "title": "a film"}])
    assert sorted(batch) == ["attention_mask", "input_ids"]


@pytest.mark.parametrize("features", [np.ones(3), np.ones((2, 3)), np.ones((1, 1, 2)), 5.0])
def test_features_of_another_width_are_refused(features):
    collator = MultimodalCollator(TOKENIZER, [Modality("poster", 2)])
    with pytest.raises(
        DataError, match=r"'poster' was given features of the shape .*Accepted are \(2,\) and \(steps, 2\)"
    ):
        collator([item(poster=features)])


def test_a_tokenizer_without_padding_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ConfigurationError, match="has no padding token.*tokenizer.eos_token"):
        MultimodalCollator(tokenizer)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=5))
def test_the_mask_says_which_steps_are_features(steps):
    rows = [None if n is None else np.ones(2) if n == 0 else np.ones((n, 2)) for n in steps]
    batch = MultimodalCollator(TOKENIZER, [Modality("m", 2)])([item(m=row) for row in rows])
    features, mask = batch["modality_features"]["m"], batch["modality_mask"]["m"]
    assert features.shape == (*mask.shape, 2)
    assert mask.ndim == (2 if any(steps) else 1)
    assert torch.equal(features, mask.unsqueeze(-1).expand_as(features).float())
    assert mask.reshape(len(rows), -1).sum(1).tolist() == [0 if n is None else n or 1 for n in steps]


def test_workers_of_a_data_loader_give_the_same_batches(tmp_path):
    frame = movies(tmp_path)
    preprocessor = Preprocessor.fit(frame, SCHEMA, TOKENIZER)
    dataset = preprocessor.transform(frame)
    collator = MultimodalCollator(TOKENIZER, preprocessor.modalities)
    here, there = (
        list(DataLoader(dataset, batch_size=3, collate_fn=collator, num_workers=workers)) for workers in (0, 1)
    )
    assert [len(batch["labels"]) for batch in there] == [3, 1]
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"])
        for name in one["modality_features"]:
            assert torch.equal(one["modality_features"][name], other["modality_features"][name])
            assert torch.equal(one["modality_mask"][name], other["modality_mask"][name])
