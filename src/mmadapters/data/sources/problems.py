"""What is wrong with the files of a published data set, gathered so that one error says all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mmadapters.errors import DataError

SPLITS = ("train", "validation", "test")

_SHOWN_IDS = 5
_SHOWN_PROBLEMS = 40

Value = TypeVar("Value")


class Problems:
    """Gathers what is wrong, and raises it as one error.

    Args:
        source: What is read, for the message: ``Moviescope, released files, in '/data/moviescope'``.
        allow_partial: Whether a part of the data set is as good as all of it: fewer rows and files than published are
            then no problem.
    """

    def __init__(self, source: str, allow_partial: bool = False) -> None:
        self.source = source
        self.allow_partial = allow_partial
        self.messages: list[str] = []
        self._can_be_partial = False

    def __bool__(self) -> bool:
        return bool(self.messages)

    def add(self, message: str) -> None:
        """Note a problem."""
        self.messages.append(message)

    def add_incomplete(self, message: str) -> None:
        """Note that something published is not there, unless a part of the data set will do."""
        if not self.allow_partial:
            self._can_be_partial = True
            self.messages.append(message)

    def attempt(self, read: Callable[[], Value]) -> Value | None:
        """Return what ``read`` returns, or None with its ``DataError`` noted."""
        try:
            return read()
        except DataError as error:
            self.messages.append(str(error))
            return None

    def raise_any(self, advice: str = "") -> None:
        """Raise what was gathered.

        Args:
            advice: What to download, or to change.

        Raises:
            DataError: If there is a problem.
        """
        if not self.messages:
            return
        lines = self.messages[:_SHOWN_PROBLEMS]
        if len(self.messages) > len(lines):
            lines = [*lines, f"and {len(self.messages) - len(lines):,} more"]
        found = "1 problem" if len(self.messages) == 1 else f"{len(self.messages):,} problems"
        parts = [f"{self.source}: {found}.", *(f"  - {line}" for line in lines)]
        if self._can_be_partial:
            parts.append("If it is a part of the data set on purpose, add --allow-partial.")
        raise DataError("\n".join([*parts, *([advice] if advice else [])]))


def named_ids(ids: Iterable[Any]) -> str:
    """Return ids for a message: ``12, 40 and 3 more``."""
    known = [str(id) for id in ids]
    more = f" and {len(known) - _SHOWN_IDS:,} more" if len(known) > _SHOWN_IDS else ""
    return ", ".join(known[:_SHOWN_IDS]) + more


def check_ids(problems: Problems, ids: Mapping[str, Iterable[str]]) -> None:
    """Note ids that are in a split twice, or in two splits.

    Args:
        problems: Where to.
        ids: Ids of the rows of each split.
    """
    splits: dict[str, set[str]] = {}
    for name, of_split in ids.items():
        counted = Counter(of_split)
        repeated = [id for id, count in counted.items() if count > 1]
        if repeated:
            problems.add(f"{name}: {len(repeated):,} ids are there more than once: {named_ids(repeated)}.")
        for other, known in splits.items():
            both = [id for id in counted if id in known]
            if both:
                problems.add(f"{other} and {name} are mixed up: {len(both):,} ids are in both: {named_ids(both)}.")
        splits[name] = set(counted)


def check_counts(problems: Problems, found: Mapping[str, int], published: Mapping[str, int], what: str) -> None:
    """Note numbers that differ from the published ones.

    Args:
        problems: Where to. Fewer than published may be allowed there, more never are.
        found: Numbers by name, such as rows by split.
        published: The numbers that there are to be; a name that is absent is not checked.
        what: What is counted: ``rows``.
    """
    for name, count in published.items():
        given = found.get(name, 0)
        note = problems.add if given > count else problems.add_incomplete
        if given != count:
            note(f"{name}: {given:,} {what}; {count:,} were published.")


def reported_counts(found: Mapping[str, int], reported: Mapping[str, int], what: str) -> tuple[str, ...]:
    """Tell numbers that differ from those that papers report, and that decide nothing.

    Args:
        found: Numbers by name.
        reported: What papers report, by name.
        what: What is counted.
    """
    return tuple(
        f"{name}: {found.get(name, 0):,} {what}, where {count:,} are reported."
        for name, count in reported.items()
        if found.get(name, 0) != count
    )
