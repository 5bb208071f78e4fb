"""Checks of plain values that somebody else wrote: a table says what a file may hold, and nothing else is accepted."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmadapters.errors import did_you_mean, listed

Check = Callable[[Any, str], None]
"""Looks at a value, given with its place in the file; raises ``UnfitValue``."""

WHOLE = "it"
"""What the outermost value is called; of its entries only the names are said."""

NAME_LENGTH = 10_000
"""Most characters of a name: of a column, a label, a modality."""


class UnfitValue(Exception):
    """A value is not what the table says; the message names its place, the value and what is accepted."""


def _within(where: str, name: str) -> str:
    """Return the place of an entry."""
    return name if where == WHOLE else f"{where}.{name}"


def fail(where: str, value: Any, accepted: str) -> None:
    """Raise ``UnfitValue``.

    Args:
        where: Place of the value in the file.
        value: The value, which is shown shortened.
        accepted: What is accepted there.
    """
    raise UnfitValue(f"{where} is {reprlib.repr(value)}; accepted is {accepted}.")


def text(longest: int = NAME_LENGTH, empty: bool = False, pattern: str | None = None, shape: str = "") -> Check:
    """Return a check for text without NUL characters.

    Args:
        longest: Most characters.
        empty: Whether it may be empty.
        pattern: What it has to match as a whole.
        shape: The pattern in words.
    """
    compiled = None if pattern is None else re.compile(pattern)
    accepted = f"{'' if empty else 'non-empty '}text of at most {longest:,} characters{f', {shape}' if shape else ''}"

    def check(value: Any, where: str) -> None:
        if (
            not isinstance(value, str)
            or len(value) > longest
            or not (value or empty)
            or "\0" in value
            or (compiled is not None and not compiled.fullmatch(value))
        ):
            fail(where, value, accepted)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            fail(where, value, "text without halves of surrogate pairs")

    return check


def whole(low: int, high: int) -> Check:
    """Return a check for whole numbers from ``low`` to ``high``."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            fail(where, value, f"a whole number from {low:,} to {high:,}")

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """Return a check for finite numbers from ``low`` to ``high``."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not _is_finite(value):
            fail(where, value, "a finite number")
        if not low <= value <= high:
            fail(where, value, f"a number from {low:g} to {high:g}")

    return check


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def truth(value: Any, where: str) -> None:
    """Check for true or false."""
    if not isinstance(value, bool):
        fail(where, value, "true or false")


def nothing(value: Any, where: str) -> None:
    """Check for null."""
    if value is not None:
        fail(where, value, "null")


def one_of(*accepted: str) -> Check:
    """Return a check for one of several texts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in accepted:
            fail(where, value, f"one of {listed(accepted)}")

    return check


def nullable(inner: Check) -> Check:
    """Return a check for null, or for what another check accepts."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def either(accepted: str, *checks: Check) -> Check:
    """Return a check for what one of several checks accepts.

    Args:
        accepted: What that is, in words.
        checks: The checks.
    """

    def check(value: Any, where: str) -> None:
        for inner in checks:
            try:
                inner(value, where)
            except UnfitValue:
                continue
            return
        fail(where, value, accepted)

    return check


def list_of(inner: Check, at_most: int, at_least: int = 0) -> Check:
    """Return a check for lists.

    Args:
        inner: Of each entry.
        at_most: Most entries.
        at_least: Fewest entries.
    """

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not at_least <= len(value) <= at_most:
            given = f"a list of {len(value):,}" if isinstance(value, list) else value
            fail(where, given, f"a list of {at_least:,} to {at_most:,} entries")
        for index, entry in enumerate(value):
            inner(entry, f"{where}[{index}]")

    return check


def mapping_of(inner: Check, at_most: int, key: Check | None = None) -> Check:
    """Return a check for mappings with any keys.

    Args:
        inner: Of each value.
        at_most: Most entries.
        key: Of each key; by default any name.
    """
    key_check = text() if key is None else key

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or len(value) > at_most:
            given = f"a mapping of {len(value):,}" if isinstance(value, dict) else value
            fail(where, given, f"a mapping of at most {at_most:,} entries")
        for name, entry in value.items():
            key_check(name, f"a key of {where}")
            inner(entry, _within(where, name))

    return check


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, others: bool = False) -> Check:
    """Return a check for mappings with known keys.

    Args:
        required: Checks of what has to be there.
        optional: Checks of what may be absent.
        others: Whether other keys are passed over instead of refused.
    """
    known = {**required, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            fail(where, value, "a mapping")
        absent = [name for name in required if name not in value]
        if absent:
            raise UnfitValue(f"{where} lacks {listed(absent)}.")
        unknown = [name for name in value if name not in known]
        if unknown and not others:
            raise UnfitValue(
                f"{where} has the key {reprlib.repr(unknown[0])}; accepted are {listed(known)}."
                f"{did_you_mean(unknown[0][:NAME_LENGTH], list(known))}"
            )
        for name, inner in known.items():
            if name in value:
                inner(value[name], _within(where, name))

    return check


def kinds(by_kind: Mapping[str, Check], key: str = "kind") -> Check:
    """Return a check for mappings of several kinds, which one of their keys tells.

    Args:
        by_kind: The check of each kind.
        key: The key that tells the kind.
    """

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or not isinstance(value.get(key), str) or value[key] not in by_kind:
            given = value.get(key) if isinstance(value, dict) else value
            fail(f"{where}.{key}", given, f"one of {listed(by_kind)}")
        by_kind[value[key]](value, where)

    return check


def plain(at_most: int = 100_000, depth: int = 8) -> Check:
    """Return a check for plain values of any kind: a nest of mappings and lists, numbers in it finite.

    Args:
        at_most: Most values in it altogether.
        depth: Most levels.
    """

    def check(value: Any, where: str) -> None:
        left = [at_most]
        _check_plain(value, where, depth, left)

    return check


def _check_plain(value: Any, where: str, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        raise UnfitValue(f"{where} is nested too deeply, or holds too many values.")
    entries: Sequence[Any] = ()
    if isinstance(value, dict):
        for name in value:
            text(empty=True)(name, f"a key of {where}")
        entries = list(value.values())
    elif isinstance(value, list):
        entries = value
    elif isinstance(value, str):
        text(100_000, empty=True)(value, where)
    elif value is not None and not isinstance(value, bool):
        number()(value, where)
    for entry in entries:
        _check_plain(entry, where, depth - 1, left)
