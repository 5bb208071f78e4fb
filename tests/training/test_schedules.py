"""The learning rate's course: the schedules of the Trainer, and the plateau by our metric in its direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import TrainerCallback

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema
from mmadapters.errors import ConfigurationError
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import FitResult, ModelSettings, fit
from mmadapters.training.schedules import schedule_options

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]


class Script(TrainerCallback):
    """Notes the adapters' learning rate at the end of each epoch, before it is evaluated."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self.rates.append(min(group["lr"] for group in kwargs["optimizer"].param_groups))


def run(backbone: Path, validation: bool = True, **options) -> tuple[FitResult, list[float]]:
    random = np.random.default_rng(0)
    words = random.integers(0, len(WORDS), 24)
    frame = pd.DataFrame({"plot": [WORDS[word] for word in words], "kind": [["a", "b"][word % 2] for word in words]})
    preprocessor = Preprocessor.fit(frame, DatasetSchema(text="plot", label="kind"), load_tokenizer(str(backbone)))
    train = preprocessor.transform(frame)
    script = Script()
    chosen = {
        "learning_rate": 1e-2,
        "num_train_epochs": 8,
        "per_device_train_batch_size": 12,
        "early_stopping_patience": None,
        "disable_tqdm": True,
        "use_cpu": True,
        "linear_probe_start": False,
        **options,
    }
    result = fit(
        preprocessor,
        train,
        train if validation else None,
        settings=ModelSettings(backbone=str(backbone)),
        adapter=MultimodalAdapterConfig(bottleneck_size=4),
        arguments=MultimodalTrainingArguments(**chosen),
        callbacks=[script],
    )
    return result, script.rates


def test_a_plateau_halves_the_learning_rate_after_three_evaluations_without_a_better_metric(
    tiny_backbone: Path,
) -> None:
    # Nearly standing still, so that no evaluation is better than the first.
    _, rates = run(tiny_backbone, learning_rate=1e-6, lr_scheduler_type="reduce_lr_on_plateau")
    # Noted before the evaluation of the epoch: it is lowered by those of epochs 4 and 7.
    expected = [1e-6] * 4 + [5e-7] * 3 + [2.5e-7]
    assert rates == pytest.approx(expected, rel=1e-6, abs=0.0)


@pytest.mark.parametrize(("metric", "direction"), [("macro_f1", "max"), ("loss", "min")])
def test_an_improving_metric_is_no_plateau_in_either_direction(
    tiny_backbone: Path, metric: str, direction: str
) -> None:
    result, rates = run(
        tiny_backbone,
        num_train_epochs=5,
        metric_for_best_model=metric,
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "threshold": 0.0, "factor": 0.1},
    )
    values = [entry[f"eval_{metric}"] for entry in result.log if f"eval_{metric}" in entry]
    sign = 1 if direction == "max" else -1
    expected, best = [1e-2], None
    for value in values[:-1]:
        better = best is None or sign * value > sign * best
        best = value if better else best
        expected.append(expected[-1] * (1.0 if better else 0.1))
    assert values[1] != values[0], "the metric must move for this test to say anything"
    assert rates == pytest.approx(expected, rel=1e-6)


def test_linear_and_cosine_end_at_zero(tiny_backbone: Path) -> None:
    _, linear = run(tiny_backbone, num_train_epochs=4, warmup_steps=0)
    assert linear == pytest.approx([7.5e-3, 5e-3, 2.5e-3, 0.0], abs=1e-9)
    _, cosine = run(tiny_backbone, num_train_epochs=4, warmup_steps=0, lr_scheduler_type="cosine")
    expected = [1e-2 * 0.5 * (1 + np.cos(np.pi * share)) for share in (0.25, 0.5, 0.75, 1.0)]
    assert cosine == pytest.approx(expected, abs=1e-9)


def arguments(**options) -> MultimodalTrainingArguments:
    made = MultimodalTrainingArguments(use_cpu=True, **options)
    made.for_run("multi_label_classification", has_validation=True)
    return made


def test_what_the_plateau_looks_at() -> None:
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau"}
    assert schedule_options(arguments(**plateau)) == {"factor": 0.5, "patience": 2, "mode": "max"}
    given = {"lr_scheduler_kwargs": {"patience": 7}, "metric_for_best_model": "loss"}
    assert schedule_options(arguments(**plateau, **given)) == {"factor": 0.5, "patience": 7, "mode": "min"}
    assert schedule_options(arguments(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"power": 2.0})) == {
        "power": 2.0
    }
    with pytest.raises(ConfigurationError, match="of micro_average_precision more is better: mode='max'. Leave it"):
        schedule_options(arguments(**plateau, lr_scheduler_kwargs={"mode": "min"}))


def test_a_schedule_that_cannot_be_made(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigurationError, match="there are no validation rows. Give some, or choose another schedule"):
        run(tiny_backbone, validation=False, lr_scheduler_type="reduce_lr_on_plateau")
    with pytest.raises(
        ConfigurationError, match=r"=cosine cannot be made with lr_scheduler_kwargs=\{'cycles': 2\}: .*cyc"
    ):
        run(tiny_backbone, lr_scheduler_type="cosine", lr_scheduler_kwargs={"cycles": 2})
