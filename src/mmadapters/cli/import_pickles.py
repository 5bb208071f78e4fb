"""``mmadapters import-pickles``: old pickled features made into ``.npy`` files that training reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import numpy as np

INDEX = "index.csv"
FEATURES = "features"
ENDINGS = (".p", ".pkl", ".pickle")


def import_pickles(
    files: Annotated[
        list[Path], typer.Argument(help="Pickles of numpy arrays, or folders of .p, .pkl and .pickle files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; one imported before is replaced.")],
    clips: Annotated[
        int | None,
        typer.Option(
            min=1, help="Arrays are spectrograms (clips, bands, steps): join so many clips to (steps, bands)."
        ),
    ] = None,
    memory: Annotated[float, typer.Option(min=0.01, help="Most memory for reading one file, in GB.")] = 4.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time for reading one file.")] = 60.0,
) -> None:
    """Import pickled numpy features: one .npy file an id, and index.csv with the columns id and path.

    The pickles are read in a process with limits that knows numpy arrays only. Join index.csv to your rows by the id,
    and name its column path as a modality's column; the paths start from the folder of index.csv.
    """
    from mmadapters.cli.console import step

    imported = write_features(files, output, clips=clips, memory_bytes=int(memory * 1e9), seconds=seconds)
    step(f"{imported} written to {output}; {output / INDEX} has their ids and paths")
    if imported.not_finite:
        step(f"{imported.not_finite} of them have NaN or infinite numbers, which training refuses")


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        files: Number of pickles.
        shapes: How often which data type and shape was written.
        not_finite: Number of arrays with NaN or infinite numbers.
    """

    files: int
    shapes: Counter[tuple[str, tuple[int, ...]]]
    not_finite: int

    def __str__(self) -> str:
        kinds = [f"{dtype} {shape}" for (dtype, shape), _ in self.shapes.most_common(3)]
        more = f" and {len(self.shapes) - len(kinds)} other shapes" if len(self.shapes) > len(kinds) else ""
        return f"{self.shapes.total():,} arrays ({', '.join(kinds)}{more}) of {self.files:,} files"


def write_features(
    files: Sequence[Path], output: Path, *, clips: int | None = None, memory_bytes: int, seconds: float
) -> Imported:
    """Write one ``.npy`` file for each array of the pickles, and ``index.csv``; all or nothing.

    Args:
        files: Pickles, or folders of them.
        output: The folder to write. It may be absent, empty or written by an import before.
        clips: See ``training_layout``.
        memory_bytes: See ``read_pickled_arrays``.
        seconds: See ``read_pickled_arrays``.

    Returns:
        What was written.

    Raises:
        ConfigurationError: If ``output`` holds something else.
        DataError: If a file cannot be read, or an array cannot be a feature of training.
    """
    import numpy as np
    import pandas as pd

    from mmadapters.data.files import write_rows
    from mmadapters.features.pickles import pickled_arrays
    from mmadapters.files import replace_folder

    check_may_be_imported_to(output)
    pickles = pickle_files(files)
    shapes: Counter[tuple[str, tuple[int, ...]]] = Counter()
    rows: list[tuple[str, str]] = []
    not_finite = 0
    with replace_folder(output) as folder:
        (folder / FEATURES).mkdir()
        for key, array in pickled_arrays(pickles, memory_bytes=memory_bytes, seconds=seconds):
            features = training_layout(array, key, clips)
            shapes[str(features.dtype), features.shape] += 1
            not_finite += not np.isfinite(features).all()
            # An id may hold what no file name may, so files are numbered.
            path = f"{FEATURES}/{len(rows):06d}.npy"
            np.save(folder / path, features, allow_pickle=False)
            rows.append((key, path))
        if not rows:
            raise DataError("The pickles hold no arrays, so there is nothing to import.")
        write_rows(pd.DataFrame(rows, columns=["id", "path"]), folder / INDEX)
    return Imported(len(pickles), shapes, not_finite)


def check_may_be_imported_to(output: Path) -> None:
    """Refuse a folder that holds something else than an import, before work is done for it.

    Raises:
        ConfigurationError: If it does.
    """
    if output.is_dir() and not {entry.name for entry in output.iterdir()} <= {INDEX, FEATURES}:
        raise ConfigurationError(
            f"'{output}' holds other files than an import writes, and they would be lost. Name another folder."
        )


def pickle_files(files: Sequence[Path]) -> list[Path]:
    """Return the files themselves and, in order of their names, those of ``ENDINGS`` in the folders.

    Raises:
        DataError: If a folder has none.
    """
    found: list[Path] = []
    for file in files:
        inside = sorted(path for path in file.iterdir() if path.suffix in ENDINGS) if file.is_dir() else [file]
        if not inside:
            raise DataError(f"'{file}' has no {', '.join(ENDINGS)} files. Give the pickles, or a folder with them.")
        found += inside
    return found


def training_layout(array: np.ndarray, key: str, clips: int | None = None) -> np.ndarray:
    """Return an array as training reads it: (D,) or (T, D).

    Axes of length 1 in front are dropped: ``(1, 4096)`` becomes ``(4096,)``, ``(1, 200, 4096)`` becomes
    ``(200, 4096)``.

    Args:
        array: Of any shape.
        key: Its id, for messages.
        clips: The array is ``(clips, bands, steps)``, or ``(bands, steps)``, after axes were dropped: the first so many
            clips are joined in time, and the result is ``(clips * steps, bands)``. None: it is no spectrogram.

    Raises:
        DataError: If another number of axes is left.
    """
    import numpy as np

    features = array
    while features.ndim > (1 if clips is None else 2) and features.shape[0] == 1:
        features = features[0]
    if clips is not None and features.ndim in (2, 3):
        features = np.concatenate(list(features[:clips] if features.ndim == 3 else [features]), axis=1).T
    if features.ndim not in (1, 2) or (clips is not None and array.ndim < 2):
        accepted = "(D,) and (T, D)" if clips is None else "(clips, bands, steps)"
        hint = " Spectrograms (clips, bands, steps) are read with --clips." if clips is None and array.ndim > 2 else ""
        raise DataError(
            f"The array of '{key}' has the shape {array.shape}. Accepted are {accepted}, with any axes of length 1 in "
            f"front.{hint}"
        )
    return np.ascontiguousarray(features)
