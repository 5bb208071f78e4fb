"""What a predictor tells: lines and tables, or nothing at all."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from transformers.utils import logging as transformers_logging

from mmadapters.console import OUT, print_table
from mmadapters.predictor.column_plan import ColumnPlan
from mmadapters.predictor.guessing import IGNORED, KINDS, Guess

LONG_TABLE = 30
"""With more columns, those that follow each other and are used alike are told together."""
FEWEST_ALIKE = 5

_OWN = logging.getLogger("mmadapters")


class Messages:
    """Tells a person what happens.

    Args:
        verbose: 0 tells nothing, warnings of libraries included; from 1 on there are lines and progress bars.
    """

    def __init__(self, verbose: int) -> None:
        self.verbose = verbose

    @property
    def progress(self) -> bool:
        """Whether progress bars are shown: in a terminal or a notebook."""
        return self.verbose > 0 and (sys.stderr.isatty() or "ipykernel" in sys.modules)

    def tell(self, line: str) -> None:
        """Print a line.

        Args:
            line: The line.
        """
        if self.verbose > 0:
            OUT.print(line, soft_wrap=True)

    def tell_columns(self, plan: ColumnPlan, labels: tuple[str, str], rows: int) -> None:
        """Print what columns are used as, where that was guessed, and how to change it.

        Args:
            plan: What the model reads.
            labels: Column of the labels, and what is known of them.
            rows: Number of rows.
        """
        if self.verbose < 1 or not plan.guesses:
            return
        shown = [[labels[0], "label", labels[1]]]
        shown += _shown_guesses(plan.guesses)
        print_table(
            f"What the columns of {rows:,} rows are taken for",
            ["column", "used as", "since"],
            shown,
            f"Another kind: column_kinds={{'{plan.guesses[0].column}': 'ignore'}}; kinds are {', '.join(KINDS)}.",
            ("used as", "since"),
        )

    @contextmanager
    def quiet_libraries(self) -> Iterator[None]:
        """Keep the libraries underneath quiet within the context, and with ``verbose=0`` this one, too."""
        verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
        level = _OWN.level
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        if self.verbose < 1:
            _OWN.setLevel(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                # PEFT 0.21 still asks transformers 5 by the old names.
                warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing", category=FutureWarning)
                if self.verbose < 1:
                    warnings.simplefilter("ignore")
                yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()
            _OWN.setLevel(level)


def _shown_guesses(guesses: Sequence[Guess]) -> list[list[str]]:
    """Return a row for each guess; of a long table, columns that follow each other and are alike have one together."""
    rows = []
    for kinds, group in groupby(guesses, key=lambda guess: guess.kinds):
        alike = list(group)
        used = "—" if kinds == (IGNORED,) else ", ".join(kinds)
        if len(guesses) > LONG_TABLE and len(alike) >= FEWEST_ALIKE:
            rows.append([f"{alike[0].column} … {alike[-1].column}", used, f"{len(alike)} columns that are alike"])
        else:
            rows += [[guess.column, used, guess.reason] for guess in alike]
    return rows


def described_labels(columns: Sequence[str], problem_type: str, labels: int, separator: str | None) -> tuple[str, str]:
    """Return the column of the labels, and what is known of them.

    Args:
        columns: Their columns.
        problem_type: Of the task.
        labels: Number of labels.
        separator: Text between the labels of one cell, or None.
    """
    named = columns[0] if len(columns) == 1 else f"{len(columns)} columns"
    several = f", {separator!r} between those of a row" if separator is not None else ""
    count = "" if problem_type == "regression" else f": {labels:,} labels"
    return named, f"{problem_type.replace('_', ' ')}{count}{several}"
