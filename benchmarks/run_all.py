"""Run every experiment under benchmarks/ that has a ``config.yaml`` and no ``result.json``; ``make bench`` does so.

An experiment that fails does not keep the others from being run; the exit status then is 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from experiment import read_config, runner_of

from mmadapters.cli.console import step

BENCHMARKS = Path(__file__).parent
ADAPTERHUB_ENVIRONMENT = BENCHMARKS.parent / ".cache" / "adapterhub"
ADAPTERHUB_VARIABLE = "ADAPTERHUB_PYTHON"


def waiting(benchmarks: Path) -> list[Path]:
    """Return the folders with a configuration and no result."""
    folders = sorted(path.parent for path in benchmarks.glob("**/config.yaml"))
    return [folder for folder in folders if not (folder / "result.json").exists()]


def command(folder: Path, adapterhub: str | None) -> list[str]:
    """Return the command that runs an experiment.

    Args:
        folder: The experiment.
        adapterhub: The interpreter of an environment with AdapterHub's package, or None.

    Raises:
        ValueError: If its configuration does not say which script runs it.
    """
    runner = runner_of(read_config(folder))
    options = ["--adapterhub", adapterhub] if runner == "steps" and adapterhub else []
    return [sys.executable, str(BENCHMARKS / f"{runner}.py"), str(folder), *options]


def adapterhub_python(named: str | None) -> str | None:
    """Return the interpreter that was named, or that of the environment that ``make bench-adapterhub-env`` makes.

    Raises:
        SystemExit: If the one that was named does not exist.
    """
    if named and not Path(named).exists():
        sys.exit(f"{ADAPTERHUB_VARIABLE}={named} does not exist. Give the Python of an environment with `adapters`.")
    made = ADAPTERHUB_ENVIRONMENT / "bin" / "python"
    return named or (str(made) if made.exists() else None)


def main(benchmarks: Path, named_adapterhub: str | None) -> int:
    adapterhub = adapterhub_python(named_adapterhub)
    failed = []
    folders = waiting(benchmarks)
    for folder in folders:
        step(f"running: {folder.name}")
        try:
            status = subprocess.run(command(folder, adapterhub), check=False).returncode
        except ValueError as error:
            step(f"{folder.name}/config.yaml: {error}")
            status = 2
        if status != 0:
            failed.append(folder.name)
    step(f"{len(folders) - len(failed)} experiments run, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, default=BENCHMARKS)
    parser.add_argument(
        "--adapterhub",
        default=os.environ.get(ADAPTERHUB_VARIABLE) or None,
        help=f"Python of an environment with the package `adapters`; by default ${ADAPTERHUB_VARIABLE}.",
    )
    options = parser.parse_args()
    sys.exit(main(options.benchmarks, options.adapterhub))
