"""``mmadapters extract``: what its YAML may say, and a run on a few pictures."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import typer
import yaml
from transformers.utils import logging as transformers_logging
from typer.testing import CliRunner

from mmadapters.cli.extract import extract
from mmadapters.cli.extract_config import ExtractConfig
from mmadapters.cli.settings import load_settings, to_yaml
from mmadapters.errors import ConfigurationError
from mmadapters.features.extractor import ExtractorSpec
from mmadapters.features.store import FeatureStore

sys.path.insert(0, str(Path(__file__).parents[1] / "features"))
SETTINGS: dict[str, Any] = {
    "data": {"rows": "rows.csv", "id": "movie"},
    "modalities": {
        "poster": {"kind": "image", "column": "poster_path", "encoder": "efficientnet-lite0"},
        "trailer": {"kind": "video", "column": "file", "encoder": "a/b", "frames": 8, "pool_mean": True},
        "audio": {"kind": "audio", "column": "file", "preset": "moviescope", "dtype": "float32"},
        "speech": {"kind": "audio", "column": "file", "encoder": "c/d", "clip_seconds": 5},
    },
    "workers": 1,
}


@pytest.fixture(autouse=True)
def _libraries_as_before() -> Iterator[None]:
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    handlers = list(logging.getLogger().handlers)
    yield
    transformers_logging.set_verbosity(verbosity)
    (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()
    logging.getLogger().handlers[:] = handlers


def written(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "extract.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def test_a_yaml_says_what_becomes_features_how(tmp_path: Path) -> None:
    config = load_settings(ExtractConfig, written(tmp_path, SETTINGS), ["modalities.trailer.frames=16"])
    specs = {name: modality.to_spec(name) for name, modality in config.modalities.items()}
    assert specs == {
        "poster": ExtractorSpec("poster", "image", encoder="efficientnet-lite0"),
        "trailer": ExtractorSpec("trailer", "video", encoder="a/b", frames=16),
        "audio": ExtractorSpec("audio", "audio", preset="moviescope"),
        "speech": ExtractorSpec("speech", "audio", encoder="c/d", clip_seconds=5.0),
    }
    assert (config.store, config.data.root, config.modalities["audio"].dtype) == ("runs/features", None, "float32")
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_settings(ExtractConfig, tmp_path / "again.yaml") == config
    whole = load_settings(ExtractConfig, written(tmp_path, SETTINGS), ["modalities.trailer.frame_size=0"])
    assert whole.modalities["trailer"].to_spec("trailer").frame_size is None


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("modalities={}", "modalities is empty"),
        ("modalities.poster.frames=3", "modalities.poster: 'frames' cannot be given for the kind 'image'"),
        ("modalities.poster.pool_mean=true", "'pool_mean' cannot be given for the kind 'image'"),
        ("modalities.trailer.preset=moviescope", "'preset' cannot be given for the kind 'video'"),
        ("modalities.audio.pooling=mean", "'pooling' is given and no encoder"),
        ("modalities.speech.preset=moviescope", "an encoder is given; leave one out"),
        ("modalities.poster.encoder=null", "Modality 'poster' of kind 'image' has no encoder"),
        ("modalities.trailer.frames=0", "Modality 'trailer' was given frames=0"),
        ("modalities.poster.kind=picture", "accepted are 'image', 'video', 'audio'"),
        ("data.ids=movie", "data.ids is unknown. Did you mean 'id'?"),
        ("worker=1", "worker is unknown. Did you mean 'workers'?"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, override: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(ExtractConfig, written(tmp_path, SETTINGS), [override])
    assert problem in str(caught.value)


def invoke(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(extract)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from counting_extractor import save_picture
    from tiny_encoders import save_vit

    media = tmp_path / "media"
    media.mkdir()
    for row in range(3):
        save_picture(media / f"{row}.png", 50 * row)
    (media / "broken.png").write_bytes(b"nothing")
    paths = ["media/0.png", "media/1.png", None, "media/broken.png", "media/2.png", "media/0.png"]
    pd.DataFrame({"movie": range(6), "poster_path": paths}).to_csv(tmp_path / "rows.csv", index=False)
    poster = {"kind": "image", "column": "poster_path", "encoder": str(save_vit(tmp_path / "vit")), "device": "cpu"}
    written(tmp_path, {**SETTINGS, "modalities": {"poster": poster}, "store": "features"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_verb_extracts_and_says_what_it_did(folder: Path) -> None:
    printed = invoke("extract.yaml", "--set", "modalities.poster.dtype=float32")
    assert "6 rows: 0 done before, 6 extracted" in printed
    assert "poster, row 3: " in printed
    cells = next(line for line in printed.splitlines() if "│ poster" in line).split("│")
    assert [cell.strip() for cell in cells[1:-1]] == ["poster", "4", "0", "1", "1", "0", "3"]
    store = FeatureStore.open(folder / "features")
    assert store.ids == tuple("012345")
    assert [store.status(row, "poster") for row in range(6)] == ["ok", "ok", "missing", "error", "ok", "ok"]
    np.testing.assert_array_equal(store.read(0, "poster"), store.read(5, "poster"))
    assert "6 rows: 6 done before, 0 extracted" in invoke("extract.yaml", "--set", "modalities.poster.dtype=float32")
    with pytest.raises(ConfigurationError, match="pooling was pooler, is now mean"):
        invoke("extract.yaml", "--set", "modalities.poster.pooling=mean")
    printed = invoke("extract.yaml", "--set", "modalities.poster.pooling=mean", "--overwrite")
    assert "6 rows: 0 done before, 6 extracted" in printed


def test_jobs_write_parts(folder: Path) -> None:
    for index in range(2):
        invoke("extract.yaml", "--num-shards", 2, "--shard-index", index)
    parts = [FeatureStore.open(folder / "features" / f"part-0000{index}-of-00002") for index in range(2)]
    assert sorted([*parts[0].ids, *parts[1].ids]) == list("012345")


def test_a_root_and_limits_can_be_set(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="limits.max_pixel is unknown. Did you mean 'max_pixels'"):
        invoke("extract.yaml", "--set", "limits.max_pixel=9")
    invoke("extract.yaml", "--set", "limits.max_pixels=19", "--set", "store=small")
    store = FeatureStore.open(folder / "small")
    assert [store.status(row, "poster") for row in range(6)] == ["error", "error", "missing", "error", "error", "error"]
    invoke("extract.yaml", "--set", "data.root=vit", "--set", "store=rooted")
    store = FeatureStore.open(folder / "rooted")
    assert store.status(0, "poster") == "error"


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps its files; the paths of its sockets may not be long."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef0123456789abcdef")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_ray_without_a_cluster_is_this_machine_alone(folder: Path, ray_folder: Path) -> None:
    (folder / "rows.csv").write_text("movie,file\n1,missing.wav\n2,\n")
    written(folder, {**SETTINGS, "modalities": {"sound": {"kind": "audio", "column": "file"}}, "store": "here"})
    invoke("extract.yaml")
    # In a process of its own, which Ray's environment and handlers of signals are left to.
    command = [sys.executable, "-m", "mmadapters", "extract", "extract.yaml", "--engine", "ray", "--set", "store=there"]
    command += ["--set", "ray={cpus: 1, workers: 1}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "2 rows: 0 done before, 2 extracted" in ended.stdout
    # On a busy machine Ray takes longer than the command says nothing for.
    told = [line for line in ended.stderr.splitlines() if "No Ray worker is ready so far" not in line]
    assert told == ["· sound: audio, (T, D), D = 96"]
    for name in ("shard-00000.arrow", "manifest.json"):
        assert (folder / "there" / name).read_bytes() == (folder / "here" / name).read_bytes()
    assert list(ray_folder.iterdir()) == []
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert [line for line in left if any(str(ray_folder) in word for word in line or [])] == []


@pytest.mark.slow
def test_ray_on_this_machine_alone_is_not_to_be_reached_from_another(ray_folder: Path) -> None:
    program = """
import psutil
from mmadapters.features.ray_engine import RayOptions, connected
with connected(RayOptions(cpus=1)) as ray:
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    print(len(listening), *{ip.removeprefix("::ffff:") for ip in listening})
"""
    settings = {"RAY_AUTH_MODE": "", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": ""}
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment
    )
    count, *addresses = ended.stdout.split()
    assert int(count) >= 4, ended.stderr
    assert addresses == ["127.0.0.1"]


def test_ray_settings_that_cannot_be_used(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--ray-address head:6379 is of no use without --engine ray"):
        invoke("extract.yaml", "--ray-address", "head:6379")
    with pytest.raises(ConfigurationError, match="ray.worker is unknown. Did you mean 'workers'?"):
        invoke("extract.yaml", "--engine", "ray", "--set", "ray.worker=2")
    with pytest.raises(ConfigurationError, match="ray.address is unknown"):
        invoke("extract.yaml", "--engine", "ray", "--set", "ray.address=head:6379")
    with pytest.raises(ConfigurationError, match="The Ray address 'ray://head:10001' cannot be used"):
        invoke("extract.yaml", "--engine", "ray", "--ray-address", "ray://head:10001")
