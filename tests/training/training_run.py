"""A small training with all that draws random numbers: for the tests of resumption, also in processes of their own.

``python training_run.py <backbone> <output> [--resume] [--kill-after N]`` trains and saves the weights and the log, or
kills itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save_file
from transformers import TrainerCallback

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import FitResult, ModelSettings, fit

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
STEPS_AN_EPOCH = 5


def rows(n: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    plots = [" ".join(random.choice(WORDS, length)) for length in random.integers(1, 12, n)]
    vectors = random.normal(size=(n, 6)).astype(np.float32)
    labels = [
        [name for name, true in {"war": plot.startswith("war"), "dark": vector[0] > 0}.items() if true]
        for plot, vector in zip(plots, vectors, strict=True)
    ]
    return pd.DataFrame({"plot": plots, "labels": labels, "vector": list(vectors)})


class Killed(BaseException):
    """A process that ends without a word."""


class KillAfter(TrainerCallback):
    """Ends the training after a step, before what belongs to the step's end."""

    def __init__(self, step: int, how: Any) -> None:
        self.step, self.how = step, how

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        if state.global_step + 1 == self.step:
            self.how()


def killed() -> None:
    raise Killed


def train(
    backbone: Path, output: Path | None, *, resume: bool = False, callbacks: Any = (), adapter: Any = None, **options
) -> FitResult:
    frame = rows(40, seed=0)
    schema = DatasetSchema(text="plot", label="labels", modalities=(VectorColumn("poster", "vector"),))
    preprocessor = Preprocessor.fit(frame, schema, load_tokenizer(str(backbone)))
    chosen = {
        "learning_rate": 3e-2,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "checkpoint_steps": 2,
        "early_stopping_patience": 2,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
        **options,
    }
    return fit(
        preprocessor,
        preprocessor.transform(frame),
        preprocessor.transform(rows(20, seed=1)),
        settings=ModelSettings(backbone=str(backbone), head_dropout=0.2),
        adapter=MultimodalAdapterConfig(
            modalities=preprocessor.modalities, bottleneck_size=8, dropout=0.2, modality_dropout=0.2, **(adapter or {})
        ),
        arguments=MultimodalTrainingArguments(output_dir=None if output is None else str(output), **chosen),
        callbacks=callbacks,
        resume=resume,
    )


def weights(result: FitResult) -> dict[str, Any]:
    return {name: value for name, value in result.model.state_dict().items() if "default" in name}


def log(result: FitResult) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    timed = ("runtime", "per_second", "preparation_time")
    return [{name: value for name, value in entry.items() if not name.endswith(timed)} for entry in result.log]


def main() -> None:
    backbone, output = Path(sys.argv[1]), Path(sys.argv[2])
    callbacks = []
    if "--kill-after" in sys.argv:
        callbacks = [KillAfter(int(sys.argv[-1]), lambda: os.kill(os.getpid(), signal.SIGKILL))]
    result = train(backbone, output / "checkpoints", resume="--resume" in sys.argv, callbacks=callbacks)
    save_file(weights(result), output / "weights.safetensors")
    (output / "log.json").write_text(json.dumps(log(result)))


if __name__ == "__main__":
    main()
