"""Hateful Memes: whether a meme, a picture with a text, is hateful (https://arxiv.org/abs/2005.04790).

The published layout: ``train.jsonl``, ``dev_seen.jsonl`` and ``test_seen.jsonl`` (in the first phase ``dev.jsonl`` and
``test.jsonl``, without labels), or ``dev_unseen.jsonl`` and ``test_unseen.jsonl`` of the second phase; rows have
``id``, ``img``, ``text`` and ``label``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmadapters.data.schema import SINGLE_LABEL
from mmadapters.data.sources.jsonl_rows import PICTURE, JsonlField, JsonlLayout, read_jsonl_rows
from mmadapters.data.sources.problems import Problems, check_counts
from mmadapters.data.sources.protocol import PICTURES, RunFile, picture_extraction
from mmadapters.data.sources.published import PublishedSet

LABEL = "label"

DOWNLOAD = (
    "Hateful Memes is given out by https://hatefulmemeschallenge.com after its terms are agreed to. The folder has to "
    "hold train.jsonl, dev_seen.jsonl, test_seen.jsonl and img/."
)

_SEEN = {
    "train": ("train.jsonl",),
    "validation": ("dev_seen.jsonl", "dev.jsonl"),
    "test": ("test_seen.jsonl", "test.jsonl"),
}
_UNSEEN = {"train": ("train.jsonl",), "validation": ("dev_unseen.jsonl",), "test": ("test_unseen.jsonl",)}

_README = """\
  id       of the meme
  text     on the picture
  label    1 if it is hateful, else 0{without}
  picture  path of the picture
https://arxiv.org/abs/2005.04790
"""


@dataclass(frozen=True)
class HatefulMemesCounts:
    """What the data set is to have.

    Attributes:
        seen: Memes of each split of the paper.
        unseen: Memes of each split of the second phase.
    """

    seen: Mapping[str, int] = field(default_factory=lambda: {"train": 8_500, "validation": 500, "test": 1_000})
    unseen: Mapping[str, int] = field(default_factory=lambda: {"train": 8_500, "validation": 540, "test": 2_000})


def read_hateful_memes(
    folder: str | Path, unseen: bool = False, allow_partial: bool = False, counts: HatefulMemesCounts | None = None
) -> PublishedSet:
    """Read Hateful Memes and check it.

    Where the test rows have no labels, they are for predictions, and ``train.yaml`` does not name them.

    Args:
        folder: Of the files.
        unseen: Whether the splits of the second phase are read.
        allow_partial: Whether fewer rows, and rows without a picture, are accepted.
        counts: What there is to be, where it is not what was published.

    Raises:
        DataError: If something is missing, broken or not as it was published; the message lists all problems.
    """
    root = Path(folder).expanduser()
    problems = Problems(f"Hateful Memes in '{folder}'", allow_partial)
    counts = counts or HatefulMemesCounts()
    layout = JsonlLayout(
        (JsonlField("text", ("text",)), JsonlField(LABEL, (LABEL,), (int,))),
        files=_UNSEEN if unseen else _SEEN,
        unlabelled=("test",),
    )
    splits = read_jsonl_rows(root, layout, problems)
    check_counts(
        problems,
        {name: len(frame) for name, frame in splits.items()},
        counts.unseen if unseen else counts.seen,
        "memes",
    )
    for name, frame in splits.items():
        labels = set(frame[LABEL]) if LABEL in frame else set()
        if not labels <= {0, 1}:
            problems.add(f"{name}: labels are {', '.join(sorted(map(str, labels)))}; accepted are 0 and 1.")
    problems.raise_any(DOWNLOAD)
    labelled = tuple(name for name, frame in splits.items() if LABEL in frame)
    unlabelled = "test" not in labelled
    return PublishedSet(
        title="Hateful Memes",
        root=root,
        splits=splits,
        run=RunFile("hateful-memes", "text", LABEL, SINGLE_LABEL, "accuracy", {PICTURE: {"store": PICTURES}}, labelled),
        readme=_README.format(without="; the test rows have none" if unlabelled else ""),
        problems=problems,
        extract={PICTURE: picture_extraction(PICTURE)},
        notes=("The test rows have no labels: train.yaml does not name them.",) if unlabelled else (),
    )
