"""Encoders of a few thousand weights, made from configurations and saved as a user's folders are."""

import logging
from pathlib import Path

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    CLIPConfig,
    CLIPModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.utils import logging as transformers_logging

transformers_logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def save_vit(folder: Path, pooler: bool = True, seed: int = 0) -> Path:
    """A vision transformer, 8 wide, on 16 x 16 pixels; without a pooler it is saved as an image classifier."""
    torch.manual_seed(seed)
    config = ViTConfig(image_size=16, patch_size=8, initializer_range=0.5, **SIZES)
    (ViTModel(config) if pooler else ViTForImageClassification(config)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """Text and vision together, the vision part 8 wide; the processor resizes the shorter side and crops."""
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, **SIZES}
    CLIPModel(CLIPConfig(text_config=dict(SIZES), vision_config=vision, projection_dim=4)).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_resnet(folder: Path) -> Path:
    """A convolutional network, 8 wide, whose pooler has no weights."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_wav2vec2(folder: Path) -> Path:
    """An encoder of waveforms at 16 kHz, 8 wide, a state for every 400 samples; it has no pooler and no first token."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        conv_dim=(4, 4),
        conv_stride=(20, 20),
        conv_kernel=(20, 20),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        **SIZES,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def save_ast(folder: Path) -> Path:
    """An encoder of spectrograms of 16 bands, 8 wide, with a pooler."""
    torch.manual_seed(0)
    ASTModel(ASTConfig(max_length=64, num_mel_bins=16, **SIZES)).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(folder)
    return folder
