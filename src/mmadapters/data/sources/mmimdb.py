"""MM-IMDb: 23 genres of movies from plot and poster (https://arxiv.org/abs/1702.01992).

Three layouts are read: the *archive* (``split.json``, ``dataset/<id>.json`` and ``.jpeg``), the *hdf5* file
(``multimodal_imdb.hdf5`` with ``metadata.npy``), and the *jsonl* files that MMBT's script makes of the archive, with
the poster under ``img`` or ``image``.

Of the archive, rows are made as MMBT does (https://arxiv.org/abs/1909.02950): the longest plot; no movies of the genre
News; no validation and test movies with a genre that no training movie has.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mmadapters.data.schema import MULTI_LABEL
from mmadapters.data.sources.jsonl_rows import PICTURE, JsonlField, JsonlLayout, read_jsonl_rows
from mmadapters.data.sources.mmimdb_hdf5 import HDF5_FILE, VOCABULARY_FILE, read_hdf5
from mmadapters.data.sources.problems import Problems, check_counts, check_ids, named_ids
from mmadapters.data.sources.protocol import PICTURES, RunFile, picture_extraction
from mmadapters.data.sources.published import FEATURES, ID, LABELS, PublishedFeatures, PublishedSet, StoreDtype
from mmadapters.errors import ConfigurationError, listed

ARCHIVE = "archive"
HDF5 = "hdf5"
JSONL = "jsonl"
LAYOUTS = (ARCHIVE, HDF5, JSONL)

ROWS = {"train": 15_552, "validation": 2_608, "test": 7_799}
TEST_POSITIVES = {
    "Drama": 4142,
    "Film-Noir": 102,
    "Mystery": 617,
    "Thriller": 1567,
    "Adventure": 821,
    "Crime": 1163,
    "Horror": 825,
    "Romance": 1590,
    "Sport": 191,
    "Fantasy": 585,
    "Biography": 411,
    "Action": 1044,
    "Music": 311,
    "War": 401,
    "Documentary": 629,
    "Short": 142,
    "Animation": 306,
    "Comedy": 2611,
    "Family": 518,
    "Musical": 253,
    "Sci-Fi": 586,
    "Western": 210,
    "History": 345,
}
"""Test movies of each genre."""
DROPPED_GENRE = "News"
LEFT_OUT_AT_MOST = 0.01
"""Share of the training and validation rows that MMBT's script may have left out of its files."""

SPLIT_FILE = "split.json"
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}

DOWNLOAD = (
    f"Download mmimdb.tar.gz, or {HDF5_FILE} and {VOCABULARY_FILE}, from https://archive.org/details/mmimdb (linked "
    f"from https://github.com/johnarevalo/gmu-mmimdb). The folder has to hold {SPLIT_FILE} and dataset/; or the two "
    "files; or train.jsonl, dev.jsonl and test.jsonl, with the pictures where they say."
)

_README = """\
  id        number of the movie in IMDb
  text      {text}
  labels    genres, a list
  {poster}
https://arxiv.org/abs/1702.01992
"""


@dataclass(frozen=True)
class MMIMDbCounts:
    """What the data set is to have.

    Attributes:
        rows: Movies of each split.
        test_positives: Test movies of each genre.
    """

    rows: Mapping[str, int] = field(default_factory=lambda: ROWS)
    test_positives: Mapping[str, int] = field(default_factory=lambda: TEST_POSITIVES)


@dataclass(frozen=True)
class _Read:
    """The rows of a layout, before and after movies were dropped."""

    published: dict[str, pd.DataFrame]
    kept: dict[str, pd.DataFrame]
    notes: tuple[str, ...] = ()
    features: PublishedFeatures | None = None


def read_mmimdb(
    folder: str | Path,
    layout: str | None = None,
    dtype: StoreDtype = "float16",
    allow_partial: bool = False,
    counts: MMIMDbCounts | None = None,
) -> PublishedSet:
    """Read MM-IMDb and check it.

    Args:
        folder: Of the files, or the HDF5 file.
        layout: ``archive``, ``hdf5`` or ``jsonl``; None for the one whose files are there.
        dtype: How the posters' features in the HDF5 file are stored.
        allow_partial: Whether fewer movies, and movies without a poster, are accepted.
        counts: What there is to be, where it is not what was published.

    Raises:
        ConfigurationError: If the layout is unknown, or the files of several are there.
        MissingDependencyError: If the HDF5 file is to be read and h5py is not installed.
        DataError: If something is missing, broken or not as it was published; the message lists all problems.
    """
    given = Path(folder).expanduser()
    root, layout = _find(given, layout, allow_partial)
    problems = Problems(f"MM-IMDb, {layout} layout, in '{folder}'", allow_partial)
    counts = counts or MMIMDbCounts()
    if layout == HDF5:
        splits, features = read_hdf5(root, given if given.is_file() else root / HDF5_FILE, problems, dtype, counts.rows)
        read = _Read(splits, splits, features=features)
    elif layout == JSONL:
        read = _jsonl(root, problems)
    else:
        read = _archive(root, problems)
    _check(problems, read.published, counts, exact=layout != JSONL)
    problems.raise_any(DOWNLOAD)
    poster = {"store": FEATURES if layout == HDF5 else PICTURES}
    return PublishedSet(
        title=f"MM-IMDb ({layout} layout)",
        root=root,
        splits=read.kept,
        run=RunFile("mmimdb", "text", LABELS, MULTI_LABEL, "micro_f1", {"poster": poster}),
        readme=_readme(layout),
        problems=problems,
        features=read.features,
        extract={} if layout == HDF5 else {"poster": picture_extraction(PICTURE)},
        notes=read.notes,
    )


def _find(given: Path, layout: str | None, allow_partial: bool) -> tuple[Path, str]:
    """Return the folder of the files, and their layout."""
    if layout not in (None, *LAYOUTS):
        raise ConfigurationError(f"layout={layout!r} is unknown; accepted are {listed(LAYOUTS)}.")
    if given.is_file() and layout in (None, HDF5):
        return given.parent, HDF5
    marks = {ARCHIVE: SPLIT_FILE, HDF5: HDF5_FILE, JSONL: "train.jsonl"}
    for root in (given, given / "mmimdb"):
        has = [name for name, file in marks.items() if (root / file).is_file() and layout in (None, name)]
        if len(has) > 1:
            options = " or ".join(f"--layout {name}" for name in has)
            raise ConfigurationError(f"'{root}' has files of {len(has)} layouts. Name one: {options}.")
        if has:
            return root, has[0]
    if layout is None:
        problems = Problems(f"MM-IMDb in '{given}'", allow_partial)
        problems.add(f"There is none of {listed(marks.values())}.")
        problems.raise_any(DOWNLOAD)
    return given, str(layout)


def _check(problems: Problems, splits: Mapping[str, pd.DataFrame], counts: MMIMDbCounts, exact: bool) -> None:
    """Note counts that differ from the published ones; see ``LEFT_OUT_AT_MOST`` for files that are not exact."""
    found = {name: len(frame) for name, frame in splits.items()}
    if not exact:
        for name in ("train", "validation"):
            if counts.rows[name] * (1 - LEFT_OUT_AT_MOST) <= found[name] <= counts.rows[name]:
                found[name] = counts.rows[name]
    check_counts(problems, found, counts.rows, "movies")
    if found["test"] == counts.rows["test"]:
        known = [labels for labels in splits["test"][LABELS] if isinstance(labels, list)]
        positives = Counter(label for labels in known for label in labels)
        check_counts(problems, positives, counts.test_positives, "test movies")


def _archive(root: Path, problems: Problems) -> _Read:
    ids = _split_ids(root, problems)
    check_ids(problems, ids)
    published = {name: _archive_rows(root, name, of_split, problems) for name, of_split in ids.items()}
    return _dropped(published)


def _split_ids(root: Path, problems: Problems) -> dict[str, list[str]]:
    """Return the ids of each split."""
    nothing: dict[str, list[str]] = {name: [] for name in _SPLITS.values()}
    try:
        splits = json.loads((root / SPLIT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.add(f"'{SPLIT_FILE}' was not read: {error}.")
        return nothing
    if not isinstance(splits, dict) or not all(isinstance(splits.get(name), list) for name in _SPLITS):
        problems.add(f"'{SPLIT_FILE}' is no object with the lists {listed(_SPLITS)}.")
        return nothing
    return {column: [str(id) for id in splits[name]] for name, column in _SPLITS.items()}


def _archive_rows(root: Path, split: str, ids: Iterable[str], problems: Problems) -> pd.DataFrame:
    rows, absent, broken, no_picture = [], [], [], []
    for id in ids:
        file = root / "dataset" / f"{id}.json"
        if not file.is_file():
            absent.append(id)
            continue
        movie = _movie(file)
        if movie is None:
            broken.append(id)
            continue
        picture = f"dataset/{id}.jpeg"
        if not (root / picture).is_file():
            no_picture.append(id)
        rows.append({ID: id, **movie, PICTURE: None if no_picture[-1:] == [id] else picture})
    if absent:
        problems.add_incomplete(f"{split}: {len(absent):,} movies have no file in dataset/: {named_ids(absent)}.")
    if no_picture:
        problems.add_incomplete(f"{split}: {len(no_picture):,} posters are not in dataset/: {named_ids(no_picture)}.")
    if broken:
        problems.add(
            f"{split}: {len(broken):,} files are no JSON object with lists of texts 'plot' and 'genres': "
            f"{named_ids(broken)}."
        )
    frame = pd.DataFrame(rows, columns=[ID, "text", LABELS, PICTURE])
    return frame.astype(object)


def _movie(file: Path) -> dict[str, Any] | None:
    """Return the longest plot and the genres, or None where the file does not say."""
    try:
        movie = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fields = movie if isinstance(movie, dict) else {}
    plots, genres = _texts(fields.get("plot")), _texts(fields.get("genres"))
    return {"text": max(plots, key=len), LABELS: genres} if plots and genres else None


def _texts(value: Any) -> list[str]:
    """Return a list of texts, or an empty one for anything else."""
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else []


def _dropped(published: dict[str, pd.DataFrame]) -> _Read:
    """Leave out the movies that MMBT leaves out."""
    notes = []
    kept: dict[str, pd.DataFrame] = {}
    for name, frame in published.items():
        news = frame[LABELS].map(lambda labels: DROPPED_GENRE in labels).astype(bool)
        empty = frame["text"].map(len).eq(0) & ~news
        known = {label for labels in kept["train"][LABELS] for label in labels} if kept else None
        unseen = frame[LABELS].map(lambda labels, known=known: known is not None and not known.issuperset(labels))
        unseen = unseen.astype(bool) & ~news & ~empty
        for rows, reason in (
            (news, f"of the genre {DROPPED_GENRE}"),
            (empty, "without a plot"),
            (unseen, "with a genre that no training movie has"),
        ):
            if rows.any():
                notes.append(f"{name}: {int(rows.sum()):,} movies {reason} are left out.")
        kept[name] = frame[~(news | empty | unseen)].reset_index(drop=True)
    return _Read(published, kept, tuple(notes))


def _jsonl(root: Path, problems: Problems) -> _Read:
    fields = (JsonlField("text", ("text",)), JsonlField(LABELS, ("label",), (list,)))
    splits = read_jsonl_rows(root, JsonlLayout(fields, ids_from_pictures=True), problems)
    if problems:
        return _Read(splits, splits)
    return _dropped(splits)


def _readme(layout: str) -> str:
    if layout == HDF5:
        return _README.format(
            text="the words of the plot, in lower case, numbers as N", poster=f"{FEATURES}/ has poster: VGG features"
        )
    return _README.format(text="the longest plot", poster=f"{PICTURE}   path of the poster")
