"""The mean over the steps of a sequence, as an extractor of its own: what is kept where nobody reads the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmadapters.features.extractor import Extractor
from mmadapters.features.outcome import Decoded
from mmadapters.features.store_format import StoreDtype
from mmadapters.modality import ModalityKind


class MeanExtractor:
    """One vector (D,) a file: the mean over the steps that another extractor makes; see ``Extractor``.

    The steps are rounded to the type of the store before the mean is taken, so that the numbers are those of a store
    that holds the sequence and its mean (``pool_mean``). The fingerprint is that of the sequence.

    Args:
        extractor: Makes sequences (T, D).
        dtype: Type of the numbers in the store.
    """

    is_sequence = False

    def __init__(self, extractor: Extractor, dtype: StoreDtype = "float16") -> None:
        self.name = extractor.name
        self.kind: ModalityKind = extractor.kind
        self.feature_dim = extractor.feature_dim
        self.fingerprint = extractor.fingerprint
        self.batch_size = extractor.batch_size
        self.decode: Callable[[Path], Decoded] = extractor.decode
        self._extractor = extractor
        self._dtype = np.dtype(dtype)

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return float32 (D,) for each decoded file."""
        return [self._mean(steps) for steps in self._extractor.encode(decoded)]

    def _mean(self, steps: np.ndarray) -> np.ndarray:
        fits = float(np.abs(steps).max(initial=0.0)) <= float(np.finfo(self._dtype).max)
        rounded = steps.astype(self._dtype) if fits else steps
        return rounded.mean(axis=0, dtype=np.float64).astype(self._dtype).astype(np.float32)
