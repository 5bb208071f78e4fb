"""The synthetic miniature trailers as a folder that ``extract`` and ``train`` read as they are."""

from __future__ import annotations

from pathlib import Path

from mmadapters.data.files import read_rows, split_rows, write_rows
from mmadapters.data.sources.miniatures import (
    CATEGORICAL_COLUMNS,
    LABEL_SEPARATOR,
    NUMERIC_COLUMNS,
    write_miniatures,
)
from mmadapters.data.sources.prepared import (
    EXTRACT_FILE,
    ROWS_FILE,
    STORE,
    TRAIN_FILE,
    PreparedData,
    check_new_folder,
    label_counts,
    new_folder,
)
from mmadapters.files import write_text_atomically

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}

_EXTRACT = f"""\
# Media to features, once: mmadapters extract {EXTRACT_FILE}
data: {{rows: {ROWS_FILE}, id: id}}
modalities:
  poster: {{kind: image, column: poster, encoder: efficientnet-lite0}}
  trailer: {{kind: video, column: trailer, encoder: efficientnet-lite0, frames: 8, pool_mean: true}}
  sound: {{kind: audio, column: trailer, pool_mean: true}}
store: {STORE}
"""

_TRAIN = """\
# SYNTHETIC rows: results say that software works, and nothing about real films.
# After the extraction: mmadapters train {train_file}
data:
  train: train.csv
  validation: validation.csv
  test: test.csv
  text: plot
  label: genres
  label_separator: "{separator}"
  id: id
  synthetic: true
modalities:
  poster: {{store: {store}}}
  trailer: {{store: {store}, pooling: mean}}
  sound: {{store: {store}, pooling: mean}}
  table: {{numeric: [{numeric}], categorical: [{categorical}]}}
output_dir: runs/trailers
seed: {seed}
"""


def prepare_trailers(folder: str | Path, seed: int = 0, n: int = 240) -> PreparedData:
    """Write miniature trailers with their split: CSV, posters, trailers, ``extract.yaml``, ``train.yaml``, a README.

    Args:
        folder: Where to; it is absent or empty.
        seed: Of everything that is drawn, of the split and of the training.
        n: Number of rows.

    Raises:
        ConfigurationError: If the folder holds something, or seed or number cannot be used.
        DataError: If there are too few rows for three splits.
        MissingDependencyError: If Pillow or PyAV is not installed.
    """
    check_new_folder(folder)
    with new_folder(folder) as target:
        rows = read_rows(write_miniatures(target, n, seed))
        splits = split_rows(rows, SPLITS, seed)
        for name, frame in splits.items():
            write_rows(frame, target / f"{name}.csv")
        write_text_atomically(target / EXTRACT_FILE, _EXTRACT)
        train = _TRAIN.format(
            train_file=TRAIN_FILE,
            separator=LABEL_SEPARATOR,
            store=STORE,
            numeric=", ".join(NUMERIC_COLUMNS),
            categorical=", ".join(CATEGORICAL_COLUMNS),
            seed=seed,
        )
        write_text_atomically(target / TRAIN_FILE, train)
    labelled = {name: frame.assign(genres=frame["genres"].str.split(LABEL_SEPARATOR)) for name, frame in splits.items()}
    commands = (f"mmadapters extract {EXTRACT_FILE}", f"mmadapters train {TRAIN_FILE}")
    counts = label_counts(labelled, "genres")
    return PreparedData(Path(folder), {name: len(frame) for name, frame in splits.items()}, counts, commands)
