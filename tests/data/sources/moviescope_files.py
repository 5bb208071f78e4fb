"""Moviescope in the layouts that it was published in, with few movies and short trailers."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import numpy as np

from mmadapters.data.sources import moviescope
from mmadapters.data.sources.moviescope import GENRES, MoviescopeCounts

WORDS = ["war", "love", "robot", "dance", "ghost", "king"]
ROWS = {"train": 10, "validation": 4, "test": 6}
COUNTS = MoviescopeCounts(rows=ROWS, movies=24)
"""Of the fixtures; four movies of the table are in no split."""
FRAMES = 3
MOJIBAKE_ID = 1
"""The movie whose plot was saved as UTF-8 and is read as Latin-1."""


def split_ids() -> dict[str, list[int]]:
    """Ids that are not in order, as in the published splits."""
    ids = [int(id) for id in np.random.default_rng(0).permutation(sum(ROWS.values()))]
    ids = [id + 2 if id > 9 else id for id in ids]
    ends = np.cumsum(list(ROWS.values()))
    return {name: ids[end - ROWS[name] : end] for name, end in zip(ROWS, ends, strict=True)}


def plot(id: int) -> str:
    return f"the {WORDS[id % 6]} of the caf\u00e9 \u2013 number {id}"


def bits(id: int) -> str:
    """Each genre occurs, in the training rows, too; each movie has three."""
    return "".join("1" if place in (id % 13, (id + 5) % 13, (id + 9) % 13) else "0" for place in range(13))


def genres(id: int) -> list[str]:
    return [genre for genre, bit in zip(GENRES, bits(id), strict=True) if bit == "1"]


def frames(id: int) -> np.ndarray:
    return np.random.default_rng(100 + id).random((1, FRAMES, 4096)).astype(np.float32)


def poster(id: int) -> np.ndarray:
    return np.random.default_rng(200 + id).random((1, 4096)).astype(np.float32)


def clips(id: int) -> np.ndarray:
    """One to six clips of another length for each movie."""
    return np.random.default_rng(300 + id).random((1, 1 + id % 6, 128, 2 + id % 3)).astype(np.float32)


def write_pickle(path: Path, value: object, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=protocol))


def write_released(folder: Path) -> Path:
    """Write the released files."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    columns = [*moviescope.NUMERIC, *moviescope.CATEGORICAL, *moviescope.ACTORS, "plot_keywords", "movie_title"]
    with (folder / "movie_metadata.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [*columns, "genres"])
        table.writeheader()
        for row in range(COUNTS.movies):
            cells = {name: f"{row + place}" for place, name in enumerate(moviescope.NUMERIC)}
            cells |= {name: f"{name} {row % 3}" for name in moviescope.CATEGORICAL}
            cells |= {name: f"Actor {row % 5 + place}" for place, name in enumerate(moviescope.ACTORS)}
            cells |= {"plot_keywords": "war|love", "movie_title": f"Film {row}\u00a0", "genres": "Action|Drama"}
            if row % 4 == 0:
                cells |= {"budget": "", "plot_keywords": "", "actor_3_name": ""}
            table.writerow(cells)
    for name, ids in split_ids().items():
        # Python 2 wrote bytes: those of UTF-8 are read as Latin-1.
        rows = [
            {"movie_id": id, "plot": plot(id).encode().decode("latin1"), "newGenreLabels": bits(id)}
            if id == MOJIBAKE_ID
            else {"movie_id": id, "plot": plot(id), "newGenreLabels": bits(id)}
            for id in ids
        ]
        write_pickle(folder / f"raw_data_{'val' if name == 'validation' else name}.p", rows)
        for id in ids:
            write_pickle(folder / "200F_VGG16" / f"{id}.p", frames(id))
            (folder / "MatchedPosters").mkdir(exist_ok=True)
            Image.new("RGB", (8, 12), (10 * id, 0, 0)).save(folder / "MatchedPosters" / f"{id}.jpg")
    return folder


def metadata_row(id: int) -> np.ndarray:
    return np.random.default_rng(400 + id).random(312).astype(np.float32)


def write_research(folder: Path) -> Path:
    """Write the files that later research code reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Metadata_matrices").mkdir()
    for name, ids in split_ids().items():
        file = {"validation": "dev.jsonl"}.get(name, f"{name}.jsonl")
        rows = [{"id": id, "label": genres(id), "synopsis": plot(id)} for id in ids]
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        for id in ids:
            write_pickle(folder / "200F_VGG16" / f"{id}.p", frames(id))
            write_pickle(folder / "PosterFeatures" / f"{id}.p", poster(id))
            write_pickle(folder / "MelgramPorcessed" / f"{id}.p", clips(id), protocol=4)
        matrices = "val" if name == "validation" else name
        in_matrix = sorted(ids)
        np.save(
            folder / "Metadata_matrices" / f"{matrices}_metadata.npy", np.stack([metadata_row(i) for i in in_matrix])
        )
        places = {id: np.int64(place) for place, id in enumerate(in_matrix)}
        write_pickle(folder / "Metadata_matrices" / f"{matrices}_ids.pickle", places)
    return folder
