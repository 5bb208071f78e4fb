"""The library's own adapters as methods of a comparison: with all modalities, and on the text alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.baselines.fine_tuning import best_epoch, predicted_logits
from mmadapters.baselines.result import MethodResult, check_splits, count_parameters, label_names, scratch_folder
from mmadapters.baselines.sections import ADAPTER, MODEL, MULTIMODAL_ONLY, TRAINING, ConfiguredMethod
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.evaluation.explanation import explain
from mmadapters.evaluation.explanation_summary import summarise_explanation
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import fit


class AdaptersMethod(ConfiguredMethod):
    """Gated multimodal adapters in the frozen encoder, trained as ``mmadapters train`` trains them.

    Args:
        model: Backbone, pooling and head.
        adapter: The run's options of the adapters. Those that are about modalities are left out where there are none.
        training: The run's training options.
        options: ``adapter``, ``training`` and ``model``, which win over the run's.
    """

    name = "adapters"
    reads_modalities = True

    sections = (TRAINING, ADAPTER, MODEL)

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Train adapters and head; see ``Method.run``."""
        problem_type = check_splits(preprocessor, data)
        if not self.reads_modalities:
            preprocessor = preprocessor.restricted_to([])
            data = {split: rows.restricted_to([]) for split, rows in data.items()}
        adapter = dict(self.settings.adapter)
        modalities = preprocessor.modalities
        if adapter.get("fusion") == "none":
            modalities = []
        if not modalities:
            adapter = {name: value for name, value in adapter.items() if name not in MULTIMODAL_ONLY}
        arguments = self.settings.arguments(seed)
        fitted = fit(
            preprocessor,
            data["train"],
            data["validation"],
            settings=self.settings.model,
            adapter=MultimodalAdapterConfig(modalities=list(modalities), **adapter),
            arguments=arguments,
            report=report,
        )
        arguments.for_run(problem_type, has_validation=True)
        with scratch_folder(folder, "saved") as scratch:
            fitted.model.save_pretrained(str(scratch), save_embedding_layers=False)
            kept = sum(path.stat().st_size for path in scratch.rglob("*.safetensors"))
        collator = MultimodalCollator(preprocessor.tokenizer, modalities)
        probe = {} if fitted.linear_probe is None else {"linear_probe_c": fitted.linear_probe.strength}
        return MethodResult(
            logits=predicted_logits(fitted.model, data, collator, problem_type, arguments),
            trainable_parameters=count_parameters(fitted.model, trainable_only=True),
            parameters=count_parameters(fitted.model),
            file_bytes=kept,
            seconds=fitted.seconds,
            log=fitted.log,
            settings={**best_epoch(fitted.log, arguments), **probe},
            explanation=_explanation(fitted.model, preprocessor, data, collator, arguments) if modalities else None,
        )


def _explanation(
    model: PeftModel,
    preprocessor: Preprocessor,
    data: Mapping[str, MultimodalDataset],
    collator: MultimodalCollator,
    arguments: MultimodalTrainingArguments,
) -> dict[str, Any] | None:
    """Return what a trained model looked at in the test rows, or None without such."""
    if "test" not in data:
        return None
    assert preprocessor.labels is not None
    explanation = explain(
        model,
        data["test"],
        collator,
        str(preprocessor.labels.problem_type),
        batch_size=arguments.per_device_eval_batch_size,
        max_tokens_per_batch=arguments.max_tokens_per_batch,
    )
    targets = data["test"].labels
    return summarise_explanation(
        explanation, label_names(preprocessor), None if targets is None else np.asarray(targets)
    )


class AdaptersTextOnlyMethod(AdaptersMethod):
    """Adapters of the text alone; see ``AdaptersMethod`` for the arguments."""

    name = "adapters_text_only"
    reads_modalities = False
