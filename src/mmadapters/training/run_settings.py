"""What decides the outcome of a training, as plain values: two runs with the same are the same, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from typing import Any

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError
from mmadapters.training.arguments import MultimodalTrainingArguments

WITHOUT_CONSEQUENCE = {
    "output_dir",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "save_on_each_node",
    "checkpoint_steps",
    "tune_thresholds",
    "resume_from_checkpoint",
    "run_name",
    "project",
    "report_to",
    "disable_tqdm",
    "log_level",
    "log_level_replica",
    "log_on_each_node",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context",
    "dataloader_in_order",
    "ddp_timeout",
    "skip_memory_metrics",
    "eval_accumulation_steps",
    "torch_empty_cache_steps",
}
"""Training arguments that may differ in a run that goes on; so may those whose names start as below."""
PREFIXES_WITHOUT_CONSEQUENCE = ("hub_", "push_to_hub", "trackio", "logging_dir")
MOST_NAMED = 8


def run_settings(
    model: Any,
    adapter: MultimodalAdapterConfig,
    arguments: MultimodalTrainingArguments,
    train: MultimodalDataset | StreamedDataset,
    validation: MultimodalDataset | None,
    labels: list[str],
) -> dict[str, Any]:
    """Return the settings of a run.

    Args:
        model: ``ModelSettings``.
        adapter: The adapters.
        arguments: The training arguments.
        train: The training rows; of them and of the validation rows a digest is kept.
        validation: The validation rows, or None.
        labels: Label names in the order of the logits.
    """
    settings = {
        "model": asdict(model),
        "adapter": adapter.to_dict(),
        "training": {
            entry.name: getattr(arguments, entry.name)
            for entry in fields(arguments)
            if entry.name not in WITHOUT_CONSEQUENCE and not entry.name.startswith(PREFIXES_WITHOUT_CONSEQUENCE)
        },
        "processes": arguments.world_size,
        "labels": labels,
        "training rows": train.digest(),
        "validation rows": None if validation is None else validation.digest(),
    }
    return json.loads(json.dumps(settings, default=_plain))


def check_same_settings(saved: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with a run under other settings.

    Args:
        saved: Of the run that is to go on.
        given: Of the one that wants to.
        where: The checkpoint, for the message.

    Raises:
        ConfigurationError: If something differs; the message names it.
    """
    found = list(differences(saved, given))
    if found:
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise ConfigurationError(
            f"The checkpoint '{where}' is of a run with other settings: {'; '.join(found[:MOST_NAMED])}{more}. "
            "Go on with the settings that it was started with, or start a new run with another output_dir."
        )


def differences(saved: Any, given: Any, name: str = "") -> Iterator[str]:
    """Yield what differs between two settings of plain values, for a message.

    Args:
        saved: As they were.
        given: As they are.
        name: What stands in front of the settings' names.
    """
    if isinstance(saved, Mapping) and isinstance(given, Mapping):
        for key in dict.fromkeys([*saved, *given]):
            yield from differences(saved.get(key), given.get(key), f"{name}.{key}" if name else key)
    elif saved != given:
        is_data = name.endswith(" rows") and saved is not None and given is not None
        yield f"the {name} are others" if is_data else f"{name} was {saved!r} and is {given!r}"


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
