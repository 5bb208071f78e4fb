"""docs/serving.md is true: its commands and code run, its tables are those of the settings and metrics."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
import uvicorn
import yaml
from served_models import config_of

from mmadapters.cli.main import main
from mmadapters.serving import ray_server, server
from mmadapters.serving.app import create_app
from mmadapters.serving.config import BatchingConfig, RayServeConfig, ServedFolder, ServerConfig
from mmadapters.serving.metrics import ServerMetrics

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "serving.md"

pytestmark = pytest.mark.skipif(not DOCUMENT.is_file(), reason="a source distribution has no documents")


def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(), flags=re.MULTILINE | re.DOTALL)


def lines_of(program: str) -> list[str]:
    return [line for block in blocks("console") for line in block.splitlines() if line.startswith(program)]


def settings_rows(settings: type, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(field.default_factory):
            yield from settings_rows(field.default_factory, f"{field.name}.")
            continue
        name = "" if field.default is dataclasses.MISSING else f"`{json.dumps(field.default).strip(chr(34))}`"
        yield f"| `{prefix}{field.name}` | {name} | {field.metadata['help']} |"
        if field.name == "models":
            yield from settings_rows(ServedFolder, "models.<name>.")


def test_every_setting_is_documented_with_its_default() -> None:
    table = text().split("| setting | default | |\n| --- | --- | --- |\n")[1].split("\n\n")[0]
    assert table.splitlines() == list(settings_rows(ServerConfig))


def test_every_metric_is_documented() -> None:
    metrics = ServerMetrics().text().decode()
    there = set(re.findall(r"^# HELP (mmadapters_\w+)", metrics, re.MULTILINE))
    there = {name for name in there if not name.endswith("_created")}
    assert set(re.findall(r"`(mmadapters_\w+)`", text())) == there
    named = re.findall(r"by `reason`: (.*?) \|", text())[0]
    sources = "".join(path.read_text() for path in (ROOT / "src/mmadapters/serving").glob("*.py"))
    assert set(re.findall(r"`(\w+)`", named)) == set(re.findall(r'reason="(\w+)"', sources))


def test_the_commands_start_the_servers_that_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serve.yaml").write_text(blocks("yaml")[0])
    started: list[ServerConfig] = []
    monkeypatch.setattr(server, "serve", lambda config, tell: started.append(config))
    monkeypatch.setattr(ray_server, "serve_on_ray", lambda config, address, tell: started.append(config))
    commands = lines_of("mmadapters ")
    assert len(commands) == 4
    for line in commands:
        with patch.object(sys, "argv", shlex.split(line)), pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 0
    one, two, from_file, on_ray = started
    assert one == ServerConfig({"movie-genres": ServedFolder("movie-genres")})
    assert {name: model.folder for name, model in two.models.items()} == {
        "genres": "movie-genres",
        "mood": "movie-mood",
    }
    assert from_file.models == {"genres": ServedFolder("movie-genres", license="apache-2.0")}
    assert from_file.batching == BatchingConfig(16, 2.0)
    assert from_file.limits.request_seconds == 30.0
    assert on_ray == replace(one, ray=RayServeConfig(2))


def test_the_file_for_serve_deploy_is_an_application(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="Ray Serve is not installed")
    deployed = schema.ServeDeploySchema.model_validate(yaml.safe_load(blocks("yaml")[1]))
    (application,) = deployed.applications
    module, _, name = application.import_path.partition(":")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models / "genres", "movie-genres")
    built = getattr(import_module(module), name)(application.args)
    assert built._bound_deployment.num_replicas == 2


def test_the_calls_are_answered(films: tuple[Path, pd.DataFrame], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = films
    (folder / "movie-genres").is_dir() or shutil.copytree(folder / "films", folder / "movie-genres")
    shutil.copy(folder / "0.png", folder / "poster.png")
    with running(config_of(folder, "movie-genres")) as port:
        calls = lines_of("curl ")
        assert len(calls) == 2
        if shutil.which("curl"):
            rows = [
                json.loads(subprocess.run(
                    ["curl", "--silent", "--show-error", "--fail", *shlex.split(line.replace(":8000", f":{port}"))[1:]],
                    cwd=folder, check=True, capture_output=True, timeout=60,
                ).stdout)["predictions"]
                for line in calls
            ]  # fmt: skip
            assert [len(found) for found in rows] == [1, 2]
            assert rows[0][0]["missing"] == ["film", "sound"]
        (code,) = blocks("python")
        exec(compile(code.replace(":8000", f":{port}"), str(DOCUMENT), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert all("'dark'" in line and "['poster', 'film', 'sound']" in line for line in printed)


class running:
    """A server in a thread of this process."""

    def __init__(self, config: ServerConfig) -> None:
        self._listener = server.listen("127.0.0.1", 0)
        settings: Any = {"log_config": None, "access_log": False, "lifespan": "on", "ws": "none"}
        self._server = uvicorn.Server(uvicorn.Config(create_app(config), **settings))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def __enter__(self) -> int:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        self._listener.close()
