"""What a fit is told, what comes of it, and how much time it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmadapters.artefact import Artefact
from mmadapters.errors import ConfigurationError
from mmadapters.predictor.column_plan import ColumnChoice
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.preparation import RowPreparation


@dataclass(frozen=True)
class FitSettings:
    """What a fit was told, beside the rows; see ``MultimodalPredictor`` for the fields.

    Attributes:
        place: Where the files are that rows name.
        cache: Folder that features are kept in.
        parameters: What is saved of the predictor's parameters.
    """

    columns: ColumnChoice
    place: Place
    cache: Path
    backbone: str = "minilm"
    problem_type: str | None = None
    label_separator: str | None = None
    max_length: int | None = None
    model: Any = None
    adapter: Any = None
    training: Any = None
    extractors: Any = None
    seed: int = 0
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Fitted:
    """A trained model.

    Attributes:
        artefact: The model, with what it keeps of its rows.
        preparation: What is done to rows first.
        log: The Trainer's log.
    """

    artefact: Artefact
    preparation: RowPreparation
    log: list[dict[str, Any]]


class Clock:
    """How much of the time of a fit is left.

    Args:
        limit: Seconds, or None for as long as it takes.

    Attributes:
        limit: As given.

    Raises:
        ConfigurationError: If the limit is no number above 0.
    """

    def __init__(self, limit: float | None) -> None:
        is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if limit is not None and not (is_number and limit > 0):
            raise ConfigurationError(f"time_limit={limit!r} cannot be used. Give seconds above 0, or None.")
        self._started = time.monotonic()
        self.limit = limit
        self._extraction = 0.0
        self._extracting_since: float | None = None

    @property
    def deadline(self) -> float | None:
        """When the time is over, on the clock of ``time.monotonic``."""
        return None if self.limit is None else self._started + self.limit

    @property
    def check(self) -> Callable[[], None] | None:
        """What raises where the time is over; None where there is no limit."""
        return None if self.limit is None else self.require_time

    @contextmanager
    def extracting(self) -> Iterator[None]:
        """Count the time within the context as that of the extraction."""
        self._extracting_since = time.monotonic()
        try:
            yield
        finally:
            self._extraction, self._extracting_since = self.extraction, None

    @property
    def extraction(self) -> float:
        """Seconds that the extraction has taken so far."""
        since = self._extracting_since
        return self._extraction + (0.0 if since is None else time.monotonic() - since)

    def has(self, seconds: float) -> bool:
        """Tell whether so much time is left."""
        return self.deadline is None or time.monotonic() + seconds <= self.deadline

    def require_time(self) -> None:
        """Refuse to begin a training when there is no time for it.

        Raises:
            ConfigurationError: Then.
        """
        taken = time.monotonic() - self._started
        if self.limit is not None and taken >= self.limit:
            media = (
                f" (features of media took {self.extraction:.1f} s of it; they are kept, so that the next fit does not "
                "extract them again)"
                if self.extraction >= 0.1
                else ""
            )
            raise ConfigurationError(
                f"time_limit={self.limit:g} s was over before the training began: {taken:.1f} s were taken to prepare "
                f"rows{media}. Give a larger limit."
            )
