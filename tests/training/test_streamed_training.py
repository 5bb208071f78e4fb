"""Training on streamed rows: the weights of a training in memory, resumed bit for bit, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from training_run import KillAfter, Killed, killed, log, weights

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError
from mmadapters.training import probe
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import FitResult, ModelSettings, fit
from mmadapters.training.losses import inverse_frequency_weights, streamed_frequency_weights
from mmadapters.training.prefix_cache import PrefixCacheOptions
from mmadapters.training.trainer import MultimodalAdapterTrainer

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
N = 60
MODALITIES = (VectorColumn("poster", ("x", "y", "z")), TabularColumns("facts", ["year"], ["country"]))


def rows(n: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    words, lengths = random.integers(0, len(WORDS), n), random.integers(1, 12, n)
    vectors = random.normal(size=(n, 3)).round(3)
    labels = [
        "|".join(name for name, true in {"war": word < 3, "dark": vector[0] > 0, "rare": word == 5}.items() if true)
        for word, vector in zip(words, vectors, strict=True)
    ]
    frame = pd.DataFrame(vectors, columns=["x", "y", "z"])
    return frame.assign(
        plot=[" ".join([WORDS[word]] * int(length)) for word, length in zip(words, lengths, strict=True)],
        labels=[label or "[]" for label in labels],
        kind=["war" if word < 3 else "peace" for word in words],
        price=vectors[:, 0] + words,
        year=random.integers(1950, 2020, n),
        country=random.choice(["fr", "us"], n),
    )


def schema(label: str = "labels") -> DatasetSchema:
    return DatasetSchema("plot", label, MODALITIES, label_separator="|" if label == "labels" else None)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    frame = rows(N, seed=0)
    for place, (start, stop) in enumerate([(0, 21), (21, 30), (30, N)]):
        frame[start:stop].to_parquet(folder / f"part-{place}.parquet", row_group_size=10, index=False)
    return folder


def streamed(shards: Any, backbone: Path, label: str = "labels", buffer: int = 24) -> tuple[Preprocessor, Any]:
    return StreamedDataset.fit(shards, schema(label), load_tokenizer(str(backbone)), shuffle_buffer=buffer)


def train(backbone: Path, data: tuple[Preprocessor, Any], output: Path | None = None, **changes: Any) -> FitResult:
    preprocessor, given = data
    fixed = ("resume", "callbacks", "adapter", "prefix_cache", "validation")
    options = {
        "learning_rate": 3e-2,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "checkpoint_steps": 4,
        "early_stopping_patience": 2,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
        **{name: value for name, value in changes.items() if name not in fixed},
    }
    dropouts = {"dropout": 0.2, "modality_dropout": 0.2, **changes.get("adapter", {})}
    return fit(
        preprocessor,
        given,
        changes.get("validation", preprocessor.transform(rows(30, seed=1))),
        settings=ModelSettings(backbone=str(backbone), head_dropout=dropouts["dropout"]),
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8, **dropouts),
        arguments=MultimodalTrainingArguments(output_dir=None if output is None else str(output), **options),
        callbacks=changes.get("callbacks", ()),
        resume=changes.get("resume", False),
        prefix_cache=changes.get("prefix_cache"),
    )


def same(first: FitResult, second: FitResult) -> bool:
    states = weights(first), weights(second)
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def in_memory(backbone: Path, label: str = "labels") -> tuple[Preprocessor, Any]:
    preprocessor = Preprocessor.fit(rows(N, seed=0), schema(label), load_tokenizer(str(backbone)))
    return preprocessor, preprocessor.transform(rows(N, seed=0))


@pytest.mark.parametrize("label", ["labels", "kind", "price"])
def test_steps_over_all_rows_are_those_of_the_rows_in_memory(shards: Path, tiny_backbone: Path, label: str) -> None:
    options = {
        "per_device_train_batch_size": N,
        "optim": "sgd",
        "learning_rate": 1e-2,
        "class_weights": label != "price",
        "adapter": {"dropout": 0.0, "feature_dropout": 0.0, "modality_dropout": 0.0},
    }
    first = train(tiny_backbone, streamed(shards, tiny_backbone, label), **options)
    second = train(tiny_backbone, in_memory(tiny_backbone, label), **options)
    assert len(first.log) == len(second.log) == 5
    for name, value in weights(second).items():
        torch.testing.assert_close(weights(first)[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for one, other in zip(first.log, second.log, strict=True):
        assert one.keys() == other.keys()
        for name in {"loss", "grad_norm", "learning_rate", "eval_loss", "epoch", "step"} & one.keys():
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


def test_what_the_rows_say_is_learned(shards: Path, tiny_backbone: Path) -> None:
    result = train(
        tiny_backbone,
        streamed(shards, tiny_backbone),
        num_train_epochs=8,
        learning_rate=1e-2,
        early_stopping_patience=None,
        adapter={"dropout": 0.0, "modality_dropout": 0.0},
    )
    assert result.best_metric > 0.9
    assert [entry["epoch"] for entry in result.log if "eval_loss" in entry] == list(range(1, 9))
    assert max(entry["step"] for entry in result.log) == 8 * 8


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "accumulation and a budget": {"gradient_accumulation_steps": 2, "max_tokens_per_batch": 60},
    "any order": {"train_sampling_strategy": "random", "early_stopping_patience": None},
    "steps": {"max_steps": 22, "logging_strategy": "steps", "logging_steps": 3},
    "average": {"ema_decay": 0.9, "linear_probe_start": True},
}


@pytest.fixture(scope="module")
def whole(shards: Path, tiny_backbone: Path) -> dict[str, FitResult]:
    """Trainings without interruption."""
    data = streamed(shards, tiny_backbone)
    return {name: train(tiny_backbone, data, **options) for name, options in VARIANTS.items()}


@pytest.mark.parametrize(
    ("variant", "step"),
    [
        ("default", 6),
        ("default", 14),
        ("accumulation and a budget", 9),
        ("any order", 13),
        ("steps", 19),
        ("average", 11),
    ],
)
def test_a_killed_training_goes_on_bit_for_bit(
    whole, shards: Path, tiny_backbone: Path, tmp_path: Path, variant: str, step: int
) -> None:
    options = VARIANTS[variant]
    with pytest.raises(Killed):
        train(
            tiny_backbone,
            streamed(shards, tiny_backbone),
            tmp_path,
            callbacks=[KillAfter(step, killed)],
            **options,
        )
    result = train(tiny_backbone, streamed(shards, tiny_backbone), tmp_path, resume=True, **options)
    assert same(result, whole[variant])
    assert log(result) == log(whole[variant])
    assert result.best_metric == whole[variant].best_metric


def test_a_resumed_epoch_reads_only_what_is_left_of_it(
    shards: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        train(tiny_backbone, streamed(shards, tiny_backbone), tmp_path, callbacks=[KillAfter(14, killed)])
    preprocessor, data = streamed(shards, tiny_backbone)
    digest, items = data.digest(), data.first_items(8)
    monkeypatch.setattr(data, "digest", lambda: digest)
    monkeypatch.setattr(data, "first_items", lambda count: items)
    read: list[int] = []
    transform = preprocessor.transform_chunk
    monkeypatch.setattr(
        preprocessor, "transform_chunk", lambda frame, *given: read.append(len(frame)) or transform(frame, *given)
    )
    train(tiny_backbone, (preprocessor, data), tmp_path, resume=True)
    # The validation rows, and what is left after 4 of the 8 batches of the second epoch.
    assert sum(read) in (30 + N - 4 * 8, 30 + N - 3 * 8 - 4)


@pytest.mark.parametrize("options", [{}, {"max_tokens_per_batch": 60}])
def test_workers_change_nothing(whole, shards: Path, tiny_backbone: Path, options: dict[str, Any]) -> None:
    data = streamed(shards, tiny_backbone)
    expected = train(tiny_backbone, data, **options) if options else whole["default"]
    assert same(train(tiny_backbone, data, dataloader_num_workers=2, **options), expected)


def test_other_rows_or_another_buffer_do_not_go_on(shards: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny_backbone, streamed(shards, tiny_backbone), tmp_path / "run", callbacks=[KillAfter(6, killed)])
    data = [streamed(shards, tiny_backbone, buffer=25)]
    for place, change in enumerate([lambda frame: frame.assign(year=frame["year"] + 1), lambda frame: frame[::-1]]):
        copied = Path(shutil.copytree(shards, tmp_path / f"copied-{place}"))
        file = copied / "part-1.parquet"
        change(pd.read_parquet(file)).to_parquet(file, row_group_size=10, index=False)
        data.append(streamed(copied, tiny_backbone))
    for given in data:
        with pytest.raises(ConfigurationError, match="is of a run with other settings: the training rows are others"):
            train(tiny_backbone, given, tmp_path / "run", resume=True)


@pytest.mark.parametrize("label", ["labels", "kind"])
def test_class_weights_are_those_of_the_rows_in_memory(shards: Path, tiny_backbone: Path, label: str) -> None:
    preprocessor, data = streamed(shards, tiny_backbone, label)
    labels = in_memory(tiny_backbone, label)[1].labels
    problem_type, num_labels = preprocessor.labels.problem_type, preprocessor.labels.num_labels
    expected = inverse_frequency_weights(labels, problem_type, num_labels)
    assert streamed_frequency_weights(data).tolist() == expected.tolist()
    assert expected.min() > 1


def test_the_linear_probe_is_that_of_the_rows_in_memory(
    shards: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "MOST_ROWS", 50)
    options = {"linear_probe_start": True, "num_train_epochs": 1, "learning_rate": 0.0}
    results = [
        train(tiny_backbone, data, **options) for data in (streamed(shards, tiny_backbone), in_memory(tiny_backbone))
    ]
    first, second = (result.linear_probe for result in results)
    assert (first.rows, first.strength) == (second.rows, second.strength) == (50, second.strength)
    assert first.validation_scores == pytest.approx(second.validation_scores, abs=1e-6)
    for name, value in weights(results[1]).items():
        torch.testing.assert_close(weights(results[0])[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_trainer_counts_rows_and_batches(shards: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, data = streamed(shards, tiny_backbone)
    from mmadapters.data.collator import MultimodalCollator
    from mmadapters.training.fit import build_model

    adapter = MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8)
    trainer = MultimodalAdapterTrainer(
        build_model(preprocessor, ModelSettings(backbone=str(tiny_backbone)), adapter),
        MultimodalTrainingArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=8),
        problem_type="multi_label_classification",
        labels=["dark", "rare", "war"],
        train_dataset=data,
        data_collator=MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities),
    )
    loader = trainer.get_train_dataloader()
    assert len(loader) == 8
    assert trainer.num_examples(loader) == N
    batches = list(loader)
    assert sorted(len(batch["labels"]) for batch in batches) == [4, *[8] * 7]
    assert set(batches[0]["modality_features"]) == {"poster", "facts"}


def test_what_does_not_go_together_is_refused(shards: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    data = streamed(shards, tiny_backbone)
    with pytest.raises(ConfigurationError, match="The prefix cache was asked for with streamed rows.*all 60 training"):
        train(tiny_backbone, data, prefix_cache=PrefixCacheOptions(tmp_path))
    with pytest.raises(ConfigurationError, match="Validation rows were given as a StreamedDataset"):
        train(tiny_backbone, data, validation=data[1])
    with pytest.raises(ConfigurationError, match="train_sampling_strategy='sequential' cannot be used with streamed"):
        train(tiny_backbone, data, train_sampling_strategy="sequential")
    objects = streamed(rows(20, seed=0).to_dict("records"), tiny_backbone)
    with pytest.raises(ConfigurationError, match="dataloader_num_workers=2 was given, and rows that come from a Pyth"):
        train(tiny_backbone, objects, dataloader_num_workers=2)
    with pytest.raises(ConfigurationError, match="class_weights=True was given for a regression"):
        train(tiny_backbone, streamed(shards, tiny_backbone, "price"), class_weights=True)
