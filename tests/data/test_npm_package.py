"""The archive of an npm package: fetched by a program called npm, checked, cached, and never fetched twice."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from mmadapters.data.sources.npm_package import NpmPackage, fetch_npm_package
from mmadapters.errors import DownloadError

CONTENT = b"the archive"
INTEGRITY = "sha512-" + base64.b64encode(hashlib.sha512(CONTENT).digest()).decode()
PACKAGE = NpmPackage("fixture", "1.2.3", INTEGRITY)


class Npm:
    """A program called ``npm`` that is the only one on the path; it notes its arguments and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"

    def does(self, script: str) -> None:
        program = self.folder / "npm"
        program.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\necho "$@" >> {self.calls}\n{script}\n')
        program.chmod(0o755)

    def writes(self, content: bytes) -> None:
        (self.folder / "content").write_bytes(content)
        # The destination is the last argument, and the folder in which npm runs.
        self.does(f'for last; do :; done\ntest "$last" = "$PWD" && cp {self.folder}/content "$last/fixture-1.2.3.tgz"')

    @property
    def n_calls(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Npm:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Npm(folder)


def test_an_archive_is_fetched_once_and_then_cached(npm: Npm, tmp_path: Path) -> None:
    npm.writes(CONTENT)
    path = fetch_npm_package(PACKAGE, tmp_path / "cache")
    assert path == tmp_path / "cache" / "fixture-1.2.3" / "fixture-1.2.3.tgz"
    assert path.read_bytes() == CONTENT
    assert "pack fixture@1.2.3 --ignore-scripts" in npm.calls.read_text()
    assert fetch_npm_package(PACKAGE, tmp_path / "cache") == path
    assert npm.n_calls == 1


def test_a_damaged_cache_is_fetched_again(npm: Npm, tmp_path: Path) -> None:
    npm.writes(CONTENT)
    path = fetch_npm_package(PACKAGE, tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert fetch_npm_package(PACKAGE, tmp_path).read_bytes() == CONTENT
    assert npm.n_calls == 2


def test_another_content_is_not_used(npm: Npm, tmp_path: Path) -> None:
    npm.writes(b"another archive")
    with pytest.raises(DownloadError, match=r"has the integrity sha512-.*, expected was sha512-.*it is not used"):
        fetch_npm_package(PACKAGE, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_npm_says_is_in_the_message(npm: Npm, tmp_path: Path) -> None:
    npm.does('echo "npm error code E404" >&2; echo "npm error 404 Not Found" >&2; echo "npm error more" >&2; exit 1')
    with pytest.raises(DownloadError, match="npm said: npm error code E404 / npm error 404 Not Found. Check") as raised:
        fetch_npm_package(PACKAGE, tmp_path / "cache")
    assert "run `npm pack fixture@1.2.3` on another machine and give the file's path" in str(raised.value)
    assert not (tmp_path / "cache").exists()


def test_npm_that_writes_nothing_is_an_error(npm: Npm, tmp_path: Path) -> None:
    npm.does("exit 0")
    with pytest.raises(DownloadError, match="npm said: nothing"):
        fetch_npm_package(PACKAGE, tmp_path)


def test_without_npm_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(DownloadError) as raised:
        fetch_npm_package(PACKAGE, tmp_path / "cache")
    assert "'fixture@1.2.3' are fetched by npm, which is not installed. Install Node.js with npm" in str(raised.value)
    assert "--package fixture-1.2.3.tgz" in str(raised.value)
