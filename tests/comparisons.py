"""Small comparisons whose figures can be worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mmadapters.evaluation.comparison import Contender, RunOutcome, Task, compare_runs

SURE = 4.0
NASTY = "a|b <i>$5"
"""A label that no format may trip over."""


def outcome(test: np.ndarray, validation: np.ndarray, seconds: float = 1.0, **changes: Any) -> RunOutcome:
    return RunOutcome(
        **{
            "logits": {"test": test, "validation": validation},
            "trainable_parameters": 1234,
            "parameters": 99999,
            "file_bytes": 2048,
            "seconds": seconds,
            "peak_memory_bytes": 300 * 2**20,
            "log": [{"loss": 2.0, "epoch": 1.0}, {"eval_loss": 1.0, "eval_micro_average_precision": 0.5, "epoch": 1.0}],
            "settings": {"metric": "micro_average_precision", "epoch": 1.0},
            "versions": {"torch": "2.0"},
            **changes,
        }
    )


def logits_of(targets: np.ndarray, wrong: list[tuple[int, int]]) -> np.ndarray:
    """Logits that are sure and right, but for these rows and labels."""
    logits = np.where(targets > 0, SURE, -SURE).astype(np.float32)
    for row, label in wrong:
        logits[row, label] *= -1
    return logits


def multi_label_task() -> Task:
    targets = np.array([[1, 0], [0, 1], [1, 1], [1, 0]], dtype=np.float32)
    return Task(
        problem_type="multi_label_classification",
        labels=[NASTY, "war"],
        label_counts=[3, 10],
        rows={"train": 20, "validation": 4, "test": 4},
        targets={"validation": targets, "test": targets},
        row_names=["r0", "r1", "r2", "r3"],
        row_texts=["one", "two <script>alert(1)</script>", "three | four", "five"],
    )


CONTENDERS = [
    Contender("ours", "ours", "adapters", ("poster",)),
    Contender("other [all]", "other", "mmbt", ("poster",)),
    Contender("other [text]", "other", "mmbt"),
]


def multi_label_comparison() -> dict[str, Any]:
    """``ours`` with two seeds, ``other [all]`` with one of two, ``other [text]`` with none."""
    task = multi_label_task()
    targets = task.targets["test"]
    right = logits_of(targets, [])
    outcomes = {
        "ours": {
            0: outcome(right, right, seconds=1.0),
            1: outcome(logits_of(targets, [(1, 1)]), right, seconds=3.0, versions={"torch": "2.1"}),
        },
        "other [all]": {0: outcome(logits_of(targets, [(1, 1), (0, 1)]), right)},
    }
    found = compare_runs(
        task,
        CONTENDERS,
        outcomes,
        seeds=[0, 1],
        failures={("other [all]", 1): "it broke | badly\nsecond line"},
        resamples=200,
    )
    return json.loads(json.dumps({**found, "notes": ["A note."]}))
