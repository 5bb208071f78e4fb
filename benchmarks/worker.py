"""A contender's process: ``python benchmarks/worker.py <specification as JSON>`` answers on standard output.

``step 2`` is answered with the mean seconds of two steps, any other part of the contender (``infer``, ``batch``)
likewise, and ``end 0`` with what is known of the contender and its process. Each answer is one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import torch


def make_contender(specification: dict[str, Any]) -> Any:
    """Return the contender that is asked for: of a data set with many rows, an exported form, or of a batch."""
    if "rows" in specification:
        from rows import ROW_CONTENDERS

        return ROW_CONTENDERS[specification["contender"]](specification["rows"])
    if "exported_form" in specification:
        from exported_forms import ExportedForm

        return ExportedForm(specification["contender"], specification["exported_form"])
    from contenders import Contender

    return Contender(specification["contender"], specification["shape"])


def serve(specification: dict[str, Any], questions: Iterable[str], answers: TextIO) -> None:
    """Make the contender and answer until ``end``.

    Args:
        specification: ``contender``, ``threads``, and ``shape``, ``rows`` or ``exported_form``.
        questions: Lines of a part and a number of repetitions.
        answers: Where the answers go.
    """
    torch.set_num_threads(specification["threads"])
    contender = make_contender(specification)
    say(answers, "ready")
    for line in questions:
        part, count = line.split()
        if part == "end":
            say(answers, ending(contender))
            return
        call = getattr(contender, part)
        started = time.perf_counter()
        for _ in range(int(count)):
            call()
        say(answers, (time.perf_counter() - started) / int(count))


def ending(contender: Any) -> dict[str, Any]:
    """Return what is known in the end: the peak first, as counting and saving may need more memory."""
    known = {"peak_megabytes": round(peak_bytes() / 2**20), **contender.known()}
    if hasattr(contender, "saved_bytes"):
        from products import count_products

        for part in contender.parts:
            counted = count_products(lambda part=part: getattr(contender, part)(eagerly=True))
            known[f"{part}_gigaflops"] = round(counted / 1e9, 6)
        known["file_megabytes"] = round(contender.saved_bytes() / 1e6, 3)
    return known


def peak_bytes() -> int:
    """Return the most memory that this process ever had.

    ``ru_maxrss`` is at least what the parent had when it started the process, so the kernel's own mark of the program
    is taken where there is one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def say(answers: TextIO, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    # Deprecations of the libraries are nothing that a measurement has to tell.
    warnings.filterwarnings("ignore")
    # What a library prints goes where it does not mix with the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(json.loads(sys.argv[1]), sys.stdin, output)
