"""What makes a predictor a scikit-learn estimator: its parameters, what it says of itself, and how it is copied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import ClassifierTags, RegressorTags, Tags

from mmadapters.artefact import Artefact
from mmadapters.data.schema import MULTI_LABEL, REGRESSION
from mmadapters.data.sources.package_index import cache_folder
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.evaluator import Predictions
from mmadapters.predictor.chunks import RowPredictor
from mmadapters.predictor.column_plan import ColumnChoice
from mmadapters.predictor.decisions import class_values
from mmadapters.predictor.fit_settings import FitSettings
from mmadapters.predictor.given_rows import Rows, as_frame, with_labels
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.messages import Messages
from mmadapters.predictor.preparation import RowPreparation
from mmadapters.predictor.saved import artefact_files, artefact_of_files, saved_parameters

LABEL = "label"
"""Column of labels that are given apart, where none is named."""


class UnfittedPredictorError(ConfigurationError, NotFittedError):
    """A predictor was asked for something before it was trained."""


class PredictorEstimator(BaseEstimator):
    """Parameters and state of ``MultimodalPredictor``."""

    def __init__(
        self,
        label: Any = None,
        text: Any = None,
        image: Any = None,
        video: Any = None,
        audio: Any = None,
        tabular: Any = None,
        vectors: Any = None,
        *,
        backbone: str = "minilm",
        problem_type: str | None = None,
        label_separator: str | None = None,
        column_kinds: Any = None,
        id: str | None = None,
        model: Any = None,
        adapter: Any = None,
        training: Any = None,
        extractors: Any = None,
        max_length: int | None = None,
        root: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        device: str | None = None,
        seed: int = 0,
        verbose: int = 1,
    ) -> None:
        self.label = label
        self.text = text
        self.image = image
        self.video = video
        self.audio = audio
        self.tabular = tabular
        self.vectors = vectors
        self.backbone = backbone
        self.problem_type = problem_type
        self.label_separator = label_separator
        self.column_kinds = column_kinds
        self.id = id
        self.model = model
        self.adapter = adapter
        self.training = training
        self.extractors = extractors
        self.max_length = max_length
        self.root = root
        self.cache_dir = cache_dir
        self.device = device
        self.seed = seed
        self.verbose = verbose

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "artefact_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.input_tags.allow_nan = True
        tags.non_deterministic = False
        # Whether it classifies is known where it was said or learned.
        kind = self.known_problem_type
        if kind == REGRESSION:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        elif kind is not None:
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags(multi_label=kind == MULTI_LABEL)
        tags.target_tags.required = False
        tags.target_tags.multi_output = kind == MULTI_LABEL
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "artefact_" in state:
            with self._messages().quiet_libraries():
                state["artefact_"] = artefact_files(state["artefact_"])
        state.pop("_preparation", None)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        files = dict(state).get("artefact_")
        super().__setstate__({name: value for name, value in state.items() if name != "artefact_"})
        if files is not None:
            with self._messages().quiet_libraries():
                self._use(artefact_of_files(files))

    @property
    def known_problem_type(self) -> str | None:
        """What kind of problem it is, as far as that was said or learned."""
        return getattr(self, "problem_type_", None) or self.problem_type

    def _use(self, artefact: Artefact) -> None:
        self.artefact_ = artefact
        messages = self._messages()
        self._preparation = RowPreparation.of_model(artefact, self._cache(), messages.progress, messages.tell)
        self._take_over(None)

    def _take_over(self, columns: list[str] | None) -> None:
        artefact = self.artefact_
        if self.device is not None:
            artefact.model.to(self.device)
        self.problem_type_ = artefact.problem_type
        self.metrics_ = dict(artefact.metrics.get("validation", {}))
        if self.problem_type_ != REGRESSION:
            self.classes_ = _array(class_values(artefact))
        if columns is not None:
            self.feature_names_in_ = np.array(columns, dtype=object)
            self.n_features_in_ = len(columns)

    def _frame(self, rows: Rows) -> pd.DataFrame:
        self._require_fit()
        return as_frame(rows)

    def _require_fit(self) -> None:
        if not hasattr(self, "artefact_"):
            raise UnfittedPredictorError(
                "This MultimodalPredictor was not trained. Call fit with rows and labels first, or read a trained one: "
                "MultimodalPredictor.load(folder)."
            )

    def _labelled(self, frame: pd.DataFrame, y: Any) -> pd.DataFrame:
        if y is None:
            return frame
        if isinstance(y, pd.DataFrame) and isinstance(self.text, str) and self.text in y.columns:
            raise ConfigurationError(
                "Rows were given in the place of labels. Name validation rows: fit(rows, validation=…)."
            )
        return with_labels(frame, LABEL if self.label is None else self.label, y)

    def _choice(self, has_labels_apart: bool) -> ColumnChoice:
        return ColumnChoice(
            LABEL if self.label is None and has_labels_apart else self.label,
            self.text,
            self.image,
            self.video,
            self.audio,
            self.tabular,
            self.vectors,
            self.column_kinds,
            self.id,
        )

    def _settings(self, place: Place, choice: ColumnChoice) -> FitSettings:
        return FitSettings(
            choice,
            place,
            self._cache(),
            self.backbone,
            self.problem_type,
            self.label_separator,
            self.max_length,
            self.model,
            self.adapter,
            self.training,
            self.extractors,
            self.seed,
            saved_parameters(self.get_params(deep=False)),
        )

    def _predictions(self, frame: pd.DataFrame, output_pooled: bool = False) -> Predictions:
        messages = self._messages()
        with messages.quiet_libraries():
            return self._row_predictor(messages).predict(
                frame,
                Place.of(frame, self.root),
                output_pooled=output_pooled,
                progress=messages.progress,
                tell=messages.tell,
            )

    def _row_predictor(self, messages: Messages) -> RowPredictor:
        media = self._preparation.media
        media.progress, media.tell = messages.progress, messages.tell
        return RowPredictor(self.artefact_, self._preparation)

    def _messages(self) -> Messages:
        return Messages(self.verbose)

    def _cache(self) -> Path:
        return cache_folder() if self.cache_dir is None else Path(self.cache_dir).expanduser()

    @classmethod
    def _parameter_defaults(cls) -> dict[str, Any]:
        return cls().get_params(deep=False)


def _array(values: list[Any]) -> np.ndarray:
    """Return labels as an array of their own type, of objects where types differ."""
    if len({type(value) for value in values}) == 1:
        return np.array(values)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
