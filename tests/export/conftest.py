"""One export for all tests of this folder: it takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from exported_models import ROWS, Export, logits, made_artefact
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mmadapters.export import export_artefact

# Encoders and fusions of every kind are those of the adapters' own tests.
sys.path.append(str(Path(__file__).parents[1] / "adapters"))

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")


@pytest.fixture(scope="session")
def small_backbone(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with one layer, which is exported in half the time."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.from_pretrained(tiny_backbone, num_hidden_layers=1)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def export(small_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    artefact = made_artefact(small_backbone)
    before = logits(artefact)
    folder = tmp_path_factory.mktemp("export") / "model"
    return Export(artefact, export_artefact(artefact, folder, int8=True, openvino=True, gates=True, check=ROWS), before)
