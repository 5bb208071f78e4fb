"""Settings of a server: what is refused before anything is loaded, and how the command line reads them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mmadapters.cli.serve import named_folders, server_settings
from mmadapters.errors import ConfigurationError
from mmadapters.serving.config import (
    BatchingConfig,
    MediaConfig,
    RequestLimits,
    ServedFolder,
    ServerConfig,
    is_loopback,
)
from mmadapters.serving.server import serve

MODELS = {"genres": ServedFolder("genres")}


def test_listening_beyond_loopback_needs_a_token_or_a_word() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(ConfigurationError, match=f"host is '{host}', which others reach, and there is no token"):
            ServerConfig(MODELS, host=host)
        assert ServerConfig(MODELS, host=host, token_env="TOKEN").host == host
        assert ServerConfig(MODELS, host=host, allow_without_token=True).host == host
    for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        assert is_loopback(host)
        assert ServerConfig(MODELS, host=host).token() is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ServerConfig({}), "models is empty; name at least one"),
        (lambda: ServerConfig(MODELS, port=70_000), "port is 70000; give a number from 0 to 65535"),
        (lambda: ServerConfig(MODELS, token_env="A", token_file="b"), "token_env and token_file are both given"),
        (lambda: BatchingConfig(max_batch=0), "max_batch is 0; give a whole number of at least 1"),
        (lambda: BatchingConfig(max_wait_ms=-1), "max_wait_ms is -1; give a number of at least 0"),
        (lambda: RequestLimits(max_rows=0), "max_rows is 0"),
        (lambda: RequestLimits(request_seconds=0), "request_seconds is 0; give a number above 0"),
        (lambda: MediaConfig(workers=0), "workers is 0"),
        (lambda: MediaConfig(seconds_per_file=float("inf")), "seconds_per_file is inf"),
    ],
)
def test_settings_that_cannot_be_used(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_settings_come_from_the_file_the_overrides_and_the_arguments(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(
        "models:\n  genres: {folder: runs/genres, license: mit}\n  mood: {folder: runs/mood}\n"
        "port: 9000\nbatching: {max_batch: 8}\nlimits: {max_rows: 5}\n"
    )
    config = server_settings([], file, ["batching.max_wait_ms=0", "limits.request_seconds=5"], None, None)
    assert list(config.models) == ["genres", "mood"]
    assert config.models["genres"] == ServedFolder("runs/genres", license="mit")
    assert config.batching == BatchingConfig(8, 0.0)
    assert config.limits == RequestLimits(max_rows=5, request_seconds=5.0)
    assert (config.host, config.port) == ("127.0.0.1", 9000)
    changed = server_settings(["runs/other", "b=runs/mood"], file, [], "::1", 0)
    assert changed.models == {"other": ServedFolder("runs/other"), "b": ServedFolder("runs/mood")}
    assert (changed.host, changed.port, changed.batching.max_batch) == ("::1", 0, 8)
    with pytest.raises(ConfigurationError, match=r"batching\.max_batchs is unknown\. Did you mean 'max_batch'"):
        server_settings([], file, ["batching.max_batchs=2"], None, None)
    with pytest.raises(ConfigurationError, match="models is missing"):
        server_settings([], None, [], None, None)


def test_names_of_models() -> None:
    assert named_folders(["runs/a/", "b=x=y"]) == {"a": {"folder": "runs/a/"}, "b": {"folder": "x=y"}}
    with pytest.raises(ConfigurationError, match="Two models are called 'a'. Name them apart"):
        named_folders(["runs/a", "other/a"])
    with pytest.raises(ConfigurationError, match="has no name or no folder"):
        named_folders(["=x"])


def test_an_address_that_is_taken_is_told_before_anything_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen at 127.0.0.1, port {port}: Address already"):
            serve(ServerConfig(MODELS, port=port))
    with pytest.raises(ConfigurationError, match="The server cannot listen at nowhere.invalid, port 8000"):
        serve(ServerConfig(MODELS, host="nowhere.invalid", allow_without_token=True))
