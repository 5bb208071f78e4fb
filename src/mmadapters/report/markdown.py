"""A report as Markdown, with pictures in files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmadapters.report.sections import Section
from mmadapters.report.tables import Table

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\|*_`<>[]#"})


def markdown_report(title: str, parts: Sequence[Section], notes: Sequence[str], figures: str) -> str:
    """Return a report.

    Args:
        title: The heading.
        parts: In their order.
        notes: What a reader has to know, one sentence or more each.
        figures: Folder of the pictures, relative to the report's.
    """
    lines = [f"# {escaped(title)}", ""]
    for section in parts:
        lines += [f"## {section.title}", ""]
        for table in section.tables:
            lines += [markdown_table(table), ""]
        for picture in section.pictures:
            lines += [f"![{escaped(picture.caption)}]({figures}/{picture.name}.svg)", "", escaped(picture.caption), ""]
    lines += ["## What to know of these figures", "", *(f"- {escaped(line)}" for line in notes)]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> str:
    """Return a table with its title above and its note below.

    Args:
        table: The table.
    """
    marks = [
        "---" if index == 0 or column in table.text_columns else "---:" for index, column in enumerate(table.columns)
    ]
    lines = [f"**{escaped(table.title)}**", "", _line(map(escaped, table.columns)), _line(marks)]
    lines += [_line(map(escaped, row)) for row in table.rows]
    return "\n".join([*lines, "", escaped(table.note)] if table.note else lines)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line.

    Args:
        text: Anything, such as a label.
    """
    return " ".join(text.split()).translate(_SPECIAL)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
