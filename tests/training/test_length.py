"""Batches by length in training and evaluation: rows in their order, exact losses, the budget, no rows read for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.evaluator import predict
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, build_model, fit
from mmadapters.training.trainer import MultimodalAdapterTrainer

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
SCHEMA = DatasetSchema(text="plot", label="labels", modalities=(VectorColumn("poster", "vector"),))
BUDGET = 64


def rows(n: int, seed: int = 0) -> pd.DataFrame:
    """Texts of 1 to 40 words; labels by the first word and by the vector."""
    random = np.random.default_rng(seed)
    lengths = np.where(random.random(n) < 0.5, random.integers(1, 4, n), random.integers(20, 41, n))
    plots = [" ".join(random.choice(WORDS, length)) for length in lengths]
    vectors = random.normal(size=(n, 6)).astype(np.float32)
    labels = [
        [name for name, true in {"war": plot.startswith("war"), "dark": vector[0] > 0}.items() if true]
        for plot, vector in zip(plots, vectors, strict=True)
    ]
    return pd.DataFrame({"plot": plots, "labels": labels, "vector": list(vectors)})


@pytest.fixture(scope="module")
def data(tiny_backbone: Path):
    preprocessor = Preprocessor.fit(rows(60), SCHEMA, load_tokenizer(str(tiny_backbone)))
    return preprocessor, preprocessor.transform(rows(60)), preprocessor.transform(rows(33, seed=1))


class SpyingCollator(MultimodalCollator):
    """Notes the shape of each batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, items):
        batch = super().__call__(items)
        self.shapes.append(tuple(batch["input_ids"].shape))
        return batch


def trainer_for(data, backbone: Path, folder: Path, **options) -> MultimodalAdapterTrainer:
    preprocessor, train, validation = data
    adapter = MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8)
    torch.manual_seed(0)
    chosen = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 7, **options}
    return MultimodalAdapterTrainer(
        build_model(preprocessor, ModelSettings(backbone=str(backbone)), adapter),
        MultimodalTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **chosen),
        problem_type="multi_label_classification",
        labels=["dark", "war"],
        train_dataset=train,
        eval_dataset=validation,
        data_collator=SpyingCollator(preprocessor.tokenizer, preprocessor.modalities),
    )


@pytest.mark.parametrize("options", [{}, {"max_tokens_per_batch": BUDGET}])
def test_predictions_come_in_the_order_of_the_rows(data, tiny_backbone: Path, tmp_path: Path, options: dict) -> None:
    preprocessor, _, validation = data
    trainer = trainer_for(data, tiny_backbone, tmp_path, **options)
    model = trainer.model.eval()
    one_by_one = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
    with torch.no_grad():
        expected = np.concatenate([model(**one_by_one([validation[i]]))["logits"].numpy() for i in range(33)])
        gates = np.concatenate(
            [model(**one_by_one([validation[i]]), output_gates=True)["gates"].numpy() for i in range(33)]
        )
    spy = trainer.data_collator
    found = predict(model, validation, spy, "multi_label_classification", batch_size=7, output_gates=True, **options)
    np.testing.assert_allclose(found.logits, expected, atol=1e-5)
    np.testing.assert_allclose(found.gates, gates, atol=1e-5)
    again = predict(model, validation, spy, "multi_label_classification", batch_size=7, **options)
    np.testing.assert_array_equal(again.logits, found.logits)
    spy.shapes.clear()
    seen: list[Any] = []
    compute = trainer.compute_metrics
    trainer.compute_metrics = lambda prediction: seen.append(prediction) or compute(prediction)
    output = trainer.predict(validation)
    np.testing.assert_allclose(output.predictions, expected, atol=1e-5)
    np.testing.assert_array_equal(output.label_ids, validation.labels)
    np.testing.assert_array_equal(seen[0].predictions, output.predictions)
    np.testing.assert_array_equal(seen[0].label_ids, validation.labels)
    widths = [length for _, length in spy.shapes]
    assert widths == sorted(widths, reverse=True)
    assert sum(size for size, _ in spy.shapes) == 33
    if options:
        assert max(size * length for size, length in spy.shapes) <= BUDGET
        assert max(size for size, _ in spy.shapes) > 7
    else:
        assert [size for size, _ in spy.shapes] == [7, 7, 7, 7, 5]


@pytest.mark.parametrize("options", [{}, {"max_tokens_per_batch": BUDGET}, {"per_device_eval_batch_size": 1}])
def test_the_loss_of_an_evaluation_is_the_mean_over_all_rows(
    data, tiny_backbone: Path, tmp_path: Path, options: dict
) -> None:
    _, _, validation = data
    trainer = trainer_for(data, tiny_backbone, tmp_path, **options)
    metrics = trainer.evaluate()
    logits = torch.from_numpy(trainer.predict(validation).predictions).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(validation.labels).double()
    )
    assert metrics["eval_loss"] == pytest.approx(float(expected), abs=1e-6)
    assert 0 < metrics["eval_micro_average_precision"] < 1


def test_training_reads_no_row_to_find_lengths(data, tiny_backbone: Path, tmp_path: Path, monkeypatch) -> None:
    _, train, _ = data
    trainer = trainer_for(data, tiny_backbone, tmp_path)
    read: list[int] = []
    get = type(train).__getitem__
    monkeypatch.setattr(type(train), "__getitem__", lambda self, row: read.append(row) or get(self, row))
    loader = trainer.get_train_dataloader()
    trainer.get_eval_dataloader()
    assert read == []
    assert len(loader) == 8
    list(loader)
    assert sorted(read) == list(range(60))


@pytest.mark.parametrize(
    ("options", "padded"),
    [({}, 1.35), ({"max_tokens_per_batch": BUDGET}, 1.15), ({"train_sampling_strategy": "random"}, None)],
)
def test_little_is_padded(data, tiny_backbone: Path, tmp_path: Path, options: dict, padded: float | None) -> None:
    _, train, _ = data
    trainer = trainer_for(data, tiny_backbone, tmp_path, **options, per_device_train_batch_size=4)
    list(trainer.get_train_dataloader())
    shapes = trainer.data_collator.shapes
    assert sum(size for size, _ in shapes) == 60
    share = sum(size * length for size, length in shapes) / train.lengths.sum()
    assert share > 1.6 if padded is None else share < padded
    if "max_tokens_per_batch" in options:
        assert max(size * length for size, length in shapes) <= BUDGET


@pytest.mark.parametrize("options", [{}, pytest.param({"max_tokens_per_batch": BUDGET}, marks=pytest.mark.slow)])
def test_epochs_are_trained_in_orders_of_their_own_that_the_seed_repeats(
    data, tiny_backbone: Path, options: dict
) -> None:
    preprocessor, train, validation = data
    results = [
        fit(
            preprocessor,
            train,
            validation,
            settings=ModelSettings(backbone=str(tiny_backbone)),
            adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8),
            arguments=MultimodalTrainingArguments(
                num_train_epochs=2, per_device_train_batch_size=8, use_cpu=True, disable_tqdm=True, seed=seed, **options
            ),
        )
        for seed in (3, 3, 4)
    ]
    states = [
        {name: value for name, value in result.model.state_dict().items() if "mmadapter" in name} for result in results
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert {entry["epoch"] for entry in results[0].log} == {1.0, 2.0}


def test_a_step_is_the_mean_over_its_rows_whatever_the_budget_cuts(data, tiny_backbone: Path) -> None:
    preprocessor, train, _ = data

    def trained(**options) -> dict[str, torch.Tensor]:
        result = fit(
            preprocessor,
            train,
            None,
            settings=ModelSettings(backbone=str(tiny_backbone), head_dropout=0.0),
            adapter=MultimodalAdapterConfig(
                modalities=preprocessor.modalities, bottleneck_size=8, dropout=0.0, feature_dropout=0.0
            ),
            arguments=MultimodalTrainingArguments(
                num_train_epochs=2, learning_rate=1e-3, optim="sgd", max_grad_norm=0.0, warmup_steps=0,
                use_cpu=True, disable_tqdm=True, **options,
            ),
        )  # fmt: skip
        return {key: value for key, value in result.model.state_dict().items() if "default" in key}

    # One step an epoch: 60 rows at once, or as many batches of at most 64 tokens as it takes.
    whole = trained(per_device_train_batch_size=60)
    in_parts = trained(max_tokens_per_batch=BUDGET, gradient_accumulation_steps=1000)
    for key, value in whole.items():
        torch.testing.assert_close(in_parts[key], value, rtol=1e-4, atol=1e-6, msg=key)


def test_a_budget_that_cannot_be_held_is_refused(data, tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens_per_batch=0 must be at least 1"):
        trainer_for(data, tiny_backbone, tmp_path, max_tokens_per_batch=0)
    with pytest.raises(ConfigurationError, match="max_tokens_per_batch cannot be used with train_sampling_strategy='s"):
        trainer_for(data, tiny_backbone, tmp_path, max_tokens_per_batch=99, train_sampling_strategy="sequential")
    trainer = trainer_for(data, tiny_backbone, tmp_path, max_tokens_per_batch=10)
    with pytest.raises(ConfigurationError, match="=10 is less than the 42 tokens of the longest row"):
        trainer.train()
    trainer.train_dataset = [trainer.train_dataset[0]]
    with pytest.raises(
        ConfigurationError, match="needs a data set with the number of tokens of each row .* a list was"
    ):
        trainer.get_train_dataloader()


def test_a_data_set_without_lengths_is_taken_as_it_comes(data, tiny_backbone: Path, tmp_path: Path) -> None:
    _, train, validation = data
    trainer = trainer_for(data, tiny_backbone, tmp_path)
    plain = [validation[i] for i in range(10)]
    by_length = trainer.predict(validation).predictions[:10]
    np.testing.assert_allclose(trainer.predict(plain).predictions, by_length, atol=1e-5)
    trainer.train_dataset = [train[i] for i in range(10)]
    trainer.data_collator.shapes.clear()
    list(trainer.get_train_dataloader())
    assert sum(size for size, _ in trainer.data_collator.shapes) == 10
