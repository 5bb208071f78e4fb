"""Draw docs/images/concept-*.svg, the method and what stands around it. ``python docs/draw_concepts.py`` does it."""

from __future__ import annotations

from pathlib import Path

from draw_fusions import FUSION_COLOUR, MODALITY_COLOUR, TEXT_COLOUR, arrow, box, label

FOLDER = Path(__file__).parent / "images"
FROZEN, ABSENT, LINE = "#eceff3", "#ffffff", "#55606e"


def page(title: str, width: int, height: int, *parts: str) -> str:
    """Return a drawing as SVG on a light ground."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" fill="#1d2733">\n'
        f"<title>{title}</title>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="#f4f6f8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def path_through(*points: tuple[float, float]) -> str:
    """Return a line through points, with a head at its end."""
    drawn = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{LINE}" stroke-width="1.2" marker-end="url(#head)"/>'


def frame(x: float, y: float, width: float, height: float, title: str) -> str:
    """Return a white panel with a title in its corner."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="#ffffff" stroke="#c8cfd8"/>' + label(
        x + 14, y + 20, title, size=14, weight="bold", anchor="start"
    )


def draw_method() -> str:
    """Return one layer of the encoder with its two sites, and what an adapter does at one of them."""
    names = ("attention", "dropout", "Add & LayerNorm", "feed-forward", "dropout", "Add & LayerNorm")
    left, width, middle = 30, 126, 78
    parts = [frame(14, 14, 952, 206, "One layer of the frozen encoder")]
    for i, name in enumerate(names):
        x = left + i * 156
        parts.append(box(x, middle - 20, width, 40, (name,), FROZEN))
        if i:
            parts.append(arrow(x - 30, middle, x, middle))
    for site in (1, 4):
        x = left + site * 156
        parts += [
            box(x - 10, 148, 146, 44, ("adapter", "update = up(fusion)"), FUSION_COLOUR),
            arrow(x + 46, middle + 20, x + 46, 148),
            path_through((x + 100, 148), (x + 100, 128), (x + 141, 128), (x + 141, middle + 2)),
        ]
    parts += [
        label(left + 400, 176, "learned: the adapters and the head", size=12),
        frame(14, 234, 952, 206, "What an adapter does at a site"),
        box(40, 274, 190, 36, ("text states x (B, L, H)",), TEXT_COLOUR),
        box(40, 330, 190, 36, ("poster f₁ (B, d₁)",), MODALITY_COLOUR),
        box(40, 386, 190, 36, ("table f₂ (B, d₂)",), MODALITY_COLOUR),
        box(290, 274, 170, 36, ("LN, down, act → zₜ",), TEXT_COLOUR),
        box(290, 330, 170, 36, ("LN, down, act → z₁",), MODALITY_COLOUR),
        box(290, 386, 170, 36, ("LN, down, act → z₂",), MODALITY_COLOUR),
        *(arrow(230, y, 290, y) for y in (292, 348, 404)),
        box(530, 306, 200, 84, ("gₖ = σ(Wₖ [zₜ; z₁; z₂])", "Σₖ gₖ·zₖ", "width p = 64"), FUSION_COLOUR),
        path_through((460, 292), (495, 292), (495, 330), (530, 330)),
        arrow(460, 348, 530, 348),
        path_through((460, 404), (495, 404), (495, 366), (530, 366)),
        box(776, 330, 70, 36, ("up",), TEXT_COLOUR),
        arrow(730, 348, 776, 348),
        arrow(846, 348, 890, 348),
        label(924, 348, "update", size=12),
    ]
    return page("One layer of the encoder and one adapter", 980, 454, *parts)


def draw_missing() -> str:
    """Return what masks do with three rows."""
    columns = (("text", True), ("poster", True), ("trailer", True), ("table", True))
    rows = (
        ("row 1", (True, True, True, True), "Σ over four"),
        ("row 2: no poster", (True, False, True, True), "Σ over three"),
        ("row 3: text alone", (True, False, False, False), "a text-only adapter"),
    )
    parts = [frame(14, 14, 852, 236, "What enters gate and sum, row by row")]
    for j, (name, _) in enumerate(columns):
        parts.append(label(240 + j * 130, 60, name, weight="bold"))
    for i, (name, present, result) in enumerate(rows):
        y = 80 + i * 54
        parts.append(label(34, y + 18, name, anchor="start"))
        for j, there in enumerate(present):
            colour = (TEXT_COLOUR if j == 0 else MODALITY_COLOUR) if there else ABSENT
            lines = (f"z{'ₜ₁₂₃'[j]}",) if there else ("0",)
            parts.append(box(186 + j * 130, y, 108, 36, lines, colour))
        parts.append(arrow(684, y + 18, 708, y + 18))
        parts.append(label(716, y + 18, result, anchor="start"))
    return page("Missing modalities", 880, 264, *parts)


def draw_shares() -> str:
    """Return an update as a sum of parts, with its gates and shares."""
    parts = [frame(14, 14, 852, 250, "One update, one site, one row: a made-up example")]
    entries = (
        ("text", 0.9, 2.0, TEXT_COLOUR),
        ("poster", 0.8, 1.5, MODALITY_COLOUR),
        ("table", 0.9, 0.5, MODALITY_COLOUR),
    )
    total = sum(length for _, _, length, _ in entries)
    for i, (name, gate, length, colour) in enumerate(entries):
        y = 72 + i * 46
        parts += [
            label(34, y, name, anchor="start", weight="bold"),
            label(150, y, f"gate {gate:.1f}"),
            box(210, y - 14, 180 * length, 28, (f"‖up(g·z)‖ = {length:.1f}",) if length > 1 else ("0.5",), colour),
            label(852, y, f"share {length:.1f} / {total:.1f} = {length / total:.3f}".rstrip("0"), anchor="end"),
        ]
    parts += [
        label(
            34,
            214,
            "A gate near 1 in front of a short vector lets little through: the table has the text's gate",
            anchor="start",
        ),
        label(34, 236, "and an eighth of the update. Shares add up to 1 over what is present.", anchor="start"),
    ]
    return page("Gates and shares", 880, 278, *parts)


def draw_prefix() -> str:
    """Return what runs in the first epoch and in later ones."""
    parts = []
    for top, title, kept in ((14, "Once, before the training", False), (188, "Every epoch", True)):
        parts.append(frame(14, top, 852, 160, title))
        for i in range(6):
            x, trained = 40 + i * 112, i >= 4
            if kept and not trained:
                continue
            if not kept and trained:
                continue
            name = f"layer {i + 1}"
            lines = (name, "+ adapters") if trained else (name, "frozen")
            parts.append(box(x, top + 46, 92, 44, lines, FUSION_COLOUR if trained else FROZEN))
            if i and not (kept and i == 4):
                parts.append(arrow(x - 20, top + 68, x, top + 68))
    parts += [
        label(40, 124, "tokens of each text", anchor="start"),
        arrow(468, 82, 496, 82),
        box(498, 60, 150, 44, ("states on disk", "tokens × width × 4 bytes"), TEXT_COLOUR),
        path_through((573, 104), (573, 174), (330, 174), (330, 256), (346, 256)),
        box(348, 234, 110, 44, ("states (B, L, H)",), TEXT_COLOUR),
        arrow(458, 256, 488, 256),
        arrow(692, 256, 720, 256),
        box(722, 234, 80, 44, ("head",), FUSION_COLOUR),
        label(40, 322, "layers 1 to 4 do not run, and their weights are not in memory", anchor="start"),
    ]
    return page("The frozen-prefix cache", 880, 362, *parts)


def draw_artefact() -> str:
    """Return what a saved model consists of and what it needs."""
    files = (
        ("adapter_config.json", "sites, fusion, modalities in their order", FUSION_COLOUR),
        ("adapter_model.safetensors", "weights of adapters and head", FUSION_COLOUR),
        ("pipeline.json", "labels, thresholds, preprocessing, digests", MODALITY_COLOUR),
        ("README.md", "the model card: what was measured", FROZEN),
    )
    parts = [frame(14, 14, 520, 268, "The folder: a few MB, no pickle")]
    for i, (name, content, colour) in enumerate(files):
        parts.append(box(34, 48 + i * 56, 200, 42, (name,), colour))
        parts.append(label(246, 69 + i * 56, content, anchor="start"))
    parts += [
        frame(580, 14, 286, 130, "Not in the folder"),
        box(600, 48, 246, 42, ("the backbone, unchanged",), FROZEN),
        label(723, 114, "found by name, known by its digest"),
        frame(580, 158, 286, 124, "Together"),
        box(600, 192, 246, 42, ("the same predictions, bit for bit",), TEXT_COLOUR),
        label(723, 258, "in another process, same versions"),
        arrow(534, 213, 600, 213),
        arrow(723, 144, 723, 192),
    ]
    return page("The artefact", 880, 296, *parts)


DRAWINGS = {
    "concept-method.svg": draw_method,
    "concept-missing.svg": draw_missing,
    "concept-shares.svg": draw_shares,
    "concept-prefix.svg": draw_prefix,
    "concept-artefact.svg": draw_artefact,
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, draw in DRAWINGS.items():
        (FOLDER / file).write_text(draw(), encoding="utf-8")
