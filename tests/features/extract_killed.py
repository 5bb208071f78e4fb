"""Run as a program: an extraction that kills itself with SIGKILL at a given step.

Arguments: folder with pictures, store, step, how often the step is passed before, number of rows.
"""

import os
import signal
import sys
from pathlib import Path

import pandas as pd
from counting_extractor import MeanColour

from mmadapters.features.extract import ExtractionOptions, MediaSource, extract
from mmadapters.features.media_index import MediaIndex
from mmadapters.features.store import StoreWriter


def die_at(owner: type, name: str, after: bool, passes: int) -> None:
    """Replace a method by one that kills the process before or after its call number ``passes``, from 0."""
    method = getattr(owner, name)
    left = [passes]

    def dying(*arguments, **keywords):
        left[0] -= 1
        if left[0] < 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments, **keywords)
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


STEPS = {
    "before encoding": (MeanColour, "encode", False),
    "after encoding": (MeanColour, "encode", True),
    "before a row": (StoreWriter, "add", False),
    "before the index": (MediaIndex, "add", False),
    "between index and commit": (MediaIndex, "add", True),
    "after the commit": (StoreWriter, "commit", True),
}


def main(root: Path, store: Path, step: str, passes: int, rows: int) -> None:
    owner, name, after = STEPS[step]
    die_at(owner, name, after, passes)
    frame = pd.DataFrame({"id": [f"m{row}" for row in range(rows)], "path": [f"{row}.png" for row in range(rows)]})
    extract(
        frame,
        [MediaSource("path", MeanColour())],
        store,
        ExtractionOptions("id", root, workers=1, rows_per_shard=4),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
