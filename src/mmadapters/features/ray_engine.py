"""Extraction on a Ray cluster: this process says what is done where and writes the store, the nodes decode and encode.

::

    options = ExtractionOptions(id_column="id", ray=RayOptions(address="10.0.0.5:6379", cpus=8, gpus=1))
    extract(rows, sources, "runs/features", options)

Plain Ray actors do the work, not ``ray.data``. A data set is one pass over rows that are all given at its start: what a
chunk has to encode depends on the chunks before it, and a second data set for each window of chunks would load the
encoders anew each time. With actors the rows of a bounded number of chunks are on the cluster, each commit decides what
comes next, and a chunk whose worker or node died goes to another worker.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features.chunk_window import ChunkWindow
from mmadapters.features.decoding import HashMedia, ReadMedia
from mmadapters.features.extract_chunk import ChunkResult, Known
from mmadapters.features.extract_rows import MediaRow
from mmadapters.features.extractor import Extractor, ExtractorSpec, build_extractor
from mmadapters.features.guard import Limits

_ADDRESS = "RAY_ADDRESS"
_CONNECT_SECONDS = 10.0
_LOCAL_ENVIRONMENT = {
    # Ray listens on all interfaces of a machine that could be one of a cluster. This name is the switch on Linux, too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class RayOptions:
    """Where an extraction's workers run; none of it changes a feature.

    Attributes:
        address: Of a running cluster, ``host:port``; None for the environment's ``RAY_ADDRESS``, and without that for
            a cluster of this machine alone, which ends with the run; a process that had one cannot connect to other
            machines afterwards. Where this process is connected to a cluster already, that one is used.
        workers: Number of workers, each with the encoders in memory; None for as many as the cluster has room for.
        cpus: CPUs of a worker: one encodes, the others decode.
        gpus: GPUs of a worker; a share such as 0.5 lets two workers have one.

    Raises:
        ConfigurationError: If a value cannot be used.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 2
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for setting, value, least in (("workers", self.workers, 1), ("cpus", self.cpus, 1)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ConfigurationError(f"ray.{setting}={value!r} cannot be used. Give a whole number of at least 1.")
        if not 0 <= self.gpus < math.inf or (self.gpus > 1 and not float(self.gpus).is_integer()):
            raise ConfigurationError(f"ray.gpus={self.gpus!r} cannot be used. Give a whole number, or a share below 1.")
        if self.address is not None and "://" in self.address:
            raise ConfigurationError(
                f"The Ray address '{self.address}' cannot be used: an extraction does not go through Ray's client. Run "
                "it on a machine of the cluster, with an address such as '10.0.0.5:6379' or 'auto'."
            )


@dataclass(frozen=True)
class RaySetup:
    """What a worker needs to know; picklable.

    Attributes:
        extractors: Make the extractors, by modality.
        fingerprints: Of the extractors here, by modality.
        dtypes: Of the store's columns, by modality.
        hash_media: Digest of a path's content.
        read_media: Decodes a path, by modality.
        workers: Number of processes that decode; None for one less than the worker has CPUs.
        seconds: The longest time that decoding a file may take.
        memory_bytes: Address space of a process that decodes.
    """

    extractors: Mapping[str, Callable[[], Extractor]]
    fingerprints: Mapping[str, str]
    dtypes: Mapping[str, np.dtype]
    hash_media: HashMedia
    read_media: Mapping[str, ReadMedia]
    workers: int | None
    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class RayEngine:
    """Extracts chunks of rows on a Ray cluster.

    Attributes:
        options: The workers.
        setup: What each of them needs to know.
    """

    options: RayOptions
    setup: RaySetup

    def results(self, chunks: Sequence[Sequence[MediaRow]], known: Known) -> Iterator[ChunkResult]:
        """Yield what becomes of chunks, in their order; each is committed before the next one is asked for.

        Args:
            chunks: Rows of each.
            known: What the store has already.

        Raises:
            ConfigurationError: If the cluster cannot be reached or has no room, or a worker would make other features.
            MissingDependencyError: If Ray is not installed, or a worker lacks a package.
            WorkerError: If the workers cannot do their work, whatever the files are like.
        """
        from mmadapters.features.ray_workers import RayCrew

        with connected(self.options) as ray:
            cpus = self.setup.workers or max(1, self.options.cpus - 1)
            wanted = self.options.workers or _room(ray, self.options)
            with RayCrew(ray, self.options, replace(self.setup, workers=cpus), min(wanted, len(chunks))) as crew:
                yield from ChunkWindow(crew, chunks, known).results()


def portable(extractor: Extractor, limits: Limits) -> Callable[[], Extractor]:
    """Return what makes the same extractor on another machine.

    Args:
        extractor: One of ``build_extractor`` is built again from its specification; another is sent as it is.
        limits: What a file may be at most.
    """
    spec: ExtractorSpec | None = getattr(extractor, "spec", None)
    if spec is None:
        return partial(_itself, extractor)
    if spec.encoder is not None and Path(spec.encoder).is_dir():
        spec = replace(spec, encoder=str(Path(spec.encoder).absolute()))
    return partial(build_extractor, spec, limits)


def _itself(extractor: Extractor) -> Extractor:
    return extractor


@contextmanager
def connected(options: RayOptions, show_logs: bool = False) -> Iterator[Any]:
    """Connect to the cluster that the options name, or start one, and yield the ``ray`` module.

    Args:
        options: The cluster, and what a cluster of this machine alone has to have room for.
        show_logs: Whether this process prints what the workers print.

    Raises:
        ConfigurationError: If it cannot be reached or started.
        MissingDependencyError: If Ray is not installed.
    """
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded.is_initialized():
        yield loaded
        return
    address = options.address or os.environ.get(_ADDRESS) or "local"
    terminated = signal.getsignal(signal.SIGTERM)
    folder = None
    try:
        if address == "local":
            # Ray reads them when it is imported, and its processes when they start: they must not differ.
            if loaded is None:
                for name, value in _LOCAL_ENVIRONMENT.items():
                    os.environ.setdefault(name, value)
            ray = _import_ray()
            # Paths of sockets may have about a hundred characters: the usual folder for temporary files is too deep.
            folder = tempfile.mkdtemp(prefix="mmadapters-ray-", dir=os.environ.get("RAY_TMPDIR") or "/tmp")
            cpus = max(options.cpus * (options.workers or 1), _cores())
            _init(ray, address, show_logs, num_cpus=cpus, include_dashboard=False, _temp_dir=folder)
        else:
            ray = _import_ray()
            _check_reachable(address)
            _init(ray, address, show_logs)
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if terminated is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)


def _init(ray: Any, address: str, show_logs: bool, **options: Any) -> None:
    try:
        ray.init(address=address, log_to_driver=show_logs, logging_level=logging.ERROR, **options)
    except (ray.exceptions.RayError, OSError, ValueError, RuntimeError) as error:
        raise _unreachable(address, error) from error


def _check_reachable(address: str) -> None:
    """Find out in seconds what Ray takes two minutes for."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ConfigurationError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    given = "Ray cannot be started" if address == "local" else f"The Ray cluster '{address}' cannot be reached"
    return ConfigurationError(
        f"{given}: {reason}. Give the address of a cluster that runs, as host:port, and RAY_AUTH_MODE and the token as "
        "its nodes have them."
    )


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingDependencyError(
            'Work on several machines needs Ray, which is not installed: pip install "mmadapters[ray]"'
        ) from error


def _room(ray: Any, options: RayOptions) -> int:
    """Return how many workers fit into the cluster, at least one: nodes may join later."""
    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            fit = resources.get("CPU", 0.0) // options.cpus
            total += int(min(fit, resources.get("GPU", 0.0) // options.gpus) if options.gpus else fit)
    return max(1, total)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
