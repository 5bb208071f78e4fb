"""``mmadapters store``: what its verbs print and write, and their exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mmadapters.cli.console import file_size
from mmadapters.cli.store import app
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store import FeatureStore, StoreColumn, StoreWriter, store_info

COLUMNS = [
    StoreColumn("poster", 3, is_sequence=False, fingerprint="[bold]encoder[/bold]"),
    StoreColumn("trailer", 2, is_sequence=True, dtype="float32", pool_mean=True),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five rows in three shards; the last has no poster."""
    folder = tmp_path / "features"
    with StoreWriter(folder, COLUMNS, rows_per_shard=2) as writer:
        for number in range(5):
            poster = np.full(3, number, np.float32) if number < 4 else None
            writer.add(f"tt{number}", {"poster": poster, "trailer": np.ones((number, 2))})
    return folder


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_whole_store_verifies(store: Path) -> None:
    size = store_info(store)["bytes"]
    result = command("verify", store)
    assert result.exit_code == 0
    assert result.stdout == f"5 rows in 3 shards, {file_size(size)}: nothing is damaged\n"
    result = command("verify", store, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"ok": True, "rows": 5, "shards": 3, "bytes": size, "problems": []}


def test_damage_is_printed_and_is_the_exit_status(store: Path) -> None:
    (store / "shard-00001.arrow").unlink()
    result = command("verify", store)
    assert result.exit_code == 1
    assert f"The shard '{store / 'shard-00001.arrow'}' of the manifest cannot be read" in result.stdout
    assert result.stdout.endswith(" kB: 1 problem\n")
    result = command("verify", store, "--json")
    assert result.exit_code == 1
    reported = json.loads(result.stdout)
    assert reported["ok"] is False
    assert len(reported["problems"]) == 1


def test_stores_are_compacted(store: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "more", COLUMNS) as writer:
        writer.add("tt9", {})
    result = command("compact", store, tmp_path / "more", "--output", tmp_path / "all")
    assert result.exit_code == 0
    assert "6 rows in 1 shard," in result.stderr
    assert FeatureStore.open(tmp_path / "all").ids == ("tt0", "tt1", "tt2", "tt3", "tt4", "tt9")
    result = command("compact", store, "-o", tmp_path / "all")
    assert isinstance(result.exception, ConfigurationError)


def test_a_store_is_exported(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.parquet"
    result = command("export", store, "--parquet", target)
    assert result.exit_code == 0
    assert f"written to {target}" in result.stderr.replace("\n", "")
    assert parquet.read_table(target)["poster"].to_pylist() == [[0.0] * 3, [1.0] * 3, [2.0] * 3, [3.0] * 3, None]
    frame = pd.read_parquet(target)
    assert frame["id"].tolist() == [f"tt{number}" for number in range(5)]
    np.testing.assert_array_equal(np.stack(frame["poster"][:4]), np.repeat(np.arange(4.0), 3).reshape(4, 3))
    assert frame["poster"][4] is None
    assert frame["poster_status"].tolist() == ["ok"] * 4 + ["missing"]
    assert [np.stack(steps).tolist() for steps in frame["trailer"][1:]] == [[[1.0, 1.0]] * n for n in range(1, 5)]
    np.testing.assert_array_equal(np.stack(frame["trailer_mean"][1:]), np.ones((4, 2)))
    assert command("export", store).exit_code == 2


def test_a_store_is_described(store: Path) -> None:
    result = command("info", store, "--json")
    assert json.loads(result.stdout) == store_info(store)
    result = command("info", store)
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert f"folder: {store}" in said
    assert "rows: 5 shards: 3" in said
    assert "│ poster │ (3,) │ float16 │ missing 1, ok 4 │" in said
    assert "│ trailer │ (T, 2), 10 steps and means │ float32 │ ok 5 │" in said
    assert "fingerprint of poster: [bold]encoder[/bold]" in said
    assert "fingerprint of trailer: none" in said


def test_a_store_without_rows_is_described(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, COLUMNS):
        pass
    result = command("info", tmp_path)
    assert result.exit_code == 0
    assert "written by: nothing yet" in result.stdout
    assert "no rows" in result.stdout


@pytest.mark.parametrize("verb", ["verify", "info"])
def test_what_is_no_store_is_an_error(tmp_path: Path, verb: str) -> None:
    result = command(verb, tmp_path)
    assert isinstance(result.exception, DataError)
    assert "is no feature store" in str(result.exception)


def test_help_lists_the_verbs_and_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from mmadapters.cli.store import app\n"
        "try:\n"
        "    app(['--help'])\n"
        "except SystemExit:\n"
        "    print([name for name in ('numpy', 'pyarrow', 'torch', 'pandas') if name in sys.modules])\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for verb in ("verify", "compact", "export", "info"):
        assert verb in printed
    assert printed.splitlines()[-1] == "[]"
