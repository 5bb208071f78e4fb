"""MkDocs hook: pages of the site that are files elsewhere in the repository, and the links between them.

README.md is the home page; ARCHITECTURE.md, CONTRIBUTING.md, CHANGELOG.md and the experiments' READMEs are pages, too.
All of them and the pages of docs/ are written for a repository browser, with relative links: here these become the
site's. A linked file that is no page (a result, a script, the licence) is copied into the site.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Page of the site by file of the repository; docs/ and benchmarks/ follow a rule (``site_path``)."""

EXPERIMENTS = "benchmarks/index.md"
LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
FENCE = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)


def site_path(source: str) -> str:
    """Return the path in the site's sources of a file of the repository, both relative to their roots."""
    if source in PAGES:
        return PAGES[source]
    if source.startswith("docs/") and not source.endswith(".py"):
        return source.removeprefix("docs/")
    return source if source.endswith(".md") else f"files/{source}"


def experiments() -> list[str]:
    """Return the READMEs of the experiments, sorted."""
    return sorted(str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "benchmarks").rglob("README.md"))


def sources() -> list[str]:
    """Return every file of the repository that is a page."""
    pages = sorted(str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "docs").rglob("*.md"))
    return [*PAGES, *pages, *experiments()]


def title(source: str) -> str:
    """Return the first heading of a file."""
    return re.search(r"^# (.+)$", (ROOT / source).read_text(encoding="utf-8"), re.MULTILINE)[1]  # type: ignore[index]


def outside_of_fences(text: str) -> Iterator[tuple[bool, str]]:
    """Yield a text's parts in order, each with whether it is prose, not a block of code."""
    end = 0
    for fence in FENCE.finditer(text):
        yield True, text[end : fence.start()]
        yield False, fence[0]
        end = fence.end()
    yield True, text[end:]


def target_in_repository(link: str, source: str) -> str | None:
    """Return the path in the repository that a link of ``source`` means; nothing if it is no file or folder there."""
    if re.match(r"[a-z]+:|#|/", link):
        return None
    path = (ROOT / source).parent / unquote(link.partition("#")[0])
    resolved = Path(os.path.normpath(path))
    if not resolved.exists() or not resolved.is_relative_to(ROOT):
        return None
    return resolved.relative_to(ROOT).as_posix()


def page_of(target: str) -> str:
    """Return where in the site's sources a target is found: a folder is its README, else the list of experiments."""
    if (ROOT / target).is_dir():
        readme = f"{target}/README.md"
        return site_path(readme) if (ROOT / readme).is_file() else EXPERIMENTS
    return site_path(target)


def for_the_site(text: str, source: str) -> str:
    """Return a page's text with its links made relative to its place in the site.

    Args:
        text: Markdown as it is in the repository.
        source: Its path in the repository.
    """
    here = PurePosixPath(site_path(source)).parent

    def moved(match: re.Match[str]) -> str:
        target = target_in_repository(match[0], source)
        if target is None:
            return match[0]
        path, hash_sign, anchor = match[0].partition("#")
        return quote(os.path.relpath(page_of(target), here)) + hash_sign + anchor

    return "".join(LINK.sub(moved, part) if prose else part for prose, part in outside_of_fences(text))


def linked_files() -> set[str]:
    """Return the files of the repository that pages link to and that are no pages themselves."""
    pages = set(sources())
    found = set()
    for source in pages:
        for prose, part in outside_of_fences((ROOT / source).read_text(encoding="utf-8")):
            for link in LINK.findall(part) if prose else []:
                target = target_in_repository(link, source)
                if target is not None and target not in pages and (ROOT / target).is_file():
                    found.add(target)
    return found


def list_of_experiments() -> str:
    """Return the page that lists the experiments."""
    entries = [f"- [{title(source)}]({os.path.relpath(source, 'benchmarks')})" for source in experiments()]
    return (
        "# Experiments\n\nEach is a folder with its configuration, its results and what was learned. Results are "
        "added, never edited. [Speed and memory](../speed.md) and [Results](../results.md) are made from them.\n\n"
        + "\n".join(entries)
        + "\n"
    )


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Add to the site what is outside of docs/."""
    for source in [*PAGES, *experiments()]:
        files.append(File.generated(config, site_path(source), abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, EXPERIMENTS, content=list_of_experiments()))
    for source in sorted(linked_files()):
        if site_path(source) not in files.src_uris:
            files.append(File.generated(config, site_path(source), abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Make the links of a page those of the site."""
    places = {site_path(source): source for source in sources()}
    source = places.get(page.file.src_uri)
    return markdown if source is None else for_the_site(markdown, source)
