"""The tiny model and its rows, once for all tests of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_model import train_page_model


@pytest.fixture(scope="session")
def page_folder(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    """A folder with ``model/`` and ``rows/movies.csv``, ``rows/posters/``, ``rows/trailers/``."""
    folder = tmp_path_factory.mktemp("page")
    train_page_model(folder, tiny_backbone)
    return folder
