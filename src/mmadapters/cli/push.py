"""``mmadapters push``: a saved model to the Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer


def push(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    repository: Annotated[str, typer.Argument(help="user/name on the Hub; made where it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Nobody else may see it.")] = False,
    license: Annotated[
        str | None, typer.Option(help="Of adapters and head, as the Hub names it: apache-2.0, mit, other.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to push to; the main branch otherwise.")] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Name on the Hub of the backbone, if the model was trained in a local folder.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be uploaded, and upload nothing.")
    ] = False,
) -> None:
    """Upload a saved model to the Hugging Face Hub: safetensors, JSON and the model card, nothing else.

    The token is that of `hf auth login` or HF_TOKEN. Paths of this machine are left out.
    """
    from mmadapters.artefact import read_artefact
    from mmadapters.cli.console import OUT, file_size, prepare_libraries, step
    from mmadapters.hub.upload import checked_repository
    from mmadapters.sharing.push import push_to_hub, stage

    prepare_libraries(progress=True)
    place = str(checked_repository(repository, revision))
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="mmadapters-push-") as temporary:
            sizes = stage(model, temporary, repository, license=license, backbone=backbone)
            card = (Path(temporary) / "README.md").read_text(encoding="utf-8")
        OUT.print(card, soft_wrap=True)
        named = ", ".join(f"{name} ({file_size(size)})" for name, size in sizes.items())
        step(f"would upload to {place}: {named}; nothing was uploaded, the model card is above")
        return
    uploaded = push_to_hub(
        model,
        repository,
        private=private,
        license=license,
        revision=revision,
        message=message,
        backbone=backbone,
    )
    step(f"uploaded {', '.join(uploaded.files)} to {place}: {uploaded.url}")
    if license is None and read_artefact(model).pipeline.get("license") is None:
        step("no licence was given, so nobody knows what they may do with it; push again with --license")
