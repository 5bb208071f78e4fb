"""Trained models as ONNX files that predict by themselves, without PyTorch, transformers and PEFT.

Names are imported on first use, so that an exported model runs where PyTorch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmadapters.export.exported import ExportedModel, load_exported
    from mmadapters.export.exporter import ExportReport, export_artefact

__all__ = ["ExportReport", "ExportedModel", "export_artefact", "load_exported"]

_MODULES = {
    "ExportReport": "exporter",
    "ExportedModel": "exported",
    "export_artefact": "exporter",
    "load_exported": "exported",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
