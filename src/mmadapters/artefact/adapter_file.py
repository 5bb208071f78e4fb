"""What ``adapter_config.json`` may hold, and the configuration that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmadapters.adapters.config import MultimodalAdapterConfig, MultimodalAdapterType
from mmadapters.adapters.sites import SITE_NAMES
from mmadapters.artefact.files import ADAPTER_CONFIG_FILE, checked, read_json
from mmadapters.artefact.pipeline_file import CODE_KEYS, MODALITY, MOST_LABELS, MOST_MODALITIES, WIDEST
from mmadapters.artefact.values import (
    Check,
    UnfitValue,
    either,
    fields,
    list_of,
    nothing,
    nullable,
    number,
    one_of,
    text,
    truth,
    whole,
)
from mmadapters.classifier import PROBLEM_TYPES
from mmadapters.errors import ArtefactError, ConfigurationError

PEFT_TYPE = MultimodalAdapterType.MULTIMODAL_ADAPTER.value
TASK_TYPE = "SEQ_CLS"
MOST_LAYERS = 10_000
WIDEST_BOTTLENECK = 2**16
MOST_MEMBERS = 100

_LAYER = whole(-MOST_LAYERS, MOST_LAYERS)
_LAYERS = list_of(_LAYER, MOST_LAYERS)
_WORD = text(100, pattern="[a-z_]+", shape="of small letters and '_'")
_PATH = text(500, pattern=r"[A-Za-z0-9_.]*", shape="a path of modules")
_SHARE = number(0.0, 0.999999)

_OPTIONS: dict[str, Check] = {
    "task_type": nullable(one_of(TASK_TYPE)),
    "peft_version": nullable(text(200)),
    # Not followed: the backbone is that of pipeline.json.
    "base_model_name_or_path": nullable(text(4096, empty=True)),
    "revision": nullable(text(200)),
    "inference_mode": truth,
    "modalities": list_of(MODALITY, MOST_MODALITIES),
    "bottleneck_size": whole(1, WIDEST_BOTTLENECK),
    "fusion": nullable(_WORD),
    "non_linearity": _WORD,
    "dropout": _SHARE,
    "feature_dropout": _SHARE,
    "modality_dropout": _SHARE,
    "up_init_std": number(0.0, 1e6),
    "share_projections": truth,
    "pre_projection_size": nullable(whole(1, WIDEST)),
    "sites": list_of(one_of(*SITE_NAMES), len(SITE_NAMES), at_least=1),
    "layers_to_transform": nullable(either("a number of a layer or a list of them", _LAYER, _LAYERS)),
    "leave_out": _LAYERS,
    "labels": nullable(list_of(text(empty=True), MOST_LABELS, at_least=1)),
    "problem_type": nullable(one_of(*PROBLEM_TYPES)),
    "modules_to_save": nullable(list_of(_PATH, 100)),
    "encoder_sites": nullable(fields({"layers": _PATH, "attention": _PATH, "feed_forward": _PATH})),
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_pattern"), nothing),
    **dict.fromkeys(CODE_KEYS, nothing),
}
_MEMBER = fields({"peft_type": one_of(PEFT_TYPE)}, {**_OPTIONS, "members": nullable(list_of(nothing, 0))})
_ADAPTER = fields(
    {"peft_type": one_of(PEFT_TYPE)},
    {
        **_OPTIONS,
        "members": nullable(
            list_of(fields({"name": text(200, pattern=r"[^.\x00-\x1f]+"), "config": _MEMBER}), MOST_MEMBERS)
        ),
    },
)


def read_adapter_config(folder: Path, content: bytes | None = None) -> MultimodalAdapterConfig:
    """Return the configuration that an artefact's ``adapter_config.json`` describes, after looking at all of it.

    Args:
        folder: The artefact's.
        content: What is in the file, where it has been read.

    Raises:
        ArtefactError: If the file cannot be read, or holds what it should not.
    """
    path = folder / ADAPTER_CONFIG_FILE
    values = read_json(folder, ADAPTER_CONFIG_FILE, content)
    for key in CODE_KEYS:
        if values.get(key) is not None:
            raise ArtefactError(
                f"'{path}' has the key '{key}', by which code would be loaded. Artefacts never bring code; remove it."
            )
    # A newer PEFT writes keys that this one does not know; where they say nothing, they change nothing.
    values = {key: value for key, value in values.items() if value is not None or key in _OPTIONS}
    checked(path, _ADAPTER, values)
    try:
        return MultimodalAdapterConfig(**_without_type(values))
    except (ConfigurationError, ValueError, TypeError) as error:
        raise ArtefactError(f"'{path}' cannot be used: {error}") from error


def check_reads(config: MultimodalAdapterConfig, pipeline: Mapping[str, Any], path: Path) -> None:
    """Check that adapters and preprocessing belong together.

    Args:
        config: The adapters.
        pipeline: What ``pipeline.json`` holds.
        path: The adapters' file, for messages.

    Raises:
        ArtefactError: If the adapters read a modality that is not prepared, or of another width, or have other labels.
    """

    def check(_: Any, where: str) -> None:
        prepared = {entry["name"]: entry["feature_dim"] for entry in pipeline["preprocessor"]["modalities"]}
        for modality in config.modalities:
            if prepared.get(modality.name) != modality.feature_dim:
                there = prepared.get(modality.name, "not there")
                raise UnfitValue(
                    f"The modality '{modality.name}' is {modality.feature_dim} wide for the adapters and in "
                    f"pipeline.json {there}."
                )
        if config.labels is not None and list(config.labels) != pipeline["labels"]:
            raise UnfitValue("labels are others than those in pipeline.json.")
        if config.problem_type not in (None, pipeline["problem_type"]):
            raise UnfitValue(f"problem_type is {config.problem_type!r}, and another in pipeline.json.")

    checked(path, check, None)


def _without_type(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a configuration, its members' included."""
    arguments = {key: value for key, value in values.items() if key != "peft_type"}
    arguments["members"] = [
        {"name": member["name"], "config": _without_type(member["config"])} for member in values.get("members") or []
    ]
    return arguments
