"""Compare methods on a set, as data: ``python benchmarks/quality.py <folder>`` or ``make bench``.

``<folder>/config.yaml`` names the rows, ``movies``, ``emoji`` or ``trailers``, which ``mmadapters data`` writes;
``run`` has what wins over the run's YAML that this command wrote, and ``compare`` is that section of it. Rows and runs
are kept in ``.cache/quality/<folder>``, so that an interrupted comparison goes on; ``result.json`` holds the
``comparison.json`` of ``mmadapters compare`` beside date, machine and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from experiment import Experiment
from turns import significant

from mmadapters.cli.console import step
from mmadapters.files import write_text_atomically

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "quality"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROWS = "rows"
PREPARED = {"movies": False, "emoji": True, "trailers": True}
"""The sets, and whether features have to be extracted."""


def prepared(name: str, folder: Path) -> Path:
    """Return the run's YAML of a set, prepared where it is not there yet.

    Args:
        name: Of the set.
        folder: Where it is kept.

    Raises:
        SystemExit: If there is no such set, or it cannot be prepared.
    """
    if name not in PREPARED:
        sys.exit(f"rows: {name!r} is unknown. Accepted are {', '.join(PREPARED)}.")
    rows = folder / ROWS
    if not rows.exists():
        run_command(["data", name, "-o", str(rows)], folder)
    if PREPARED[name]:
        # What is extracted already is not extracted again.
        run_command(["extract", "extract.yaml"], rows)
    return rows / "train.yaml"


def run_command(command: Sequence[str], folder: Path, threads: int | None = None) -> None:
    """Run a command of ``mmadapters``, and end with it where it fails.

    Args:
        command: Its words.
        folder: Where it runs.
        threads: Of each process of it; its own choice where absent.
    """
    limited = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    step("mmadapters " + " ".join(command))
    ended = subprocess.run(
        [sys.executable, "-m", "mmadapters", *command],
        cwd=folder,
        env={**os.environ, **OFFLINE, **limited},
        check=False,
    )
    if ended.returncode:
        sys.exit(ended.returncode)


def settings(run: Path, config: dict[str, Any], output: Path) -> dict[str, Any]:
    """Return what ``mmadapters compare`` is to do.

    Args:
        run: The YAML that the set's command wrote.
        config: Of the experiment; its ``run`` wins section by section.
        output: Folder of the comparison.
    """
    merged: dict[str, Any] = yaml.safe_load(run.read_text(encoding="utf-8"))
    for section, options in config.get("run", {}).items():
        merged[section] = {**merged.get(section, {}), **options} if isinstance(options, dict) else options
    return {**merged, "compare": config["compare"], "output_dir": str(output)}


def rounded(value: Any) -> Any:
    """Return a nest of plain values in which numbers have five significant digits."""
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def main(folder: Path) -> None:
    experiment = Experiment(folder)
    config = experiment.config
    cache = CACHE / folder.name
    cache.mkdir(parents=True, exist_ok=True)
    run = prepared(config["rows"], cache)
    compare = run.with_name("compare.yaml")
    write_text_atomically(compare, yaml.safe_dump(settings(run, config, cache / "compared"), sort_keys=False))
    run_command(["compare", "compare.yaml"], run.parent, config["threads"])
    comparison = json.loads((cache / "compared" / "comparison.json").read_text(encoding="utf-8"))
    experiment.finish(comparison=rounded(comparison))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="An experiment, such as benchmarks/quality/movies.")
    main(parser.parse_args().folder.resolve())
