"""From an artefact to an ONNX file: a plain module with tensors alone as inputs, ``torch.export``, ONNX."""

from __future__ import annotations

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mmadapters.artefact import Artefact
from mmadapters.errors import ArtefactError, ConfigurationError, MissingDependencyError, listed
from mmadapters.export.signature import FEATURES, MASK, Signature, TensorSpec

OPSETS = range(18, 24)
DEFAULT_OPSET = 20
"""The first one with GELU as one operator."""
EMBEDDED_BYTES = 1_500_000_000
"""Weights above this go into a file beside the graph: one protobuf message may have 2 GB."""
EXAMPLE = {"rows": 3, "tokens": 6, "steps": 2}
"""Sizes of the example that is traced: none is 1, which would be taken for a fixed size."""
NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


class TensorsOnly(nn.Module):
    """The model of an artefact with one tensor an argument, in the order of a signature.

    Args:
        model: The PEFT model.
        signature: What goes in and comes out.
    """

    def __init__(self, model: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.model = model
        self.signature = signature

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the signature's outputs.

        Args:
            tensors: The signature's inputs.
        """
        named = dict(zip(self.signature.inputs, tensors, strict=True))
        modalities = self.signature.modalities
        given = {
            part: {modality.name: named[f"{part}.{modality.name}"] for modality in modalities}
            for part in (FEATURES, MASK)
        }
        gates = bool(self.signature.n_sites)
        output = self.model(
            **{name: named[name] for name in self.signature.text},
            **(given if modalities else {}),
            **({"output_gates": True} if gates else {}),
        )
        return (output["logits"], output["gates"]) if gates else (output["logits"],)


def signature_of(artefact: Artefact, gates: bool = False) -> Signature:
    """Return what an artefact's exported model reads and gives.

    Args:
        artefact: The model.
        gates: Whether it gives the gates' means.

    Raises:
        ConfigurationError: If gates are wanted and the adapter has none.
    """
    tuner = artefact.model.base_model
    if gates and not tuner.gate_names:
        raise ConfigurationError(
            f"The gates were to be exported, and the adapter's fusion '{artefact.model.active_peft_config.fusion}' has "
            "none. Leave them out."
        )
    tokenizer = artefact.preprocessor.tokenizer
    encoded = tokenizer(["a"])
    return Signature(
        tuple(name for name in tokenizer.model_input_names if name in encoded),
        tuple(artefact.preprocessor.modalities),
        len(artefact.labels),
        n_sites=len(tuner.gate_sites) if gates else 0,
        n_gates=len(tuner.gate_names) if gates else 0,
    )


def plain_model(artefact: Artefact, signature: Signature) -> TensorsOnly:
    """Return the artefact's model on the CPU in float32 and evaluation mode, with tensors alone as inputs.

    Args:
        artefact: The model; it is copied where it is something else.
        signature: What goes in and comes out.
    """
    model = artefact.model
    exact = all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
    if model.training or not exact:
        model = copy.deepcopy(model).float().cpu()
    return TensorsOnly(model, signature).eval()


def write_onnx(plain: TensorsOnly, path: Path, opset: int = DEFAULT_OPSET) -> None:
    """Export a model to ONNX; batch, length and steps of each modality may then be of any size.

    Args:
        plain: The model.
        path: The file; weights of more than ``EMBEDDED_BYTES`` go into ``<path>.data``.
        opset: Version of ONNX's operators.

    Raises:
        ArtefactError: If the encoder cannot be exported.
        ConfigurationError: If the version is unknown.
        MissingDependencyError: If onnx or onnxscript is not installed.
    """
    if opset not in OPSETS:
        raise ConfigurationError(f"opset={opset!r} was given. Accepted are {OPSETS[0]} to {OPSETS[-1]}.")
    require("onnx", "onnxscript")
    specs = plain.signature.inputs
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(plain, example(plain.signature), dynamic_shapes=(_sizes(plain.signature),))
            onnx_program = torch.onnx.export(
                program,
                (),
                dynamo=True,
                dynamic_shapes=(tuple(map(_named, specs.values())),),
                input_names=list(specs),
                output_names=list(plain.signature.outputs),
                opset_version=opset,
                verbose=False,
            )
        # Whatever the tracer and the exporter cannot do, each has exceptions of its own for.
        except Exception as error:
            encoder = cast(Any, plain.model).get_base_model().config.encoder.model_type
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ArtefactError(
                f"A model with the encoder '{encoder}' cannot be exported by torch {torch.__version__}: {reason} "
                "docs/export.md lists the encoders that can."
            ) from error
        assert onnx_program is not None
        _forget_sources(onnx_program.model)
        weights = sum(p.numel() * p.element_size() for p in plain.parameters())
        onnx_program.save(str(path), external_data=weights > EMBEDDED_BYTES)


def example(
    signature: Signature,
    rows: int = EXAMPLE["rows"],
    tokens: int = EXAMPLE["tokens"],
    steps: int = EXAMPLE["steps"],
    *,
    vocabulary: int = 2,
    seed: int = 0,
    present: float = 0.6,
    side: str = "right",
) -> tuple[Tensor, ...]:
    """Return made-up inputs of a signature.

    Args:
        signature: What goes in.
        rows: Number of rows.
        tokens: Tokens of the longest row; every other row is shorter.
        steps: Steps of the first modality; each further one has one more.
        vocabulary: Token ids are below it.
        seed: Of the draw.
        present: Probability with which a step is there; 0 for no modality at all, 1 for all.
        side: On which side texts are padded.
    """
    random = np.random.default_rng(seed)
    mask = np.ones((rows, tokens), np.int64)
    short = slice(None, tokens - max(1, tokens // 2)) if side == "left" else slice(max(1, tokens // 2), None)
    mask[1::2, short] = 0
    values: dict[str, np.ndarray] = {}
    for name in signature.text:
        ids = random.integers(0, vocabulary, (rows, tokens)) if name == "input_ids" else np.zeros_like(mask)
        values[name] = mask if name == "attention_mask" else ids
    features, masks = {}, {}
    for place, modality in enumerate(signature.modalities):
        size = (rows, steps + place)
        features[f"{FEATURES}.{modality.name}"] = random.normal(size=(*size, modality.feature_dim)).astype(np.float32)
        masks[f"{MASK}.{modality.name}"] = random.random(size) < present
    return tuple(torch.from_numpy(array) for array in (values | features | masks).values())


def require(*packages: str) -> None:
    """Refuse to go on without packages of the extra ``export``.

    Raises:
        MissingDependencyError: Names those that are not installed.
    """
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent:
        raise MissingDependencyError(
            f"Exporting needs {listed(absent)}, which is not installed. Install it with: pip install "
            '"mmadapters[export]"'
        )


def _forget_sources(model: Any) -> None:
    """Remove the notes on where each operator comes from: paths of this machine and the names of its packages."""
    for part in (model, model.graph, *model.graph.all_nodes(), *model.graph.initializers.values()):
        part.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


def _named(spec: TensorSpec) -> dict[int, str]:
    """Return the dimensions that may be of any size, and what they are called."""
    return {dim: size for dim, size in enumerate(spec.shape) if isinstance(size, str)}


def _sizes(signature: Signature) -> tuple[dict[int, Any], ...]:
    """Return which dimensions may be of any size; rows are those of all inputs at once."""
    batch = torch.export.Dim("batch")
    return tuple(
        {dim: batch if dim == 0 else torch.export.Dim.DYNAMIC for dim in _named(spec)}
        for spec in signature.inputs.values()
    )


@contextmanager
def quiet(loggers: Sequence[str] = NOISY) -> Iterator[None]:
    """Keep the exporters' notes on their own work off the terminal; what goes wrong is an exception.

    Args:
        loggers: Whose notes.
    """
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
