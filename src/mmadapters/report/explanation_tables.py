"""The tables of what a model looked at, from plain values: of one model, or means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmadapters.evaluation.names import metric_title
from mmadapters.report.tables import NONE, Table

Summary = Mapping[str, Any]
"""What ``mmadapters.evaluation.explanation_summary.summarise_explanation`` returned."""
MOST_LABELS = 60
PLACES = {"attention": "attention", "feed_forward": "feed-forward"}


def sites_table(summary: Summary, of: str = "") -> Table:
    """Return shares and gates of each site, in the order in which they run.

    Args:
        summary: Of a model.
        of: Whose, for the title.
    """
    kinds = [kind for kind in ("shares", "gates") if summary[kind] is not None]
    rows = [
        [
            str(site["layer"]),
            PLACES[site["place"]],
            *(number(value, 3) for kind in kinds for value in summary[kind][place]),
        ]
        for place, site in enumerate(summary["sites"])
    ]
    columns = [f"{kind.removesuffix('s')}: {name}" for kind in kinds for name in summary["names"]]
    note = (
        "Share: the length of the part of the adapter's update that comes from it, over the sum of all parts' lengths; "
        "a mean over tokens, and over the rows that have the modality."
    )
    if "gates" in kinds:
        note += " Gate: its mean over units and tokens; in front of a small vector a large gate passes little on."
    return Table(_titled("Shares and gates by layer and site", of), ["layer", "site", *columns], rows, note, ("site",))


def labels_table(summary: Summary, of: str = "") -> Table | None:
    """Return the mean shares of the rows of each label, most rows first; None for a regression.

    Args:
        summary: Of a model.
        of: Whose, for the title.
    """
    if not summary["shares_by_label"] or len(summary["names"]) < 2:
        return None
    counts = summary["rows_by_label"]
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    shown = [c for c in order if counts[c]][:MOST_LABELS]
    rows = [
        [summary["labels"][c], f"{counts[c]:,}", *(number(value, 3) for value in summary["shares_by_label"][c])]
        for c in shown
    ]
    truth = "that have the label" if summary["metrics"] is not None else "for which the label is predicted"
    cut = f" The {MOST_LABELS} most frequent of {len(counts)} labels." if len(shown) < sum(map(bool, counts)) else ""
    return Table(
        _titled("Shares by label", of),
        ["label", "rows", *summary["names"]],
        rows,
        f"Means over all sites and over the rows {truth}.{cut}",
    )


def leave_one_out_table(summary: Summary, of: str = "") -> Table | None:
    """Return what changes without each modality; None where there is none.

    Args:
        summary: Of a model.
        of: Whose, for the title.
    """
    if not summary["leave_one_out"]:
        return None
    mains = _mains(summary)
    shares = _mean_shares(summary)
    rows = []
    if summary["metrics"] is not None:
        rows.append(["(nothing)", "", "", "", "", *(number(summary["metrics"].get(metric), 4) for metric in mains)])
    for entry in summary["leave_one_out"]:
        name = entry["modality"]
        rows.append(
            [
                name,
                f"{summary['present'][name]:,}" if name in summary["present"] else NONE,
                number(shares.get(name), 3),
                number(entry["changed"], 4),
                signed(entry.get("loss_rise"), 4),
                *(number(entry.get("metrics", {}).get(metric), 4) for metric in mains),
            ]
        )
    unit = "value" if summary["problem_type"] == "regression" else "probability"
    columns = ["without", "rows with it", "mean share", f"change of a {unit}", "rise of the loss"]
    return Table(
        _titled("What changes without each modality", of),
        [*columns, *map(metric_title, mains)],
        rows,
        f"The same model, of whose rows the modality is taken away. Change of a {unit} (absolute) and rise of a row's "
        "loss are means over the rows that have it; metrics are of all rows.",
    )


def faithfulness_table(summaries: Mapping[str, Summary]) -> Table | None:
    """Return how well shares agree with what a row's loss rises by; None where nothing is known.

    Args:
        summaries: By the name of the model.
    """
    known = {name: each["faithfulness"] for name, each in summaries.items() if each["faithfulness"]}
    if not known:
        return None
    modalities = list(dict.fromkeys(name for found in known.values() for name in found["by_modality"]))
    rows = [
        [
            model,
            *(signed(found["by_modality"].get(name), 2) for name in modalities),
            NONE if found["agreement"] is None else f"{100 * found['agreement']:.0f} %",
            NONE if found["chance"] is None else f"{100 * found['chance']:.0f} %",
        ]
        for model, found in known.items()
    ]
    return Table(
        "Do shares tell what matters?",
        ["model", *(f"rank correlation: {name}" for name in modalities), "largest share is right", "by chance"],
        rows,
        "Rank correlation (Spearman), over the rows, of a modality's share with what the row's loss rises by without "
        "it: 1 if a larger share always means more harm, 0 if shares say nothing of that. Largest share is right: rows "
        "with several modalities in which the one with the largest share is the one whose absence does most harm. "
        "Where these are poor, look at what changes without a modality, not at shares.",
    )


def subsets_table(variants: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Table | None:
    """Return a metric for every subset of the modalities that a trained model is left with.

    Args:
        variants: By the model's name, plain variants; see ``mmadapters.evaluation.ablation.variant_metrics``. A
            metric is a number, or mean and deviation over seeds.
        metric: Name of the metric.
    """
    if not any(v["rate"] >= 1.0 for own in variants.values() for v in own):
        return None
    whole = {model: [v for v in own if v["rate"] >= 1.0 or not v["rate"]] for model, own in variants.items()}
    keys = list(dict.fromkeys(tuple(v["kept"]) for own in whole.values() for v in own))
    rows = []
    for kept in keys:
        cells = []
        for own in whole.values():
            found = next((v["metrics"].get(metric) for v in own if tuple(v["kept"]) == kept), None)
            cells.append(over_seeds_text(found))
        rows.append(["text + " + " + ".join(kept) if kept else "text alone", *cells])
    return Table(
        f"What is left of {metric_title(metric)} with fewer modalities",
        ["rows have", *variants],
        rows,
        "Models trained on all modalities; the others are taken away from the rows that are predicted.",
    )


def missing_table(variants: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Table | None:
    """Return a metric over the rate at which all modalities go missing.

    Args:
        variants: By the model's name; as for ``subsets_table``, with the whole rows as rate 0.
        metric: Name of the metric.
    """
    rates = sorted({v["rate"] for own in variants.values() for v in mixed(own)})
    if not any(0.0 < rate < 1.0 for rate in rates):
        return None
    rows = [
        [
            f"{100 * rate:.0f} %",
            *(
                over_seeds_text(next((v["metrics"].get(metric) for v in mixed(own) if v["rate"] == rate), None))
                for own in variants.values()
            ),
        ]
        for rate in rates
    ]
    return Table(
        f"{metric_title(metric)} where modalities are missing",
        ["missing", *variants],
        rows,
        "At a rate r each row lacks each modality with probability r, independently of other rows and modalities, and "
        "what is missing at one rate is missing at every higher one; the text stays.",
    )


def mixed(variants: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the variants in which all modalities may go missing at once, and the whole rows.

    Args:
        variants: Of one model.
    """
    return [variant for variant in variants if not variant["kept"] or not variant["rate"]]


def over_seeds_text(found: Any) -> str:
    """Return a number, or mean and deviation over seeds, for a cell.

    Args:
        found: A number, what ``over_seeds`` made, or None.
    """
    if isinstance(found, Mapping):
        if found["mean"] is None:
            return NONE
        return f"{found['mean']:.4f}" + ("" if found["sd"] is None else f" ± {found['sd']:.4f}")
    return number(found, 4)


def number(value: float | None, digits: int) -> str:
    """Return a number for a cell, a dash without one.

    Args:
        value: The number, or None.
        digits: After the point.
    """
    return NONE if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int) -> str:
    """Return a number with its sign for a cell, a dash without one.

    Args:
        value: The number, or None.
        digits: After the point.
    """
    return NONE if value is None else f"{value:+.{digits}f}"


def _mean_shares(summary: Summary) -> dict[str, float | None]:
    means = {}
    for place, name in enumerate(summary["names"]):
        values = [site[place] for site in summary["shares"] if site[place] is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def _mains(summary: Summary) -> list[str]:
    return [] if summary["metrics"] is None else summary["main_metrics"]


def _titled(title: str, of: str) -> str:
    return f"{title}: {of}" if of else title
