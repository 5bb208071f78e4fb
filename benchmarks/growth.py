"""How time and memory grow with text length, batch size, modalities, their width, labels, and rows of the data set.

``python benchmarks/growth.py <folder>`` reads ``<folder>/config.yaml`` and writes ``<folder>/result.json``. A result is
never overwritten: a new experiment is a new folder. At each point of an axis one size of ``shape`` takes another value;
every contender has a process of its own there, and they take turns. The axis ``rows`` trains from a file with so many
rows, by the Trainer's own loader. What is there of an interrupted experiment is kept in ``<folder>/partial.json``, axis
by axis.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from experiment import Experiment
from names import check_contenders
from rows import InMemoryRows, write_rows
from turns import Comparison

from mmadapters.cli.console import step

ROWS = "rows"


def shape_at(shape: dict[str, Any], axis: str, value: int, width: int | None = None) -> dict[str, Any]:
    """Return a shape in which one size is another.

    Args:
        shape: ``encoder``, ``batch_size``, ``length``, ``modalities`` and ``labels``.
        axis: One of them; ``modalities`` is their number and ``width`` the width of each.
        value: The size.
        width: Of each modality on the axis ``modalities``.

    Raises:
        ValueError: If there is no such axis.
    """
    if axis == "modalities":
        return {**shape, axis: [width] * value}
    if axis == "width":
        return {**shape, "modalities": [value] * len(shape["modalities"])}
    if axis in ("length", "batch_size", "labels"):
        return {**shape, axis: value}
    raise ValueError(
        f"There is no axis {axis!r}. Accepted are length, batch_size, modalities, width, labels and {ROWS}."
    )


def comparison_at(config: dict[str, Any], axis: str, value: int) -> Comparison:
    """Return the comparison at a point of any axis but the rows."""
    settings = config["axes"][axis]
    shape = shape_at(config["shape"], axis, value, settings.get("width"))
    return _comparison(
        config,
        {
            name: {"contender": name, "threads": config["threads"], "shape": shape}
            for name in settings.get("contenders", config["contenders"])
        },
        config["reference"],
    )


def rows_comparison_at(config: dict[str, Any], path: Path) -> Comparison:
    """Return the comparison of the ways of training from a file."""
    settings = config["axes"][ROWS]
    rows = {"path": str(path), **{key: settings[key] for key in ("widths", "backbone", "batch_size")}}
    names = settings["contenders"]
    comparison = _comparison(
        config, {name: {"contender": name, "threads": config["threads"], "rows": rows} for name in names}, names[0]
    )
    comparison.parts = InMemoryRows.parts
    return comparison


def _comparison(config: dict[str, Any], specifications: dict[str, Any], reference: str) -> Comparison:
    return Comparison(specifications, reference, config["turns"], config["steps_a_turn"])


def measure_axis(config: dict[str, Any], axis: str) -> dict[str, Any]:
    """Return what was measured at each point of an axis."""
    points = []
    for value in config["axes"][axis]["values"]:
        step(f"{axis} = {value:,}")
        points.append({"value": value, **measure_point(config, axis, value)})
    return {"points": points}


def measure_point(config: dict[str, Any], axis: str, value: int) -> dict[str, Any]:
    if axis != ROWS:
        return comparison_at(config, axis, value).run()
    settings = config["axes"][ROWS]
    with tempfile.TemporaryDirectory(prefix="mmadapters-bench-") as folder:
        path = write_rows(Path(folder) / "rows.parquet", value, settings["words"], settings["widths"])
        return rows_comparison_at(config, path).run()


def main(folder: Path) -> None:
    experiment = Experiment(folder)
    config = experiment.config
    torch.set_num_threads(config["threads"])
    for settings in (config, *(settings for axis, settings in config["axes"].items() if axis != ROWS)):
        check_contenders(settings.get("contenders", []))
    axes = {axis: experiment.part(axis, partial(measure_axis, config, axis)) for axis in config["axes"]}
    experiment.finish(axes=axes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    try:
        main(**vars(parser.parse_args()))
    except ValueError as error:
        sys.exit(str(error))
