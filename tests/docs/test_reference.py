"""The reference is complete and true: every public name, every command."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest
from site_build import ROOT, load_script

import mmadapters
from mmadapters import data, errors

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
DOCUMENTED = [
    name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def found(name: str) -> Any:
    """The object of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def imported_in(text: str) -> set[str]:
    """The names that Python blocks of a page import from the library."""
    names = set()
    for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for module, listed in re.findall(r"^from (mmadapters[\w.]*) import ([\w, ]+)$", block, flags=re.MULTILINE):
            names |= {f"{module}.{name.strip()}" for name in listed.split(",")}
    return names


def test_every_public_name_is_documented_once() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED))
    public = {f"mmadapters.{name}" for name in mmadapters.__all__ if name != "__version__"}
    assert public <= set(DOCUMENTED)
    # The names of mmadapters.data are documented here or, those that mmadapters has as well, there.
    assert {found(f"mmadapters.data.{name}") for name in data.__all__} <= {found(name) for name in DOCUMENTED}


def test_every_error_is_documented() -> None:
    raised = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == "mmadapters.errors"
    }
    assert len(raised) >= 9
    assert raised <= {found(name) for name in DOCUMENTED}


def test_what_the_documents_import_is_documented() -> None:
    documented = {id(found(name)) for name in DOCUMENTED}
    missing = {
        name
        for page in TEXTS
        for name in imported_in(page.read_text(encoding="utf-8"))
        if id(found(name)) not in documented
    }
    assert missing == set()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_name_exists_and_says_what_it_is(name: str) -> None:
    assert (inspect.getdoc(found(name)) or "").strip()


def test_the_page_of_commands_is_up_to_date() -> None:
    script = load_script("write_cli_reference")
    assert script.TARGET.read_text(encoding="utf-8") == script.reference(), "run `make docs-files`"


def test_every_command_is_on_the_page_with_its_whole_sentence() -> None:
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#{2,3} `mmadapters ([\w -]+)`$", text, re.MULTILINE)
    assert {"train", "data emoji", "store verify"} <= set(headings)
    linked = re.findall(r"^\* \[`[\w-]+`\]\(#mmadapters-([\w-]+)\): .+[^.]\.$", text, re.MULTILINE)
    assert sorted(linked) == sorted(heading.replace(" ", "-") for heading in headings)
