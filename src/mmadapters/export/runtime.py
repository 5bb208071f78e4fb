"""Exported graphs under onnxruntime and OpenVINO, with one way to run them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmadapters.errors import ArtefactError, MissingDependencyError
from mmadapters.export.signature import Signature, TensorSpec, missing_names

EXTRAS = {"onnxruntime": "export", "openvino": "openvino"}
QUIET = 3
"""Of onnxruntime's severities: errors alone."""
ORT_TYPES = {"tensor(int64)": "int64", "tensor(float)": "float32", "tensor(bool)": "bool"}
OPENVINO_TYPES = {"i64": "int64", "f32": "float32", "boolean": "bool"}


class Session(Protocol):
    """A graph that is ready to run."""

    def describe(self) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        """Return inputs and outputs by name; a dimension of any size is ``"?"``."""
        ...

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs for some inputs, by name."""
        ...


class OnnxSession:
    """A graph under onnxruntime, on the CPU.

    Args:
        path: The ``.onnx`` file. onnxruntime 1.24 and newer refuse one whose weights lie outside of its folder.
        threads: Number of threads, or None for one a core.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        onnxruntime = imported("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = threads or 0
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def describe(self) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        """Return inputs and outputs; see ``Session``."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        return _described(inputs), _described(outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs; see ``Session``."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))


class OpenVinoSession:
    """A graph under OpenVINO, on the CPU, in float32: by itself it computes in bfloat16 where the processor can.

    Args:
        path: An ``.xml`` file with its weights beside it, or an ``.onnx`` file.
        threads: Number of threads, or None for one a core.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        openvino = imported("openvino")
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._model = openvino.Core().compile_model(str(path), "CPU", options)
        self._outputs = [output.get_any_name() for output in self._model.outputs]

    def describe(self) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        """Return inputs and outputs; see ``Session``."""
        return _of_openvino(self._model.inputs), _of_openvino(self._model.outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs; see ``Session``."""
        given = self._model(dict(feeds))
        return {name: np.array(given[name]) for name in self._outputs}


SESSIONS: dict[str, Callable[[Path, int | None], Session]] = {"onnxruntime": OnnxSession, "openvino": OpenVinoSession}


def open_session(path: Path, runtime: str, signature: Signature, threads: int | None = None) -> Session:
    """Open a graph, and refuse it if it is not of the signature.

    Args:
        path: Its file.
        runtime: A key of ``SESSIONS``.
        signature: What must go in and come out.
        threads: Number of threads, or None for one a core.

    Raises:
        ArtefactError: If the file cannot be opened, or names, types or sizes differ.
        MissingDependencyError: If the runtime is not installed.
    """
    try:
        session = SESSIONS[runtime](path, threads)
    except MissingDependencyError:
        raise
    # Neither runtime has exceptions of its own that could be named.
    except Exception as error:
        said = " ".join(str(error).split())
        raise ArtefactError(f"'{path}' cannot be opened by {runtime}: {said} Export the model again.") from error
    for found, expected in zip(session.describe(), (signature.inputs, signature.outputs), strict=True):
        _check_specs(path, found, expected)
    return session


def imported(runtime: str) -> Any:
    """Return the module of a runtime.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        return importlib.import_module(runtime)
    except ImportError as error:
        raise MissingDependencyError(
            f"Running an exported model under {runtime} needs the package '{runtime}', which is not installed. Install "
            f'it with: pip install {runtime}, or "mmadapters[{EXTRAS[runtime]}]"'
        ) from error


def _check_specs(path: Path, found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec]) -> None:
    different = missing_names(list(expected), list(found))
    if different:
        raise ArtefactError(
            f"'{path}' is not the graph of its pipeline.json: only one of both has {', '.join(different)}. Export the "
            "model again."
        )
    for name, spec in expected.items():
        shape = tuple(size if isinstance(size, int) else "?" for size in spec.shape)
        if (found[name].dtype, found[name].shape) != (spec.dtype, shape):
            raise ArtefactError(
                f"'{path}' has '{name}' as {found[name].text}, and its pipeline.json as {spec.text}. Export the model "
                "again."
            )


def _described(tensors: Any) -> dict[str, TensorSpec]:
    return {
        tensor.name: TensorSpec(
            ORT_TYPES.get(tensor.type, tensor.type),
            tuple(size if isinstance(size, int) else "?" for size in tensor.shape),
        )
        for tensor in tensors
    }


def _of_openvino(tensors: Any) -> dict[str, TensorSpec]:
    specs = {}
    for tensor in tensors:
        sizes = tuple("?" if size.is_dynamic else size.get_length() for size in tensor.partial_shape)
        name = tensor.element_type.get_type_name()
        specs[tensor.get_any_name()] = TensorSpec(OPENVINO_TYPES.get(name, name), sizes)
    return specs
