"""The frozen-prefix cache: what the layers below the first adapter make of each text, computed once, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mmadapters.adapters.prefix import FrozenPrefix
from mmadapters.data.batching import longest_first
from mmadapters.data.collator import PREFIX_STATES, MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.evaluator import to_device
from mmadapters.files import replace_folder, write_json_atomically

logger = logging.getLogger(__name__)

CacheDtype = Literal["float32", "float16"]
FORMAT_VERSION = 1

_STATES_FILE = "states.bin"
_INFO_FILE = "cache.json"
_REPORTED_SHARES = 4
_CHECKED_ROWS = 4


@dataclass(frozen=True)
class PrefixCacheOptions:
    """Where and how hidden states are kept.

    Attributes:
        folder: Of all caches; each has a folder of its own in it, named by what its numbers depend on.
        dtype: Type of the numbers on disk. With ``float32`` training is that without a cache; ``float16`` takes half
            the space and rounds.
        limit_bytes: The most that the caches of one run may take on disk.

    Raises:
        ConfigurationError: If a value cannot be used.
    """

    folder: Path
    dtype: CacheDtype = "float32"
    limit_bytes: int = 8 * 10**9

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise ConfigurationError(f"prefix_cache.dtype={self.dtype!r} is unknown. Accepted are float32 and float16.")
        if self.limit_bytes <= 0:
            raise ConfigurationError(f"The limit of the prefix cache is {self.limit_bytes} bytes. Give more than 0.")


class PrefixedDataset(MultimodalDataset):
    """A data set whose rows also have the hidden states that enter the first layer with an adapter, ``prefix_states``.

    Args:
        rows: The N rows; what they hold is shared, not copied.
        states: (sum of the lengths, H), the rows' states one after the other.
    """

    def __init__(self, rows: MultimodalDataset, states: np.ndarray) -> None:
        vars(self).update(vars(rows))
        self.states = states

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return one row of ``MultimodalDataset`` with ``prefix_states`` (L_i, H)."""
        item = super().__getitem__(row)
        place = int(row) % len(self)
        item[PREFIX_STATES] = self.states[self._starts[place] : self._starts[place + 1]]
        return item

    def digest(self) -> str:
        """Return a SHA-256 of the rows and of how their states are kept."""
        return hashlib.sha256(f"{super().digest()} {PREFIX_STATES} {self.states.dtype}".encode()).hexdigest()


class PrefixCache:
    """Hidden states on disk for the rows of a run.

    What a row's states depend on (weights below the first adapter, settings, versions, tokens, precision) names its
    folder, so every run with the same backbone and rows finds them again, and no other one does.

    Args:
        prefix: Of the model that is trained.
        options: Where and how.
        report: Called with a line for a person.
    """

    def __init__(
        self, prefix: FrozenPrefix, options: PrefixCacheOptions, report: Callable[[str], None] | None = None
    ) -> None:
        self.prefix = prefix
        self.options = options
        self._report = report or logger.info
        self._fingerprint = prefix.fingerprint

    def size_of(self, rows: MultimodalDataset) -> int:
        """Return the bytes that the states of the rows take on disk."""
        return int(rows.lengths.sum()) * self.prefix.hidden_size * np.dtype(self.options.dtype).itemsize

    def check_limit(self, parts: Mapping[str, MultimodalDataset]) -> None:
        """Announce the size of what is to be kept.

        Args:
            parts: The data sets of the run by split.

        Raises:
            ConfigurationError: If they are more than the limit.
        """
        sizes = {split: self.size_of(rows) for split, rows in parts.items()}
        total = sum(sizes.values())
        self._report(
            f"Prefix cache: hidden states before layer {self.prefix.first_layer} as {self.options.dtype}, "
            + ", ".join(f"{split} {_megabytes(size)}" for split, size in sizes.items())
            + f", in {self.options.folder}"
        )
        if total > self.options.limit_bytes:
            half = " Or use dtype=float16, which takes half." if self.options.dtype == "float32" else ""
            raise ConfigurationError(
                f"The prefix cache would take {_megabytes(total)}, more than its limit of "
                f"{_megabytes(self.options.limit_bytes)}. Raise the limit (prefix_cache.limit_gb, --cache-limit), cut "
                f"the texts shorter (data.max_length), or train without it.{half}"
            )

    def add_states(self, rows: MultimodalDataset, tokenizer: Any, batch_size: int = 64) -> PrefixedDataset:
        """Return the rows with their hidden states, computed where they are not on disk yet.

        Args:
            rows: The rows.
            tokenizer: Knows the padding.
            batch_size: Texts that are run together; of similar length.
        """
        key = f"{self._fingerprint} {rows.token_digest()} {self.options.dtype} {FORMAT_VERSION}"
        folder = self.options.folder / _folder_name(key)
        info = {
            "key": key,
            "rows": len(rows),
            "tokens": int(rows.lengths.sum()),
            "hidden_size": self.prefix.hidden_size,
            "dtype": self.options.dtype,
            "first_layer": self.prefix.first_layer,
        }
        if _is_there(folder, info, self.size_of(rows)):
            self._report(f"  {len(rows)} rows: found in {folder}")
        else:
            self._fill(folder, info, rows, MultimodalCollator(tokenizer), batch_size)
        shape = (info["tokens"], info["hidden_size"])
        states = np.memmap(folder / _STATES_FILE, dtype=self.options.dtype, mode="r", shape=shape)
        return PrefixedDataset(rows, states)

    def _fill(
        self,
        folder: Path,
        info: dict[str, Any],
        rows: MultimodalDataset,
        collator: MultimodalCollator,
        batch_size: int,
    ) -> None:
        self.options.folder.mkdir(parents=True, exist_ok=True)
        _check_room(self.options.folder, self.size_of(rows))
        starts = np.concatenate([[0], np.cumsum(rows.lengths)])
        order = longest_first(rows.lengths)
        done = 0
        with replace_folder(folder) as temporary:
            shape = (info["tokens"], info["hidden_size"])
            states = np.memmap(temporary / _STATES_FILE, dtype=self.options.dtype, mode="w+", shape=shape)
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                batch = collator([rows.tokens(int(row)) for row in chosen])
                computed = self.prefix.hidden_states(**self._on_device(batch)).float().cpu()
                for row, values, mask in zip(chosen, computed, batch["attention_mask"].bool(), strict=True):
                    states[starts[row] : starts[row + 1]] = self._storable(values[mask])
                    done += int(rows.lengths[row])
                if (start // batch_size + 1) % max(1, len(order) // batch_size // _REPORTED_SHARES) == 0:
                    self._report(f"  {done} of {info['tokens']} tokens")
            states.flush()
            del states
            write_json_atomically(temporary / _INFO_FILE, info)

    def _on_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: values.to(self.prefix.device) for name, values in batch.items()}

    def _storable(self, values: torch.Tensor) -> np.ndarray:
        array = values.numpy().astype(self.options.dtype)
        if not np.isfinite(array).all():
            raise ConfigurationError(
                f"A hidden state of {float(values.abs().max()):g} does not fit into float16. Use "
                "prefix_cache.dtype=float32."
            )
        return array


@contextmanager
def cached_prefix(
    model: Any,
    options: PrefixCacheOptions,
    parts: Mapping[str, MultimodalDataset],
    collator: MultimodalCollator,
    reload_encoder: Callable[[], nn.Module],
    report: Callable[[str], None] | None = None,
) -> Iterator[dict[str, PrefixedDataset]]:
    """Let a model start at its first layer with an adapter for as long as the block lasts.

    Weights that are not needed for that are given back meanwhile; afterwards the model is whole again.

    Args:
        model: The PEFT model.
        options: Where and how hidden states are kept.
        parts: The data sets of the run by split, none of them empty.
        collator: Makes the batches.
        reload_encoder: Loads the pre-trained encoder again.
        report: Called with a line for a person.

    Yields:
        The data sets with their hidden states.

    Raises:
        ConfigurationError: If nothing stays the same below the adapters, the cache takes more than its limit, or the
            encoder cannot be started in the middle.
    """
    with FrozenPrefix(model) as prefix:
        cache = PrefixCache(prefix, options, report)
        cache.check_limit(parts)
        first = next(iter(parts.values()))
        batch = collator([first[row] for row in range(min(len(first), _CHECKED_ROWS))])
        prefix.check(**{name: values for name, values in to_device(batch, prefix.device).items() if name != "labels"})
        prefixed = {split: cache.add_states(rows, collator.tokenizer) for split, rows in parts.items()}
        prefix.release()
        try:
            yield prefixed
        finally:
            prefix.restore(reload_encoder())


def _folder_name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def _is_there(folder: Path, info: dict[str, Any], size: int) -> bool:
    """Tell whether a cache is on disk in its full size; what is not is made again. Its content is not read for that."""
    try:
        found = json.loads((folder / _INFO_FILE).read_text(encoding="utf-8"))
        return bool(found == info and (folder / _STATES_FILE).stat().st_size == size)
    except (OSError, ValueError):
        return False


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ConfigurationError(
            f"The prefix cache takes {_megabytes(size)}, and '{folder}' has {_megabytes(free)} free. Name a folder on "
            "another disk (prefix_cache.folder), or train without it."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"
