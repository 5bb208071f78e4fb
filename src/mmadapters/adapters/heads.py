"""Heads by adapter: several tasks on one encoder, each with labels of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.preparation import BASE
from mmadapters.errors import ConfigurationError

HEAD = "classifier"
"""Attribute of a model that is its head."""


class TaskHeads(ModulesToSaveWrapper):
    """PEFT's wrapper of a module that each adapter has a trained copy of, where the copies may differ in width.

    Args:
        head: The model's own head.
        adapter_name: The first adapter with a head of its own.
        own_heads: By adapter name, a head where it is not a copy of ``head``.
        problem_types: By adapter name, its problem type where it is not the model's.
    """

    def __init__(
        self,
        head: nn.Module,
        adapter_name: str,
        own_heads: Mapping[str, nn.Module] | None = None,
        problem_types: Mapping[str, str] | None = None,
    ) -> None:
        # Needed by update(), which the wrapper's initialisation calls, so before nn.Module can take attributes.
        self.__dict__["own_heads"] = dict(own_heads or {})
        self.__dict__["problem_types"] = dict(problem_types or {})
        super().__init__(head, adapter_name)

    def declare(self, adapter_name: str, head: nn.Module, problem_type: str | None) -> None:
        """Say which head an adapter will get, before PEFT adds it."""
        self.own_heads[adapter_name] = head
        if problem_type is not None:
            self.problem_types[adapter_name] = problem_type

    def update(self, adapter_name: str, **kwargs: Any) -> None:
        """Add an adapter's head: the declared one, else a copy of the model's own."""
        own = self.own_heads.pop(adapter_name, None)
        if own is not None and adapter_name not in self.modules_to_save:
            own.to(next(self.original_module.parameters()).device)
            self.modules_to_save[adapter_name] = own.requires_grad_(False)
        super().update(adapter_name, **kwargs)

    @property
    def active_problem_type(self) -> str | None:
        """The problem type of the active adapter where it is not the model's."""
        active = [] if self.disable_adapters else self.active_adapters
        return self.problem_types.get(active[0]) if active else None

    def _mixed_batch_forward(self, input: Tensor, *args: Any, adapter_names: list[str], **kwargs: Any) -> Tensor:
        """Return the logits (B, C) of a batch of several adapters; where a head is narrower, -inf stands behind it."""
        parts = []
        for name in dict.fromkeys(adapter_names):
            rows = torch.tensor([row for row, of_row in enumerate(adapter_names) if of_row == name])
            head = self.original_module if name == BASE else self.modules_to_save[name]
            parts.append((rows.to(input.device), head(input[rows.to(input.device)], *args, **kwargs)))
        width = max(part.shape[-1] for _, part in parts)
        logits = parts[0][1].new_full((len(input), width), -torch.inf)
        for rows, part in parts:
            logits[rows, : part.shape[-1]] = part
        return logits


def declare_head(model: nn.Module, adapter_name: str, config: MultimodalAdapterConfig, is_active: bool) -> None:
    """Prepare the model for an adapter whose task has labels or a problem type of its own.

    Args:
        model: A model with a head ``classifier`` that can make others: it has ``new_head(num_labels)``.
        adapter_name: The adapter.
        config: Its configuration; the head is entered into ``modules_to_save``.
        is_active: Whether the adapter is the active one.

    Raises:
        ConfigurationError: If the model cannot make heads.
    """
    if config.labels is None and config.problem_type is None:
        return
    new_head = getattr(model, "new_head", None)
    if new_head is None:
        raise ConfigurationError(
            f"labels or problem_type was given for the adapter '{adapter_name}', but {type(model).__name__} cannot "
            "make a head of another width. Use mmadapters.TextClassifier, or leave both out."
        )
    head = new_head(None if config.labels is None else len(config.labels), config.problem_type)
    present = getattr(model, HEAD)
    if isinstance(present, TaskHeads):
        present.declare(adapter_name, head, config.problem_type)
    else:
        setattr(model, HEAD, _wrapped(present, adapter_name, head, config.problem_type, is_active))
    if HEAD not in (config.modules_to_save or ()):
        config.modules_to_save = [*(config.modules_to_save or ()), HEAD]


def _wrapped(
    present: nn.Module, adapter_name: str, head: nn.Module, problem_type: str | None, is_active: bool
) -> TaskHeads:
    problem_types = {} if problem_type is None else {adapter_name: problem_type}
    if not isinstance(present, ModulesToSaveWrapper):
        heads = TaskHeads(present, adapter_name, {adapter_name: head}, problem_types)
        heads.set_adapter(adapter_name if is_active else [])
        return heads
    # PEFT wrapped the head for earlier adapters: their copies move over.
    trained = {parameter: parameter.requires_grad for parameter in present.parameters()}
    earlier = dict(present.modules_to_save.items())
    active = present.active_adapters[:1]
    first, *others = earlier
    heads = TaskHeads(present.original_module, first, earlier)
    for name in others:
        heads.update(name)
    heads.declare(adapter_name, head, problem_type)
    heads.set_adapter(active)
    for parameter, requires_grad in trained.items():
        parameter.requires_grad_(requires_grad)
    return heads
