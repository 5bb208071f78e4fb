"""Write docs/reference/cli.md from the commands themselves. ``python docs/write_cli_reference.py`` writes it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from mmadapters.cli.main import app

TARGET = Path(__file__).parent / "reference" / "cli.md"
INTRODUCTION = """# Command line

Every command with its arguments and options, as `--help` has them. What the YAML files say is in the guides:
[extraction](../features.md), [training](../training.md), [search](../search.md), [comparison](../compare.md).

| exit status | says |
| --- | --- |
| 0 | done |
| 1 | `data check` or `store verify` has found problems |
| 2 | an error: one message on standard error says what was given, what is accepted and what to change |
| 130, 143 | interrupted by Ctrl-C, ended by SIGTERM: nothing is left half-written |
"""


def short_help(command: typer.core.TyperGroup, name: str) -> str:
    """Return the first sentence of a command's help, whole."""
    return command.commands[name].get_short_help_str(limit=1000)


def linked(text: str, prefix: str, group: typer.core.TyperGroup) -> str:
    """Return the documents of a group with its list of commands linked, and their sentences whole."""

    def entry(match: re.Match[str]) -> str:
        name = match[1]
        anchor = f"{prefix}-{name}"
        return f"* [`{name}`](#{anchor}): {short_help(group, name)}"

    head, commands, rest = text.partition("**Commands**:\n")
    listed, gap, rest = rest.lstrip("\n").partition("\n\n")
    return head + commands + "\n" + re.sub(r"^\* `([\w-]+)`.*$", entry, listed, flags=re.MULTILINE) + gap + rest


def reference() -> str:
    """Return the whole page."""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="mmadapters")
    text = get_docs_for_click(obj=root, ctx=context, name="mmadapters", title="Command line")
    text = linked(html.unescape(text), "mmadapters", root)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            start = text.index(f"## `mmadapters {name}`\n")
            text = text[:start] + linked(text[start:], f"mmadapters-{name}", command)
    body = text.split("\n", 1)[1].lstrip("\n")
    return INTRODUCTION + "\n" + body.strip() + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(reference(), encoding="utf-8")
