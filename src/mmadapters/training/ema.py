"""An exponential moving average of the trained weights, which is what is evaluated and saved.

After step t the average moves by ``1 - min(decay, (1 + t) / (10 + t))`` towards the weights, so that a short training
does not end near its start (Polyak and Juditsky 1992; the warm-up is that of the Inception models, Szegedy et al. 2016,
https://arxiv.org/abs/1512.00567).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mmadapters.errors import ConfigurationError

LIVE_WEIGHTS_FILE = "live_weights.safetensors"
"""In a checkpoint, beside the averaged weights: those that the next step starts from."""


class WeightAverage(TrainerCallback):
    """Averages the trained weights of a model while it is trained.

    Args:
        model: The model that is trained; its weights with gradients are averaged.
        decay: Above 0 and below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.resumed_from: Path | None = None
        self._averages: dict[str, Tensor] | None = None
        self._in_place = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start from the weights, or from a checkpoint, whose averaged weights the model has by now.

        Raises:
            ConfigurationError: If the checkpoint is of a run without an average.
        """
        self._averages = {name: parameter.detach().clone() for name, parameter in self._trained()}
        if self.resumed_from is None:
            return
        file = self.resumed_from / LIVE_WEIGHTS_FILE
        if not file.is_file():
            raise ConfigurationError(
                f"The checkpoint '{self.resumed_from}' has no {LIVE_WEIGHTS_FILE}, so it is of a run without "
                "ema_decay. Go on without ema_decay, or start a new run."
            )
        self._put(load_file(str(file)))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the average towards the weights."""
        assert self._averages is not None
        decay = min(self.decay, (1.0 + state.global_step) / (10.0 + state.global_step))
        with torch.no_grad():
            for name, parameter in self._trained():
                self._averages[name].lerp_(parameter, 1.0 - decay)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the average in the model, unless the best checkpoint's is there already."""
        assert self._averages is not None
        if not (args.load_best_model_at_end and state.best_model_checkpoint):
            self._put(self._averages)
        self._averages = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the averages in the model for a while; outside a training nothing happens."""
        if self._averages is None or self._in_place:
            yield
            return
        live = {name: parameter.detach().clone() for name, parameter in self._trained()}
        self._put(self._averages)
        self._in_place = True
        try:
            yield
        finally:
            self._put(live)
            self._in_place = False

    def save_live(self, folder: str | Path) -> None:
        """Write the weights themselves beside a checkpoint's averaged ones.

        Args:
            folder: Of the checkpoint.
        """
        if self._averages is not None:
            live = {name: parameter.detach().cpu().contiguous() for name, parameter in self._trained()}
            save_file(live, str(Path(folder) / LIVE_WEIGHTS_FILE))

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad)

    def _put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(weights[name])
