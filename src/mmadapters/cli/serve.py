"""``mmadapters serve``: saved models behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from mmadapters.serving.config import ServerConfig


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Saved models: a folder, or name=folder. The first is the default.", show_default=False),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with the server's settings.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, wins over the file; may be repeated.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen at; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at; 8000 by default, 0 for a free one.")] = None,
) -> None:
    """Serve saved models over HTTP: predictions, explanations, micro-batching, metrics."""
    from mmadapters.cli.console import prepare_libraries, step

    settings = server_settings(models or [], config, overrides or [], host, port)
    prepare_libraries(progress=False)
    try:
        from mmadapters.serving.server import serve as run
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"The server needs the package '{error.name}': pip install \"mmadapters[serve]\""
        ) from error
    run(settings, step)


def server_settings(
    models: list[str], file: Path | None, overrides: list[str], host: str | None, port: int | None
) -> ServerConfig:
    """Return the settings of a server.

    Args:
        models: ``folder`` or ``name=folder`` each; they take the place of the file's.
        file: YAML, or None.
        overrides: ``section.key=value`` each.
        host: Wins over all.
        port: Wins over all.

    Raises:
        ConfigurationError: If they cannot be used.
    """
    import json

    from mmadapters.cli.settings import load_settings
    from mmadapters.serving.config import ServerConfig

    changes = list(overrides)
    if models:
        changes.append(f"models={json.dumps(named_folders(models))}")
    changes += [f"{name}={json.dumps(value)}" for name, value in (("host", host), ("port", port)) if value is not None]
    return load_settings(ServerConfig, file, changes)


def named_folders(models: list[str]) -> dict[str, dict[str, str]]:
    """Return models by name.

    Args:
        models: ``folder``, whose name becomes the model's, or ``name=folder``.

    Raises:
        ConfigurationError: If two have one name, or one has none.
    """
    named: dict[str, dict[str, str]] = {}
    for text in models:
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = Path(text).expanduser().resolve().name, text
        if not name or not folder:
            raise ConfigurationError(f"The model {text!r} has no name or no folder. Write it as name=folder.")
        if name in named:
            raise ConfigurationError(f"Two models are called '{name}'. Name them apart: name=folder.")
        named[name] = {"folder": folder}
    return named
