"""The ``mmadapters`` command: one verb a file, heavy imports inside the verbs, so that ``--help`` answers at once."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmadapters import __version__
from mmadapters.cli import (
    compare,
    data,
    demo,
    demo_page,
    evaluate,
    explain,
    export,
    extract,
    import_pickles,
    info,
    predict,
    push,
    search,
    serve,
    store,
    train,
)
from mmadapters.errors import MMAdaptersError, TrainingInterrupted

EXIT_ERROR = 2
EXIT_SIGNAL = 128
"""Plus the number of the signal, as shells count."""
EXIT_INTERRUPTED = 130


class _Verbs(TyperGroup):
    """The verbs. Typer would end an interrupt without a word, so it is caught before Typer sees it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TrainingInterrupted as stop:
            typer.secho(f"\n{stop}", fg="yellow", err=True)
            raise typer.Exit(EXIT_SIGNAL + stop.signal_number) from None
        except KeyboardInterrupt:
            typer.secho("\ninterrupted: nothing was left half-written.", fg="yellow", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="mmadapters",
    cls=_Verbs,
    help="Teach a frozen text encoder to use images, video, audio and tables, by small gated adapters inside it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("extract")(extract.extract)
app.command("import-pickles")(import_pickles.import_pickles)
app.add_typer(data.app, name="data")
app.add_typer(store.app, name="store")
app.command("train")(train.train)
app.command("search")(search.search)
app.command("compare")(compare.compare)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("info")(info.info)
app.command("push")(push.push)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("demo-page")(demo_page.demo_page)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmadapters {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Teach a frozen text encoder to use images, video, audio and tables, by small gated adapters inside it."""


def main() -> None:
    """Run the command line.

    An error of the library is one message on standard error and exit status 2, an interrupt a line and status 130; a
    training that SIGTERM ended is a line and status 143.
    """
    try:
        app()
    except MMAdaptersError as error:
        from mmadapters.cli.console import printable

        typer.secho(printable(f"error: {error}"), fg="red", err=True)
        sys.exit(EXIT_ERROR)
