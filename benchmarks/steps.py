"""Time and memory of a training step: our adapters beside full fine-tuning, LoRA and AdapterHub's text-only adapters.

``python benchmarks/steps.py <folder>`` reads ``<folder>/config.yaml`` and writes ``<folder>/result.json``. A result is
never overwritten: a new experiment is a new folder. Each contender has a process of its own, so that its peak memory is
its own; the processes take turns (A B C A B C …), a few steps a turn, and every time is a median over turns. What is
there of an interrupted experiment is kept in ``<folder>/partial.json``, shape by shape.

AdapterHub's ``adapters`` needs another version of transformers. ``--adapterhub <python>`` names the interpreter of an
environment with ``adapters`` in it (``make bench-adapterhub-env`` makes one); without it, that contender is left out
and the result says so.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from experiment import Experiment
from names import ADAPTERHUB, check_contenders
from turns import Comparison


def comparison(config: dict[str, Any], shape: dict[str, Any], pythons: dict[str, str]) -> Comparison:
    """Return the comparison of a shape's contenders.

    Args:
        config: ``labels``, ``threads``, ``turns``, ``steps_a_turn`` and ``reference``.
        shape: ``encoder``, ``batch_size``, ``length``, ``modalities`` and ``contenders``.
        pythons: Interpreters of contenders that need an environment of their own, by name.
    """
    sizes = {"labels": config["labels"], **{key: value for key, value in shape.items() if key != "contenders"}}
    return Comparison(
        {
            name: {"contender": name, "threads": config["threads"], "shape": sizes}
            for name in [config["reference"], *(n for n in shape["contenders"] if n != config["reference"])]
        },
        config["reference"],
        config["turns"],
        config["steps_a_turn"],
        pythons=pythons,
    )


def main(folder: Path, adapterhub: str | None = None) -> None:
    experiment = Experiment(folder)
    config = experiment.config
    torch.set_num_threads(config["threads"])
    check_contenders(name for shape in config["shapes"].values() for name in shape["contenders"])
    pythons = {ADAPTERHUB: adapterhub} if adapterhub else {}
    shapes = {
        name: experiment.part(name, partial(comparison(config, shape, pythons).run))
        for name, shape in config["shapes"].items()
    }
    experiment.finish(shapes=shapes)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adapterhub", help="Python of an environment with the package `adapters`.")
    return parser


if __name__ == "__main__":
    try:
        main(**vars(arguments().parse_args()))
    except ValueError as error:
        sys.exit(str(error))
