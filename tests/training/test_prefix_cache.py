"""The frozen-prefix cache: the training that is without it, made once, found again, bounded, not taken for another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

import mmadapters.training.prefix_cache as prefix_cache
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.prefix import FrozenPrefix
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import MULTI_LABEL, DatasetSchema, VectorColumn
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.evaluator import predict
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import FitResult, ModelSettings, build_model, fit
from mmadapters.training.prefix_cache import PrefixCacheOptions

N = 24


@pytest.fixture(scope="module")
def without_dropout(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone without dropout, so that the frozen layers do the same with and without the cache."""
    folder = tmp_path_factory.mktemp("backbone") / "encoder"
    shutil.copytree(tiny_backbone, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def rows(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    words = ["war", "space", "love", "robot", "dance", "ghost"]
    return pd.DataFrame(
        {
            "text": [" ".join(random.choice(words, random.integers(1, 9))) for _ in range(N)],
            "labels": [["a"] if random.random() < 0.5 else ["b", "c"] for _ in range(N)],
            "poster": list(random.normal(size=(N, 5)).astype(np.float32)),
        }
    )


class Run:
    """A training on tiny data, and what it reported."""

    def __init__(self, backbone: Path, cache: PrefixCacheOptions | None, **training: Any) -> None:
        self.lines: list[str] = []
        schema = DatasetSchema("text", "labels", (VectorColumn("poster", "poster"),), MULTI_LABEL)
        self.preprocessor = Preprocessor.fit(rows(0), schema, AutoTokenizer.from_pretrained(backbone))
        self.train, self.validation = (self.preprocessor.transform(rows(seed)) for seed in (0, 1))
        self.settings = ModelSettings(backbone=str(backbone))
        self.adapter = MultimodalAdapterConfig(
            modalities=self.preprocessor.modalities, bottleneck_size=8, layers_to_transform=[-1]
        )
        self.options = {"num_train_epochs": 2, "disable_tqdm": True, "use_cpu": True, "seed": 0, **training}
        self.cache = cache

    def fit(self) -> FitResult:
        return fit(
            self.preprocessor,
            self.train,
            self.validation,
            settings=self.settings,
            adapter=self.adapter,
            arguments=MultimodalTrainingArguments(per_device_train_batch_size=8, **self.options),
            report=self.lines.append,
            prefix_cache=self.cache,
        )


def losses(result: FitResult) -> list[float]:
    return [entry[key] for entry in result.log for key in ("loss", "eval_loss") if key in entry]


def test_training_is_that_without_the_cache(without_dropout: Path, tmp_path: Path) -> None:
    plain = Run(without_dropout, None)
    cached = Run(without_dropout, PrefixCacheOptions(tmp_path / "cache"))
    expected, result = plain.fit(), cached.fit()
    assert losses(result) == pytest.approx(losses(expected), rel=1e-6)
    assert len(losses(result)) == 4
    for (name, ours), (_, theirs) in zip(
        result.model.named_parameters(), expected.model.named_parameters(), strict=True
    ):
        assert ours.shape == theirs.shape, name
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)
        if ".mmadapter_" not in name and "classifier" not in name:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)


def test_the_trained_model_is_whole(without_dropout: Path, tmp_path: Path) -> None:
    from mmadapters.data.collator import MultimodalCollator

    run = Run(without_dropout, PrefixCacheOptions(tmp_path / "cache"))
    model = run.fit().model
    collator = MultimodalCollator(run.preprocessor.tokenizer, run.preprocessor.modalities)
    whole = predict(model, run.validation, collator, MULTI_LABEL).logits
    with FrozenPrefix(model) as prefix:
        cache = prefix_cache.PrefixCache(prefix, run.cache)
        started = predict(model, cache.add_states(run.validation, run.preprocessor.tokenizer), collator, MULTI_LABEL)
    np.testing.assert_allclose(started.logits, whole, rtol=1e-5, atol=1e-6)


def test_states_are_computed_once_and_found_again(
    without_dropout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PrefixCacheOptions(tmp_path / "cache")
    first = Run(without_dropout, cache)
    first.fit()
    made = sorted(path.name for path in cache.folder.iterdir())
    assert len(made) == 2
    calls = []
    monkeypatch.setattr(prefix_cache.PrefixCache, "_fill", lambda *args: calls.append(args))
    again = Run(without_dropout, cache, seed=1)
    again.fit()
    assert calls == []
    assert sum("found in" in line for line in again.lines) == 2
    assert not any("found in" in line for line in first.lines)
    assert sorted(path.name for path in cache.folder.iterdir()) == made


def test_no_other_backbone_precision_or_text_finds_them(without_dropout: Path, tmp_path: Path) -> None:
    cache = PrefixCacheOptions(tmp_path / "cache")
    run = Run(without_dropout, cache)
    model = build_model(run.preprocessor, run.settings, run.adapter)

    def folders(model: Any, options: PrefixCacheOptions, data: Any) -> set[str]:
        with FrozenPrefix(model) as prefix:
            prefix_cache.PrefixCache(prefix, options).add_states(data, run.preprocessor.tokenizer)
        return {path.name for path in cache.folder.iterdir()}

    one = folders(model, cache, run.train)
    assert len(one) == 1
    two = folders(model, cache, run.validation)
    three = folders(model, PrefixCacheOptions(cache.folder, "float16"), run.train)
    with torch.no_grad():
        model.base_model.model.encoder.encoder.layer[0].output.dense.weight[0, 0] += 1e-3
    four = folders(model, cache, run.train)
    assert [len(found) for found in (two, three, four)] == [2, 3, 4]
    assert one < two < three < four


def test_a_cache_that_was_cut_short_is_made_again(without_dropout: Path, tmp_path: Path) -> None:
    cache = PrefixCacheOptions(tmp_path / "cache")
    run = Run(without_dropout, cache)
    model = build_model(run.preprocessor, run.settings, run.adapter)
    with FrozenPrefix(model) as prefix:
        states = prefix_cache.PrefixCache(prefix, cache)
        expected = np.array(states.add_states(run.train, run.preprocessor.tokenizer).states)
        (folder,) = cache.folder.iterdir()
        for damage in ("states.bin", "cache.json"):
            content = (folder / damage).read_bytes()
            (folder / damage).write_bytes(content[: len(content) // 2])
            found = states.add_states(run.train, run.preprocessor.tokenizer).states
            np.testing.assert_array_equal(np.array(found), expected)
            assert (folder / damage).read_bytes() == content


def test_float16_takes_half_and_rounds(without_dropout: Path, tmp_path: Path) -> None:
    run = Run(without_dropout, None)
    model = build_model(run.preprocessor, run.settings, run.adapter)
    with FrozenPrefix(model) as prefix:
        caches = [
            prefix_cache.PrefixCache(prefix, PrefixCacheOptions(tmp_path / "cache", dtype))
            for dtype in ("float32", "float16")
        ]
        assert caches[0].size_of(run.train) == 2 * caches[1].size_of(run.train)
        full, half = (cache.add_states(run.train, run.preprocessor.tokenizer).states for cache in caches)
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-3)


def test_the_size_is_announced_and_bounded(without_dropout: Path, tmp_path: Path) -> None:
    run = Run(without_dropout, PrefixCacheOptions(tmp_path / "cache", limit_bytes=1000))
    tokens = int(run.train.lengths.sum()), int(run.validation.lengths.sum())
    with pytest.raises(ConfigurationError, match=r"would take 0\.\d MB, more than its limit of 0\.0 MB.*--cache-limit"):
        run.fit()
    sizes = [f"{split} {n * 32 * 4 / 1e6:.1f} MB" for split, n in zip(("train", "validation"), tokens, strict=True)]
    assert f"as float32, {', '.join(sizes)}, in {tmp_path / 'cache'}" in run.lines[0]
    assert not (tmp_path / "cache").exists()


def test_options_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Accepted are float32 and float16"):
        PrefixCacheOptions(tmp_path, "int8")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="Give more than 0"):
        PrefixCacheOptions(tmp_path, limit_bytes=0)


def test_adapters_from_the_first_layer_on_are_refused_before_anything_is_written(
    without_dropout: Path, tmp_path: Path
) -> None:
    run = Run(without_dropout, PrefixCacheOptions(tmp_path / "cache"))
    run.adapter.layers_to_transform = None
    with pytest.raises(ConfigurationError, match="nothing to cache"):
        run.fit()
    assert list(tmp_path.iterdir()) == []
