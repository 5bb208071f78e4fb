"""Workers on the nodes of a Ray cluster, and what gives them their calls, again where a worker or its node died."""

from __future__ import annotations

import heapq
import itertools
import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any

from mmadapters.errors import ConfigurationError, MMAdaptersError
from mmadapters.features.chunk_window import Call
from mmadapters.features.extract_chunk import ChunkExtractor, ChunkFile, EncodedFile, HashedChunk
from mmadapters.features.extract_rows import MediaRow
from mmadapters.features.extractor import Extractor, fingerprint_changes
from mmadapters.features.guard import GuardedPool
from mmadapters.features.outcome import one_line
from mmadapters.features.ray_engine import RayOptions, RaySetup
from mmadapters.features.worker_pool import WorkerError

logger = logging.getLogger(__name__)

_ATTEMPTS = 4
"""How often a call may lose its worker before the fault is looked for in the call."""
_STARTS = 3
"""How many workers, beyond as many as there are, may end one after the other before any is ready."""
_WAIT_SECONDS = 5.0
_WARN_SECONDS = 30.0
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Introduction:
    """What a worker says of itself.

    Attributes:
        address: Of its machine.
        node: What Ray calls it.
        version: Of this library there.
        fingerprints: Of its extractors, by modality.
    """

    address: str
    node: str
    version: str
    fingerprints: dict[str, str]


class RayWorker:
    """Does the work of one place in the cluster: an actor with extractors and processes that decode.

    Each method returns None and its result, which Ray keeps apart: the first tells whether it is done, without the
    features travelling.
    """

    def prepare(self, setup: RaySetup) -> tuple[None, Introduction]:
        """Load the encoders."""
        import ray

        extractors = {name: make() for name, make in setup.extractors.items()}
        pool = GuardedPool(setup.workers or 1, setup.seconds, setup.memory_bytes).__enter__()
        self._chunks = ChunkExtractor(pool, extractors, setup.dtypes, setup.hash_media, setup.read_media)
        fingerprints = {name: extractor.fingerprint for name, extractor in extractors.items()}
        address, node = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        return None, Introduction(address, node, version("mmadapters"), fingerprints)

    def hash(self, rows: Sequence[MediaRow]) -> tuple[None, HashedChunk]:
        """See ``ChunkExtractor.hash``."""
        return None, self._chunks.hash(rows)

    def encode(self, files: Sequence[ChunkFile]) -> tuple[None, list[EncodedFile]]:
        """See ``ChunkExtractor.encode``."""
        return None, list(self._chunks.encode(files))


@dataclass(eq=False)
class _Task:
    """A call and what it is given; ``lost`` counts the workers that ended with it in hand."""

    call: Call
    argument: Any
    lost: int = 0


@dataclass(eq=False)
class _Member:
    """One worker; ``done`` and ``result`` are Ray's references of what it does now, at first its preparation."""

    actor: Any
    done: Any
    result: Any
    task: _Task | None = None
    introduction: Introduction | None = None


class RayCrew:
    """Workers on a cluster; see ``Crew``.

    A worker that ends, by itself or with its node, is replaced as soon as there is room for it, and its call goes to
    another. An error of the code ends everything.

    Args:
        ray: The module, connected to a cluster.
        options: What a worker takes.
        setup: What it needs to know.
        size: Number of workers.
    """

    def __init__(self, ray: Any, options: RayOptions, setup: RaySetup, size: int) -> None:
        self.size = size
        self._ray = ray
        self._options = options
        self._setup = setup
        self._members: list[_Member] = []
        self._tasks: dict[Call, _Task] = {}
        self._waiting: list[tuple[Call, int, _Task]] = []
        self._finished: dict[Call, tuple[_Task, Any]] = {}
        self._serial = itertools.count()
        self._failed_starts = 0
        self._last_event = time.monotonic()
        self._warned = False

    def __enter__(self) -> RayCrew:
        with ExitStack() as stack:
            stack.callback(self._dismiss)
            for name, make in self._setup.extractors.items():
                self._check_portable(name, make)
            self._shared_setup = self._ray.put(self._setup)
            self._fill_up()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._dismiss()

    def submit(self, call: Call, argument: Any) -> None:
        """Hand over a call; it takes the place of an earlier one of its name."""
        self._finished.pop(call, None)
        task = self._tasks[call] = _Task(call, argument)
        self._wait_in_line(task)
        self._assign()

    def has(self, call: Call) -> bool:
        """Whether the result of a call is there."""
        return call in self._finished

    def take(self, call: Call) -> Any:
        """Return the result of a call once, waiting for it where it is not there, or no longer."""
        while True:
            while call not in self._finished:
                self.step()
            task, result = self._finished.pop(call)
            try:
                value = self._ray.get(result)
            except self._ray.exceptions.RayError as error:
                logger.warning("The features of some rows went down with their node; they are made again.")
                self._lose(task, error)
                continue
            del self._tasks[call]
            return value

    def step(self) -> None:
        """Wait until a call or a worker has ended, some seconds at most."""
        self._fill_up()
        self._assign()
        busy = {member.done: member for member in self._members if member.done is not None}
        ended, _ = self._ray.wait(list(busy), timeout=_WAIT_SECONDS, fetch_local=False)
        for done in ended:
            self._end(busy[done])
        if ended:
            self._last_event, self._warned = time.monotonic(), False
        elif not any(member.introduction for member in self._members):
            self._lose_patience(time.monotonic() - self._last_event)
        self._assign()

    def _check_portable(self, name: str, make: Callable[[], Extractor]) -> None:
        try:
            self._ray.cloudpickle.dumps(make)
        except Exception as error:
            raise ConfigurationError(
                f"The extractor of '{name}' cannot be sent to the nodes of a Ray cluster: {_reason(error)}. Use "
                "one of build_extractor, or one that can be pickled."
            ) from error

    def _fill_up(self) -> None:
        needs = {"num_cpus": self._options.cpus, "num_gpus": self._options.gpus, "max_restarts": 0}
        while len(self._members) < self.size:
            actor = self._ray.remote(RayWorker).options(**needs, max_task_retries=0).remote()
            done, result = actor.prepare.options(num_returns=2).remote(self._shared_setup)
            self._members.append(_Member(actor, done, result))

    def _assign(self) -> None:
        for member in self._members:
            if member.done is not None:
                continue
            task = self._next_in_line()
            if task is None:
                return
            member.task = task
            method = getattr(member.actor, task.call[0])
            member.done, member.result = method.options(num_returns=2).remote(task.argument)

    def _wait_in_line(self, task: _Task) -> None:
        heapq.heappush(self._waiting, (task.call, next(self._serial), task))

    def _next_in_line(self) -> _Task | None:
        while self._waiting:
            task = heapq.heappop(self._waiting)[2]
            if self._tasks.get(task.call) is task:
                return task
        return None

    def _end(self, member: _Member) -> None:
        """Take note of what a worker has done, or that it is no more."""
        exceptions = self._ray.exceptions
        task, result = member.task, member.result
        try:
            self._ray.get(member.done)
            if task is None:
                member.introduction = self._ray.get(result)
        except exceptions.RayTaskError as error:
            raise _readable(error) from error
        except exceptions.RayError as error:
            self._bury(member, error)
            return
        member.done = member.result = member.task = None
        if task is None:
            assert member.introduction is not None
            self._failed_starts = 0
            self._check(member.introduction)
        elif self._tasks.get(task.call) is task:
            self._finished[task.call] = task, result

    def _check(self, introduction: Introduction) -> None:
        """Refuse a worker whose features would be others."""
        here = version("mmadapters")
        differences = [f"mmadapters is {here} here, {introduction.version} there"] * (introduction.version != here)
        for name, fingerprint in self._setup.fingerprints.items():
            changes = fingerprint_changes(
                fingerprint, introduction.fingerprints[name], "{key} is {old} here, {new} there"
            )
            differences += [f"'{name}': {change}" for change in changes]
        if differences:
            raise ConfigurationError(
                f"The Ray node {introduction.address} would make other features than this machine:\n"
                + "\n".join(f"- {difference}" for difference in differences)
                + "\nGive all nodes the same versions of the libraries and the same weights."
            )

    def _bury(self, member: _Member, error: Exception) -> None:
        self._drop(member)
        reason = _reason(error, -1)
        if member.task is not None and member.introduction is not None:
            address, node = member.introduction.address, member.introduction.node
            logger.warning("A Ray worker on %s ended; another one does its rows. %s.", address, reason)
            # Where the node is dead, so are those who had nothing to do and do not tell.
            for other in list(self._members):
                if other.done is None and other.introduction is not None and other.introduction.node == node:
                    self._drop(other)
            self._lose(member.task, error)
            return
        self._failed_starts += 1
        if self._failed_starts >= self.size + _STARTS:
            raise WorkerError(
                f"Ray workers end before they are ready, {self._failed_starts} so far: {reason}. Look for the "
                "reason in Ray's logs on the nodes."
            ) from error

    def _lose(self, task: _Task, error: Exception) -> None:
        """Let another worker do a task, unless it was lost too often."""
        if self._tasks.get(task.call) is not task:
            return
        task.lost += 1
        if task.lost >= _ATTEMPTS:
            raise WorkerError(
                f"The same rows ended {task.lost} Ray workers, the last one with: {_reason(error, -1)}. If memory is "
                f"short, raise ray.cpus={self._options.cpus}, so that fewer workers share a node, or lower "
                "rows_per_shard."
            ) from error
        self._wait_in_line(task)

    def _lose_patience(self, seconds: float) -> None:
        """Say that the cluster has no room for a worker, at last as an error."""
        needs = f"{self._options.cpus} CPUs and {self._options.gpus:g} GPUs"
        if seconds > _PATIENCE_SECONDS:
            raise ConfigurationError(
                f"For {seconds:.0f} s no Ray worker has become ready. Each takes {needs}, and the cluster has "
                f"{_described(self._ray.cluster_resources())} in all. Lower ray.cpus or ray.gpus, add nodes, or see "
                "whether the nodes can load the encoders."
            )
        if seconds > _WARN_SECONDS and not self._warned:
            logger.warning("No Ray worker is ready so far. Each takes %s: the cluster may have no room.", needs)
            self._warned = True

    def _drop(self, member: _Member) -> None:
        self._members.remove(member)
        with suppress(Exception):
            self._ray.kill(member.actor)

    def _dismiss(self) -> None:
        for member in list(self._members):
            self._drop(member)


def _readable(error: Any) -> MMAdaptersError:
    """Return an error of a worker's code as one of this process."""
    cause = error.cause
    place = re.search(r"\bip=([^\s,)]+)", str(error))
    node = place[1] if place else "unknown"
    if isinstance(cause, MMAdaptersError):
        return type(cause)(f"On the Ray node {node}: {cause}")
    return WorkerError(f"A worker on the Ray node {node} failed: {type(cause).__name__}: {_reason(cause)}.")


def _reason(error: BaseException, line: int = 0) -> str:
    """Return a line of an error, the last one of those of Ray, whose first lines are about Ray."""
    lines = [text for text in str(error).splitlines() if text.strip()]
    return one_line(lines[line]).rstrip(".") if lines else type(error).__name__


def _described(resources: dict[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
