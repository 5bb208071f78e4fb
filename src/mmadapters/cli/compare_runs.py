"""Makes the runs of a comparison that are not finished, one after the other, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmadapters.cli.compare_worker import Job

if TYPE_CHECKING:
    from mmadapters.evaluation.run_files import PlannedRun

JOB_FILE = "job.json"
SECONDS_TO_END = 10.0

Launch = Callable[[Job, Path], int]
"""Does a job whose file is at the path, and returns the exit status; negative for a signal."""


def make_runs(
    output: Path,
    runs: Sequence[PlannedRun],
    jobs: Mapping[tuple[str, int], Job],
    report: Callable[[str], None],
    launch: Launch | None = None,
) -> None:
    """Make the runs that have no result with their digest; one that fails is recorded and does not end the others.

    Args:
        output: Folder of the comparison.
        runs: In the order in which they are made.
        jobs: What to do, by contender and seed.
        report: Called with lines for a person.
        launch: Does a job; ``launch_process`` where absent.
    """
    from mmadapters.evaluation.run_files import FAILURE_FILE, LOG_FILE, read_failure, read_outcome
    from mmadapters.evaluation.run_files import write_failure as record
    from mmadapters.files import write_json_atomically

    waiting = [run for run in runs if read_outcome(output / run.folder, run.digest) is None]
    if len(waiting) < len(runs):
        report(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished with these settings and rows, and kept")
    for index, run in enumerate(waiting, start=1):
        report(f"run {index} of {len(waiting)}: {run.contender}, seed {run.seed}")
        folder = output / run.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        write_json_atomically(folder / JOB_FILE, asdict(jobs[run.contender, run.seed]))
        started = time.monotonic()
        status = (launch or launch_process)(jobs[run.contender, run.seed], folder / JOB_FILE)
        outcome = read_outcome(folder, run.digest)
        if outcome is not None:
            memory = outcome.peak_memory_bytes / 2**20
            report(f"  {time.monotonic() - started:.0f} s, of them {outcome.seconds:.1f} s training; {memory:.0f} MiB")
            continue
        message = read_failure(folder, run.digest)
        if message is None:
            message = _of_status(status)
            record(folder, run.digest, message)
        report(f"  failed: {message} All it said is in {folder / LOG_FILE}")


def launch_process(job: Job, file: Path) -> int:
    """Do a job in a process of its own, which ends when this one does.

    What the process says goes to ``log.txt`` in the run's folder.

    Args:
        job: What to do.
        file: Where it stands.
    """
    from mmadapters.evaluation.run_files import LOG_FILE

    with (Path(job.folder) / LOG_FILE).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmadapters.cli.compare_worker", str(file)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _of_status(status: int) -> str:
    if status >= 0:
        return f"The run's process ended with status {status} and no result."
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " The system does this when memory runs out; try a smaller batch." if name == "SIGKILL" else ""
    return f"The run's process was ended by {name}.{hint}"
