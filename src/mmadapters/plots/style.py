"""How all pictures look: colours that the colour-blind tell apart, marks that print in grey, text that is text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmadapters.plots.picture import Picture

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8A00")
"""Okabe and Ito 2008, Color Universal Design; the last, yellow, darkened so that a thin line is seen on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
MAX_NAME = 34
_SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """Draw in the style of all pictures meanwhile.

    Args:
        name: Of the picture; what its SVG names inside differs from other pictures', which may stand in the same page.
    """
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": f"mmadapters {name}"}):
        yield


def new_figure(
    width: float, height: float, panels: int = 1, lines: int = 1, **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side.

    Args:
        width: In inches.
        height: In inches.
        panels: How many in a line.
        lines: How many lines of them.
        kwargs: Of ``Figure.subplots``.

    Returns:
        The figure, and its panels line by line.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(lines, panels, squeeze=False, **kwargs)
    return figure, list(axes.ravel())


def picture_of(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Return a figure as a picture; the same figure gives the same text.

    Args:
        figure: The figure.
        name: Of the picture.
        title: Above it.
        caption: What is to be seen.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(name, title, caption, text.getvalue())


def looks(index: int) -> dict[str, Any]:
    """Return colour, marker and line of the contender at a place: no two of the first 24 have all three in common.

    Args:
        index: The place.
    """
    return {
        "color": OKABE_ITO[index % len(OKABE_ITO)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[(index // 2) % len(DASHES)],
    }


def short(name: str, width: int = MAX_NAME) -> str:
    """Return a name that fits beside an axis: of a long one both ends, since names often differ in the last words.

    Args:
        name: Of a contender or label; a dollar sign is shown as one.
        width: Most characters.
    """
    end = (width - 1) // 2
    shown = name if len(name) <= width else f"{name[: width - 1 - end]}…{name[len(name) - end :]}"
    return shown.replace("$", r"\$")


def label_and_count(label: str, count: int) -> str:
    """Return a label that fits beside an axis, and its number of rows.

    Args:
        label: The label.
        count: Rows that have it.
    """
    return f"{label if len(label) <= 32 else f'{label[:31]}…'} ({count:,})"


def named_rows(axes: Axes, names: Sequence[str], width: int = MAX_NAME) -> None:
    """Write names beside the rows of an upright list, the first one on top.

    Args:
        axes: Its y axis has the rows 0, 1, …
        names: Of the rows.
        width: Most characters of one.
    """
    axes.set_yticks(range(len(names)), [short(name, width) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def finished(comparison: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return the contenders with finished runs and their places, which decide their looks.

    Args:
        comparison: The comparison.
    """
    return [(index, each) for index, each in enumerate(comparison["contenders"]) if each["seeds"]]
