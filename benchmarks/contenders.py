"""What the speed benchmarks compare: one model each, with a training step and an inference on one fixed batch.

A name may end in ``bf16`` (forward under bfloat16 autocast) or ``compiled`` (``torch.compile``). This file is also run
in AdapterHub's environment, where mmadapters is not installed: what needs it imports it inside of its function.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from names import (
    ADAPTERHUB,
    BF16,
    COMPILED,
    FULL,
    LAST_LAYERS,
    LORA,
    OURS,
    OURS_SHARED,
    OURS_TEXT,
    base_name,
    check_contenders,
)
from processor import BF16_FLAGS, bf16_flags, cpp_compiler
from torch import nn

MULTI_LABEL = "multi_label_classification"

ENCODERS: dict[str, dict[str, int]] = {
    "bert-base": {},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536, "num_attention_heads": 12},
}

OPTIONS: dict[str, dict[str, Any]] = {OURS: {}, OURS_TEXT: {}, OURS_SHARED: {"share_projections": True}}


def encoder_config(shape: dict[str, Any]) -> Any:
    """Return the configuration of a BERT: ``shape["encoder"]`` is one of ``ENCODERS`` or has its sizes."""
    from transformers import BertConfig

    encoder = shape["encoder"]
    return BertConfig(**(ENCODERS[encoder] if isinstance(encoder, str) else encoder))


def make_batch(shape: dict[str, Any]) -> dict[str, Any]:
    """Return random tokens (B, L), labels (B, C) and the features of each modality (B, D)."""
    generator = torch.Generator().manual_seed(0)
    rows, tokens = shape["batch_size"], shape["length"]
    vocabulary = min(3000, encoder_config(shape).vocab_size)
    return {
        "input_ids": torch.randint(5, vocabulary, (rows, tokens), generator=generator),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long),
        "labels": torch.randint(0, 2, (rows, shape["labels"]), generator=generator).float(),
        "features": {
            f"m{place}": torch.randn(rows, width, generator=generator)
            for place, width in enumerate(shape["modalities"])
        },
    }


def why_left_out(name: str, pythons: dict[str, str]) -> str | None:
    """Return why a contender cannot be measured on this machine, or None if it can.

    Args:
        name: The contender.
        pythons: Interpreters of contenders that need an environment of their own, by name.
    """
    name, endings = base_name(name)
    if name == ADAPTERHUB and ADAPTERHUB not in pythons:
        return "no environment with the package `adapters`: `make bench-adapterhub-env` makes one"
    if BF16 in endings and not bf16_flags():
        return f"the processor has none of {', '.join(BF16_FLAGS)}"
    if COMPILED in endings and cpp_compiler() is None:
        return "no C++ compiler"
    return None


class Contender:
    """A model with what a step needs.

    Args:
        name: One of the names that the configurations have.
        shape: ``encoder``, ``batch_size`` B, ``length`` L, ``modalities`` (their widths) and ``labels`` (their number).

    Raises:
        ValueError: If no contender has the name, or the modalities take the places of all tokens.
    """

    parts = ("step", "infer")

    def __init__(self, name: str, shape: dict[str, Any]) -> None:
        check_contenders([name])
        torch.manual_seed(0)
        self.shape = shape
        self.batch = make_batch(shape)
        self.features = self.batch.pop("features")
        self.name, endings = base_name(name)
        self.dtype = torch.bfloat16 if BF16 in endings else torch.float32
        self.model = self._build()
        if not hasattr(self, "call"):
            self.call = self.model
        self.run_eagerly = self.call
        if COMPILED in endings:
            self.call = torch.compile(self.call)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trainable = sum(p.numel() for p in trained)
        self.model.train()
        decays = [[p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]]
        self.optimizer = torch.optim.AdamW([{"params": group} for group in decays if group], lr=1e-4, fused=True)

    def _build(self) -> Any:
        if self.name == FULL:
            return self._full()
        if self.name == LORA:
            return self._lora()
        if self.name == ADAPTERHUB:
            return self._adapterhub()
        if self.name in OPTIONS:
            return self._ours(self.name != OURS_TEXT, **OPTIONS[self.name])
        last = LAST_LAYERS.fullmatch(self.name)
        assert last is not None
        model = self._ours(layers_to_transform=[-place for place in range(int(last["layers"]), 0, -1)])
        if last["cached"]:
            self._cache(model)
        return model

    def _bert(self) -> Any:
        from transformers import BertForSequenceClassification

        config = encoder_config(self.shape)
        config.num_labels, config.problem_type = self.shape["labels"], MULTI_LABEL
        return BertForSequenceClassification(config)

    def _full(self) -> Any:
        """MMBT-style: everything learns, the modalities as tokens before the text."""
        model = self._bert()
        width = model.config.hidden_size
        model.tokens = nn.ModuleList(nn.Linear(size, width) for size in self.shape["modalities"])
        words = model.bert.embeddings.word_embeddings
        # As many tokens as the others: the modalities take the places of the last ones.
        kept = self.shape["length"] - len(model.tokens)
        if kept < 1:
            raise ValueError(f"{len(model.tokens)} modalities leave no token of a text of {self.shape['length']}.")

        def forward(input_ids: Any, attention_mask: Any, labels: Any) -> Any:
            extra = [layer(self.features[f"m{i}"])[:, None] for i, layer in enumerate(model.tokens)]
            embeddings = torch.cat([*extra, words(input_ids[:, :kept])], 1)
            return model(inputs_embeds=embeddings, attention_mask=attention_mask, labels=labels)

        self.call = forward
        return model

    def _lora(self) -> Any:
        from peft import LoraConfig, get_peft_model

        return get_peft_model(self._bert(), LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))

    def _adapterhub(self) -> Any:
        import adapters
        from adapters import DoubleSeqBnConfig

        model = self._bert()
        adapters.init(model)
        model.add_adapter("task", config=DoubleSeqBnConfig(reduction_factor=model.config.hidden_size / 64))
        model.train_adapter("task")
        return model

    def _ours(self, modalities: bool = True, **options: Any) -> Any:
        from peft import get_peft_model
        from transformers import AutoModel

        from mmadapters.adapters.config import MultimodalAdapterConfig
        from mmadapters.classifier import TextClassifier, TextClassifierConfig
        from mmadapters.modality import Modality

        settings = TextClassifierConfig(
            encoder=encoder_config(self.shape),
            pooling="cls",
            problem_type=MULTI_LABEL,
            num_labels=self.shape["labels"],
        )
        classifier = TextClassifier(settings, AutoModel.from_config(encoder_config(self.shape)))
        widths = self.shape["modalities"] if modalities else []
        used = [Modality(f"m{place}", width) for place, width in enumerate(widths)]
        if used:
            self.batch["modality_features"] = self.features
        return get_peft_model(classifier, MultimodalAdapterConfig(modalities=used, task_type="SEQ_CLS", **options))

    def _cache(self, model: Any) -> None:
        """Start at the first layer with an adapter, from hidden states as the cache on disk gives them."""
        from mmadapters.adapters.prefix import FrozenPrefix

        prefix = FrozenPrefix(model)
        prefix.install()
        states = prefix.hidden_states(input_ids=self.batch["input_ids"], attention_mask=self.batch["attention_mask"])
        prefix.release()
        self.batch["prefix_states"] = states

    def precision(self) -> Any:
        """Return the context in which the forward pass runs."""
        return torch.autocast("cpu", dtype=self.dtype) if self.dtype != torch.float32 else nullcontext()

    def run(self, eagerly: bool = False) -> Any:
        """Run the forward pass."""
        with self.precision():
            return (self.run_eagerly if eagerly else self.call)(**self.batch)

    def step(self, eagerly: bool = False) -> None:
        """Make a training step."""
        self.loss(eagerly).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, eagerly: bool = False) -> torch.Tensor:
        """Return the batch's loss."""
        output = self.run(eagerly)
        return output["loss"] if isinstance(output, dict) else output.loss

    def infer(self, eagerly: bool = False) -> None:
        """Run the forward pass as in a prediction."""
        self.model.eval()
        with torch.inference_mode():
            self.run(eagerly)
        self.model.train()

    def save(self, folder: str) -> None:
        """Write what a user would keep of the training."""
        if self.name == ADAPTERHUB:
            self.model.save_adapter(folder, "task", with_head=True)
        else:
            self.model.save_pretrained(folder)

    def saved_bytes(self) -> int:
        """Return the size of what ``save`` writes."""
        with tempfile.TemporaryDirectory(prefix="mmadapters-bench-") as folder:
            self.save(folder)
            return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())

    def known(self) -> dict[str, Any]:
        """Return what is known of the model without measuring."""
        from importlib.metadata import version

        return {
            "trainable_parameters": self.trainable,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "precision": str(self.dtype).removeprefix("torch."),
            "transformers": version("transformers"),
        }
