"""Random single-row reads: the feature store against one .npy file a row and against HDF5, in one run.

``python benchmarks/feature-store/run.py`` writes ``result.json`` beside itself, unless there is one. Every round reads
rows with each contestant in turn, so that whatever else the machine does falls on all of them. Each read ends in a
float32 copy, as a training batch needs it. HDF5 takes part where ``h5py`` can be imported.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mmadapters.cli.console import step
from mmadapters.features.store import FeatureStore, StoreColumn, StoreWriter
from mmadapters.files import write_json_atomically

ROWS = 100_000
SMALL_ROWS = 10_000
NPY_ROWS = 5_000
WIDTH = 256
READS = 5_000
ROUNDS = 11
MEMORY_READS = 200_000
SEED = 0
PACKAGES = ("mmadapters", "numpy", "pyarrow", "h5py")
RESULT = Path(__file__).with_name("result.json")
MEMORY = "--memory"

Read = Callable[[int], np.ndarray]


def main() -> None:
    if RESULT.exists():
        sys.exit(f"{RESULT} exists. Results are added, never edited: copy the folder under another name.")
    vectors = np.random.default_rng(SEED).normal(size=(ROWS, WIDTH)).astype(np.float16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written: dict[str, float] = {}
        written["store"] = timed(lambda: write_store(folder / "store", vectors))
        write_store(folder / "small", vectors[:SMALL_ROWS])
        written["npy"] = timed(lambda: write_npy(folder / "npy", vectors[:NPY_ROWS]))
        contestants = {
            "store": (store_reader(folder / "store"), ROWS),
            "store of 10,000 rows": (store_reader(folder / "small"), SMALL_ROWS),
            "npy": (npy_reader(folder / "npy"), NPY_ROWS),
        }
        if has_h5py():
            written["hdf5"] = timed(lambda: write_hdf5(folder / "rows.h5", vectors))
            contestants["hdf5"] = (hdf5_reader(folder / "rows.h5"), ROWS)
        check(contestants, vectors)
        step("written; reading")
        rounds = read_in_turn(contestants)
        memory = {name: memory_of(folder / name) for name in ("store", "small")}
    write_json_atomically(RESULT, result(rounds, written, memory))
    step(f"written to {RESULT}")


def write_store(folder: Path, vectors: np.ndarray) -> None:
    with StoreWriter(folder, [StoreColumn("image", WIDTH, is_sequence=False)]) as writer:
        for number, vector in enumerate(vectors):
            writer.add(str(number), {"image": vector})


def write_npy(folder: Path, vectors: np.ndarray) -> None:
    folder.mkdir()
    for number, vector in enumerate(vectors):
        np.save(folder / f"{number}.npy", vector)


def write_hdf5(path: Path, vectors: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=vectors)


def store_reader(folder: Path) -> Read:
    store = FeatureStore.open(folder)

    def read(row: int) -> np.ndarray:
        vector = store.read(row, "image")
        assert vector is not None
        return vector.astype(np.float32)

    return read


def npy_reader(folder: Path) -> Read:
    prefix = f"{folder}{os.sep}"
    return lambda row: np.load(f"{prefix}{row}.npy").astype(np.float32)


def hdf5_reader(path: Path) -> Read:
    import h5py

    dataset = h5py.File(path, "r")["image"]
    return lambda row: dataset[row].astype(np.float32)


def check(contestants: dict[str, tuple[Read, int]], vectors: np.ndarray) -> None:
    """Let every contestant read all of its rows once: they must be right, and are then in the page cache for all."""
    for name, (read, rows) in contestants.items():
        for row in range(rows):
            assert np.array_equal(read(row), vectors[row].astype(np.float32)), f"{name}, row {row}"


def read_in_turn(contestants: dict[str, tuple[Read, int]]) -> dict[str, list[float]]:
    """Return microseconds a row of every contestant, round by round."""
    random = np.random.default_rng(SEED + 1)
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, (read, rows) in contestants.items():
            chosen = random.integers(0, rows, READS).tolist()
            started = time.perf_counter()
            for row in chosen:
                read(row)
            rounds[name].append(1e6 * (time.perf_counter() - started) / READS)
    return rounds


def memory_of(folder: Path) -> dict[str, Any]:
    """Measure reading in a process of its own."""
    output = subprocess.run(
        [sys.executable, __file__, MEMORY, str(folder)], check=True, capture_output=True, text=True
    ).stdout
    stages = ("before", "opened", "read", "ids")
    numbers = [[int(number) for number in line.split()] for line in output.splitlines()]
    return {stage: {"private_kB": pair[0], "mapped_kB": pair[1]} for stage, pair in zip(stages, numbers, strict=True)}


def measure_memory(folder: Path) -> None:
    """Print private and mapped kB before opening a store, after it, after many reads, and with an index of ids."""
    print_memory()
    read = store_reader(folder)
    store = FeatureStore.open(folder)
    print_memory()
    random = np.random.default_rng(SEED)
    for _ in range(MEMORY_READS):
        read(int(random.integers(len(store))))
    print_memory()
    store.index_of("0")
    print_memory()


def print_memory() -> None:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    sys.stdout.write(f"{lines['RssAnon'].split()[0]} {lines['RssFile'].split()[0]}\n")


def result(
    rounds: dict[str, list[float]], written: dict[str, float], memory: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)},
        "versions": {"python": platform.python_version()} | {name: installed(name) for name in PACKAGES},
        "rows": {"store": ROWS, "hdf5": ROWS, "store of 10,000 rows": SMALL_ROWS, "npy": NPY_ROWS},
        "width": WIDTH,
        "dtype": "float16",
        "reads_a_round": READS,
        "microseconds_a_row": {
            name: {
                "median": round(statistics.median(times), 2),
                "lowest": round(min(times), 2),
                "highest": round(max(times), 2),
                "median_ratio_to_store": round(
                    statistics.median(a / b for a, b in zip(times, rounds["store"], strict=True)), 2
                ),
                "rounds": [round(value, 2) for value in times],
            }
            for name, times in rounds.items()
        },
        "seconds_to_write": {name: round(seconds, 2) for name, seconds in written.items()},
        "reads_for_memory": MEMORY_READS,
        "memory": {"store": memory["store"], "store of 10,000 rows": memory["small"]},
    }


def timed(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def has_h5py() -> bool:
    return installed("h5py") is not None


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    if sys.argv[1:2] == [MEMORY]:
        measure_memory(Path(sys.argv[2]))
    else:
        main()
