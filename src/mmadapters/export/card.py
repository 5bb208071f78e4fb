"""The README of an exported model: what is in the folder, what goes in and comes out, and how it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmadapters.data.schema import DatasetSchema
from mmadapters.evaluation.names import metric_title
from mmadapters.export.signature import FEATURES, MASK, Signature, TensorSpec
from mmadapters.export.tokenizer import OUTPUTS

if TYPE_CHECKING:
    from mmadapters.export.exporter import ExportReport

SHOWN_METRICS = {
    "multi_label_classification": ("micro_average_precision", "macro_average_precision", "micro_f1"),
    "single_label_classification": ("accuracy", "macro_f1", "macro_average_precision"),
    "regression": ("mae", "rmse", "r2"),
}
SHOWN_LABELS = 50
SHOWN_COLUMNS = 20
SCORES = {
    "multi_label_classification": ("1 / (1 + np.exp(-logits))", "probabilities of each label"),
    "single_label_classification": (
        "np.exp(logits - logits.max(axis=1, keepdims=True))\nscores /= scores.sum(axis=1, keepdims=True)",
        "probabilities that add up to 1",
    ),
    "regression": ("logits[:, 0]", "values"),
}


def exported_card(
    pipeline: Mapping[str, Any], tokenizer: Mapping[str, Any], signature: Signature, report: ExportReport
) -> str:
    """Return the README of an exported model.

    Args:
        pipeline: The artefact's ``pipeline.json``.
        tokenizer: What the export notes of the tokenizer.
        signature: What goes in and comes out.
        report: What was written and measured.
    """
    labels, kind = pipeline["labels"], pipeline["problem_type"]
    shown = ", ".join(labels[:SHOWN_LABELS]) + (" …" if len(labels) > SHOWN_LABELS else "")
    files = _table(("file", "bytes"), [(f"`{name}`", f"{size:,}") for name, size in report.bytes.items()])
    made_by = f"mmadapters {pipeline['versions']['mmadapters']}"
    return f"""# Exported multimodal adapters

A frozen text encoder with gated multimodal adapters and a head, exported by {made_by} as one graph. It needs
neither PyTorch nor transformers nor PEFT.

- Problem: {kind.replace("_", " ")}
- Labels ({len(labels)}), in the order of the logits: {shown}

{files}

## Run it on a table of rows

```console
pip install mmadapters onnxruntime
mmadapters predict <this folder> rows.csv -o predictions.csv
```

or from Python:

```python
from mmadapters.export import load_exported

load_exported("<this folder>").predict([{{…}}])
```

The rows need the columns {_columns(pipeline)}.

## Run the graph alone

Dimensions with a name may be of any size. A modality that is missing in a row is False in its mask at all steps; its
features are then not looked at.

{_tensors(signature.inputs)}

{_tensors(signature.outputs)}

```python
{_snippet(kind, tokenizer, pipeline["preprocessor"]["max_length"], signature)}```

Columns of tables become features by what `pipeline.json` says under `preprocessor.tabular`; `load_exported` does that.

## Measured

{_measured(pipeline, report)}
"""


def _columns(pipeline: Mapping[str, Any]) -> str:
    schema = DatasetSchema.from_dict(pipeline["preprocessor"]["schema"])
    columns = schema.input_columns
    more = f" and {len(columns) - SHOWN_COLUMNS} more" if len(columns) > SHOWN_COLUMNS else ""
    return ", ".join(f"`{column}`" for column in columns[:SHOWN_COLUMNS]) + more


def _snippet(kind: str, tokenizer: Mapping[str, Any], max_length: int, signature: Signature) -> str:
    padding, side = tokenizer["padding"], tokenizer["padding_side"]
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "from tokenizers import Tokenizer",
        "",
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        f"tokenizer.enable_truncation({max_length})",
        f'tokenizer.enable_padding(direction="{side}", pad_id={padding["input_ids"]})',
        'rows = tokenizer.encode_batch(["A text.", "A second, longer text."])',
        "feeds = {",
        *(f'    "{name}": np.array([row.{OUTPUTS[name]} for row in rows]),' for name in signature.text),
        *(
            f'    "{FEATURES}.{m.name}": np.zeros((2, 1, {m.feature_dim}), np.float32),  # your features'
            for m in signature.modalities
        ),
        *(
            f'    "{MASK}.{m.name}": np.array([[True], [False]]),  # missing in the second row'
            for m in signature.modalities
        ),
        "}",
        'session = onnxruntime.InferenceSession("model.onnx")',
        'logits = session.run(["logits"], feeds)[0]',
        f"scores = {SCORES[kind][0]}",
        f"print(scores)  # {SCORES[kind][1]}",
    ]
    return "\n".join(lines) + "\n"


def _measured(pipeline: Mapping[str, Any], report: ExportReport) -> str:
    parts = [
        "Largest difference from the artefact on made-up texts and features of several shapes, with all, some and none "
        "of the modalities, over the larger of 1 and the largest output: "
        + "; ".join(f"{form.title} {found:.1e}" for form, found in report.differences.items())
        + "."
    ]
    if report.checks:
        columns, cells = check_cells(report)
        n_rows = next(iter(report.checks.values())).rows
        parts.append(f"On {n_rows} rows, beside the artefact:\n\n{_table(columns, cells)}")
    if pipeline["metrics"]:
        rows = [
            (split, metric_title(name), f"{value:.4f}")
            for split, values in pipeline["metrics"].items()
            for name, value in values.items()
        ]
        parts += ["Of the artefact, when it was trained:", _table(("split", "metric", "value"), rows)]
    return "\n\n".join(parts)


def check_cells(report: ExportReport) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the comparison on rows; the artefact's metrics come first.

    Args:
        report: Of an export with rows to check with.
    """
    first = next(iter(report.checks.values()))
    metrics = [name for name in SHOWN_METRICS[report.problem_type] if name in first.metrics]
    columns = ["model", "logits apart by at most", "on average", "rows decided otherwise", *map(metric_title, metrics)]
    rows = [["artefact", "", "", "", *(f"{first.metrics_before[name]:.4f}" for name in metrics)]]
    for form, check in report.checks.items():
        changed = "–" if check.decisions_changed is None else f"{check.decisions_changed:.1%}"
        values = [f"{check.metrics[name]:.4f}" for name in metrics]
        rows.append([form.title, f"{check.largest:.1e}", f"{check.mean:.1e}", changed, *values])
    return columns, rows


def _tensors(specs: Mapping[str, TensorSpec]) -> str:
    rows = [(f"`{name}`", spec.dtype, f"({', '.join(map(str, spec.shape))})") for name, spec in specs.items()]
    return _table(("name", "type", "shape"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
