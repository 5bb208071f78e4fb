"""Who does what on a cluster, on a cluster of names: workers die, nodes die, results are lost, as the test says."""

import pickle
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest

from mmadapters.errors import ConfigurationError, DataError, MMAdaptersError
from mmadapters.features import ray_workers
from mmadapters.features.ray_engine import RayOptions, RaySetup
from mmadapters.features.ray_workers import Introduction, RayCrew
from mmadapters.features.worker_pool import WorkerError


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::RayWorker (pid=1, ip=10.0.0.7, repr=x)\nTraceback\n{cause}")
        self.cause = cause


Does = Callable[["Actor", str, Any], Any]


class Reference:
    """What a call will have given."""

    outcome: Any = None


class Actor:
    """A worker on a node; what it does is ``Cluster.does``."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.cluster, self.number, self.node = cluster, number, cluster.nodes[number % len(cluster.nodes)]

    def __getattr__(self, method: str) -> Any:
        def remote(argument: Any) -> tuple[Any, Any]:
            call = Reference()
            try:
                call.outcome = self.cluster.do(self, method, argument)
            except RayError as error:
                call.outcome = error
            return call, call

        return SimpleNamespace(options=lambda num_returns: SimpleNamespace(remote=remote))


class Cluster:
    """Stands in for the module ``ray``; every call is over at once."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    cloudpickle = pickle

    def __init__(self, does: Does, nodes: str = "ab") -> None:
        self.does, self.nodes = does, nodes
        self.actors: list[Actor] = []
        self.killed: list[int] = []
        self.lost: list[Any] = []

    def remote(self, cls: type) -> Any:
        def hire() -> Actor:
            self.actors.append(Actor(self, len(self.actors)))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=hire))

    def do(self, actor: Actor, method: str, argument: Any) -> Any:
        result = self.does(actor, method, argument)
        if method == "prepare" and result is None:
            return Introduction("10.0.0.7", actor.node, version("mmadapters"), {})
        return result

    def put(self, value: Any) -> Any:
        return value

    def wait(self, calls: list[Any], timeout: float, fetch_local: bool) -> tuple[list[Any], list[Any]]:
        return calls[:1], calls[1:]

    def get(self, call: Any) -> Any:
        if isinstance(call.outcome, RayError):
            raise call.outcome
        return call.outcome

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor.number)


def crew_of(cluster: Cluster, size: int) -> RayCrew:
    setup = RaySetup({}, {}, {}, None, {}, 1, 1.0, 1)  # type: ignore[arg-type]
    return RayCrew(cluster, RayOptions(cpus=1), setup, size)


def doubled(actor: Actor, method: str, argument: Any) -> Any:
    return None if method == "prepare" else 2 * argument


def test_calls_are_done_the_smallest_first_and_their_results_taken_once() -> None:
    order: list[int] = []

    def noting(actor: Actor, method: str, argument: Any) -> Any:
        if method != "prepare":
            order.append(argument)
        return doubled(actor, method, argument)

    cluster = Cluster(noting)
    with crew_of(cluster, 1) as crew:
        for step, number in [("hash", 3), ("hash", 1), ("encode", 2), ("encode", 0)]:
            crew.submit((step, number), number)  # type: ignore[arg-type]
        assert crew.take(("hash", 3)) == 6
        assert order == [0, 2, 1, 3]
        assert crew.has(("encode", 0))
        assert crew.take(("encode", 0)) == 0
        assert not crew.has(("encode", 0))
    assert cluster.killed == [0]


def test_a_call_takes_the_place_of_an_earlier_one() -> None:
    with crew_of(Cluster(doubled), 1) as crew:
        crew.submit(("encode", 0), 1)
        crew.submit(("encode", 0), 2)
        assert crew.take(("encode", 0)) == 4
        crew.submit(("encode", 1), 3)
        while not crew.has(("encode", 1)):
            crew.step()
        crew.submit(("encode", 1), 5)
        assert not crew.has(("encode", 1))
        assert crew.take(("encode", 1)) == 10


def test_the_idle_workers_of_a_dead_node_are_not_given_the_rows_in_turn() -> None:
    dead: set[str] = set()

    def dying(actor: Actor, method: str, argument: Any) -> Any:
        if actor.node in dead and actor.number < 8:
            raise RayError("ray says\nthe node is dead.")
        return doubled(actor, method, argument)

    cluster = Cluster(dying, nodes="aaaab")
    with crew_of(cluster, 8) as crew:
        while any(member.done for member in crew._members):
            crew.step()
        dead.add("a")
        crew.submit(("encode", 0), 21)
        assert crew.take(("encode", 0)) == 42
    # The seven workers on the node went at once, on account of the first of them.
    assert sorted(cluster.killed[:7]) == [0, 1, 2, 3, 5, 6, 7]
    assert len(cluster.actors) == 15


def test_rows_that_end_one_worker_after_the_other_end_the_run() -> None:
    attempts: Counter[int] = Counter()

    def deadly(actor: Actor, method: str, argument: Any) -> Any:
        if argument == 13:
            attempts[argument] += 1
            raise RayError("The actor died.\n\tpid: 1\nIt ran out of memory.")
        return doubled(actor, method, argument)

    with crew_of(Cluster(deadly), 2) as crew:
        crew.submit(("encode", 0), 13)
        crew.submit(("encode", 1), 1)
        with pytest.raises(
            WorkerError, match="The same rows ended 4 Ray workers, the last one with: It ran out of memory"
        ):
            crew.take(("encode", 0))
    assert attempts[13] == 4


def test_workers_that_never_become_ready_end_the_run() -> None:
    def unprepared(actor: Actor, method: str, argument: Any) -> Any:
        raise RayError("The actor died because of an error\nModuleNotFoundError: No module named 'mmadapters'")

    with crew_of(Cluster(unprepared), 2) as crew:
        crew.submit(("encode", 0), 1)
        with pytest.raises(WorkerError, match="before they are ready, 5 so far: ModuleNotFoundError: No module named"):
            crew.take(("encode", 0))


def test_a_lost_result_is_made_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(doubled)
    with crew_of(cluster, 2) as crew:
        crew.submit(("encode", 0), 1)
        while not crew.has(("encode", 0)):
            crew.step()
        crew._finished["encode", 0][1].outcome = RayError("lost")
        assert crew.take(("encode", 0)) == 2
    assert "they are made again" in caplog.text


@pytest.mark.parametrize(
    ("cause", "kind", "message"),
    [
        (DataError("no such file"), DataError, "^On the Ray node 10.0.0.7: no such file$"),
        (KeyError("x"), WorkerError, "^A worker on the Ray node 10.0.0.7 failed: KeyError: 'x'.$"),
    ],
)
def test_an_error_of_the_code_ends_the_run(cause: Exception, kind: type[MMAdaptersError], message: str) -> None:
    def failing(actor: Actor, method: str, argument: Any) -> Any:
        if method != "prepare":
            raise RayTaskError(cause)

    with crew_of(Cluster(failing), 1) as crew:
        crew.submit(("hash", 0), 1)
        with pytest.raises(kind, match=message):
            crew.take(("hash", 0))


def test_another_version_of_the_library_is_refused() -> None:
    def older(actor: Actor, method: str, argument: Any) -> Any:
        return Introduction("10.0.0.7", "a", "0.0.1", {})

    with crew_of(Cluster(older), 1) as crew, pytest.raises(ConfigurationError, match="there\nGive all nodes the same"):
        crew.take(("hash", 0))


def test_a_cluster_without_room_is_waited_for_some_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(doubled)
    monkeypatch.setattr(cluster, "wait", lambda calls, timeout, fetch_local: ([], calls))
    monkeypatch.setattr(cluster, "cluster_resources", lambda: {"CPU": 0.0}, raising=False)
    with crew_of(cluster, 1) as crew:
        monkeypatch.setattr(ray_workers, "_WARN_SECONDS", -1.0)
        crew.step()
        crew.step()
        assert caplog.text.count("No Ray worker is ready so far. Each takes 1 CPUs and 0 GPUs") == 1
        monkeypatch.setattr(ray_workers, "_PATIENCE_SECONDS", -1.0)
        with pytest.raises(ConfigurationError, match="the cluster has 0 CPUs and 0 GPUs in all"):
            crew.step()
