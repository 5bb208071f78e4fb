"""``mmadapters info``: what is in a saved model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a saved model is: backbone, labels, modalities, parameters, size."""
    from mmadapters.cli.console import OUT, prepare_libraries

    prepare_libraries(progress=False)
    described = describe(model)
    if as_json:
        typer.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for name, value in described.items():
        if isinstance(value, dict):
            OUT.print(f"[bold]{name}[/bold]")
            for key, entry in value.items():
                OUT.print(f"  {key}: {entry}", markup=False)
        else:
            OUT.print(f"[bold]{name}[/bold]: ", end="")
            OUT.print(str(value), markup=False)


def describe(folder: Path) -> dict[str, Any]:
    """Return what ``mmadapters info`` prints, as plain values.

    Args:
        folder: Of a saved model.
    """
    from mmadapters.artefact import artefact_bytes, load_artefact

    artefact = load_artefact(folder)
    config = artefact.model.active_peft_config
    parameters = dict(artefact.model.named_parameters())
    adapters = sum(p.numel() for name, p in parameters.items() if ".mmadapter_" in name)
    head = sum(p.numel() for name, p in parameters.items() if ".modules_to_save." in name)
    encoder = sum(p.numel() for name, p in artefact.model.get_base_model().encoder.named_parameters())
    encoder -= adapters
    return {
        "folder": str(folder),
        "backbone": artefact.settings.backbone,
        "problem type": artefact.problem_type,
        "labels": ", ".join(artefact.labels),
        "text": ", ".join(artefact.preprocessor.schema.text_columns),
        "modalities": {modality.name: f"{modality.kind}, {modality.feature_dim} wide" for modality in config.modalities}
        or "none",
        "fusion": config.fusion,
        "bottleneck": config.bottleneck_size,
        "sites": len(artefact.model.base_model.site_layers),
        "pooling, head": f"{artefact.settings.pooling}, {artefact.settings.head}",
        "parameters": {
            "backbone, frozen": f"{encoder:,}",
            "adapters": f"{adapters:,} ({adapters / encoder:.2%} of the backbone)",
            "head": f"{head:,} ({head / encoder:.2%})",
        },
        "size on disk": f"{artefact_bytes(folder):,} bytes",
        "measured": {
            split: ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            for split, values in artefact.metrics.items()
        }
        or "nothing",
    }
