"""The `mlp` head reproduces the original research implementation."""

from __future__ import annotations

import torch
from vectors import Vectors, assert_close

from mmadapters.classifier import MLPHead


def test_head_reproduces_the_original() -> None:
    vectors = Vectors("classification_head")
    pooled = vectors.inputs["pooled"]
    head = MLPHead(pooled.shape[-1], vectors.weights["out.weight"].shape[0])
    head.load_state_dict(vectors.weights, strict=True)
    with torch.no_grad():
        assert_close(head.eval()(pooled), vectors.outputs["logits"])
