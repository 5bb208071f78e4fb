"""What an extraction's YAML may say."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from mmadapters.errors import ConfigurationError, listed

if TYPE_CHECKING:
    from mmadapters.features.extractor import ExtractorSpec

_KINDS_OF = {
    "frames": ("video",),
    "frame_size": ("video",),
    "preset": ("audio",),
    "clip_seconds": ("audio",),
    "pool_mean": ("video", "audio"),
}
_NEEDS_ENCODER = ("revision", "pooling", "batch_size", "clip_seconds", "device")


def _field(help_text: str, **kwargs: Any) -> Any:
    return field(metadata={"help": help_text}, **kwargs)


@dataclass(frozen=True)
class MediaRows:
    """Which rows have media.

    Attributes:
        rows: File of the rows.
        id: Column that names a row; training finds the features by it.
        root: Folder that relative paths start from and that no path may leave; the file's own where absent.
        allow_outside_root: Whether paths may leave it all the same.
    """

    rows: str = _field("file of the rows: CSV, JSONL or Parquet")
    id: str = _field("column that names a row")
    root: str | None = _field("folder that paths start from and may not leave", default=None)
    allow_outside_root: bool = _field("whether paths may leave it all the same", default=False)


@dataclass(frozen=True)
class MediaSettings:
    """One modality; what is absent is as in ``ExtractorSpec``.

    Attributes:
        kind: What the files are.
        column: Column of their paths.
        encoder: ``efficientnet-lite0``, ``timm:<model>``, a local folder or a Hub name; absent for log-mel audio.
        revision: Of a Hub model.
        pooling: How an encoder's states become one vector.
        frames: Frames of a video.
        frame_size: Pixels of a frame's shorter side; 0 for the video's own size.
        preset: Recipe of the log-mel spectrogram.
        clip_seconds: Length of an audio encoder's clips.
        batch_size: Images, or frames of one video, that are encoded together.
        device: Where the encoder runs.
        dtype: Type of the numbers in the store.
        pool_mean: Whether the store also holds the mean over a sequence.
    """

    kind: Literal["image", "video", "audio"] = _field("what the files are")
    column: str = _field("column of their paths")
    encoder: str | None = _field("alias, folder or Hub name; absent for log-mel audio", default=None)
    revision: str | None = _field("of a Hub model", default=None)
    pooling: Literal["auto", "pooler", "cls", "mean"] | None = _field("states to one vector", default=None)
    frames: int | None = _field("frames of a video", default=None)
    frame_size: int | None = _field("pixels of a frame's shorter side, 0 for the video's own", default=None)
    preset: str | None = _field("recipe of the log-mel spectrogram", default=None)
    clip_seconds: float | None = _field("length of an audio encoder's clips", default=None)
    batch_size: int | None = _field("images that are encoded together", default=None)
    device: str | None = _field("where the encoder runs", default=None)
    dtype: Literal["float16", "float32"] = _field("type of the numbers in the store", default="float16")
    pool_mean: bool = _field("whether the store also holds the mean over a sequence", default=False)

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if getattr(self, f.name) not in (None, False)]
        unfitting = [name for name in given if self.kind not in _KINDS_OF.get(name, (self.kind,))]
        if unfitting:
            raise ConfigurationError(f"{listed(unfitting)} cannot be given for the kind '{self.kind}'; leave it out.")
        if self.encoder is None:
            useless = [name for name in _NEEDS_ENCODER if name in given]
            if useless:
                raise ConfigurationError(f"{listed(useless)} is given and no encoder; name one, or leave it out.")
        elif self.preset is not None:
            raise ConfigurationError("preset is for log-mel spectrograms, and an encoder is given; leave one out.")

    def to_spec(self, name: str) -> ExtractorSpec:
        """Return how this modality's media become features."""
        from mmadapters.features.extractor import ExtractorSpec

        accepted = {f.name for f in fields(ExtractorSpec)} - {"name"}
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name in accepted}
        options = {key: value for key, value in options.items() if value is not None}
        if options.get("frame_size") == 0:
            options["frame_size"] = None
        return ExtractorSpec(name, **options)


@dataclass(frozen=True)
class ExtractConfig:
    """One extraction.

    Attributes:
        data: Rows and their ids.
        modalities: Media by modality; the order is the store's.
        store: Folder of the features.
        limits: What a file may be at most: fields of ``Limits``.
        workers: Processes that decode; one less than there are cores where absent. On Ray, of each worker.
        seconds_per_file: Wall-clock time after which a file is given up.
        worker_memory_mb: Memory of a worker.
        rows_per_shard: Rows that are committed together.
        ray: Workers on a Ray cluster, for ``--engine ray``: ``workers``, ``cpus`` and ``gpus`` of ``RayOptions``.
    """

    data: MediaRows = _field("rows and their ids")
    modalities: dict[str, MediaSettings] = _field("media by modality")
    store: str = _field("folder of the features", default="runs/features")
    limits: dict[str, Any] = _field("what a file may be at most", default_factory=dict)
    workers: int | None = _field("processes that decode", default=None)
    seconds_per_file: float = _field("time after which a file is given up", default=120.0)
    worker_memory_mb: int = _field("memory of a worker", default=4096)
    rows_per_shard: int = _field("rows that are committed together", default=256)
    ray: dict[str, Any] = _field("workers on a Ray cluster, CPUs and GPUs of each", default_factory=dict)

    def __post_init__(self) -> None:
        if not self.modalities:
            raise ConfigurationError("modalities is empty; give at least one.")
        for name, modality in self.modalities.items():
            modality.to_spec(name)
