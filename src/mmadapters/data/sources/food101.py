"""UPMC Food-101: 101 dishes from a picture and the text of its page (https://doi.org/10.1109/ICMEW.2015.7169757).

The layout is that of MMBT's script: ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``, whose rows have ``label``,
``text`` and ``img``, a path that starts from their folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmadapters.data.schema import SINGLE_LABEL
from mmadapters.data.sources.jsonl_rows import PICTURE, JsonlField, JsonlLayout, read_jsonl_rows
from mmadapters.data.sources.problems import Problems, check_counts, reported_counts
from mmadapters.data.sources.protocol import PICTURES, RunFile, picture_extraction
from mmadapters.data.sources.published import PublishedSet

LABEL = "label"

DOWNLOAD = (
    "Download UPMC Food-101 from https://visiir.isir.upmc.fr/explore and run scripts/food_101.py of "
    "https://github.com/facebookresearch/mmbt on it. The folder has to hold train.jsonl, dev.jsonl, test.jsonl and "
    "images/."
)

_LAYOUT = JsonlLayout((JsonlField("text", ("text",)), JsonlField(LABEL, (LABEL,))))

_README = """\
  id       class and file of the picture
  text     of the page that the picture is from
  label    the dish
  picture  path of the picture
https://doi.org/10.1109/ICMEW.2015.7169757
"""


@dataclass(frozen=True)
class Food101Counts:
    """What the data set is to have.

    Attributes:
        rows: Rows of each split that MMBT's script makes.
        classes: Number of dishes.
        reported: Rows that papers report, which depend on the pages that could be read: differences are told only.
    """

    rows: Mapping[str, int] = field(default_factory=lambda: {"validation": 5_000})
    classes: int = 101
    reported: Mapping[str, int] = field(default_factory=lambda: {"train": 60_101, "test": 21_695})


def read_food101(folder: str | Path, allow_partial: bool = False, counts: Food101Counts | None = None) -> PublishedSet:
    """Read UPMC Food-101 and check it.

    Args:
        folder: Of the files.
        allow_partial: Whether fewer rows, and rows without a picture, are accepted.
        counts: What there is to be, where it is not what was published.

    Raises:
        DataError: If something is missing, broken or not as it was published; the message lists all problems.
    """
    root = Path(folder).expanduser()
    problems = Problems(f"UPMC Food-101 in '{folder}'", allow_partial)
    counts = counts or Food101Counts()
    splits = read_jsonl_rows(root, _LAYOUT, problems)
    rows = {name: len(frame) for name, frame in splits.items()}
    check_counts(problems, rows, counts.rows, "rows")
    if rows["train"]:
        classes = splits["train"][LABEL].nunique()
        check_counts(problems, {"train": classes}, {"train": counts.classes}, "dishes")
    problems.raise_any(DOWNLOAD)
    return PublishedSet(
        title="UPMC Food-101",
        root=root,
        splits=splits,
        run=RunFile("food101", "text", LABEL, SINGLE_LABEL, "accuracy", {PICTURE: {"store": PICTURES}}),
        readme=_README,
        problems=problems,
        extract={PICTURE: picture_extraction(PICTURE)},
        notes=reported_counts(rows, counts.reported, "rows"),
    )
