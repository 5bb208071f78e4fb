"""MPAA ratings of movies from their scripts and genres (Shafaei et al. 2020, https://aclanthology.org/2020.lrec-1.166).

The layout is that of the research code: ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``, whose rows have ``script``,
``genre`` (a list) and ``label``, the rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmadapters.data.schema import SINGLE_LABEL
from mmadapters.data.sources.jsonl_rows import JsonlField, JsonlLayout, read_jsonl_rows
from mmadapters.data.sources.problems import Problems, check_counts
from mmadapters.data.sources.protocol import RunFile
from mmadapters.data.sources.published import PublishedSet

LABEL = "label"
GENRES = "genres"

DOWNLOAD = (
    "The corpus is described in https://aclanthology.org/2020.lrec-1.166. The folder has to hold train.jsonl, "
    "dev.jsonl and test.jsonl with 'script', 'genre' (a list) and 'label'."
)

_LAYOUT = JsonlLayout(
    (
        JsonlField("text", ("script",)),
        JsonlField(GENRES, ("genre",), (list,)),
        JsonlField(LABEL, (LABEL,)),
    ),
    picture_names=(),
)

_README = """\
  id      of the movie where the files give one, else split and number
  text    the script; of a script, the first 512 tokens are read
  genres  a list
  label   the rating
https://aclanthology.org/2020.lrec-1.166
"""


@dataclass(frozen=True)
class MPAACounts:
    """What the data set is to have.

    Attributes:
        rows: Movies of each split; no published numbers were found, so that none are checked.
    """

    rows: Mapping[str, int] = field(default_factory=dict)


def read_mpaa(folder: str | Path, allow_partial: bool = False, counts: MPAACounts | None = None) -> PublishedSet:
    """Read the MPAA ratings and check them.

    Args:
        folder: Of the files.
        allow_partial: Whether fewer rows are accepted, where ``counts`` names any.
        counts: What there is to be.

    Raises:
        DataError: If something is missing, broken or not as it was published; the message lists all problems.
    """
    root = Path(folder).expanduser()
    problems = Problems(f"MPAA ratings in '{folder}'", allow_partial)
    splits = read_jsonl_rows(root, _LAYOUT, problems)
    rows = {name: len(frame) for name, frame in splits.items()}
    check_counts(problems, rows, (counts or MPAACounts()).rows, "movies")
    problems.raise_any(DOWNLOAD)
    return PublishedSet(
        title="MPAA ratings",
        root=root,
        splits=splits,
        run=RunFile("mpaa", "text", LABEL, SINGLE_LABEL, "weighted_f1", {GENRES: {"multi_valued": [GENRES]}}),
        readme=_README,
        problems=problems,
    )
