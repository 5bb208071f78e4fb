"""V-SNLI: whether a sentence follows from another, with the picture that the first describes.

Vu et al. 2018, https://aclanthology.org/C18-1199. The layout is MMBT's: ``train.jsonl``, ``dev.jsonl`` and
``test.jsonl``, whose rows have ``sentence1``, ``sentence2``, ``label`` (or ``gold_label``, as in SNLI) and ``img``, a
path that starts from their folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mmadapters.data.schema import SINGLE_LABEL
from mmadapters.data.sources.jsonl_rows import PICTURE, JsonlField, JsonlLayout, read_jsonl_rows
from mmadapters.data.sources.problems import Problems, named_ids, reported_counts
from mmadapters.data.sources.protocol import PICTURES, RunFile, picture_extraction
from mmadapters.data.sources.published import ID, PublishedSet

LABEL = "label"
LABELS = ("entailment", "neutral", "contradiction")
NO_AGREEMENT = "-"
"""Label of the pairs on which the annotators did not agree."""
PAIR = ("premise", "hypothesis")

DOWNLOAD = (
    "V-SNLI is linked from https://github.com/claudiogreco/coling18-gte, its pictures are those of Flickr30k. The "
    "folder has to hold train.jsonl, dev.jsonl and test.jsonl with 'sentence1', 'sentence2', 'label' and 'img', and "
    "the pictures."
)

_LAYOUT = JsonlLayout(
    (
        JsonlField(PAIR[0], ("sentence1",)),
        JsonlField(PAIR[1], ("sentence2",)),
        JsonlField(LABEL, (LABEL, "gold_label")),
    ),
    id_names=("id", "pairID"),
)

_README = """\
  id          of the pair
  premise     what the picture shows
  hypothesis  what follows from it, contradicts it, or neither
  label       entailment, neutral or contradiction
  picture     path of the picture, which several pairs share and which is encoded once
https://aclanthology.org/C18-1199
"""


@dataclass(frozen=True)
class VSNLICounts:
    """What the data set is to have.

    Attributes:
        reported: Pairs of each split. The papers' numbers were not at hand to be checked: differences are told only.
    """

    reported: Mapping[str, int] = field(default_factory=lambda: {"train": 545_620, "validation": 9_842, "test": 9_824})


def read_vsnli(folder: str | Path, allow_partial: bool = False, counts: VSNLICounts | None = None) -> PublishedSet:
    """Read V-SNLI and check it.

    Pairs without agreement are left out.

    Args:
        folder: Of the files.
        allow_partial: Whether pairs without a picture are accepted.
        counts: What there is to be, where it is not what was published.

    Raises:
        DataError: If something is missing, broken or not as it was published; the message lists all problems.
    """
    root = Path(folder).expanduser()
    problems = Problems(f"V-SNLI in '{folder}'", allow_partial)
    counts = counts or VSNLICounts()
    splits, notes = {}, []
    for name, frame in read_jsonl_rows(root, _LAYOUT, problems).items():
        agreed = _agreed(name, frame, problems)
        if len(agreed) < len(frame):
            notes.append(f"{name}: {len(frame) - len(agreed):,} pairs without agreement are left out.")
        splits[name] = agreed
    problems.raise_any(DOWNLOAD)
    rows = {name: len(frame) for name, frame in splits.items()}
    return PublishedSet(
        title="V-SNLI",
        root=root,
        splits=splits,
        run=RunFile("vsnli", PAIR, LABEL, SINGLE_LABEL, "accuracy", {PICTURE: {"store": PICTURES}}),
        readme=_README,
        problems=problems,
        extract={PICTURE: picture_extraction(PICTURE)},
        notes=(*notes, *reported_counts(rows, counts.reported, "pairs")),
    )


def _agreed(split: str, frame: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Return the pairs with a label, noting labels that are none of the three."""
    if frame.empty:
        return frame
    kept = frame[frame[LABEL] != NO_AGREEMENT].reset_index(drop=True)
    wrong = kept[ID][~kept[LABEL].isin(LABELS)]
    if len(wrong):
        problems.add(f"{split}: {len(wrong):,} labels are none of {', '.join(LABELS)}: ids {named_ids(wrong)}.")
    return kept
