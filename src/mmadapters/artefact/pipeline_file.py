"""What ``pipeline.json`` may hold: a table, and how its parts have to fit together.

A key is added by a line in the table. Keys that the table does not have are passed over, since a newer version may
write more of them; what changes the meaning of the others raises ``FORMAT_VERSION``.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from mmadapters.artefact.files import PIPELINE_FILE, checked, read_json
from mmadapters.artefact.places import backbone_name, encoder_name, store_path
from mmadapters.artefact.record import RECORD
from mmadapters.artefact.values import (
    NAME_LENGTH,
    Check,
    UnfitValue,
    either,
    fail,
    fields,
    kinds,
    list_of,
    mapping_of,
    nothing,
    nullable,
    number,
    one_of,
    plain,
    text,
    truth,
    whole,
)
from mmadapters.classifier import HEADS, POOLINGS, PROBLEM_TYPES
from mmadapters.errors import ArtefactError
from mmadapters.features.extractor import EncoderPooling, MediaKind
from mmadapters.modality import MODALITY_KINDS, MODALITY_POOLINGS

FORMAT_VERSION = 1
CODE_KEYS = ("auto_map", "auto_mapping", "trust_remote_code", "code_revision", "custom_pipelines", "runtime_config")
"""Keys by which libraries are told to load code."""

MOST_LABELS = 1_000_000
MOST_MODALITIES = 256
MOST_COLUMNS = 100_000
MOST_CATEGORIES = 1_000_000
WIDEST = 2**24
"""Of a feature vector."""

LICENSE = text(100, pattern=r"[A-Za-z0-9][A-Za-z0-9.+_-]*", shape="such as apache-2.0 or other")

_NAME = text(100, pattern=r"[A-Za-z_][A-Za-z0-9_\-]*", shape="of letters, digits, '_' and '-'")
_COLUMN = text()
_COLUMNS = list_of(_COLUMN, MOST_COLUMNS)
_COLUMN_OR_COLUMNS = either("the name of a column, or a list of names", _COLUMN, _COLUMNS)
_CATEGORIES = list_of(text(100_000, empty=True), MOST_CATEGORIES)
_PROBLEM = one_of(*PROBLEM_TYPES)
_LIMIT = whole(1, 10**9)
_DIGEST = text(64, pattern="[0-9a-f]{64}", shape="64 hexadecimal digits")

MODALITY = fields(
    {"name": _NAME, "feature_dim": whole(1, WIDEST)},
    {
        "kind": one_of(*MODALITY_KINDS),
        "required": truth,
        "pooling": nullable(one_of(*MODALITY_POOLINGS)),
        "bottleneck_size": nullable(whole(1, WIDEST)),
    },
)
_TABULAR = fields(
    {
        "numeric": list_of(fields({"column": _COLUMN, "mean": number(), "std": number(0.0)}), MOST_COLUMNS),
        "categorical": list_of(fields({"column": _COLUMN, "categories": _CATEGORIES}), MOST_COLUMNS),
        "max_categories": _LIMIT,
        "min_frequency": _LIMIT,
    },
    {
        "multi_valued": list_of(fields({"column": _COLUMN, "categories": _CATEGORIES}), MOST_COLUMNS),
        "value_separator": text(1000),
    },
)
_LABELS = fields(
    {
        "problem_type": _PROBLEM,
        "label_separator": nullable(text(1000)),
        "classes": list_of(either("text, a number or a truth value", text(), number(), truth), MOST_LABELS),
        "indicator_columns": truth,
    }
)


_COUNT = whole(0, 10**15)
_SUMMARY = fields(
    {},
    {
        "parameters": mapping_of(_COUNT, 1000),
        "adapters": _COUNT,
        "backbone": _COUNT,
        "share_of_backbone": number(0.0),
    },
    others=True,
)


def _schema(local_paths: bool) -> Check:
    sources = {
        "vector": fields({"kind": text(), "name": _NAME, "column": _COLUMN_OR_COLUMNS}),
        "tabular": fields(
            {"kind": text(), "name": _NAME},
            {
                "numeric": _COLUMNS,
                "categorical": _COLUMNS,
                "multi_valued": _COLUMNS,
                "max_categories": _LIMIT,
                "min_frequency": _LIMIT,
                "value_separator": text(1000),
            },
        ),
        "store": fields(
            {"kind": text(), "name": _NAME, "store": store_path(local_paths)},
            {"column": nullable(_COLUMN), "pooling": nullable(one_of("mean")), "id": nullable(_COLUMN)},
        ),
    }
    return fields(
        {"text": _COLUMN_OR_COLUMNS},
        {
            "label": nullable(_COLUMN_OR_COLUMNS),
            "modalities": list_of(kinds(sources), MOST_MODALITIES),
            "problem_type": nullable(_PROBLEM),
            "label_separator": nullable(text(1000)),
            "id": nullable(_COLUMN),
        },
    )


def pipeline_check(local_paths: bool, local_backbone: bool) -> Check:
    """Return the table of ``pipeline.json``.

    Args:
        local_paths: Whether full paths of feature stores and media encoders are accepted.
        local_backbone: Whether the full path of a backbone is.
    """
    return fields(
        {
            "format_version": whole(1, FORMAT_VERSION),
            "model": fields(
                {"backbone": backbone_name(local_backbone), "pooling": one_of(*POOLINGS), "head": one_of(*HEADS)},
                {"head_dropout": nullable(number(0.0, 0.999))},
            ),
            "backbone_digest": _DIGEST,
            "problem_type": _PROBLEM,
            "labels": list_of(text(empty=True), MOST_LABELS, at_least=1),
            "threshold": number(),
            "batch_size": whole(1, 1_000_000),
            "preprocessor": fields(
                {
                    "schema": _schema(local_paths),
                    "labels": nullable(_LABELS),
                    "tabular": mapping_of(_TABULAR, MOST_MODALITIES, key=_NAME),
                    "modalities": list_of(MODALITY, MOST_MODALITIES),
                    "max_length": whole(1, 10_000_000),
                },
                {"fingerprints": mapping_of(text(100_000, empty=True), MOST_MODALITIES, key=_NAME)},
            ),
        },
        {
            "thresholds": nullable(list_of(number(), MOST_LABELS)),
            "max_tokens_per_batch": nullable(whole(1, 10**9)),
            "metrics": mapping_of(mapping_of(number(), 1000), 100),
            "versions": mapping_of(text(100), 1000),
            "backbone_revision": nullable(text(40, pattern="[0-9a-f]{7,40}", shape="a commit")),
            "license": nullable(LICENSE),
            "summary": _SUMMARY,
            "record": nullable(RECORD),
            "sha256": mapping_of(_DIGEST, 10),
            "predictor": _predictor(local_paths),
            **dict.fromkeys(CODE_KEYS, nothing),
        },
        others=True,
    )


def _predictor(local_paths: bool) -> Check:
    """Return a check for what is kept of rows as people have them: above all how raw media become features."""
    spec = fields(
        {"name": _NAME, "kind": one_of(*get_args(MediaKind))},
        {
            "encoder": nullable(encoder_name(local_paths)),
            "revision": nullable(text(255, pattern=r"[A-Za-z0-9][A-Za-z0-9._/-]*", shape="a branch, tag or commit")),
            "pooling": one_of(*get_args(EncoderPooling)),
            "frames": whole(1, 100_000),
            "frame_size": nullable(whole(1, 16_384)),
            "preset": text(100),
            "clip_seconds": number(0.001, 86_400.0),
        },
    )
    recipe = fields(
        {"modality": _NAME, "column": _COLUMN, "spec": spec},
        {"reads_steps": truth, "fingerprint": text(100_000, empty=True)},
    )
    return nullable(
        fields(
            {"format_version": whole(1, 1_000_000)},
            {"media": list_of(recipe, MOST_MODALITIES), "numeric": _COLUMNS, "parameters": mapping_of(plain(), 1000)},
            others=True,
        )
    )


def read_pipeline(folder: Path, local_paths: bool, local_backbone: bool) -> dict[str, Any]:
    """Return what an artefact's ``pipeline.json`` holds, after looking at all of it.

    Args:
        folder: The artefact's.
        local_paths: Whether full paths of feature stores and media encoders are accepted.
        local_backbone: Whether the full path of a backbone is.

    Raises:
        ArtefactError: If the file cannot be read, has a newer format, or holds what it should not.
    """
    path = folder / PIPELINE_FILE
    pipeline = read_json(folder, PIPELINE_FILE)
    version = pipeline.get("format_version")
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT_VERSION:
        raise ArtefactError(
            f"'{folder}' has format {reprlib.repr(version)}, this version of mmadapters reads up to {FORMAT_VERSION}. "
            "Install a newer mmadapters."
        )
    for key in CODE_KEYS:
        if pipeline.get(key) is not None:
            raise ArtefactError(
                f"'{path}' has the key '{key}', by which code would be loaded. Artefacts never bring code; remove it."
            )
    checked(path, pipeline_check(local_paths, local_backbone), pipeline)
    checked(path, lambda value, _: _check_parts(value), pipeline)
    return pipeline


def _check_parts(pipeline: Mapping[str, Any]) -> None:
    """Check that the parts fit together, as far as the file alone tells."""
    labels, thresholds = pipeline["labels"], pipeline.get("thresholds")
    if thresholds is not None and len(thresholds) not in (0, len(labels)):
        fail("thresholds", f"a list of {len(thresholds)}", f"one for each of the {len(labels)} labels, or null")
    if pipeline["problem_type"] == "regression" and len(labels) != 1:
        fail("labels", f"a list of {len(labels)}", "one name, for a regression")
    preprocessor = pipeline["preprocessor"]
    sources = preprocessor["schema"].get("modalities") or []
    names = [source["name"] for source in sources]
    widths = {modality["name"]: modality["feature_dim"] for modality in preprocessor["modalities"]}
    if names != [modality["name"] for modality in preprocessor["modalities"]] or len(widths) < len(names):
        raise UnfitValue("preprocessor.modalities and preprocessor.schema.modalities do not name the same modalities.")
    for source in sources:
        if source["kind"] == "tabular":
            _check_table(preprocessor["tabular"], source, widths[source["name"]])
        if source["kind"] == "store" and source["name"] not in preprocessor.get("fingerprints", {}):
            raise UnfitValue(f"preprocessor.fingerprints lacks '{source['name']}', whose features are in a store.")


def _check_table(tables: Mapping[str, Any], source: Mapping[str, Any], width: int) -> None:
    table = tables.get(source["name"])
    if table is None:
        raise UnfitValue(f"preprocessor.tabular lacks the modality '{source['name'][:NAME_LENGTH]}'.")
    groups = ("numeric", "categorical", "multi_valued")
    if any([entry["column"] for entry in table.get(group, [])] != source.get(group, []) for group in groups):
        raise UnfitValue(f"preprocessor.tabular.{source['name']} has other columns than the schema.")
    categories = [entry["categories"] for group in groups[1:] for entry in table.get(group, [])]
    found = 2 * len(table["numeric"]) + sum(len(kept) + 2 for kept in categories)
    if found != width:
        raise UnfitValue(f"preprocessor.tabular.{source['name']} makes {found} features, the modality has {width}.")
