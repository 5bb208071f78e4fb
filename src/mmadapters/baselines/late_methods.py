"""``late_gmu`` and ``late_concat``: small heads on frozen features, as methods of a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmadapters.baselines.frozen_features import FrozenFeatures, frozen_inputs
from mmadapters.baselines.head_search import HeadOptions, Split, search_head
from mmadapters.baselines.late_fusion import ConcatenatedHead, GatedHead
from mmadapters.baselines.result import (
    MethodResult,
    as_rows,
    check_splits,
    count_parameters,
    label_names,
    predicted_splits,
    saved_bytes,
)
from mmadapters.baselines.sections import ConfiguredMethod
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor


class _LateFusionMethod(ConfiguredMethod):
    """A head on frozen features; its settings and its epoch are chosen on the validation rows.

    Args:
        model: Its backbone is the frozen encoder; nothing else of it is read.
        adapter: Not read.
        training: The encoder's batch size, metric, class weights, label smoothing and device.
        options: ``training`` and the keys of ``HeadOptions``.
    """

    name: str
    head: Callable[[Sequence[int], int, int, float], nn.Module]

    own_options = HeadOptions

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Train a head for each combination of the options; see ``Method.run``."""
        problem_type = check_splits(preprocessor, data)
        arguments = self.settings.arguments(seed)
        arguments.for_run(problem_type, has_validation=True)
        labels = label_names(preprocessor)
        started = time.perf_counter()
        inputs = frozen_inputs(
            self.settings.model.backbone,
            preprocessor,
            data,
            text=self.settings.own.text,
            batch_size=arguments.per_device_eval_batch_size,
            device=arguments.device,
        )
        splits = {
            split: Split(
                _tensors(inputs.splits[split], arguments.device),
                torch.from_numpy(np.asarray(data[split].labels)).to(arguments.device),
            )
            for split in ("train", "validation")
        }
        widths = list(inputs.widths.values())
        n_outputs = 1 if problem_type == "regression" else len(labels)
        best = search_head(
            lambda hidden_size, dropout: type(self).head(widths, hidden_size, n_outputs, dropout),
            splits["train"],
            splits["validation"],
            self.settings.own,
            arguments,
            problem_type,
            labels,
            report,
        )
        seconds = time.perf_counter() - started
        trainable = count_parameters(best.head)
        kept = {**best.head.state_dict(), "standardisation": torch.zeros(inputs.statistics_size)}
        return MethodResult(
            logits={
                split: as_rows(best.logits(_tensors(inputs.splits[split], arguments.device)), problem_type)
                for split in predicted_splits(data)
            },
            trainable_parameters=trainable,
            parameters=inputs.encoder_parameters + trainable,
            file_bytes=saved_bytes(kept, folder),
            seconds=seconds,
            log=best.log,
            settings={
                **best.settings,
                "metric": str(arguments.metric_for_best_model).removeprefix("eval_"),
                "value": best.value,
                "epoch": best.epoch,
            },
        )


class LateGMUMethod(_LateFusionMethod):
    """A Gated Multimodal Unit on frozen features; see ``_LateFusionMethod`` for the arguments."""

    name = "late_gmu"
    head = GatedHead


class LateConcatMethod(_LateFusionMethod):
    """A network of one hidden layer on frozen features side by side; see ``_LateFusionMethod`` for the arguments."""

    name = "late_concat"
    head = ConcatenatedHead


def _tensors(features: FrozenFeatures, device: torch.device) -> list[torch.Tensor]:
    return [torch.from_numpy(values).to(device) for values in features.values.values()]
