"""``train.yaml`` and ``extract.yaml`` of a published data set, with the protocol of the original experiments.

The original research code trains with AdamW at 1e-4 (weight decay 0.01, none on biases and LayerNorms, one learning
rate for adapters and head), halves the learning rate after 2 epochs without a better validation metric, stops after 10,
and weighs the loss by N / frequency. Texts have at most 512 tokens; the adapters' bottleneck is 64 wide, and one
modality is fused by the complementary gate, several by one gate each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

EXTRACT_FILE = "extract.yaml"
TRAIN_FILE = "train.yaml"
PICTURES = "pictures"
"""Store that ``extract.yaml`` writes."""

_COMMENT = """\
# {command}
# The text alone: mmadapters train {file} --set adapter.fusion=none --set output_dir={output_dir}-text
# The protocol of the original experiments: optimiser, schedule, early stopping, class weights, text length. Learning
# rate and batch size of their published runs are not known: these are their code's default, and 128 examples a step as
# the same authors use elsewhere. It takes many epochs; the defaults of mmadapters apply where `training` is left out.
"""


@dataclass(frozen=True)
class RunFile:
    """What a data set's ``train.yaml`` says beside the protocol.

    Attributes:
        name: Of the data set, for the folder of the results.
        text: Column of the text, or two for a pair.
        label: Column of the label or labels.
        problem_type: Multi-label or single-label classification.
        metric: Validation metric that decides.
        modalities: Settings of each modality, in the order of the model.
        splits: Splits with labels, of ``train``, ``validation`` and ``test``.
    """

    name: str
    text: str | tuple[str, ...]
    label: str
    problem_type: str
    metric: str
    modalities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    splits: Sequence[str] = ("train", "validation", "test")


def train_yaml(run: RunFile, seed: int, needs_extraction: bool) -> str:
    """Return the content of ``train.yaml``.

    Args:
        run: What is particular to the data set.
        seed: Of the training.
        needs_extraction: Whether ``extract.yaml`` is to be run before.
    """
    output_dir = f"runs/{run.name}"
    command = f"mmadapters train {TRAIN_FILE}; with several seeds, as in the original: --seeds 1-5"
    if needs_extraction:
        command = f"After mmadapters extract {EXTRACT_FILE}: {command}"
    sections: dict[str, Any] = {
        "data": {
            **{split: f"{split}.parquet" for split in run.splits},
            "text": list(run.text) if isinstance(run.text, tuple) else run.text,
            "label": run.label,
            "problem_type": run.problem_type,
            "id": "id",
            "max_length": 512,
        },
        "modalities": dict(run.modalities),
        "model": {
            "backbone": "google-bert/bert-base-uncased",
            "pooling": "pooler",
            "head": "mlp",
            "head_dropout": 0.0,
        },
        "adapter": {"bottleneck_size": 64, "dropout": 0.0, "feature_dropout": 0.0},
        "training": {
            "learning_rate": 1e-4,
            "head_learning_rate_multiplier": 1.0,
            "weight_decay": 0.01,
            "class_weights": True,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 16,
            "train_sampling_strategy": "random",
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "lr_scheduler_kwargs": {"factor": 0.5, "patience": 2},
            "num_train_epochs": 100,
            "early_stopping_patience": 10,
            "metric_for_best_model": run.metric,
            "linear_probe_start": False,
            "label_prior_start": False,
            "ema_decay": None,
        },
        "output_dir": output_dir,
        "seed": seed,
    }
    if not run.modalities:
        del sections["modalities"]
    elif len(run.modalities) == 1:
        sections["adapter"]["fusion"] = "complementary"
    return _COMMENT.format(command=command, file=TRAIN_FILE, output_dir=output_dir) + _lines(sections)


def extract_yaml(modalities: Mapping[str, Mapping[str, Any]], root: str) -> str:
    """Return the content of ``extract.yaml``.

    Args:
        modalities: Settings of each modality's media.
        root: Folder of the data set as it was published, from which paths start.
    """
    sections = {
        "data": {"rows": "rows.parquet", "id": "id", "root": root},
        "modalities": dict(modalities),
        "store": PICTURES,
    }
    comment = (
        f"# Pictures to features, once: mmadapters extract {EXTRACT_FILE}\n"
        "# Any other encoder can be named, such as timm:resnet152.a1_in1k.\n"
    )
    return comment + _lines(sections)


def picture_extraction(column: str) -> dict[str, Any]:
    """Return the settings of a modality of ``extract.yaml`` whose files are pictures."""
    return {"kind": "image", "column": column, "encoder": "efficientnet-lite0"}


def _lines(sections: Mapping[str, Any]) -> str:
    """Return YAML with one line for each entry of a section."""
    lines = []
    for name, value in sections.items():
        if isinstance(value, Mapping):
            lines.append(f"{name}:")
            lines += [f"  {key}: {_inline(entry)}" for key, entry in value.items()]
        else:
            lines.append(f"{name}: {_inline(value)}")
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
