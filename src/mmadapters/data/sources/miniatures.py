"""Miniature trailers: a small SYNTHETIC data set with text, poster, film, sound and table, written by this code.

No film, no person and no real picture is in it. It serves tests, documents and the demonstration, where published
trailers cannot be shipped; a result on it says that the parts work together, and nothing about real films.

Each row has some of six genres. Each of the five modalities shows, for each genre, the truth with the probability
``RELIABILITY``, and otherwise a coin of its own that falls as often on "yes" as the genre is frequent. So each modality
tells a part, none tells enough, and all together tell nearly everything. Modalities are missing at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.files import write_rows
from mmadapters.data.sources.miniature_media import draw_frames, draw_poster, make_sound, write_mp4, write_png
from mmadapters.errors import ConfigurationError
from mmadapters.files import replace_folder, write_text_atomically

GENRES = ("action", "comedy", "horror", "romance", "sci-fi", "western")
MODALITIES = ("text", "poster", "trailer", "sound", "table")
LABEL_SEPARATOR = "|"
RELIABILITY = 0.6
GENRE_SHARE = 0.35
"""Probability of each genre, before rows without a genre are drawn again."""
MISSING_SHARES = {"poster": 0.1, "trailer": 0.08, "sound": 0.08, "table": 0.08}
"""Probability that a row lacks a modality. A row without a trailer has no sound either; text is always there."""
MISSING_CELLS = 0.04
"""Probability that a single cell of a table that is there is empty."""

NUMERIC_COLUMNS = ("year", "budget", "runtime")
CATEGORICAL_COLUMNS = ("country", "studio", "season")

ROWS_FILE = "rows.csv"
README_FILE = "README.txt"
_FIRST_LINE = "Miniature trailers: a SYNTHETIC data set written by mmadapters."

_SENTENCES = {
    "action": (
        "A car chase through the harbour ends in an explosion.",
        "Armed men storm the tower and a fierce gunfight begins.",
        "With ten minutes left on the bomb, the fight moves to the roof.",
        "A retired soldier takes on a whole army of smugglers.",
        "The convoy is ambushed and only one fighter escapes.",
    ),
    "comedy": (
        "A string of silly misunderstandings turns the wedding into a farce.",
        "Nobody notices the parrot that repeats every embarrassing joke.",
        "Two hopeless cooks open a hilarious restaurant.",
        "The worst band in town accidentally becomes famous, to everyone's laughter.",
        "A goofy prank goes wrong in the funniest way.",
    ),
    "horror": (
        "Something in the cellar whispers at night and leaves blood on the stairs.",
        "One by one the guests are haunted by a ghost with no face.",
        "The doll opens its eyes, and the screaming begins.",
        "An ancient curse wakes the dead beneath the chapel.",
        "A monster feeds on those who dare to sleep.",
    ),
    "romance": (
        "Two strangers fall in love over letters that were never sent.",
        "An old flame returns, and a tender kiss changes everything.",
        "Their hearts meet on a bridge in the rain.",
        "She must choose between her fiancé and the love of her life.",
        "A summer of longing becomes a passionate affair.",
    ),
    "sci-fi": (
        "A spaceship drifts toward a planet that is on no star chart.",
        "The android begins to dream of its makers.",
        "Scientists open a portal to a parallel universe.",
        "In the year 2300 the last colony on Mars loses contact with Earth.",
        "An alien signal rewrites every computer in orbit.",
    ),
    "western": (
        "A lone sheriff waits for the outlaws at the edge of town.",
        "Cowboys drive the herd across the dusty prairie.",
        "A duel at noon decides who owns the saloon.",
        "The bounty hunter rides into the desert after the bandits.",
        "Gold is found near the ranch, and the frontier has no law.",
    ),
}
_NEUTRAL = (
    "It all starts on an ordinary Tuesday.",
    "An unexpected visitor asks for help.",
    "Nobody in the village talks about what happened.",
    "A letter arrives that was posted years ago.",
    "Old friends meet again after a long time.",
    "The journey takes longer than anyone had planned.",
    "A family has to decide whether to stay.",
    "In the end, a promise has to be kept.",
    "What follows is a difficult choice.",
    "The neighbours have a different version of the story.",
)
_NAMES = ("Alma", "Bruno", "Carla", "Dario", "Edda", "Farid", "Gita", "Henk", "Ines", "Jonas", "Kaya", "Luca")
_TRADES = ("a baker", "a teacher", "a pilot", "a clerk", "a painter", "a nurse", "a driver", "a student")

_CATEGORIES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "country": ("comedy", ("France", "Italy"), ("Brazil", "Canada", "India", "Sweden")),
    "studio": ("sci-fi", ("Blue Moon", "Orbit"), ("Anchor", "Hilltop", "Maple", "Northgate")),
    "season": ("horror", ("autumn",), ("spring", "summer", "winter")),
}
"""Of each categorical column: the genre it tells, its values for the genre, its values for the rest."""

_README = f"""{_FIRST_LINE}

Nothing in this folder is real: plots, posters, trailers, sounds and tables were made by a program with random numbers
(mmadapters.data.sources.miniatures, {{n}} rows, seed {{seed}}). Results on it show that software works. They say
nothing about real films.

{ROWS_FILE} has one row for each miniature:
  id       its name
  plot     text, always there
  genres   the labels, one or more of {", ".join(GENRES)}, joined by "{LABEL_SEPARATOR}"
  poster   PNG file, or empty
  trailer  MP4 file (H.264, and AAC where it has sound), or empty
  {", ".join(NUMERIC_COLUMNS + CATEGORICAL_COLUMNS)}
           the table; cells may be empty

Each modality shows each genre rightly with the probability {RELIABILITY}, and at random otherwise.
"""


@dataclass(frozen=True)
class Miniatures:
    """What is drawn by chance before anything is written.

    Attributes:
        labels: Bool (N, 6): the genres of each row, at least one.
        shown: For each of ``MODALITIES`` bool (N, 6): the genres that it shows, rightly or wrongly.
        present: For each of ``MODALITIES`` bool (N,): whether the row has it.
    """

    labels: np.ndarray
    shown: dict[str, np.ndarray]
    present: dict[str, np.ndarray]


def draw_miniatures(n: int = 240, seed: int = 0) -> Miniatures:
    """Draw genres, what each modality shows of them, and what is missing.

    Args:
        n: Number N of rows.
        seed: Of all random numbers.

    Raises:
        ConfigurationError: If ``n`` is not a whole number of at least 1, or ``seed`` not one of at least 0.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ConfigurationError(f"{name}={value!r} cannot be used. Give a whole number of at least {least}.")
    random = np.random.default_rng([seed, 0])
    labels = random.random((n, len(GENRES))) < GENRE_SHARE
    while (empty := ~labels.any(axis=1)).any():
        labels[empty] = random.random((empty.sum(), len(GENRES))) < GENRE_SHARE
    frequency = GENRE_SHARE / (1 - (1 - GENRE_SHARE) ** len(GENRES))
    shown, present = {}, {}
    for modality in MODALITIES:
        reliable = random.random(labels.shape) < RELIABILITY
        shown[modality] = np.where(reliable, labels, random.random(labels.shape) < frequency)
        present[modality] = random.random(n) >= MISSING_SHARES.get(modality, 0.0)
    present["sound"] &= present["trailer"]
    return Miniatures(labels, shown, present)


def write_miniatures(folder: str | Path, n: int = 240, seed: int = 0) -> Path:
    """Write the data set: ``rows.csv``, ``posters/``, ``trailers/`` and a ``README.txt`` that says what it is.

    The same ``n`` and ``seed`` give the same bytes of ``rows.csv`` and the same pixels and samples before compression.

    Args:
        folder: Where to. It may be absent, empty or hold miniatures, which are replaced.
        n: Number of rows.
        seed: Of all random numbers.

    Returns:
        The path of ``rows.csv``; the paths in its columns ``poster`` and ``trailer`` start from its folder.

    Raises:
        ConfigurationError: If ``n`` or ``seed`` cannot be used, or the folder holds something else.
        MissingDependencyError: If Pillow or PyAV is not installed.
    """
    target = Path(folder)
    _check_replaceable(target)
    drawn = draw_miniatures(n, seed)
    with replace_folder(target) as temporary:
        (temporary / "posters").mkdir()
        (temporary / "trailers").mkdir()
        records = [_write_row(temporary, drawn, row, seed) for row in range(n)]
        write_rows(pd.DataFrame(records), temporary / ROWS_FILE)
        write_text_atomically(temporary / README_FILE, _README.format(n=n, seed=seed))
    return target / ROWS_FILE


def plot_text(shown: np.ndarray, random: np.random.Generator) -> str:
    """Return a plot with a sentence for each shown genre between sentences that tell none.

    Args:
        shown: Bool (6,): the genres.
        random: Chooses sentences and their order.
    """
    sentences = [str(random.choice(_SENTENCES[genre])) for genre, told in zip(GENRES, shown, strict=True) if told]
    sentences += map(str, random.choice(_NEUTRAL, size=int(random.integers(1, 3)), replace=False))
    opening = f"{random.choice(_NAMES)} is {random.choice(_TRADES)}."
    return " ".join([opening, *(sentences[place] for place in random.permutation(len(sentences)))])


def table_cells(shown: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """Return the cells of the table's columns: each tells one genre.

    Args:
        shown: Bool (6,): the genres.
        random: Chooses values and empty cells.
    """
    told = dict(zip(GENRES, shown, strict=True))
    cells: dict[str, Any] = {
        "year": int(random.normal(1968 if told["western"] else 2004, 9)),
        "budget": round(float(random.lognormal(4.5 if told["action"] else 2.8, 0.5)), 1),
        "runtime": int(random.normal(128 if told["romance"] else 98, 9)),
    }
    for column, (genre, typical, others) in _CATEGORIES.items():
        cells[column] = str(random.choice(typical if told[genre] else others))
    return {column: None if random.random() < MISSING_CELLS else str(value) for column, value in cells.items()}


def _write_row(folder: Path, drawn: Miniatures, row: int, seed: int) -> dict[str, Any]:
    name = f"{row:04d}"
    # Each modality of each row has random numbers of its own, so that none depends on what else was drawn.
    randoms = {modality: np.random.default_rng([seed, 1 + place, row]) for place, modality in enumerate(MODALITIES)}
    shown = {modality: drawn.shown[modality][row] for modality in MODALITIES}
    present = {modality: bool(drawn.present[modality][row]) for modality in MODALITIES}
    poster = f"posters/{name}.png" if present["poster"] else None
    trailer = f"trailers/{name}.mp4" if present["trailer"] else None
    if poster is not None:
        write_png(folder / poster, draw_poster(shown["poster"], randoms["poster"]))
    if trailer is not None:
        sound = make_sound(shown["sound"], randoms["sound"]) if present["sound"] else None
        write_mp4(folder / trailer, draw_frames(shown["trailer"], randoms["trailer"]), sound)
    cells = table_cells(shown["table"], randoms["table"])
    return {
        "id": f"miniature-{name}",
        "plot": plot_text(shown["text"], randoms["text"]),
        "genres": LABEL_SEPARATOR.join(genre for genre, has in zip(GENRES, drawn.labels[row], strict=True) if has),
        "poster": poster,
        "trailer": trailer,
        **(cells if present["table"] else dict.fromkeys(cells)),
    }


def _check_replaceable(folder: Path) -> None:
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    readme = folder / README_FILE
    if not readme.is_file() or not readme.read_text(encoding="utf-8", errors="replace").startswith(_FIRST_LINE):
        raise ConfigurationError(
            f"'{folder}' holds something else than miniature trailers, which would be lost. Name another folder."
        )
