"""An extraction killed by SIGKILL at every step, then resumed: the bytes of one that was not."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from counting_extractor import MeanColour, save_picture
from extract_killed import STEPS

from mmadapters.features.extract import ExtractionOptions, ExtractionSummary, MediaSource, extract
from mmadapters.features.guard import GuardedPool
from mmadapters.features.store import FeatureStore, verify

SHADES = [10, 20, 10, 30, 40, 20, 50, 60, 10, 70]
SHARED: list[GuardedPool] = []
PROGRAM = Path(__file__).with_name("extract_killed.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for row, shade in enumerate(SHADES):
        save_picture(folder / f"{row}.png", shade)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _shared_pool() -> Iterator[None]:
    with GuardedPool(1) as pool:
        SHARED.append(pool)
        yield
        SHARED.clear()


@pytest.fixture(scope="module")
def whole(root: Path, _shared_pool: None) -> dict[str, bytes]:
    run(root, root / "whole")
    return contents(root / "whole")


def run(root: Path, store: Path) -> ExtractionSummary:
    rows = len(SHADES)
    frame = pd.DataFrame({"id": [f"m{row}" for row in range(rows)], "path": [f"{row}.png" for row in range(rows)]})
    options = ExtractionOptions("id", root, rows_per_shard=4)
    return extract(frame, [MediaSource("path", MeanColour())], store, options, SHARED[0])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def killed(root: Path, store: Path, step: str, passes: int) -> None:
    arguments = [str(root), str(store), step, str(passes), str(len(SHADES))]
    ended = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_run_goes_on_where_it_was(root: Path, whole: dict[str, bytes], tmp_path: Path, step: str) -> None:
    # One row at a time is added ten times in all, everything else happens once a chunk.
    passes = 5 if step == "before a row" else 1
    killed(root, tmp_path / "store", step, passes)
    done = len(FeatureStore.open(tmp_path / "store"))
    assert done == (8 if step == "after the commit" else 4)
    assert verify(tmp_path / "store").problems == ()
    summary = run(root, tmp_path / "store")
    assert (summary.done_before, summary.extracted) == (done, len(SHADES) - done)
    assert contents(tmp_path / "store") == whole


def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(
    root: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    for step in ("before encoding", "between index and commit", "after the commit", "between index and commit"):
        killed(root, tmp_path / "store", step, 0)
    assert run(root, tmp_path / "store").extracted == 6
    assert contents(tmp_path / "store") == whole
