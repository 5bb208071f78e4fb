"""A text encoder with pooling and a head: what the adapters are put into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from mmadapters.backbones import PACKAGED_BACKBONES, load_encoder
from mmadapters.errors import ConfigurationError, InputError, did_you_mean, listed

POOLINGS = ("cls", "mean", "last", "pooler")
HEADS = ("linear", "mlp")
PROBLEM_TYPES = ("multi_label_classification", "single_label_classification", "regression")
HEAD_LAYER_NORM_EPS = 1e-12
HEAD_INIT_STD = 0.02
DEFAULT_HEAD_DROPOUT = 0.1
IGNORED_LABEL = -100


class TextClassifierConfig(PreTrainedConfig):
    """Configuration of a ``TextClassifier``.

    Args:
        encoder: Configuration of the text encoder, or its dictionary.
        pooling: ``cls``, ``mean``, ``last`` or ``pooler``.
        head: ``linear`` or ``mlp``.
        head_dropout: Dropout of the pooled vector in training.
        problem_type: One of ``PROBLEM_TYPES``.
    """

    model_type = "mmadapters-text-classifier"
    sub_configs = {"encoder": AutoConfig}

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        pooling: str = "mean",
        head: str = "linear",
        head_dropout: float = DEFAULT_HEAD_DROPOUT,
        problem_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(encoder, dict):
            encoder = AutoConfig.for_model(**encoder)
        self.encoder = encoder
        self.pooling = pooling
        self.head = head
        self.head_dropout = head_dropout
        # PreTrainedConfig hands its own choice of attention on to the configurations inside it.
        kwargs.setdefault("attn_implementation", getattr(encoder, "_attn_implementation", None))
        super().__init__(problem_type=problem_type, **kwargs)
        # Evaluation gathers every output that is not named here.
        self.keys_to_ignore_at_inference = ["pooled", "gates", "hidden_states", "attentions"]


@dataclass
class TextClassifierOutput(ModelOutput):
    """Output of a ``TextClassifier``.

    Attributes:
        loss: Mean loss of the batch, where labels were given.
        logits: (B, C); for regression (B, 1).
        pooled: (B, H) what the head read.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    pooled: Tensor | None = None


class RegressionOutput(nn.Linear):
    """``(W x + b) * target_deviation + target_mean``: W and b are learned in standard deviations of the targets.

    AdamW's steps are of the size of the learning rate, whatever the gradients are, so W and b themselves would not come
    near values of another size. Mean and deviation are buffers, 0 and 1 until a training sets them, and are saved with
    the head.

    Args:
        hidden_size: Width H of what it reads.
    """

    target_mean: Tensor
    target_deviation: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, 1)
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_deviation", torch.ones(()))

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, H) to values (B, 1) in the targets' own unit."""
        return super().forward(input) * self.target_deviation + self.target_mean


def _output_layer(hidden_size: int, num_labels: int, problem_type: str | None) -> nn.Linear:
    return RegressionOutput(hidden_size) if problem_type == "regression" else nn.Linear(hidden_size, num_labels)


class LinearHead(nn.Module):
    """``out(dropout(LayerNorm(pooled)))``.

    Args:
        hidden_size: Width H of the pooled vector.
        num_labels: Number C of outputs.
        dropout: Probability of dropout in training.
        problem_type: Of the task; a regression's output is a ``RegressionOutput``.
    """

    def __init__(
        self, hidden_size: int, num_labels: int, dropout: float = 0.0, problem_type: str | None = None
    ) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(hidden_size, eps=HEAD_LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.out = _output_layer(hidden_size, num_labels, problem_type)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``pooled`` (B, H) to logits (B, C)."""
        return self.out(self.dropout(self.layer_norm(pooled)))


class MLPHead(nn.Module):
    """``out(LayerNorm(gelu(dropout(dense(pooled)))))``, the head of the original Moviescope experiments.

    Args:
        hidden_size: Width H of the pooled vector.
        num_labels: Number C of outputs.
        dropout: Probability of dropout in training.
        problem_type: Of the task; a regression's output is a ``RegressionOutput``.
    """

    def __init__(
        self, hidden_size: int, num_labels: int, dropout: float = 0.0, problem_type: str | None = None
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(hidden_size, eps=HEAD_LAYER_NORM_EPS)
        self.out = _output_layer(hidden_size, num_labels, problem_type)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``pooled`` (B, H) to logits (B, C)."""
        return self.out(self.layer_norm(F.gelu(self.dropout(self.dense(pooled)), approximate="tanh")))


class TextClassifier(PreTrainedModel):
    """Any ``AutoModel`` text encoder with pooling and a classification or regression head.

    Adapters are put into it by ``peft.get_peft_model(classifier, MultimodalAdapterConfig(…, task_type="SEQ_CLS"))``;
    the head is then trained and saved with them, and the encoder stays frozen.

    Args:
        config: See ``TextClassifierConfig``.
        encoder: The encoder to use; without one it is made from ``config.encoder`` with random weights.

    Raises:
        ConfigurationError: If pooling, head or problem type is unknown, or the encoder has no pooler for
            ``pooling="pooler"``.
    """

    config_class = TextClassifierConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: TextClassifierConfig, encoder: nn.Module | None = None) -> None:
        super().__init__(config)
        _check(config)
        self.encoder = encoder if encoder is not None else AutoModel.from_config(config.encoder)
        if config.pooling == "pooler" and getattr(self.encoder, "pooler", None) is None:
            raise ConfigurationError(
                f"pooling='pooler' was given, but {type(self.encoder).__name__} has no pooler. Use 'cls' or 'mean'."
            )
        self.classifier = self._head(config.num_labels, config.problem_type)
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        backbone: str,
        *,
        problem_type: str,
        labels: Sequence[str] | None = None,
        pooling: str = "mean",
        head: str = "linear",
        head_dropout: float | None = None,
        **loading: Any,
    ) -> TextClassifier:
        """Make a classifier around a pre-trained encoder, with a newly drawn head.

        Args:
            backbone: An alias (``minilm``), a local folder or the name of a model on the Hub.
            problem_type: ``multi_label_classification``, ``single_label_classification`` or ``regression``.
            labels: The label names in the order of the logits; none for regression.
            pooling: ``cls`` (first token), ``mean`` (valid tokens), ``last`` (last valid token, for decoders) or
                ``pooler`` (the encoder's own, frozen).
            head: ``linear`` (behind a LayerNorm) or ``mlp``.
            head_dropout: Dropout of the head in training; 0.1 without a value.
            loading: ``revision`` and ``safetensors_only`` of ``mmadapters.backbones.load_encoder``.
        """
        encoder = load_encoder(backbone, **loading)
        names = list(labels) if labels else ["value"]
        config = TextClassifierConfig(
            encoder=encoder.config,
            pooling=pooling,
            head=head,
            head_dropout=DEFAULT_HEAD_DROPOUT if head_dropout is None else head_dropout,
            problem_type=problem_type,
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
        )
        classifier = cls(config, encoder)
        # PEFT looks for the base model's config.json under this name; an alias is none of its names.
        classifier.name_or_path = "" if backbone in PACKAGED_BACKBONES else backbone
        return classifier.eval()

    def new_head(self, num_labels: int | None = None, problem_type: str | None = None) -> nn.Module:
        """Return a newly drawn head for another task on the same encoder.

        Args:
            num_labels: Number of its outputs; without a value the model's own.
            problem_type: Of the task, where it is another; a regression has one output.

        Raises:
            ConfigurationError: If the problem type is unknown.
        """
        if problem_type is not None:
            _check_choice("problem_type", problem_type, PROBLEM_TYPES)
        problem_type = problem_type or self.config.problem_type
        width = 1 if problem_type == "regression" else num_labels or self.config.num_labels
        head = self._head(width, problem_type)
        head.apply(self._init_weights)
        return head.train(self.training)

    def _head(self, num_labels: int, problem_type: str | None) -> nn.Module:
        head = {"linear": LinearHead, "mlp": MLPHead}[self.config.head]
        hidden_size = int(getattr(self.config.encoder, "hidden_size"))  # noqa: B009
        return head(hidden_size, num_labels, self.config.head_dropout, problem_type)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw a module of the head: N(0, 0.02²) with zero biases. The encoder initialises itself."""
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=HEAD_INIT_STD)
            init.zeros_(module.bias)
            if isinstance(module, RegressionOutput):
                init.zeros_(module.target_mean)
                init.ones_(module.target_deviation)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's token embeddings."""
        return cast(Any, self.encoder).get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TextClassifierOutput:
        """Classify.

        Args:
            input_ids: (B, L) token ids.
            attention_mask: (B, L), 1 at valid tokens; without it every token is valid.
            token_type_ids: (B, L), for encoders that have them.
            inputs_embeds: (B, L, H) instead of ``input_ids``.
            labels: Multi-label: floats (B, C). Single-label: integers (B,), -100 is ignored. Regression: floats (B,).
            kwargs: Further arguments of the encoder.
        """
        arguments = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "inputs_embeds": inputs_embeds,
            **kwargs,
        }
        arguments.pop("return_dict", None)
        encoded = self.encoder(**{name: value for name, value in arguments.items() if value is not None})
        pooled = self._pool(encoded, attention_mask)
        logits = self.classifier(pooled.to(self._head_dtype()))
        # An adapter may have a task of its own: see mmadapters.adapters.heads.
        problem_type = getattr(self.classifier, "active_problem_type", None) or self.config.problem_type
        loss = None if labels is None else classification_loss(logits, labels, problem_type)
        return TextClassifierOutput(loss=loss, logits=logits, pooled=pooled)

    def _pool(self, encoded: Any, attention_mask: Tensor | None) -> Tensor:
        if self.config.pooling == "pooler":
            return encoded.pooler_output
        states = encoded.last_hidden_state
        if self.config.pooling == "cls":
            return states[:, 0]
        if self.config.pooling == "last":
            if attention_mask is None:
                return states[:, -1]
            positions = torch.arange(states.shape[1], device=states.device) * attention_mask
            return states[torch.arange(states.shape[0], device=states.device), positions.argmax(dim=1)]
        if attention_mask is None:
            return states.mean(dim=1)
        weights = attention_mask.to(states.dtype)[..., None]
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)

    def _head_dtype(self) -> torch.dtype:
        return next(self.classifier.parameters()).dtype


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    problem_type: str,
    class_weights: Tensor | None = None,
    normaliser: Tensor | float | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of a batch.

    Multi-label: binary cross-entropy, averaged over examples and labels. Single-label: cross-entropy, averaged over
    the examples whose label is not -100. Regression: squared error.

    Args:
        logits: (B, C); for regression (B, 1).
        labels: (B, C), (B,) or (B,), as ``TextClassifier.forward`` takes them.
        problem_type: One of ``PROBLEM_TYPES``.
        class_weights: (C,), the weight of a label's positives (multi-label) or of a class's examples (single-label).
        normaliser: What the summed loss is divided by instead of the number of its terms, for gradient accumulation:
            the number of terms of all batches of a step.
        label_smoothing: Share s of each target that is spread evenly: multi-label ``y (1 - s) + s / 2``, single-label
            s over all classes (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567). Not looked at for regression.

    Raises:
        InputError: If the labels' shape does not fit the logits.
    """
    weights = None if class_weights is None else class_weights.to(logits)
    if problem_type == "multi_label_classification":
        _check_label_shape(labels, tuple(logits.shape), problem_type)
        targets = labels.to(logits) * (1.0 - label_smoothing) + 0.5 * label_smoothing
        total = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="sum")
    elif problem_type == "single_label_classification":
        _check_label_shape(labels, tuple(logits.shape[:1]), problem_type)
        total = F.cross_entropy(
            logits,
            labels,
            weight=weights,
            ignore_index=IGNORED_LABEL,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
    else:
        _check_label_shape(labels, tuple(logits.shape[:1]), problem_type)
        total = F.mse_loss(logits.squeeze(-1), labels.to(logits), reduction="sum")
    return total / (normaliser if normaliser is not None else loss_terms(labels, problem_type).clamp(min=1))


def loss_terms(labels: Tensor, problem_type: str) -> Tensor:
    """Return the number of terms that a batch's loss is the mean of, as an integer tensor."""
    if problem_type == "single_label_classification":
        return (labels != IGNORED_LABEL).sum()
    return torch.tensor(labels.numel(), device=labels.device)


def _check_label_shape(labels: Tensor, expected: tuple[int, ...], problem_type: str) -> None:
    if tuple(labels.shape) != expected:
        raise InputError(f"labels have the shape {tuple(labels.shape)}. For {problem_type} it must be {expected} here.")


def _check_choice(name: str, value: Any, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise ConfigurationError(
            f"{name}={value!r} is unknown. Accepted are {listed(accepted)}.{did_you_mean(str(value), accepted)}"
        )


def _check(config: TextClassifierConfig) -> None:
    for name, accepted in (("pooling", POOLINGS), ("head", HEADS), ("problem_type", PROBLEM_TYPES)):
        _check_choice(name, getattr(config, name), accepted)
    if config.encoder is None:
        raise ConfigurationError(
            "A TextClassifierConfig needs the configuration of its encoder: encoder=AutoConfig(…)."
        )
    if not 0.0 <= config.head_dropout < 1.0:
        raise ConfigurationError(f"head_dropout={config.head_dropout!r} must be at least 0 and below 1.")
