"""Replicas on Ray: one address, the answers of one process, and nothing lost when one of them ends."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from processes import JSON, SECONDS, Caller, listening_port
from served_models import config_of, expected_scores, feature_row, movie_rows, scores_of

pytest.importorskip("ray.serve", reason="Ray Serve is not installed")
from mmadapters.cli.serve import ray_application
from mmadapters.errors import ArtefactError, ConfigurationError, DataError
from mmadapters.features.worker_process import WorkerError
from mmadapters.serving import ray_server, replicas
from mmadapters.serving.config import RayServeConfig
from mmadapters.serving.metrics import ServerMetrics, merged
from mmadapters.serving.replicas import Replica, build

TOKEN = "a-token-of-this-test"
CLOSED = (404, 503)
"""What Ray's proxy answers where an application is gone, or has no replica any more."""


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica in this process leaves its handlers of logs alone."""
    monkeypatch.setattr(replicas, "write_json_lines", lambda requests: None)


def test_settings_that_cannot_be_used_are_refused() -> None:
    for settings, message in (
        ({"replicas": 0}, "replicas"),
        ({"cpus": 1.5}, "cpus"),
        ({"gpus": -1.0}, "gpus"),
        ({"gpus": 1.5}, "gpus is 1.5; give a whole number, or a share below 1"),
        ({"start_seconds": 0.0}, "start_seconds"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas is 2, below replicas, which is 3"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            RayServeConfig(**settings)  # type: ignore[arg-type]
    assert RayServeConfig(2, 4, 1, 0.5).max_replicas == 4


def test_metrics_of_several_are_one_text_with_a_label_more() -> None:
    texts = {}
    for place, name in enumerate(("a", "b")):
        metrics = ServerMetrics()
        metrics.rows.labels("genres").inc(10 * place + 3)
        metrics.queue_rows.set(place)
        texts[name] = metrics.text().decode()
    lines = merged(texts, "replica").decode().splitlines()
    assert 'mmadapters_rows_total{model="genres",replica="a"} 3.0' in lines
    assert 'mmadapters_rows_total{model="genres",replica="b"} 13.0' in lines
    # Every family is described once, and nothing of a single text is lost.
    described = [line for line in lines if line.startswith("# TYPE")]
    assert len(described) == len(set(described)) == texts["a"].count("# TYPE")
    series = [line for line in lines if not line.startswith("#")]
    assert len(series) == sum(1 for text in texts.values() for line in text.splitlines() if not line.startswith("#"))
    assert merged({}, "replica") == b""


def test_an_application_has_the_settings_of_the_server(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    application = ray_application(
        {
            "models": {"genres": {"folder": "genres"}},
            "batching": {"max_batch": 16},
            "limits": {"max_concurrent_requests": 10},
            "ray": {"replicas": 2, "max_replicas": 5, "cpus": 3, "gpus": 0.5},
        }
    )
    deployment = application._bound_deployment
    config, digests = deployment.init_args
    # A replica works in another folder than this one.
    assert config.models["genres"].folder == str(models / "genres")
    assert len(digests["genres"]) == 64
    assert deployment.name == "mmadapters"
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 5, 16)
    assert deployment.ray_actor_options == {"num_cpus": 3, "num_gpus": 0.5}
    # What is too much is turned away by the replica, so it has to reach it.
    assert deployment.max_ongoing_requests > 10
    fixed = build(config_of(models, "genres", ray=RayServeConfig(3)))._bound_deployment
    assert fixed.num_replicas == 3
    with pytest.raises(ConfigurationError, match=r"ray\.replica is unknown. Did you mean 'replicas'\?"):
        ray_application({"models": {"genres": {"folder": "genres"}}, "ray": {"replica": 2}})
    with pytest.raises(ArtefactError, match="nowhere"):
        ray_application({"models": {"genres": {"folder": "nowhere"}}})


def replica_of(folder: Path, *names: str, **settings: Any) -> Replica:
    return Replica(*build(config_of(folder, *names, **settings))._bound_deployment.init_args)


@pytest.mark.usefixtures("quiet")
def test_a_replica_answers_other_parts_of_an_application(models: Path) -> None:
    rows = movie_rows(6, seed=1)
    given = [feature_row(row, "genres") for row in rows.itertuples()]
    replica = replica_of(models, "genres", "budget")
    app = replica.__serve_build_asgi_app__()

    async def ask() -> dict[str, Any]:
        async with app.router.lifespan_context(app):
            replica.check_health()
            for rows, model, message in (
                ([{"text": "war"}], "mode", "no model 'mode'"),
                ([{"txt": "war"}], None, r"rows\.0\.txt: "),
                ([{"text": "war"}] * 2000, None, "2,000 rows were given; the limit is"),
                ([{"text": "war", "features": {"viewers": [1.0]}}], None, "viewers"),
            ):
                with pytest.raises(DataError, match=message):
                    await replica.predict(rows, model)
            return await replica.predict(given)

    answer = asyncio.run(ask())
    assert answer["model"] == "genres"
    np.testing.assert_allclose(scores_of(answer["predictions"]), expected_scores(models, "genres", rows), atol=1e-5)


@pytest.mark.usefixtures("quiet")
def test_other_weights_under_the_same_name_do_not_start(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "genres", tmp_path / "genres")
    config, digests = build(config_of(tmp_path, "genres"))._bound_deployment.init_args
    shutil.rmtree(tmp_path / "genres")
    shutil.copytree(models / "country", tmp_path / "genres")
    with pytest.raises(ArtefactError, match="'genres' in '.*' is another one on this machine"):
        Replica(config, digests)


@pytest.mark.usefixtures("quiet")
def test_a_replica_whose_model_has_stopped_says_so(models: Path) -> None:
    replica = replica_of(models, "genres")
    app = replica.__serve_build_asgi_app__()

    async def stop() -> None:
        async with app.router.lifespan_context(app):
            replica.check_health()
            for batcher in app.state.service._batchers.values():
                await batcher.close()
            with pytest.raises(RuntimeError, match="thread has ended"):
                replica.check_health()

    asyncio.run(stop())


def test_an_address_that_is_taken_is_refused_before_ray_starts(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: Any, **named: Any) -> Any:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray_server, "connected", never)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = config_of(models, "genres", port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="in use"):
            ray_server.serve_on_ray(config)
    with pytest.raises(ConfigurationError, match="token"):
        ray_server.serve_on_ray(dataclasses.replace(config, port=0, token_file=str(models / "no-token")))


class FakeServe:
    """Ray Serve as far as a start needs it: what its status says, and what running does."""

    def __init__(self, run: Callable[[], None], message: str) -> None:
        deployments = {"mmadapters": SimpleNamespace(message=message)}
        self._applications = {"mmadapters": SimpleNamespace(message="Deploying.", deployments=deployments)}
        self._run = run

    def run(self, *given: Any, **named: Any) -> None:
        self._run()

    def status(self) -> Any:
        return SimpleNamespace(applications=self._applications)


def test_replicas_that_do_not_start_are_an_error_with_the_reason() -> None:
    broken = RuntimeError("the deployment failed")

    def fail() -> None:
        raise broken

    trace = "Traceback:\n  File ...\nmmadapters.errors.ArtefactError: the weights differ."
    with pytest.raises(
        WorkerError, match="cannot be started: .*ArtefactError: the weights differ. Every node"
    ) as found:
        ray_server._start(FakeServe(fail, trace), None, 60.0, threading.Event())
    assert found.value.__cause__ is broken
    with pytest.raises(WorkerError, match="cannot be started: Deploying. Every node"):
        ray_server._start(FakeServe(fail, ""), None, 60.0, threading.Event())
    waiting = threading.Event()

    def wait() -> None:
        waiting.wait(60)

    with pytest.raises(WorkerError, match="did not start within 0.4 s: no CPU is free. Every node"):
        ray_server._start(FakeServe(wait, "no CPU is free"), None, 0.4, threading.Event())
    # Whoever ends the server meanwhile is not told of it.
    ended = threading.Event()
    ended.set()
    ray_server._start(FakeServe(wait, ""), None, 60.0, ended)
    waiting.set()


@dataclass
class RayServer:
    """A server with two replicas.

    Attributes:
        process: ``mmadapters serve``.
        port: Where it listens.
        lines: What it wrote to standard error until now.
        reader: Reads them.
    """

    process: subprocess.Popen[str]
    port: int
    lines: list[str]
    reader: threading.Thread

    def call(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, dict[str, str], Any]:
        headers = {**JSON, "Authorization": f"Bearer {token}"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            text = body if body is None or isinstance(body, str) else json.dumps(body)
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.headers.get_content_type()
            return answer.status, dict(answer.headers), json.loads(content) if "json" in kind else content.decode()

    def replicas(self) -> dict[int, psutil.Process]:
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "ServeReplica:mmadapters" in " ".join(child.cmdline()):
                    found[child.pid] = child
            except psutil.NoSuchProcess:
                continue
        return found


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServer]:
    token = tmp_path_factory.mktemp("ray-serve") / "token"
    token.write_text(TOKEN)
    command = [sys.executable, "-m", "mmadapters", "serve"]
    command += [f"{name}={models / name}" for name in ("genres", "budget")]
    settings = {"ray.replicas": 2, "token_file": token, "limits.max_rows": 8, "limits.max_request_bytes": 20000}
    command += ["--engine", "ray", "--port", "0"]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            port = listening_port(process.stderr, lines)
            reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
            reader.start()
            yield RayServer(process, port, lines, reader)
            process.terminate()
            process.wait(SECONDS)
            reader.join(SECONDS)
        finally:
            process.kill()


slow = [pytest.mark.slow, pytest.mark.timeout(1200)]


class TestTwoReplicas:
    """In this order, since the last of them ends the server."""

    pytestmark = slow

    def test_they_answer_as_one_process_and_share_the_work(self, server: RayServer, models: Path) -> None:
        rows = movie_rows(40, seed=1)
        given = list(rows.itertuples())

        def ask(place: int) -> np.ndarray:
            model = ("genres", "budget")[place % 2]
            body = {"model": model, "rows": [feature_row(given[place // 2], model)]}
            status, headers, answer = server.call("POST", "/predict/features", body)
            assert status == 200, answer
            assert "x-request-id" in {name.lower() for name in headers}
            return scores_of(answer["predictions"])[0]

        with ThreadPoolExecutor(8) as callers:
            scores = list(callers.map(ask, range(80)))
        for first, model in enumerate(("genres", "budget")):
            np.testing.assert_allclose(scores[first::2], expected_scores(models, model, rows), rtol=1e-5, atol=1e-5)
        status, _, text = server.call("GET", "/metrics")
        assert status == 200
        done = re.findall(r'^mmadapters_rows_total\{model="(\w+)",replica="(\w+)"\} ([\d.]+)', text, re.MULTILINE)
        by_replica: dict[str, float] = {}
        for _, replica, number in done:
            by_replica[replica] = by_replica.get(replica, 0.0) + float(number)
        assert len(by_replica) == 2
        assert sum(by_replica.values()) == 80
        assert min(by_replica.values()) > 0

    def test_errors_are_those_of_one_process(self, server: RayServer) -> None:
        good = {"rows": [{"text": "war"}]}
        for method, path, body, token, status in (
            ("POST", "/predict/features", good, "wrong", 401),
            ("GET", "/nowhere", None, TOKEN, 404),
            ("POST", "/predict/features", {"model": "mode", **good}, TOKEN, 404),
            ("GET", "/predict/features", None, TOKEN, 405),
            ("POST", "/predict/features", {"rows": [{"text": "x" * 30_000}]}, TOKEN, 413),
            ("POST", "/predict/features", "{", TOKEN, 400),
            ("POST", "/predict/features", {"rows": [{"text": "war"}] * 9}, TOKEN, 422),
        ):
            got, headers, answer = server.call(method, path, body, token)
            assert (path, got) == (path, status)
            assert headers.get("content-type", headers.get("Content-Type")) == "application/problem+json"
            assert answer["status"] == status
            assert "Traceback" not in json.dumps(answer)
        assert server.call("POST", "/predict/features", good)[0] == 200
        assert server.call("GET", "/-/healthz", token="")[0] == 200
        assert server.call("GET", "/healthz", token="")[2]["ready"] is True

    def test_one_that_is_killed_is_replaced_while_the_other_answers(self, server: RayServer) -> None:
        before = server.replicas()
        assert len(before) == 2
        killed, left = before
        before[killed].kill()
        until, answered = time.monotonic() + SECONDS, 0
        while time.monotonic() < until:
            # What the killed one had at work is lost, and the caller is told so; nothing hangs.
            status, _, _ = server.call("POST", "/predict/features", {"rows": [{"text": "war"}]})
            assert status in (200, 500, 503)
            answered += status == 200
            now = server.replicas()
            if len(now) == 2 and killed not in now:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("no other replica was started")
        assert left in now
        assert answered > 0
        until = time.monotonic() + SECONDS
        while len(set(re.findall(r'replica="(\w+)"', server.call("GET", "/metrics")[2]))) < 2:
            assert time.monotonic() < until, "the other replica never answered"
            time.sleep(0.5)

    def test_a_signal_under_load_loses_nothing(self, server: RayServer) -> None:
        headers = {**JSON, "Authorization": f"Bearer {TOKEN}"}
        callers = [Caller(server.port, headers, CLOSED) for _ in range(16)]
        for caller in callers:
            caller.start()
        while min(len(caller.statuses) for caller in callers) < 3:
            assert all(caller.is_alive() for caller in callers)
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert server.process.wait(SECONDS) == 0
        for thread in (*callers, server.reader):
            thread.join(SECONDS)
        assert [caller.broken for caller in callers] == [[]] * 16
        assert {status for caller in callers for status in caller.statuses} == {200}
        _, left = psutil.wait_procs(processes, timeout=30)
        assert left == []
        assert "graceful_shutdown failed" not in "".join(server.lines)


def test_a_library_that_is_not_there_is_named() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from mmadapters.cli.main import main\n"
        "sys.argv = ['mmadapters', 'serve', 'nowhere', '--engine', 'ray', '--port', '0']\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ended.returncode != 0
    assert "mmadapters[ray-serve]" in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr
