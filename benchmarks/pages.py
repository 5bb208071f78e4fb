"""Make docs/speed.md from the results under benchmarks/: its tables, between markers, and its pictures.

``python benchmarks/pages.py`` (or ``make bench-page``) takes the newest result of each shape and axis. What is outside
of the markers is written by hand and stays.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from page_figures import contenders_figure, growth_figure
from page_tables import growth_section, length_section, steps_section, targets_table
from results import newest_parts

from mmadapters.cli.console import step
from mmadapters.files import write_text_atomically

BENCHMARKS = Path(__file__).parent
PAGE = BENCHMARKS.parent / "docs" / "speed.md"
IMAGES = PAGE.parent / "images"
PREFIX = "speed-"


def pictures(benchmarks: Path) -> dict[str, tuple[str, str]]:
    """Return file name and SVG of each picture, by what it shows, such as ``steps bert-base``."""
    drawn = {
        f"steps {shape}": contenders_figure(part.values["contenders"])
        for shape, part in newest_parts(benchmarks, "steps", "shapes").items()
    }
    for axis, part in newest_parts(benchmarks, "growth", "axes").items():
        points = part.values["points"]
        reference = part.config["contenders"][0] if axis == "rows" else part.source.config["reference"]
        drawn[f"growth {axis}"] = growth_figure(axis, points, reference)
    return {what: (f"{PREFIX}{file_stem(what)}.svg", svg) for what, svg in drawn.items()}


def file_stem(what: str) -> str:
    """Return a name for files: ``steps bert-base, fast arithmetic`` is ``steps-bert-base-fast-arithmetic``."""
    return re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")


def filled(page: str, sections: dict[str, str]) -> str:
    """Return a page in which each section's text stands between its markers.

    Args:
        page: With ``<!-- name -->`` and ``<!-- end of name -->`` on lines of their own for each section.
        sections: Texts by name.

    Raises:
        ValueError: If the markers of a section are not there exactly once, in this order.
    """
    for name, text in sections.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(start)
        _, ended, after = rest.partition(end)
        if not found or not ended or start in rest or end in before + after:
            raise ValueError(
                f"The page must have the lines '{start.strip()}' and '{end}' once, in this order; what stands between "
                "them is made."
            )
        page = f"{before}{start}\n{text}\n\n{end}{after}"
    return page


def make(benchmarks: Path, page: str, images_path: str) -> tuple[str, dict[str, str]]:
    """Return the page and its pictures by file name.

    Args:
        benchmarks: The folder of experiments.
        page: The page as it is.
        images_path: Of the folder of the pictures, as the page names it.
    """
    drawn = pictures(benchmarks)
    links = {what: f"{images_path}/{file}" for what, (file, _) in drawn.items()}
    sections = {
        "targets": targets_table(benchmarks),
        "steps": steps_section(benchmarks, links),
        "growth": growth_section(benchmarks, links),
        "length": length_section(benchmarks),
    }
    return filled(page, sections), dict(drawn.values())


def main(benchmarks: Path, page: Path, images: Path) -> None:
    try:
        text, svgs = make(benchmarks, page.read_text(encoding="utf-8"), images.name)
    except ValueError as error:
        sys.exit(f"{page}: {error}")
    for file, svg in svgs.items():
        write_text_atomically(images / file, svg)
    for old in set(images.glob(f"{PREFIX}*.svg")) - {images / file for file in svgs}:
        old.unlink()
    write_text_atomically(page, text)
    step(f"written to {page}, with {len(svgs)} pictures")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, default=BENCHMARKS, help="Folder of the experiments.")
    parser.add_argument("--page", type=Path, default=PAGE, help="The page.")
    parser.add_argument("--images", type=Path, default=IMAGES, help="Folder of its pictures, beside the page.")
    main(**vars(parser.parse_args()))
