"""What a model looked at in the rows that it is given: a table, a summary, and a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.artefact import Artefact
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.files import write_rows
from mmadapters.data.schema import REGRESSION
from mmadapters.errors import MissingDependencyError
from mmadapters.evaluation.ablation import Variant, rate_variants, subset_variants, variant_metrics, varied
from mmadapters.evaluation.evaluator import predict
from mmadapters.evaluation.explanation import explain, mean_shares
from mmadapters.evaluation.explanation_rows import examples, explanation_rows
from mmadapters.evaluation.explanation_summary import summarise_explanation
from mmadapters.plots.draw import draw_explanation
from mmadapters.predictor.decisions import decided_texts
from mmadapters.report.explanation import write_explanation
from mmadapters.report.files import HTML_FILE

ROWS_FILE = "rows.csv"


@dataclass(frozen=True)
class ExplanationOptions:
    """What is looked at beside gates, shares and each modality's absence.

    Attributes:
        missing_rates: Rates at which modalities go missing, to score the rows; needs labels.
        subsets: Whether every subset of the modalities is scored; needs labels.
        missing_seed: Of the draw of what is missing.
        max_tokens_per_batch: Most tokens of a batch, padding included; None for the model's batch size.
        progress: Whether to show progress bars.
    """

    missing_rates: Sequence[float] = ()
    subsets: bool = False
    missing_seed: int = 0
    max_tokens_per_batch: int | None = None
    progress: bool = False


@dataclass(frozen=True)
class RowExplanations:
    """What a model looked at in N rows.

    Attributes:
        rows: One row a row, with the index of the rows: ``prediction``, ``share_<source>`` of the text and each
            modality (empty where the row lacks it), and for each modality ``prediction_without_<name>``,
            ``change_without_<name>`` (of the scores, absolute, a mean over labels) and, where labels are known,
            ``loss_rise_without_<name>``.
        shares: The mean share of the text and each modality.
        summary: All values of the report, as ``explanation.json`` has them.
    """

    rows: pd.DataFrame
    shares: pd.Series
    summary: dict[str, Any]

    def report(self, folder: str | Path, tell: Callable[[str], None] = lambda line: None) -> Path:
        """Write the report that ``mmadapters explain`` writes.

        Args:
            folder: Where ``report.html``, ``explanation.md`` with ``figures/``, ``explanation.json`` and ``rows.csv``
                go.
            tell: Called with a line for a person, where pictures cannot be drawn.

        Returns:
            The path of ``report.html``.
        """
        target = Path(folder)
        pictures = []
        try:
            pictures = draw_explanation(self.summary)
        except MissingDependencyError as error:
            tell(str(error))
        target.mkdir(parents=True, exist_ok=True)
        named = self.rows.copy(deep=False)
        named.insert(0, _free_name(self.rows), list(self.rows.index), allow_duplicates=False)
        write_rows(named, target / ROWS_FILE)
        write_explanation(target, self.summary, pictures)
        return target / HTML_FILE

    def _repr_html_(self) -> str:
        return self.rows._repr_html_()  # type: ignore[operator]


def explain_rows(
    artefact: Artefact,
    dataset: MultimodalDataset,
    frame: pd.DataFrame,
    names: pd.Index,
    *,
    model: str,
    data: str,
    options: ExplanationOptions | None = None,
) -> RowExplanations:
    """Look at what a model makes of rows.

    Args:
        artefact: The model.
        dataset: N rows, with labels where they are known.
        frame: The same rows as they were read.
        names: Of the rows, in the tables; its own name heads them.
        model: What the model is called in the report.
        data: What the rows are called in the report.
        options: What else is looked at.
    """
    chosen = options or ExplanationOptions()
    how: dict[str, Any] = {
        "batch_size": artefact.batch_size,
        "max_tokens_per_batch": chosen.max_tokens_per_batch or artefact.max_tokens_per_batch,
        "progress": chosen.progress,
    }
    kind, labels = artefact.problem_type, artefact.labels
    shown_labels = [] if kind == REGRESSION else labels
    explanation = explain(artefact.model, dataset, artefact.collator, kind, **how)
    targets = None if dataset.labels is None else np.asarray(dataset.labels)
    modalities = [modality.name for modality in dataset.modalities]
    rates, subsets = list(chosen.missing_rates), chosen.subsets
    variants = [Variant(tuple(modalities), (), 0.0)] if rates or subsets else []
    variants += subset_variants(modalities) if subsets else []
    variants += rate_variants(modalities, rates)
    logits = {
        variant.key: predict(
            artefact.model, varied(dataset, variant, chosen.missing_seed), artefact.collator, kind, **how
        ).logits
        for variant in variants
    }
    table = explanation_rows(explanation, lambda scores: decided_texts(artefact, scores), targets)
    table.index = names
    content = {
        **summarise_explanation(explanation, shown_labels, targets),
        "variants": [] if targets is None else variant_metrics(variants, logits, kind, targets, shown_labels),
        "examples": examples(table, list(explanation.without), list(names), _texts(artefact, frame)),
        "model": model,
        "data": data,
    }
    # As JSON has it.
    summary = json.loads(json.dumps(content))
    return RowExplanations(table, pd.Series(mean_shares(explanation), name="share"), summary)


def _texts(artefact: Artefact, frame: pd.DataFrame) -> list[str]:
    columns = list(artefact.preprocessor.schema.text_columns)
    return [
        " / ".join("" if value is None or value != value else str(value) for value in row)
        for row in frame[columns].itertuples(index=False)
    ]


def _free_name(rows: pd.DataFrame) -> str:
    name = str(rows.index.name or "row")
    return f"{name}_" if name in rows.columns else name
