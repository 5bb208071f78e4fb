"""Rows of a table made into batches: schema, files, labels, preprocessing, data set and collator.

Names are imported on first use, so that the schema can be had without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmadapters.data.collator import MultimodalCollator
    from mmadapters.data.dataset import MultimodalDataset
    from mmadapters.data.files import read_rows, split_rows, write_rows
    from mmadapters.data.labels import LabelEncoder, infer_problem_type
    from mmadapters.data.preprocessor import Preprocessor
    from mmadapters.data.schema import DatasetSchema, StoredFeatures, TabularColumns, VectorColumn
    from mmadapters.data.streaming import StreamedDataset

__all__ = [
    "DatasetSchema",
    "LabelEncoder",
    "MultimodalCollator",
    "MultimodalDataset",
    "Preprocessor",
    "StoredFeatures",
    "StreamedDataset",
    "TabularColumns",
    "VectorColumn",
    "infer_problem_type",
    "read_rows",
    "split_rows",
    "write_rows",
]

_MODULES = {
    "DatasetSchema": "schema",
    "LabelEncoder": "labels",
    "MultimodalCollator": "collator",
    "MultimodalDataset": "dataset",
    "Preprocessor": "preprocessor",
    "StoredFeatures": "schema",
    "StreamedDataset": "streaming",
    "TabularColumns": "schema",
    "VectorColumn": "schema",
    "infer_problem_type": "labels",
    "read_rows": "files",
    "split_rows": "files",
    "write_rows": "files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
