"""An exported model that predicts rows: what runs where there is no PyTorch, no transformers and no PEFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mmadapters.data.batching import inference_batches
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.padding import pad_tokens, stack_features
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import PROBLEM_TYPES
from mmadapters.errors import ArtefactError, ConfigurationError, DataError, MMAdaptersError
from mmadapters.evaluation.predictions import Predictions, decided, in_row_order
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.export.files import MODELS, TOKENIZER_FILE, Form, check_files, choose_form, read_section
from mmadapters.export.runtime import Session, open_session
from mmadapters.export.signature import GATES, LOGITS, Signature
from mmadapters.export.tokenizer import FileTokenizer, check_described


@dataclass(frozen=True)
class ExportedModel:
    """A model that was exported, with all that it takes to predict from rows.

    Attributes:
        session: The graph, ready to run.
        form: Which form of the model it is, and under which runtime.
        signature: What goes into the graph and comes out.
        preprocessor: Turns rows into a data set.
        problem_type: ``multi_label_classification``, ``single_label_classification`` or ``regression``.
        labels: The label names in the order of the logits.
        threshold: Probability from which on a label is predicted (multi-label) where there are no ``thresholds``.
        thresholds: For each label the probability from which on it is predicted, as tuned on the validation split.
        batch_size: Examples a batch.
        max_tokens_per_batch: Most tokens of a batch instead, padding included.
        pipeline: The whole of ``pipeline.json``.
    """

    session: Session
    form: Form
    signature: Signature
    preprocessor: Preprocessor
    problem_type: str
    labels: list[str]
    threshold: float = 0.5
    thresholds: tuple[float, ...] | None = None
    batch_size: int = 64
    max_tokens_per_batch: int | None = None
    pipeline: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def predictor(self) -> Mapping[str, Any] | None:
        """Of a model that ``MultimodalPredictor`` trained: how raw media become features, as plain values."""
        return self.pipeline.get("predictor")

    @property
    def decision_thresholds(self) -> tuple[float, ...]:
        """For each label the probability from which on it is predicted (multi-label)."""
        return self.thresholds or (self.threshold,) * len(self.labels)

    def predict(self, rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Predict rows.

        Args:
            rows: A data frame, or a list of dictionaries, with the columns that the model was trained on; labels are
                not looked at.

        Returns:
            A row for each row, with its index: ``prediction`` is a list of labels (multi-label), a label or a value;
            ``probability_<label>`` follows for each label.

        Raises:
            DataError: If there are no rows, or a column is absent or cannot be used.
        """
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        scores = self.predict_dataset(self.preprocessor.transform(frame, with_labels=False)).scores
        predicted = decided(scores, self.problem_type, self.labels, self.decision_thresholds)
        table = pd.DataFrame({"prediction": pd.Series(predicted, index=frame.index)})
        if self.problem_type != "regression":
            for index, name in enumerate(self.labels):
                table[f"probability_{name}"] = scores[:, index]
        return table

    def predict_dataset(
        self,
        dataset: MultimodalDataset,
        *,
        batch_size: int | None = None,
        max_tokens_per_batch: int | None = None,
        output_gates: bool = False,
        progress: bool = False,
    ) -> Predictions:
        """Predict all rows of a data set that the preprocessor made, in their order.

        Args:
            dataset: The rows; labels are not looked at.
            batch_size: Examples a batch, where they are to be others than the model's.
            max_tokens_per_batch: Most tokens of a batch, where they are to be others than the model's.
            output_gates: Whether to collect the gates' means.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If there are no rows.
            ConfigurationError: If a row alone has more tokens than fit, or gates are wanted that were not exported.
        """
        if len(dataset) == 0:
            raise DataError("There are no rows to predict.")
        if output_gates and not self.signature.n_sites:
            raise ConfigurationError("The model was exported without its gates. Export it again with --gates.")
        budget = max_tokens_per_batch or (None if batch_size else self.max_tokens_per_batch)
        batches = inference_batches(dataset.lengths, batch_size or self.batch_size, budget)
        outputs = [
            self._run([dataset[int(row)] for row in rows])
            for rows in tqdm(batches, desc="predicting", disable=not progress, unit="batch")
        ]
        order = np.concatenate(batches)
        logits = in_row_order(np.concatenate([output[LOGITS] for output in outputs]), order)
        gates = in_row_order(np.concatenate([output[GATES] for output in outputs]), order) if output_gates else None
        return Predictions(scores_from_logits(logits, self.problem_type), logits, gates)

    def infer(
        self,
        text: Mapping[str, np.ndarray],
        modality_features: Mapping[str, np.ndarray] | None = None,
        modality_mask: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run the graph on one batch.

        Args:
            text: The tokenizer's outputs (B, L), by name.
            modality_features: By modality name, floats (B, D) or (B, T, D). A modality that is not there is missing.
            modality_mask: By modality name, bool (B,) or (B, T), False where it is missing. What is masked, NaN
                included, cannot change a number.

        Returns:
            ``logits`` (B, C), and ``gates`` (B, sites, 1 + m) where they were exported.

        Raises:
            InputError: If a name or a shape does not fit, or a present feature is NaN or infinite.
        """
        return self.session.run(self.signature.feeds(text, modality_features, modality_mask))

    def _run(self, items: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        tokenizer = self.preprocessor.tokenizer
        stacked = {m.name: stack_features(m, items) for m in self.signature.modalities}
        return self.infer(
            pad_tokens(items, tokenizer.padding, tokenizer.padding_side),
            {name: features for name, (features, _) in stacked.items()},
            {name: mask for name, (_, mask) in stacked.items()},
        )


def load_exported(
    folder: str | Path, *, runtime: str | None = None, int8: bool = False, threads: int | None = None
) -> ExportedModel:
    """Read an exported model.

    Args:
        folder: Where ``export_artefact`` or ``mmadapters export`` wrote it.
        runtime: ``onnxruntime`` (the default) or ``openvino``.
        int8: Whether to run the quantised model.
        threads: Number of threads, or None for one a core.

    Raises:
        ArtefactError: If the folder holds no exported model or a newer format, or a file is absent, damaged, a link, or
            not what ``pipeline.json`` says.
        ConfigurationError: If the runtime is unknown, or the model was not exported for what is asked.
        MissingDependencyError: If the runtime is not installed.
    """
    source = Path(folder)
    pipeline, section = read_section(source)
    form = choose_form(source, section, runtime, int8)
    check_files(source, section, (TOKENIZER_FILE, *MODELS[form.name]))
    try:
        check_described(section["tokenizer"])
        tokenizer = FileTokenizer(source / TOKENIZER_FILE, section["tokenizer"])
        preprocessor = Preprocessor.from_dict(pipeline["preprocessor"], tokenizer)
        signature = Signature(
            text=tuple(tokenizer.model_input_names),
            modalities=tuple(preprocessor.modalities),
            n_labels=len(pipeline["labels"]),
            n_sites=len(section["gates"]["layers"]),
            n_gates=len(section["gates"]["names"]),
        )
        thresholds = tuple(map(float, pipeline["thresholds"])) if pipeline.get("thresholds") else None
        if thresholds is not None and len(thresholds) != len(pipeline["labels"]):
            raise ValueError(f"{len(thresholds)} thresholds for {len(pipeline['labels'])} labels")
        if pipeline["problem_type"] not in PROBLEM_TYPES or int(pipeline["batch_size"]) < 1:
            raise ValueError(f"problem type {pipeline['problem_type']!r}, batch size {pipeline['batch_size']!r}")
        session = open_session(source / MODELS[form.name][0], form.runtime, signature, threads)
        return ExportedModel(
            session=session,
            form=form,
            signature=signature,
            preprocessor=preprocessor,
            problem_type=pipeline["problem_type"],
            labels=[str(label) for label in pipeline["labels"]],
            threshold=float(pipeline["threshold"]),
            thresholds=thresholds,
            batch_size=int(pipeline["batch_size"]),
            max_tokens_per_batch=pipeline.get("max_tokens_per_batch"),
            pipeline=pipeline,
        )
    except MMAdaptersError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"'{source}/pipeline.json' lacks something or holds what it should not: {error!r}. Export the model again."
        ) from error
