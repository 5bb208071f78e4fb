"""Predictions of files in processes that are forked from one with all libraries loaded; one of them is killed.

``python predict_memory.py <model> <folder>`` predicts ``few.jsonl`` and ``many.jsonl``, then ``few.jsonl`` again by a
process that is killed in its second run and by one that goes on, and prints what was found as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from mmadapters.artefact import load_artefact
from mmadapters.predictor.chunks import RowPredictor
from mmadapters.predictor.predict_files import FileOptions, predict_files
from mmadapters.predictor.prediction_file import PredictionFile
from mmadapters.predictor.preparation import RowPreparation

CONTEXT = multiprocessing.get_context("fork")


def predict(model: Path, rows: Path, output: Path, how: str, send: Any) -> None:
    torch.set_num_threads(1)
    artefact = load_artefact(model)
    predictor = RowPredictor(artefact, RowPreparation.of_model(artefact, output.parent / "cache"))
    if how == "killed":
        noted = PredictionFile._note

        def die(self: PredictionFile) -> None:
            if self.runs == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            noted(self)

        PredictionFile._note = die  # type: ignore[method-assign]
    said: list[str] = []
    counts = predict_files(predictor, rows, output, FileOptions(model, resume=how == "resumed"), said.append)
    send.send({**counts, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "said": said})


def child(model: Path, rows: Path, output: Path, how: str = "whole") -> tuple[int, dict[str, Any]]:
    receive, send = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=predict, args=(model, rows, output, how, send))
    process.start()
    # Else a process that died would be waited for.
    send.close()
    try:
        found = receive.recv()
    except EOFError:
        found = {}
    process.join()
    return int(process.exitcode or 0), found


def main() -> None:
    model, folder = map(Path, sys.argv[1:])
    found: dict[str, Any] = {}
    for name in ("few", "many"):
        found[name] = child(model, folder / f"{name}.jsonl", folder / f"{name}.csv")[1]
    found["killed"], _ = child(model, folder / "few.jsonl", folder / "killed.csv", "killed")
    _, resumed = child(model, folder / "few.jsonl", folder / "killed.csv", "resumed")
    found["rows_before"] = int(resumed["said"][0].split()[3].replace(",", ""))
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
