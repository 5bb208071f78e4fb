"""The tables of a comparison, as text cells: the same on the console, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmadapters.evaluation.names import lower_is_better, metric_title

NONE = "–"
Comparison = Mapping[str, Any]
"""What ``mmadapters.evaluation.comparison.compare_runs`` returned."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: Above it.
        columns: The headings.
        rows: The cells.
        note: Below it; may be empty.
        text_columns: Headings of columns that are text; the others hold numbers.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""
    text_columns: tuple[str, ...] = ()


def finished(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the contenders that have at least one finished run."""
    return [contender for contender in comparison["contenders"] if contender["seeds"]]


def summary_table(comparison: Comparison) -> Table:
    """Return the main metrics on the test rows and what a method costs, one row a contender.

    Args:
        comparison: The comparison.
    """
    mains = comparison["main_metrics"]
    gpu = any(contender.get("peak_gpu_memory_bytes") for contender in finished(comparison))
    costs = ["trainable parameters", "seconds", "memory", *(["GPU memory"] if gpu else []), "file"]
    rows = []
    for contender in comparison["contenders"]:
        name = [contender["name"], _modalities(contender), str(len(contender["seeds"]))]
        if not contender["seeds"]:
            rows.append(name + [NONE] * (len(mains) + len(costs)))
            continue
        metrics = contender["metrics"]["test"]
        rows.append(
            name
            + [mean_and_deviation(metrics.get(metric)) for metric in mains]
            + [f"{contender['trainable_parameters']:,}", _seconds(contender["seconds"])]
            + [_size(contender["peak_memory_bytes"]["mean"])]
            + ([_size((contender["peak_gpu_memory_bytes"] or {}).get("mean"))] if gpu else [])
            + [_size(contender["file_bytes"])]
        )
    return Table(
        f"Test rows ({comparison['rows']['test']:,}): mean ± standard deviation over seeds",
        ["method", "modalities", "seeds", *map(metric_title, mains), *costs],
        rows,
        "Standard deviations are those of a sample (n - 1). Memory is the peak of a run's own process, with the "
        "libraries and the encoder; seconds are of the training; the file is what has to be kept for the task.",
        ("modalities",),
    )


def differences_table(comparison: Comparison) -> Table | None:
    """Return each contender's difference to the reference with its interval; None where there is nothing to compare.

    Args:
        comparison: The comparison.
    """
    reference, draws = comparison["reference"], comparison["bootstrap"]["resamples"]
    mains = comparison["main_metrics"]
    compared = [contender for contender in finished(comparison) if "differences" in contender]
    if not compared:
        return None
    rows = []
    for contender in compared:
        row = [contender["name"]]
        for metric in mains:
            found = contender["differences"].get(metric)
            row += [NONE, NONE] if found is None else [f"{found['difference']:+.4f}", _interval(found)]
        rows.append(row)
    columns = [
        part for metric in mains for part in (f"{metric_title(metric)}: difference", f"{metric_title(metric)}: 95 %")
    ]
    lower = "" if not lower_is_better(mains[0]) else " A negative difference is better than the reference."
    return Table(
        f"Differences to {reference}",
        ["method", *columns],
        rows,
        f"Method minus {reference}, each averaged over its seeds; 95 % percentile intervals of a paired bootstrap over "
        f"the test rows ({draws:,} draws, the same for all). An interval without 0 says that other rows of this kind "
        f"would hardly turn the difference round; it knows no training with other seeds.{lower}",
    )


def metric_tables(
    comparison: Comparison, splits: Sequence[str] = ("test", "validation"), at_once: int = 5
) -> list[Table]:
    """Return every metric of every contender, some contenders a table.

    Args:
        comparison: The comparison.
        splits: Which rows.
        at_once: Contenders in one table.
    """
    tables = []
    contenders = finished(comparison)
    for split in splits:
        note = "tuned …: at thresholds that were tuned on the validation rows; F1 and accuracy without it: at 0.5."
        if split == "validation":
            note = "Choices were made on these rows (epoch, C, thresholds), so the figures are too good."
        elif comparison["problem_type"] != "multi_label_classification":
            note = ""
        for start in range(0, len(contenders), at_once):
            part = contenders[start : start + at_once]
            names = dict.fromkeys(name for contender in part for name in contender["metrics"][split])
            rows = [
                [metric_title(name), *(mean_and_deviation(each["metrics"][split].get(name)) for each in part)]
                for name in names
            ]
            title = f"Every metric, {split} rows ({comparison['rows'][split]:,})"
            tables.append(Table(title, ["metric", *(each["name"] for each in part)], rows, note))
    return tables


def label_table(comparison: Comparison, figure: str) -> Table | None:
    """Return a figure of each label on the test rows, most frequent labels of the training rows first.

    Args:
        comparison: The comparison.
        figure: ``average_precision``, ``f1`` or ``tuned_f1``.
    """
    contenders = [each for each in finished(comparison) if each["per_label"] and figure in each["per_label"][0]]
    if not contenders:
        return None
    rows = []
    for index in labels_by_frequency(comparison):
        own = [contender["per_label"][index] for contender in contenders]
        counts = [f"{comparison['label_counts'][index]:,}", f"{own[0]['test_positives']:,}"]
        rows.append([comparison["labels"][index], *counts, *(_number(row[figure]) for row in own)])
    return Table(
        f"{metric_title(figure)} by label, most frequent first",
        ["label", "training rows", "test rows", *(each["name"] for each in contenders)],
        rows,
        "Means over seeds. A label without test rows has no figure.",
    )


def labels_by_frequency(comparison: Comparison) -> list[int]:
    """Return the labels' positions, those of most training rows first."""
    counts = comparison["label_counts"]
    return sorted(range(len(counts)), key=lambda index: -counts[index])


def diversity_table(comparison: Comparison) -> Table | None:
    """Return what pairs of contenders get right and wrong together; the reference's pairs, or all of few.

    Args:
        comparison: The comparison.
    """
    found = comparison["diversity"]
    if not found or not found["pairs"]:
        return None
    reference = comparison["reference"]
    pairs = found["pairs"]
    if len(pairs) > 10:
        pairs = [pair for pair in pairs if reference in (pair["first"], pair["second"])]
    multi_label = comparison["problem_type"] == "multi_label_classification"
    rows = [
        [pair["first"], pair["second"]]
        + [_share(pair[name]) for name in ("both_right", "only_first_wrong", "only_second_wrong", "both_wrong")]
        + [_number(pair["diversity"]), _share(pair["union"])]
        + ([_number(pair["union_f1"])] if multi_label else [])
        for pair in pairs
    ]
    unit = "decisions, one for each test row and label," if multi_label else "test rows"
    together = "" if found["all"] is None else f" All methods together: {found['all']:.4f}."
    return Table(
        "Errors that two methods share, and those that they do not",
        ["first", "second", "both right", "only first wrong", "only second wrong", "both wrong"]
        + ["failure diversity", "best union"]
        + (["best union: micro F1"] if multi_label else []),
        rows,
        f"Shares of all {unit} averaged over the seeds that both have. Failure diversity (coincident, Partridge and "
        "Krzanowski 1997): 0 if the two are always wrong together, 1 if never. Best union: what would be right if the "
        f"better of the two were always taken, which no real combination reaches.{together}",
        ("second",),
    )


def missed_table(comparison: Comparison) -> Table | None:
    """Return the test rows that all contenders miss; None where there is none.

    Args:
        comparison: The comparison.
    """
    found = comparison["missed"]
    if not found or not found["rows"]:
        return None
    regression = comparison["problem_type"] == "regression"
    rows = [[row["name"], row["text"], _target(row["target"]), f"{row['figure']:.3f}"] for row in found["rows"]]
    if regression:
        title = f"The {len(rows)} test rows with the largest errors of the best method"
        heading, note = "smallest error", "The smallest absolute error of any method and seed."
    else:
        title = f"Test rows that every method misses with every seed: {found['n']:,}, of them {len(rows)}"
        heading = "highest probability"
        note = (
            "No method finds a label that is right. The highest probability that any gave to a right one, lowest first."
        )
    return Table(
        title, ["row", "text", "labels" if not regression else "value", heading], rows, note, ("text", "labels")
    )


def chosen_table(comparison: Comparison) -> Table | None:
    """Return what each method chose on the validation rows, by seed; None where none chose anything.

    Args:
        comparison: The comparison.
    """
    rows = [
        [contender["name"], seed, ", ".join(f"{name} {_chosen(value)}" for name, value in chosen.items())]
        for contender in finished(comparison)
        for seed, chosen in contender["chosen"].items()
        if chosen
    ]
    if not rows:
        return None
    return Table("What was chosen on the validation rows", ["method", "seed", "chosen"], rows, "", ("chosen",))


def footer(comparison: Comparison) -> list[str]:
    """Return what a reader has to know of a comparison: rows, labels, choices, and which runs are not there.

    Args:
        comparison: The comparison.
    """
    rows = comparison["rows"]
    kind = comparison["problem_type"].replace("_", " ")
    labels = f", {len(comparison['labels'])} labels" if comparison["labels"] else ""
    lines = [
        f"Rows: {rows['train']:,} training, {rows['validation']:,} validation, {rows['test']:,} test; {kind}{labels}.",
        "All methods have the same rows in each split, whatever the seed. Epochs, regularisation and thresholds were "
        "chosen on the validation rows; the test rows were predicted once, after that. Where options were tuned before "
        "this comparison, it does not know on which rows.",
    ]
    without = _labels_without_test_rows(comparison)
    if without:
        lines.append(f"Labels without a test row, left out of macro averages: {', '.join(without)}.")
    lines += comparison.get("notes", [])
    for run in comparison["failed"]:
        lines.append(f"Failed: {run['contender']}, seed {run['seed']}: {_first_line(run['message'])}")
    missing = [f"{run['contender']} seed {run['seed']}" for run in comparison["missing"]]
    if missing:
        lines.append(f"Not run yet: {', '.join(missing)}. Start the same command again to go on.")
    mixed = [f"{name} {', '.join(found)}" for name, found in comparison["versions"].items() if len(found) > 1]
    if mixed:
        lines.append(f"The runs were made with different versions: {'; '.join(mixed)}.")
    return lines


def mean_and_deviation(found: Mapping[str, Any] | None) -> str:
    """Return ``0.8123 ± 0.0045``, without a deviation the mean, and a dash without either.

    Args:
        found: From ``over_seeds``, or None.
    """
    if found is None or found["mean"] is None:
        return NONE
    return f"{found['mean']:.4f}" + ("" if found["sd"] is None else f" ± {found['sd']:.4f}")


def _labels_without_test_rows(comparison: Comparison) -> list[str]:
    contenders = finished(comparison)
    return [row["label"] for row in contenders[0]["per_label"] if not row["test_positives"]] if contenders else []


def _modalities(contender: Mapping[str, Any]) -> str:
    return ", ".join(contender["modalities"]) or NONE


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['low']:+.4f} to {found['high']:+.4f}"


def _seconds(found: Mapping[str, Any]) -> str:
    deviation = "" if found["sd"] is None else f" ± {found['sd']:.1f}"
    return f"{found['mean']:.1f}{deviation}"


def _size(size: float | None) -> str:
    if size is None:
        return NONE
    if size < 2**20:
        return f"{size / 2**10:,.1f} KiB"
    return f"{size / 2**20:,.1f} MiB" if size < 100 * 2**20 else f"{size / 2**20:,.0f} MiB"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _target(target: float | Sequence[str]) -> str:
    return f"{target:g}" if isinstance(target, int | float) else ", ".join(target)


def _chosen(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no message"
