"""Draw docs/images/fusions.svg: what each fusion does at one site. ``python docs/draw_fusions.py`` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

TARGET = Path(__file__).parent / "images" / "fusions.svg"
PANEL_WIDTH, PANEL_HEIGHT, MARGIN, COLUMNS = 494, 216, 14, 2
TEXT_COLOUR, MODALITY_COLOUR, FUSION_COLOUR = "#dbe7f6", "#fbe6cf", "#e4f2df"


@dataclass(frozen=True)
class Panel:
    """One fusion.

    Attributes:
        name: Value of ``fusion``.
        inputs: What it reads: the label of the input and of the box that it passes.
        formula: Lines in the fusion's box.
        up: Label of the box behind it, or nothing where there is none.
        out: Label of the result.
    """

    name: str
    inputs: tuple[tuple[str, str], ...]
    formula: tuple[str, ...]
    up: str = "up"
    out: str = "x + update"


TEXT = ("x", "LN, down, act → zₜ")
FIRST = ("f₁", "LN, down, act → z₁")
SECOND = ("f₂", "LN, down, act → z₂")
PANELS = (
    Panel("none", (TEXT,), ("zₜ",)),
    Panel("complementary", (TEXT, FIRST), ("g = σ(W [zₜ; z₁])", "g·zₜ + (1 − g)·z₁")),
    Panel("gmu", (TEXT, FIRST, SECOND), ("gₖ = σ(Wₖ [zₜ; z₁; z₂])", "Σₖ gₖ·zₖ")),
    Panel("softmax_gmu", (TEXT, FIRST, SECOND), ("g = softmaxₖ(Wₖ [zₜ; z₁; z₂])", "over what is present", "Σₖ gₖ·zₖ")),
    Panel("sum", (TEXT, FIRST, SECOND), ("zₜ + z₁ + z₂",)),
    Panel("concat", (TEXT, FIRST, SECOND), ("W [zₜ; z₁; z₂] + b",)),
    Panel(
        "cross_attention",
        (("x", "query · p^-½ → q"), ("f₁ (T₁ steps)", "key, value"), ("f₂ (T₂ steps)", "key, value")),
        ("softmax(q · keyᵀ) value", "one softmax over", "all T₁ + T₂ steps"),
    ),
    Panel(
        "mag",
        (("x", "as it is"), ("f₁", "w₁ = relu(gate₁ [f₁; x])"), ("f₂", "w₂ = relu(gate₂ [f₂; x])")),
        ("h = Σ wᵢ · shiftᵢ(fᵢ)", "α = min(1, β‖x‖ / ‖h‖)"),
        up="LN",
        out="LN(x + α·h)",
    ),
    Panel(
        "adapter_fusion_attention",
        (("x", "query"), ("member 1", "update u₁, frozen"), ("member 2", "update u₂, frozen")),
        ("a = softmaxₖ(query · key(uₖ))", "Σₖ aₖ · value(uₖ)"),
        up="",
    ),
    Panel(
        "adapter_fusion_gated",
        (("member 1", "u₁: LN, down, act → z₁"), ("member 2", "u₂: LN, down, act → z₂")),
        ("g = σ(W [z₁; z₂])", "g·z₁ + (1 − g)·z₂"),
    ),
)


def box(x: float, y: float, width: float, height: float, lines: tuple[str, ...], fill: str) -> str:
    """Return a rounded box with centred lines of text."""
    shape = (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="#55606e" '
        'stroke-width="1"/>'
    )
    first = y + height / 2 - 8 * (len(lines) - 1)
    return shape + "".join(label(x + width / 2, first + 16 * i, line) for i, line in enumerate(lines))


def label(x: float, y: float, text: str, size: int = 12, weight: str = "normal", anchor: str = "middle") -> str:
    """Return a line of text whose middle is at y."""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'dominant-baseline="central">{escape(text)}</text>'
    )


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line with a head at its end."""
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#55606e" stroke-width="1.2" marker-end="url(#head)"/>'
    )


def panel(drawn: Panel, left: float, top: float) -> str:
    """Return the drawing of one fusion, its upper left corner at (left, top)."""
    parts = [
        f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" rx="8" fill="#ffffff" '
        'stroke="#c8cfd8"/>',
        label(left + 14, top + 20, drawn.name, size=15, weight="bold", anchor="start"),
    ]
    middle, step = top + 122, 58
    rows = [middle + step * (i - (len(drawn.inputs) - 1) / 2) for i in range(len(drawn.inputs))]
    for (source, passed), y in zip(drawn.inputs, rows, strict=True):
        colour = TEXT_COLOUR if source == "x" else MODALITY_COLOUR
        parts.append(box(left + 12, y - 19, 166, 38, (source, passed), colour))
        parts.append(arrow(left + 178, y, left + 200, middle + (y - middle) * 0.3))
    parts.append(box(left + 202, middle - 34, 186, 68, drawn.formula, FUSION_COLOUR))
    end = left + 388
    if drawn.up:
        parts += [arrow(end, middle, end + 16, middle), box(end + 18, middle - 16, 30, 32, (drawn.up,), TEXT_COLOUR)]
        end += 48
    parts += [
        arrow(end, middle, left + 460, middle),
        label(left + PANEL_WIDTH - 10, middle + 30, drawn.out, anchor="end"),
    ]
    parts.append(label(left + 472, middle, "⊕" if drawn.up != "LN" else "→", size=18))
    return "".join(parts)


def draw() -> str:
    """Return the whole drawing as SVG."""
    rows = -(-len(PANELS) // COLUMNS)
    width = COLUMNS * (PANEL_WIDTH + MARGIN) + MARGIN
    height = rows * (PANEL_HEIGHT + MARGIN) + MARGIN
    body = "\n".join(
        panel(
            drawn,
            MARGIN + (i % COLUMNS) * (PANEL_WIDTH + MARGIN),
            MARGIN + (i // COLUMNS) * (PANEL_HEIGHT + MARGIN),
        )
        for i, drawn in enumerate(PANELS)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" fill="#1d2733">\n'
        "<title>What each fusion computes at one site</title>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#55606e"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="#f4f6f8"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(draw(), encoding="utf-8")
