"""Sound of all kinds of files as one mono waveform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from media_files import tone, write_clip, write_sound
from PIL import Image

from mmadapters.errors import ConfigurationError
from mmadapters.features.audio import decode_audio
from mmadapters.features.guard import Limits
from mmadapters.features.outcome import Status

RATE = 16_000


def noise(samples: int, channels: int = 1) -> np.ndarray:
    """Float32 (samples, channels), within -0.5 and 0.5."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


def waveform_of(path: Path, sampling_rate: int = RATE, **options) -> np.ndarray:
    decoded = decode_audio(path, sampling_rate, **options)
    assert (decoded.status, decoded.error) == (Status.OK, "")
    assert decoded.values is not None
    assert (decoded.values.dtype, decoded.values.ndim) == (np.float32, 1)
    return decoded.values


def error_of(path: Path, **options) -> str:
    decoded = decode_audio(path, RATE, **options)
    assert (decoded.values, decoded.status) == (None, Status.ERROR)
    assert str(path.parent) not in decoded.error
    return decoded.error


def assert_is_tone(waveform: np.ndarray, hertz: float, rate: int, amplitude: float = 0.5) -> None:
    middle = waveform[len(waveform) // 4 : 3 * len(waveform) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(spectrum.argmax() * rate / len(middle) - hertz) < 2 * rate / len(middle)
    assert np.sqrt(2 * np.mean(np.square(middle))) == pytest.approx(amplitude, rel=0.05)


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("WAV", "FLOAT", 0.0),
        ("WAV", "DOUBLE", 0.0),
        ("WAV", "PCM_32", 1e-7),
        ("WAV", "PCM_24", 2e-7),
        ("WAV", "PCM_16", 4e-5),
        ("WAV", "PCM_U8", 8e-3),
        ("WAVEX", "PCM_16", 4e-5),
        ("RF64", "PCM_16", 4e-5),
        ("FLAC", "PCM_16", 4e-5),
        ("FLAC", "PCM_24", 2e-7),
    ],
)
def test_lossless_files_give_the_samples_themselves(tmp_path: Path, name: str, subtype: str, step: float) -> None:
    path = tmp_path / "x.mp4"
    soundfile.write(path, noise(70_000), RATE, format=name, subtype=subtype)
    np.testing.assert_allclose(waveform_of(path), noise(70_000)[:, 0], atol=step)


@pytest.mark.parametrize(
    ("codec", "sample_format", "scale"),
    [
        ("pcm_u8", "u8", None),
        ("pcm_s16le", "s16", 32768),
        ("pcm_s32le", "s32", 2**31),
        ("pcm_f32le", "flt", None),
        ("pcm_f64le", "dbl", None),
        ("flac", "s16", 32768),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_every_type_of_sample_in_a_video_file_is_scaled_to_one(
    tmp_path: Path, codec: str, sample_format: str, scale: int | None, channels: int
) -> None:
    samples = noise(3000, channels)
    kinds = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}
    if sample_format == "u8":
        stored = np.round(samples * 128 + 128).astype(np.uint8)
        expected = (stored.astype(np.float32) - 128) / 128
    else:
        stored = (samples * (scale or 1)).astype(kinds[sample_format])
        expected = (stored / (scale or 1)).astype(np.float32)
    path = write_sound(tmp_path / "x.mkv", stored.T, RATE, codec, sample_format)
    np.testing.assert_allclose(waveform_of(path), expected.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "subtype", "ending"),
    [("OGG", "VORBIS", "ogg"), ("OGG", "OPUS", "opus"), ("MP3", "MPEG_LAYER_III", "mp3")],
)
def test_lossy_files_give_about_the_sound(tmp_path: Path, name: str, subtype: str, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, tone(440, 48_000, 1.0), 48_000, format=name, subtype=subtype)
    found = waveform_of(path)
    assert abs(len(found) - RATE) < 0.05 * RATE
    assert_is_tone(found, 440, RATE)


@pytest.mark.parametrize(
    ("ending", "codec"), [("m4a", "aac"), ("mka", "libopus"), ("mp3", "libmp3lame"), ("aac", "aac")]
)
def test_files_that_ffmpeg_wrote_give_about_the_sound(tmp_path: Path, ending: str, codec: str) -> None:
    sample_format = "flt" if codec == "libopus" else "fltp"
    path = write_sound(tmp_path / f"x.{ending}", tone(440, 48_000, 1.0), 48_000, codec, sample_format)
    assert_is_tone(waveform_of(path), 440, RATE)


@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx"), ("mov", "libx264")]
)
def test_the_sound_track_of_a_video_is_read(tmp_path: Path, ending: str, codec: str) -> None:
    path = write_clip(tmp_path / f"x.{ending}", [40] * 25, codec, sound=True)
    found = waveform_of(path)
    assert abs(len(found) - RATE) < 0.05 * RATE
    assert_is_tone(found, 440, RATE)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_a_silent_film_is_missing_its_sound(tmp_path: Path, ending: str) -> None:
    path = write_clip(tmp_path / f"x.{ending}", [40] * 5, "mpeg4")
    decoded = decode_audio(path, RATE)
    assert (decoded.values, decoded.status, decoded.error) == (None, Status.MISSING, "the file has no sound")


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = np.tile(np.arange(channels, dtype=np.float32) / 10, (1000, 1))
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_allclose(waveform_of(tmp_path / "x.wav"), np.full(1000, (channels - 1) / 20), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 96_000])
def test_sound_is_resampled_as_in_one_piece(tmp_path: Path, rate: int) -> None:
    samples = noise(2 * rate)
    soundfile.write(tmp_path / "x.wav", samples, rate, subtype="FLOAT")
    found = waveform_of(tmp_path / "x.wav")
    np.testing.assert_allclose(found, soxr.resample(samples[:, 0], rate, RATE), atol=1e-6)
    assert len(found) == 2 * RATE


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
@pytest.mark.parametrize("name", ["WAV", "FLAC"])
def test_one_sample_is_a_sound(tmp_path: Path, rate: int, name: str) -> None:
    soundfile.write(tmp_path / "x", np.array([0.5]), rate, format=name)
    found = waveform_of(tmp_path / "x")
    assert 1 <= len(found) <= 2
    assert np.isfinite(found).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ending", ["wav", "mkv"])
def test_samples_that_are_no_numbers_are_an_error(tmp_path: Path, value: float, ending: str) -> None:
    samples = noise(100_000, 2)
    samples[90_000, 1] = value
    path = tmp_path / f"x.{ending}"
    if ending == "wav":
        soundfile.write(path, samples, 44_100, subtype="FLOAT")
    else:
        write_sound(path, samples.T, 44_100, "pcm_f32le", "flt")
    assert error_of(path) == "the sound has samples that are no finite numbers"
    assert len(waveform_of(path, max_seconds=1.0)) == RATE


def test_samples_that_overflow_are_an_error(tmp_path: Path) -> None:
    largest = np.full((2, 100), np.finfo(np.float32).max, np.float32)
    soundfile.write(tmp_path / "x.wav", largest.T, RATE, subtype="FLOAT")
    assert "no finite numbers" in error_of(tmp_path / "x.wav")
    write_sound(tmp_path / "x.mkv", np.full(100, 1e300), RATE, "pcm_f64le", "dbl")
    assert "no finite numbers" in error_of(tmp_path / "x.mkv")


def test_only_so_much_is_read_as_is_wanted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", noise(5 * 44_100), 44_100, subtype="FLOAT")
    whole = waveform_of(tmp_path / "x.wav")
    found = waveform_of(tmp_path / "x.wav", max_seconds=2.0)
    assert len(found) == 2 * RATE
    np.testing.assert_allclose(found[:RATE], whole[:RATE], atol=1e-6)
    assert len(waveform_of(tmp_path / "x.wav", max_seconds=100.0)) == 5 * RATE
    assert len(waveform_of(tmp_path / "x.wav", max_seconds=1e-9)) == 1


def test_what_exceeds_a_limit_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(300_000, 8), RATE)
    assert "the limit max_seconds is 4" in error_of(path, limits=Limits(max_seconds=4))
    assert "has 8 channels; the limit max_channels is 7" in error_of(path, limits=Limits(max_channels=7))
    assert "max_decoded_bytes is 500,000" in error_of(path, limits=Limits(max_decoded_bytes=500_000))
    assert "max_bytes is 9" in error_of(path, limits=Limits(max_bytes=9))
    soundfile.write(path, noise(10), 5)
    assert "has 5 samples a second; 100 to 1,000,000 are read" in error_of(path)


@pytest.mark.parametrize("setting", [{"sampling_rate": 0}, {"sampling_rate": RATE, "max_seconds": 0.0}])
def test_settings_that_cannot_be_used_are_no_fault_of_the_file(tmp_path: Path, setting) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        decode_audio(tmp_path / "x.wav", **setting)


def test_damaged_sound_keeps_what_decodes(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "x.mp4", noise(96_000)[:, 0], 48_000, "aac")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1500] = np.random.default_rng(0).bytes(1500)
    path.write_bytes(content)
    decoded = decode_audio(path, RATE)
    assert decoded.status is Status.DEGRADED
    assert "a part of the sound could not be decoded" in decoded.error
    assert 0.5 * 2 * RATE < len(decoded.values) <= 1.05 * 2 * RATE


@pytest.mark.parametrize(("ending", "seconds"), [("flac", 5.0), ("ogg", 60.0), ("mp3", 5.0)])
def test_damaged_sound_files_go_on_behind_the_damage(tmp_path: Path, ending: str, seconds: float) -> None:
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, tone(440, RATE, seconds), RATE)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = np.random.default_rng(0).bytes(500)
    path.write_bytes(content)
    decoded = decode_audio(path, RATE)
    assert decoded.status in (Status.OK, Status.DEGRADED)
    assert ending != "flac" or decoded.status is Status.DEGRADED
    assert 0.7 * seconds * RATE < len(decoded.values) < 1.05 * seconds * RATE
    assert_is_tone(decoded.values[:RATE], 440, RATE)
    assert_is_tone(decoded.values[-2 * RATE : -RATE], 440, RATE)


def test_a_sound_file_that_was_cut_keeps_what_is_left(tmp_path: Path) -> None:
    flac = tmp_path / "x.flac"
    soundfile.write(flac, noise(200_000), RATE)
    flac.write_bytes(flac.read_bytes()[:150_000])
    decoded = decode_audio(flac, RATE)
    assert decoded.status is Status.DEGRADED
    assert 50_000 < len(decoded.values) < 200_000
    np.testing.assert_allclose(decoded.values[:50_000], noise(50_000)[:, 0], atol=4e-5)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "the file is empty"),
        (b"no sound at all", "damaged or of a format that is not read"),
        (b"fLaC" + bytes(100), ""),
        (b"ID3\x04" + bytes(100), ""),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", ""),
        (b"OggS" + bytes(100), ""),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "damaged or of a format that is not read"),
    ],
)
def test_what_is_no_sound_is_an_error(tmp_path: Path, content: bytes, error: str) -> None:
    for name in ("x.wav", "x.raw", "x.mp3"):
        (tmp_path / name).write_bytes(content)
        assert error in error_of(tmp_path / name)


def test_a_file_without_samples_and_an_image_are_errors(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(0), RATE)
    assert error_of(tmp_path / "x.wav") == "the file has no samples"
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    assert error_of(tmp_path / "x.png") == "the file was given as audio and holds an image"
    assert error_of(tmp_path / "absent.wav") == "the file does not exist"


def test_a_rate_that_changes_on_the_way_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.aac"
    slow = write_sound(tmp_path / "slow.aac", tone(440, 24_000, 1.0), 24_000, "aac")
    fast = write_sound(tmp_path / "fast.aac", tone(440, 48_000, 1.0), 48_000, "aac")
    path.write_bytes(slow.read_bytes() + fast.read_bytes())
    found = decode_audio(path, RATE).values
    assert abs(len(found) - 2 * RATE) < 0.15 * RATE
    assert_is_tone(found[:RATE], 440, RATE)
    assert_is_tone(found[-RATE:], 440, RATE)
