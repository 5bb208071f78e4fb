"""Features of raw media, kept by the content of files: what was extracted once is never extracted again."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd

from mmadapters.data.schema import ModalitySource, StoredFeatures
from mmadapters.errors import ArtefactError, DataError
from mmadapters.features.extract import ExtractionOptions, MediaSource, extract
from mmadapters.features.extractor import Extractor, ExtractorSpec, build_extractor, fingerprint_changes
from mmadapters.features.guard import GuardedPool, Limits
from mmadapters.features.mean_extractor import MeanExtractor
from mmadapters.features.outcome import Status
from mmadapters.features.store import FeatureStore
from mmadapters.features.store_format import MANIFEST
from mmadapters.features.store_lock import FolderInUseError
from mmadapters.predictor.column_plan import MediaColumn
from mmadapters.predictor.media_cells import MediaCells, MediaDigests, Place

FEATURES_FOLDER = "features"
"""Within the cache folder; it has a feature store for each way to make features."""

IMAGE_ENCODER = "efficientnet-lite0"
VIDEO_FRAMES = 8
GPU_BATCH_SIZE = 16
TIMED_FILES = 64
"""Files that are extracted between two looks at the clock, where there is a time limit."""

_OF_A_MACHINE = ("batch_size", "device")
_FAILED = (Status.ERROR.value, Status.TIMEOUT.value)
_ID, _PATH = "id", "path"
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class MediaRecipe:
    """How a modality is made from raw media.

    Attributes:
        modality: Its name.
        column: Column of the paths.
        spec: How media become features; its name is the kind.
        reads_steps: Whether the model reads the steps of a sequence, and not their mean.
        fingerprint: What the features of the training rows were made with; empty before there are any.
    """

    modality: str
    column: str
    spec: ExtractorSpec
    reads_steps: bool = False
    fingerprint: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, without what belongs to a machine."""
        state = asdict(self)
        for name in _OF_A_MACHINE:
            del state["spec"][name]
        return state

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> MediaRecipe:
        """Return the recipe that ``to_dict`` described.

        Raises:
            ArtefactError: If the state is none.
        """
        try:
            spec = ExtractorSpec(**{**state["spec"], "batch_size": _batch_size()})
            return cls(**{**state, "spec": spec})
        except (TypeError, KeyError) as error:
            raise ArtefactError(f"What the saved model says of its media cannot be read: {error!r}.") from error


@dataclass(frozen=True)
class MediaFound:
    """What became of the media of some rows.

    Attributes:
        frame: The rows, with the digests of the files in the place of their paths.
        stores: By modality the store with its features.
        problems: By row, counted from 0, and modality why a file that is named gives no features.
        given: By modality the number of rows that name a file.
    """

    frame: pd.DataFrame
    stores: dict[str, FeatureStore]
    problems: dict[int, dict[str, str]]
    given: dict[str, int]


def media_recipe(media: MediaColumn, options: Mapping[str, Any], reads_steps: bool) -> MediaRecipe:
    """Return how a modality is made.

    Args:
        media: Kind and column.
        options: Fields of ``ExtractorSpec`` that differ from the defaults.
        reads_steps: Whether the model reads the steps of a sequence.

    Raises:
        ConfigurationError: If an option cannot be used.
    """
    defaults: dict[str, Any] = {}
    if media.kind != "audio":
        defaults = {"encoder": IMAGE_ENCODER, "frames": VIDEO_FRAMES, "batch_size": _batch_size()}
    spec = ExtractorSpec(**{**defaults, **options, "name": media.kind, "kind": media.kind})
    return MediaRecipe(media.modality, media.column, spec, reads_steps and media.kind != "image")


class MediaFeatures:
    """Gives rows the features of their media, from the cache or by extracting them.

    The cache has a feature store for each way to make features, in which a file's content names its row. So a file
    that was moved or copied is known, and one that changed is another. A file that could not be read stays one.

    Args:
        recipes: How modalities are made.
        cache: Folder that features are kept in.
        limits: What a file may be at most.
        progress: Whether to show progress bars.
        tell: Called with a line for a person.
    """

    def __init__(
        self,
        recipes: Sequence[MediaRecipe],
        cache: Path,
        *,
        limits: Limits | None = None,
        progress: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.recipes = list(recipes)
        self.cache = cache
        self._limits = limits or Limits()
        self.progress = progress
        self.tell = tell
        self.digests = MediaDigests(self._limits)
        self._extractors: dict[str, Extractor] = {}
        self._stores: dict[Path, FeatureStore] = {}
        self._pool: GuardedPool | None = None
        self._check_time: Callable[[], None] | None = None

    @contextmanager
    def timed(self, check: Callable[[], None] | None) -> Iterator[None]:
        """Look at the clock between some files and the next within the context; what was extracted is kept.

        Args:
            check: Raises where the time is over; None where there is no limit.
        """
        self._check_time = check
        try:
            yield
        finally:
            self._check_time = None

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Keep worker processes from one call to the next within the context."""
        if self._pool is not None:
            yield
            return
        self._pool = ExtractionOptions(_ID).new_pool()
        try:
            yield
        finally:
            self._pool.close()
            self._pool = None

    def of(self, frame: pd.DataFrame, place: Place) -> MediaFound:
        """Return rows with what names their features, after extracting those that the cache lacks.

        Args:
            frame: N rows with the columns of the paths.
            place: Where the files are.

        Raises:
            MissingDependencyError: If a package that reads the media is not installed.
            DataError: If the features would be made in another way than those of the training rows.
        """
        cells = {
            column: self.digests.of(frame[column], place, self.progress)
            for column in dict.fromkeys(recipe.column for recipe in self.recipes)
        }
        problems: dict[int, dict[str, str]] = {}
        stores = {}
        for recipe in self.recipes:
            own = cells[recipe.column]
            store = stores[recipe.modality] = self._store_with(recipe, own, place)
            for row, problem in own.problems.items():
                problems.setdefault(row, {})[recipe.modality] = problem
            failed = {digest: error for digest in own.paths if (error := _failure(store, digest, recipe.spec.kind))}
            for row, digest in enumerate(own.digests):
                if digest in failed:
                    text = f"{frame[recipe.column].iloc[row]}: {failed[digest]}"
                    problems.setdefault(row, {})[recipe.modality] = text
        named = frame.copy(deep=False)
        named.attrs = dict(frame.attrs)
        for column, found in cells.items():
            named[column] = pd.Series(found.digests, index=frame.index, dtype=object)
        return MediaFound(named, stores, problems, {r.modality: cells[r.column].given for r in self.recipes})

    def sources(self) -> list[ModalitySource]:
        """Return what a schema says of the modalities: columns have the digests of files, and stores the features."""
        return [self._source(recipe) for recipe in self.recipes]

    def _source(self, recipe: MediaRecipe) -> StoredFeatures:
        pooling = None if recipe.reads_steps or recipe.spec.kind == "image" else "mean"
        folder = self._folder(recipe, recipe.fingerprint or self._extractor(recipe).fingerprint)
        return StoredFeatures(recipe.modality, str(folder), recipe.spec.kind, pooling, recipe.column)

    def with_recipes(self, recipes: Sequence[MediaRecipe]) -> MediaFeatures:
        """Return the same for other modalities, or for these as they are made elsewhere.

        Args:
            recipes: How they are made.
        """
        other = copy.copy(self)
        other.recipes = list(recipes)
        return other

    def with_fingerprints(self) -> MediaFeatures:
        """Return the same, knowing what the features were made with."""
        known = [replace(recipe, fingerprint=self._extractor(recipe).fingerprint) for recipe in self.recipes]
        return self.with_recipes(known)

    def is_empty(self, recipe: MediaRecipe, digests: Iterable[str | None], store: FeatureStore) -> bool:
        """Tell whether none of some files has features.

        Args:
            recipe: Of the modality.
            digests: Of the files; None for a row without one.
            store: Their features.
        """
        named = (digest for digest in digests if digest is not None)
        return all(store.read(store.index_of(digest), recipe.spec.kind) is None for digest in named)

    def _store_with(self, recipe: MediaRecipe, cells: MediaCells, place: Place) -> FeatureStore:
        """Return the store that has the features of all contents."""
        if recipe.fingerprint:
            # What the training rows were encoded with need not be loaded where nothing is to be encoded.
            store = self._opened(self._folder(recipe, recipe.fingerprint))
            if store is not None and all(digest in store for digest in cells.paths):
                return store
        extractor = self._extractor(recipe)
        self._check(recipe, extractor)
        folder = self._folder(recipe, extractor.fingerprint)
        store = self._opened(folder)
        unknown = {digest: path for digest, path in cells.paths.items() if store is None or digest not in store}
        if unknown or store is None:
            self._extract(recipe, folder, unknown, place)
            self._stores.pop(folder, None)
            store = cast(FeatureStore, self._opened(folder))
        return store

    def _extract(self, recipe: MediaRecipe, folder: Path, unknown: Mapping[str, str], place: Place) -> None:
        if unknown:
            self.tell(f"{recipe.modality}: extracting features of {len(unknown):,} {recipe.spec.kind} files")
        files = pd.DataFrame({_ID: list(unknown), _PATH: list(unknown.values())}, dtype=object)
        options = ExtractionOptions(
            _ID, place.root, place.allow_outside, self._limits, progress=self.progress and bool(unknown)
        )
        at_once = max(len(files), 1) if self._check_time is None else TIMED_FILES
        for start in range(0, max(len(files), 1), at_once):
            if self._check_time is not None:
                self._check_time()
            self._extract_files(recipe, files.iloc[start : start + at_once], folder, options)

    def _extract_files(
        self, recipe: MediaRecipe, files: pd.DataFrame, folder: Path, options: ExtractionOptions
    ) -> None:
        source = MediaSource(_PATH, self._extractor(recipe))
        waiting = False
        while True:
            try:
                extract(files, [source], folder, options, self._pool)
                return
            except FolderInUseError:
                if not waiting:
                    self.tell(f"{recipe.modality}: waiting for another process that extracts such features")
                waiting = True
                time.sleep(_WAIT_SECONDS)

    def _extractor(self, recipe: MediaRecipe) -> Extractor:
        if recipe.modality not in self._extractors:
            extractor = build_extractor(recipe.spec, self._limits)
            pooled = extractor.is_sequence and not recipe.reads_steps
            self._extractors[recipe.modality] = MeanExtractor(extractor) if pooled else extractor
        return self._extractors[recipe.modality]

    def _folder(self, recipe: MediaRecipe, fingerprint: str) -> Path:
        steps = "steps" if recipe.reads_steps else "vector"
        name = hashlib.sha256(f"{steps}\n{fingerprint}".encode()).hexdigest()[:16]
        return self.cache / FEATURES_FOLDER / f"{recipe.spec.kind}-{name}"

    def _opened(self, folder: Path) -> FeatureStore | None:
        if folder not in self._stores:
            if not (folder / MANIFEST).exists():
                return None
            self._stores[folder] = FeatureStore.open(folder)
        return self._stores[folder]

    def _check(self, recipe: MediaRecipe, extractor: Extractor) -> None:
        """Refuse an encoder that makes other features than those of the training rows; other versions are told later.

        Raises:
            DataError: Then.
        """
        if not recipe.fingerprint:
            return
        changes = fingerprint_changes(recipe.fingerprint, extractor.fingerprint)
        serious = [change for change in changes if not change.startswith("versions.")]
        if serious:
            raise DataError(
                f"Features of modality '{recipe.modality}' would be made in another way here than those of the "
                f"training rows: {'; '.join(serious)}. Install or name the encoder that the model was trained with."
            )


def _batch_size() -> int:
    """Return how many images are encoded together: on a CPU one, so that no other changes a bit of its features."""
    try:
        import torch
    except ImportError:
        return 1
    return GPU_BATCH_SIZE if torch.cuda.is_available() else 1


def _failure(store: FeatureStore, digest: str, column: str) -> str:
    """Return why a file has no features, an empty text where it has, or where there is nothing to have."""
    row = store.index_of(digest)
    return store.error(row, column) if store.status(row, column) in _FAILED else ""
