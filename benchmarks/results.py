"""The newest results of the speed benchmarks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from experiment import read_config, runner_of
from names import FULL


@dataclass(frozen=True)
class Source:
    """An experiment that has a result.

    Attributes:
        folder: Where it is.
        config: Its ``config.yaml``.
        result: Its ``result.json``.
    """

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of a result that can be shown: the contenders of a shape, the points of an axis, or the ways of batching.

    Attributes:
        source: The experiment.
        config: What its configuration says of the part.
        values: What was measured.
    """

    source: Source
    config: dict[str, Any]
    values: dict[str, Any]


def sources(benchmarks: Path, runner: str) -> list[Source]:
    """Return the experiments of a runner that have a result, the oldest first; ``steps`` before ``steps-2``."""
    found = [source for source in _with_results(benchmarks) if runner_of(source.config) == runner]
    return sorted(found, key=lambda source: (source.result["date"], _natural(source.folder.name)))


def newest_parts(benchmarks: Path, runner: str, key: str) -> dict[str, Part]:
    """Return, for each entry of ``key`` in the results of a runner, the newest one.

    Args:
        benchmarks: The folder of experiments.
        runner: Such as ``steps``.
        key: Of results and configurations, such as ``shapes``.
    """
    parts: dict[str, Part] = {}
    for source in sources(benchmarks, runner):
        for name, values in source.result[key].items():
            parts[name] = Part(source, source.config[key][name], values)
    return parts


def _with_results(benchmarks: Path) -> Iterator[Source]:
    for path in sorted(benchmarks.glob("*/result.json")):
        if (path.parent / "config.yaml").exists():
            config = read_config(path.parent)
            try:
                runner_of(config)
            except ValueError:
                continue
            yield Source(path.parent, config, json.loads(path.read_text(encoding="utf-8")))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which ``steps-10`` comes after ``steps-9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def ratio(contenders: dict[str, Any], name: str, what: str, than: str = FULL) -> float | None:
    """Return a contender's time or memory as a multiple of another's, or None where one was not measured.

    Of times it is the median over the turns, as long as the result has them, else the quotient of the ratios to the
    reference.

    Args:
        contenders: What was measured of each.
        name: The contender.
        what: ``step``, ``infer`` or ``memory``.
        than: The other.
    """
    if name not in contenders or than not in contenders:
        return None
    own, other = contenders[name], contenders[than]
    if what == "memory":
        return float(own["peak_megabytes"] / other["peak_megabytes"])
    turns, others = own[f"{what}_seconds"].get("turns"), other[f"{what}_seconds"].get("turns")
    if turns and others:
        return float(median(a / b for a, b in zip(turns, others, strict=True)))
    return float(own[f"{what}_ratio"]["median"] / other[f"{what}_ratio"]["median"])
