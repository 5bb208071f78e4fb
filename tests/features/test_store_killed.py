"""A writer killed with SIGKILL at every step: what was committed is there, once, and going on gives the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from store_helpers import COLUMNS, assert_holds, files, write
from store_killed import OFTEN, OTHER_COLUMNS, ROWS, do_not_wait, run

from mmadapters.features.store import FeatureStore, verify
from mmadapters.features.store_format import MANIFEST

PROGRAM = Path(__file__).with_name("store_killed.py")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", do_not_wait)


def killed(tmp_path: Path, scenario: str) -> tuple[list[str], list[Path]]:
    """The steps of a scenario, and a folder for every time that it was killed."""
    process = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), str(tmp_path), scenario],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout), sorted(tmp_path.glob("killed-*")) + sorted(tmp_path.glob("often-*"))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["new", "append"])
def test_going_on_after_a_kill_gives_the_bytes_of_an_uninterrupted_run(tmp_path: Path, scenario: str) -> None:
    steps, folders = killed(tmp_path, scenario)
    shards = 4 if scenario == "new" else 2
    assert steps.count("replace") == 2 * shards + (scenario == "new")
    assert steps.count("write") >= 3 * shards
    whole = files(tmp_path / "whole" / "store")
    assert len(folders) == len(steps) + OFTEN
    rows_seen = set()
    for folder in folders:
        store = folder / "store"
        if (store / MANIFEST).exists():
            opened = FeatureStore.open(store)
            assert_holds(opened, range(len(opened)))
            assert verify(store).ok
            rows_seen.add(len(opened))
        run(scenario, folder)
        assert files(store) == whole, folder.name
    # Of the store of 3 rows, the last shard has one row, and shards are not filled up.
    assert rows_seen == ({0, 2, 4, 6, 7} if scenario == "new" else {3, 5, 7})
    assert_holds(FeatureStore.open(tmp_path / "whole" / "store"), range(ROWS))


def test_overwriting_that_is_killed_leaves_the_old_store_or_a_new_one(tmp_path: Path) -> None:
    steps, folders = killed(tmp_path, "overwrite")
    assert "unlink" in steps
    write(tmp_path / "fresh", range(ROWS))
    fresh = files(tmp_path / "fresh")
    assert files(tmp_path / "whole" / "store") == fresh
    seen = set()
    for folder in folders:
        opened = FeatureStore.open(folder / "store")
        is_new = opened.columns == tuple(COLUMNS)
        assert is_new or (opened.columns == tuple(OTHER_COLUMNS) and len(opened) == 5)
        assert_holds(opened, range(len(opened)))
        assert verify(folder / "store").ok
        seen.add(is_new)
        run("overwrite", folder)
        assert files(folder / "store") == fresh, folder.name
    assert seen == {True, False}


def test_compacting_that_is_killed_leaves_nothing_or_all(tmp_path: Path) -> None:
    steps, folders = killed(tmp_path, "compact")
    whole = files(tmp_path / "whole" / "compact")
    assert sorted(whole) == [MANIFEST, "shard-00000.arrow", "shard-00001.arrow"]
    source = files(tmp_path / "whole" / "store")
    seen = set()
    for folder in folders:
        done = (folder / "compact").exists()
        seen.add(done)
        assert not done or files(folder / "compact") == whole
        run("compact", folder)
        assert files(folder / "compact") == whole
        assert files(folder / "store") == source
    assert seen == {True, False}
