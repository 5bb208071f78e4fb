"""Throughput of batches of rows of similar length against batches in arrival order, as data.

``python benchmarks/length.py <folder>`` reads ``<folder>/config.yaml`` and writes ``<folder>/result.json``. A result is
never overwritten: a new experiment is a new folder. All contenders run in one process and in turns, round by round, on
the same rows and the same model; a round is an epoch of training, or one pass of inference.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.cli.console import prepare_libraries, step
from mmadapters.data.batching import TrainingBatches, inference_batches
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.data.sources.movielens import movie_splits
from mmadapters.files import write_json_atomically
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, build_model
from mmadapters.training.trainer import parameter_groups

PACKAGES = ("mmadapters", "torch", "transformers", "peft", "numpy")
ARRIVAL, BUCKETED, BUDGET = "arrival order", "similar length", "token budget"
Batches = list[list[int]]


def main(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    target = folder / "result.json"
    if target.exists():
        sys.exit(f"{target} exists. Results are added, never edited: copy the folder under another name.")
    prepare_libraries(progress=False)
    torch.manual_seed(config["seed"])
    preprocessor, data = mixed_rows(config)
    adapter = MultimodalAdapterConfig(modalities=preprocessor.modalities)
    model = build_model(preprocessor, ModelSettings(), adapter)
    collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
    arguments = MultimodalTrainingArguments(use_cpu=True)
    optimizer = torch.optim.AdamW(parameter_groups(model, arguments))

    def train(batches: Batches) -> None:
        model.train()
        for rows in batches:
            model(**collator([data[row] for row in rows]))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()

    def infer(batches: Batches) -> None:
        model.eval()
        with torch.inference_mode():
            for rows in batches:
                model(**collator([data[row] for row in rows]))

    parts: dict[str, tuple[Callable[[Batches], None], dict[str, Callable[[int], Batches]]]] = {
        "training": (train, training_batches(config, data)),
        "inference": (infer, evaluation_batches(config, data)),
    }
    write_json_atomically(
        target,
        {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": {
                "cpu": platform.machine(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "load": round(os.getloadavg()[0], 2),
            },
            "versions": {package: version(package) for package in PACKAGES},
            "seed": config["seed"],
            "rows": len(data),
            "tokens": {
                "shortest": int(data.lengths.min()),
                "median of the titles": float(np.median(data.lengths[data.lengths < 100])),
                "median of the plots": float(np.median(data.lengths[data.lengths >= 100])),
                "longest": int(data.lengths.max()),
            },
            **{name: measure(name, run, ways, config["rounds"], data) for name, (run, ways) in parts.items()},
        },
    )
    step(f"written to {target}")


def mixed_rows(config: dict[str, Any]) -> tuple[Preprocessor, MultimodalDataset]:
    """Return titles of movies and plots made of their words, mixed, with vectors of two modalities."""
    random = np.random.default_rng(config["seed"])
    titles = movie_splits(config["seed"])["train"]["title"].sample(config["rows"] // 2, random_state=config["seed"])
    words = sorted({word for title in titles for word in title.split()})
    tokenizer = load_tokenizer(ModelSettings().backbone)
    plots = []
    for length in random.normal(config["plot_tokens"], 10, config["rows"] - len(titles)):
        tokens = tokenizer(" ".join(random.choice(words, int(length))))["input_ids"][1 : int(length) - 1]
        plots.append(tokenizer.decode(tokens))
    texts = random.permutation([*titles, *plots])
    frame = pd.DataFrame({"text": texts, "label": [f"label {place}" for place in random.integers(0, 6, len(texts))]})
    for place, width in enumerate(config["vectors"]):
        frame[f"vector {place}"] = list(random.normal(size=(len(texts), width)).astype(np.float32))
    columns = tuple(VectorColumn(f"vector_{place}", f"vector {place}") for place in range(len(config["vectors"])))
    preprocessor = Preprocessor.fit(frame, DatasetSchema("text", "label", columns), tokenizer)
    return preprocessor, preprocessor.transform(frame)


def training_batches(config: dict[str, Any], data: MultimodalDataset) -> dict[str, Callable[[int], Batches]]:
    def of_epoch(**options: Any) -> Callable[[int], Batches]:
        batches = TrainingBatches(data.lengths, config["batch_size"], config["seed"], **options)

        def drawn(epoch: int) -> Batches:
            batches.set_epoch(epoch)
            return list(batches)

        return drawn

    return {
        ARRIVAL: of_epoch(by_length=False),
        BUCKETED: of_epoch(),
        BUDGET: of_epoch(max_tokens=config["max_tokens_per_batch"]),
    }


def evaluation_batches(config: dict[str, Any], data: MultimodalDataset) -> dict[str, Callable[[int], Batches]]:
    def arrived(_: int) -> Batches:
        size = config["inference_batch_size"]
        return [list(range(start, min(start + size, len(data)))) for start in range(0, len(data), size)]

    def sorted_by_length(max_tokens: int | None) -> Callable[[int], Batches]:
        return lambda _: [
            rows.tolist() for rows in inference_batches(data.lengths, config["inference_batch_size"], max_tokens)
        ]

    return {
        ARRIVAL: arrived,
        BUCKETED: sorted_by_length(None),
        BUDGET: sorted_by_length(config["max_tokens_per_batch"]),
    }


def measure(
    name: str, run: Callable[[Batches], None], ways: dict[str, Callable[[int], Batches]], rounds: int, data: Any
) -> dict[str, Any]:
    """Run all ways in turns, and return rows a second, the share of padding, and the ratio to arrival order."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    tokens: dict[str, list[int]] = {way: [] for way in ways}
    for batches in (batches_of(0)[:2] for batches_of in ways.values()):
        run(batches)
    for round_number, way, batches in in_turns(ways, rounds):
        started = time.perf_counter()
        run(batches)
        times[way].append(time.perf_counter() - started)
        tokens[way].append(sum(len(rows) * int(data.lengths[rows].max()) for rows in batches))
        step(f"{name}, round {round_number + 1} of {rounds}, {way}: {times[way][-1]:.2f} s")
    return {
        way: {
            "rows_a_second": round(len(data) / statistics.median(times[way]), 2),
            "times_arrival_order": round(
                statistics.median(a / b for a, b in zip(times[ARRIVAL], times[way], strict=True)), 3
            ),
            "padded_tokens_to_tokens": round(statistics.median(tokens[way]) / int(data.lengths.sum()), 3),
            "seconds": [round(value, 3) for value in times[way]],
        }
        for way in ways
    }


def in_turns(ways: dict[str, Callable[[int], Batches]], rounds: int) -> Iterator[tuple[int, str, Batches]]:
    for round_number in range(rounds):
        for way, batches_of in ways.items():
            yield round_number, way, batches_of(round_number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
