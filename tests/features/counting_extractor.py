"""An extractor without an encoder: a vector of a picture's mean colour, which counts what it was given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmadapters.features.decoding import ImageDecoder
from mmadapters.features.guard import Limits


class MeanColour:
    """Mean of the three channels, and the number of images of the batch, so that another batch shows."""

    kind = "image"
    feature_dim = 4
    is_sequence = False

    def __init__(self, name: str = "poster", batch_size: int = 3, fingerprint: str = '{"weights": "a"}') -> None:
        self.name = name
        self.batch_size = batch_size
        self.fingerprint = fingerprint
        self.decode = ImageDecoder(Limits())
        self.batches: list[int] = []

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.batches.append(len(decoded))
        return [np.array([*image.mean(axis=(0, 1)), len(decoded)], dtype=np.float32) for image in decoded]


def save_picture(path: Path, shade: int) -> None:
    Image.fromarray(np.full((4, 5, 3), shade, dtype=np.uint8)).save(path)
