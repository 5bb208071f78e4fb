"""Linear models on frozen features: the baseline that anyone would reach for first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from mmadapters.errors import DataError
from mmadapters.evaluation.metrics import (
    IGNORED_LABEL,
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    class_indices,
    compute_metrics,
)
from mmadapters.evaluation.scores import scores_from_logits

DEFAULT_CS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SELECTION_METRIC = {MULTI_LABEL: "micro_average_precision", SINGLE_LABEL: "accuracy", REGRESSION: "mae"}
MAX_ITERATIONS = 5000


def embed_texts(
    texts: Sequence[str], encoder: Any, tokenizer: Any, batch_size: int = 64, max_length: int | None = None
) -> np.ndarray:
    """Return the mean of a frozen encoder's last hidden states over valid tokens, float32 (N, H).

    Args:
        texts: N texts.
        encoder: A transformers encoder.
        tokenizer: Its tokenizer.
        batch_size: Texts a batch; texts of like length share one.
        max_length: Tokens to cut to; without a value what the tokenizer allows, at most 512.
    """
    length = max_length or min(512, int(tokenizer.model_max_length))
    order = np.argsort([len(text) for text in texts], kind="stable")
    embedded = np.zeros((len(texts), encoder.config.hidden_size), dtype=np.float32)
    encoder.eval()
    with torch.inference_mode():
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=length, return_tensors="pt"
            )
            states = encoder(**batch).last_hidden_state
            weights = batch["attention_mask"][..., None].to(states.dtype)
            embedded[rows] = ((states * weights).sum(dim=1) / weights.sum(dim=1)).float().numpy()
    return embedded


class FrozenLinearBaseline:
    """Logistic regression (one per label), or ridge regression, on standardised features.

    The inverse regularisation C is chosen on the validation split: by micro average precision (multi-label), accuracy
    (single-label) or mean absolute error (regression). A label with a single class in training gets its frequency,
    a class that training does not have a probability of 0.

    Args:
        problem_type: ``multi_label_classification``, ``single_label_classification`` or ``regression``.
        cs: The values of C to try, at least one.

    Attributes:
        chosen_c: The C that was chosen.
        validation_scores: The validation metric for each C.

    Raises:
        DataError: If the problem type is unknown, or there is no C or one that is not above 0.
    """

    def __init__(self, problem_type: str = MULTI_LABEL, cs: Sequence[float] = DEFAULT_CS) -> None:
        if problem_type not in SELECTION_METRIC:
            raise DataError(f"problem_type={problem_type!r} is unknown. Accepted are {', '.join(SELECTION_METRIC)}.")
        if len(cs) == 0 or not all(0 < c < np.inf for c in cs):
            raise DataError(f"cs={tuple(cs)} cannot be used. Give at least one value of C, each above 0.")
        self.problem_type = problem_type
        self.cs = tuple(cs)
        self.chosen_c = float("nan")
        self.validation_scores: dict[float, float] = {}

    def fit(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        validation_features: np.ndarray,
        validation_targets: np.ndarray,
        n_classes: int | None = None,
    ) -> FrozenLinearBaseline:
        """Fit for each C and keep the best.

        Args:
            features: (N, D) of the training split; only these set means and variances.
            targets: 0/1 (N, C), class indices (N,) or values (N,). Rows of class -100 are left out.
            validation_features: (M, D).
            validation_targets: As ``targets``.
            n_classes: For single-label: how many classes there are. Without a value: up to the largest index of both
                splits.

        Raises:
            DataError: If the targets cannot be used, or the validation split cannot tell which C is the best.
        """
        features, targets = np.asarray(features), np.asarray(targets)
        if self.problem_type == SINGLE_LABEL:
            features, targets, n_classes = _known_classes(features, targets, validation_targets, n_classes)
        self._scaler = StandardScaler().fit(features)
        scaled = self._scaler.transform(features)
        self.validation_scores = {}
        best: tuple[float, np.ndarray, np.ndarray] | None = None
        for c in self.cs:
            coefficients, intercepts = self._solve(scaled, targets, c, n_classes or 0)
            self._coefficients, self._intercepts = coefficients, intercepts
            value = self._validation_score(validation_features, validation_targets)
            self.validation_scores[c] = value
            gain = -value if self.problem_type == REGRESSION else value
            if best is None or gain > best[0]:
                best, self.chosen_c = (gain, coefficients, intercepts), c
        if best is not None:
            _, self._coefficients, self._intercepts = best
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C), or for a regression values (N,).

        Args:
            features: (N, D).
        """
        return scores_from_logits(self.logits(features), self.problem_type)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return what the probabilities are made of, (N, C); for a regression values (N, 1).

        Args:
            features: (N, D). A class that training does not have gets ``-inf``.
        """
        return self._scaler.transform(features) @ self._coefficients.T + self._intercepts

    @property
    def n_parameters(self) -> int:
        """Number of coefficients and intercepts that were fitted."""
        fitted = np.isfinite(self._intercepts)
        return int(self._coefficients[fitted].size + fitted.sum())

    def save(self, path: Path) -> int:
        """Write coefficients, intercepts and scaling as safetensors (float32), and return the file's size in bytes.

        Args:
            path: Where to; its folder is made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            "coefficients": self._coefficients,
            "intercepts": self._intercepts,
            "mean": self._scaler.mean_,
            "scale": self._scaler.scale_,
        }
        save_file({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}, str(path))
        return path.stat().st_size

    def _validation_score(self, features: np.ndarray, targets: np.ndarray) -> float:
        predicted = self.predict_proba(features)
        names = [str(index) for index in range(predicted.shape[1])] if predicted.ndim == 2 else []
        values = compute_metrics(self.problem_type, predicted, targets, names).values
        metric = SELECTION_METRIC[self.problem_type]
        if metric not in values:
            raise DataError(
                f"C is chosen by {metric}, which the validation split of {len(predicted)} rows does not have: none of "
                "its rows has a label. Give validation rows with labels."
            )
        return values[metric]

    def _solve(
        self, features: np.ndarray, targets: np.ndarray, c: float, n_classes: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.problem_type == REGRESSION:
            ridge = Ridge(alpha=1.0 / c).fit(features, targets)
            return ridge.coef_[None], np.array([ridge.intercept_])
        if self.problem_type == SINGLE_LABEL:
            return _multinomial(features, targets, c, n_classes)
        solved = [_binary(features, targets[:, label], c) for label in range(targets.shape[1])]
        return np.stack([coefficients for coefficients, _ in solved]), np.array([intercept for _, intercept in solved])


def _logistic(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, solver="lbfgs", max_iter=MAX_ITERATIONS)


def _binary(features: np.ndarray, target: np.ndarray, c: float) -> tuple[np.ndarray, float]:
    frequency = float(target.mean())
    if frequency in (0.0, 1.0):
        smoothed = (target.sum() + 0.5) / (len(target) + 1.0)
        return np.zeros(features.shape[1]), float(np.log(smoothed / (1.0 - smoothed)))
    fitted = _logistic(c).fit(features, target)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _known_classes(
    features: np.ndarray, targets: np.ndarray, validation_targets: np.ndarray, n_classes: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the rows whose class is known, their classes, and how many classes there are."""
    accepted = np.inf if n_classes is None else n_classes
    indices, of_validation = class_indices(targets, accepted), class_indices(validation_targets, accepted)
    known = indices != IGNORED_LABEL
    if not known.any():
        raise DataError("No training row has a class, so there is nothing to fit. Give rows with class indices from 0.")
    if n_classes is None:
        n_classes = int(max(indices.max(), of_validation.max(initial=0))) + 1
    return features[known], indices[known], n_classes


def _multinomial(features: np.ndarray, targets: np.ndarray, c: float, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    classes = np.unique(targets)
    coefficients, intercepts = np.zeros((n_classes, features.shape[1])), np.full(n_classes, -np.inf)
    if len(classes) == 1:
        intercepts[classes] = 0.0
        return coefficients, intercepts
    fitted = _logistic(c).fit(features, targets)
    # Of two classes there is one logit, their difference.
    signs = np.array([[-0.5], [0.5]]) if len(classes) == 2 else 1.0
    coefficients[classes] = signs * fitted.coef_
    intercepts[classes] = np.ravel(signs * fitted.intercept_)
    return coefficients, intercepts
