"""Results as the benchmarks write them, with numbers that are made up so that tests know them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from names import ADAPTERHUB, FULL
from turns import summary

MACHINE = {"cpu": "x86_64", "processor": "Z80", "cores": 2, "threads": 2, "memory_gigabytes": 25.3, "bf16": []}
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"}


def timed(seconds: dict[str, float], megabytes: dict[str, int], jitter: float = 0.02) -> dict[str, Any]:
    """Return what ``Comparison.run`` gives for contenders with these step times: an inference takes a quarter."""
    around = (1 - jitter, 1.0, 1 + jitter)
    return summary(
        {
            name: {"step": [value * factor for factor in around], "infer": [value / 4 * factor for factor in around]}
            for name, value in seconds.items()
        },
        {
            name: {
                "peak_megabytes": megabytes[name],
                "trainable_parameters": 2_000_000,
                "precision": "float32",
                "step_gigaflops": value * 50,
                "infer_gigaflops": value * 12,
                "file_megabytes": 8.4,
            }
            for name, value in seconds.items()
        },
        {"float32": [100e9]},
        FULL,
    ) | {"left_out": {}, "load_before": 0.1}


def write(folder: Path, config: dict[str, Any], result: dict[str, Any], date: str = "2026-01-02") -> Path:
    """Write an experiment with its result."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    head = {"date": date, "machine": MACHINE, "versions": VERSIONS}
    (folder / "result.json").write_text(json.dumps({**head, **result}))
    return folder


def write_steps(folder: Path, step_of_ours: float = 0.7, date: str = "2026-01-02", shape: str = "bert-base") -> Path:
    """Write a result on steps in which full fine-tuning takes a second and 1,000 MB."""
    seconds = {FULL: 1.0, ADAPTERHUB: 0.6, "ours": step_of_ours, "ours shared": 0.65, "ours last 4, cached": 0.25}
    megabytes = {FULL: 1000, ADAPTERHUB: 640, "ours": 710, "ours shared": 680, "ours last 4, cached": 330}
    config = {
        "runner": "steps",
        "labels": 13,
        "reference": FULL,
        "shapes": {
            shape: {"encoder": "bert-base", "batch_size": 8, "length": 128, "modalities": [64, 8], "contenders": []}
        },
    }
    return write(folder, config, {"shapes": {shape: timed(seconds, megabytes)}}, date)


def write_growth(folder: Path) -> Path:
    """Write a result on growth, as a MiniLM's may look like."""
    sizes = {
        "length": [32, 64, 128, 256, 512],
        "batch_size": [1, 2, 4, 8, 16, 32],
        "modalities": [0, 1, 2, 4, 8],
        "width": [64, 512, 4096],
        "labels": [2, 10, 100, 1000, 10000],
    }
    shares = {FULL: 1.0, "ours": 0.72, "ours shared": 0.68, "ours last 4": 0.55}
    axes: dict[str, Any] = {}
    for axis, values in sizes.items():
        points = []
        for value in values:
            full = 0.05 + 0.004 * value if axis in ("length", "batch_size") else 0.3 + value / 1e5
            seconds = {name: full * share for name, share in shares.items()}
            megabytes = {name: round(500 + 900 * second) for name, second in seconds.items()}
            points.append({"value": value, **timed(seconds, megabytes, jitter=0.1)})
        axes[axis] = {"load_before": 0.2, "points": points}
    axes["rows"] = {"load_before": 0.2, "points": [rows_point(1000, 700), rows_point(10_000, 790)]}
    shape = {"encoder": "minilm", "batch_size": 4, "length": 64, "modalities": [512, 512], "labels": 13}
    rows = {"contenders": ["in memory"], "backbone": "minilm", "words": 14, "widths": [64, 64], "batch_size": 32}
    configured = {axis: {"values": [], "width": 512} for axis in sizes} | {"rows": rows}
    return write(folder, {"runner": "growth", "reference": FULL, "shape": shape, "axes": configured}, {"axes": axes})


def rows_point(value: int, megabytes: int) -> dict[str, Any]:
    """Return a point of the axis ``rows``."""
    name = "in memory"
    measured = summary(
        {name: {"step": [0.2, 0.21, 0.25], "batch": [0.001, 0.0012, 0.002]}},
        {name: {"peak_megabytes": megabytes, "prepare_seconds": 1.25}},
        {"float32": [100e9]},
        name,
    )
    return {"value": value, **measured, "left_out": {}}
