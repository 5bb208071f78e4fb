"""What times depend on: the processor and its bfloat16 instructions, the memory, and a C++ compiler."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""What the kernel calls bfloat16 products: two kinds of x86, and Arm."""


def machine(threads: int) -> dict[str, Any]:
    """Return what a result tells of the machine; None stands for what the kernel does not tell."""
    return {
        "cpu": platform.machine(),
        "processor": next(iter(_cpuinfo("model name")), None),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gigabytes": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "bf16": bf16_flags(),
    }


def load() -> float:
    """Return how many processes wanted to run in the last minute."""
    return round(os.getloadavg()[0], 2)


def bf16_flags() -> list[str]:
    """Return which of ``BF16_FLAGS`` the processor has."""
    there = {flag for name in ("flags", "Features") for value in _cpuinfo(name) for flag in value.split()}
    return [flag for flag in BF16_FLAGS if flag in there]


def cpp_compiler() -> str | None:
    """Return the path of the C++ compiler that ``torch.compile`` would use, or None."""
    named = os.environ.get("CXX")
    return next((found for name in ([named] if named else ["g++", "clang++"]) if (found := shutil.which(name))), None)


def _cpuinfo(name: str) -> list[str]:
    """Return the values that the kernel gives a name, one a core."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name]
