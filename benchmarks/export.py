"""What exported forms of a model bring: time of a batch beside the model in PyTorch, size, and metrics on test rows.

``python benchmarks/export.py <folder>`` reads ``<folder>/config.yaml`` and writes ``<folder>/result.json``. A result is
never overwritten: a new experiment is a new folder. The models are the demonstration's on its movies, one for each
seed; they are kept under ``.cache/`` beside the project, so that an interrupted experiment need not train them again.
Every form has a process of its own, and they take turns. What is there of an interrupted experiment is kept in
``<folder>/partial.json``.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from experiment import Experiment, versions
from exported_forms import FORMS, SAVED, run_command
from turns import Comparison, spread

from mmadapters.artefact import PIPELINE_FILE
from mmadapters.cli.console import prepare_libraries, step
from mmadapters.data.files import read_rows, write_rows
from mmadapters.data.sources.movielens import movie_splits
from mmadapters.demo.comparison import MULTIMODAL, DemoOptions, artefact_folder, train_adapter
from mmadapters.demo.movies import SCHEMA
from mmadapters.export import export_artefact
from mmadapters.training.fit import ModelSettings

CACHE = Path(__file__).parents[1] / ".cache" / "export-benchmark"
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino")
TITLES = {"onnxruntime, float32": "onnxruntime", "onnxruntime, int8": "onnxruntime int8", "openvino": "openvino"}


def trained(seed: int) -> dict[str, Path]:
    """Return artefact, exported model and test rows of a seed, made now unless they were before."""
    folder = CACHE / str(seed)
    artefact, rows = artefact_folder(folder, MULTIMODAL), folder / "test.jsonl"
    if not (artefact / PIPELINE_FILE).exists():
        frames = movie_splits(seed)
        options = DemoOptions(folder, seed, ModelSettings(), {}, {"disable_tqdm": True}, step)
        train_adapter(options, frames, SCHEMA, MULTIMODAL)
        write_rows(frames["test"], rows)
    return {"artefact": artefact, "exported": folder / "exported", "file": rows}


def exported(seed: int) -> dict[str, Any]:
    """Export the model of a seed, and return how its forms compare with it on the test rows."""
    places = trained(seed)
    report = export_artefact(
        places["artefact"], places["exported"], int8=True, openvino=True, check=read_rows(places["file"])
    )
    return {
        "bytes": dict(report.bytes),
        "artefact_bytes": sum(path.stat().st_size for path in places["artefact"].iterdir()),
        "differences": {TITLES[form.title]: value for form, value in report.differences.items()},
        "rows": {TITLES[form.title]: check.to_dict() for form, check in report.checks.items()},
    }


def batch_times(config: dict[str, Any], batch: dict[str, int]) -> dict[str, Any]:
    """Return the times of one batch, of the model in PyTorch and of every form."""
    places = {name: str(place) for name, place in trained(config["seeds"][0]).items()}
    settings = {**places, "threads": config["threads"], **batch}
    comparison = Comparison(
        {
            name: {"contender": name, "threads": config["threads"], "exported_form": settings}
            for name in (SAVED, *config["forms"])
        },
        SAVED,
        config["turns"],
        config["steps_a_turn"],
        parts=("infer",),
    )
    measured = comparison.run()["contenders"]
    # The peak is that of a process that has PyTorch in it for whatever it runs; see the commands.
    return {
        name: {k: v for k, v in values.items() if "megabytes" not in k and k != "memory_ratio"}
        for name, values in measured.items()
    }


def command_times(config: dict[str, Any]) -> dict[str, Any]:
    """Return time and peak memory of predicting the test rows from the command line, in new processes by turns."""
    places = trained(config["seeds"][0])
    settings = {**places, "target": CACHE / "predictions.csv"}
    names = (SAVED, *config["forms"])
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(config["command_turns"]):
        for name in names:
            runs[name].append(run_command(name, settings))
    seconds = {name: [run["seconds"] for run in done] for name, done in runs.items()}
    return {
        name: {
            "seconds": spread(seconds[name]) | {"turns": seconds[name]},
            "ratio": spread([own / other for own, other in zip(seconds[name], seconds[SAVED], strict=True)]),
            "peak_megabytes": median(run["peak_megabytes"] for run in done),
        }
        for name, done in runs.items()
    }


def main(folder: Path) -> None:
    experiment = Experiment(folder)
    config = experiment.config
    unknown = [name for name in config["forms"] if name not in FORMS]
    if unknown:
        raise ValueError(f"There is no form {unknown[0]!r}. Accepted are {', '.join(map(repr, FORMS))}.")
    prepare_libraries(progress=False)
    torch.set_num_threads(config["threads"])
    seeds = {str(seed): experiment.part(f"seed {seed}", partial(exported, seed)) for seed in config["seeds"]}
    batches = {
        name: experiment.part(name, partial(batch_times, config, batch)) for name, batch in config["batches"].items()
    }
    commands = experiment.part("commands", partial(command_times, config))
    experiment.finish(seeds=seeds, batches=batches, commands=commands, export_versions=versions(PACKAGES))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    try:
        main(**vars(parser.parse_args()))
    except ValueError as error:
        sys.exit(str(error))
