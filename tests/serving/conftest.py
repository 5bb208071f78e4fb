"""Models that all tests of the server share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from served_models import TEXT_MODELS, client_of, config_of, train_films, train_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    folder = tmp_path_factory.mktemp("served")
    train_models(folder, tiny_backbone)
    return folder


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("films")
    return folder, train_films(folder, tiny_backbone)


@pytest.fixture(scope="session")
def client(models: Path) -> Iterator[TestClient]:
    with client_of(config_of(models, *TEXT_MODELS)) as client:
        yield client
