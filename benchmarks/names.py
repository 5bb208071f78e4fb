"""How contenders are called, in configurations and results and for people. Needs the standard library alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

FULL, ADAPTERHUB, LORA = "full fine-tuning", "adapterhub text-only", "lora r=8"
OURS, OURS_TEXT, OURS_SHARED = "ours", "ours text-only", "ours shared"
BF16, COMPILED = "bf16", "compiled"
LAST_LAYERS = re.compile(r"ours last (?P<layers>\d+)(?P<cached>, cached)?")

DISPLAYED = {
    FULL: "full fine-tuning",
    LORA: "PEFT LoRA, r = 8",
    ADAPTERHUB: "AdapterHub, text only",
    OURS: "ours",
    OURS_TEXT: "ours, text only",
    OURS_SHARED: "ours, shared projections",
}
ENDINGS = {BF16: "bfloat16", COMPILED: "compiled"}

AXES = {
    "length": "tokens a text",
    "batch_size": "rows a batch",
    "modalities": "modalities",
    "width": "features of each modality",
    "labels": "labels",
    "rows": "rows of the data set",
}
"""What the axes of growth count."""


def base_name(name: str) -> tuple[str, set[str]]:
    """Return a contender's name without its endings, and the endings."""
    endings = set()
    while name.endswith((f" {BF16}", f" {COMPILED}")):
        name, _, ending = name.rpartition(" ")
        endings.add(ending)
    return name, endings


def check_contenders(names: Iterable[str]) -> None:
    """Refuse names that no contender has.

    Raises:
        ValueError: Names the first one, and all that are accepted.
    """
    for name in names:
        base, _ = base_name(name)
        if base not in DISPLAYED and not LAST_LAYERS.fullmatch(base):
            raise ValueError(
                f"There is no contender {name!r}. Accepted are {', '.join(map(repr, DISPLAYED))}, 'ours last N' and "
                f"'ours last N, cached', with ' {BF16}' or ' {COMPILED}' behind."
            )


def display_name(contender: str) -> str:
    """Return a contender's name as people read it."""
    name, endings = base_name(contender)
    if last := LAST_LAYERS.fullmatch(name):
        layers = "layer" if last["layers"] == "1" else f"{last['layers']} layers"
        name = f"ours, last {layers}" + (", prefix cached" if last["cached"] else "")
    return ", ".join([DISPLAYED.get(name, name), *(ENDINGS[ending] for ending in sorted(endings))])


def is_ours(contender: str) -> bool:
    """Return whether a contender has this package's adapters."""
    return contender.startswith("ours")
