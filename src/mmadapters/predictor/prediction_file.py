"""A file of predictions that is written run by run, goes on where it was killed, and gets its name when it is whole.

Beside the file, in a hidden folder, are the rows so far and ``progress.json``, which says how many of their bytes
count. A run's rows are on the disk before it is noted, so a process that dies leaves nothing that is taken for more.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmadapters.data.spreadsheet import without_formulas
from mmadapters.errors import ConfigurationError
from mmadapters.features.extractor import fingerprint_changes
from mmadapters.features.store_lock import FolderInUseError, FolderLock
from mmadapters.files import write_json_atomically

PROGRESS_FILE = "progress.json"
ROWS_FILE = "rows"
FORMAT_VERSION = 1


class PredictionFile:
    """Takes runs of rows, and makes a file of them.

    Args:
        target: The file: ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json`` or ``.parquet``.
        inputs: What the rows follow from, as plain values; a run is gone on with only if they are the same.
        resume: Whether to go on with a run that was killed, where there is one.

    Attributes:
        runs: Number of runs that are on the disk.
        counts: What was counted in them.

    Raises:
        ConfigurationError: If there is an unfinished run and ``resume`` is False, it has other inputs, or another
            process writes the file.
    """

    def __init__(self, target: Path, inputs: Mapping[str, Any], resume: bool) -> None:
        self.target = target
        self.runs = 0
        self.counts: dict[str, int] = {}
        self._inputs = json.loads(json.dumps(inputs))
        self._folder = staging_folder(target)
        self._kind = target.suffix.lower()
        self._bytes = 0
        target.parent.mkdir(parents=True, exist_ok=True)
        there = self._folder.exists()
        self._folder.mkdir(exist_ok=True)
        self._lock = _locked(self._folder, target)
        try:
            self._take_up(self._progress() if there else None, resume)
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> PredictionFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the rows so far where they are; ``finish`` gives them their name."""
        self._release()
        if not self.runs:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, rows: pd.DataFrame, counts: Mapping[str, int]) -> None:
        """Add a run; when this returns, it is on the disk.

        Args:
            rows: Its rows.
            counts: What all runs up to this one have counted.
        """
        if self._kind == ".parquet":
            self._add_part(rows)
        else:
            self._append(_as_text(rows, self._kind, first=self.runs == 0))
        self.runs += 1
        self.counts = dict(counts)
        self._note()

    def finish(self) -> None:
        """Give the rows their name; a file that has it is replaced."""
        if self._kind == ".parquet":
            self._join_parts()
        elif self._kind == ".json":
            self._append("]" if self.runs else "[]")
        os.replace(self._folder / ROWS_FILE, self.target)
        shutil.rmtree(self._folder)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _take_up(self, progress: dict[str, Any] | None, resume: bool) -> None:
        if progress is not None and progress["runs"] and not resume:
            raise ConfigurationError(
                f"An unfinished run has left {progress['counts'].get('rows', 0):,} rows for '{self.target}'. Go on "
                f"with --resume, or remove the folder '{self._folder}' to start again."
            )
        if progress is not None and progress["runs"]:
            changes = fingerprint_changes(json.dumps(progress["inputs"]), json.dumps(self._inputs))
            if changes:
                raise ConfigurationError(
                    f"The unfinished run for '{self.target}' had other inputs: {'; '.join(changes)}. Give it the same, "
                    f"or remove the folder '{self._folder}' to start again."
                )
            if self._has(progress["runs"], progress["bytes"]):
                self.runs, self.counts, self._bytes = progress["runs"], progress["counts"], progress["bytes"]
        # What was written after the last run that was noted does not count.
        with (self._folder / ROWS_FILE).open("ab") as file:
            file.truncate(self._bytes)
        for part in self._folder.glob("part-*.parquet"):
            if int(part.stem.removeprefix("part-")) >= self.runs:
                part.unlink()

    def _has(self, runs: int, size: int) -> bool:
        """Tell whether the rows are there that were noted: a process may die after they have got their name."""
        if self._kind == ".parquet":
            return all(self._part(number).exists() for number in range(runs))
        rows = self._folder / ROWS_FILE
        return rows.exists() and rows.stat().st_size >= size

    def _progress(self) -> dict[str, Any] | None:
        """Return what is noted of an earlier run; nothing where it did not come so far, or cannot be read."""
        try:
            progress = json.loads((self._folder / PROGRESS_FILE).read_text(encoding="utf-8"))
            if progress["format_version"] != FORMAT_VERSION:
                return None
            return {key: progress[key] for key in ("inputs", "runs", "counts", "bytes")}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _note(self) -> None:
        write_json_atomically(
            self._folder / PROGRESS_FILE,
            {
                "format_version": FORMAT_VERSION,
                "inputs": self._inputs,
                "runs": self.runs,
                "counts": self.counts,
                "bytes": self._bytes,
            },
        )

    def _append(self, text: str) -> None:
        content = text.encode("utf-8")
        with (self._folder / ROWS_FILE).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._bytes += len(content)

    def _add_part(self, rows: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(rows, preserve_index=False)
        with self._part(self.runs).open("wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())

    def _join_parts(self) -> None:
        """Write all parts as one file; a column that is text in one of them is text in all."""
        parts = [self._part(number) for number in range(self.runs)]
        schemas = [pq.read_schema(part).remove_metadata() for part in parts]
        fields = [_common_field([schema.field(name) for schema in schemas]) for name in schemas[0].names]
        with (self._folder / ROWS_FILE).open("wb") as file:
            with pq.ParquetWriter(file, pa.schema(fields)) as writer:
                for part in parts:
                    writer.write_table(pq.read_table(part).cast(pa.schema(fields)))
            file.flush()
            os.fsync(file.fileno())

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.parquet"


def _locked(folder: Path, target: Path) -> FolderLock | None:
    """Return a lock on a folder, None where the system has none."""
    try:
        return FolderLock(folder)
    except FolderInUseError as error:
        raise ConfigurationError(f"Another process writes '{target}'. Wait for it, or name another file.") from error
    except ConfigurationError:
        return None


def staging_folder(target: Path) -> Path:
    """Return the folder in which a file of predictions grows.

    Args:
        target: The file.
    """
    return target.with_name(f".{target.name}.partial")


def _as_text(rows: pd.DataFrame, kind: str, first: bool) -> str:
    if kind in (".csv", ".tsv"):
        separator = "\t" if kind == ".tsv" else ","
        return str(without_formulas(rows).to_csv(index=False, header=first, sep=separator, lineterminator="\n"))
    lines = kind != ".json"
    records = rows.to_json(orient="records", lines=lines, force_ascii=False, double_precision=15, date_format="iso")
    if lines:
        return records if records.endswith("\n") or not records else f"{records}\n"
    return f"{'[' if first else ','}{records.strip().removeprefix('[').removesuffix(']')}"


def _common_field(fields: list[pa.Field]) -> pa.Field:
    types = list(dict.fromkeys(field.type for field in fields if not pa.types.is_null(field.type)))
    if len(types) > 1:
        numbers = all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in types)
        types = [pa.float64() if numbers else pa.string()]
    return pa.field(fields[0].name, types[0] if types else pa.string())
