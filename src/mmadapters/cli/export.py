"""``mmadapters export``: a trained model as a folder that predicts by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.cli.store_option import Stores, with_chosen_stores

if TYPE_CHECKING:
    from mmadapters.export import ExportReport


def export(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the exported model.")],
    int8: Annotated[bool, typer.Option("--int8", help="Also write a model with 8-bit weights.")] = False,
    openvino: Annotated[bool, typer.Option("--openvino", help="Also write OpenVINO's format.")] = False,
    gates: Annotated[
        bool, typer.Option("--gates", help="Let the model give its gates' means beside the logits.")
    ] = False,
    check: Annotated[
        Path | None, typer.Option(help="Rows to compare every form with the saved model on: CSV, JSONL or Parquet.")
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Version of ONNX's operators.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    store: Stores = None,
) -> None:
    """Export a model to ONNX, so that it predicts without PyTorch; `mmadapters predict` takes the folder."""
    from dataclasses import replace

    from mmadapters.artefact import check_may_be_written, load_artefact
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.data.files import read_rows
    from mmadapters.export import export_artefact
    from mmadapters.export.graph import DEFAULT_OPSET

    prepare_libraries(progress=False)
    check_may_be_written(output)
    artefact = load_artefact(model, backbone)
    artefact = replace(artefact, preprocessor=with_chosen_stores(artefact.preprocessor, store))
    rows = None if check is None else read_rows(check)
    step("exporting; every form is compared with the saved model on made-up inputs")
    report = export_artefact(
        artefact, output, int8=int8, openvino=openvino, gates=gates, opset=opset or DEFAULT_OPSET, check=rows
    )
    print_export(report)


def print_export(report: ExportReport) -> None:
    """Print what was written and how it compares with the saved model.

    Args:
        report: Of the export.
    """
    from mmadapters.cli.console import file_size, print_table, step
    from mmadapters.export.card import check_cells

    print_table(
        f"written to {report.folder}",
        ["file", "size"],
        [[name, file_size(size)] for name, size in report.bytes.items()],
    )
    print_table(
        "largest difference from the saved model, on made-up inputs",
        ["model", "difference"],
        [[form.title, f"{found:.1e}"] for form, found in report.differences.items()],
    )
    if report.checks:
        columns, rows = check_cells(report)
        print_table(f"on {next(iter(report.checks.values())).rows} rows", columns, rows)
    step(f"try: mmadapters predict {report.folder} rows.csv -o predictions.csv")
