"""Training runs of a few steps on folders that were written from published data sets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from mmadapters.cli.main import main


def run_command(*arguments: object) -> None:
    with patch.object(sys, "argv", ["mmadapters", *map(str, arguments)]), pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0, arguments


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def trained(folder: Path, backbone: Path, output_dir: str, *changes: str) -> dict[str, Any]:
    """Run ``train.yaml`` of a folder as it is, but for a tiny encoder and a few steps, and return its metrics."""
    settings = [
        f"model.backbone={backbone}",
        "data.max_length=32",
        "training.num_train_epochs=1",
        "training.gradient_accumulation_steps=1",
        "training.per_device_train_batch_size=4",
        *changes,
    ]
    with inside(folder):
        run_command("train", "train.yaml", *(part for change in settings for part in ("--set", change)))
        return json.loads((Path(output_dir) / "metrics.json").read_text())
