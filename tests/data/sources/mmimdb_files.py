"""MM-IMDb in the three forms that it was published in, with few movies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mmadapters.data.sources.mmimdb import MMIMDbCounts

WORDS = ["war", "love", "robot", "dance", "ghost", "king"]
GENRES = ("Drama", "Comedy", "War", "Film-Noir")
SPLITS = {"train": 10, "dev": 4, "test": 6}
COLUMNS = {"train": "train", "dev": "validation", "test": "test"}


def number(place: int) -> str:
    return f"{place:07d}"


def ids() -> dict[str, list[str]]:
    ends = np.cumsum(list(SPLITS.values()))
    return {
        name: [number(100 + place) for place in range(end - SPLITS[name], end)]
        for name, end in zip(SPLITS, ends, strict=True)
    }


def plot(id: str) -> str:
    return f"the {WORDS[int(id) % 6]} and the {WORDS[int(id) % 5]} of the night {'z' * (int(id) % 3)}".strip()


def genres(id: str) -> list[str]:
    place = int(id)
    return [genre for offset, genre in enumerate(GENRES) if (place + offset) % 4 < 2]


def counts() -> MMIMDbCounts:
    test = ids()["test"]
    return MMIMDbCounts(
        rows={COLUMNS[name]: count for name, count in SPLITS.items()},
        test_positives={genre: sum(genre in genres(id) for id in test) for genre in GENRES},
    )


def picture(path: Path, id: str) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 16), (5 * int(id) % 256, 80, 20)).save(path)


def write_movie(folder: Path, id: str, labels: list[str], plots: list[str]) -> None:
    movie = {"title": f"Film {id}", "plot": plots, "genres": labels, "year": 1999, "kind": "movie"}
    (folder / "dataset").mkdir(parents=True, exist_ok=True)
    (folder / "dataset" / f"{id}.json").write_text(json.dumps(movie))
    picture(folder / "dataset" / f"{id}.jpeg", id)


def write_archive(folder: Path) -> Path:
    """Write what ``mmimdb.tar.gz`` holds."""
    for of_split in ids().values():
        for id in of_split:
            write_movie(folder, id, genres(id), ["short", plot(id), "the film"])
    (folder / "split.json").write_text(json.dumps(ids()))
    return folder


def write_jsonl(folder: Path, picture_field: str = "img", with_ids: bool = True) -> Path:
    """Write what MMBT's script makes of the archive."""
    for name, of_split in ids().items():
        rows = []
        for id in of_split:
            picture(folder / "mmimdb" / "dataset" / f"{id}.jpeg", id)
            row = {"id": id, "text": plot(id), picture_field: f"mmimdb/dataset/{id}.jpeg", "label": genres(id)}
            rows.append(row if with_ids else {key: value for key, value in row.items() if key != "id"})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def vgg(id: str) -> np.ndarray:
    return np.random.default_rng(int(id)).random(4096).astype(np.float32)


def write_hdf5(folder: Path, named: bool = True) -> Path:
    """Write the HDF5 file as ``fuel`` lays it out, and its vocabulary; ``named`` is whether it notes its splits."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    in_order = [id for of_split in ids().values() for id in of_split]
    vocabulary = ["_UNK_", *sorted({word for id in in_order for word in plot(id).split()})]
    places = {word: place for place, word in enumerate(vocabulary)}
    words = dict(enumerate(vocabulary))
    lookup = np.zeros((len(words), 300), np.float32)
    np.save(folder / "metadata.npy", {"ix_to_word": words, "word_to_ix": places, "vocab_size": 9, "lookup": lookup})
    with h5py.File(folder / "multimodal_imdb.hdf5", "w") as file:
        file["genres"] = np.array([[genre in genres(id) for genre in GENRES] for id in in_order], dtype=np.int32)
        file["genres"].attrs["target_names"] = json.dumps(GENRES)
        file["imdb_ids"] = np.array(in_order, dtype="S7")
        file["vgg_features"] = np.stack([vgg(id) for id in in_order])
        file["features"] = np.zeros((len(in_order), 300), np.float32)
        sequences = file.create_dataset("sequences", (len(in_order),), h5py.vlen_dtype(np.int32))
        for row, id in enumerate(in_order):
            sequences[row] = [places[word] for word in plot(id).split()]
        if named:
            file.attrs["split"] = fuel_splits(h5py)
    return folder


def fuel_splits(h5py: object) -> np.ndarray:
    """What ``H5PYDataset.create_split_array`` returns."""
    reference = h5py.special_dtype(ref=h5py.Reference)
    kind = [("split", "S5"), ("source", "S12"), ("start", np.int64), ("stop", np.int64)]
    rows, start = [], 0
    for name, count in SPLITS.items():
        for source in ("features", "genres", "vgg_features"):
            rows.append((name.encode(), source.encode(), start, start + count, h5py.Reference(), True, b"."))
        start += count
    return np.array(rows, dtype=[*kind, ("indices", reference), ("available", bool), ("comment", "S1")])
