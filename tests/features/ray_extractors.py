"""Extractors for the nodes of a Ray cluster, which a test can watch, hold and break."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from counting_extractor import MeanColour


def this_node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def wait_for(folder: Path, pattern: str, count: int = 1, seconds: float = 60.0) -> None:
    """Wait until a folder has so many files of such a name."""
    deadline = time.monotonic() + seconds
    while len(list(folder.glob(pattern))) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{pattern} never came")
        time.sleep(0.02)


class OnTwoNodes(MeanColour):
    """Notes the nodes that it encodes on, and goes on when there are two."""

    def __init__(self, notes: Path) -> None:
        super().__init__()
        self.notes = notes

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        (self.notes / f"encoding-{this_node()}").touch()
        wait_for(self.notes, "encoding-*", 2)
        return super().encode(decoded)


class Wide(MeanColour):
    """Features so wide that Ray keeps them on the node that made them."""

    feature_dim = 60_000

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.resize(vector, self.feature_dim) for vector in super().encode(decoded)]


class Held(Wide):
    """Brings two nodes to where the death of one hurts most, a batch being a chunk.

    The other node stops in its second chunk until the victim is dead. The victim finishes a later chunk, whose features
    nobody has fetched, and stops in the next one for ever.
    """

    def __init__(self, notes: Path, victim: str) -> None:
        super().__init__()
        self.notes, self.victim = notes, victim

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        place = ("victim" if this_node() == self.victim else "other", len(self.batches))
        (self.notes / "{}-{}".format(*place)).touch()
        awaited = {
            ("victim", 0): "other-0",
            ("other", 0): "victim-0",
            ("victim", 1): "other-1",
            ("other", 1): "killed",
            ("victim", 3): "never",
        }
        if place in awaited:
            wait_for(self.notes, awaited[place])
        return super().encode(decoded)


class Drifting(MeanColour):
    """Makes other features on another machine."""

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.fingerprint = '{"weights": "b"}'


class Deadly(MeanColour):
    """Ends its process."""

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        os._exit(3)


class Broken(MeanColour):
    """Cannot be set up anywhere but here."""

    def __setstate__(self, state: dict) -> None:
        raise RuntimeError("there is no such library here\nat all")


class Unportable(MeanColour):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
