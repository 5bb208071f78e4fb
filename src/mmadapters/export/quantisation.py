"""Other forms of an exported graph: int8 by onnxruntime's dynamic quantisation, and OpenVINO's own format."""

from __future__ import annotations

import os
from pathlib import Path

from mmadapters.export.graph import EMBEDDED_BYTES, NOISY, quiet, require
from mmadapters.export.runtime import imported

QUANTISED_OPERATORS = ("MatMul", "Gather")
"""The products with weights, and the embeddings, which are most of a small encoder's size."""


def write_int8(source: Path, target: Path) -> None:
    """Quantise a graph: weights to 8-bit integers beforehand, activations as they come.

    Weights have a scale for each output, and seven bits: with eight, processors without VNNI instructions would
    overflow (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

    Args:
        source: A float32 ``.onnx`` file.
        target: Where to.

    Raises:
        MissingDependencyError: If onnx or onnxruntime is not installed.
    """
    require("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    size = sum(os.path.getsize(path) for path in source.parent.glob(f"{source.name}*"))
    # The quantiser speaks to the root of all loggers.
    with quiet((*NOISY, "")):
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=size > EMBEDDED_BYTES,
        )


def write_openvino(source: Path, target: Path) -> None:
    """Convert a graph to OpenVINO's format, in float32.

    Args:
        source: A float32 ``.onnx`` file.
        target: The ``.xml`` file; the weights go into a ``.bin`` file of the same name.

    Raises:
        MissingDependencyError: If openvino is not installed.
    """
    openvino = imported("openvino")
    # Not convert_model, which reports its use to its makers.
    openvino.save_model(openvino.Core().read_model(str(source)), str(target), compress_to_fp16=False)
