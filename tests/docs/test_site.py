"""The documentation site: every page has its place, and reads in a repository browser as it does on the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

pytest.importorskip("mkdocs")
markdown = pytest.importorskip("markdown")

from markdown_it import MarkdownIt  # noqa: E402
from mkdocs.utils.yaml import get_yaml_loader  # noqa: E402
from site_build import ROOT, load_script  # noqa: E402

PAGES: ModuleType = load_script("site_pages")
SOURCES = PAGES.sources()
CONFIG: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=get_yaml_loader())


def placed(nav: Any) -> list[str]:
    """The pages of a navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in placed(entry)]


def on_the_site(text: str) -> str:
    """The HTML that MkDocs makes of a page, without the permanent links of its headings."""
    extensions = CONFIG["markdown_extensions"]
    names = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in extensions]
    options = {name: value for entry in extensions if isinstance(entry, dict) for name, value in entry.items()}
    options["pymdownx.highlight"] = {"use_pygments": False}
    return markdown.markdown(
        text, extensions=names, extension_configs={name: options.get(name) or {} for name in names}
    )


def elements(html: str) -> dict[str, int]:
    """How many lists' entries, tables' cells, blocks of code, headings and pictures a text has."""
    counted = {
        name: len(re.findall(rf"<{name}[\s>]", html))
        for name in (
            "ul",
            "ol",
            "li",
            "table",
            "td",
            "th",
            "img",
            "blockquote",
            *(f"h{level}" for level in range(1, 7)),
        )
    }
    # The site's blocks of code have a <pre> each, with a <code> inside that an inline piece of code has alone.
    return counted | {"pre": len(re.findall(r"<pre[\s>]", html)), "code": len(re.findall(r"<code[\s>]", html))}


def test_every_page_has_its_place_in_the_navigation() -> None:
    pages = [page for source in SOURCES if not (page := PAGES.site_path(source)).startswith("benchmarks/")]
    in_navigation = placed(CONFIG["nav"])
    assert len(in_navigation) == len(set(in_navigation))
    assert sorted(in_navigation) == sorted([*pages, PAGES.EXPERIMENTS]), "place a new page under `nav` in mkdocs.yml"


def test_the_list_of_experiments_has_each_of_them() -> None:
    text = PAGES.list_of_experiments()
    assert len(PAGES.experiments()) >= 10
    for source in PAGES.experiments():
        assert f"({source.removeprefix('benchmarks/')})" in text
        assert f"[{PAGES.title(source)}]" in text


@pytest.mark.parametrize("source", SOURCES)
def test_a_page_reads_the_same_in_a_repository_browser(source: str) -> None:
    text = (ROOT / source).read_text(encoding="utf-8")
    text = re.sub(r"^::: .*$", "", text, flags=re.MULTILINE)
    browser = MarkdownIt("commonmark").enable("table").render(text)
    assert elements(on_the_site(text)) == elements(browser)


def test_the_comparison_finds_a_list_that_python_markdown_does_not_know() -> None:
    text = "Words:\n- one\n  - two\n"
    assert elements(on_the_site(text)) != elements(MarkdownIt("commonmark").render(text))


@pytest.mark.parametrize(
    ("source", "link", "moved"),
    [
        ("README.md", "docs/training.md", "training.md"),
        ("README.md", "docs/training.md#metrics", "training.md#metrics"),
        ("README.md", "ARCHITECTURE.md", "architecture.md"),
        ("README.md", "LICENSE", "files/LICENSE"),
        ("docs/training.md", "compare.md", "compare.md"),
        ("docs/training.md", "../benchmarks/steps/README.md", "benchmarks/steps/README.md"),
        ("docs/training.md", "../README.md#install", "index.md#install"),
        ("docs/speed.md", "../benchmarks", "benchmarks/index.md"),
        ("docs/speed.md", "../benchmarks/steps", "benchmarks/steps/README.md"),
        ("docs/speed.md", "../benchmarks/growth", "benchmarks/index.md"),
        ("docs/speed.md", "../benchmarks/steps-4/result.json", "files/benchmarks/steps-4/result.json"),
        ("docs/fusions.md", "draw_fusions.py", "files/docs/draw_fusions.py"),
        ("docs/fusions.md", "images/fusions.svg", "images/fusions.svg"),
        ("docs/reference/cli.md", "../training.md", "../training.md"),
        ("docs/reference/cli.md", "../../CHANGELOG.md", "../changelog.md"),
        ("benchmarks/steps/README.md", "../../docs/speed.md", "../../speed.md"),
        ("docs/training.md", "https://example.org/docs/training.md", "https://example.org/docs/training.md"),
        ("docs/training.md", "#metrics", "#metrics"),
        ("docs/training.md", "no-such-page.md", "no-such-page.md"),
        ("docs/training.md", "../../outside.md", "../../outside.md"),
    ],
)
def test_links_lead_to_the_same_place_on_the_site(source: str, link: str, moved: str) -> None:
    assert PAGES.for_the_site(f"See [it]({link}).", source) == f"See [it]({moved})."


def test_code_is_left_alone() -> None:
    text = "```python\nrows[0](docs/training.md)\n```\n[t](docs/training.md)\n"
    assert PAGES.for_the_site(text, "README.md") == "```python\nrows[0](docs/training.md)\n```\n[t](training.md)\n"


def test_linked_files_are_copied_and_pages_are_not() -> None:
    found = PAGES.linked_files()
    assert {"docs/draw_fusions.py", "docs/images/fusions.svg"} <= found
    assert not [path for path in found if path.endswith(".md")]


def test_the_drawings_of_concepts_are_up_to_date() -> None:
    script = load_script("draw_concepts")
    assert sorted(path.name for path in script.FOLDER.glob("concept-*.svg")) == sorted(script.DRAWINGS)
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "concepts").glob("*.md"))
    for name, draw in script.DRAWINGS.items():
        assert (script.FOLDER / name).read_text(encoding="utf-8") == draw(), "run `make docs-files`"
        assert f"(../images/{name})" in text


def test_the_glossary_is_sorted_and_says_each_term_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| ([^|]+) \|", text, flags=re.MULTILINE)[2:]
    assert len(terms) > 30
    assert terms == sorted(set(terms), key=str.lower)


def test_the_hook_is_the_one_that_mkdocs_runs() -> None:
    assert [Path(path).stem for path in CONFIG["hooks"]] == ["site_pages"]
    assert CONFIG["strict"] is True
    assert "mmadapters" in CONFIG["site_name"]
    assert sys.modules["site_pages"] is PAGES
