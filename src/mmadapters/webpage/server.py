"""The server of a page: on this machine's own address alone, without a word to any other."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mmadapters.artefact import load_artefact
from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.webpage.model import MOST_UPLOADED, PageModel
from mmadapters.webpage.style import STYLE, page_script

if TYPE_CHECKING:
    from mmadapters.webpage.examples import Example

HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT = 7860, 7899
"""Those that are tried where none is named."""

_SILENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_FONTS = ["system-ui", "sans-serif"]


@dataclass(frozen=True)
class PageOptions:
    """How a page is served.

    Attributes:
        port: Its port; None for the first one that is free from ``FIRST_PORT`` on.
        examples: File of rows that can fill in the page.
        backbone: Where the text encoder is, if not under its saved name.
        open_browser: Whether a browser is opened.
    """

    port: int | None = None
    examples: Path | None = None
    backbone: str | None = None
    open_browser: bool = False


@contextmanager
def running_page(artefact: Path, options: PageOptions) -> Iterator[str]:
    """Serve the page of a saved model within the context.

    Args:
        artefact: Folder of the model.
        options: How.

    Yields:
        The page's address.

    Raises:
        MissingDependencyError: If Gradio is not installed.
        ArtefactError: If the model cannot be read.
        ConfigurationError: If the port is taken.
        DataError: If the examples cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="mmadapters-page-") as name, _surroundings(Path(name)):
        port = free_port(options.port)
        _require_gradio()
        from mmadapters.webpage.examples import read_examples

        folder = Path(name).resolve()
        model = PageModel(load_artefact(artefact, options.backbone), folder, artefact.absolute().name)
        examples = [] if options.examples is None else read_examples(options.examples, model)
        with model.workers():
            page = _in_an_event_loop(lambda: _launched(model, examples, port, options.open_browser))
            try:
                yield f"http://{HOST}:{port}/"
            finally:
                page.close(verbose=False)


def serve_page(artefact: Path, options: PageOptions, tell: Callable[[str], None]) -> None:
    """Serve the page of a saved model until SIGINT or SIGTERM.

    Args:
        artefact: Folder of the model.
        options: How.
        tell: Called with a line for a person.

    Raises:
        MissingDependencyError: If Gradio is not installed.
        ArtefactError: If the model cannot be read.
        ConfigurationError: If the port is taken.
        DataError: If the examples cannot be read.
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with running_page(artefact, options) as address:
            tell(f"the page is at {address} and answers on this machine alone; Ctrl+C ends it")
            stopped.wait()
        tell("ended; uploaded files are deleted")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port(wanted: int | None) -> int:
    """Return a port that is free on this machine's own address.

    Args:
        wanted: That one and no other; None for the first one from ``FIRST_PORT`` to ``LAST_PORT``.

    Raises:
        ConfigurationError: If it is taken, or all are.
    """
    for port in (wanted,) if wanted is not None else range(FIRST_PORT, LAST_PORT + 1):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    taken = (
        f"--port {wanted} cannot be used: it is taken, or not yours to take"
        if wanted is not None
        else (f"Every port from {FIRST_PORT} to {LAST_PORT} is taken")
    )
    raise ConfigurationError(f"{taken}. Give another one, such as --port 9000, or --port 0 for any that is free.")


def _launched(model: PageModel, examples: Sequence[Example], port: int, open_browser: bool) -> Any:
    """Return a page that is being served.

    Raises:
        ConfigurationError: If the server does not start.
    """
    import gradio as gr

    from mmadapters.webpage.blocks import Page

    page = Page(model, examples)
    blocks = page.build()
    try:
        blocks.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=MOST_UPLOADED,
            theme=gr.themes.Default(font=_FONTS, font_mono=["ui-monospace", "monospace"]),
            css=STYLE,
            head=page_script(model, page.ids),
        )
    except OSError as error:
        raise ConfigurationError(
            f"The server of the page did not start within 5 seconds on port {port}: the port was taken meanwhile, or "
            "the machine is too busy. Try again, or give another --port."
        ) from error
    return blocks


def _in_an_event_loop(call: Callable[[], Any]) -> Any:
    """Return what a function returns. Where no event loop runs, Gradio would make several and close none."""

    async def called() -> Any:
        return call()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(called())
    return call()


@contextmanager
def _surroundings(folder: Path) -> Iterator[None]:
    """Keep uploads in a folder, libraries silent and this machine's own address away from proxies meanwhile."""
    exempt = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))
    wanted = {**_SILENT, "GRADIO_TEMP_DIR": str(folder / "uploads"), "NO_PROXY": exempt, "no_proxy": exempt}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _require_gradio() -> None:
    missing = []
    for package in ("gradio", "matplotlib"):
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise MissingDependencyError(
            f"The page needs {' and '.join(missing)}, and not all of it is installed. Install it with: "
            "pip install 'mmadapters[page]'."
        )
