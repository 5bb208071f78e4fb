"""One run with several seeds: a folder for each, and every metric's mean and standard deviation over them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmadapters.cli.rows import prepare_rows
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.cli.train import METRICS_FILE, RESOLVED_CONFIG, checked_arguments, train_on_rows
from mmadapters.errors import ConfigurationError
from mmadapters.files import write_json_atomically

if TYPE_CHECKING:
    from mmadapters.data.dataset import MultimodalDataset

SUMMARY_FILE = "seeds.json"
OWN_FOLDERS = ("output_dir", "logging_dir")
"""Training arguments that name a folder, of which each seed needs one of its own."""


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that ``0,1,2``, ``0-4`` or ``0-2,7`` stand for, in that order.

    Raises:
        ConfigurationError: If the text is something else, or names a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigurationError(
                f"--seeds {text!r} cannot be read. Write whole numbers with commas between them (0,1,2), or the first "
                "and the last of a row of them (0-4)."
            )
        seeds += range(int(first), int(last or first) + 1)
    twice = [seed for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]
    if twice:
        raise ConfigurationError(f"--seeds {text!r} names {twice[0]} twice. Name every seed once.")
    return seeds


def settings_for_seed(settings: RunConfig, seed: int) -> RunConfig:
    """Return the run of one seed, in a folder of its own; the rows of the splits stay those of the run.

    Args:
        settings: The run.
        seed: Of initialisation and order.
    """
    folder = f"seed-{seed}"
    split_seed = settings.seed if settings.data.split_seed is None else settings.data.split_seed
    own = {name: str(Path(settings.training[name]) / folder) for name in OWN_FOLDERS if settings.training.get(name)}
    return replace(
        settings,
        seed=seed,
        data=replace(settings.data, split_seed=split_seed),
        training={**settings.training, **own},
        output_dir=str(Path(settings.output_dir) / folder),
    )


def run_seeds(
    settings: RunConfig, seeds: Sequence[int], rows_folder: Path, progress: bool, resume: bool = False
) -> dict[str, Any]:
    """Train once with each seed, but not those that are finished, and tell what the seeds have in common.

    Rows are read and prepared once. ``seeds.json`` in the run's output folder has what is printed.

    Args:
        settings: The run.
        seeds: The seeds.
        rows_folder: Relative paths of row files start here.
        progress: Whether progress bars may be shown.
        resume: Whether to go on with a seed's training that was killed or interrupted.

    Returns:
        What ``summary`` gives; nothing in processes but the first.
    """
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.training.tracking import end_tracker_runs

    shown = prepare_libraries(progress)
    runs = {seed: settings_for_seed(settings, seed) for seed in seeds}
    # Everything that can be wrong in the file is found before the first row is read.
    arguments = {seed: checked_arguments(run, shown, resume) for seed, run in runs.items()}
    is_first = arguments[seeds[0]].process_index == 0
    preprocessor, data = prepare_rows(runs[seeds[0]], rows_folder, report=step if is_first else None)
    if is_first:
        step(", ".join(f"{split}: {len(rows)} rows" for split, rows in data.items()))
    waiting = [seed for seed, run in runs.items() if finished_metrics(run, data) is None]
    for seed in waiting:
        if is_first:
            step(f"seed {seed}, {seeds.index(seed) + 1} of {len(seeds)}: to {runs[seed].output_dir}")
        if arguments[seed].report_to and arguments[seed].run_name is None:
            arguments[seed].run_name = f"{Path(settings.output_dir).name}-seed-{seed}"
        end_tracker_runs()
        train_on_rows(runs[seed], arguments[seed], preprocessor, data, resume)
    if not is_first:
        return {}
    for seed in seeds:
        if seed not in waiting:
            step(f"seed {seed}: was finished with these settings and rows, in {runs[seed].output_dir}")
    measured = {seed: _metrics(Path(run.output_dir)) for seed, run in runs.items()}
    found = summary(measured)
    write_json_atomically(Path(settings.output_dir) / SUMMARY_FILE, found)
    print_summary(found)
    step(f"saved to {settings.output_dir}: a folder for each seed, and {SUMMARY_FILE}")
    return found


def finished_metrics(settings: RunConfig, data: Mapping[str, MultimodalDataset]) -> dict[str, Any] | None:
    """Return what was measured by a run that is finished with the same settings and rows, or None.

    Args:
        settings: Of the run.
        data: Its rows by split.
    """
    from mmadapters.artefact import FILES

    output = Path(settings.output_dir)
    try:
        same = load_settings(RunConfig, output / RESOLVED_CONFIG) == settings
        metrics = _metrics(output)
    except (ConfigurationError, OSError, ValueError):
        return None
    whole = all((output / "artefact" / name).is_file() for name in FILES)
    digests = {split: rows.digest() for split, rows in data.items()}
    return metrics if same and whole and metrics.get("row_digests") == digests else None


def summary(measured: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean, sample standard deviation and values of every metric over the seeds.

    Args:
        measured: What each seed's ``metrics.json`` holds.

    Returns:
        Plain values. ``n`` is the number of seeds that have the metric; with one of them there is no deviation (None).
    """
    splits: dict[str, Any] = {}
    for split in dict.fromkeys(split for metrics in measured.values() for split in metrics["splits"]):
        reports = [metrics["splits"][split] for metrics in measured.values() if split in metrics["splits"]]
        names = dict.fromkeys(name for report in reports for name in report["metrics"])
        splits[split] = {
            "rows": reports[0]["n_examples"],
            "metrics": {name: _over_seeds([report["metrics"].get(name) for report in reports]) for name in names},
        }
    return {
        "seeds": list(measured),
        "splits": splits,
        "trainable_parameters": next(iter(measured.values()))["trainable_parameters"],
        "seconds": _over_seeds([metrics["seconds"] for metrics in measured.values()]),
    }


def print_summary(found: Mapping[str, Any]) -> None:
    """Print a table for each split.

    Args:
        found: What ``summary`` gave.
    """
    from mmadapters.cli.console import print_table

    columns = ["metric", "mean", "standard deviation", "lowest", "highest", "n"]
    for split, content in found["splits"].items():
        rows = []
        for name, over in content["metrics"].items():
            values = [value for value in over["values"] if value is not None]
            deviation = "–" if over["standard_deviation"] is None else f"{over['standard_deviation']:.4f}"
            rows.append(
                [name, f"{over['mean']:.4f}", deviation, f"{min(values):.4f}", f"{max(values):.4f}", str(over["n"])]
            )
        print_table(
            f"{split}: {content['rows']} rows, seeds {', '.join(map(str, found['seeds']))}",
            columns,
            rows,
            footer="n: seeds; the deviation is that of a sample (n - 1). All seeds have the same rows in each split.",
        )


def _over_seeds(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known),
        "standard_deviation": statistics.stdev(known) if len(known) > 1 else None,
        "n": len(known),
        "values": values,
    }


def _metrics(output: Path) -> dict[str, Any]:
    content = json.loads((output / METRICS_FILE).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"'{output / METRICS_FILE}' holds no report.")
    return content
