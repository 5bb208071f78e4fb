"""The arguments of a call of the adapted model, and what is added to its output."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmadapters.adapters.context import CONTRIBUTIONS, GateRequest
from mmadapters.errors import InputError


def checked_gate_request(value: Any) -> GateRequest:
    """Return a value of ``output_gates``; None is no request.

    Args:
        value: As it was given.

    Raises:
        InputError: If it is unknown.
    """
    if value is None:
        return False
    if value not in (False, True, "full", CONTRIBUTIONS):
        raise InputError(
            f"output_gates={value!r}. Accepted are False, True (means), 'full' (every token and unit) and "
            f"'{CONTRIBUTIONS}' (how much of the updates comes from where)."
        )
    return value


def text_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, positional ones included.

    Args:
        model: What is called.
        args: The positional arguments.
        kwargs: The others.
    """
    names = list(inspect.signature(model.forward).parameters)
    return {**dict(zip(names, args, strict=False)), **kwargs}


def batch_shape(text: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of examples B and of tokens L of a call.

    Args:
        text: Its arguments by name.

    Raises:
        InputError: If it has no text.
    """
    for name in ("input_ids", "inputs_embeds"):
        if text.get(name) is not None:
            # As they are: int() would fix the sizes in a compiled or exported graph.
            return text[name].shape[0], text[name].shape[1]
    raise InputError("The model was called without input_ids and without inputs_embeds. Pass one of them.")


def device_of(text: Mapping[str, Any]) -> torch.device:
    """Return the device of a call's text.

    Args:
        text: The call's arguments by name.
    """
    return next(text[name].device for name in ("input_ids", "inputs_embeds") if text.get(name) is not None)


def with_gates(output: Any, gates: Any) -> Any:
    """Return a model's output with gates as a further entry.

    Args:
        output: A mapping, a tuple or a tensor.
        gates: What to add.
    """
    if isinstance(output, dict):
        output["gates"] = gates
        return output
    if isinstance(output, tuple):
        return (*output, gates)
    return (output, gates)
