"""What a page shows, as HTML: whatever people or tables named is text in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape as escape_html

from mmadapters.plots.one_row import draw_layer_shares
from mmadapters.webpage.answer import Answer, Change, LabelScore
from mmadapters.webpage.model import PageModel, Reply

MOST_LABELS = 12
"""So many are shown at once, and all that are predicted."""


def page_head(model: PageModel) -> str:
    """Return what stands on top of the page.

    Args:
        model: The model.
    """
    artefact = model.artefact
    reads = ["text", *model.modalities]
    kind = artefact.problem_type.replace("_", " ")
    count = "" if artefact.problem_type == "regression" else f", {len(artefact.labels):,} labels"
    return (
        f'<div class="mm-head"><h1>{escape(model.name)}</h1><p>{escape(kind)}{count}. The model reads '
        f"{escape(_enumerated(reads))}; whatever is left empty counts as missing. It runs on this machine, and what "
        "you give stays here.</p></div>"
    )


def nothing_yet() -> str:
    """Return what stands in the place of results before there are any."""
    return '<div class="mm-results"><p>Fill in what you have, then press <b>Predict</b>.</p></div>'


def field_error(problem: str | None) -> str:
    """Return what stands below a field whose value cannot be used; an empty text where nothing is wrong.

    Args:
        problem: What is wrong, or None.
    """
    if not problem:
        return ""
    return f'<div class="mm-error" role="alert">{escape(problem)} It counts as missing.</div>'


def results(reply: Reply, off: Sequence[str]) -> str:
    """Return the results.

    Args:
        reply: What the model says.
        off: Modalities that were left out on purpose.
    """
    answer = reply.answer
    if answer is None:
        return f'<div class="mm-results"><p class="mm-error" role="alert">{escape(reply.error)}</p></div>'
    parts = [_said(answer)]
    if answer.labels:
        parts.append(_labels(answer.labels))
    parts += [_shares(answer, off), _layers(answer), _changes(answer)] if len(answer.names) > 1 else [_text_alone()]
    return f'<div class="mm-results">{"".join(parts)}</div>'


def _said(answer: Answer) -> str:
    said = _enumerated(answer.prediction) if answer.prediction else "no label: none reaches its threshold"
    return f'<h2>Prediction</h2><p class="mm-prediction"><strong>{escape(said)}</strong></p>'


def _labels(labels: Sequence[LabelScore]) -> str:
    several = labels[0].threshold is not None
    shown = [label for place, label in enumerate(labels) if place < MOST_LABELS or label.predicted]
    rest = [label for label in labels if label not in shown]
    note = (
        '<p><span class="mm-key"></span>from: the threshold from which on a label is predicted</p>'
        if several
        else "<p>The most probable label is predicted.</p>"
    )
    more = f"<details><summary>{len(rest):,} more labels</summary>{_label_table(rest)}</details>" if rest else ""
    return _label_table(shown) + note + more


def _label_table(labels: Sequence[LabelScore]) -> str:
    several = labels[0].threshold is not None
    head = '<th scope="col">label</th><th scope="col" colspan="2">probability</th>'
    if several:
        head += '<th scope="col" class="mm-number">from</th>'
    rows = []
    for label in labels:
        tick = (
            "" if label.threshold is None else f'<div class="mm-tick" style="left:{100 * label.threshold:.1f}%"></div>'
        )
        threshold = "" if label.threshold is None else f'<td class="mm-number">{label.threshold:.2f}</td>'
        mark = "✓&nbsp;" if label.predicted else ""
        rows.append(
            f'<tr class="{"mm-yes" if label.predicted else "mm-no"}" data-label="{escape(label.label)}">'
            f'<th scope="row">{mark}{escape(label.label)}</th>'
            f'<td class="mm-bar">{_bar(label.probability, tick)}</td>'
            f'<td class="mm-number">{label.probability:.3f}</td>{threshold}</tr>'
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _shares(answer: Answer, off: Sequence[str]) -> str:
    rows = []
    for name, present, share in zip(answer.names, answer.present, answer.shares, strict=True):
        told = f"{100 * share:.0f} %" if present else "left out" if name in off else "missing"
        rows.append(
            f'<tr data-share="{escape(name)}"><th scope="row">{_breakable(name)}</th>'
            f'<td class="mm-bar">{_bar(share if present else 0.0)}</td><td class="mm-number">{told}</td></tr>'
        )
    return (
        "<h2>Where the adapters' updates come from</h2>"
        '<table><thead><tr><th scope="col">part</th><th scope="col" colspan="2">share</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
        "<p>How much of what the adapters add to the text's states comes from each part, a mean over all layers. A "
        "large share need not decide: see below what changes without it.</p>"
    )


def _layers(answer: Answer) -> str:
    picture = draw_layer_shares(answer.names, answer.layers, answer.shares_by_layer, answer.present)
    content = base64.b64encode(picture.svg.encode()).decode()
    return (
        f"<h2>Shares by layer</h2>"
        f'<img alt="{escape(f"{picture.title}. {picture.caption}")}" src="data:image/svg+xml;base64,{content}">'
        "<p>The layer that the input comes to first is on top; each line adds up to 1.</p>"
    )


def _changes(answer: Answer) -> str:
    head = "<h2>What changes without each modality</h2>"
    if not answer.changes:
        return f"{head}<p>The row has none, so the text alone decides.</p>"
    rows = "".join(_change_row(change, answer) for change in answer.changes)
    return (
        f'{head}<table><thead><tr><th scope="col">without</th><th scope="col">prediction</th>'
        f'<th scope="col">largest changes</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _change_row(change: Change, answer: Answer) -> str:
    said = escape(_enumerated(change.prediction or ("no label",))) if change.differs else "the same"
    moved = (
        "; ".join(
            f"{escape(label)} {before:.3g} → {after:.3g}".strip()
            if answer.value is not None
            else f"{escape(label)} {before:.2f} → {after:.2f}"
            for label, before, after in change.labels
        )
        or "none"
    )
    kind = "mm-said mm-changed" if change.differs else "mm-said"
    return (
        f'<tr data-without="{escape(change.modality)}"><th scope="row">{_breakable(change.modality)}</th>'
        f'<td class="{kind}">{said}</td><td>{moved}</td></tr>'
    )


def _text_alone() -> str:
    return "<p>The model reads the text alone, so there is nothing to compare it with.</p>"


def _bar(share: float, over: str = "") -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        f'<div class="mm-track" aria-hidden="true"><div class="mm-fill" style="width:{width:.1f}%"></div>{over}</div>'
    )


def _breakable(name: str) -> str:
    """Return a name that may go on in the next line behind an underscore."""
    return escape(name).replace("_", "_<wbr>")


def _enumerated(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def escape(text: str) -> str:
    """Return text as HTML that Gradio's templates, which know braces and dollars, leave as it is.

    Args:
        text: Whatever it holds.
    """
    return escape_html(text).replace("{", "&#123;").replace("$", "&#36;")
