"""Throughput and latency of a server with micro-batching against one row at a time, as data.

``python benchmarks/serving.py <folder>`` reads ``<folder>/config.yaml`` and writes ``<folder>/result.json``. A result
is never overwritten: a new experiment is a new folder. Each contender is a server process of its own; they take turns,
and who has no turn is idle. Callers are threads of this process, each with a connection that stays open.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from experiment import Experiment

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.artefact import Artefact, save_artefact
from mmadapters.backbones import load_tokenizer
from mmadapters.cli.console import prepare_libraries, step
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.training.fit import ModelSettings, build_model

WORDS = ("the", "of", "a", "in", "war", "love", "robot", "city", "night", "ghost", "king", "school", "river", "winter")
PATH = "/predict/features"
SAME = 1e-5
"""How far the answers of two servers to the same request may be apart."""


def main(folder: Path) -> None:
    experiment = Experiment(folder)
    config = experiment.config
    prepare_libraries(progress=False)
    torch.manual_seed(config["seed"])
    with tempfile.TemporaryDirectory(prefix="mmadapters-bench-") as temporary, ExitStack() as running:
        model = Path(temporary) / "model"
        rows = made_rows(config, 512)
        save_model(config, rows, model)
        bodies = [request_body(config, row) for row in rows.to_dict("records")]
        ports = {
            name: running.enter_context(server(model, options, config["threads"]))
            for name, options in config["servers"].items()
        }
        for port in ports.values():
            load_server(port, bodies, 4 * config["callers"], config["callers"])
        apart = largest_difference(ports, bodies[:32])
        if apart > SAME:
            raise SystemExit(f"The servers answer the same request differently, by up to {apart:g}.")
        turns = measured_turns(experiment, ports, bodies)
        batches = {name: mean_batch(port) for name, port in ports.items()}
    experiment.finish(
        load_after=round(os.getloadavg()[0], 2),
        largest_difference=apart,
        servers={
            name: {
                **summary(turns[name]),
                **ratios(turns[name], turns[config["reference"]]),
                "rows_a_batch": batches[name],
            }
            for name in turns
        },
    )


def made_rows(config: Mapping[str, Any], count: int) -> pd.DataFrame:
    random = np.random.default_rng(config["seed"])
    least, most = config["words"]
    texts = [" ".join(random.choice(WORDS, int(random.integers(least, most + 1)))) for _ in range(count)]
    frame = pd.DataFrame({"text": texts, "label": [f"label {row % config['labels']}" for row in range(count)]})
    for name, width in config["vectors"].items():
        frame[name] = list(random.normal(size=(count, width)).astype(np.float32))
    return frame


def save_model(config: Mapping[str, Any], rows: pd.DataFrame, folder: Path) -> None:
    """Save a model that has learned nothing, which takes the same time."""
    settings = ModelSettings(backbone=config["backbone"])
    columns = tuple(VectorColumn(name, name) for name in config["vectors"])
    preprocessor = Preprocessor.fit(rows, DatasetSchema("text", "label", columns), load_tokenizer(settings.backbone))
    adapter = MultimodalAdapterConfig(modalities=preprocessor.modalities)
    model = build_model(preprocessor, settings, adapter)
    for name, parameter in model.named_parameters():
        if "mmadapter_" in name and parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.02)
    save_artefact(Artefact(model.eval(), preprocessor, settings), folder)


def request_body(config: Mapping[str, Any], row: Mapping[str, Any]) -> bytes:
    features = {name: [round(float(value), 4) for value in row[name]] for name in config["vectors"]}
    return json.dumps({"rows": [{"text": row["text"], "features": features}]}).encode()


@contextmanager
def server(model: Path, options: Mapping[str, Any], threads: int) -> Iterator[int]:
    """Run a server, and give its port."""
    changes = [part for name, value in options.items() for part in ("--set", f"batching.{name}={value}")]
    command = [sys.executable, "-m", "mmadapters", "serve", str(model), "--port", "0", *changes]
    command += ["--set", "log_requests=false"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield port_of(process)
        finally:
            process.terminate()
            process.wait(60)


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"listening at http://127\.0\.0\.1:(\d+)", line):
            port = int(found[1])
            threading.Thread(target=lambda: list(process.stderr or ()), daemon=True).start()
            wait_until_ready(port)
            return port
    raise SystemExit(f"A server did not start: {''.join(said)}")


def wait_until_ready(port: int) -> None:
    for _ in range(600):
        try:
            if call(http.client.HTTPConnection("127.0.0.1", port, timeout=10), "GET", "/healthz")[0] == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("A server did not get ready within a minute.")


def call(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def load_server(port: int, bodies: Sequence[bytes], requests: int, callers: int) -> dict[str, Any]:
    """Send requests from several callers, each the next one as soon as it is answered.

    Returns:
        ``seconds`` in all, ``failed`` requests, and the sorted ``latencies`` of the others in seconds.
    """
    numbers = iter(range(requests))
    lock = threading.Lock()
    latencies: list[float] = []
    failed: list[str] = []

    def caller() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            started = time.perf_counter()
            try:
                status, _ = call(connection, "POST", PATH, bodies[number % len(bodies)])
                problem = "" if status == 200 else f"status {status}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
                connection.close()
            seconds = time.perf_counter() - started
            with lock:
                failed.append(problem) if problem else latencies.append(seconds)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": time.perf_counter() - started, "failed": failed, "latencies": sorted(latencies)}


def measured_turns(
    experiment: Experiment, ports: Mapping[str, int], bodies: Sequence[bytes]
) -> dict[str, list[dict[str, Any]]]:
    config = experiment.config
    requests = config["requests"] // config["turns"]
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in ports}
    for turn in range(config["turns"]):
        for name, port in ports.items():
            found = experiment.part(
                f"turn {turn + 1}, {name}",
                lambda port=port: of_turn(requests, load_server(port, bodies, requests, config["callers"])),
            )
            turns[name].append(found)
            step(f"{name}: {found['requests_a_second']} requests a second")
    return turns


def of_turn(requests: int, loaded: Mapping[str, Any]) -> dict[str, Any]:
    latencies = loaded["latencies"]
    return {
        "requests": requests,
        "failed": len(loaded["failed"]),
        "first_failure": next(iter(loaded["failed"]), None),
        "seconds": round(loaded["seconds"], 2),
        "requests_a_second": round(len(latencies) / loaded["seconds"], 1),
        "milliseconds": {f"p{share}": round(1000 * percentile(latencies, share), 1) for share in (50, 95, 99)},
    }


def percentile(ordered: Sequence[float], share: int) -> float:
    """Return the smallest value that at least a share, in percent, of all values do not exceed; NaN of none."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)] if ordered else float("nan")


def summary(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return sums and medians over turns."""
    return {
        "requests": sum(turn["requests"] for turn in turns),
        "failed": sum(turn["failed"] for turn in turns),
        "requests_a_second": median(turn["requests_a_second"] for turn in turns),
        "milliseconds": {share: median(t["milliseconds"][share] for t in turns) for share in ("p50", "p95", "p99")},
        "turns": list(turns),
    }


def ratios(turns: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the throughput of turns over that of the reference's, pair by pair."""
    pairs = [
        round(own["requests_a_second"] / other["requests_a_second"], 3)
        for own, other in zip(turns, reference, strict=True)
    ]
    return {"times_reference": median(pairs), "times_reference_by_turn": pairs}


def largest_difference(ports: Mapping[str, int], bodies: Sequence[bytes]) -> float:
    answers = []
    for port in ports.values():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        found = [json.loads(call(connection, "POST", PATH, body)[1])["predictions"][0] for body in bodies]
        answers.append(np.array([list(row["probabilities"].values()) for row in found]))
    return float(max(np.abs(answer - answers[0]).max() for answer in answers))


def mean_batch(port: int) -> float:
    text = call(http.client.HTTPConnection("127.0.0.1", port, timeout=10), "GET", "/metrics")[1].decode()
    rows, batches = (
        float(re.search(rf"^mmadapters_batch_rows_{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("sum", "count")
    )
    return round(rows / batches, 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
