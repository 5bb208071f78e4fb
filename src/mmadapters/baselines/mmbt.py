"""MMBT: modality vectors as extra tokens of the text encoder, all of which is fine-tuned.

Kiela et al. 2019, Supervised Multimodal Bitransformers for Classifying Images and Text
(https://arxiv.org/abs/1909.02950), with one segment for each modality as Rodríguez-Bribiesca et al. used it on movies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import set_seed

from mmadapters.baselines.fine_tuning import (
    FULL_FINE_TUNING,
    FULL_FINE_TUNING_LENGTH,
    EncoderFrozenFirst,
    fine_tuned_result,
)
from mmadapters.baselines.full_text import check_frozen_epochs, whole_model_bytes
from mmadapters.baselines.modality_tokens import ModalityTokens, Standardiser
from mmadapters.baselines.result import MethodResult, check_splits
from mmadapters.baselines.sections import MODEL, TRAINING, ConfiguredMethod
from mmadapters.baselines.task_model import TaskModel, text_classifier, train_all
from mmadapters.classifier import TextClassifier
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError, UnsupportedBackboneError, listed
from mmadapters.modality import Modality
from mmadapters.training.fit import position_limit

FEWEST_TEXT_TOKENS = 4


@dataclass(frozen=True)
class MMBTOptions:
    """Options of ``mmbt``.

    Attributes:
        tokens_per_modality: Tokens of a modality that is a sequence, for all or by name; a vector is one token.
        standardise: Whether features are standardised by the training rows before their projection.
        freeze_encoder_epochs: First epochs in which only projections, segments and head learn.
    """

    tokens_per_modality: int | dict[str, int] = 1
    standardise: bool = True
    freeze_encoder_epochs: int = 0

    def __post_init__(self) -> None:
        check_frozen_epochs(self.freeze_encoder_epochs)
        counts = self.tokens_per_modality
        for count in counts.values() if isinstance(counts, dict) else [counts]:
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ConfigurationError(
                    f"tokens_per_modality={counts!r} cannot be used. Give a whole number of at least 1, or one for "
                    "each of some modalities: {trailer: 4}."
                )

    def n_tokens(self, modalities: list[Modality]) -> dict[str, int]:
        """Return the number of tokens of each modality."""
        counts = self.tokens_per_modality
        names = [modality.name for modality in modalities]
        return (
            dict.fromkeys(names, counts) if isinstance(counts, int) else {name: counts.get(name, 1) for name in names}
        )

    def not_read(self, modalities: list[Modality]) -> list[str]:
        """Return the names in ``tokens_per_modality`` that are none of the modalities."""
        counts = self.tokens_per_modality
        return [] if isinstance(counts, int) else [name for name in counts if name not in {m.name for m in modalities}]


class MMBT(TaskModel):
    """A text encoder that reads modality tokens between the first token of the text and the others.

    The sequence is ``[CLS] m_1 … m_k w_1 … w_L [SEP]``. Positions count from 0 in each segment, as in the paper; an
    encoder that computes positions itself counts through. A modality token is ``W f + b`` plus a segment embedding of
    its modality (beside that of the encoder's first segment); a missing one is masked out of the attention, so that
    its content has no influence.

    Args:
        text: Encoder, pooling and head. The mean pooling averages text and modality tokens.
        modalities: In the order of their tokens.
        n_tokens: Of each modality that is a sequence.
        standardisers: By modality name; see ``ModalityTokens``.
        targets: (N,) values of the training rows, for a regression.

    Raises:
        UnsupportedBackboneError: If the encoder does not take embeddings instead of tokens.
    """

    def __init__(
        self,
        text: TextClassifier,
        modalities: list[Modality],
        n_tokens: Mapping[str, int],
        standardisers: Mapping[str, Standardiser],
        targets: np.ndarray | None = None,
    ) -> None:
        super().__init__(str(text.config.problem_type), targets)
        self.text = train_all(text)
        encoder: Any = text.encoder
        accepted = inspect.signature(encoder.forward).parameters
        if "inputs_embeds" not in accepted:
            raise UnsupportedBackboneError(
                f"MMBT gives the encoder embeddings (inputs_embeds), which {type(encoder).__name__} does not take. Use "
                "an encoder such as BERT, RoBERTa, ELECTRA or DistilBERT, or another method."
            )
        embeddings = encoder.get_input_embeddings()
        self.modality_tokens = (
            ModalityTokens(modalities, n_tokens, embeddings.embedding_dim, standardisers) if modalities else None
        )
        limit = position_limit(encoder)
        self.first_position: int | None = None
        if limit is not None and "position_ids" in accepted:
            self.first_position = int(encoder.config.max_position_embeddings) - limit

    def new_parts(self) -> list[nn.Module]:
        """Return projections, segments and head."""
        return [self.text.classifier, *([self.modality_tokens] if self.modality_tokens is not None else [])]

    def encoder_parts(self) -> list[nn.Module]:
        """Return the encoder."""
        return [self.text.encoder]

    def output_layer(self) -> nn.Linear:
        """Return the head's last layer."""
        return cast(nn.Linear, self.text.classifier.out)

    def task_logits(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        modality_features: Mapping[str, Tensor] | None = None,
        modality_mask: Mapping[str, Tensor] | None = None,
        **others: Any,
    ) -> Tensor:
        """Return logits (B, C).

        Args:
            input_ids: (B, L)
            attention_mask: (B, L)
            token_type_ids: (B, L), where the encoder has them.
            modality_features: By name (B, D) or (B, T, D).
            modality_mask: By name bool (B,) or (B, T).
            others: Further arguments of the encoder.
        """
        words = self.text.get_input_embeddings()(input_ids)
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        if self.modality_tokens is None:
            tokens, present = words[:, :0], attention_mask[:, :0].bool()
            own_positions = positions.new_zeros(0)
        else:
            tokens, present, own_positions = self.modality_tokens(modality_features or {}, modality_mask or {})
        inputs = {
            **others,
            "inputs_embeds": _after_first(words, tokens.to(words.dtype)),
            "attention_mask": _after_first(attention_mask, present.to(attention_mask.dtype)),
        }
        if token_type_ids is not None:
            inputs["token_type_ids"] = _after_first(token_type_ids, torch.zeros_like(present, dtype=torch.long))
        if self.first_position is not None:
            inserted = own_positions.expand(len(words), -1)
            inputs["position_ids"] = _after_first(positions, inserted) + self.first_position
        return self.text(**inputs).logits


def _after_first(sequence: Tensor, inserted: Tensor) -> Tensor:
    return torch.cat([sequence[:, :1], inserted, sequence[:, 1:]], dim=1)


class MMBTMethod(ConfiguredMethod):
    """MMBT, fully fine-tuned.

    Args:
        model: Backbone, pooling and head.
        adapter: Not read.
        training: The run's training options; learning rates and warm-up are the method's own.
        options: ``training``, ``model`` and the keys of ``MMBTOptions``.
    """

    name = "mmbt"

    sections = (TRAINING, MODEL)
    own_options = MMBTOptions
    defaults = FULL_FINE_TUNING
    weak_defaults = FULL_FINE_TUNING_LENGTH

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Train on text and modalities; see ``Method.run``."""
        check_splits(preprocessor, data)
        own: MMBTOptions = self.settings.own
        modalities = preprocessor.modalities
        if own.not_read(modalities) and report is not None:
            # Not an error: the same options serve runs with fewer modalities.
            report(f"  tokens_per_modality: this run does not read {listed(own.not_read(modalities))}")
        n_tokens = own.n_tokens(modalities)
        standardisers = {m.name: Standardiser.fit(data["train"], m) for m in modalities} if own.standardise else {}
        set_seed(seed)
        text = text_classifier(self.settings.model, preprocessor)
        model = MMBT(text, modalities, n_tokens, standardisers, data["train"].labels)
        return fine_tuned_result(
            model,
            preprocessor,
            shortened_texts(data, preprocessor, text.encoder, sum(n_tokens.values())),
            self.settings.arguments(seed),
            folder,
            report,
            [EncoderFrozenFirst(own.freeze_encoder_epochs, model.encoder_parts())],
            measure=whole_model_bytes,
        )


def shortened_texts(
    data: Mapping[str, MultimodalDataset], preprocessor: Preprocessor, encoder: nn.Module, n_tokens: int
) -> dict[str, MultimodalDataset]:
    """Return the rows with texts that leave room for the modality tokens, as MMBT's authors shorten them.

    Args:
        data: The rows by split.
        preprocessor: Its tokenizer says what ends a text.
        encoder: Has positions for some number of tokens, or computes them for any.
        n_tokens: Most modality tokens of a row.

    Raises:
        ConfigurationError: If hardly anything of a text would be left.
    """
    limit = position_limit(encoder)
    if limit is None or not n_tokens:
        return dict(data)
    room = limit - n_tokens
    if room < FEWEST_TEXT_TOKENS:
        raise ConfigurationError(
            f"{n_tokens} modality tokens leave room for {room} tokens of text, since the encoder has positions for "
            f"{limit}. Lower tokens_per_modality."
        )
    tokenizer = preprocessor.tokenizer
    closing = [token for token in (tokenizer.sep_token_id, tokenizer.eos_token_id) if token is not None]
    return {split: rows.shortened_to(room, closing) for split, rows in data.items()}
