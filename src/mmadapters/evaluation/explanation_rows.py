"""What a model looked at in each row, as a table, and the rows for which a modality decides most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.evaluation.explanation import Explanation
from mmadapters.evaluation.explanation_summary import loss_rises

EXAMPLES = 5
SNIPPET = 160
"""Characters of a text that an example shows."""


def explanation_rows(
    explanation: Explanation, decide: Callable[[np.ndarray], Sequence[Any]], targets: np.ndarray | None = None
) -> pd.DataFrame:
    """Return one row a row: the decision, shares, and for each modality what changes without it.

    Args:
        explanation: Of N rows.
        decide: From scores (N, C) or (N,) to what is predicted for each row.
        targets: Encoded labels, where they are known.

    Returns:
        ``prediction``; ``share_<source>``, empty where a row lacks it; for each modality ``prediction_without_<name>``,
        ``change_without_<name>`` (of the scores, absolute, the mean over labels) and with targets
        ``loss_rise_without_<name>``.
    """
    table: dict[str, Any] = {"prediction": list(decide(explanation.scores))}
    shares = explanation.row_shares
    for place, name in enumerate(explanation.names):
        table[f"share_{name}"] = np.where(explanation.present[:, place], shares[:, place], np.nan)
    rises = {} if targets is None else loss_rises(explanation, targets)
    for name in explanation.without:
        table[f"prediction_without_{name}"] = list(decide(explanation.scores_without(name)))
        table[f"change_without_{name}"] = score_changes(explanation, name)
        if name in rises:
            table[f"loss_rise_without_{name}"] = rises[name]
    return pd.DataFrame(table)


def score_changes(explanation: Explanation, name: str) -> np.ndarray:
    """Return by how much the scores of each row change without a modality, absolute, a mean over labels: (N,).

    Args:
        explanation: Of N rows.
        name: The modality.
    """
    changed = np.abs(explanation.scores - explanation.scores_without(name))
    return changed.reshape(len(changed), -1).mean(axis=1)


def examples(rows: pd.DataFrame, modalities: Sequence[str], names: Sequence[str], texts: Sequence[str]) -> list[dict]:
    """Return for each modality the rows whose scores change most without it, as plain values.

    Args:
        rows: What ``explanation_rows`` returned.
        modalities: Their names.
        names: Of the rows.
        texts: Of the rows.
    """
    found = []
    for modality in modalities:
        changes = rows[f"change_without_{modality}"].to_numpy()
        for row in np.argsort(-changes, kind="stable")[:EXAMPLES]:
            share = rows.get(f"share_{modality}")
            if not changes[row]:
                continue
            found.append(
                {
                    "modality": modality,
                    "row": str(names[row]),
                    "text": _cut(texts[row]),
                    "share": None if share is None or np.isnan(share.iloc[row]) else float(share.iloc[row]),
                    "change": float(changes[row]),
                    "prediction": str(rows["prediction"].iloc[row]),
                    "without": str(rows[f"prediction_without_{modality}"].iloc[row]),
                }
            )
    return found


def _cut(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= SNIPPET else f"{joined[: SNIPPET - 1]}…"
