"""Time and memory of a training step: our adapters beside full fine-tuning, LoRA and AdapterHub's text-only adapters.

``python benchmarks/steps.py <folder>`` reads ``<folder>/config.yaml`` and writes ``<folder>/result.json``. A result is
never overwritten: a new experiment is a new folder. Each contender has a process of its own, so that its peak memory is
its own; the processes take turns (A B C A B C …), a few steps a turn, and every time is a median over turns.

AdapterHub's ``adapters`` needs another version of transformers. ``--adapterhub <python>`` names the interpreter of an
environment with ``adapters`` in it; without it, that contender is left out and the result says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ADAPTERHUB = "adapterhub text-only"
PACKAGES = ("mmadapters", "torch", "transformers", "peft", "adapters", "numpy")


def encoder_config(shape: dict[str, Any]) -> Any:
    from transformers import BertConfig

    sizes = {
        "bert-base": {},
        "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536, "num_attention_heads": 12},
    }
    return BertConfig(**sizes[shape["encoder"]])


def make_batch(shape: dict[str, Any], n_labels: int) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    rows, tokens = shape["batch_size"], shape["length"]
    return {
        "input_ids": torch.randint(5, 3000, (rows, tokens), generator=generator),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long),
        "labels": torch.randint(0, 2, (rows, n_labels), generator=generator).float(),
        "features": {
            f"m{place}": torch.randn(rows, width, generator=generator)
            for place, width in enumerate(shape["modalities"])
        },
    }


class Contender:
    """A model with what a step needs; ``step`` and ``infer`` take one batch."""

    def __init__(self, name: str, shape: dict[str, Any], n_labels: int) -> None:
        import torch

        torch.manual_seed(0)
        self.batch = make_batch(shape, n_labels)
        self.features = self.batch.pop("features")
        build = {
            "full fine-tuning": self.full,
            "lora r=8": self.lora,
            "ours text-only": lambda: self.ours(shape, n_labels, modalities=False),
            "ours": lambda: self.ours(shape, n_labels),
            "ours shared": lambda: self.ours(shape, n_labels, share_projections=True),
            "ours last 4": lambda: self.ours(shape, n_labels, layers_to_transform=[-4, -3, -2, -1]),
            "ours last 4, cached": lambda: self.ours(
                shape, n_labels, cached=True, layers_to_transform=[-4, -3, -2, -1]
            ),
            ADAPTERHUB: self.adapterhub,
        }[name]
        self.shape, self.n_labels = shape, n_labels
        self.model = build()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trainable = sum(p.numel() for p in trained)
        self.model.train()
        decays = [[p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]]
        self.optimizer = torch.optim.AdamW([{"params": group} for group in decays], lr=1e-4, fused=True)

    def _bert(self) -> Any:
        from transformers import BertForSequenceClassification

        config = encoder_config(self.shape)
        config.num_labels, config.problem_type = self.n_labels, "multi_label_classification"
        return BertForSequenceClassification(config)

    def full(self) -> Any:
        """MMBT-style: everything learns, the modalities as tokens before the text."""
        import torch
        from torch import nn

        model = self._bert()
        width = model.config.hidden_size
        model.tokens = nn.ModuleList(nn.Linear(size, width) for size in self.shape["modalities"])
        words = model.bert.embeddings.word_embeddings

        def forward(input_ids: Any, attention_mask: Any, labels: Any) -> Any:
            extra = [layer(self.features[f"m{i}"])[:, None] for i, layer in enumerate(model.tokens)]
            # As many tokens as the others: the modalities take the places of the last ones.
            kept = input_ids[:, : input_ids.shape[1] - len(extra)]
            return model(
                inputs_embeds=torch.cat([*extra, words(kept)], 1), attention_mask=attention_mask, labels=labels
            )

        self.call = forward
        return model

    def lora(self) -> Any:
        from peft import LoraConfig, get_peft_model

        return get_peft_model(self._bert(), LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))

    def adapterhub(self) -> Any:
        import adapters
        from adapters import DoubleSeqBnConfig

        model = self._bert()
        adapters.init(model)
        model.add_adapter("task", config=DoubleSeqBnConfig(reduction_factor=model.config.hidden_size / 64))
        model.train_adapter("task")
        return model

    def ours(
        self,
        shape: dict[str, Any],
        n_labels: int,
        modalities: bool = True,
        cached: bool = False,
        **options: Any,
    ) -> Any:
        from peft import get_peft_model
        from transformers import AutoModel

        from mmadapters.adapters.config import MultimodalAdapterConfig
        from mmadapters.classifier import TextClassifier, TextClassifierConfig
        from mmadapters.modality import Modality

        settings = TextClassifierConfig(
            encoder=encoder_config(shape),
            pooling="cls",
            problem_type="multi_label_classification",
            num_labels=n_labels,
        )
        classifier = TextClassifier(settings, AutoModel.from_config(encoder_config(shape)))
        widths = shape["modalities"] if modalities else []
        used = [Modality(f"m{place}", width) for place, width in enumerate(widths)]
        model = get_peft_model(classifier, MultimodalAdapterConfig(modalities=used, task_type="SEQ_CLS", **options))
        if used:
            self.batch["modality_features"] = self.features
        if cached:
            self.cache(model)
        return model

    def cache(self, model: Any) -> None:
        """Start at the first layer with an adapter, from hidden states as the cache on disk gives them."""
        import torch

        from mmadapters.adapters.prefix import FrozenPrefix

        prefix = FrozenPrefix(model)
        prefix.install()
        model.eval()
        with torch.no_grad():
            states = prefix.hidden_states(
                input_ids=self.batch["input_ids"], attention_mask=self.batch["attention_mask"]
            )
        prefix.release()
        self.batch["prefix_states"] = states

    def run(self) -> Any:
        if hasattr(self, "call"):
            return self.call(**self.batch)
        return self.model(**self.batch)

    def step(self) -> None:
        output = self.run()
        (output["loss"] if isinstance(output, dict) else output.loss).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def infer(self) -> None:
        import torch

        self.model.eval()
        with torch.inference_mode():
            self.run()
        self.model.train()


def product_rate(repeats: int = 3) -> float:
    """Floating-point operations a second that a large float32 product reaches here."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    a @ b
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * 2048**3 / median(times)


def worker(name: str, shape: dict[str, Any], n_labels: int, threads: int) -> None:
    """Answer ``step n`` and ``infer n`` with seconds, ``end`` with what is known of the process."""
    import torch

    torch.set_num_threads(threads)
    contender = Contender(name, shape, n_labels)
    contender.step()
    answer("ready")
    for line in sys.stdin:
        what, count = line.split()
        if what == "end":
            break
        call = contender.step if what == "step" else contender.infer
        started = time.perf_counter()
        for _ in range(int(count)):
            call()
        answer((time.perf_counter() - started) / int(count))
    trained = {n: p for n, p in contender.model.named_parameters() if p.requires_grad}
    known = {
        "trainable_parameters": contender.trainable,
        "parameters": sum(p.numel() for p in contender.model.parameters()),
        "file_megabytes": round(sum(p.numel() * p.element_size() for p in trained.values()) / 1e6, 2),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "transformers": version("transformers"),
    }
    answer(known)


def answer(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def matrix_flops(shape: dict[str, Any], full: bool) -> float:
    """Operations of a step's matrix products: forward, gradient to the input, and to the weights where they learn."""
    config = encoder_config(shape)
    width, inner, tokens = config.hidden_size, config.intermediate_size, shape["batch_size"] * shape["length"]
    linear = 2 * tokens * (4 * width * width + 2 * width * inner)
    attention = 4 * tokens * shape["length"] * width
    per_layer = linear * (3 if full else 2) + attention * 3
    return float(config.num_hidden_layers * per_layer)


class Process:
    """A contender's process, waiting for its turn."""

    def __init__(self, python: str, name: str, shape: str, config: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--worker", name, shape, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.read()

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"A contender ended: {self.process.args}")
        return json.loads(line)

    def ask(self, question: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.read()


def spread(times: list[float]) -> dict[str, float]:
    low, _, high = quantiles(times, n=4)
    return {"median": round(median(times), 5), "quartile_1": round(low, 5), "quartile_3": round(high, 5)}


def compare(shape_name: str, config: dict[str, Any], pythons: dict[str, str]) -> dict[str, Any]:
    shape = config["shapes"][shape_name]
    names = [name for name in shape["contenders"] if name != ADAPTERHUB or ADAPTERHUB in pythons]
    processes = {name: Process(pythons.get(name, sys.executable), name, shape_name, config) for name in names}
    times: dict[str, dict[str, list[float]]] = {name: {"step": [], "infer": []} for name in names}
    rates = []
    for _ in range(config["turns"]):
        rates.append(product_rate())
        for what in ("step", "infer"):
            for name, process in processes.items():
                times[name][what].append(process.ask(f"{what} {config['steps_a_turn']}"))
    results = {}
    rate = median(rates)
    reference = config["reference"]
    for name, process in processes.items():
        results[name] = {f"{what}_seconds": spread(times[name][what]) for what in ("step", "infer")} | process.ask(
            "end 0"
        )
        process.process.wait()
        # Of each turn the ratio to the reference in the same turn: what disturbs a turn disturbs both.
        for what in ("step", "infer"):
            ratios = [own / other for own, other in zip(times[name][what], times[reference][what], strict=True)]
            results[name][f"{what}_ratio"] = spread(ratios)
        results[name]["step_to_limit"] = round(
            median(times[name]["step"]) * rate / matrix_flops(shape, name == reference), 3
        )
    for result in results.values():
        result["memory_ratio"] = round(result["peak_megabytes"] / results[reference]["peak_megabytes"], 3)
    return {"product_gigaflops": round(rate / 1e9, 1), "contenders": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adapterhub", help="Python of an environment with the package `adapters`.")
    options = parser.parse_args()
    import torch
    import yaml

    from mmadapters.cli.console import step

    config = yaml.safe_load((options.folder / "config.yaml").read_text(encoding="utf-8"))
    target = options.folder / "result.json"
    if target.exists():
        sys.exit(f"{target} exists. Results are added, never edited: copy the folder under another name.")
    torch.set_num_threads(config["threads"])
    pythons = {ADAPTERHUB: options.adapterhub} if options.adapterhub else {}
    shapes = {}
    for name in config["shapes"]:
        shapes[name] = compare(name, config, pythons)
        step(f"{name}: {json.dumps(shapes[name])}")
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "threads": config["threads"]},
        "versions": {package: installed(package) for package in PACKAGES},
        "left_out": [] if pythons else [ADAPTERHUB],
        "shapes": shapes,
    }
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--worker":
        worker_config = json.loads(sys.argv[4])
        worker(sys.argv[2], worker_config["shapes"][sys.argv[3]], worker_config["labels"], worker_config["threads"])
    else:
        main()
