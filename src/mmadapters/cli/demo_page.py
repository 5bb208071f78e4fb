"""``mmadapters demo-page``: try a saved model out in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo_page(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model, or user/name[@revision] on the Hub.")],
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port on this machine; the first free one from 7860 on where absent."),
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Rows that can fill in the page: CSV, JSONL or Parquet; the first 20 are used.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Open a web page on this machine on which to try a model out, and to see what its modalities change."""
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.webpage.server import PageOptions, serve_page

    prepare_libraries(progress=False)
    serve_page(model, PageOptions(port, examples, backbone, open_browser), step)
