"""Run an experiment on the demonstration's movies or on prepared rows: variants of the adapters × seeds, as data.

``python benchmarks/movies.py <folder>`` reads ``<folder>/config.yaml`` and writes ``<folder>/result.json``. A result is
never overwritten: a new experiment is a new folder. A variant has options of ``adapter`` and ``training``; with
``text_only: true`` its adapters read the title alone. Runs are interleaved (every variant of a seed before the next
seed), and what is there of an interrupted experiment is kept in ``<folder>/partial.json`` and not run again.

With ``prepared: true`` the rows are those of a folder that ``mmadapters data`` wrote and whose features are extracted,
such as the emoji, named by ``MMADAPTERS_PREPARED``; its ``train.yaml`` says what the columns are, and the split stays.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.cli.console import prepare_libraries, step
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.files import read_rows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import MULTI_LABEL, DatasetSchema
from mmadapters.data.sources.movielens import movie_splits
from mmadapters.demo.movies import SCHEMA
from mmadapters.evaluation.evaluator import evaluate, predict
from mmadapters.files import write_json_atomically
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, active_modalities, fit

PACKAGES = ("mmadapters", "torch", "transformers", "peft", "scikit-learn", "numpy")
METRICS = ("micro_average_precision", "macro_average_precision", "micro_f1")


def main(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    target, partial = folder / "result.json", folder / "partial.json"
    if target.exists():
        sys.exit(f"{target} exists. Results are added, never edited: copy the folder under another name.")
    prepare_libraries(progress=False)
    runs: list[dict[str, Any]] = json.loads(partial.read_text(encoding="utf-8")) if partial.exists() else []
    done = {(run["variant"], run["seed"]) for run in runs}
    for seed in config["seeds"]:
        frames, schema = prepared_rows() if config.get("prepared") else (movie_splits(seed), SCHEMA)
        for name, variant in config["variants"].items():
            if (name, seed) not in done:
                runs.append({"variant": name, "seed": seed, **run_once(frames, schema, variant or {}, seed)})
                write_json_atomically(partial, runs)
                step(f"{name}, seed {seed}: {runs[-1]}")
    write_json_atomically(
        target,
        {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
            "versions": {package: version(package) for package in PACKAGES},
            "seeds": config["seeds"],
            "summary": summary(runs),
            "runs": runs,
        },
    )
    partial.unlink()


def prepared_rows() -> tuple[dict[str, Any], DatasetSchema]:
    """Return the splits of the prepared folder, and what their columns are."""
    folder = Path(os.environ["MMADAPTERS_PREPARED"])
    os.chdir(folder)
    settings = load_settings(RunConfig, folder / "train.yaml", [])
    splits = {"train": settings.data.train, "validation": settings.data.validation, "test": settings.data.test}
    return {split: read_rows(folder / str(path)) for split, path in splits.items()}, settings.to_schema()


def run_once(frames: dict[str, Any], schema: DatasetSchema, variant: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one variant, its epoch chosen on the validation rows, and score both splits."""
    settings = ModelSettings()
    schema = replace(schema, modalities=()) if variant.get("text_only") else schema
    preprocessor = Preprocessor.fit(frames["train"], schema, load_tokenizer(settings.backbone))
    data = {split: preprocessor.transform(frame) for split, frame in frames.items()}
    fitted = fit(
        preprocessor,
        data["train"],
        data["validation"],
        settings=settings,
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, **variant.get("adapter", {})),
        arguments=MultimodalTrainingArguments(seed=seed, disable_tqdm=True, **variant.get("training", {})),
    )
    collator = MultimodalCollator(preprocessor.tokenizer, active_modalities(fitted.model, preprocessor))
    result: dict[str, Any] = {
        "trainable_parameters": sum(p.numel() for p in fitted.model.parameters() if p.requires_grad),
        "seconds": round(fitted.seconds, 1),
        "best_epoch": best_epoch(fitted.log),
    }
    for split in ("validation", "test"):
        report = evaluate(
            predict(fitted.model, data[split], collator, MULTI_LABEL),
            data[split],
            MULTI_LABEL,
            list(fitted.model.config.label2id),
        )
        result |= {f"{split}_{metric}": round(report.values[metric], 4) for metric in METRICS}
    return result


def best_epoch(log: list[dict[str, Any]]) -> int:
    """Return the epoch with the highest validation micro average precision; 0 is the start."""
    evaluations = [entry for entry in log if "eval_loss" in entry]
    return round(max(evaluations, key=lambda entry: entry["eval_micro_average_precision"])["epoch"])


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return mean ± standard deviation over the seeds, by variant and number."""
    table: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(run["variant"] for run in runs):
        of_variant = [run for run in runs if run["variant"] == name]
        table[name] = {
            key: f"{np.mean([run[key] for run in of_variant]):.4f} ± {np.std([run[key] for run in of_variant]):.4f}"
            for key in of_variant[0]
            if key not in ("variant", "seed")
        }
    return table


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
