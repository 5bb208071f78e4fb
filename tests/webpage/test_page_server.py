"""``mmadapters demo-page``: the command as the documents have it, how it ends, and what it refuses."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from mmadapters.cli import console
from mmadapters.cli.main import main
from mmadapters.errors import ArtefactError, ConfigurationError, MissingDependencyError
from mmadapters.webpage.server import FIRST_PORT, PageOptions, free_port, running_page

PAGE = Path(__file__).parents[2] / "docs" / "page.md"


def call(*arguments: str, status: int = 0) -> None:
    before = sys.argv
    sys.argv = ["mmadapters", *arguments]
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        sys.argv = before
    assert (stopped.value.code or 0) == status


def test_the_command_of_the_documents(page_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    (tmp_path / "movie-genres").symlink_to(page_folder / "model")
    for name in ("movies.csv", "posters", "trailers"):
        (tmp_path / name).symlink_to(page_folder / "rows" / name)
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    told: list[str] = []

    def step(line: str) -> None:
        told.append(line)
        if len(told) == 1:
            (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", line)
            assert b"movie-genres" in urlopen(address, timeout=60).read()
            assert list((tmp_path / "temporary").iterdir())
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(console, "step", step)
    before = signal.getsignal(signal.SIGTERM)
    (line,) = re.findall(r"^mmadapters (demo-page .*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    call(*shlex.split(line))
    assert told[1:] == ["ended; uploaded files are deleted"]
    assert [path for path in (tmp_path / "temporary").iterdir() if path.name.startswith("mmadapters-page")] == []
    assert signal.getsignal(signal.SIGTERM) == before
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_there_is_no_way_to_share_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    call("demo-page", "model", "--share", status=2)
    assert "No such option: --share" in capsys.readouterr().err
    call("demo-page", "--help")
    assert "share" not in capsys.readouterr().out


def test_a_port_that_is_taken_is_refused_and_another_one_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"--port {port} cannot be used.*such as --port 9000"):
            free_port(port)
        assert free_port(0) not in (0, port)
        assert free_port(None) >= FIRST_PORT


def test_without_gradio_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with (
        pytest.raises(MissingDependencyError, match=r"needs gradio, and.*pip install 'mmadapters\[page\]'"),
        running_page(tmp_path, PageOptions()),
    ):
        pass


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    with pytest.raises(ArtefactError, match="is no artefact"), running_page(tmp_path, PageOptions()):
        pass
