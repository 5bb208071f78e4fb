"""What is told to people: lines on standard error, tables on standard output."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return text whose control characters are spelled out, so that none of them reaches a terminal.

    Args:
        text: Anything, such as a label that a file from elsewhere holds.
    """
    return text.translate(_CONTROL)


class _SafeConsole(Console):
    """A console that spells control characters out: a label could hold an order to the terminal."""

    def render_str(self, text: str, **kwargs: Any) -> Text:
        return super().render_str(printable(text), **kwargs)


# What is printed holds labels, paths and column names: nothing in it is read as rich's markup.
OUT = _SafeConsole(markup=False, emoji=False, highlight=False)
ERR = _SafeConsole(markup=False, emoji=False, highlight=False, stderr=True)


def step(message: str) -> None:
    """Tell on standard error what is being done."""
    ERR.print(Text.assemble(("·", "dim"), f" {printable(message)}"), soft_wrap=True)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    footer: str = "",
    text_columns: Collection[str] = (),
) -> None:
    """Print a table on standard output; the first column is text, the others are right-aligned.

    Args:
        title: Above the table.
        columns: The headings.
        rows: The cells.
        footer: A line below it.
        text_columns: Headings of other columns that are text, and left-aligned.
    """
    table = Table()
    for index, column in enumerate(columns):
        is_text = index == 0 or column in text_columns
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Without a terminal nothing is known of the width, and a table that is cut helps nobody.
    console = OUT if OUT.is_terminal else _SafeConsole(markup=False, emoji=False, highlight=False, width=140)
    console.print(title, style="bold")
    console.print(table)
    if footer:
        console.print(footer, style="dim")


def file_size(size: int) -> str:
    """Return a size in bytes for people, for example ``3.4 MB`` or ``28 kB``."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.0f} kB"
