"""Contenders in processes of their own that take turns, and what their times come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType
from typing import Any

import torch
from contenders import why_left_out
from products import product_rate

from mmadapters.cli.console import step

WORKER = Path(__file__).with_name("worker.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class ContenderEnded(RuntimeError):
    """A contender's process ended before it was asked to."""


class Process:
    """A contender's process, waiting for its turn.

    Args:
        python: The interpreter of its environment.
        specification: What ``worker.py`` is to make.
    """

    def __init__(self, python: str, specification: Mapping[str, Any]) -> None:
        self.name = specification["contender"]
        self._folder = tempfile.TemporaryDirectory(prefix="mmadapters-bench-")
        self._errors = Path(self._folder.name) / "stderr"
        with self._errors.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [python, str(WORKER), json.dumps(specification)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **OFFLINE},
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def read(self) -> Any:
        """Return the next answer.

        Raises:
            ContenderEnded: If there is none, with the last line that the process wrote to standard error.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            text = self._errors.read_text(encoding="utf-8", errors="replace")
            said = [line for line in text.splitlines() if line.strip()]
            raise ContenderEnded(said[-1].strip() if said else f"its process ended with status {code}")
        return json.loads(line)

    def ask(self, part: str, count: int = 0) -> Any:
        """Let the contender do a part ``count`` times, and return the answer: seconds, or what is known at the end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{part} {count}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.read()


@dataclass
class Comparison:
    """Which contenders are measured, and how.

    Attributes:
        specifications: What ``worker.py`` makes of each contender, by name.
        reference: The contender that the ratios refer to.
        turns: Number of turns.
        steps_a_turn: Repetitions of a part in a turn.
        parts: What is timed.
        pythons: Interpreters of contenders that need an environment of their own, by name.
    """

    specifications: dict[str, dict[str, Any]]
    reference: str
    turns: int
    steps_a_turn: int
    parts: Sequence[str] = ("step", "infer")
    pythons: dict[str, str] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Measure, and return each contender's times, ratios and memory, and why others were left out.

        Raises:
            ContenderEnded: If the reference cannot be measured, or a contender ends between its turns.
        """
        left_out = {name: why for name in self.specifications if (why := why_left_out(name, self.pythons)) is not None}
        with ExitStack() as stack:
            processes = {
                name: stack.enter_context(Process(self.pythons.get(name, sys.executable), specification))
                for name, specification in self.specifications.items()
                if name not in left_out
            }
            left_out |= self._warm_up(processes)
            times, rates = self._take_turns(processes)
            known = {name: process.ask("end") for name, process in processes.items()}
        return summary(times, known, rates, self.reference) | {"left_out": left_out}

    def _warm_up(self, processes: dict[str, Process]) -> dict[str, str]:
        """Wait until every model is there, run each part once, and return what failed; it is taken out."""
        failed: dict[str, str] = {}
        for name, process in list(processes.items()):
            try:
                process.read()
                for part in self.parts:
                    process.ask(part, 1)
            except ContenderEnded as error:
                if name == self.reference:
                    raise ContenderEnded(f"The reference '{name}' cannot be measured: {error}") from error
                failed[name] = str(error)
                step(f"left out: {name}: {error}")
                del processes[name]
        if self.reference not in processes:
            raise ContenderEnded(f"The reference '{self.reference}' is not among those that are measured.")
        return failed

    def _take_turns(self, processes: dict[str, Process]) -> tuple[Times, dict[str, list[float]]]:
        times: Times = {name: {part: [] for part in self.parts} for name in processes}
        rates: dict[str, list[float]] = {"float32": []}
        if any("bf16" in name.split() for name in processes):
            rates["bfloat16"] = []
        for _ in range(self.turns):
            for dtype, measured in rates.items():
                measured.append(product_rate(getattr(torch, dtype)))
            for part in self.parts:
                for name, process in processes.items():
                    times[name][part].append(process.ask(part, self.steps_a_turn))
        return times, rates


Times = dict[str, dict[str, list[float]]]
"""Seconds by contender, part and turn."""


def summary(
    times: Times, known: dict[str, dict[str, Any]], rates: dict[str, list[float]], reference: str
) -> dict[str, Any]:
    """Return medians and quartiles of the seconds, and the ratios to the reference and to the arithmetic limit.

    Args:
        times: Seconds by contender, part and turn.
        known: What each contender answered in the end.
        rates: Operations a second that large products reached, by precision and turn.
        reference: The contender that the ratios refer to.
    """
    rate = {dtype: median(measured) for dtype, measured in rates.items()}
    contenders = {}
    for name, parts in times.items():
        result = dict(known[name])
        for part, seconds in parts.items():
            result[f"{part}_seconds"] = spread(seconds) | {"turns": [significant(value) for value in seconds]}
            # Of each turn the ratio to the reference in the same turn: what disturbs a turn disturbs both.
            ratios = [own / other for own, other in zip(seconds, times[reference][part], strict=True)]
            result[f"{part}_ratio"] = spread(ratios)
            if f"{part}_gigaflops" in result:
                needed, of_reference = result[f"{part}_gigaflops"], known[reference][f"{part}_gigaflops"]
                result[f"{part}_limit_ratio"] = significant(needed / of_reference)
                fastest = needed * 1e9 / rate[result["precision"]]
                result[f"{part}_to_limit"] = significant(median(seconds) / fastest)
        result["memory_ratio"] = round(result["peak_megabytes"] / known[reference]["peak_megabytes"], 3)
        contenders[name] = result
    return {
        "product_gigaflops": {dtype: round(value / 1e9, 1) for dtype, value in rate.items()},
        "contenders": contenders,
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median and quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": significant(median(values)), "quartile_1": significant(low), "quartile_3": significant(high)}


def significant(value: float) -> float:
    """Return a number with five significant digits."""
    return float(f"{value:.5g}")
