"""Gated multimodal adapters inside a frozen, pre-trained text encoder.

Importing this package makes the method known to PEFT (at once where PEFT is loaded, else as soon as it is) and loads
neither torch nor transformers; the names below are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mmadapters._registration import ensure_registered

if TYPE_CHECKING:
    from mmadapters.adapters.config import MultimodalAdapterConfig
    from mmadapters.adapters.model import MultimodalAdapterModel
    from mmadapters.artefact import Artefact, load_artefact, save_artefact
    from mmadapters.classifier import TextClassifier
    from mmadapters.data.collator import MultimodalCollator
    from mmadapters.data.preprocessor import Preprocessor
    from mmadapters.data.schema import DatasetSchema
    from mmadapters.errors import MMAdaptersError
    from mmadapters.modality import Modality
    from mmadapters.predictor.predictor import MultimodalPredictor
    from mmadapters.training.arguments import MultimodalTrainingArguments
    from mmadapters.training.trainer import MultimodalAdapterTrainer

__version__ = version("mmadapters")

__all__ = [
    "Artefact",
    "DatasetSchema",
    "MMAdaptersError",
    "Modality",
    "MultimodalAdapterConfig",
    "MultimodalAdapterModel",
    "MultimodalAdapterTrainer",
    "MultimodalCollator",
    "MultimodalPredictor",
    "MultimodalTrainingArguments",
    "Preprocessor",
    "TextClassifier",
    "__version__",
    "load_artefact",
    "save_artefact",
]

_MODULES = {
    "Artefact": "artefact",
    "DatasetSchema": "data.schema",
    "MMAdaptersError": "errors",
    "Modality": "modality",
    "MultimodalAdapterConfig": "adapters.config",
    "MultimodalAdapterModel": "adapters.model",
    "MultimodalAdapterTrainer": "training.trainer",
    "MultimodalCollator": "data.collator",
    "MultimodalPredictor": "predictor.predictor",
    "MultimodalTrainingArguments": "training.arguments",
    "Preprocessor": "data.preprocessor",
    "TextClassifier": "classifier",
    "load_artefact": "artefact",
    "save_artefact": "artefact",
}

ensure_registered()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mmadapters' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"mmadapters.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
