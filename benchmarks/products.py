"""What arithmetic asks for: operations of matrix products, and how many of them a second this machine makes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

PRODUCT_SIZE = 2048

_aten = torch.ops.aten


def _attention(query: Any, key: Any, *_: Any, **__: Any) -> int:
    """Operations of the two products of attention (B, heads, L, d)."""
    rows, heads, length, width = query
    return 4 * rows * heads * length * key[-2] * width


def _attention_backward(_: Any, query: Any, key: Any, *__: Any, **___: Any) -> int:
    return 2 * _attention(query, key)


# PyTorch's counter knows the attention of GPUs; this is that of processors.
_ON_PROCESSORS = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_products(call: Callable[[], Any]) -> int:
    """Return the floating-point operations of all matrix products that a call makes, its backward pass included."""
    with FlopCounterMode(display=False, custom_mapping=_ON_PROCESSORS) as counter:
        call()
    return int(counter.get_total_flops())


def product_rate(dtype: torch.dtype = torch.float32, repeats: int = 3, size: int = PRODUCT_SIZE) -> float:
    """Return the operations a second that a large product reaches here."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    a @ b
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * size**3 / median(times)
