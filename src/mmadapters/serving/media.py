"""Files of requests: decoded in guarded processes, encoded with the rows of their batch."""

from __future__ import annotations

import asyncio
import logging
import queue
import shutil
import tempfile
import time
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmadapters.artefact import Artefact
from mmadapters.errors import DataError
from mmadapters.features.extract_chunk import encode_decoded, storable
from mmadapters.features.extractor import Extractor, build_extractor, fingerprint_changes
from mmadapters.features.guard import GuardedPool, Limits, sniff_kind
from mmadapters.features.mean_extractor import MeanExtractor
from mmadapters.features.outcome import Decoded, Status
from mmadapters.predictor.media_features import MediaRecipe
from mmadapters.predictor.preparation import RowPreparation
from mmadapters.serving.config import MediaConfig, ServerConfig
from mmadapters.serving.metrics import ServerMetrics
from mmadapters.serving.problems import RequestProblem
from mmadapters.serving.rows import Row

logger = logging.getLogger(__name__)

STORED = np.dtype(np.float16)
"""Type that the features of the training rows were kept in."""

ACCEPTED = {"image": ("image",), "video": ("video",), "audio": ("audio", "video")}
"""What a file may hold, by the kind of its modality."""


def media_extractors(
    name: str,
    artefact: Artefact,
    config: ServerConfig,
    device: torch.device,
    known: MutableMapping[Any, Extractor],
) -> tuple[dict[str, MediaRecipe], dict[str, Extractor]]:
    """Return how the media of a model become features, and what makes them.

    Args:
        name: Of the model.
        artefact: The model.
        config: Limits of the files.
        device: Where encoders run.
        known: Extractors that are loaded; those that are new are added.

    Raises:
        DataError: If features would be made in another way here than those of the training rows.
    """
    limits = media_limits(config)
    recipes = {recipe.modality: recipe for recipe in RowPreparation.of_model(artefact, Path()).media.recipes}
    extractors = {}
    for modality, recipe in recipes.items():
        key = (recipe.spec, recipe.reads_steps)
        if key not in known:
            extractor = build_extractor(replace(recipe.spec, device=str(device)), limits)
            pooled = extractor.is_sequence and not recipe.reads_steps
            known[key] = MeanExtractor(extractor, "float16") if pooled else extractor
        changes = fingerprint_changes(recipe.fingerprint, known[key].fingerprint) if recipe.fingerprint else []
        serious = [change for change in changes if not change.startswith("versions.")]
        if serious:
            raise DataError(
                f"Model '{name}': features of modality '{modality}' would be made in another way here than those of "
                f"the training rows: {'; '.join(serious)}. Install the encoder that the model was trained with."
            )
        for change in changes:
            logger.warning("Model '%s', modality '%s': %s since training.", name, modality, change)
        extractors[modality] = known[key]
    return recipes, extractors


def media_limits(config: ServerConfig) -> Limits:
    """Return what a file of a request may be at most.

    Args:
        config: Of the server.
    """
    return Limits(
        max_bytes=config.limits.max_request_bytes,
        max_pixels=config.media.max_pixels,
        max_seconds=config.media.max_seconds,
        max_decoded_bytes=config.media.worker_memory_mb << 20,
    )


def encode_rows(rows: Sequence[Row], extractors: Mapping[str, Mapping[str, Extractor]]) -> dict[int, RequestProblem]:
    """Encode the files of rows, each to features of its row, rounded as those of the training rows were.

    Args:
        rows: Rows with decoded files.
        extractors: By model and modality.

    Returns:
        By place of a row why one of its files cannot be encoded.
    """
    work: dict[int, tuple[Extractor, list[tuple[int, str]]]] = {}
    for place, row in enumerate(rows):
        for modality in row.decoded:
            extractor = extractors[row.model][modality]
            work.setdefault(id(extractor), (extractor, []))[1].append((place, modality))
    problems: dict[int, RequestProblem] = {}
    for extractor, cells in work.values():
        for start in range(0, len(cells), extractor.batch_size):
            part = cells[start : start + extractor.batch_size]
            outcomes = encode_decoded(extractor, [rows[place].decoded[modality] for place, modality in part])
            for (place, modality), outcome in zip(part, outcomes, strict=True):
                kept = storable(outcome, STORED)
                if kept.values is None:
                    problems[place] = RequestProblem(422, f"The file of '{modality}' cannot be used: {kept.error}.")
                else:
                    rows[place].features[modality] = kept.values.astype(np.float32)
    for row in rows:
        row.decoded = {}
    return problems


class MediaDecoder:
    """Decodes files of requests in processes that may be killed.

    Args:
        config: Workers and their limits.
        metrics: What is counted.
    """

    def __init__(self, config: MediaConfig, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._pools: queue.SimpleQueue[GuardedPool] = queue.SimpleQueue()
        self._all = [
            GuardedPool(1, config.seconds_per_file, config.worker_memory_mb << 20) for _ in range(config.workers)
        ]
        for pool in self._all:
            # Processes start now, and not with the first file.
            self._pools.put(pool.__enter__())
        self._threads = ThreadPoolExecutor(config.workers, thread_name_prefix="mmadapters-media")

    def close(self) -> None:
        """End all processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for pool in self._all:
            pool.close()

    async def decode(self, file: Path, recipe: MediaRecipe, extractor: Extractor) -> Decoded:
        """Return what a file holds, or None as its values where the modality is missing in it.

        Args:
            file: The file.
            recipe: Of the modality.
            extractor: Of the modality.

        Raises:
            RequestProblem: If it holds something else (415), or cannot be decoded within the limits (422).
        """
        kind = recipe.spec.kind
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        found = await loop.run_in_executor(None, sniff_kind, file)
        if found is not None and found not in ACCEPTED[kind]:
            raise RequestProblem(
                415,
                f"The file of '{recipe.modality}' holds {'an image' if found == 'image' else found}; accepted is "
                f"{'an image' if kind == 'image' else kind}.",
            )
        decoded = await loop.run_in_executor(self._threads, self._decode, extractor, file)
        self._metrics.media.labels(kind, decoded.status.value).inc()
        self._metrics.media_seconds.labels(kind).observe(time.monotonic() - started)
        if decoded.status in (Status.ERROR, Status.TIMEOUT):
            raise RequestProblem(422, f"The file of '{recipe.modality}' cannot be used: {decoded.error}.")
        return decoded

    def _decode(self, extractor: Extractor, file: Path) -> Decoded:
        pool = self._pools.get()
        try:
            pool.submit(None, extractor.decode, file)
            return next(pool.completed())[1]
        finally:
            self._pools.put(pool)


class TemporaryFiles:
    """A folder of the server's own for the files of requests, which are named by the server and always removed.

    Args:
        within: Folder that it is made in; None for the system's.
    """

    def __init__(self, within: str | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mmadapters-serve-", dir=within))

    def new_folder(self) -> Path:
        """Return a new folder for one request."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove the folder of a request."""
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
