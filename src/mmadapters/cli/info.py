"""``mmadapters info``: what is in a saved model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mmadapters.artefact import Artefact


def info(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model, or user/name[@revision] on the Hub.")],
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a saved model is: backbone, labels, modalities, parameters, size."""
    from rich.text import Text

    from mmadapters.cli.console import OUT, prepare_libraries, printable

    prepare_libraries(progress=False)
    described = describe(model, backbone)
    if as_json:
        typer.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for name, value in described.items():
        if isinstance(value, dict):
            OUT.print(name, style="bold")
            for key, entry in value.items():
                OUT.print(f"  {key}: {entry}", soft_wrap=True)
        else:
            OUT.print(Text.assemble((name, "bold"), f": {printable(str(value))}"), soft_wrap=True)


def thresholds(artefact: Artefact) -> dict[str, str]:
    """Return from which probability on each label is predicted; nothing where labels exclude each other.

    Args:
        artefact: The model.
    """
    if artefact.problem_type != "multi_label_classification":
        return {}
    if artefact.thresholds is None:
        return {"predicted from": f"a probability of {artefact.threshold:g}"}
    named = (f"{label} {value:.3f}" for label, value in zip(artefact.labels, artefact.thresholds, strict=True))
    return {"predicted from": f"a probability of {', '.join(named)}"}


def raw_media(artefact: Artefact) -> dict[str, Any]:
    """Return what modalities are made from, of a model that knows it; nothing of others.

    Args:
        artefact: The model.
    """
    from mmadapters.predictor.preparation import RowPreparation

    recipes = RowPreparation.of_model(artefact, Path()).media.recipes
    return {
        f"{recipe.modality} from": f"{recipe.spec.kind} files in the column '{recipe.column}', by "
        f"{recipe.spec.encoder or 'a log-mel spectrogram'}"
        for recipe in recipes
    }


def describe(folder: Path, backbone: str | None = None) -> dict[str, Any]:
    """Return what ``mmadapters info`` prints, as plain values.

    Args:
        folder: Of a saved model.
        backbone: Where the backbone is, if not under its saved name.
    """
    from mmadapters.export.files import is_exported

    if is_exported(folder):
        return describe_exported(folder)
    from mmadapters.artefact import artefact_bytes, find_artefact, load_artefact

    found = find_artefact(folder)
    artefact = load_artefact(found, backbone)
    config = artefact.model.active_peft_config
    summary = artefact.model.base_model.adapter_summary()
    return {
        "folder": str(found.folder),
        **({} if found.repository is None else {"on the Hub": f"{found.repository}, commit {found.commit}"}),
        "backbone": artefact.settings.backbone,
        "problem type": artefact.problem_type,
        "labels": ", ".join(artefact.labels),
        **thresholds(artefact),
        "text": ", ".join(artefact.preprocessor.schema.text_columns),
        "modalities": {modality.name: f"{modality.kind}, {modality.feature_dim} wide" for modality in config.modalities}
        or "none",
        **raw_media(artefact),
        "fusion": config.fusion,
        **({"members": ", ".join(summary.members)} if summary.members else {}),
        "bottleneck": config.bottleneck_size,
        "sites": f"{summary.sites}, in layers {', '.join(map(str, summary.layers))}",
        "pooling, head": f"{artefact.settings.pooling}, {artefact.settings.head}",
        "parameters": {
            "backbone, frozen": f"{summary.backbone:,}",
            "adapters": f"{summary.adapters:,} ({summary.share:.2%} of the backbone)",
            **{part: f"{count:,} ({count / summary.backbone:.2%})" for part, count in summary.parameters.items()},
        },
        "size on disk": f"{artefact_bytes(found.folder):,} bytes",
        "measured": {
            split: ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            for split, values in artefact.metrics.items()
        }
        or "nothing",
        **recorded(artefact),
        "licence": artefact.license or "none given",
    }


def recorded(artefact: Artefact) -> dict[str, Any]:
    """Return what is known of the rows that a model was trained on, and of how sure its figures are.

    Args:
        artefact: The model.
    """
    record = artefact.record or {}
    splits = record.get("splits", {})
    intervals = {
        split: ", ".join(f"{name} {each['low']:.4f} to {each['high']:.4f}" for name, each in found["intervals"].items())
        for split, found in splits.items()
        if found.get("intervals")
    }
    rows = {split: _rows(found) for split, found in splits.items()}
    without = record.get("without") or {"metrics": {}}
    left = {
        f"{name} ({without['split']})": ", ".join(f"{metric} {value:.4f}" for metric, value in metrics.items())
        for name, metrics in without["metrics"].items()
    }
    return {
        **({"data": rows} if rows else {}),
        **({"synthetic": "yes, a program made the rows up"} if record.get("synthetic") else {}),
        **({"intervals (95 %, bootstrap over rows)": intervals} if intervals else {}),
        **({"left without": left} if left else {}),
    }


def _rows(split: dict[str, Any]) -> str:
    source = f" of {split['source']}" if split.get("source") else ""
    chosen = ", on which epoch and thresholds were chosen" if split.get("chosen_on") else ""
    return f"{split['rows']:,} rows{source}{chosen}"


def describe_exported(folder: Path) -> dict[str, Any]:
    """Return what ``mmadapters info`` prints of an exported model, as plain values; no graph is opened.

    Args:
        folder: Of the model.
    """
    from mmadapters.export.files import read_section

    pipeline, section = read_section(folder)
    modalities = pipeline["preprocessor"]["modalities"]
    return {
        "folder": str(folder),
        "exported from": pipeline["model"]["backbone"],
        "problem type": pipeline["problem_type"],
        "labels": ", ".join(pipeline["labels"]),
        "modalities": {m["name"]: f"{m['kind']}, {m['feature_dim']} wide" for m in modalities} or "none",
        "gates": ", ".join(section["gates"]["names"]) or "not exported",
        "opset": section["opset"],
        "files": {name: f"{entry['bytes']:,} bytes" for name, entry in section["files"].items()},
        "differs from the artefact by": {name: f"{found:.1e}" for name, found in section["differences"].items()},
        "made with": ", ".join(f"{name} {version}" for name, version in section["versions"].items() if version),
    }
