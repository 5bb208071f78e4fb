"""Frames of videos, sampled by time: seeking finds what decoding everything finds, and damage costs only itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import CLIP_SHAPE, number_of, numbered_frame, write_clip, write_sound
from PIL import Image

from mmadapters.errors import ConfigurationError
from mmadapters.features.container import DamageCount
from mmadapters.features.frame_sampler import FrameSampler
from mmadapters.features.guard import Limits
from mmadapters.features.outcome import Status
from mmadapters.features.video import decode_video, sample_times
from mmadapters.features.video_file import VideoFile

EVEN = [40] * 90
UNEVEN = [*[40, 40, 200, 40, 20, 333, 40] * 11, *[40] * 13]
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}


@dataclass(frozen=True)
class Clip:
    """A way to write a video."""

    name: str
    codec: str = "libx264"
    gop: int = 12
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    sound: bool = False
    start: int = 0

    def write(self, folder: Path, durations: Sequence[int]) -> Path:
        path = folder / self.name
        return write_clip(
            path,
            durations,
            self.codec,
            self.gop,
            self.options,
            self.container_options,
            sound=self.sound,
            start=self.start,
        )


NO_SCENES = {"x264-params": "scenecut=0"}
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal:scenecut=0"}
CLIPS = {
    "mp4": Clip("x.mp4"),
    "mp4, one long GOP": Clip("x.mp4", gop=600, options=NO_SCENES),
    "mp4, open GOPs": Clip("x.mp4", options=OPEN_GOP),
    "mp4, sound": Clip("x.mp4", sound=True),
    "mp4, late start": Clip("x.mp4", start=700),
    "mp4, in fragments": Clip("x.mp4", container_options={"movflags": "frag_keyframe+empty_moov"}),
    "mp4, without an edit list": Clip("x.mp4", container_options={"use_editlist": "0"}),
    "mp4, H.265": Clip("x.mp4", "libx265", options={"x265-params": "open-gop=1:bframes=3:log-level=none:pools=1"}),
    "mp4, all key frames": Clip("x.mp4", "mpeg4", gop=1),
    "mov": Clip("x.mov"),
    "mkv": Clip("x.mkv"),
    "mkv, one long GOP": Clip("x.mkv", gop=600, options=NO_SCENES),
    "mkv, sound": Clip("x.mkv", sound=True),
    "mkv, lossless": Clip("x.mkv", "ffv1"),
    "mkv, without index or duration": Clip("x.mkv", container_options={"live": "1"}),
    "mkv, gradual refresh": Clip("x.mkv", options={"x264-params": "intra-refresh=1:bframes=0"}),
    "webm": Clip("x.webm", "libvpx-vp9", options=FAST_VP9),
    "webm, sound": Clip("x.webm", "libvpx", options=FAST_VP9, sound=True),
    "webm, without index or duration": Clip("x.webm", "libvpx-vp9", options=FAST_VP9, container_options={"live": "1"}),
}
"""Formats in which files are sought."""
DECODED_CLIPS = {"avi": Clip("x.avi", "mpeg4"), "mpeg-ts": Clip("x.ts")}


def shown_at(durations: Sequence[int], n_frames: int) -> list[int]:
    """The numbers of the frames that are shown at the middles of equal parts."""
    ends = np.cumsum(durations).tolist()
    times = [Fraction((2 * part + 1) * ends[-1], 2 * n_frames) for part in range(n_frames)]
    return [next(number for number, end in enumerate(ends) if time < end) for time in times]


def frames_of(path: Path, n_frames: int, **options) -> np.ndarray:
    decoded = decode_video(path, n_frames, **options)
    assert (decoded.status, decoded.error) == (Status.OK, "")
    assert decoded.values is not None
    assert decoded.values.dtype == np.uint8
    assert len(decoded.values) == n_frames
    return decoded.values


def numbers_of(path: Path, n_frames: int, **options) -> list[int]:
    return [number_of(frame) for frame in frames_of(path, n_frames, **options)]


def error_of(path: Path, *args, **options) -> str:
    decoded = decode_video(path, *args, **options)
    assert (decoded.values, decoded.status) == (None, Status.ERROR)
    assert str(path.parent) not in decoded.error
    return decoded.error


def every_frame(path: Path) -> dict[int, np.ndarray]:
    """All frames, decoded by PyAV from start to end, by the number that they carry."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return {number_of(frame): frame for frame in frames}


@pytest.mark.parametrize("durations", [EVEN, UNEVEN], ids=["constant rate", "variable rate"])
@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_seeking_finds_exactly_the_frames_that_decoding_everything_finds(
    tmp_path: Path, clip: Clip, durations: list[int]
) -> None:
    path = clip.write(tmp_path, durations)
    everything = every_frame(path)
    assert len(everything) == len(durations)
    for n_frames in (1, 2, 7, 32, 120):
        expected = shown_at(durations, n_frames)
        found = frames_of(path, n_frames)
        assert [number_of(frame) for frame in found] == expected
        np.testing.assert_array_equal(found, np.stack([everything[number] for number in expected]))
        np.testing.assert_array_equal(found, frames_of(path, n_frames, seeking=False))


@pytest.mark.parametrize("clip", DECODED_CLIPS.values(), ids=DECODED_CLIPS)
def test_formats_that_are_not_sought_in_give_the_same_frames(tmp_path: Path, clip: Clip) -> None:
    path = clip.write(tmp_path, EVEN)
    for n_frames in (1, 7, 120):
        assert numbers_of(path, n_frames) == shown_at(EVEN, n_frames)


@pytest.mark.parametrize("clip", ["mp4", "mkv", "mkv, without index or duration", "webm"])
def test_seeking_spares_decoding(tmp_path: Path, clip: str) -> None:
    path = CLIPS[clip].write(tmp_path, [40] * 600)
    assert number_decoded(path, 4) < 100
    assert number_decoded(path, 4, seeking=False) > 500


@pytest.mark.parametrize("clip", ["mp4, one long GOP", "mkv, one long GOP"])
def test_no_frame_is_decoded_twice_where_there_is_nothing_to_seek(tmp_path: Path, clip: str) -> None:
    path = CLIPS[clip].write(tmp_path, [40] * 200)
    assert 150 < number_decoded(path, 8) <= 200


def number_decoded(path: Path, n_frames: int, seeking: bool = True) -> int:
    damage = DamageCount()
    with VideoFile(path, Limits()) as file:
        times = sample_times(file.start, file.duration(damage), n_frames)
        sampler = FrameSampler(file, Limits(), times[-1], damage, seeking)
        for time in times:
            sampler.frame_at(time)
    assert damage.packets == 0
    return sampler.decoded


@given(st.integers(-1000, 10**12), st.integers(1, 10**12), st.integers(1, 500))
def test_sample_times_are_the_middles_of_equal_parts(start: int, duration: int, count: int) -> None:
    times = sample_times(start, duration, count)
    assert len(times) == count
    assert times == sorted(times)
    assert start <= times[0]
    assert times[-1] < start + duration
    for part, time in enumerate(times):
        assert 0 <= start + Fraction(2 * part + 1, 2 * count) * duration - time < 1


def test_a_short_video_gives_its_frames_several_times(tmp_path: Path) -> None:
    assert numbers_of(write_clip(tmp_path / "one.mp4", [40]), 4) == [0, 0, 0, 0]
    assert numbers_of(write_clip(tmp_path / "two.webm", [40, 40], "libvpx-vp9"), 6) == [0, 0, 0, 1, 1, 1]


def test_frames_are_scaled_down_to_their_shorter_side_and_never_up(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", EVEN, shape=(48, 160))
    assert frames_of(path, 2, size=24).shape == (2, 24, 80, 3)
    assert frames_of(path, 2, size=100).shape == (2, 48, 160, 3)
    assert numbers_of(path, 5, size=24) == shown_at(EVEN, 5)


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_frames_are_turned_upright(tmp_path: Path, rotation: int) -> None:
    path = write_clip(tmp_path / "x.mp4", [40] * 5, shape=(32, 80), rotation=rotation, first_number=0b0000011111)
    turned = frames_of(path, 1)[0].astype(int)
    upright = np.rot90(numbered_frame(0b0000011111 + 2, (32, 80)), rotation // 90).astype(int)
    assert turned.shape == upright.shape
    assert np.abs(turned - upright).mean() < 10
    assert frames_of(path, 1, size=16).shape[1:3] == ((40, 16) if rotation % 180 else (16, 40))


def test_a_video_that_changes_its_size_keeps_the_shape_of_its_first_frame(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "1.ts", [40] * 10, shape=(16, 80))
    second = write_clip(tmp_path / "2.ts", [40] * 10, shape=(32, 160), start=400, first_number=10)
    both = tmp_path / "x.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    frames = frames_of(both, 10)
    assert frames.shape == (10, 16, 80, 3)
    numbers = [number_of(frame) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert numbers[3] < 10 <= numbers[-4]


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (Limits(max_pixels=1279), "has 80 x 16 pixels; the limit max_pixels is 1,279"),
        (Limits(max_seconds=3), "lasts 4 s; the limit max_seconds is 3"),
        (Limits(max_frames=10), "more than 10 frames were decoded; the limit is max_frames"),
        (Limits(max_decoded_bytes=4 * 1280 * 3 - 1), "4 frames of 80 x 16 pixels take 15,360 bytes"),
        (Limits(max_streams=1), "the file has 2 streams; the limit max_streams is 1"),
        (Limits(max_bytes=100), "the limit max_bytes is 100"),
    ],
)
def test_what_exceeds_a_limit_is_an_error(tmp_path: Path, limits: Limits, error: str) -> None:
    path = write_clip(tmp_path / "x.mp4", EVEN, sound=True)
    assert error in error_of(path, 4, limits)


@pytest.mark.parametrize("setting", [{"n_frames": 0}, {"size": 0}])
def test_settings_that_cannot_be_used_are_no_fault_of_the_file(tmp_path: Path, setting: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        decode_video(write_clip(tmp_path / "x.mp4", [40]), **setting)


def test_damage_in_the_middle_costs_only_the_frames_there(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", [40] * 100, shape=(64, 160), gop=10, options={"x264-params": "qp=0"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 10] = bytes(len(content) // 10)
    path.write_bytes(content)
    decoded = decode_video(path, 100)
    assert decoded.status is Status.DEGRADED
    numbers = [number_of(frame) for frame in decoded.values]
    assert 70 < len(numbers) < 100
    assert numbers[:40] == list(range(40))
    assert numbers[-20:] == list(range(80, 100))
    assert f"{len(numbers)} of 100 frames could be decoded" in decoded.error
    assert "damaged packet" in decoded.error


@pytest.mark.parametrize("clip", ["webm", "mkv"])
def test_a_video_that_was_cut_keeps_what_is_left(tmp_path: Path, clip: str) -> None:
    path = CLIPS[clip].write(tmp_path, [40] * 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    decoded = decode_video(path, 20)
    assert decoded.status is Status.DEGRADED
    numbers = [number_of(frame) for frame in decoded.values]
    assert 5 < len(numbers) < 15
    expected = shown_at([40] * 200, 20)
    assert numbers[:-1] == expected[: len(numbers) - 1]
    assert numbers[-1] <= expected[len(numbers) - 1]


def test_files_without_a_video_are_errors(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "x.mp4", np.zeros(4800, np.float32), 48_000, "aac")
    assert error_of(sound) == "the file has no video stream"
    Image.new("RGB", (9, 9)).save(tmp_path / "x.gif", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")])
    assert error_of(tmp_path / "x.gif") == "the file was given as video and holds an image"
    for name, content in (("text.mp4", b"no video"), ("zeros.webm", bytes(5000)), ("head.mkv", b"\x1a\x45\xdf\xa3")):
        (tmp_path / name).write_bytes(content)
        assert "damaged or of a format that is not read" in error_of(tmp_path / name)
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert error_of(tmp_path / "empty.mp4") == "the file is empty"
    assert error_of(tmp_path / "absent.mp4") == "the file does not exist"


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=48_000, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 48_000
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode(None))
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    assert error_of(path) == "the file has no video stream"


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        container.start_encoding()
    assert error_of(path)


def test_playlists_and_tricks_with_names_open_no_other_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.ts", EVEN)
    tricks = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{clip}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{clip.name}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile {clip.name}\n",
        "list.mpd": f'<?xml version="1.0"?><MPD><BaseURL>{clip.name}</BaseURL></MPD>',
        "list.sdp": "v=0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    }
    for name, content in tricks.items():
        (tmp_path / name).write_text(content)
        assert "damaged or of a format that is not read" in error_of(tmp_path / name)
    for name in (
        f"concat:{clip}|{clip}",
        f"file:{clip}",
        "http://localhost/x.mp4",
        "pipe:0",
        f"subfile,,start,0,end,0,,:{clip}",
    ):
        assert error_of(Path(name)) == "the file does not exist"


def test_content_counts_and_not_the_name(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", EVEN).rename(tmp_path / "x.jpg")
    assert numbers_of(path, 4) == shown_at(EVEN, 4)
    odd = path.rename(tmp_path / "concat:a|b.m3u8")
    assert numbers_of(odd, 4) == shown_at(EVEN, 4)


def test_the_shape_of_a_frame_is_that_of_the_video(tmp_path: Path) -> None:
    assert frames_of(write_clip(tmp_path / "x.mp4", EVEN), 3).shape == (3, *CLIP_SHAPE, 3)
