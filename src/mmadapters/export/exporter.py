"""Writes an artefact as a folder that predicts by itself.

==============================  ======================================================================================
``model.onnx``                  encoder, adapters and head (``model.onnx.data``: their weights, where they are large)
``model.int8.onnx``             the same with 8-bit weights, where wanted
``model.xml``, ``model.bin``    the same for OpenVINO, where wanted
``tokenizer.json``              the tokenizer
``pipeline.json``               the artefact's, with digests of the files and what the tokenizer needs beside its file
``README.md``                   what is in it, and how it runs
==============================  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from mmadapters.artefact import Artefact, check_may_be_written, describe_pipeline, load_artefact
from mmadapters.errors import ArtefactError
from mmadapters.export.card import exported_card
from mmadapters.export.exported import load_exported
from mmadapters.export.files import (
    EXPORT_FORMAT,
    MODELS,
    PIPELINE_FILE,
    README_FILE,
    SECTION,
    TOKENIZER_FILE,
    Form,
    file_entries,
)
from mmadapters.export.graph import DEFAULT_OPSET, TensorsOnly, plain_model, require, signature_of, write_onnx
from mmadapters.export.parity import RowCheck, check_rows, check_tolerance, largest_difference
from mmadapters.export.quantisation import write_int8, write_openvino
from mmadapters.export.runtime import imported, open_session
from mmadapters.export.tokenizer import describe_tokenizer, write_tokenizer
from mmadapters.files import replace_folder, write_json_atomically, write_text_atomically

PACKAGES = ("mmadapters", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "tokenizers")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: Where.
        problem_type: Of the model.
        bytes: Size of each file, by name.
        differences: For each float32 form the largest difference from the artefact on made-up inputs of several shapes
            and with modalities missing, over the larger of 1 and the largest output.
        checks: For each form how it compares with the artefact on the rows to check with, where some were given.
    """

    folder: Path
    problem_type: str
    bytes: Mapping[str, int]
    differences: Mapping[Form, float]
    checks: Mapping[Form, RowCheck] = field(default_factory=dict)


def export_artefact(
    artefact: Artefact | str | Path,
    folder: str | Path,
    *,
    int8: bool = False,
    openvino: bool = False,
    gates: bool = False,
    opset: int = DEFAULT_OPSET,
    check: pd.DataFrame | None = None,
) -> ExportReport:
    """Export a trained model; the folder holds all of it or, after an interruption, what it held before.

    Batch size, text length and steps of a sequence may be of any size, and any modality may be missing in any row.

    Args:
        artefact: A trained model, or its folder. Of several adapters the active one is exported.
        folder: Where to; an exported model that is there is replaced.
        int8: Whether to write a quantised model, too.
        openvino: Whether to write OpenVINO's format, too.
        gates: Whether the models give the gates' means beside the logits.
        opset: Version of ONNX's operators.
        check: Rows to compare every form with the artefact on.

    Raises:
        ArtefactError: If there is something else in the folder, the encoder cannot be exported, or a float32 model
            differs from the artefact by more than 1e-4.
        ConfigurationError: If the operators' version is unknown, or the adapter has no gates.
        MissingDependencyError: If a package of the extra ``export`` or ``openvino`` is not installed.
    """
    require("onnx", "onnxscript", "onnxruntime")
    if openvino:
        imported("openvino")
    target = Path(folder)
    check_may_be_written(target)
    if (target / "adapter_config.json").exists():
        raise ArtefactError(
            f"'{target}' holds an artefact, which would be lost: it cannot be made again from an exported model. Name "
            "another folder."
        )
    original = artefact if isinstance(artefact, Artefact) else load_artefact(artefact)
    signature = signature_of(original, gates)
    plain = plain_model(original, signature)
    # What is compared with: the same in float32, where the encoder is something else.
    source = replace(original, model=plain.model)
    rows = None if check is None else source.preprocessor.transform(check, with_labels=_has_labels(source, check))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replace_folder(target) as temporary:
        tokenizer = source.preprocessor.tokenizer
        described = describe_tokenizer(tokenizer, signature.text)
        write_tokenizer(tokenizer, temporary / TOKENIZER_FILE)
        differences = _write_models(source, plain, temporary, int8=int8, openvino=openvino, opset=opset)
        files = file_entries(temporary)
        section = {
            "format_version": EXPORT_FORMAT,
            "tokenizer": described,
            "gates": _gates(source) if gates else {"names": [], "layers": []},
            "opset": opset,
            "files": files,
            "differences": {form.title: found for form, found in differences.items()},
            "versions": {package: installed(package) for package in PACKAGES},
        }
        pipeline = describe_pipeline(original)
        write_json_atomically(temporary / PIPELINE_FILE, {**pipeline, SECTION: section})
        checks = {}
        for form in [*differences, *([Form("int8", "onnxruntime")] if int8 else [])]:
            if rows is not None:
                exported = load_exported(temporary, runtime=form.runtime, int8=form.name == "int8")
                checks[form] = check_rows(source, exported, rows)
                if form.name != "int8":
                    check_tolerance(form.title, checks[form].relative)
        section["checks"] = {form.title: found.to_dict() for form, found in checks.items()}
        write_json_atomically(temporary / PIPELINE_FILE, {**pipeline, SECTION: section})
        sizes = {name: entry["bytes"] for name, entry in files.items()}
        report = ExportReport(target, source.problem_type, sizes, differences, checks)
        write_text_atomically(temporary / README_FILE, exported_card(pipeline, described, signature, report))
    return report


def installed(package: str) -> str | None:
    """Return the version of a package, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _write_models(
    artefact: Artefact, plain: TensorsOnly, folder: Path, *, int8: bool, openvino: bool, opset: int
) -> dict[Form, float]:
    """Write the forms of the model, and return how far the float32 ones are from it."""
    source = folder / MODELS["float32"][0]
    write_onnx(plain, source, opset)
    forms = [Form("float32", "onnxruntime")]
    if openvino:
        write_openvino(source, folder / MODELS["openvino"][0])
        forms.append(Form("openvino", "openvino"))
    differences = {}
    for form in forms:
        session = open_session(folder / MODELS[form.name][0], form.runtime, plain.signature)
        differences[form] = largest_difference(plain, session, artefact)
        check_tolerance(form.title, differences[form])
    if int8:
        quantised = folder / MODELS["int8"][0]
        write_int8(source, quantised)
        open_session(quantised, "onnxruntime", plain.signature)
    return differences


def _gates(artefact: Artefact) -> dict[str, Any]:
    tuner = artefact.model.base_model
    return {"names": list(tuner.gate_names), "layers": list(tuner.site_layers)}


def _has_labels(artefact: Artefact, frame: pd.DataFrame) -> bool:
    columns = artefact.preprocessor.schema.label_columns
    return bool(columns) and all(column in frame.columns for column in columns)
