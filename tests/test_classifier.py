"""Encoder, pooling, head and loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from torch.nn import functional as F
from transformers import AutoModel, BertConfig, BertModel

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.classifier import (
    TextClassifier,
    TextClassifierConfig,
    classification_loss,
    loss_terms,
)
from mmadapters.errors import ConfigurationError, InputError
from mmadapters.modality import Modality

IDS = torch.tensor([[2, 6, 7, 3], [2, 8, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
LABELS = ["action", "drama", "war"]


def classifier(backbone: Path, **options) -> TextClassifier:
    chosen = {"problem_type": "multi_label_classification", "labels": LABELS, **options}
    return TextClassifier.from_backbone(str(backbone), **chosen)


def test_pre_trained_weights_are_untouched(tiny_backbone: Path) -> None:
    expected = AutoModel.from_pretrained(tiny_backbone).state_dict()
    actual = classifier(tiny_backbone).encoder.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], value) for key, value in expected.items())


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_pooling(tiny_backbone: Path, pooling: str) -> None:
    model = classifier(tiny_backbone, pooling=pooling)
    with torch.no_grad():
        encoded = model.encoder(input_ids=IDS, attention_mask=MASK)
        output = model(input_ids=IDS, attention_mask=MASK)
        states = encoded.last_hidden_state
        expected = {
            "cls": states[:, 0],
            "mean": torch.stack([states[0].mean(0), states[1, :3].mean(0)]),
            "pooler": encoded.pooler_output,
        }[pooling]
        torch.testing.assert_close(output.pooled, expected)
        torch.testing.assert_close(output.logits, model.classifier(expected))


def test_the_linear_head_stands_behind_a_layer_norm(tiny_backbone: Path) -> None:
    model = classifier(tiny_backbone)
    head = model.classifier
    pooled = torch.randn(5, 32) * 7 + 3
    with torch.no_grad():
        normalised = (pooled - pooled.mean(-1, keepdim=True)) / pooled.std(-1, unbiased=False, keepdim=True)
        torch.testing.assert_close(head(pooled), normalised @ head.out.weight.T + head.out.bias, rtol=0, atol=1e-5)
    assert head.out.weight.detach().std().item() == pytest.approx(0.02, rel=0.3)


def test_the_last_token_is_found_at_any_batch_size_in_an_exported_program(tiny_backbone: Path) -> None:
    model = classifier(tiny_backbone, pooling="last")
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = {"input_ids": sizes, "attention_mask": sizes}
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    program = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
    with torch.no_grad():
        for rows in (2, 1):
            given = {name: values[:rows] for name, values in inputs.items()}
            torch.testing.assert_close(program(**given).logits, model(**given).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_save_and_load_the_whole_model(tiny_backbone: Path, tmp_path: Path, head: str) -> None:
    model = classifier(tiny_backbone, head=head, pooling="cls")
    model.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert loaded.config.id2label == {0: "action", 1: "drama", 2: "war"}


def test_losses_are_those_of_torch() -> None:
    logits = torch.randn(4, 3)
    multi = torch.tensor([[1.0, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    weights = torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(
        classification_loss(logits, multi, "multi_label_classification"),
        F.binary_cross_entropy_with_logits(logits, multi),
    )
    torch.testing.assert_close(
        classification_loss(logits, multi, "multi_label_classification", weights),
        F.binary_cross_entropy_with_logits(logits, multi, pos_weight=weights),
    )
    single = torch.tensor([2, 0, -100, 1])
    torch.testing.assert_close(
        classification_loss(logits, single, "single_label_classification"),
        F.cross_entropy(logits[[0, 1, 3]], single[[0, 1, 3]]),
    )
    values = torch.tensor([0.5, -1.0, 2.0, -100.0])
    torch.testing.assert_close(
        classification_loss(logits[:, :1], values, "regression"), F.mse_loss(logits[:, 0], values)
    )
    assert int(loss_terms(multi, "multi_label_classification")) == 12
    assert int(loss_terms(single, "single_label_classification")) == 3
    assert int(loss_terms(values, "regression")) == 4


def test_a_batch_without_a_known_label_has_loss_zero() -> None:
    loss = classification_loss(torch.randn(2, 3), torch.tensor([-100, -100]), "single_label_classification")
    assert float(loss) == 0.0


@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [
        (torch.zeros(2, 4), "multi_label_classification"),
        (torch.zeros(2, 3, dtype=torch.long), "single_label_classification"),
        (torch.zeros(2, 1), "regression"),
    ],
)
def test_labels_of_the_wrong_shape(labels: torch.Tensor, problem_type: str) -> None:
    with pytest.raises(InputError, match=r"labels have the shape .* it must be \(2"):
        classification_loss(torch.zeros(2, 3), labels, problem_type)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "clz"}, "pooling='clz' is unknown. Accepted are 'cls', 'mean', 'last', 'pooler'. Did you"),
        ({"head": "deep"}, "head='deep' is unknown"),
        ({"problem_type": "ranking"}, "problem_type='ranking' is unknown"),
        ({"head_dropout": 1.0}, "head_dropout=1.0 must be at least 0 and below 1"),
    ],
)
def test_settings_that_cannot_be_used(tiny_backbone: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        classifier(tiny_backbone, **options)


def test_a_pooler_that_is_not_there() -> None:
    encoder = BertModel(BertConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=1), add_pooling_layer=False)
    config = TextClassifierConfig(encoder=encoder.config, pooling="pooler", problem_type="regression", num_labels=1)
    with pytest.raises(ConfigurationError, match="BertModel has no pooler. Use 'cls' or 'mean'"):
        TextClassifier(config, encoder)


def test_adapters_in_a_classifier_learn_with_its_head(tiny_backbone: Path) -> None:
    model = get_peft_model(
        classifier(tiny_backbone),
        MultimodalAdapterConfig(modalities=[Modality("poster", 5)], bottleneck_size=4, task_type="SEQ_CLS"),
    )
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any(".classifier.modules_to_save." in name for name in learning)
    assert all(".mmadapter_" in name or ".modules_to_save." in name for name in learning)
    output = model(
        input_ids=IDS,
        attention_mask=MASK,
        modality_features={"poster": torch.randn(2, 5)},
        labels=torch.ones(2, 3),
        output_gates=True,
    )
    assert output.gates.shape == (2, 4, 2)
    assert output.loss.item() == pytest.approx(
        F.binary_cross_entropy_with_logits(output.logits, torch.ones(2, 3)).item()
    )
