"""An experiment is a folder: ``config.yaml`` says what to do, ``result.json`` what came out, and stays."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from processor import load, machine

from mmadapters.cli.console import step
from mmadapters.files import write_json_atomically

PACKAGES = ("mmadapters", "torch", "transformers", "peft", "numpy")
RUNNERS = {
    "steps": "shapes",
    "growth": "axes",
    "length": "plot_tokens",
    "movies": "variants",
    "quality": "compare",
    "export": "forms",
    "serving": "callers",
}
"""The scripts that run experiments, each with a key that only its configurations have."""


class Experiment:
    """A folder whose ``config.yaml`` is to be run.

    What is measured is kept part by part in ``partial.json``, so that an interrupted experiment goes on.

    Args:
        folder: The folder.

    Raises:
        SystemExit: If it has no ``config.yaml``, has a result already, or has parts of another configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target, self.partial = folder / "result.json", folder / "partial.json"
        self.config = read_config(folder)
        if self.target.exists():
            sys.exit(f"{self.target} exists. Results are added, never edited: copy the folder under another name.")
        self._parts: dict[str, Any] = {}
        if self.partial.exists():
            before = json.loads(self.partial.read_text(encoding="utf-8"))
            if before["config"] != self.config:
                sys.exit(f"{self.partial} is of another config.yaml. Remove it to measure anew.")
            self._parts = before["parts"]

    def part(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return a part of the result, measured now unless it was before."""
        if name not in self._parts:
            self._parts[name] = {"load_before": load(), **measure()}
            write_json_atomically(self.partial, {"config": self.config, "parts": self._parts})
            step(f"measured: {name}")
        return self._parts[name]

    def finish(self, **parts: Any) -> None:
        """Write the result, with date, machine and versions."""
        write_json_atomically(
            self.target,
            {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": machine(self.config["threads"]),
                "versions": versions(PACKAGES),
                **parts,
            },
        )
        self.partial.unlink(missing_ok=True)
        step(f"written to {self.target}")


def read_config(folder: Path) -> dict[str, Any]:
    """Return an experiment's configuration.

    Raises:
        SystemExit: If there is none.
    """
    try:
        return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except OSError:
        sys.exit(f"{folder / 'config.yaml'} cannot be read. Give a folder of benchmarks/ that has one.")


def runner_of(config: dict[str, Any]) -> str:
    """Return the script that runs a configuration: the one that it names, else the one whose key it has.

    Raises:
        ValueError: If it names another, or has no key that says.
    """
    named = config.get("runner")
    fitting = [runner for runner, key in RUNNERS.items() if key in config] if named is None else [named]
    if len(fitting) != 1 or fitting[0] not in RUNNERS:
        raise ValueError(f"runner: {named!r} was given. Accepted are {', '.join(RUNNERS)}.")
    return fitting[0]


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the versions of packages, None of those that are not installed."""
    return {package: installed(package) for package in packages}


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
