"""Extraction on a Ray cluster of two nodes on this machine: the bytes of a local run, whatever happens to a node."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from counting_extractor import MeanColour, save_picture
from ray_extractors import Broken, Deadly, Drifting, Held, OnTwoNodes, Unportable, Wide, wait_for

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features import ray_workers
from mmadapters.features.extract import ExtractionOptions, ExtractionSummary, MediaSource, extract
from mmadapters.features.extractor import ExtractorSpec, build_extractor
from mmadapters.features.guard import GuardedPool
from mmadapters.features.ray_engine import RayOptions
from mmadapters.features.store import FeatureStore, StoreWriter
from mmadapters.features.store_format import MANIFEST
from mmadapters.features.worker_pool import WorkerError

SHADES = [10, 20, 10, 30, 40, 50, 60, 70, 80, 90, 20, 100, 110, 120, 130, 140, 150, 160, 10, 170, 30]
"""Of the pictures of rows 0 to 20; three to a chunk."""
HERTZ = [440, 440, 880, 550, 440, 660, 880]
"""Of the sounds; row ``r`` has number ``r % 7``."""
QUICK_TO_SEE_THE_DEAD = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 2,
}


@dataclass
class TwoNodes:
    """A head and a second node, a CPU each; both are on the loopback interface and ask for a token."""

    cluster: Any
    second: Any
    settings: dict[str, Any]

    @property
    def options(self) -> RayOptions:
        return RayOptions(address=self.cluster.address, cpus=1)

    def kill_second(self) -> None:
        raylet = psutil.Process(self.second.all_processes["raylet"][0].process.pid)
        processes = [raylet, *raylet.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=10)
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None

    def replace_second(self) -> None:
        if self.second is None:
            self.second = self.cluster.add_node(**self.settings)


@pytest.fixture(scope="module")
def running_nodes() -> Iterator[TwoNodes]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    (folder / "ray").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        from ray.cluster_utils import Cluster

        terminated = signal.getsignal(signal.SIGTERM)
        settings = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
        head = {**settings, "include_dashboard": False, "_system_config": QUICK_TO_SEE_THE_DEAD}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield TwoNodes(cluster, cluster.add_node(**settings), settings)
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
            signal.signal(signal.SIGTERM, terminated)


@pytest.fixture
def nodes(running_nodes: TwoNodes) -> TwoNodes:
    running_nodes.replace_second()
    return running_nodes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for row, shade in enumerate(SHADES):
        save_picture(folder / f"{row}.png", shade)
    for number, hertz in enumerate(HERTZ):
        tone = np.sin(2 * np.pi * hertz * np.arange(8000) / 16000)
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((tone * 2**14).astype("<i2").tobytes())
    for name in ("broken", "again"):
        (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


@pytest.fixture(scope="module")
def pool() -> Iterator[GuardedPool]:
    with GuardedPool(1) as pool:
        yield pool


def table(n: int = len(SHADES)) -> pd.DataFrame:
    pictures: list[str | None] = [f"{row}.png" for row in range(n)]
    sounds: list[str | None] = [f"{row % len(HERTZ)}.wav" for row in range(n)]
    for row, cell in {1: "broken.png", 5: "again.png", 7: None, 9: "nowhere.png", 16: "broken.png"}.items():
        if row < n:
            pictures[row] = cell
    for row, cell in {2: None, 8: "0.png", 13: "nowhere.wav"}.items():
        if row < n:
            sounds[row] = cell
    return pd.DataFrame({"id": [f"m{row}" for row in range(n)], "picture": pictures, "sound": sounds})


def sources(picture: Any = None) -> list[MediaSource]:
    sound = build_extractor(ExtractorSpec("sound", "audio"))
    return [MediaSource("picture", picture or MeanColour()), MediaSource("sound", sound, pool_mean=True)]


def run(
    root: Path, store: Path, entries: list[MediaSource], where: GuardedPool | TwoNodes | RayOptions, **options: Any
) -> ExtractionSummary:
    rows = options.pop("rows", table())
    settings = {"rows_per_shard": 3, "workers": 1, **options}
    if isinstance(where, GuardedPool):
        return extract(rows, entries, store, ExtractionOptions("id", root, **settings), where)
    ray = where.options if isinstance(where, TwoNodes) else where
    return extract(rows, entries, store, ExtractionOptions("id", root, ray=ray, **settings))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


@pytest.mark.slow
def test_two_nodes_make_the_store_of_a_local_run(
    nodes: TwoNodes, root: Path, pool: GuardedPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_encoders import save_vit

    save_vit(tmp_path / "vit")
    # The nodes have another working folder.
    monkeypatch.chdir(tmp_path)
    scene = build_extractor(ExtractorSpec("scene", "image", encoder="vit", batch_size=2, device="cpu"))
    local = run(root, tmp_path / "local", [*sources(), MediaSource("picture", scene, "float32")], pool)
    relative = Path(os.path.relpath(root))
    entries = [*sources(OnTwoNodes(tmp_path)), MediaSource("picture", scene, "float32")]
    there = run(relative, tmp_path / "ray", entries, nodes)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert len(list(tmp_path.glob("encoding-*"))) == 2
    for name, modality in local.modalities.items():
        assert there.modalities[name].to_dict() == modality.to_dict()
    assert local.modalities["poster"].statuses == {"ok": 16, "error": 4, "missing": 1}


def test_a_node_that_is_killed_in_mid_run_changes_nothing(
    nodes: TwoNodes, root: Path, pool: GuardedPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = table()
    # A broken file that several chunks have would let some be done twice, which no node shall have to die for.
    rows.loc[[5, 16], "picture"] = "nowhere.png"
    run(root, tmp_path / "local", sources(Wide()), pool, rows=rows)
    seen: dict[str, Any] = {}

    def kill() -> None:
        # The victim has rows in hand and others that were not fetched, and those of an earlier chunk are in the store.
        wait_for(tmp_path, "victim-3")
        wait_for(tmp_path / "ray", MANIFEST)
        while not (done := len(FeatureStore.open(tmp_path / "ray"))):
            threading.Event().wait(0.02)
        seen["done"] = done
        nodes.kill_second()
        (tmp_path / "killed").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level(logging.WARNING, logger="mmadapters"):
        summary = run(root, tmp_path / "ray", sources(Held(tmp_path, nodes.second.node_id)), nodes, rows=rows)
    killer.join(timeout=60)
    assert 0 < seen["done"] < len(SHADES)
    assert nodes.second is None
    assert "A Ray worker on 127.0.0.1 ended; another one does its rows." in caplog.text
    assert "The features of some rows went down with their node; they are made again." in caplog.text
    assert summary.extracted == len(SHADES)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_in_either_way(
    nodes: TwoNodes, root: Path, pool: GuardedPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, tmp_path / "local", sources(), pool)
    commit, left = StoreWriter.commit, [2]

    def interrupted(writer: StoreWriter) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        commit(writer)

    monkeypatch.setattr(StoreWriter, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "ray", sources(), nodes)
    monkeypatch.setattr(StoreWriter, "commit", commit)
    assert len(FeatureStore.open(tmp_path / "ray")) == 6
    shutil.copytree(tmp_path / "ray", tmp_path / "mixed")
    assert run(root, tmp_path / "ray", sources(), nodes).done_before == 6
    assert run(root, tmp_path / "mixed", sources(), pool).done_before == 6
    assert contents(tmp_path / "ray") == contents(tmp_path / "mixed") == contents(tmp_path / "local")


def test_jobs_that_share_the_rows(nodes: TwoNodes, root: Path, pool: GuardedPool, tmp_path: Path) -> None:
    share = {"num_shards": 4, "shard_index": 2}
    part = run(root, tmp_path / "local", sources(), pool, **share).store.name
    run(root, tmp_path / "ray", sources(), nodes, **share)
    assert contents(tmp_path / "ray" / part) == contents(tmp_path / "local" / part)


@pytest.mark.slow
def test_workers_that_cannot_do_their_work_end_the_run(
    nodes: TwoNodes, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(3)
    with pytest.raises(
        ConfigurationError, match=r"The Ray node 127.0.0.1 would .*\n- 'poster': weights is a here, b there"
    ):
        run(root, tmp_path / "drifting", sources(Drifting()), nodes, rows=rows)
    with pytest.raises(WorkerError, match=r"on the Ray node 127.0.0.1 failed: .*there is no such library here"):
        run(root, tmp_path / "broken", sources(Broken()), nodes, rows=rows)
    with pytest.raises(
        ConfigurationError, match="extractor of 'poster' cannot be sent to the nodes of a Ray cluster: cannot"
    ):
        run(root, tmp_path / "unportable", sources(Unportable()), nodes, rows=rows)
    monkeypatch.setattr(ray_workers, "_ATTEMPTS", 2)
    with pytest.raises(WorkerError, match="The same rows ended 2 Ray workers, the last one with: "):
        run(root, tmp_path / "deadly", sources(Deadly()), nodes, rows=rows)
    monkeypatch.setattr(ray_workers, "_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(ray_workers, "_PATIENCE_SECONDS", 0.3)
    with pytest.raises(
        ConfigurationError, match="no Ray worker has become ready. Each takes 2 CPUs and 0 GPUs, and .* has 2 CPUs"
    ):
        run(root, tmp_path / "large", sources(), RayOptions(nodes.cluster.address, cpus=2), rows=rows)


def test_without_ray_the_package_to_install_is_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "mmadapters\[ray\]"'):
        run(root, tmp_path / "store", sources(), RayOptions(address="127.0.0.1:9"))


def test_options_that_cannot_be_used(root: Path, pool: GuardedPool, tmp_path: Path) -> None:
    for options, problem in [
        ({"workers": 0}, "ray.workers=0"),
        ({"cpus": 0}, "ray.cpus=0"),
        ({"cpus": 1.5}, "ray.cpus=1.5"),
        ({"gpus": -1}, "ray.gpus=-1"),
        ({"gpus": 1.5}, "ray.gpus=1.5"),
        ({"address": "ray://head:10001"}, "does not go through Ray's client"),
    ]:
        with pytest.raises(ConfigurationError, match=problem):
            RayOptions(**options)
    with pytest.raises(ConfigurationError, match="a pool and Ray options"):
        extract(table(), sources(), tmp_path / "s", ExtractionOptions("id", root, ray=RayOptions()), pool)
