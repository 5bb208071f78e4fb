"""MMBT: the tokens' layout by hand, what learns, what is masked, and how texts make room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from method_rows import QUICK, SCHEMA, prepared, rows, settings_for
from torch import nn
from transformers import RobertaConfig, RobertaModel

from mmadapters.backbones import load_tokenizer
from mmadapters.baselines.fine_tuning import EncoderFrozenFirst, fine_tune, fine_tuning_groups
from mmadapters.baselines.method import build_method
from mmadapters.baselines.mmbt import MMBT, shortened_texts
from mmadapters.baselines.task_model import FineTunedText, text_classifier
from mmadapters.classifier import TextClassifier, TextClassifierConfig
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError, UnsupportedBackboneError
from mmadapters.modality import Modality
from mmadapters.training.arguments import MultimodalTrainingArguments

MODALITIES = [Modality("clip", 5), Modality("poster", 3)]


def mmbt(backbone: Path, n_tokens: dict[str, int] | None = None, pooling: str = "mean") -> MMBT:
    torch.manual_seed(2)
    text = TextClassifier.from_backbone(
        str(backbone), problem_type="multi_label_classification", labels=["a", "b"], pooling=pooling, head_dropout=0.0
    )
    return MMBT(text, MODALITIES, n_tokens or {"clip": 2, "poster": 1}, {}).eval()


def batch() -> dict:
    return {
        "input_ids": torch.tensor([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "token_type_ids": torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]),
        "modality_features": {"clip": torch.randn(2, 4, 5), "poster": torch.randn(2, 3)},
        "modality_mask": {
            "clip": torch.tensor([[True, True, True, True], [True, False, False, False]]),
            "poster": torch.tensor([True, False]),
        },
    }


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_the_forward_pass_is_that_of_the_paper(tiny_backbone: Path, pooling: str) -> None:
    model, given = mmbt(tiny_backbone, pooling=pooling), batch()
    bert = model.text.encoder
    embeddings = bert.embeddings
    word, position, segment = (
        getattr(embeddings, name).weight for name in ("word_embeddings", "position_embeddings", "token_type_embeddings")
    )
    clip, poster = model.modality_tokens.projections
    own = model.modality_tokens.segments.weight
    steps, vector = given["modality_features"]["clip"], given["modality_features"]["poster"]
    # The first row has all tokens, the second one a step of the clip and no poster.
    sequences = [
        [
            word[2] + position[0] + segment[0],
            clip(steps[0, :2].mean(dim=0)) + own[0] + position[0] + segment[0],
            clip(steps[0, 2:].mean(dim=0)) + own[0] + position[1] + segment[0],
            poster(vector[0]) + own[1] + position[0] + segment[0],
            word[5] + position[1] + segment[0],
            word[6] + position[2] + segment[0],
            word[7] + position[3] + segment[1],
            word[3] + position[4] + segment[1],
        ],
        [
            word[2] + position[0] + segment[0],
            clip(steps[1, 0]) + own[0] + position[0] + segment[0],
            word[9] + position[1] + segment[0],
            word[3] + position[2] + segment[0],
        ],
    ]
    expected = []
    for sequence in sequences:
        encoded = bert.encoder(embeddings.LayerNorm(torch.stack(sequence))[None]).last_hidden_state
        pooled = {"mean": encoded.mean(dim=1), "cls": encoded[:, 0], "pooler": bert.pooler(encoded)}[pooling]
        expected.append(model.text.classifier(pooled))
    torch.testing.assert_close(model(**given).logits, torch.cat(expected), atol=1e-5, rtol=1e-4)


def test_what_is_masked_never_changes_a_logit(tiny_backbone: Path) -> None:
    model, given = mmbt(tiny_backbone), batch()
    before = model(**given).logits
    for content in (0.0, 1e6, torch.nan):
        given["modality_features"]["poster"][1] = content
        given["modality_features"]["clip"][1, 1:] = content
        assert torch.equal(model(**given).logits, before)
    given["modality_features"]["clip"][1, 0] += 1.0
    assert not torch.equal(model(**given).logits[1], before[1])


def test_a_row_does_not_depend_on_its_batch(tiny_backbone: Path) -> None:
    model, given = mmbt(tiny_backbone), batch()
    alone = {
        **{name: given[name][1:, :3] for name in ("input_ids", "attention_mask", "token_type_ids")},
        "modality_features": {"clip": given["modality_features"]["clip"][1:, 0], "poster": torch.zeros(1, 3)},
        "modality_mask": {"clip": torch.tensor([True]), "poster": torch.tensor([False])},
    }
    torch.testing.assert_close(model(**alone).logits[0], model(**given).logits[1], atol=1e-5, rtol=1e-4)


def test_gradients_reach_all_that_is_to_learn(tiny_backbone: Path) -> None:
    model = mmbt(tiny_backbone, pooling="cls").train()
    output = model(**batch(), labels=torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    output.loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias moves all scores of a query alike, so a softmax has no gradient for it; the pooler is not read.
    assert [name for name in without if "pooler" not in name and ".key.bias" not in name] == []
    assert all(not p.requires_grad for name, p in model.named_parameters() if "pooler" in name)
    loss = nn.functional.binary_cross_entropy_with_logits(output.logits, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(output.loss, loss)


def test_new_weights_learn_at_the_head_s_rate(tiny_backbone: Path) -> None:
    model = mmbt(tiny_backbone)
    arguments = MultimodalTrainingArguments(learning_rate=2e-5, head_learning_rate_multiplier=10.0, use_cpu=True)
    groups = fine_tuning_groups(model, arguments)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert rates[id(model.modality_tokens.projections[0].weight)] == (pytest.approx(2e-4), 0.01)
    assert rates[id(model.modality_tokens.projections[0].bias)] == (pytest.approx(2e-4), 0.0)
    assert rates[id(model.text.classifier.out.weight)] == (pytest.approx(2e-4), 0.01)
    assert rates[id(model.text.encoder.embeddings.word_embeddings.weight)] == (pytest.approx(2e-5), 0.01)
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def test_positions_of_an_encoder_that_counts_from_its_padding() -> None:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
        type_vocab_size=1,
        pad_token_id=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    text = TextClassifier(
        TextClassifierConfig(
            encoder=config, num_labels=2, problem_type="multi_label_classification", pooling="cls", head_dropout=0.0
        ),
        RobertaModel(config, add_pooling_layer=False),
    )
    model = MMBT(text, [Modality("poster", 3)], {"poster": 1}, {}).eval()
    seen = {}
    table = text.encoder.embeddings.position_embeddings
    table.register_forward_hook(lambda module, inputs, output: seen.update(positions=inputs[0]))
    ids = torch.tensor([[0, 7, 8, 2], [0, 9, 2, 1]])
    features, mask = {"poster": torch.randn(2, 3)}, {"poster": torch.tensor([True, True])}
    model(input_ids=ids, attention_mask=(ids != 1).long(), modality_features=features, modality_mask=mask)
    assert seen["positions"].tolist() == [[2, 2, 3, 4, 5], [2, 2, 3, 4, 4]]


def test_an_encoder_without_inputs_embeds_is_refused(tiny_backbone: Path) -> None:
    class TokensOnly(nn.Module):
        pooler = None

        def forward(self, input_ids, attention_mask=None):
            raise NotImplementedError

    text = TextClassifier.from_backbone(str(tiny_backbone), problem_type="regression")
    text.encoder = TokensOnly()
    with pytest.raises(UnsupportedBackboneError, match="TokensOnly does not take"):
        MMBT(text, MODALITIES, {"clip": 1, "poster": 1}, {})


def test_texts_make_room_for_the_modality_tokens(tiny_backbone: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_backbone))
    frame = rows("test", "multi_label_classification", "text")
    frame.loc[0, "plot"] = " ".join(["war love"] * 60)
    preprocessor = Preprocessor.fit(frame, SCHEMA, tokenizer)
    data = {"test": preprocessor.transform(frame)}
    encoder = text_classifier(settings_for(tiny_backbone), preprocessor).encoder
    assert data["test"].lengths.max() == 64
    short = shortened_texts(data, preprocessor, encoder, 10)["test"]
    assert short.lengths.max() == 54
    whole = data["test"].tokens(0)["input_ids"]
    assert short.tokens(0)["input_ids"] == [*whole[:53], tokenizer.sep_token_id]
    assert short.tokens(1) == data["test"].tokens(1)
    assert short.labels is data["test"].labels
    with pytest.raises(ConfigurationError, match="62 modality tokens leave room for 2 tokens of text"):
        shortened_texts(data, preprocessor, encoder, 62)


def test_the_encoder_may_stay_as_it_is_at_first(tiny_backbone: Path, tmp_path: Path) -> None:
    preprocessor, data = prepared(tiny_backbone)
    changed = {}
    for frozen_epochs in (1, 2):
        model = FineTunedText(text_classifier(settings_for(tiny_backbone), preprocessor))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        arguments = MultimodalTrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=2,
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            load_best_model_at_end=False,
        )
        collator = MultimodalCollator(preprocessor.tokenizer)
        fine_tune(
            model,
            preprocessor,
            data,
            arguments,
            collator,
            callbacks=[EncoderFrozenFirst(frozen_epochs, model.encoder_parts())],
        )
        after = model.state_dict()
        changed[frozen_epochs] = {name for name, value in before.items() if not torch.equal(value, after[name])}
        assert all(p.requires_grad for name, p in model.named_parameters() if "pooler" not in name)
    heads = {f"text.classifier.{name}" for name in ("layer_norm.weight", "layer_norm.bias", "out.weight", "out.bias")}
    assert changed[2] == heads
    assert "text.encoder.encoder.layer.0.attention.self.query.weight" in changed[1]


def test_options_that_cannot_be_used(tiny_backbone: Path) -> None:
    for options, problem in (
        ({"tokens_per_modality": 0}, "tokens_per_modality=0 cannot be used"),
        ({"tokens_per_modality": {"clip": "2"}}, "a whole number of at least 1"),
        ({"freeze_encoder_epochs": -1}, "freeze_encoder_epochs=-1 must be"),
        ({"token_per_modality": 3}, "mmbt.token_per_modality is unknown. Did you mean 'tokens_per_modality'?"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            build_method("mmbt", settings_for(tiny_backbone), {}, {}, options)
        assert problem in str(caught.value)


def test_tokens_of_a_modality_that_a_run_does_not_read_are_told(tiny_backbone: Path, tmp_path: Path) -> None:
    told: list[str] = []
    options = {**QUICK["mmbt"], "tokens_per_modality": {"poster": 2, "trailer": 3}}
    method = build_method("mmbt", settings_for(tiny_backbone), {}, {"num_train_epochs": 1, "use_cpu": True}, options)
    method.run(*prepared(tiny_backbone), seed=0, folder=tmp_path, report=told.append)
    assert told[0] == "  tokens_per_modality: this run does not read 'trailer'"
    assert told[1].startswith("  epoch 1 of 1: training loss")


def test_without_modalities_it_is_full_fine_tuning(tiny_backbone: Path) -> None:
    torch.manual_seed(0)
    preprocessor, data = prepared(tiny_backbone)
    text = text_classifier(settings_for(tiny_backbone), preprocessor)
    collated = MultimodalCollator(preprocessor.tokenizer)([data["test"][row] for row in range(4)])
    collated.pop("labels")
    model = MMBT(text.eval(), [], {}, {}).eval()
    torch.testing.assert_close(model(**collated).logits, text(**collated).logits, atol=1e-6, rtol=1e-5)
