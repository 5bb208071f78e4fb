"""The pictures of docs/speed.md, as SVG. The same numbers give the same bytes, with the same version of Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from names import AXES, FULL, display_name, is_ours

BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"
"""Of Okabe and Ito's palette, which people with any colour vision can tell apart."""

STYLES = ((BLACK, "s", "--"), (BLUE, "o", "-"), (GREEN, "^", "-."), (ORANGE, "D", ":"), (PURPLE, "v", "-"))
"""Colour, marker and line of each contender of a growth figure: in a print without colours the others tell."""

LOGARITHMIC_TIMES = ("length", "batch_size")
"""Axes along which times grow by so much that the small ones could not be told apart."""

FONT_SIZE = 9
PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")


def contenders_figure(contenders: dict[str, Any]) -> str:
    """Return the SVG of a shape: step, inference and memory of each contender as multiples of the reference.

    Args:
        contenders: What was measured of each, in the order from top to bottom.
    """
    panels = (("step_ratio", "training step"), ("infer_ratio", "inference"), ("memory_ratio", "peak memory"))
    with _figure(width=8.6, height=0.9 + 0.3 * len(contenders)) as (figure, svg):
        shared = figure.subplots(1, len(panels), sharey=True)
        for axes, (key, title) in zip(shared, panels, strict=True):
            _ratio_panel(axes, contenders, key)
            axes.set_title(title, fontsize=FONT_SIZE, loc="left")
        shared[0].set_yticks(range(len(contenders)), [display_name(name) for name in contenders])
        shared[0].invert_yaxis()
        figure.supxlabel("multiple of full fine-tuning (1 is the dashed line)", fontsize=FONT_SIZE)
        figure.legend(handles=_ratio_legend(contenders), loc="outside upper center", ncols=3, frameon=False)
    return svg[0]


def _ratio_panel(axes: Axes, contenders: dict[str, Any], key: str) -> None:
    limit = key.replace("_ratio", "_limit_ratio")
    greatest = 1.0
    for place, (name, result) in enumerate(contenders.items()):
        value = result[key]
        spread = value if isinstance(value, dict) else dict.fromkeys(("median", "quartile_1", "quartile_3"), value)
        colour, marker = (BLUE, "o") if is_ours(name) else (ORANGE, "s")
        axes.plot([spread["quartile_1"], spread["quartile_3"]], [place, place], color=colour, linewidth=2, alpha=0.6)
        axes.plot(spread["median"], place, marker, color=colour, markersize=6)
        if limit in result:
            axes.plot(result[limit], place, "|", color=BLACK, markersize=11, markeredgewidth=1.6)
        greatest = max(greatest, spread["quartile_3"], result.get(limit, 0.0))
    axes.axvline(1.0, color=BLACK, linewidth=0.8, linestyle="--")
    axes.set_xlim(0.0, greatest * 1.08)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.tick_params(length=0)


def _ratio_legend(contenders: dict[str, Any]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=BLUE, marker="o", linewidth=2, label="ours: median and quartiles"),
        Line2D([], [], color=ORANGE, marker="s", linewidth=2, label="others"),
    ]
    if any("step_limit_ratio" in result for result in contenders.values()):
        limit = Line2D(
            [], [], color=BLACK, marker="|", linestyle="none", markersize=11, label="by its matrix products alone"
        )
        handles.append(limit)
    return handles


def growth_figure(axis: str, points: Sequence[dict[str, Any]], reference: str = FULL) -> str:
    """Return the SVG of an axis: time of a step, second time, memory, and what a step costs beside the reference.

    Args:
        axis: One of ``AXES``.
        points: What was measured at each value.
        reference: The contender that ratios refer to.

    Raises:
        ValueError: If there are more contenders than can be told apart.
    """
    second = ("batch_seconds", "time to load a batch (ms)") if axis == "rows" else ("infer_seconds", "inference (ms)")
    panels: list[tuple[str, str, float]] = [
        ("step_seconds", "training step (ms)", 1000.0),
        (*second, 1000.0),
        ("peak_megabytes", "peak memory (MiB)", 1.0),
    ]
    names = list(dict.fromkeys(name for point in points for name in point["contenders"]))
    if len(names) > len(STYLES):
        raise ValueError(f"The axis {axis!r} has {len(names)} contenders; a picture can show {len(STYLES)}.")
    if len(names) > 1:
        panels.append(("step_ratio", f"step, multiple of {display_name(reference)}", 1.0))
    with _figure(width=8.6, height=3.2 if len(panels) == 3 else 5.4) as (figure, svg):
        grid = figure.subplots(*((1, 3) if len(panels) == 3 else (2, 2)), squeeze=False)
        for axes, (key, title, factor) in zip(grid.flat, panels, strict=True):
            _growth_panel(axes, points, names, key, factor)
            _scale_x(axes, axis, [point["value"] for point in points])
            if axis in LOGARITHMIC_TIMES and key.endswith("_seconds"):
                _scale_y_logarithmically(axes)
            axes.set_title(title, fontsize=FONT_SIZE, loc="left")
            axes.set_xlabel(AXES[axis])
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return svg[0]


def _growth_panel(axes: Axes, points: Sequence[dict[str, Any]], names: Sequence[str], key: str, factor: float) -> None:
    greatest = 0.0
    for name, (colour, marker, line) in zip(names, STYLES, strict=False):
        there = [(point["value"], point["contenders"][name][key]) for point in points if name in point["contenders"]]
        values = [x for x, _ in there]
        spreads = [y if isinstance(y, dict) else {"median": y} for _, y in there]
        medians = [spread["median"] * factor for spread in spreads]
        axes.plot(values, medians, color=colour, marker=marker, linestyle=line, markersize=5, label=display_name(name))
        if all("quartile_1" in spread for spread in spreads):
            low, high = ([spread[end] * factor for spread in spreads] for end in ("quartile_1", "quartile_3"))
            axes.vlines(values, low, high, color=colour, linewidth=1.2, alpha=0.6)
            greatest = max(greatest, *high)
        greatest = max(greatest, *medians)
    axes.set_ylim(0.0, greatest * 1.08)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.grid(color="#dddddd", linewidth=0.6)


def _scale_x(axes: Axes, axis: str, values: Sequence[int]) -> None:
    """Show each value that was measured; sizes that grow by factors on a logarithmic scale."""
    if axis != "modalities" and min(values) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(values))
    axes.xaxis.set_major_formatter(PLAIN)


def _scale_y_logarithmically(axes: Axes) -> None:
    """Show what grows in proportion as a straight line, with plain numbers beside it."""
    lowest = min(min(line.get_ydata()) for line in axes.get_lines())
    highest = axes.get_ylim()[1]
    axes.set_yscale("log")
    axes.set_ylim(lowest / 1.3, highest * 1.2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PLAIN)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, list[str]]]:
    """Give a figure to draw in, and a list that has the SVG afterwards."""
    svg: list[str] = []
    # The salt makes identifiers, and letters as paths make widths, the same everywhere.
    settings = {"svg.hashsalt": "mmadapters", "svg.fonttype": "path", "font.family": "DejaVu Sans"}
    settings |= {"font.size": FONT_SIZE, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        yield figure, svg
        output = io.StringIO()
        figure.savefig(output, format="svg", metadata={"Date": None})
    # Matplotlib ends some lines with spaces, which editors take away.
    svg.append("\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n")
