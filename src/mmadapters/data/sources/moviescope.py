"""Moviescope: 13 genres of movies from plot, poster, trailer, sound and metadata (https://arxiv.org/abs/1908.03180).

Two layouts are read. The *released* files: ``movie_metadata.csv``, whose row numbers are the ids of the movies,
``raw_data_{train,val,test}.p``, ``MatchedPosters/<id>.jpg`` and ``200F_VGG16/<id>.p``. And the layout of later
research code: ``{train,dev,test}.jsonl``, ``PosterFeatures/<id>.p``, ``200F_VGG16/<id>.p``,
``MelgramPorcessed/<id>.p`` (sic) and ``Metadata_matrices/``. Pickles are read without running what they say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.files import read_rows
from mmadapters.data.schema import MULTI_LABEL
from mmadapters.data.sources.jsonl_rows import JSONL_FILES, JsonlField, JsonlLayout, read_jsonl_rows
from mmadapters.data.sources.moviescope_features import (
    FEATURE_FOLDERS,
    MATRICES,
    PublishedFiles,
    matrix_columns,
    published_features,
)
from mmadapters.data.sources.problems import Problems, check_counts, check_ids, named_ids
from mmadapters.data.sources.protocol import PICTURES, RunFile, picture_extraction
from mmadapters.data.sources.published import FEATURES, ID, LABELS, PublishedSet, StoreDtype
from mmadapters.errors import ConfigurationError, listed
from mmadapters.features.cells import is_missing
from mmadapters.features.pickles import read_pickled_values

GENRES = (
    *("action", "animation", "biography", "comedy", "crime", "drama", "family"),
    *("fantasy", "horror", "mystery", "romance", "sci-fi", "thriller"),
)
"""In the order of the bits of ``newGenreLabels``."""

RELEASED = "released"
RESEARCH = "research"
LAYOUTS = (RELEASED, RESEARCH)
MODALITIES: dict[str, tuple[str, ...]] = {
    RELEASED: ("poster", "trailer", "metadata"),
    RESEARCH: ("poster", "trailer", "audio", "metadata"),
}

METADATA_FILE = "movie_metadata.csv"
POSTER_FOLDER = "MatchedPosters"
_RAW = {"train": "raw_data_train.p", "validation": "raw_data_val.p", "test": "raw_data_test.p"}
_JSONL = tuple(name for names in JSONL_FILES.values() for name in names)

NUMERIC = (
    *("num_critic_for_reviews", "duration", "director_facebook_likes", "actor_1_facebook_likes"),
    *("actor_2_facebook_likes", "actor_3_facebook_likes", "gross", "num_voted_users", "cast_total_facebook_likes"),
    *("facenumber_in_poster", "num_user_for_reviews", "budget", "title_year", "imdb_score", "aspect_ratio"),
    "movie_facebook_likes",
)
CATEGORICAL = ("color", "language", "country", "content_rating", "director_name")
ACTORS = ("actor_1_name", "actor_2_name", "actor_3_name")
KEYWORDS = "plot_keywords"

DOWNLOAD = (
    "The released files are on https://www.paolacascante.com/research/moviescope.html (splits with plots, posters, "
    "features of the trailers); metadata is the IMDB-5000 table of Kaggle. The folder has to hold "
    f"{METADATA_FILE}, raw_data_train.p, raw_data_val.p, raw_data_test.p, {POSTER_FOLDER}/ and 200F_VGG16/; or, in the "
    "layout of later research, train.jsonl, dev.jsonl, test.jsonl, PosterFeatures/, 200F_VGG16/, MelgramPorcessed/ and "
    "Metadata_matrices/."
)

_README = """\
  id        number of the movie, the row of movie_metadata.csv
  text      the plot; where UTF-8 had been read as Latin-1, it is repaired
  labels    genres, a list
{columns}https://arxiv.org/abs/1908.03180
"""


@dataclass(frozen=True)
class MoviescopeCounts:
    """What the data set is to have.

    Attributes:
        rows: Movies of each split. That of the test split is known from published results, that of the validation
            split from its authors' notebooks, and the training movies are what is left of 4,934.
        movies: Rows of ``movie_metadata.csv``.
    """

    rows: Mapping[str, int] = field(default_factory=lambda: {"train": 3_456, "validation": 491, "test": 987})
    movies: int = 5_043


def repair_mojibake(text: str) -> str:
    """Return a text whose UTF-8 bytes had been read as Latin-1 as it was; any other text as it is."""
    try:
        return text.encode("latin1").decode("utf-8")
    except UnicodeError:
        return text


def read_moviescope(
    folder: str | Path,
    layout: str | None = None,
    without: Collection[str] = (),
    pooled: bool = False,
    dtype: StoreDtype = "float16",
    allow_partial: bool = False,
    counts: MoviescopeCounts | None = None,
) -> PublishedSet:
    """Read Moviescope and check it.

    Args:
        folder: Of the files.
        layout: ``released`` or ``research``; None for the one whose files are there.
        without: Modalities to leave out, such as ``audio``.
        pooled: Whether only the means of trailers and sound are kept, which is what the original adapters read. Else
            the sequences are, with their means: some 15 GB.
        dtype: How posters, trailers and sound are stored.
        allow_partial: Whether fewer rows, and rows without a file, are accepted.
        counts: What there is to be, where it is not what was published.

    Raises:
        ConfigurationError: If a modality or the layout is unknown.
        DataError: If something is missing, broken or not as it was published; the message lists all problems.
    """
    root = _root(Path(folder).expanduser())
    layout = _layout(root, layout, allow_partial)
    modalities = _modalities(layout, without)
    problems = Problems(f"Moviescope, {layout} layout, in '{folder}'", allow_partial)
    counts = counts or MoviescopeCounts()
    read = _released_rows if layout == RELEASED else _research_rows
    splits = read(root, modalities, problems, counts)
    check_counts(problems, {name: len(frame) for name, frame in splits.items()}, counts.rows, "movies")
    stored = [name for name in modalities if name in FEATURE_FOLDERS and (layout, name) != (RELEASED, "poster")]
    files = PublishedFiles(root, tuple(id for frame in splits.values() for id in frame[ID]), tuple(stored))
    files.check(problems)
    matrices = _matrices(root, splits, modalities, problems) if layout == RESEARCH else {}
    problems.raise_any(DOWNLOAD)
    extract = {"poster": picture_extraction("poster")} if layout == RELEASED and "poster" in modalities else {}
    return PublishedSet(
        title=f"Moviescope ({layout} layout)",
        root=root,
        splits=splits,
        run=_run(layout, modalities),
        readme=_readme(layout, modalities),
        problems=problems,
        features=published_features(files, matrices, dtype, pooled),
        extract=extract,
    )


def _root(folder: Path) -> Path:
    """Return the folder itself, or ``moviescope`` in it, which is where research code has it."""
    inside = folder / "moviescope"
    own = any((folder / name).exists() for name in (*_RAW.values(), *_JSONL))
    return inside if inside.is_dir() and not own else folder


def _layout(root: Path, layout: str | None, allow_partial: bool) -> str:
    if layout is not None:
        if layout not in LAYOUTS:
            raise ConfigurationError(f"layout={layout!r} is unknown; accepted are {listed(LAYOUTS)}.")
        return layout
    has = {
        RELEASED: any((root / name).is_file() for name in _RAW.values()),
        RESEARCH: any((root / name).is_file() for name in _JSONL),
    }
    if all(has.values()):
        raise ConfigurationError(
            f"'{root}' has files of both layouts. Name one: --layout {RELEASED} or --layout {RESEARCH}."
        )
    if not any(has.values()):
        problems = Problems(f"Moviescope in '{root}'", allow_partial)
        problems.add(f"There is neither {listed(_RAW.values())} nor {listed(_JSONL)}.")
        problems.raise_any(DOWNLOAD)
    return RELEASED if has[RELEASED] else RESEARCH


def _modalities(layout: str, without: Collection[str]) -> tuple[str, ...]:
    unknown = [name for name in without if name not in MODALITIES[layout]]
    if unknown:
        raise ConfigurationError(
            f"without names {listed(unknown)}; the {layout} layout has {listed(MODALITIES[layout])}."
        )
    return tuple(name for name in MODALITIES[layout] if name not in without)


def _released_rows(
    root: Path, modalities: Sequence[str], problems: Problems, counts: MoviescopeCounts
) -> dict[str, pd.DataFrame]:
    table = problems.attempt(lambda: read_rows(root / METADATA_FILE)) if "metadata" in modalities else None
    if table is not None:
        check_counts(problems, {METADATA_FILE: len(table)}, {METADATA_FILE: counts.movies}, "rows")
        absent = [name for name in (*NUMERIC, *CATEGORICAL, *ACTORS, KEYWORDS) if name not in table]
        if absent:
            problems.add(f"'{METADATA_FILE}' has no column {listed(absent)}.")
            table = None
    splits = {}
    for name, file in _RAW.items():
        rows = problems.attempt(lambda file=file: read_pickled_values(root / file))  # type: ignore[misc]
        frame = pd.DataFrame(_released_records(rows, file, problems), columns=[ID, "text", LABELS])
        if "poster" in modalities:
            frame["poster"] = _posters(root, frame[ID], name, problems)
        if table is not None:
            frame = _with_table(frame, table, name, problems)
        splits[name] = frame
    check_ids(problems, {name: frame[ID] for name, frame in splits.items()})
    return splits


def _released_records(rows: Any, file: str, problems: Problems) -> Iterator[dict[str, Any]]:
    """Yield the movies of a split; those that are not as they were published are noted."""
    if rows is None:
        return
    if not isinstance(rows, list):
        problems.add(f"'{file}' holds a {type(rows).__name__}, where a list of movies was expected.")
        return
    for place, row in enumerate(rows):
        fields = row if isinstance(row, dict) else {}
        id, plot, bits = (fields.get(name) for name in ("movie_id", "plot", "newGenreLabels"))
        digits = "".join(map(str, bits)) if isinstance(bits, list) else str(bits)
        if not str(id).isdigit() or not isinstance(plot, str) or len(digits) != len(GENRES) or set(digits) - {*"01"}:
            problems.add(
                f"'{file}': entry {place} is no movie with 'movie_id' (a whole number), 'plot' (a text) and "
                f"'newGenreLabels' ({len(GENRES)} of 0 and 1)."
            )
            continue
        labels = [genre for genre, bit in zip(GENRES, digits, strict=True) if bit == "1"]
        yield {ID: str(id), "text": repair_mojibake(plot), LABELS: labels}


def _posters(root: Path, ids: pd.Series, split: str, problems: Problems) -> list[str | None]:
    if not (root / POSTER_FOLDER).is_dir():
        problems.add(f"The folder '{POSTER_FOLDER}' does not exist. Without posters: --without poster.")
        return [None] * len(ids)
    paths = [f"{POSTER_FOLDER}/{id}.jpg" for id in ids]
    found: list[str | None] = [path if (root / path).is_file() else None for path in paths]
    absent = [path for path, file in zip(paths, found, strict=True) if file is None]
    if absent:
        problems.add_incomplete(f"{split}: {len(absent):,} of {len(paths):,} posters are not there, as '{absent[0]}'.")
    return found


def _with_table(frame: pd.DataFrame, table: pd.DataFrame, split: str, problems: Problems) -> pd.DataFrame:
    """Return the rows with what the table says of each movie, whose id is its row there."""
    beyond = [id for id in frame[ID] if int(id) >= len(table)]
    if beyond:
        problems.add(f"{split}: ids are rows of {METADATA_FILE}, and {beyond[0]} is none of its {len(table):,} rows.")
        return frame
    rows = table.iloc[[int(id) for id in frame[ID]]].reset_index(drop=True)
    known = rows[[*NUMERIC, *CATEGORICAL]].copy()
    known["actors"] = [
        [name for name in cells if not is_missing(name)] for cells in rows[list(ACTORS)].itertuples(index=False)
    ]
    known["keywords"] = [[] if is_missing(cell) else str(cell).split("|") for cell in rows[KEYWORDS]]
    if "movie_title" in rows:
        known.insert(0, "title", rows["movie_title"].map(lambda title: None if is_missing(title) else title.strip()))
    return pd.concat([frame, known], axis=1)


def _research_rows(
    root: Path, modalities: Sequence[str], problems: Problems, counts: MoviescopeCounts
) -> dict[str, pd.DataFrame]:
    fields = (JsonlField("text", ("synopsis",)), JsonlField(LABELS, ("label",), (list,)))
    splits = read_jsonl_rows(root, JsonlLayout(fields, picture_names=()), problems)
    for name, frame in splits.items():
        strange = [id for id in frame[ID] if not id.isdigit()]
        if strange:
            problems.add(
                f"{name}: {len(strange):,} ids are no whole numbers, as files are called: {named_ids(strange)}."
            )
        frame["text"] = [repair_mojibake(text) if isinstance(text, str) else text for text in frame["text"]]
    genres = {str(label) for frame in splits.values() for labels in frame[LABELS] for label in labels or ()}
    if genres:
        check_counts(problems, {"All splits": len(genres)}, {"All splits": len(GENRES)}, "genres")
    return splits


def _matrices(
    root: Path, splits: Mapping[str, pd.DataFrame], modalities: Sequence[str], problems: Problems
) -> dict[str, np.ndarray]:
    if "metadata" not in modalities:
        return {}
    return matrix_columns(root, {name: list(frame[ID]) for name, frame in splits.items()}, problems)


def _run(layout: str, modalities: Sequence[str]) -> RunFile:
    settings: dict[str, dict[str, Any]] = {}
    for name in modalities:
        settings[name] = {"store": FEATURES}
        if name in ("trailer", "audio"):
            settings[name]["pooling"] = "mean"
    if layout == RELEASED and "poster" in modalities:
        settings["poster"] = {"store": PICTURES}
    if layout == RELEASED and "metadata" in modalities:
        settings["metadata"] = {
            "numeric": list(NUMERIC),
            "categorical": list(CATEGORICAL),
            "multi_valued": ["actors", "keywords"],
            "min_frequency": 5,
        }
    return RunFile("moviescope", "text", LABELS, MULTI_LABEL, "micro_average_precision", settings)


def _readme(layout: str, modalities: Sequence[str]) -> str:
    lines = []
    if layout == RELEASED and "poster" in modalities:
        lines.append("  poster    path of the poster")
    if layout == RELEASED and "metadata" in modalities:
        names = ", ".join(("title", *NUMERIC, *CATEGORICAL, "actors", "keywords"))
        indent = 12 * " "
        lines.append(textwrap.fill(names, width=110, initial_indent="  ", subsequent_indent=indent))
        lines.append(f"{indent}the table")
    for name in modalities:
        if layout == RESEARCH or name == "trailer":
            lines.append(f"  {FEATURES}/ has {name}, from {FEATURE_FOLDERS.get(name, MATRICES)}")
    return _README.format(columns="".join(f"{line}\n" for line in lines))
