"""Runs a page of the documentation from top to bottom, as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
from site_build import ROOT

from mmadapters.cli.main import main

BLOCK = re.compile(r"^```(python|yaml|console)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


class PageRunner:
    """The state of a reader: a working folder, the names that Python knows, and what the page has shown.

    Args:
        page: Path below docs/.
        folder: The working folder.
        replaced: Texts of Python and YAML blocks, and what is run in their place: tiny models, fewer rows.
        extra: Further arguments of commands, by verb.
    """

    def __init__(
        self, page: str, folder: Path, replaced: Mapping[str, str], extra: Mapping[str, list[str]] | None = None
    ) -> None:
        self.page = page
        self.folder = folder
        self.replaced = replaced
        self.extra = extra or {}
        self.names: dict = {}
        self.commands: list[str] = []
        self.texts: list[str] = []

    def run(self) -> None:
        """Run all blocks: Python, commands, and YAML with a file's name in its first line, which is written."""
        text = (ROOT / "docs" / self.page).read_text(encoding="utf-8")
        for wanted in self.replaced:
            assert wanted in text, f"{self.page} has no {wanted!r} to replace"
        os.chdir(self.folder)
        for language, code in BLOCK.findall(text):
            if language == "console":
                for line in code.splitlines():
                    self._command(line)
                continue
            for wanted, put in self.replaced.items():
                code = code.replace(wanted, put)
            if language == "python":
                exec(compile(code, self.page, "exec"), self.names)
            elif named := re.match(r"# ([\w-]+\.yaml)\n", code):
                Path(named[1]).write_text(code, encoding="utf-8")
            else:
                self.texts.append(code)

    def _command(self, line: str) -> None:
        self.commands.append(line)
        if line.startswith("cd "):
            os.chdir(line.removeprefix("cd "))
            return
        assert line.startswith("mmadapters "), line
        arguments = shlex.split(line)
        with (
            patch.object(sys, "argv", [*arguments, *self.extra.get(arguments[1], [])]),
            pytest.raises(SystemExit) as stopped,
        ):
            main()
        assert stopped.value.code == 0, line
