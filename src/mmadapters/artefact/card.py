"""The model card, written from what an artefact's folder holds: what was trained on what, and what was measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCard

from mmadapters.artefact.card_metadata import base_model, card_data
from mmadapters.artefact.places import is_absolute
from mmadapters.evaluation.metrics import MULTI_LABEL, REGRESSION
from mmadapters.evaluation.names import metric_title
from mmadapters.evaluation.thresholds import TUNED, UNTUNED
from mmadapters.report.markdown import escaped, markdown_table
from mmadapters.report.tables import NONE, Table

FEW_POSITIVES = 20
"""Scored rows with a label below which its figures say little."""
SHOWN_LABELS = 50
COVERAGE = "95 % interval"

_SPLITS = {
    "train": ("training rows", "The model was fitted to these rows."),
    "validation": (
        "validation rows",
        "Epoch and thresholds were chosen on these rows, so that figures on them are too good.",
    ),
    "test": ("test rows", "Nothing was chosen on these rows in this training."),
}


def model_card(pipeline: Mapping[str, Any], adapter: Mapping[str, Any], name: str | None, file_bytes: int) -> str:
    """Return the model card of an artefact: metadata of the Hub in YAML, and Markdown.

    Args:
        pipeline: What ``pipeline.json`` holds.
        adapter: What ``adapter_config.json`` holds.
        name: ``user/name`` of its repository, or None.
        file_bytes: Size of the weights.
    """
    parts = [
        ("", _summary(pipeline)),
        ("Task", _task(pipeline)),
        ("Modalities", _modalities(pipeline, adapter)),
        ("Data", _data(pipeline)),
        ("Results", _results(pipeline)),
        ("Without a modality", _without(pipeline)),
        ("Training", _training(pipeline, adapter, file_bytes)),
        ("Limits", [f"- {line}" for line in _limits(pipeline)]),
        ("Intended use", _INTENDED_USE),
        ("Licence", _licence(pipeline)),
        ("How to use it", _usage(name)),
    ]
    lines = [f"# {escaped(name or f'Multimodal adapters for {_backbone(pipeline)}')}", ""]
    for title, body in parts:
        lines += ([f"## {title}", ""] if title else []) + [*body, ""]
    text = "\n".join(lines)
    metadata = card_data(pipeline, name).to_yaml()
    return str(ModelCard(f"---\n{metadata}\n---\n\n{text}"))


def short_fingerprint(fingerprint: str) -> str:
    """Return what a modality's features were made with, on one line.

    Args:
        fingerprint: JSON of a feature store.
    """
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:12]
    try:
        parts = json.loads(fingerprint)
        named = [str(parts[key])[:100] for key in ("encoder", "preset", "pooling") if parts.get(key)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        named = []
    return f"{', '.join(named)} ({digest})" if named else digest


def split_title(split: str) -> str:
    """Return what a split's rows are called."""
    return _SPLITS.get(split, (f"{split} rows", ""))[0]


def interval_text(found: Mapping[str, Any] | None) -> str:
    """Return ``0.81 to 0.86``, or a dash where there is no interval."""
    return NONE if found is None else f"{found['low']:.4f} to {found['high']:.4f}"


def _splits(pipeline: Mapping[str, Any]) -> Mapping[str, Any]:
    return (pipeline.get("record") or {}).get("splits") or {}


def _backbone(pipeline: Mapping[str, Any]) -> str:
    backbone = str(pipeline["model"]["backbone"])
    return "an encoder in a folder of its author" if is_absolute(backbone) else backbone


def _summary(pipeline: Mapping[str, Any]) -> list[str]:
    read = ", ".join(f"`{entry['name']}`" for entry in pipeline["preprocessor"]["modalities"])
    return [
        f"Gated multimodal adapters and a head for {escaped(_backbone(pipeline))}, trained with mmadapters. The "
        f"encoder is frozen and not part of the files. Beside the text the model reads {read or 'nothing'}."
    ]


def _task(pipeline: Mapping[str, Any]) -> list[str]:
    schema, labels = pipeline["preprocessor"]["schema"], pipeline["labels"]
    text = schema["text"] if isinstance(schema["text"], list) else [schema["text"]]
    lines = [
        f"- Problem: {pipeline['problem_type'].replace('_', ' ')}",
        f"- Text: {', '.join(escaped(column) for column in text)}, cut to {pipeline['preprocessor']['max_length']:,} "
        "tokens",
    ]
    if pipeline["problem_type"] != REGRESSION:
        more = f" and {len(labels) - SHOWN_LABELS:,} more" if len(labels) > SHOWN_LABELS else ""
        lines.append(f"- Labels ({len(labels)}): {', '.join(map(escaped, labels[:SHOWN_LABELS]))}{more}")
    thresholds = pipeline.get("thresholds")
    if thresholds:
        low, high = min(thresholds), max(thresholds)
        lines.append(
            f"- A label is predicted from a probability of its own on ({low:.2f} to {high:.2f}), tuned for F1 on the "
            "validation rows"
        )
    elif pipeline["problem_type"] == MULTI_LABEL:
        lines.append(f"- A label is predicted from a probability of {pipeline['threshold']:g} on")
    return lines


def _modalities(pipeline: Mapping[str, Any], adapter: Mapping[str, Any]) -> list[str]:
    preprocessor = pipeline["preprocessor"]
    kinds = {source["name"]: source for source in preprocessor["schema"].get("modalities") or []}
    fingerprints = preprocessor.get("fingerprints") or {}
    rows = []
    for modality in preprocessor["modalities"]:
        name = modality["name"]
        made = short_fingerprint(fingerprints[name]) if name in fingerprints else _made_from(kinds.get(name, {}))
        rows.append([name, modality.get("kind", "vector"), str(modality["feature_dim"]), made])
    members = [member["name"] for member in adapter.get("members") or []]
    fusion = f"Fusion: `{adapter.get('fusion')}`{_fused(members)}."
    if not rows:
        return ["None: the model reads the text alone.", "", fusion]
    table = Table(
        "What is read beside the text", ["modality", "kind", "width", "made with"], rows, "", ("kind", "made with")
    )
    return [markdown_table(table), "", fusion]


def _fused(members: Sequence[str]) -> str:
    return f", fuses {', '.join(f'`{member}`' for member in members)}" if members else ""


def _made_from(source: Mapping[str, Any]) -> str:
    columns = [column for group in ("numeric", "categorical", "multi_valued") for column in source.get(group) or []]
    if columns:
        return f"{len(columns)} table columns: {', '.join(columns[:10])}{', …' if len(columns) > 10 else ''}"
    column = source.get("column")
    return f"column {column}" if isinstance(column, str) else f"{len(column or [])} number columns"


def _data(pipeline: Mapping[str, Any]) -> list[str]:
    splits = _splits(pipeline)
    if not splits:
        return ["Not recorded."]
    names = [entry["name"] for entry in pipeline["preprocessor"]["modalities"]]
    present = [name for name in names if any(name in (split.get("present") or {}) for split in splits.values())]
    rows = [
        [
            split_title(split),
            f"{found['rows']:,}",
            found.get("source") or NONE,
            *(_share((found.get("present") or {}).get(name), found["rows"]) for name in present),
        ]
        for split, found in splits.items()
    ]
    columns = ["split", "rows", "file", *(f"with {name}" for name in present)]
    lines = [markdown_table(Table("Rows", columns, rows, "", ("file",)))]
    if (pipeline.get("record") or {}).get("synthetic"):
        lines += ["", "**The rows are synthetic**: a program made them up."]
    return [*lines, *_label_table(pipeline, splits)]


def _label_table(pipeline: Mapping[str, Any], splits: Mapping[str, Any]) -> list[str]:
    if pipeline["problem_type"] == REGRESSION:
        targets = {split: found["targets"] for split, found in splits.items() if found.get("targets")}
        said = (
            f"- {split_title(split)}: {', '.join(f'{name} {value:.6g}' for name, value in found.items())}"
            for split, found in targets.items()
        )
        return ["", "Targets:", "", *said] if targets else []
    counted = {split: found["label_counts"] for split, found in splits.items() if found.get("label_counts")}
    if not counted:
        return []
    labels = list(dict.fromkeys(label for counts in counted.values() for label in counts))
    first = next(iter(counted.values()))
    shown = sorted(labels, key=lambda label: -first.get(label, 0))[:SHOWN_LABELS]
    rows = [[label, *(f"{counts.get(label, 0):,}" for counts in counted.values())] for label in shown]
    more = f"{len(labels) - len(shown):,} rarer labels are left out." if len(labels) > len(shown) else ""
    columns = ["label", *map(split_title, counted)]
    return ["", markdown_table(Table("Rows with each label", columns, rows, more))]


def _share(count: int | None, rows: int) -> str:
    return NONE if count is None or not rows else f"{100 * count / rows:.1f} %"


def _results(pipeline: Mapping[str, Any]) -> list[str]:
    metrics, splits = pipeline.get("metrics") or {}, _splits(pipeline)
    lines: list[str] = []
    for split in ("test", *(name for name in metrics if name != "test")):
        values, found = metrics.get(split) or {}, splits.get(split, {})
        if not values:
            continue
        intervals = found.get("intervals") or {}
        rows = [
            [metric_title(name), f"{value:.4f}", interval_text(intervals.get(name))] for name, value in values.items()
        ]
        note = _SPLITS.get(split, ("", ""))[1]
        scored = f" ({found['scored_rows']:,} scored)" if "scored_rows" in found else ""
        table = Table(f"On the {split_title(split)}{scored}", ["metric", "value", COVERAGE], rows, note)
        lines += [markdown_table(table), ""]
        if intervals:
            draws = next(iter(intervals.values()))["resamples"]
            lines += [f"Intervals: percentile bootstrap over rows, {draws:,} draws.", ""]
    tuned = any(name.startswith(TUNED) for values in metrics.values() for name in values)
    if tuned:
        lines.append(
            f"F1 and accuracy are at a probability of {UNTUNED:g}; with *tuned*, at the model's own thresholds."
        )
    return lines or ["None recorded."]


def _without(pipeline: Mapping[str, Any]) -> list[str]:
    found = (pipeline.get("record") or {}).get("without")
    if not pipeline["preprocessor"]["modalities"]:
        return ["There is none beside the text."]
    rule = "A row may lack any modality; with all of them missing the model is a text-only adapter."
    if not found or not found.get("metrics"):
        return [f"{rule} What is left without each was not measured."]
    everything = (pipeline.get("metrics") or {}).get(found["split"]) or {}
    names = [name for name in next(iter(found["metrics"].values())) if not name.startswith(TUNED)]
    shown = [
        name for name in names if name.endswith(("_average_precision", "accuracy", "macro_f1", "mae", "rmse", "r2"))
    ]
    rows = [["nothing", *(_number(everything.get(name)) for name in shown)]]
    rows += [[lost, *(_number(values.get(name)) for name in shown)] for lost, values in found["metrics"].items()]
    title = f"The {found['rows']:,} {split_title(found['split'])}, each time without one modality"
    return [rule, "", markdown_table(Table(title, ["without", *map(metric_title, shown)], rows))]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _training(pipeline: Mapping[str, Any], adapter: Mapping[str, Any], file_bytes: int) -> list[str]:
    summary, model = pipeline.get("summary") or {}, pipeline["model"]
    rows = [
        ["pooling, head", f"{model['pooling']}, {model['head']}"],
        ["bottleneck", str(adapter.get("bottleneck_size"))],
    ]
    rows += [[str(name), str(value)] for name, value in (pipeline.get("record") or {}).get("training") or []]
    for part, count in (summary.get("parameters") or {}).items():
        rows.append([f"parameters: {part}", f"{count:,}"])
    if summary.get("backbone"):
        share = f" ({summary.get('share_of_backbone', 0.0):.2%} as many as the encoder has)"
        rows.append(["parameters of the adapters", f"{summary.get('adapters', 0):,}{share}"])
    rows.append(["file of the weights", f"{file_bytes:,} bytes"])
    rows.append(["digest of the encoder's weights", f"{pipeline['backbone_digest'][:12]}…"])
    versions = ", ".join(f"{name} {version}" for name, version in (pipeline.get("versions") or {}).items())
    rows.append(["versions", versions or NONE])
    return [markdown_table(Table("How it was trained, and what it is", ["setting", "value"], rows, "", ("value",)))]


def _limits(pipeline: Mapping[str, Any]) -> Iterable[str]:
    splits, record = _splits(pipeline), pipeline.get("record") or {}
    if record.get("synthetic"):
        yield (
            "It was trained on rows that a program made up. Its figures tell that software works, and nothing about "
            "real rows; it is of no use for them."
        )
    if pipeline["problem_type"] != REGRESSION:
        yield f"It knows {len(pipeline['labels'])} labels and no others."
    for split, found in splits.items():
        counts = found.get("label_counts") or {}
        none = [label for label, count in counts.items() if not count]
        if none and split != "train":
            yield f"Labels that none of the {split_title(split)} has, so that they are untested: {_some(none)}."
        few = [label for label, count in counts.items() if 0 < count < FEW_POSITIVES]
        if few and split == "test":
            yield f"Fewer than {FEW_POSITIVES} test rows, so that their figures are uncertain: {_some(few)}."
    metrics = pipeline.get("metrics") or {}
    if not metrics.get("test"):
        yield (
            "There were no test rows: nothing is known of rows that no choice was made on."
            if metrics
            else "Nothing was measured."
        )
    yield "Which languages the encoder and its tokenizer know is not recorded here, nor in which the rows are."
    yield (
        "Nothing was measured on rows of another origin or a later time than these, nor by groups of people: it must "
        "not decide about people by these figures."
    )
    if any(entry.get("kind") in ("image", "video", "audio") for entry in pipeline["preprocessor"]["modalities"]):
        yield "Features that were made in another way than those named above mean nothing to it, and are refused."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(escaped, names[:SHOWN_LABELS]))
    return f"{shown} and {len(names) - SHOWN_LABELS:,} more" if len(names) > SHOWN_LABELS else shown


_INTENDED_USE = [
    "What this model is meant for is not recorded: a program wrote this card, from what was measured. It is for the "
    "model's author to say who may rely on it, and for what."
]


def _licence(pipeline: Mapping[str, Any]) -> list[str]:
    given, base = pipeline.get("license"), base_model(str(pipeline["model"]["backbone"]))
    own = f"Adapters and head: `{given}`." if given else "No licence was given for adapters and head: ask the author."
    name = "the encoder" if base is None else f"`{base}`"
    return [f"{own} The licence of {name}, which is not part of the files, and that of the data are not recorded here."]


def _usage(name: str | None) -> list[str]:
    shown = name or "<this folder>"
    return [
        "```python",
        "from mmadapters import load_artefact",
        "",
        f"artefact = load_artefact({json.dumps(shown, ensure_ascii=False)})",
        "```",
        "",
        f"or `mmadapters predict {shown} rows.csv -o predictions.csv`. The files bring no code and no pickles.",
    ]
