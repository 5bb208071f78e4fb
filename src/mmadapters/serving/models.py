"""The models of a server: loaded, put into one backbone where they are of the same, and run in mixed batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from mmadapters.artefact import Artefact, FoundArtefact, artefact_bytes, find_artefact, load_artefact, weights_digest
from mmadapters.artefact.files import WEIGHTS_FILE
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.schema import REGRESSION
from mmadapters.errors import MMAdaptersError, did_you_mean, listed
from mmadapters.evaluation.evaluator import to_device
from mmadapters.evaluation.explanation import Explanation, explain
from mmadapters.evaluation.predictions import decided
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.features.extractor import Extractor
from mmadapters.modality import Modality
from mmadapters.predictor.media_features import MediaRecipe
from mmadapters.serving.adapter_moving import move_adapter, new_names
from mmadapters.serving.config import ServedFolder, ServerConfig
from mmadapters.serving.media import encode_rows, media_extractors
from mmadapters.serving.problems import RequestProblem
from mmadapters.serving.rows import Row, RowReader


@dataclass(frozen=True)
class RowOutput:
    """What a model says of a row.

    Attributes:
        scores: Probabilities (C,), or the value (1,) of a regression.
        missing: Modalities that the row lacked.
        notes: What of the row could not be used as it was given.
    """

    scores: np.ndarray
    missing: list[str]
    notes: list[str]


@dataclass(frozen=True)
class ServedModel:
    """A model under its name.

    Attributes:
        name: By which requests choose it.
        adapter: Its adapter in the backbone that it shares.
        reader: Checks its rows.
        recipes: How media become its features, by modality.
        extractors: What makes them, by modality.
        labels: In the order of the scores.
        problem_type: Of its task.
        thresholds: For each label the probability from which on it is predicted (multi-label).
        about: What ``/models`` tells beside.
    """

    name: str
    adapter: str
    reader: RowReader
    recipes: Mapping[str, MediaRecipe]
    extractors: Mapping[str, Extractor]
    labels: list[str]
    problem_type: str
    thresholds: tuple[float, ...]
    about: Mapping[str, Any]

    def decide(self, scores: np.ndarray) -> Any:
        """Return what is predicted: a label, a list of labels, or a value.

        Args:
            scores: Probabilities (C,), or the value (1,).
        """
        values = scores if self.problem_type == REGRESSION else scores[None]
        return decided(values, self.problem_type, self.labels, self.thresholds)[0]


class ModelGroup:
    """Models that share one backbone. One thread runs them.

    Args:
        model: The PEFT model with the adapters of all of them.
        device: Where it is.
    """

    def __init__(self, model: PeftModel, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.models: dict[str, ServedModel] = {}

    @property
    def name(self) -> str:
        """Its models' names, joined."""
        return "+".join(self.models)

    @property
    def modalities(self) -> dict[str, Modality]:
        """What its models read, by the name within the backbone."""
        return {m.name: m for model in self.models.values() for m in model.reader.inside.values()}

    def run(self, rows: Sequence[Row]) -> list[RowOutput | Exception]:
        """Predict rows, which may be of several models.

        Args:
            rows: In any order.

        Returns:
            What is predicted, or why a row cannot be, in their order.
        """
        outputs: list[RowOutput | Exception | None] = [None] * len(rows)
        for place, problem in encode_rows(rows, {name: m.extractors for name, m in self.models.items()}).items():
            outputs[place] = problem
        ready: list[tuple[int, dict[str, Any]]] = []
        for name, model in self.models.items():
            places = [place for place, row in enumerate(rows) if row.model == name and outputs[place] is None]
            for place, item in self._items(model, rows, places):
                if isinstance(item, Exception):
                    outputs[place] = item
                else:
                    ready.append((place, item))
        if ready:
            logits = self._forward([rows[place].model for place, _ in ready], [item for _, item in ready])
            for (place, _), row_logits in zip(ready, logits, strict=True):
                outputs[place] = self._output(rows[place], row_logits)
        return [output if output is not None else RuntimeError("a row was not run") for output in outputs]

    def explain(self, row: Row) -> tuple[Explanation, RowOutput]:
        """Look at what a model makes of one row.

        Args:
            row: The row.

        Raises:
            RequestProblem: If the row cannot be read.
        """
        model = self.models[row.model]
        problems = encode_rows([row], {row.model: model.extractors})
        if problems:
            raise problems[0]
        self._activate(model.adapter)
        inside = model.reader.inside
        collator = MultimodalCollator(model.reader.preprocessor.tokenizer, list(inside.values()))
        found = explain(self.model, model.reader.data_set([row]), collator, model.problem_type)
        own = {modality.name: name for name, modality in inside.items()}
        named = replace(
            found,
            names=[own.get(name, name) for name in found.names],
            without={own.get(name, name): logits for name, logits in found.without.items()},
        )
        return named, self._output(row, found.logits[0])

    def _items(
        self, model: ServedModel, rows: Sequence[Row], places: Sequence[int]
    ) -> list[tuple[int, dict[str, Any] | Exception]]:
        if not places:
            return []
        data: MultimodalDataset
        try:
            data = model.reader.data_set([rows[place] for place in places])
        except MMAdaptersError as error:
            if len(places) == 1:
                return [(places[0], RequestProblem(422, str(error)))]
            return [entry for place in places for entry in self._items(model, rows, [place])]
        return [(place, data[number]) for number, place in enumerate(places)]

    def _forward(self, names: Sequence[str], items: Sequence[dict[str, Any]]) -> np.ndarray:
        """Return logits (N, C); behind those of a model with fewer labels stands -inf."""
        used = [self.models[name] for name in dict.fromkeys(names)]
        modalities: dict[str, Modality] = {}
        for model in used:
            modalities |= {modality.name: modality for modality in model.reader.inside.values()}
        collator = MultimodalCollator(used[0].reader.preprocessor.tokenizer, list(modalities.values()))
        batch = to_device(collator(items), self.device)
        with torch.inference_mode():
            if len(used) == 1:
                self._activate(used[0].adapter)
                output = self.model(**batch)
            else:
                output = self.model(**batch, adapter_names=[self.models[name].adapter for name in names])
            return output["logits"].float().cpu().numpy()

    def _output(self, row: Row, logits: np.ndarray) -> RowOutput:
        model = self.models[row.model]
        scores = scores_from_logits(logits[None, : len(model.labels)], model.problem_type)
        return RowOutput(np.atleast_1d(scores[0]), model.reader.missing(row), row.notes)

    def _activate(self, adapter: str) -> None:
        if self.model.active_adapter != adapter:
            self.model.set_adapter(adapter)


class ModelRegistry:
    """All models of a server.

    Args:
        config: Which ones, and where they run.
        tell: Called with a line for a person.

    Raises:
        ArtefactError: If one cannot be read.
        ConfigurationError: If a setting or an encoder of media cannot be used.
        DataError: If media would be encoded in another way here than in training.
    """

    def __init__(self, config: ServerConfig, tell: Callable[[str], None] = lambda line: None) -> None:
        self.device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.groups: list[ModelGroup] = []
        self._groups: dict[str, ModelGroup] = {}
        self._by_key: dict[tuple[Any, ...], ModelGroup] = {}
        self._extractors: dict[Any, Extractor] = {}
        for name, served in config.models.items():
            self._add(name, served, config)
            tell(f"{name}: {served.folder}")
        shared = [group.name for group in self.groups if len(group.models) > 1]
        for names in shared:
            tell(f"one backbone for {names}")

    @property
    def names(self) -> list[str]:
        """The models' names; the first is the default."""
        return list(self._groups)

    @property
    def models(self) -> list[ServedModel]:
        """The models in the order of their names."""
        return [group.models[name] for name, group in self._groups.items()]

    @property
    def reads_media(self) -> bool:
        """Whether a model takes files."""
        return any(model.extractors for model in self.models)

    def group(self, name: str | None) -> tuple[ModelGroup, ServedModel]:
        """Return a model with the group that runs it.

        Args:
            name: Of the model; None for the default.

        Raises:
            RequestProblem: With status 404, if there is none of this name.
        """
        chosen = self.names[0] if name is None else name
        if chosen not in self._groups:
            raise RequestProblem(
                404,
                f"There is no model '{chosen[:100]}'. Served are {listed(self.names)}."
                f"{did_you_mean(chosen, self.names)}",
            )
        group = self._groups[chosen]
        return group, group.models[chosen]

    def _add(self, name: str, served: ServedFolder, config: ServerConfig) -> None:
        found = find_artefact(served.folder)
        artefact = load_artefact(found, served.backbone, self.device)
        digest = weights_digest(artefact.model.get_base_model().encoder)
        tokenizer = artefact.preprocessor.tokenizer
        settings = artefact.settings
        key = (digest, settings.pooling, settings.head, tokenizer.pad_token_id, tokenizer.padding_side)
        group = self._by_key.get(key)
        adapter, inside = str(artefact.model.active_adapter), {}
        if group is not None:
            inside = new_names(artefact, group.modalities, len(group.models))
        if group is None or (inside and artefact.model.active_peft_config.is_composed):
            # The members of an AdapterFusion keep the names of their modalities.
            inside = {}
            group = ModelGroup(artefact.model, self.device)
            self._by_key.setdefault(key, group)
            self.groups.append(group)
        else:
            adapter = f"served_{len(group.models)}"
            move_adapter(artefact, group.model, adapter, inside)
        recipes, extractors = media_extractors(name, artefact, config, self.device, self._extractors)
        reader = RowReader(name, artefact.preprocessor, config.limits, inside)
        model = ServedModel(
            name,
            adapter,
            reader,
            recipes,
            extractors,
            artefact.labels,
            artefact.problem_type,
            tuple(artefact.decision_thresholds),
            _about(artefact, found, served, digest),
        )
        group.models[name] = model
        self._groups[name] = group


def adapters_digest(folder: Path) -> str:
    """Return the SHA-256 of a saved model's own weights, in hexadecimal.

    Args:
        folder: Of the model.
    """
    return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()


def _about(artefact: Artefact, found: FoundArtefact, served: ServedFolder, digest: str) -> dict[str, Any]:
    config = artefact.model.active_peft_config
    summary = artefact.model.base_model.adapter_summary()
    return {
        "backbone": Path(artefact.settings.backbone).name,
        "backbone_digest": digest,
        "digest": adapters_digest(found.folder),
        "fusion": config.fusion,
        "parameters": {"backbone": int(summary.backbone), "adapters": int(summary.adapters)},
        "size_bytes": artefact_bytes(found.folder),
        "license": served.license or artefact.license,
        "max_tokens": artefact.preprocessor.max_length,
        "metrics": {split: dict(values) for split, values in artefact.metrics.items()},
    }
