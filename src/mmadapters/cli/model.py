"""What ``predict`` and ``evaluate`` run: an artefact, or an exported model under the runtime that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    from mmadapters.evaluation.predictions import RowModel

Runtime = Annotated[
    str | None,
    typer.Option(help="Of an exported model: onnxruntime, which is the default, or openvino.", metavar="NAME"),
]
Int8 = Annotated[bool, typer.Option("--int8", help="Of an exported model: run the one with 8-bit weights.")]


def load_model(
    folder: Path, backbone: str | None = None, runtime: str | None = None, int8: bool = False, progress: bool = False
) -> tuple[RowModel, bool]:
    """Load a saved or exported model, and nothing more than it needs.

    Args:
        folder: Of the model.
        backbone: Where an artefact's backbone is, if not under its saved name.
        runtime: What runs an exported model.
        int8: Whether an exported model's 8-bit form is wanted.
        progress: Whether the user wants progress bars.

    Returns:
        The model, and whether progress bars are to be shown.

    Raises:
        ConfigurationError: If an option is for the other kind of model.
    """
    from mmadapters.cli.console import prepare_libraries
    from mmadapters.export.files import is_exported

    if not is_exported(folder):
        if runtime is not None or int8:
            raise ConfigurationError(
                f"--runtime and --int8 are for exported models, and '{folder}' is none. Leave them out, or make one: "
                f"mmadapters export {folder} -o <folder>."
            )
        from mmadapters.artefact import load_artefact

        shown = prepare_libraries(progress)
        return load_artefact(folder, backbone), shown
    if backbone is not None:
        raise ConfigurationError(
            f"--backbone {backbone} was given, and '{folder}' is an exported model, which holds its encoder. Leave it "
            "out."
        )
    from mmadapters.export import load_exported

    shown = prepare_libraries(progress, transformers=False)
    return load_exported(folder, runtime=runtime, int8=int8), shown
