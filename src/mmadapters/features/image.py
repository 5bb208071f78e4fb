"""Image files as arrays of pixels, whatever their format and colours."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmadapters.errors import MissingDependencyError
from mmadapters.features.guard import Limits, checked_size, sniff_kind
from mmadapters.features.outcome import Decoded, MediaError, Status, ending_in_an_outcome

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are read, by their content. Others, such as EPS and PSD, have been ways into Pillow."""

_WHITE = (255, 255, 255, 255)
_EXIF_ORIENTATION = 0x0112
# Pillow's Transpose for each EXIF orientation.
_UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


@ending_in_an_outcome
def decode_image(path: Path, limits: Limits | None = None) -> Decoded:
    """Read an image file.

    JPEG, PNG, WebP, GIF and BMP are read, told by their content. Of an animation the first frame counts. The image is
    turned upright as its EXIF data say. All colours become 8-bit RGB: CMYK, palettes, greys of 1 to 16 bits (of 16 the
    upper 8 are kept); what is transparent is laid over white.

    Args:
        path: The file.
        limits: What it may be at most; ``max_bytes`` and ``max_pixels`` count. None for the defaults. Pillow itself
            refuses more than about 179 million pixels.

    Returns:
        uint8 (H, W, 3), or an error; see ``Decoded``.

    Raises:
        MissingDependencyError: If Pillow is not installed.
        MemoryError: If the process has too little memory.
    """
    limits = Limits() if limits is None else limits
    checked_size(path, limits)
    kind = sniff_kind(path)
    if kind != "image":
        raise MediaError(f"the file holds {kind or 'something unknown'}, not an image")
    return Decoded(_read_pixels(path, limits), Status.OK)


def _read_pixels(path: Path, limits: Limits) -> np.ndarray:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingDependencyError(
            'Images are read with Pillow, which is not installed: pip install "mmadapters[image]"'
        ) from error
    with warnings.catch_warnings():
        # Damaged metadata and large images; the limit here is our own.
        warnings.simplefilter("ignore")
        try:
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                _check_shape(image, limits)
                image.load()
                pixels = np.asarray(_upright(_to_rgb(image), _orientation(image)))
        except Image.DecompressionBombError as error:
            raise MediaError("the image has more pixels than Pillow reads") from error
        except UnidentifiedImageError as error:
            raise MediaError(f"the image is damaged or of another format than {', '.join(FORMATS)}") from error
    return np.ascontiguousarray(pixels)


def _check_shape(image: Image, limits: Limits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise MediaError(f"the image has {width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise MediaError(f"the image has {width} x {height} pixels; the limit max_pixels is {limits.max_pixels:,}")


def _to_rgb(image: Image) -> Image:
    from PIL import Image as pillow

    if image.mode.startswith("I"):
        return pillow.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        background = pillow.new("RGBA", image.size, _WHITE)
        return pillow.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    # EXIF data that cannot be read turn nothing.
    except Exception:
        return 1


def _upright(image: Image, orientation: int) -> Image:
    from PIL import Image as pillow

    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(pillow.Transpose(turn))
