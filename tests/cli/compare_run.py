"""A comparison that is small enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]


def write_comparison_run(folder: Path, backbone: Path, methods: list[Any], seeds: list[int]) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for i in range(60):
        word = random.integers(0, len(WORDS))
        votes = random.normal()
        genres = ["War" if word < 3 else "Peace"] + (["Top"] if votes > 0 else [])
        rows.append(
            {"id": f"m{i}", "plot": WORDS[word], "genres": ";".join(genres), "votes": votes, "year": 1950 + i % 7}
        )
    pd.DataFrame(rows).to_csv(folder / "rows.csv", index=False)
    run = {
        "data": {
            "train": "rows.csv",
            "split": {"validation": 0.25, "test": 0.25},
            "text": "plot",
            "label": "genres",
            "label_separator": ";",
            "id": "id",
        },
        "modalities": {"votes": {"columns": ["votes"]}, "table": {"numeric": ["year"]}},
        "model": {"backbone": str(backbone)},
        "adapter": {"bottleneck_size": 8},
        "training": {"num_train_epochs": 1, "use_cpu": True},
        "compare": {"methods": methods, "seeds": seeds, "resamples": 100},
        "output_dir": "out",
    }
    file = folder / "compare.yaml"
    file.write_text(yaml.safe_dump(run, sort_keys=False))
    return file
