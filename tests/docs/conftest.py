"""The built site, once for all tests that look at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from site_build import ROOT


@pytest.fixture(scope="session")
def built_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built strictly by MkDocs as ``make docs`` builds it; shared by the test processes."""
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    from filelock import FileLock

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "site"
    with FileLock(shared / "site.lock"):
        if not (folder / "index.html").is_file():
            # Only what a closed network allows: a build that asks for something outside fails.
            nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
            built = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
                cwd=ROOT,
                env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
                capture_output=True,
                text=True,
                timeout=280,
            )
            assert built.returncode == 0, built.stderr
            assert "WARNING" not in built.stderr
    return folder
