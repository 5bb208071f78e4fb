"""``mmadapters store``: check, merge, export and describe feature stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

EXIT_DAMAGED = 1

app = typer.Typer(
    name="store",
    help="Check, merge, export and describe feature stores.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Store = Annotated[Path, typer.Argument(help="Folder of a feature store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("verify")
def verify(folder: Store, as_json: AsJson = False) -> None:
    """Read all of a store and compare it with its manifest; exit status 1 if anything is damaged."""
    from dataclasses import asdict

    from mmadapters.cli.console import OUT, file_size
    from mmadapters.features.store import verify as run

    report = run(folder)
    if as_json:
        typer.echo(json.dumps({"ok": report.ok, **asdict(report)}, indent=2, ensure_ascii=False))
    else:
        held = f"{_count(report.rows, 'row')} in {_count(report.shards, 'shard')}, {file_size(report.bytes)}"
        for problem in report.problems:
            OUT.print(problem, style="red", soft_wrap=True)
        OUT.print(f"{held}: {'nothing is damaged' if report.ok else _count(len(report.problems), 'problem')}")
    if not report.ok:
        raise typer.Exit(EXIT_DAMAGED)


@app.command("compact")
def compact(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of one or several feature stores, in the order of their rows.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new store; it must not exist.")],
) -> None:
    """Join the shards of one or several stores into a new store with fewer."""
    from mmadapters.cli.console import file_size, step
    from mmadapters.features.store import compact as run

    manifest = run(folders, output)
    held = f"{_count(manifest.rows, 'row')} in {_count(len(manifest.shards), 'shard')}, {file_size(manifest.bytes)}"
    step(f"{held}, written to {output}")


@app.command("export")
def export(
    folder: Store,
    parquet: Annotated[Path, typer.Option("--parquet", help="The Parquet file to write.")],
) -> None:
    """Write a store as one Parquet file."""
    from mmadapters.cli.console import file_size, step
    from mmadapters.features.store import export_parquet

    export_parquet(folder, parquet)
    step(f"{file_size(parquet.stat().st_size)} written to {parquet}")


@app.command("info")
def info(folder: Store, as_json: AsJson = False) -> None:
    """Show what a store holds: rows, size, and of each column its form, its statuses and its fingerprint."""
    from mmadapters.features.store import store_info

    described = store_info(folder)
    if as_json:
        typer.echo(json.dumps(described, indent=2, ensure_ascii=False))
    else:
        _print_info(described)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _print_info(described: dict[str, Any]) -> None:
    from rich.text import Text

    from mmadapters.cli.console import OUT, file_size, print_table

    versions = "; ".join(
        ", ".join(f"{package} {number}" for package, number in entry.items()) for entry in described["versions"]
    )
    lines = {
        "folder": described["folder"],
        "rows": f"{described['rows']:,}",
        "shards": f"{described['shards']:,}",
        "size on disk": file_size(described["bytes"]),
        "written by": versions or "nothing yet",
    }
    for name, value in lines.items():
        OUT.print(Text.assemble((name, "bold"), f": {value}"), soft_wrap=True)
    rows = [[name, *_cells(column)] for name, column in described["columns"].items()]
    print_table("columns", ["column", "shape", "dtype", "status"], rows)
    for name, column in described["columns"].items():
        OUT.print(Text.assemble((f"fingerprint of {name}", "bold"), f": {column['fingerprint'] or 'none'}"))


def _cells(column: dict[str, Any]) -> list[str]:
    shape = f"({column['feature_dim']},)"
    if column["kind"] == "sequence":
        shape = f"(T, {column['feature_dim']}), {_count(column['steps'], 'step')}"
        shape += " and means" if column["pool_mean"] else ""
    counted = ", ".join(f"{status} {count:,}" for status, count in column["status"].items())
    return [shape, column["dtype"], counted or "no rows"]
