"""A picture of a report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """A drawing and what it shows.

    Attributes:
        name: Of its file, without an ending.
        title: Above it.
        caption: What is to be seen, in a sentence or two; also read to those who cannot see it.
        svg: An SVG document.
    """

    name: str
    title: str
    caption: str
    svg: str
