"""How many validation positives does a threshold of its own need? Logistic regression on the movies' viewers, as data.

``python benchmarks/thresholds/run.py`` writes ``result.json`` beside itself. For each seed thresholds are tuned on one
half of the validation rows and scored on the other, over 30 halvings; the test rows are only reported.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mmadapters.backbones import load_tokenizer
from mmadapters.baselines.frozen_linear import FrozenLinearBaseline
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import MULTI_LABEL
from mmadapters.data.sources.movielens import movie_splits
from mmadapters.demo.movies import SCHEMA
from mmadapters.evaluation import thresholds
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.files import write_json_atomically

SEEDS = (0, 1, 2)
HALVINGS = 30
FEWEST: dict[str, int | None] = {"0.5": None, "1": 1, "3": 3, "5": 5, "10": 10, "20": 20, "40": 40}
METRICS = ("micro_f1", "macro_f1", "accuracy")
TARGET = Path(__file__).with_name("result.json")


def figures(scores: np.ndarray, targets: np.ndarray, labels: list[str], chosen: Any) -> list[float]:
    values = compute_metrics(MULTI_LABEL, scores, targets, labels, chosen).values
    return [values[name] for name in METRICS]


def tuned(scores: np.ndarray, targets: np.ndarray, fewest: int | None) -> Any:
    if fewest is None:
        return thresholds.UNTUNED
    thresholds.FEWEST_POSITIVES = fewest
    return thresholds.tuned_thresholds(scores, targets)


def main() -> None:
    if TARGET.exists():
        sys.exit(f"{TARGET} exists. Results are added, never edited: copy the folder under another name.")
    found: dict[str, dict[str, list[list[float]]]] = {name: {"validation": [], "test": []} for name in FEWEST}
    for seed in SEEDS:
        frames = movie_splits(seed)
        preprocessor = Preprocessor.fit(frames["train"], SCHEMA, load_tokenizer("minilm"))
        targets = {split: np.asarray(preprocessor.transform(frame).labels) for split, frame in frames.items()}
        features = {split: np.stack(frame["viewers"].tolist()) for split, frame in frames.items()}
        labels = [str(label) for label in preprocessor.labels.classes] if preprocessor.labels else []
        model = FrozenLinearBaseline(MULTI_LABEL)
        model.fit(features["train"], targets["train"], features["validation"], targets["validation"])
        scores = {split: model.predict_proba(features[split]) for split in ("validation", "test")}
        of, truth = scores["validation"], targets["validation"]
        for name, fewest in FEWEST.items():
            for halving in range(HALVINGS):
                order = np.random.default_rng(halving).permutation(len(of))
                first, second = order[: len(of) // 2], order[len(of) // 2 :]
                chosen = tuned(of[first], truth[first], fewest)
                found[name]["validation"].append(figures(of[second], truth[second], labels, chosen))
            found[name]["test"].append(figures(scores["test"], targets["test"], labels, tuned(of, truth, fewest)))
    summary = {
        name: {
            split: dict(zip(METRICS, np.round(np.mean(values, axis=0), 4).tolist(), strict=True))
            for split, values in splits.items()
        }
        for name, splits in found.items()
    }
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    write_json_atomically(
        TARGET, {"date": today, "seeds": list(SEEDS), "halvings": HALVINGS, "fewest positives": summary}
    )


if __name__ == "__main__":
    main()
