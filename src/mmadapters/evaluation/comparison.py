"""Many runs, one comparison: mean and deviation over seeds, intervals of differences, and model against model.

A *contender* is a method with the modalities that it reads. What ``compare_runs`` returns is plain values, as
``comparison.json`` holds them; tables, pictures and the report are made from them alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.evaluation.bootstrap import BOOTSTRAPPED, COVERAGE, RESAMPLES, BootstrapDraws
from mmadapters.evaluation.curves import RECALLS, precision_at_recalls, training_curves
from mmadapters.evaluation.diversity import decisions, mean_failure_diversity, pairwise_complementarity
from mmadapters.evaluation.metrics import REGRESSION, MetricsReport, compute_metrics
from mmadapters.evaluation.missed import missed_rows
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.evaluation.thresholds import validation_thresholds, with_tuned_figures

SPLITS = ("validation", "test")
SHOWN_MISSES = 20


@dataclass(frozen=True)
class Contender:
    """A method with the modalities that it reads.

    Attributes:
        name: In tables and pictures; no other contender has it.
        label: Of the method, which several contenders may share.
        method: Name of the method.
        modalities: What it reads beside the text.
    """

    name: str
    label: str
    method: str
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What all runs of a comparison have in common.

    Attributes:
        problem_type: Of the labels.
        labels: The C label names; none for a regression.
        label_counts: Training rows that have each label.
        rows: Number of rows by split, training rows included.
        targets: Encoded labels of the validation and test rows.
        row_names: Of the test rows.
        row_texts: Of the test rows, cut to a readable length.
    """

    problem_type: str
    labels: list[str]
    label_counts: list[int]
    rows: dict[str, int]
    targets: dict[str, np.ndarray]
    row_names: list[str]
    row_texts: list[str]


@dataclass(frozen=True)
class RunOutcome:
    """What one run gave.

    Attributes:
        logits: Of the validation and test rows: (N, C), or (N,) for a regression.
        trainable_parameters: That were fitted.
        parameters: Of the whole model.
        file_bytes: That have to be kept for the task.
        seconds: Of the training.
        peak_memory_bytes: The most main memory that the run's process had, libraries included.
        peak_gpu_memory_bytes: The most GPU memory that tensors took; None without a GPU.
        log: Of the training.
        settings: What was chosen on the validation rows.
        versions: Of the libraries.
        variants: What it reached on the test rows with something missing; see ``ablation.variant_metrics``.
        explanation: What it looked at in the test rows; see ``explanation_summary``.
    """

    logits: dict[str, np.ndarray]
    trainable_parameters: int
    parameters: int
    file_bytes: int
    seconds: float
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    variants: list[dict[str, Any]] = field(default_factory=list)
    explanation: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Scored:
    """One run, scored."""

    reports: dict[str, MetricsReport]
    test_scores: np.ndarray
    thresholds: tuple[float, ...] | None


def compare_runs(
    task: Task,
    contenders: Sequence[Contender],
    outcomes: Mapping[str, Mapping[int, RunOutcome]],
    *,
    seeds: Sequence[int],
    reference: str | None = None,
    failures: Mapping[tuple[str, int], str] | None = None,
    resamples: int = RESAMPLES,
    bootstrap_seed: int = 0,
) -> dict[str, Any]:
    """Compare the runs of contenders.

    Args:
        task: What they have in common.
        contenders: In the order of the tables.
        outcomes: By contender and seed; those that are absent failed or are yet to come.
        seeds: Of the comparison.
        reference: The contender that the others are compared with: a name, or a label for the first that has it. The
            first contender where absent.
        failures: What went wrong, by contender and seed.
        resamples: Draws of the bootstrap.
        bootstrap_seed: Of the draws.

    Returns:
        Plain values; ``contenders`` has one entry each, in their order.

    Raises:
        ConfigurationError: If no contender is called like the reference.
    """
    chosen = reference_name(contenders, reference)
    scored = {
        contender.name: {seed: _score(task, outcome) for seed, outcome in sorted(runs.items())}
        for contender in contenders
        if (runs := outcomes.get(contender.name))
    }
    draws = BootstrapDraws(task.problem_type, task.targets["test"], resamples=resamples, seed=bootstrap_seed)
    drawn = {name: draws.metrics([run.test_scores for run in runs.values()]) for name, runs in scored.items()}
    entries = []
    for contender in contenders:
        entry: dict[str, Any] = {**asdict(contender), "modalities": list(contender.modalities), "seeds": []}
        if contender.name in scored:
            of_seeds = [outcomes[contender.name][seed] for seed in scored[contender.name]]
            entry |= _summary(task, outcomes[contender.name], scored[contender.name])
            entry |= {
                "variants": _variants(task, contender, entry["metrics"]["test"], of_seeds),
                "explanation": mean_of([run.explanation for run in of_seeds]),
            }
            if chosen in drawn and contender.name != chosen:
                found = draws.intervals(drawn[contender.name], drawn[chosen])
                entry["differences"] = {name: asdict(interval) for name, interval in found.items()}
        entries.append(entry)
    failed = dict(failures or {})
    return {
        "problem_type": task.problem_type,
        "labels": task.labels,
        "label_counts": task.label_counts,
        "rows": task.rows,
        "seeds": list(seeds),
        "reference": chosen,
        "main_metrics": list(BOOTSTRAPPED[task.problem_type]),
        "bootstrap": {"resamples": resamples, "coverage": COVERAGE, "seed": bootstrap_seed},
        "contenders": entries,
        "recalls": RECALLS.tolist(),
        "diversity": _diversity(task, scored),
        "missed": _missed(task, scored),
        "failed": [{"contender": name, "seed": seed, "message": text} for (name, seed), text in failed.items()],
        "missing": [
            {"contender": contender.name, "seed": seed}
            for contender in contenders
            for seed in seeds
            if seed not in outcomes.get(contender.name, {}) and (contender.name, seed) not in failed
        ],
        "versions": _versions(outcomes),
    }


def reference_name(contenders: Sequence[Contender], reference: str | None) -> str:
    """Return the name of the contender that the others are compared with.

    Args:
        contenders: At least one.
        reference: A name, a label for the first contender that has it, or None for the first of all.

    Raises:
        ConfigurationError: If there is no such contender.
    """
    if reference is None:
        return contenders[0].name
    for names in ({each.name: each.name for each in contenders}, {each.label: each.name for each in contenders[::-1]}):
        if reference in names:
            return names[reference]
    accepted = list(dict.fromkeys([each.label for each in contenders] + [each.name for each in contenders]))
    raise ConfigurationError(
        f"compare.reference is '{reference}', and no method is called so.{did_you_mean(reference, accepted)} Accepted "
        f"are {listed(accepted)}."
    )


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, sample standard deviation (None with fewer than two), number and values.

    Args:
        values: One a seed, None where it is undefined.
    """
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "n": len(known),
        "values": list(values),
    }


def mean_of(values: Sequence[Any]) -> Any:
    """Return several nests of plain values as one: numbers averaged, None left out, what is the same kept.

    Args:
        values: Of one form.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    first = known[0]
    if all(value == first for value in known):
        return first
    if isinstance(first, Mapping):
        return {name: mean_of([value.get(name) for value in known]) for name in first}
    if isinstance(first, list):
        return [mean_of(parts) for parts in zip(*known, strict=True)]
    return statistics.fmean(known)


def _variants(
    task: Task, contender: Contender, whole: Mapping[str, Any], runs: Sequence[RunOutcome]
) -> list[dict[str, Any]]:
    """Return main metrics over seeds on the whole test rows and on those with something missing; nothing without."""
    mains = BOOTSTRAPPED[task.problem_type]
    if not any(run.variants for run in runs):
        return []
    found: list[dict[str, Any]] = [
        {
            "kept": list(contender.modalities),
            "lost": [],
            "rate": 0.0,
            "metrics": {name: whole[name] for name in mains if name in whole},
        }
    ]
    for same in zip(*(run.variants for run in runs), strict=True):
        metrics = {name: over_seeds([each["metrics"].get(name) for each in same]) for name in mains}
        found.append({**{name: same[0][name] for name in ("kept", "lost", "rate")}, "metrics": metrics})
    return found


def _score(task: Task, outcome: RunOutcome) -> _Scored:
    scores = {split: scores_from_logits(outcome.logits[split], task.problem_type) for split in SPLITS}
    thresholds = validation_thresholds(task.problem_type, scores["validation"], task.targets["validation"])
    reports = {
        split: compute_metrics(task.problem_type, scores[split], task.targets[split], task.labels) for split in SPLITS
    }
    if thresholds is not None:
        # On the validation rows, where they were tuned, they say nothing.
        tuned = with_tuned_figures(reports["test"], scores["test"], task.targets["test"], task.labels, thresholds)
        reports["test"] = tuned
    return _Scored(reports, scores["test"], thresholds)


def _summary(task: Task, outcomes: Mapping[int, RunOutcome], scored: Mapping[int, _Scored]) -> dict[str, Any]:
    runs = [outcomes[seed] for seed in scored]
    gpu = [run.peak_gpu_memory_bytes for run in runs]
    found: dict[str, Any] = {
        "seeds": list(scored),
        "metrics": {split: _metrics_over_seeds([run.reports[split] for run in scored.values()]) for split in SPLITS},
        "trainable_parameters": runs[0].trainable_parameters,
        "parameters": runs[0].parameters,
        "file_bytes": runs[0].file_bytes,
        "seconds": over_seeds([run.seconds for run in runs]),
        "peak_memory_bytes": over_seeds([float(run.peak_memory_bytes) for run in runs]),
        "peak_gpu_memory_bytes": None if None in gpu else over_seeds([float(value or 0) for value in gpu]),
        "chosen": {str(seed): run.settings for seed, run in zip(scored, runs, strict=True)},
        "per_label": _per_label([run.reports["test"] for run in scored.values()]),
        "curves": training_curves([run.log for run in runs]),
    }
    if task.problem_type != REGRESSION:
        read = [
            precision_at_recalls(task.problem_type, run.test_scores, task.targets["test"]) for run in scored.values()
        ]
        found["precision"] = np.mean(read, axis=0).tolist()
    return found


def _metrics_over_seeds(reports: Sequence[MetricsReport]) -> dict[str, Any]:
    names = dict.fromkeys(name for report in reports for name in report.values)
    return {name: over_seeds([report.values.get(name) for report in reports]) for name in names}


def _per_label(reports: Sequence[MetricsReport]) -> list[dict[str, Any]]:
    """Return each label's figures on the test rows, averaged over seeds; None where they are undefined."""
    rows = []
    for same_label in zip(*(report.per_label for report in reports), strict=True):
        averaged = {
            name: over_seeds([row[name] for row in same_label])["mean"]
            for name in ("average_precision", "f1", "tuned_f1")
            if name in same_label[0]
        }
        rows.append({"label": same_label[0]["label"], "test_positives": same_label[0]["support"], **averaged})
    return rows


def _decided(task: Task, scored: Mapping[str, Mapping[int, _Scored]]) -> dict[str, dict[int, np.ndarray]]:
    return {
        name: {seed: decisions(task.problem_type, run.test_scores, run.thresholds) for seed, run in runs.items()}
        for name, runs in scored.items()
    }


def _diversity(task: Task, scored: Mapping[str, Mapping[int, _Scored]]) -> dict[str, Any] | None:
    if task.problem_type == REGRESSION or len(scored) < 2:
        return None
    predicted, targets = _decided(task, scored), task.targets["test"]
    pairs = pairwise_complementarity(task.problem_type, predicted, targets)
    return {
        "pairs": [{"first": first, "second": second, **asdict(found)} for (first, second), found in pairs.items()],
        "all": mean_failure_diversity(task.problem_type, predicted, targets),
    }


def _missed(task: Task, scored: Mapping[str, Mapping[int, _Scored]]) -> dict[str, Any] | None:
    runs = [run for seeds in scored.values() for run in seeds.values()]
    if not runs:
        return None
    targets = task.targets["test"]
    decided = (
        [] if task.problem_type == REGRESSION else [d for s in _decided(task, scored).values() for d in s.values()]
    )
    found = missed_rows(task.problem_type, [run.test_scores for run in runs], decided, targets)
    return {
        "n": len(found),
        "rows": [
            {
                "row": row,
                "name": task.row_names[row],
                "text": task.row_texts[row],
                **_target(task, row),
                "figure": figure,
            }
            for row, figure in found[:SHOWN_MISSES]
        ],
    }


def _target(task: Task, row: int) -> dict[str, Any]:
    target = task.targets["test"][row]
    if task.problem_type == REGRESSION:
        return {"target": float(target)}
    if np.ndim(target):
        return {"target": [task.labels[c] for c in np.flatnonzero(target)]}
    return {"target": [task.labels[int(target)]]}


def _versions(outcomes: Mapping[str, Mapping[int, RunOutcome]]) -> dict[str, list[str]]:
    """Return every version of each library that a run was made with."""
    found: dict[str, list[str]] = {}
    for runs in outcomes.values():
        for run in runs.values():
            for name, version in run.versions.items():
                versions = found.setdefault(name, [])
                if version not in versions:
                    versions.append(version)
    return found
