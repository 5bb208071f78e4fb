"""Pictures of what models looked at, and of what is left of them where modalities are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmadapters.evaluation.names import lower_is_better, metric_title
from mmadapters.plots.picture import Picture
from mmadapters.plots.style import label_and_count, looks, named_rows, new_figure, picture_of, short, style

Summary = Mapping[str, Any]
MOST_MODELS = 4
MOST_LABELS = 30
PLACES = {"attention": "attention", "feed_forward": "feed-forward"}


def draw_shares(summaries: Mapping[str, Summary]) -> Picture | None:
    """Draw the mean share of each source at each site, one panel a model.

    Args:
        summaries: By the model's name; the first ones are drawn.
    """
    several = {name: each for name, each in summaries.items() if len(each["names"]) > 1}
    shown = dict(list(several.items())[:MOST_MODELS])
    if not shown:
        return None
    most_sites = max(len(each["sites"]) for each in shown.values())
    widest = max(len(each["names"]) for each in shown.values())
    with style("shares"):
        width = 2.4 + len(shown) * (1.1 + 0.75 * widest)
        figure, panels = new_figure(width, 1.7 + 0.3 * most_sites, len(shown))
        images = []
        for axes, (name, each) in zip(panels, shown.items(), strict=True):
            images.append(heat(axes, np.array(each["shares"], dtype=float), 0.0, 1.0))
            axes.set_xticks(range(len(each["names"])), [short(n, 18) for n in each["names"]], rotation=45, ha="right")
            places = [f"{site['layer']} {PLACES[site['place']]}" for site in each["sites"]]
            axes.set_yticks(range(len(places)), places)
            axes.set_ylabel("layer and site, the input on top")
            if len(shown) > 1:
                axes.set_title(short(name, 12 + 8 * widest), fontsize=10)
        figure.colorbar(images[0], ax=panels, label="share of the update", shrink=0.8)
        cut = f" The first {len(shown)} of {len(several)} models." if len(several) > len(shown) else ""
        return picture_of(
            figure,
            "shares",
            "Where the adapters' updates come from",
            "The length of each part of an adapter's update over the sum of all parts' lengths, a mean over tokens "
            f"and rows.{cut}",
        )


def draw_label_shares(summary: Summary) -> Picture | None:
    """Draw the mean shares of the rows of each label, most rows on top; None for a regression.

    Args:
        summary: Of one model.
    """
    if not summary["shares_by_label"] or len(summary["names"]) < 2:
        return None
    counts = summary["rows_by_label"]
    order = [c for c in sorted(range(len(counts)), key=lambda c: -counts[c]) if counts[c]][:MOST_LABELS]
    if not order:
        return None
    with style("label-shares"):
        values = np.array([summary["shares_by_label"][c] for c in order], dtype=float)
        figure, (axes,) = new_figure(4.2 + 0.8 * len(summary["names"]), 1.7 + 0.28 * len(order))
        image = heat(axes, values, 0.0, None)
        axes.set_xticks(range(len(summary["names"])), [short(n, 18) for n in summary["names"]], rotation=45, ha="right")
        named_rows(axes, [label_and_count(summary["labels"][c], counts[c]) for c in order], 44)
        figure.colorbar(image, ax=axes, label="share of the update", shrink=0.8)
        cut = f" The {MOST_LABELS} most frequent labels." if sum(map(bool, counts)) > MOST_LABELS else ""
        return picture_of(
            figure,
            "label-shares",
            "Shares by label",
            f"Means over all sites and over the rows of a label, whose number is in brackets.{cut}",
        )


def draw_left_out(summaries: Mapping[str, Summary]) -> Picture | None:
    """Draw each modality's mean share beside what its absence costs.

    Args:
        summaries: By the model's name, with metrics.
    """
    shown = {name: each for name, each in summaries.items() if each["metrics"] and each["leave_one_out"]}
    if not shown:
        return None
    metric = next(iter(shown.values()))["main_metrics"][0]
    modalities = list(dict.fromkeys(entry["modality"] for each in shown.values() for entry in each["leave_one_out"]))
    with style("left-out"):
        lines = -(-len(shown) // 3)
        figure, panels = new_figure(
            9.5, 1.7 + (0.28 + 0.16 * len(shown)) * len(modalities) + 0.22 * lines, 2, sharey=True
        )
        thick = 0.8 / len(shown)
        for index, (name, each) in enumerate(shown.items()):
            own = looks(index)
            for row, modality in enumerate(modalities):
                entry = next((e for e in each["leave_one_out"] if e["modality"] == modality), None)
                if entry is None:
                    continue
                y = row + thick * (index + 0.5) - 0.4
                label = name.replace("$", r"\$") if row == 0 else None
                share = _mean_share(each, modality)
                if share is not None:
                    panels[0].barh(y, share, thick * 0.9, color=own["color"], label=label)
                before, after = each["metrics"].get(metric), entry["metrics"].get(metric)
                if before is not None and after is not None:
                    harm = after - before if lower_is_better(metric) else before - after
                    panels[1].barh(y, harm, thick * 0.9, color=own["color"])
        panels[0].set_xlabel("mean share of the updates")
        panels[1].set_xlabel(f"{'rise' if lower_is_better(metric) else 'loss'} of {metric_title(metric)} without it")
        panels[1].axvline(0.0, color="#555555", linewidth=1.0)
        named_rows(panels[0], modalities)
        handles, names = panels[0].get_legend_handles_labels()
        if len(shown) > 1:
            figure.legend(handles, names, loc="outside lower center", ncols=3)
        return picture_of(
            figure,
            "left-out",
            "Which modality matters",
            "Left: how much of the adapters' updates comes from a modality. Right: what the same model loses without "
            "it. The two need not agree.",
        )


def draw_missing(variants: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Picture | None:
    """Draw a metric over the rate at which modalities are missing: all at once, and each of them.

    Args:
        variants: By the model's name, plain variants with the whole rows as rate 0; a metric is a number, or mean and
            deviation over seeds.
        metric: Name of the metric.
    """
    panels_of = list(dict.fromkeys(tuple(v["lost"]) for own in variants.values() for v in own if 0.0 < v["rate"] < 1.0))
    if not panels_of:
        return None
    panels_of.sort(key=len, reverse=True)
    with style("missing"):
        lines = -(-len(variants) // 3)
        columns = min(len(panels_of), 3)
        rows = -(-len(panels_of) // columns)
        figure, grid = new_figure(2.0 + 3.2 * columns, 2.9 * rows + 0.5 + 0.22 * lines, columns, rows, sharey=True)
        for axes, lost in zip(grid, panels_of, strict=False):
            for index, (name, own) in enumerate(variants.items()):
                points = [v for v in own if tuple(v["lost"]) == lost or not v["rate"]]
                drawn = [(v["rate"], *_mean_and_spread(v["metrics"][metric])) for v in points if metric in v["metrics"]]
                if not drawn:
                    continue
                look = looks(index)
                x, mean, spread = (np.array(part) for part in zip(*sorted(drawn), strict=True))
                low, high = mean - spread, mean + spread
                axes.plot(
                    100 * x,
                    mean,
                    color=look["color"],
                    linestyle=look["linestyle"],
                    marker=look["marker"],
                    markersize=4.5,
                    label=name.replace("$", r"\$"),
                )
                if spread.any():
                    axes.fill_between(100 * x, low, high, color=look["color"], alpha=0.15, linewidth=0)
            axes.set_title("all modalities" if len(lost) > 1 else short(lost[0], 28), fontsize=10)
            axes.set_xlabel("rows without it (%)")
        for axes in grid[::columns]:
            axes.set_ylabel(metric_title(metric))
        for axes in grid[len(panels_of) :]:
            axes.set_visible(False)
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        return picture_of(
            figure,
            "missing",
            f"{metric_title(metric)} where modalities are missing",
            "Each row lacks a modality with the probability on the axis, independently of the others; the text stays. "
            "Bands: one standard deviation over seeds.",
        )


def heat(axes: Any, values: np.ndarray, low: float, high: float | None) -> Any:
    """Draw values as a heat map, with its number in each cell.

    Args:
        axes: Where to.
        values: (rows, columns); what is not finite stays empty.
        low: Value of the darkest colour.
        high: Value of the lightest one; None for the largest value.

    Returns:
        Matplotlib's image, for a scale of colours.
    """
    image = axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    axes.grid(visible=False)
    middle = image.norm.vmin + 0.55 * (image.norm.vmax - image.norm.vmin)
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        value = values[row, column]
        colour = "#FFFFFF" if value < middle else "#000000"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    return image


def _mean_share(summary: Summary, name: str) -> float | None:
    if name not in summary["names"]:
        return None
    place = summary["names"].index(name)
    values = [site[place] for site in summary["shares"] if site[place] is not None]
    return float(np.mean(values)) if values else None


def _mean_and_spread(value: Any) -> tuple[float, float]:
    if isinstance(value, Mapping):
        return value["mean"], value["sd"] or 0.0
    return value, 0.0
