"""The sound of sound and video files as one mono waveform."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features.container import (
    DamageCount,
    check_seconds,
    decode_packet,
    open_container,
    packets,
)
from mmadapters.features.guard import Limits, checked_size, refuse_other_kinds, sniff_kind
from mmadapters.features.mel import MEL_PRESETS, MelPreset, log_mel, mel_preset
from mmadapters.features.outcome import Decoded, MediaError, Status, ending_in_an_outcome

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer
    from av.stream import Stream

__all__ = ["MEL_PRESETS", "MelPreset", "decode_audio", "log_mel", "mel_preset"]

_BLOCK_SAMPLES = 1 << 16
_RATES = range(100, 1_000_001)
_INSTALL = 'pip install "mmadapters[audio]"'


@dataclass(frozen=True)
class _Block:
    """Samples of one piece of a file.

    Attributes:
        samples: Float32 (channels, samples).
        rate: Samples a second.
    """

    samples: np.ndarray
    rate: int


@ending_in_an_outcome
def decode_audio(
    path: Path, sampling_rate: int, limits: Limits | None = None, max_seconds: float | None = None
) -> Decoded:
    """Read the sound of a file.

    WAV, FLAC, Ogg and MP3 files are read by libsndfile; others, damaged ones and video files by FFmpeg. All channels
    are averaged with equal weights, and the mean is resampled.

    Of a damaged file the sound that decodes is kept, without gaps, and the status is ``DEGRADED``; damage that the
    libraries pass over in silence, as in some MP3 and Ogg files, stays unknown.

    Args:
        path: The file, told by its content.
        sampling_rate: Samples a second of the result.
        limits: What the file may be at most; ``max_seconds`` counts for what is read. None for the defaults.
        max_seconds: How much to read from the start; None for all.

    Returns:
        Float32 (samples,), at least one sample, nominally within -1 and 1; ``MISSING`` where a video has no sound;
        or an error, also where a sample is no finite number. See ``Decoded``.

    Raises:
        ConfigurationError: If ``sampling_rate`` or ``max_seconds`` is not above 0.
        MissingDependencyError: If soundfile, soxr or PyAV is not installed.
        MemoryError: If the process has too little memory.
    """
    for name, value in (("sampling_rate", sampling_rate), ("max_seconds", max_seconds)):
        if value is not None and not value > 0:
            raise ConfigurationError(f"{name}={value!r} cannot be used. Give a number above 0.")
    limits = Limits() if limits is None else limits
    checked_size(path, limits)
    refuse_other_kinds(path, "audio", ("audio", "video"))
    damage = DamageCount()
    waveform = _read_sound_file(path, _Waveform(sampling_rate, limits, max_seconds), damage)
    if waveform is None or not len(waveform):
        was_empty = waveform is not None
        with open_container(path, limits) as container:
            stream = container.streams.best("audio")
            if stream is None:
                return Decoded(None, Status.MISSING, "the file has no sound")
            blocks = _container_blocks(container, stream, damage)
            waveform = _Waveform(sampling_rate, limits, max_seconds).collect(blocks)
        # libsndfile takes some damaged Ogg files for empty ones.
        damage.packets += was_empty and len(waveform) > 0
    if not len(waveform):
        raise MediaError(f"no sound can be decoded ({damage})" if damage.packets else "the file has no samples")
    if damage.packets:
        return Decoded(waveform, Status.DEGRADED, f"a part of the sound could not be decoded: {damage}")
    return Decoded(waveform, Status.OK)


class _Waveform:
    """Mixes blocks to mono, resamples them and puts them together."""

    def __init__(self, sampling_rate: int, limits: Limits, max_seconds: float | None) -> None:
        soxr = _require("soxr")
        self._new_resampler: Callable[[int], Any] = lambda rate: soxr.ResampleStream(rate, sampling_rate, 1)
        self._limits = limits
        self._sampling_rate = sampling_rate
        self._most = None if max_seconds is None else max(1, round(max_seconds * sampling_rate))
        self._wanted_seconds = max_seconds
        self._seconds = 0.0
        self._pieces: list[np.ndarray] = []
        self._first: np.ndarray | None = None
        self._resampler: Any = None
        self._rate: int | None = None

    def collect(self, blocks: Iterable[_Block]) -> np.ndarray:
        """Return the sound of all blocks, or of as many as are wanted: float32 (samples,)."""
        for block in blocks:
            self._add(block)
            if self._wanted_seconds is not None and self._seconds >= self._wanted_seconds:
                break
        self._flush()
        waveform = np.concatenate(self._pieces)[: self._most] if self._pieces else np.zeros(0, np.float32)
        # Of less than half a sample nothing is left by resampling.
        return waveform if len(waveform) or self._first is None else self._first

    def _add(self, block: _Block) -> None:
        self._check(block)
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.samples.mean(axis=0, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise MediaError("the sound has samples that are no finite numbers")
        if self._first is None:
            self._first = mono[:1]
        # A stream may change its rate on the way: high-efficiency AAC tells the true one late.
        if block.rate != self._rate:
            self._flush()
            self._rate = block.rate
            self._resampler = None if block.rate == self._sampling_rate else self._new_resampler(block.rate)
        self._pieces.append(mono if self._resampler is None else self._resampler.resample_chunk(mono))
        self._seconds += len(mono) / block.rate
        check_seconds(self._seconds, self._limits)

    def _check(self, block: _Block) -> None:
        channels = len(block.samples)
        if not 1 <= channels <= self._limits.max_channels:
            raise MediaError(
                f"the sound has {channels} channels; the limit max_channels is {self._limits.max_channels}"
            )
        if block.rate not in _RATES:
            raise MediaError(f"the sound has {block.rate:,} samples a second; {_RATES[0]:,} to {_RATES[-1]:,} are read")
        if self._seconds * self._sampling_rate * 4 > self._limits.max_decoded_bytes:
            raise MediaError(
                f"the limit max_decoded_bytes is {self._limits.max_decoded_bytes:,}, and the sound takes more"
            )

    def _flush(self) -> None:
        if self._resampler is not None:
            self._pieces.append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def _read_sound_file(path: Path, waveform: _Waveform, damage: DamageCount) -> np.ndarray | None:
    """Return what libsndfile reads, or None where it does not know the format or comes upon damage.

    It would give up there; FFmpeg goes on behind it.
    """
    if sniff_kind(path) != "audio":
        return None
    soundfile = _require("soundfile")
    opened = False
    try:
        # By its number, as its name would count as a format too.
        with path.open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            opened = True
            return waveform.collect(_sound_file_blocks(sound))
    except soundfile.LibsndfileError:
        damage.packets += opened
        return None


def _sound_file_blocks(sound: Any) -> Iterator[_Block]:
    while len(samples := sound.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        yield _Block(samples.T, sound.samplerate)


def _container_blocks(container: InputContainer, stream: Stream, damage: DamageCount) -> Iterator[_Block]:
    if stream.codec_context is None:
        raise MediaError("the sound is of a codec that is not known")
    stream.codec_context.thread_count = 1
    for packet in packets(container, stream, damage):
        for frame in decode_packet(packet, damage):
            if frame.samples:
                yield _Block(_to_float(frame), frame.sample_rate)


def _to_float(frame: AudioFrame) -> np.ndarray:
    """Return the samples of a frame as float32 (channels, samples)."""
    samples: np.ndarray = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    if samples.dtype.kind == "u":
        return (samples.astype(np.float32) - 128.0) / 128.0
    return (samples / 2.0 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    # OSError: soundfile without its library.
    except (ImportError, OSError) as error:
        raise MissingDependencyError(f"Sound needs {package}, which is not installed: {_INSTALL}") from error
