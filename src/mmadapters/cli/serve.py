"""``mmadapters serve``: saved models behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmadapters.cli.engine import Engine, RayAddress, check_engine
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
    engine: Annotated[
        Engine, typer.Option(help="Where the models run: in this process, or in replicas on Ray's nodes.")
    ] = Engine.LOCAL,
    ray_address: RayAddress = None,
) -> None:
    """Serve saved models over HTTP: predictions, explanations, micro-batching, metrics."""
    from mmadapters.cli.console import prepare_libraries, step

    check_engine(engine, ray_address)
    settings = server_settings(models or [], config, overrides or [], host, port)
    prepare_libraries(progress=False)
    try:
        if engine is Engine.RAY:
            from mmadapters.serving.ray_server import serve_on_ray

            serve_on_ray(settings, ray_address, step)
            return
        from mmadapters.serving.server import serve as run
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"The server needs the package '{error.name}': pip install \"mmadapters[serve]\""
        ) from error
    run(settings, step)


def ray_application(args: dict[str, Any]) -> Any:
    """Return an application of Ray Serve, for ``serve run`` and ``serve deploy``.

    A file for ``serve deploy``::

        applications:
          - name: mmadapters
            import_path: mmadapters.cli.serve:ray_application
            args: {models: {genres: {folder: /shared/movie-genres}}, ray: {replicas: 4, gpus: 1}}

    Args:
        args: The settings as the server's YAML has them. ``host`` and ``port`` are Ray Serve's own.

    Raises:
        ArtefactError: If a model cannot be read.
        ConfigurationError: If a setting cannot be used.
        MissingDependencyError: If Ray Serve is not installed.
    """
    from mmadapters.cli.settings import settings_from
    from mmadapters.serving.config import ServerConfig
    from mmadapters.serving.replicas import build

    return build(settings_from(ServerConfig, args))


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
