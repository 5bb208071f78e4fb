"""Damage to an artefact's files: values of JSON files by hostile ones, and bytes of any of them.

``python mutations.py <artefact> <seed> <count>`` loads so many damaged copies under limits of memory and time, and
prints how many ended how.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JSON_FILES = ("pipeline.json", "adapter_config.json")
WEIGHTS = "adapter_model.safetensors"
REMOVED = "REMOVED"
HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2,
    3,
    2**31,
    2**63,
    10**30,
    1e300,
    -0.5,
    "",
    "x",
    "../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "\0",
    "\ud800",
    "https://evil.example/x",
    "a" * 20_000,
    "__class__",
    [],
    {},
    [[[[]]]],
    ["x"] * 1000,
    {"x": {"y": 1}},
    [None],
    {"name": "poster", "feature_dim": 2**40},
    REMOVED,
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a nest of mappings and lists but the outermost."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


def with_values(content: Any, changes: list[tuple[int, Any]]) -> Any:
    """Put values at places, which are counted; a value ``REMOVED`` removes what is there."""
    changed = copy.deepcopy(content)
    for index, value in changes:
        found = list(places(changed))
        if not found:
            break
        *parents, last = found[index % len(found)]
        inner = changed
        for key in parents:
            inner = inner[key]
        if value == REMOVED:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(value)
    return changed


def with_bytes(content: bytes, kind: str, position: int, value: int) -> bytes:
    """Change bytes: one is replaced or put in, some are cut out, doubled, or the end is lost."""
    place = position % max(len(content), 1)
    if kind == "replace":
        return content[:place] + bytes([value]) + content[place + 1 :]
    if kind == "insert":
        return content[:place] + bytes([value]) * (1 + value % 9) + content[place:]
    if kind == "cut":
        return content[:place] + content[place + 1 + value :]
    if kind == "double":
        return content[: place + value] + content[place:]
    return content[:place]


KINDS = ("replace", "insert", "cut", "double", "truncate")


def damaged(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    """Files of which one or two are damaged."""
    changed = dict(files)
    for _ in range(draw.choice([1, 1, 2])):
        name = draw.choice([*JSON_FILES, WEIGHTS])
        if name == WEIGHTS or draw.random() < 0.2:
            # The head of a weights' file is where most can go wrong.
            reach = 8 if draw.random() < 0.2 else max(len(changed[name]), 1) if draw.random() < 0.3 else 4000
            changed[name] = with_bytes(changed[name], draw.choice(KINDS), draw.randrange(reach), draw.randrange(256))
        else:
            try:
                content = json.loads(changed[name])
            except ValueError:
                continue
            values = [(draw.randrange(10**6), draw.choice(HOSTILE)) for _ in range(draw.choice([1, 1, 3]))]
            changed[name] = json.dumps(with_values(content, values)).encode()
    return changed


def main() -> None:
    source, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    from transformers.utils import logging

    from mmadapters.artefact import load_artefact
    from mmadapters.errors import MMAdaptersError

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    backbone = str(source.parent / "backbone")
    load_artefact(source, backbone=backbone)
    status = Path("/proc/self/status").read_text()
    used = int(next(line for line in status.splitlines() if line.startswith("VmSize")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + 600_000_000, used + 600_000_000))
    files = {name: (source / name).read_bytes() for name in (*JSON_FILES, WEIGHTS)}
    ended: Counter[str] = Counter()
    for number in range(count):
        draw = random.Random(seed * 1_000_000 + number)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in damaged(files, draw).items():
                (Path(folder) / name).write_bytes(content)
            signal.alarm(20)
            try:
                load_artefact(folder, backbone=backbone)
                ended["loaded"] += 1
            except MMAdaptersError as error:
                ended[type(error).__name__] += 1
            except BaseException as error:
                raise RuntimeError(f"seed {seed}, number {number}: {error!r}") from error
            signal.alarm(0)
    sys.stdout.write(f"{json.dumps(ended)}\n")


if __name__ == "__main__":
    main()
