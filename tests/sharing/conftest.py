"""A Hub on the loopback interface, and no way to anywhere else."""

from __future__ import annotations

import logging
import shutil
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, running_hub
from hub_artefacts import FIXTURES
from huggingface_hub import constants
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import hub as transformers_hub
from transformers.utils import logging as transformers_logging


@pytest.fixture(autouse=True)
def _libraries_as_before() -> Iterator[None]:
    """The verbs quieten libraries for the life of their process; here they share one with other tests."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    handlers, hub_bars = list(logging.getLogger().handlers), not are_progress_bars_disabled()
    with warnings.catch_warnings():
        yield
    transformers_logging.set_verbosity(verbosity)
    (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()
    (enable_progress_bars if hub_bars else disable_progress_bars)()
    logging.getLogger().handlers[:] = handlers


@pytest.fixture(autouse=True)
def _loopback_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    attempts = []
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and (not isinstance(address, tuple) or address[0] != "127.0.0.1"):
            attempts.append(address)
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    look_up = socket.getaddrinfo

    def guarded_look_up(host: str, *args: object, **kwargs: object) -> object:
        if host != "127.0.0.1":
            attempts.append(host)
            raise socket.gaierror(f"a test tried to look up {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield
    assert attempts == []


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The Hub that every call of ``huggingface_hub`` reaches, with an empty cache and no token of this machine."""
    with running_hub() as running:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        template = running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "no-tokens"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # It would keep the address of another test's.
        monkeypatch.setattr(transformers_hub, "_hf_api", None)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artefact of two modalities with three labels, in an encoder that has a name on the Hub."""
    return Path(shutil.copytree(FIXTURES / "multi_label", tmp_path / "movies"))
