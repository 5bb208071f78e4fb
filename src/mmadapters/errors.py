"""Exceptions of the library.

Every message says what was given, what is accepted and what to change::

    MMAdaptersError
    ├── ConfigurationError        a setting cannot be used (also a ValueError)
    │   └── UnsupportedBackboneError
    ├── InputError                a batch given to the model does not fit its adapters (also a ValueError)
    ├── DataError                 rows, columns or files of a data set cannot be used (also a ValueError)
    ├── ArtefactError             a saved model cannot be read or written (also a ValueError)
    ├── MissingDependencyError    an optional package is not installed (also an ImportError)
    ├── DownloadError             something could not be fetched (also an OSError)
    └── HubError                  a repository on the Hub cannot be read or written (also an OSError)

``TrainingInterrupted`` is none of them but a KeyboardInterrupt: it was asked for, from outside.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MMAdaptersError(Exception):
    """Base class of every exception that the library raises on purpose."""


class ConfigurationError(MMAdaptersError, ValueError):
    """A setting has a value that cannot be used."""


class UnsupportedBackboneError(ConfigurationError):
    """The text encoder has no known places for adapters."""


class InputError(MMAdaptersError, ValueError):
    """A batch that was given to the model does not fit its adapters."""


class DataError(MMAdaptersError, ValueError):
    """Rows, columns or files of a data set cannot be used."""


class ArtefactError(MMAdaptersError, ValueError):
    """A saved model cannot be read or written."""


class MissingDependencyError(MMAdaptersError, ImportError):
    """An optional package is needed and not installed."""


class DownloadError(MMAdaptersError, OSError):
    """A file could not be fetched from the package index."""


class HubError(MMAdaptersError, OSError):
    """A repository on the Hugging Face Hub could not be read or written."""


class TrainingInterrupted(KeyboardInterrupt):
    """A training was ended by a signal, after a checkpoint.

    Attributes:
        signal_number: SIGTERM or SIGINT.

    Args:
        message: Where the training stands and how to go on.
        signal_number: The signal.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def did_you_mean(given: str, accepted: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the accepted name nearest to ``given``, or an empty string."""
    nearest = difflib.get_close_matches(given, list(accepted), n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


def listed(names: Iterable[str]) -> str:
    """Return the names quoted and joined by commas, in their order, or ``none`` where there are none."""
    return ", ".join(f"'{name}'" for name in names) or "none"
