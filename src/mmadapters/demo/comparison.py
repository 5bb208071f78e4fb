"""What the demonstrations share: adapters and logistic regression trained on the same splits, and one table of both."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.artefact import (
    Artefact,
    artefact_bytes,
    load_artefact,
    save_artefact,
    training_record,
    training_settings,
)
from mmadapters.backbones import load_tokenizer
from mmadapters.baselines.frozen_linear import FrozenLinearBaseline
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.files import read_rows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import MULTI_LABEL, DatasetSchema
from mmadapters.errors import ArtefactError
from mmadapters.evaluation.evaluator import GateMeans, evaluate, gate_means, predict
from mmadapters.evaluation.metrics import MetricsReport, compute_metrics
from mmadapters.evaluation.predictions import Predictions
from mmadapters.evaluation.thresholds import validation_thresholds
from mmadapters.files import write_json_atomically, write_text_atomically
from mmadapters.modality import TEXT
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, fit

TEXT_ONLY = "text-only adapter"
MULTIMODAL = "multimodal adapter"


@dataclass(frozen=True)
class MethodResult:
    """One row of the table.

    Attributes:
        method: Its name.
        modalities: What it reads, ``text`` included.
        micro_average_precision: On the test split, as are the next two.
        macro_average_precision: Mean over the labels with a positive.
        micro_f1: At a probability of 0.5.
        trainable_parameters: Number of parameters that were fitted.
        file_bytes: Size of what was saved.
        seconds: Time of fitting, with the choice of its hyper-parameters on the validation split.
    """

    method: str
    modalities: list[str]
    micro_average_precision: float
    macro_average_precision: float
    micro_f1: float
    trainable_parameters: int
    file_bytes: int
    seconds: float


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration measured.

    Attributes:
        methods: The rows of the table.
        gates: Mean gates of the multimodal adapter on the test split, or None where its fusion has no gates.
        n_train: Rows of the training split.
        n_validation: Rows of the validation split.
        n_test: Rows of the test split.
        labels: Label names.
        seed: Of split, initialisation and order.
        artefact: Folder of the multimodal adapter.
        test_rows: The rows of the test split, as a file that ``mmadapters predict`` reads.
        logits_sha256: Of the logits that the trained multimodal adapter gave for ``test_rows`` before it was loaded
            from disk.
        unit: What a row is, in the plural.
        note: What has to be said beside the figures, such as that the rows are made up.
    """

    methods: list[MethodResult]
    gates: GateMeans | None
    n_train: int
    n_validation: int
    n_test: int
    labels: list[str]
    seed: int
    artefact: Path
    test_rows: Path
    logits_sha256: str
    unit: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return {
            "methods": [asdict(method) for method in self.methods],
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "n_test": self.n_test,
            "labels": self.labels,
            "seed": self.seed,
            **({"note": self.note} if self.note else {}),
            "mean_gates": self.gates
            and {
                "gates": self.gates.names,
                "layers": self.gates.layers,
                "values": [[None if np.isnan(v) else float(v) for v in row] for row in self.gates.by_layer],
            },
        }


@dataclass(frozen=True)
class DemoOptions:
    """What a run of the demonstration can be told.

    Attributes:
        output_dir: Where artefacts and ``metrics.json`` go.
        seed: Of split, initialisation and order.
        model: Backbone, pooling and head.
        adapter: Options of ``MultimodalAdapterConfig`` beside the modalities.
        training: Options of ``MultimodalTrainingArguments``.
        report: Called with a line for a person at each step.
        rows_name: What the rows are, for the model card.
        synthetic: Whether a program made the rows up.
    """

    output_dir: Path
    seed: int
    model: ModelSettings
    adapter: dict[str, Any]
    training: dict[str, Any]
    report: Callable[[str], None]
    rows_name: str = ""
    synthetic: bool = False


def train_adapter(
    options: DemoOptions, frames: Mapping[str, pd.DataFrame], schema: DatasetSchema, method: str
) -> tuple[Artefact, MethodResult]:
    """Train adapters on the training split, choose the epoch on the validation split, save the artefact.

    Args:
        options: Of the demonstration.
        frames: Rows by split: ``train``, ``validation`` and ``test``.
        schema: What the columns mean; without modalities the adapters read the text alone.
        method: Name of the row in the table, and of the artefact's folder.

    Returns:
        The trained model, and its row of the table.
    """
    options.report(f"Training the {method} inside the frozen {options.model.backbone}")
    preprocessor = Preprocessor.fit(frames["train"], schema, load_tokenizer(options.model.backbone))
    data = {split: preprocessor.transform(frame) for split, frame in frames.items()}
    only_multimodal = () if schema.modalities else ("fusion", "feature_dropout", "modality_dropout")
    choices = {name: value for name, value in options.adapter.items() if name not in only_multimodal}
    arguments = MultimodalTrainingArguments(**{"seed": options.seed, "disable_tqdm": False, **options.training})
    fitted = fit(
        preprocessor,
        data["train"],
        data["validation"],
        settings=options.model,
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, **choices),
        arguments=arguments,
        report=options.report,
    )
    artefact = Artefact(fitted.model, preprocessor, options.model, batch_size=arguments.per_device_eval_batch_size)
    predictions = {split: _predictions(artefact, data[split]) for split in ("validation", "test")}
    if arguments.tune_thresholds:
        tuned = validation_thresholds(MULTI_LABEL, predictions["validation"].scores, data["validation"].labels)
        artefact = replace(artefact, thresholds=tuned)
    # On the rows that thresholds are tuned on they say nothing.
    thresholds = {"validation": None, "test": artefact.thresholds}
    reports = {
        split: evaluate(predicted, data[split], MULTI_LABEL, artefact.labels, thresholds[split])
        for split, predicted in predictions.items()
    }
    record = training_record(
        artefact,
        data,
        predictions,
        sources=dict.fromkeys(data, options.rows_name) if options.rows_name else {},
        training=training_settings(arguments, fitted),
        synthetic=options.synthetic,
    )
    artefact = replace(artefact, metrics={split: report.values for split, report in reports.items()}, record=record)
    folder = save_artefact(artefact, artefact_folder(options.output_dir, method))
    return artefact, MethodResult(
        method=method,
        modalities=[TEXT, *(modality.name for modality in schema.modalities)],
        trainable_parameters=sum(p.numel() for p in fitted.model.parameters() if p.requires_grad),
        file_bytes=artefact_bytes(folder),
        seconds=fitted.seconds,
        **_shown(reports["test"]),
    )


@dataclass(frozen=True)
class FrozenFeatures:
    """What logistic regression reads.

    Attributes:
        values: By split and modality, float (N, D).
        targets: By split, 0/1 (N, C).
        labels: Names of the C labels.
        text_seconds: Time that the encoder took for the texts; it counts for whoever reads them.
    """

    values: Mapping[str, Mapping[str, np.ndarray]]
    targets: Mapping[str, np.ndarray]
    labels: list[str]
    text_seconds: float

    def fit_linear(self, options: DemoOptions, names: Sequence[str]) -> MethodResult:
        """Fit logistic regression, its C chosen on the validation split, save it and return its row of the table.

        Args:
            options: Of the demonstration.
            names: The modalities that it reads, ``text`` included.
        """
        started = time.perf_counter()
        joined = {
            split: np.concatenate([parts[name] for name in names], axis=1) for split, parts in self.values.items()
        }
        baseline = FrozenLinearBaseline(MULTI_LABEL)
        baseline.fit(joined["train"], self.targets["train"], joined["validation"], self.targets["validation"])
        seconds = time.perf_counter() - started + (self.text_seconds if TEXT in names else 0.0)
        file_bytes = baseline.save(options.output_dir / "logistic-regression" / f"{'-'.join(names)}.safetensors")
        report = compute_metrics(MULTI_LABEL, baseline.predict_proba(joined["test"]), self.targets["test"], self.labels)
        return MethodResult(
            method="logistic regression",
            modalities=list(names),
            trainable_parameters=baseline.n_parameters,
            file_bytes=file_bytes,
            seconds=seconds,
            **_shown(report),
        )


def write_result(
    options: DemoOptions,
    frames: Mapping[str, pd.DataFrame],
    methods: list[MethodResult],
    artefact: Artefact,
    test_rows: Path,
    unit: str,
    note: str = "",
) -> DemoResult:
    """Write the test rows and ``metrics.json``, and return what was measured.

    Args:
        options: Of the demonstration.
        frames: Rows by split.
        methods: The rows of the table.
        artefact: The multimodal adapter.
        test_rows: Where the test rows go.
        unit: What a row is, in the plural.
        note: What has to be said beside the figures.
    """
    write_text_atomically(test_rows, frames["test"].to_json(orient="records", lines=True, force_ascii=False))
    result = DemoResult(
        methods=methods,
        gates=_mean_gates(artefact, frames["test"]),
        n_train=len(frames["train"]),
        n_validation=len(frames["validation"]),
        n_test=len(frames["test"]),
        labels=artefact.labels,
        seed=options.seed,
        artefact=artefact_folder(options.output_dir, MULTIMODAL),
        test_rows=test_rows,
        logits_sha256=_logits_sha256(artefact, test_rows),
        unit=unit,
        note=note,
    )
    write_json_atomically(options.output_dir / "metrics.json", result.to_dict())
    return result


def _predictions(artefact: Artefact, data: MultimodalDataset) -> Predictions:
    return predict(artefact.model, data, artefact.collator, MULTI_LABEL, batch_size=artefact.batch_size)


def _mean_gates(artefact: Artefact, frame: pd.DataFrame) -> GateMeans | None:
    tuner = artefact.model.base_model
    if not tuner.gate_names:
        return None
    data = artefact.preprocessor.transform(frame)
    predictions = predict(
        artefact.model, data, artefact.collator, MULTI_LABEL, batch_size=artefact.batch_size, output_gates=True
    )
    return gate_means(predictions, data, tuner.site_layers, tuner.gate_names)


def _shown(report: MetricsReport) -> dict[str, float]:
    return {name: report.values[name] for name in ("micro_average_precision", "macro_average_precision", "micro_f1")}


def artefact_folder(output_dir: Path, method: str) -> Path:
    """Return where the artefact of a method goes, such as ``MULTIMODAL``."""
    return output_dir / method.replace(" ", "-")


def best_single(result: DemoResult) -> tuple[MethodResult, MethodResult]:
    """Return the best method that reads one modality, and the adapters that read all, by micro average precision.

    Args:
        result: Of a demonstration that tried single modalities.
    """
    single = max(
        (method for method in result.methods if len(method.modalities) == 1),
        key=lambda method: method.micro_average_precision,
    )
    return single, next(method for method in result.methods if method.method == MULTIMODAL)


def check_reload(result: DemoResult) -> None:
    """Predict the test rows in a new process, from what is on disk, and compare with the trained model bit for bit.

    Args:
        result: Of a demonstration; its artefact and test rows are on disk.

    Raises:
        ArtefactError: If the process fails or any number differs.
    """
    code = (
        "import sys; from pathlib import Path; from mmadapters.demo.comparison import logits_digest; "
        "print(logits_digest(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(result.artefact), str(result.test_rows)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise ArtefactError(f"'{result.artefact}' cannot be used in a new process: {process.stderr.strip()[-500:]}")
    there = (process.stdout.strip().splitlines() or ["nothing"])[-1]
    if there != result.logits_sha256:
        raise ArtefactError(
            f"'{result.artefact}' predicts otherwise in a new process than when it was trained: {there} instead of "
            f"{result.logits_sha256}."
        )


def logits_digest(folder: Path, rows: Path) -> str:
    """Return a SHA-256 of the logits that a saved model gives for a file of rows.

    Args:
        folder: Of the artefact.
        rows: CSV, JSONL or Parquet.
    """
    return _logits_sha256(load_artefact(folder), rows)


def _logits_sha256(artefact: Artefact, rows: Path) -> str:
    """Return the digest for a model, which is moved to the CPU: another device gives other last digits."""
    model = artefact.model.to("cpu")
    data = artefact.preprocessor.transform(read_rows(rows), with_labels=False)
    predictions = predict(model, data, artefact.collator, MULTI_LABEL, batch_size=artefact.batch_size)
    return hashlib.sha256(predictions.logits.tobytes()).hexdigest()
