"""Peak memory of trainings, each in a process of its own that is forked from one with all libraries loaded.

``python stream_memory.py <backbone> <how>:<file or folder> …`` trains a tiny model for one epoch on each, ``how`` being
``streamed`` or ``in-memory``, and prints a JSON list with the peak resident memory in MB, the rows and the steps.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.files import read_rows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.data.streaming import StreamedDataset
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, fit

WORDS = ["war", "space", "love", "robot", "dance", "ghost", "king", "river"]
SHUFFLE_BUFFER = 1000
SCHEMA = DatasetSchema("plot", "kind", (VectorColumn("poster", "vector"), TabularColumns("facts", ["year"])))


def write_rows(folder: Path, rows: int, width: int, files: int = 4) -> Path:
    """Parquet shards with a short text, a label, a number and a vector a row."""
    folder.mkdir()
    for place in range(files):
        n = rows // files
        random = np.random.default_rng(place)
        words = random.integers(0, len(WORDS), (n, 3))
        vectors = random.normal(size=(n, width)).astype(np.float32)
        table = pa.table(
            {
                "plot": [" ".join(WORDS[word] for word in row[: 1 + row[0] % 3]) for row in words],
                "kind": ["war" if row[0] < 4 else "peace" for row in words],
                "year": random.integers(1950, 2020, n),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
            }
        )
        pq.write_table(table, folder / f"part-{place}.parquet", row_group_size=1000, compression="none")
    return folder


def train(backbone: str, how: str, rows: str, send: Any) -> None:
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(backbone)
    data: Any
    if how == "streamed":
        preprocessor, data = StreamedDataset.fit(rows, SCHEMA, tokenizer, shuffle_buffer=SHUFFLE_BUFFER)
    else:
        frame = pd.concat([read_rows(file) for file in sorted(Path(rows).iterdir())], ignore_index=True)
        preprocessor = Preprocessor.fit(frame, SCHEMA, tokenizer)
        data = preprocessor.transform(frame)
    result = fit(
        preprocessor,
        data,
        None,
        settings=ModelSettings(backbone=backbone),
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=4),
        arguments=MultimodalTrainingArguments(
            num_train_epochs=1, per_device_train_batch_size=500, disable_tqdm=True, use_cpu=True
        ),
    )
    steps = max(entry["step"] for entry in result.log)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    send.send({"peak_mb": peak, "rows": len(data), "steps": steps, "seconds": result.seconds})


def main() -> None:
    backbone, *cases = sys.argv[1:]
    found = []
    context = multiprocessing.get_context("fork")
    for case in cases:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=train, args=(backbone, *case.split(":", 1), send))
        process.start()
        # Else a process that died would be waited for.
        send.close()
        found.append(receive.recv())
        process.join()
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
