"""``MultimodalPredictor``: from a table with texts, media, numbers and vectors to a classifier, in one object.

::

    predictor = MultimodalPredictor(label="genres").fit(movies)
    predictor.predict(new_movies)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.metaestimators import available_if

from mmadapters.artefact import Artefact, load_artefact
from mmadapters.data.preprocessor_statistics import label_values
from mmadapters.data.schema import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from mmadapters.errors import DataError, listed
from mmadapters.evaluation.metrics import MetricsReport, compute_metrics
from mmadapters.evaluation.thresholds import with_tuned_figures
from mmadapters.features.table_columns import require_columns
from mmadapters.predictor.decisions import decided_values
from mmadapters.predictor.explaining import ExplanationOptions, RowExplanations, explain_rows
from mmadapters.predictor.fit_settings import Clock
from mmadapters.predictor.fitting import fit_frame
from mmadapters.predictor.given_rows import Rows, as_frame, as_source
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.messages import Messages
from mmadapters.predictor.randomness import own_randomness
from mmadapters.predictor.saved import loaded_parameters, save_predictor
from mmadapters.predictor.shared import SharedPredictor
from mmadapters.predictor.streamed_fit import fit_source
from mmadapters.sharing import from_pretrained

SCORES = {MULTI_LABEL: "micro_average_precision", SINGLE_LABEL: "accuracy", REGRESSION: "r2"}
"""What ``score`` returns for each kind of problem."""


def _gives_probabilities(predictor: MultimodalPredictor) -> bool:
    if predictor.known_problem_type == REGRESSION:
        raise AttributeError("predict_proba is for classifications, and this predictor predicts numbers. Use predict.")
    return True


class MultimodalPredictor(SharedPredictor):
    """Trains gated multimodal adapters on a table, and predicts from such tables; a scikit-learn estimator.

    With nothing but ``label``, what every other column is used as is guessed and printed. Whoever names columns names
    all that are to be read.

    Args:
        label: Column of the label or labels; or several columns of 0 and 1, one for each label.
        text: Column of the text; or two, which are read as a pair.
        image: Column of paths of images; several, or a dictionary of columns by the names of their modalities.
        video: The same of videos. A column may be given as ``video`` and as ``audio``.
        audio: The same of sounds, also those of videos.
        tabular: Columns of numbers, of categories, and of cells with several categories; which is which is told by
            their values.
        vectors: Columns of vectors, or of paths of ``.npy`` files; a dictionary names the modalities, and may give
            several columns of numbers for one.
        backbone: The text encoder: an alias (``minilm``), a local folder or the name of a model on the Hub.
        problem_type: ``multi_label_classification``, ``single_label_classification`` or ``regression``; None to tell
            it by the labels.
        label_separator: Text between the labels of one cell; None to tell it by the labels.
        column_kinds: What columns are used as, by their names: ``text``, ``image``, ``video``, ``audio``, ``numeric``,
            ``categorical``, ``multi_valued``, ``vector`` or ``ignore``; ``("video", "audio")`` for both.
        id: Column that names rows in outputs.
        model: Options of the head: ``pooling``, ``head``, ``head_dropout``.
        adapter: Options of ``MultimodalAdapterConfig``.
        training: Options of ``MultimodalTrainingArguments``; without them they follow from the number of rows.
        extractors: By modality, options of ``ExtractorSpec``: ``{"trailer": {"frames": 16}}``.
        max_length: Number of tokens to cut a text to.
        root: Folder that relative paths start from and that no path may leave. None for the working folder, or the
            folder of a file of rows, and for paths that lead anywhere.
        cache_dir: Folder in which features of media are kept; None for ``$MMADAPTERS_CACHE`` or the user's cache.
        device: Where a trained model predicts; None for where it was trained.
        seed: Of what is left to chance.
        verbose: 0 prints nothing at all; 1 prints what is guessed and how it goes, with progress bars.

    Attributes:
        classes_: The labels in the order of ``predict_proba``; of a fitted classifier.
        problem_type_: What the labels state; of a fitted predictor.
        feature_names_in_: Columns of the training rows.
        n_features_in_: Their number.
        metrics_: What was measured on the rows that were held out.
        artefact_: The trained model with its preprocessing.
    """

    def fit(
        self, rows: Rows, y: Any = None, *, validation: Rows | None = None, time_limit: float | None = None
    ) -> MultimodalPredictor:
        """Train.

        Args:
            rows: N rows: a data frame with any index, a list of dictionaries, or the path of a file. A large file, a
                folder, a pattern or a list of files, and an object that gives dictionaries each time that it is
                iterated, are read while the model is trained, and not held in memory.
            y: Their labels, where they are in no column of the rows.
            validation: Rows by which the best epoch and thresholds are chosen; None to hold out some of ``rows``.
            time_limit: Seconds for everything, features of media included. The training ends with the last evaluation
                that fits, and keeps the best weights so far.

        Returns:
            The predictor itself.

        Raises:
            DataError: If rows, columns, labels or files cannot be used.
            ConfigurationError: If a setting cannot be used, or the time is over before the training begins.
            MissingDependencyError: If a package is needed that is not installed.
        """
        clock = Clock(time_limit)
        messages = self._messages()
        choice = self._choice(has_labels_apart=y is not None)
        with messages.quiet_libraries(), own_randomness():
            held = None if validation is None else as_frame(validation)
            source = as_source(rows) if y is None else None
            if source is None:
                frame = self._labelled(as_frame(rows), y)
                columns = list(frame.columns)
                fitted = fit_frame(frame, held, self._settings(Place.of(frame, self.root), choice), clock, messages)
            else:
                columns = source.names()
                place = Place.of(pd.DataFrame(), self.root)
                fitted = fit_source(source, held, self._settings(place, choice), clock, messages)
        names = [name for name in columns if name not in choice.label_columns]
        self.artefact_ = fitted.artefact
        self._preparation = fitted.preparation
        self._take_over(names)
        self.training_log_ = fitted.log
        if self.metrics_:
            name = SCORES[self.problem_type_]
            shown = name.replace("_", " ")
            messages.tell(f"On the rows that were held out: {shown} {self.metrics_.get(name, float('nan')):.4f}")
        return self

    def predict(self, rows: Rows, *, as_pandas: bool = True) -> Any:
        """Predict a label, a list of labels, or a number for each row.

        Args:
            rows: N rows with the columns that the model reads.
            as_pandas: Whether to return a series with the index of the rows; else an array, of lists of labels where
                a row may have several.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            DataError: If there are no rows, a column is absent, or a row cannot be read.
        """
        frame = self._frame(rows)
        decided = decided_values(self.artefact_, self._predictions(frame).scores)
        if as_pandas:
            return pd.Series(decided, index=frame.index, name="prediction", dtype=_dtype(self.problem_type_))
        if self.problem_type_ != MULTI_LABEL:
            return np.array(decided)
        values = np.empty(len(decided), dtype=object)
        values[:] = decided
        return values

    @available_if(_gives_probabilities)
    def predict_proba(self, rows: Rows, *, as_pandas: bool = True) -> Any:
        """Predict the probability of each label.

        Args:
            rows: N rows.
            as_pandas: Whether to return a frame with the index of the rows and the labels as columns; else an array
                (N, C), columns as ``classes_``.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            DataError: As ``predict``.
        """
        frame = self._frame(rows)
        scores = self._predictions(frame).scores
        return pd.DataFrame(scores, index=frame.index, columns=self.classes_.tolist()) if as_pandas else scores

    def embed(self, rows: Rows, *, as_pandas: bool = True) -> Any:
        """Return the vector that the head reads: what the model makes of text and modalities together.

        Args:
            rows: N rows.
            as_pandas: Whether to return a frame with the index of the rows; else an array (N, H), float32.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            DataError: As ``predict``.
        """
        frame = self._frame(rows)
        pooled = self._predictions(frame, output_pooled=True).pooled
        return pd.DataFrame(pooled, index=frame.index) if as_pandas else pooled

    def evaluate(self, rows: Rows, y: Any = None) -> dict[str, float]:
        """Return all metrics on rows with labels; those named ``tuned_…`` are at the tuned thresholds.

        Args:
            rows: N rows.
            y: Their labels, where they are in no column of the rows.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            DataError: As ``predict``, or if there are no labels.
        """
        return dict(self.report(rows, y).values)

    def report(self, rows: Rows, y: Any = None) -> MetricsReport:
        """Return the metrics of ``evaluate`` with a table per label, and what was left out of them.

        Args:
            rows: N rows.
            y: Their labels, where they are in no column of the rows.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            DataError: As ``evaluate``.
        """
        self._require_fit()
        frame = self._labelled(as_frame(rows), y)
        encoder = self.artefact_.preprocessor.labels
        schema = self.artefact_.preprocessor.schema
        if encoder is None or schema.label is None:
            raise DataError("The model knows no label column, so nothing can be scored. Train it with one.")
        require_columns(frame, schema.label_columns)
        messages = self._messages()
        with messages.quiet_libraries():
            targets, _ = encoder.transform(label_values(frame, schema))
        scores = self._predictions(frame).scores
        labels = self.artefact_.labels
        found = compute_metrics(self.problem_type_, scores, targets, labels)
        if self.artefact_.thresholds is None or self.problem_type_ != MULTI_LABEL:
            return found
        return with_tuned_figures(found, scores, targets, labels, self.artefact_.thresholds)

    def score(self, rows: Rows, y: Any = None) -> float:
        """Return one number for scikit-learn: micro average precision, accuracy, or R².

        Args:
            rows: N rows.
            y: Their labels, where they are in no column of the rows.
        """
        return float(self.evaluate(rows, y).get(SCORES[self.problem_type_], float("nan")))

    def explain(
        self,
        rows: Rows,
        *,
        missing_rates: Sequence[float] = (),
        subsets: bool = False,
        missing_seed: int = 0,
    ) -> RowExplanations:
        """Show what the model looked at in each row: shares of text and modalities, and what changes without each.

        Args:
            rows: N rows; with labels more can be told.
            missing_rates: Rates at which modalities go missing, to score rows with labels.
            subsets: Whether every subset of the modalities is scored; needs labels.
            missing_seed: Of the draw of what is missing.

        Returns:
            A table of the rows (``rows``), means (``shares``), and ``report(folder)``, which writes the report.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            DataError: As ``predict``, or if labels are needed and absent.
        """
        frame = self._frame(rows)
        schema = self.artefact_.preprocessor.schema
        has_labels = bool(schema.label_columns) and all(column in frame.columns for column in schema.label_columns)
        if (missing_rates or subsets) and not has_labels:
            raise DataError(
                f"missing_rates and subsets score predictions, and the rows have no column "
                f"{listed(schema.label_columns)}. Give rows with labels, or leave them out."
            )
        messages = self._messages()
        with messages.quiet_libraries():
            predictor = self._row_predictor(messages)
            data = predictor.data_set(frame, Place.of(frame, self.root), with_labels=has_labels, tell=messages.tell)
            options = ExplanationOptions(missing_rates, subsets, missing_seed, progress=messages.progress)
            return explain_rows(
                self.artefact_, data, frame, frame.index, model="the model", data="the rows", options=options
            )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the trained model: a folder of a few MB without pickle, which the commands of ``mmadapters`` read.

        Args:
            folder: Where to; an artefact that is there is replaced.

        Returns:
            The folder.

        Raises:
            UnfittedPredictorError: Before ``fit``.
            ArtefactError: If the folder holds something else.
        """
        self._require_fit()
        with self._messages().quiet_libraries():
            return save_predictor(self.artefact_, Path(folder))

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        backbone: str | None = None,
        root: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        device: str | None = None,
        verbose: int = 1,
    ) -> MultimodalPredictor:
        """Read a trained model; it predicts what it did before it was saved, bit for bit.

        Args:
            folder: Where ``save`` or ``mmadapters train`` wrote it.
            backbone: Where the text encoder is, if not under its saved name.
            root: See the class.
            cache_dir: See the class.
            device: See the class; None for CUDA where there is any, else the CPU.
            verbose: See the class.

        Raises:
            ArtefactError: If it cannot be read.
        """
        with Messages(verbose).quiet_libraries():
            artefact = load_artefact(Path(folder), backbone, _device(device))
        return cls._of(artefact, backbone=backbone, root=root, cache_dir=cache_dir, device=device, verbose=verbose)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        backbone: str | None = None,
        root: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        device: str | None = None,
        verbose: int = 1,
    ) -> MultimodalPredictor:
        """Read a trained model from the Hub; nothing in its files is run, see ``mmadapters.sharing``.

        Args:
            name: ``user/name``, or a folder.
            revision: Branch, tag or commit; None for the main branch.
            token: Of a user; None for the one of ``hf auth login`` or ``HF_TOKEN``, if any; False for none.
            local_files_only: Whether only this machine's cache is looked at.
            backbone: Where the text encoder is, if not under its saved name.
            root: See the class.
            cache_dir: See the class; files of the Hub are kept in the Hub's own cache.
            device: See the class; None for CUDA where there is any, else the CPU.
            verbose: See the class.

        Raises:
            HubError: If it cannot be had from the Hub.
            ArtefactError: If what is there cannot be used.
        """
        with Messages(verbose).quiet_libraries():
            artefact = from_pretrained(
                os.fspath(name),
                revision=revision,
                token=token,
                local_files_only=local_files_only,
                backbone=backbone,
                device=_device(device),
            )
        return cls._of(artefact, backbone=backbone, root=root, cache_dir=cache_dir, device=device, verbose=verbose)

    @classmethod
    def _of(cls, artefact: Artefact, *, backbone: str | None, **of_this_machine: Any) -> MultimodalPredictor:
        parameters = loaded_parameters(artefact, cls._parameter_defaults())
        if backbone is not None:
            parameters["backbone"] = backbone
        predictor = cls(**parameters, **of_this_machine)
        predictor._use(artefact)
        return predictor


def _device(named: str | None) -> str:
    return named or ("cuda" if torch.cuda.is_available() else "cpu")


def _dtype(problem_type: str) -> Any:
    return {MULTI_LABEL: object, REGRESSION: np.float64}.get(problem_type)
