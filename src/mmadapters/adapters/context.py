"""How modality features reach adapters deep inside the encoder, for exactly one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from mmadapters.adapters.inputs import ModalityInput
from mmadapters.errors import ConfigurationError

GateRequest = Literal[False, True, "full", "contributions"]
CONTRIBUTIONS = "contributions"
"""The request for how much of the updates comes from where."""


@dataclass
class ForwardState:
    """What the adapters of one forward pass read and leave behind.

    Attributes:
        inputs: Prepared modalities by modality name, by adapter name; for a member of an AdapterFusion by
            ``adapter.member``.
        projected: By adapter name and path of the site, all modalities in that site's bottleneck (B, m, p), where those
            of all sites were computed at once.
        rows: In a batch of several adapters, the indices of each adapter's rows.
        length: Number L of tokens.
        attention_mask: (B, L), 1 at valid tokens, where the caller gave one.
        prefix_states: (B, L, H), the hidden states that enter the first layer with an adapter, where they were given.
        output_gates: Whether gates are collected: no, as means, or in full; or contributions to the updates.
        gate_names: What the gates are of, in their order.
        gates: The gates collected so far, in the order in which the sites ran; None once the pass has ended, so that
            a re-run for gradient checkpointing collects nothing.
    """

    inputs: dict[str, dict[str, ModalityInput]] = field(default_factory=dict)
    projected: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    rows: dict[str, Tensor] | None = None
    attention_mask: Tensor | None = None
    length: int | None = None
    prefix_states: Tensor | None = None
    output_gates: GateRequest = False
    gate_names: list[str] = field(default_factory=list)
    gates: list[Tensor] | None = field(default_factory=list)


class ModalityContext:
    """Holds the state of the forward pass that is under way; one instance per model, shared by all its adapters."""

    def __init__(self) -> None:
        self.state: ForwardState | None = None
        self.adapter_names: list[str] | None = None
        """The adapter of each row of the batch that is about to be run, where they differ."""

    @contextmanager
    def use(self, state: ForwardState | None) -> Iterator[None]:
        """Make ``state`` the current one for a block, whatever happens in it."""
        previous, self.state = self.state, state
        try:
            yield
        finally:
            self.state = previous


class ContextCheckpoint:
    """A gradient-checkpointing function whose re-run in the backward pass sees the state of its own forward pass.

    Gradient checkpointing runs a layer again in the backward pass, when the forward pass has ended and perhaps another
    one has begun. Wrapping the function that is checkpointed, this remembers the state for each call, with either kind
    of checkpointing and with any number of forward passes before a backward pass.

    Args:
        checkpoint: The checkpointing function to wrap: ``checkpoint(function, *args, **kwargs)``.
        context: Where the model's adapters look for their state.
    """

    def __init__(self, checkpoint: Callable[..., Any], context: ModalityContext) -> None:
        self.checkpoint = checkpoint
        self.context = context

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Checkpoint ``function(*args)``."""
        state = self.context.state

        def run(*inputs: Any, **keywords: Any) -> Any:
            with self.context.use(state):
                return function(*inputs, **keywords)

        return self.checkpoint(run, *args, **kwargs)


def has_reentrant_checkpoints(model: nn.Module) -> bool:
    """Tell whether a module of ``model`` has gradient checkpointing of the reentrant kind switched on."""
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            checkpoint = getattr(module, "_gradient_checkpointing_func", None)
            wrapped = checkpoint.checkpoint if isinstance(checkpoint, ContextCheckpoint) else checkpoint
            if getattr(wrapped, "keywords", {}).get("use_reentrant", False):
                return True
    return False


def keep_context_in_checkpoints(model: nn.Module, context: ModalityContext, reentrant_accepted: bool = True) -> None:
    """Wrap the checkpointing function of every module of ``model`` that has gradient checkpointing switched on.

    Args:
        model: The adapted model.
        context: Its context.
        reentrant_accepted: Whether the reentrant kind can be used. It cannot where sites share parameters: each layer's
            backward pass would free the graph that the next one needs.

    Raises:
        ConfigurationError: If it is used and cannot be.
    """
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            checkpoint = getattr(module, "_gradient_checkpointing_func", None)
            if checkpoint is None:
                continue
            wrapped = checkpoint.checkpoint if isinstance(checkpoint, ContextCheckpoint) else checkpoint
            if not reentrant_accepted and getattr(wrapped, "keywords", {}).get("use_reentrant", False):
                raise ConfigurationError(
                    "Reentrant gradient checkpointing does not go with projections that all sites share "
                    "(share_projections, pre_projection_size, pooling='attention'). Use "
                    "gradient_checkpointing_kwargs={'use_reentrant': False}."
                )
            if wrapped is checkpoint:
                setattr(module, "_gradient_checkpointing_func", ContextCheckpoint(checkpoint, context))  # noqa: B010
