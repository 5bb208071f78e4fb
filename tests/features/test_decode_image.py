"""Image files of every kind of colour, upright, within limits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmadapters.features.guard import Limits
from mmadapters.features.image import decode_image
from mmadapters.features.outcome import Decoded, Status


def picture(height: int = 6, width: int = 8) -> np.ndarray:
    """Colours that differ from pixel to pixel, uint8 (H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 30, columns * 30, (rows + columns) * 10], axis=-1).astype(np.uint8)


def pixels_of(path: Path, limits: Limits | None = None) -> np.ndarray:
    decoded = decode_image(path, limits)
    assert (decoded.status, decoded.error) == (Status.OK, "")
    assert decoded.values is not None
    assert decoded.values.dtype == np.uint8
    assert decoded.values.flags.c_contiguous
    assert decoded.seconds > 0
    return decoded.values


def error_of(path: Path, limits: Limits | None = None) -> str:
    decoded = decode_image(path, limits)
    assert (decoded.values, decoded.status) == (None, Status.ERROR)
    assert str(path.parent) not in decoded.error
    return decoded.error


@pytest.mark.parametrize("name", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_give_the_pixels_themselves(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    Image.fromarray(picture()).save(path, name, **({"lossless": True} if name == "WEBP" else {}))
    np.testing.assert_array_equal(pixels_of(path), picture())


def test_jpeg_gives_about_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    smooth = np.broadcast_to(np.array([200, 100, 50], np.uint8), (16, 24, 3))
    Image.fromarray(smooth).save(path, "JPEG", quality=95)
    np.testing.assert_allclose(pixels_of(path).astype(int), smooth.astype(int), atol=3)


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.fromarray(picture(1, 1)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.png"), picture(1, 1))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (0, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("I;16", 0xAB12, (0xAB, 0xAB, 0xAB)),
        ("I;16", 0xFFFF, (255, 255, 255)),
    ],
)
def test_colours_become_rgb_and_what_is_transparent_white(tmp_path: Path, mode: str, colour, expected) -> None:
    Image.new(mode, (3, 2), colour).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.png"), np.full((2, 3, 3), expected, np.uint8))


def test_a_palette_is_looked_up_and_may_have_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 1, 2, 3])
    image.putdata([0, 1])
    for transparency, first in ((None, (9, 8, 7)), (0, (255, 255, 255))):
        options = {} if transparency is None else {"transparency": transparency}
        image.save(tmp_path / "x.png", **options)
        np.testing.assert_array_equal(pixels_of(tmp_path / "x.png"), np.array([[first, (1, 2, 3)]], np.uint8))


def test_cmyk_is_converted_with_adobes_inversion_undone(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "x.jpg", quality=100)
    np.testing.assert_allclose(pixels_of(tmp_path / "x.jpg")[8, 8].astype(int), [0, 255, 255], atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_images_are_turned_upright(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"jpg": {"quality": 100, "subsampling": 0}, "png": {}, "webp": {"lossless": True}}[ending]
    Image.fromarray(picture(16, 24)).save(path, exif=exif, **quality)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = pixels_of(path)
    assert found.shape == ((16, 24, 3) if orientation < 5 else (24, 16, 3))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("exif", [b"Exif\x00\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"\xff" * 30])
def test_exif_data_that_make_no_sense_turn_nothing(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(picture(16, 24)).save(tmp_path / "x.jpg", exif=exif)
    assert pixels_of(tmp_path / "x.jpg").shape == (16, 24, 3)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    frames = [Image.new("RGB", (10, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if ending == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, **options)
    np.testing.assert_array_equal(pixels_of(path), np.full((8, 10, 3), (255, 0, 0), np.uint8))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of zeros that announces a size, whatever its data hold."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "error"),
    [
        (20_000, 20_000, "has more pixels than Pillow reads"),
        (10_000, 10_000, "has 10000 x 10000 pixels; the limit max_pixels is 64,000,000"),
        (2**31 - 1, 2**31 - 1, "more pixels than Pillow reads"),
        (0, 10, "image"),
        (10, 0, "image"),
    ],
)
def test_bombs_and_images_without_pixels_are_refused(tmp_path: Path, width: int, height: int, error: str) -> None:
    (tmp_path / "x.png").write_bytes(png_of_size(width, height))
    assert error in error_of(tmp_path / "x.png")


def test_the_limit_is_for_the_pixels_of_the_image(tmp_path: Path) -> None:
    Image.fromarray(picture(6, 8)).save(tmp_path / "x.png")
    assert pixels_of(tmp_path / "x.png", Limits(max_pixels=48)).shape == (6, 8, 3)
    assert "has 8 x 6 pixels; the limit max_pixels is 47" in error_of(tmp_path / "x.png", Limits(max_pixels=47))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "is damaged"),
        (b"plain text", "holds something unknown, not an image"),
        (b"PK\x03\x04" + bytes(50), "holds something unknown, not an image"),
        (b"%PDF-1.7 /Encrypt", "holds something unknown, not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "holds something unknown, not an image"),
        (b"8BPS\x00\x01" + bytes(50), "holds something unknown, not an image"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(50), "holds video, not an image"),
        (b"fLaC" + bytes(50), "holds audio, not an image"),
        (b"II*\x00" + bytes(50), "of another format than JPEG, PNG, WEBP, GIF, BMP"),
    ],
)
def test_what_is_no_image_is_an_error(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "poster.png"
    path.write_bytes(content)
    assert error in error_of(path)


def test_a_truncated_image_is_an_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for ending in ("jpg", "png", "webp"):
        path = tmp_path / f"x.{ending}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:-200])
        assert error_of(path)


def test_paths_to_nothing_and_to_folders_are_errors(tmp_path: Path) -> None:
    assert error_of(tmp_path / "absent.png") == "the file does not exist"
    assert "is a folder" in error_of(tmp_path)


def test_an_outcome_can_be_sent_to_another_process() -> None:
    import pickle

    decoded = pickle.loads(pickle.dumps(Decoded(np.zeros(3), Status.DEGRADED, "why", 0.5)))
    assert (decoded.status, decoded.error, decoded.seconds) == (Status.DEGRADED, "why", 0.5)
    assert pickle.loads(pickle.dumps(decode_image)) is decode_image
