"""A tokenizer of a few words, made without a download, and rows of every kind."""

from pathlib import Path

import numpy as np
import pandas as pd
from transformers import BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film", "bad", "long", "1984", "not"]


def tiny_tokenizer(model_max_length: int = 16) -> BertTokenizer:
    vocabulary = {word: place for place, word in enumerate(WORDS)}
    return BertTokenizer(vocab=vocabulary, model_max_length=model_max_length)


def ids(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def movies(folder: Path) -> pd.DataFrame:
    """Four rows: a vector, one given by columns, a table and a sequence on disk; each is missing somewhere."""
    np.save(folder / "long.npy", np.arange(6, dtype=np.float64).reshape(3, 2))
    np.save(folder / "short.npy", np.full((1, 2), 9, dtype=np.float16))
    frame = pd.DataFrame(
        {
            "title": ["a good film", "bad", None, "not a long film"],
            "genres": [["drama", "war"], ["comedy"], [], ["war"]],
            "poster": [[1, 2, 3], np.array([4.0, 5.0, 6.0]), None, (7, 8, 9)],
            "x": [0.5, np.nan, 1.5, 2.5],
            "y": [1, np.nan, 3, 4],
            "year": [1950, 1960, None, 1970],
            "country": ["fr", "fr", "it", None],
            "trailer": ["long.npy", "", None, "short.npy"],
        }
    )
    frame.attrs["root"] = str(folder)
    return frame
