"""Training from data sets of many rows: what a step costs, and how the memory of the process grows with the rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.files import read_rows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, build_model
from mmadapters.training.trainer import MultimodalAdapterTrainer

WORDS = ["war", "space", "love", "robot", "dance", "ghost", "king", "school", "river", "night", "summer", "last"]
LABELS = [f"label {place}" for place in range(13)]
ROWS_A_GROUP = 10_000


def write_rows(path: Path, n_rows: int, n_words: int, widths: list[int]) -> Path:
    """Write rows to a Parquet file, a group of rows at a time: a text, a label, and a vector of each modality.

    Args:
        path: The file.
        n_rows: Number of rows.
        n_words: Words of each text.
        widths: Width of each modality.
    """
    schema = pa.schema(
        [("text", pa.string()), ("label", pa.string())]
        + [(f"vector {place}", pa.list_(pa.float32())) for place in range(len(widths))]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, ROWS_A_GROUP):
            count = min(ROWS_A_GROUP, n_rows - start)
            random = np.random.default_rng([0, start])
            columns: list[Any] = [
                [" ".join(words) for words in random.choice(WORDS, (count, n_words))],
                # The first rows have every label, so that small files have them all.
                [LABELS[(start + row) % len(LABELS)] for row in range(count)],
            ]
            for width in widths:
                vectors = random.normal(size=count * width).astype(np.float32)
                ends = np.arange(0, count * width + 1, width, dtype=np.int32)
                columns.append(pa.ListArray.from_arrays(ends, vectors))
            writer.write_table(pa.table(columns, schema=schema))
    return path


class InMemoryRows:
    """Training from rows that are all in memory, by the way that ``mmadapters train`` goes.

    Args:
        settings: ``path`` of the file, ``widths`` of the modalities, ``backbone`` and ``batch_size``.
    """

    parts = ("step", "batch")

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.manual_seed(0)
        started = time.perf_counter()
        columns = tuple(VectorColumn(f"m{place}", f"vector {place}") for place in range(len(settings["widths"])))
        tokenizer = load_tokenizer(settings["backbone"])
        self.preprocessor, self.rows = self.prepare(
            settings["path"], DatasetSchema("text", "label", columns), tokenizer
        )
        self.prepare_seconds = time.perf_counter() - started
        self.trainer = self._trainer(settings)
        self.trainer.create_optimizer()
        self.batches = self._batches()

    def prepare(self, path: str, schema: DatasetSchema, tokenizer: Any) -> tuple[Preprocessor, Any]:
        """Return the fitted preprocessor and the training set."""
        frame = read_rows(path)
        preprocessor = Preprocessor.fit(frame, schema, tokenizer)
        return preprocessor, preprocessor.transform(frame)

    def _trainer(self, settings: dict[str, Any]) -> MultimodalAdapterTrainer:
        adapter = MultimodalAdapterConfig(modalities=self.preprocessor.modalities)
        model = build_model(self.preprocessor, ModelSettings(backbone=settings["backbone"]), adapter)
        arguments = MultimodalTrainingArguments(
            use_cpu=True, per_device_train_batch_size=settings["batch_size"], disable_tqdm=True
        )
        return MultimodalAdapterTrainer(
            model,
            arguments,
            problem_type=model.config.problem_type,
            labels=list(model.config.label2id),
            train_dataset=self.rows,
            data_collator=MultimodalCollator(self.preprocessor.tokenizer, self.preprocessor.modalities),
        )

    def _batches(self) -> Iterator[dict[str, Any]]:
        loader = self.trainer.get_train_dataloader()
        epoch = 0
        while True:
            if hasattr(loader, "set_epoch"):
                loader.set_epoch(epoch)
            yield from loader
            epoch += 1

    def batch(self) -> dict[str, Any]:
        """Take the next batch of the Trainer's loader."""
        return next(self.batches)

    def step(self) -> None:
        """Make a training step on the next batch."""
        self.trainer.training_step(self.trainer.model, self.batch())
        assert self.trainer.optimizer is not None
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()

    def known(self) -> dict[str, Any]:
        """Return what is known without measuring in turns."""
        return {"prepare_seconds": round(self.prepare_seconds, 3)}


ROW_CONTENDERS: dict[str, Callable[[dict[str, Any]], Any]] = {"in memory": InMemoryRows}
"""The ways of training from a file of many rows, by name: each has ``step``, ``batch`` and ``known``."""
