"""A report as one HTML file that needs nothing else: no network, no script, pictures inside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from mmadapters.plots.picture import Picture
from mmadapters.report.sections import Section
from mmadapters.report.tables import Table

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #555; vertical-align: bottom; }
th.text, td.text { text-align: left; min-width: 7rem; overflow-wrap: break-word; }
td.number { white-space: nowrap; }
tbody tr:nth-child(even) { background: #f5f5f5; }
p.note, figcaption { font-size: .85rem; color: #444; max-width: 60rem; margin-top: .3rem; }
figure { margin: 1.5rem 0; } figure svg { max-width: 100%; height: auto; }
@media print {
  body { margin: 0; max-width: none; font-size: 10pt; } nav { display: none; } .wide { overflow: visible; }
  table { font-size: 8pt; } th, td { padding: 2pt 4pt; } th { overflow-wrap: anywhere; }
  th.text, td.text { min-width: 4rem; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } thead { display: table-header-group; }
}
""".strip()


def html_report(title: str, parts: Sequence[Section], notes: Sequence[str]) -> str:
    """Return a report.

    Args:
        title: The heading.
        parts: In their order.
        notes: What a reader has to know, one sentence or more each.
    """
    links = "\n".join(f'<a href="#part-{index}">{escape(part.title)}</a>' for index, part in enumerate(parts))
    body = "\n".join(_section(index, part) for index, part in enumerate(parts))
    items = "\n".join(f"<li>{escape(line)}</li>" for line in notes)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{_STYLE}
</style>
</head>
<body>
<h1>{escape(title)}</h1>
<nav>{links}
<a href="#notes">What to know of these figures</a></nav>
{body}
<section id="notes">
<h2>What to know of these figures</h2>
<ul>
{items}
</ul>
</section>
</body>
</html>
"""


def html_table(table: Table) -> str:
    """Return a table with its title above and its note below.

    Args:
        table: The table.
    """
    kinds = [
        "text" if index == 0 or column in table.text_columns else "number" for index, column in enumerate(table.columns)
    ]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(column)}</th>'
        for kind, column in zip(kinds, table.columns, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{escape(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in table.rows
    )
    note = f'\n<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h3>{escape(table.title)}</h3>\n<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>{note}"
    )


def _section(index: int, section: Section) -> str:
    content = [html_table(table) for table in section.tables] + [_figure(picture) for picture in section.pictures]
    return f'<section id="part-{index}">\n<h2>{escape(section.title)}</h2>\n' + "\n".join(content) + "\n</section>"


def _figure(picture: Picture) -> str:
    # Inside of HTML an SVG has no XML declaration, document type or metadata.
    drawing = re.sub(r"<metadata>.*?</metadata>", "", picture.svg[picture.svg.index("<svg") :], flags=re.DOTALL)
    described = drawing.replace("<svg", f'<svg role="img" aria-label="{escape(picture.title)}"', 1)
    caption = f"<strong>{escape(picture.title)}.</strong> {escape(picture.caption)}"
    return f"<figure>\n{described}\n<figcaption>{caption}</figcaption>\n</figure>"
