"""Tiny encoders of every supported family, with the linear layers after which their adapters sit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from mmadapters.classifier import TextClassifier, TextClassifierConfig

VOCABULARY_SIZE = 90
H = 32
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": H,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DECODER = {"num_key_value_heads": 2, "head_dim": 8}

ENCODERS: dict[str, dict[str, Any]] = {
    "bert": NO_DROPOUT,
    "roberta": NO_DROPOUT,
    "xlm-roberta": NO_DROPOUT,
    "camembert": NO_DROPOUT,
    "electra": {**NO_DROPOUT, "embedding_size": 16},
    "mpnet": NO_DROPOUT,
    "deberta-v2": {**NO_DROPOUT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "longformer": {**NO_DROPOUT, "attention_window": 4},
    "albert": {**NO_DROPOUT, "embedding_size": 16, "num_hidden_layers": 3, "classifier_dropout_prob": 0.0},
    "distilbert": {"dim": H, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "reference_compile": False},
    "llama": DECODER,
    "mistral": {**DECODER, "sliding_window": None},
    "qwen2": DECODER,
    "qwen3": DECODER,
}
"""What each family's configuration needs beside ``SMALL``."""

BERT_LINEARS = ("encoder.layer.{}.attention.output.dense", "encoder.layer.{}.output.dense")
DECODER_LINEARS = ("layers.{}.self_attn.o_proj", "layers.{}.mlp.down_proj")
LINEARS = {
    "mpnet": ("encoder.layer.{}.attention.attn.o", "encoder.layer.{}.output.dense"),
    "albert": (
        "encoder.albert_layer_groups.0.albert_layers.0.attention.dense",
        "encoder.albert_layer_groups.0.albert_layers.0.ffn_output",
    ),
    "distilbert": ("transformer.layer.{}.attention.out_lin", "transformer.layer.{}.ffn.lin2"),
    "modernbert": ("layers.{}.attn.Wo", "layers.{}.mlp.Wo"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), DECODER_LINEARS),
}
"""The last linear layer of the attention and of the feed-forward block of layer ``{}``, from the encoder."""


def linears(model_type: str) -> tuple[str, str]:
    return LINEARS.get(model_type, BERT_LINEARS)


def classifier(model_type: str, n_labels: int = 3) -> TextClassifier:
    """A classifier around a tiny, randomly drawn encoder of a family, in evaluation mode."""
    torch.manual_seed(0)
    options = {**SMALL, **ENCODERS[model_type]}
    if model_type == "distilbert":
        options = {key: value for key, value in options.items() if key not in ("hidden_size", "intermediate_size")}
        options = {k: v for k, v in options.items() if k not in ("num_hidden_layers", "num_attention_heads")}
    encoder = AutoConfig.for_model(model_type, **options)
    config = TextClassifierConfig(
        encoder=encoder,
        num_labels=n_labels,
        problem_type="multi_label_classification",
        pooling="last" if model_type in ("llama", "mistral", "qwen2", "qwen3") else "mean",
        head_dropout=0.0,
    )
    return TextClassifier(config).eval()


def text(batch_size: int = 4, length: int = 7, seed: int = 1) -> dict[str, Tensor]:
    """Token ids and a mask; the first example is shorter."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY_SIZE, (batch_size, length), generator=generator)
    mask = torch.ones(batch_size, length, dtype=torch.long)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}
