"""A trained model and its exported forms, each as a contender that runs one batch again and again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SAVED = "eager"
FORMS: dict[str, dict[str, Any]] = {
    "onnxruntime": {},
    "onnxruntime int8": {"int8": True},
    "openvino": {"runtime": "openvino"},
}
"""The exported forms by name, with what loads them."""
IDS = (1000, 20_000)
"""Of the tokens: whole words of MiniLM's vocabulary."""
COMMAND_OPTIONS = {"onnxruntime int8": ["--int8"], "openvino": ["--runtime", "openvino"]}
COMMAND = """
import sys
from pathlib import Path
from mmadapters.cli.main import main
try:
    main()
except SystemExit as end:
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    raise
"""
"""Runs the command line and tells its peak memory, in kB."""


class ExportedForm:
    """One form of a model with one made-up batch: all texts are of full length and all modalities there.

    Args:
        name: ``eager``, or one of ``FORMS``.
        settings: ``artefact`` and ``exported`` folders, ``threads``, ``rows``, ``tokens``, and perhaps ``ids``.
    """

    parts = ("infer",)

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        rows, tokens = settings["rows"], settings["tokens"]
        if name == SAVED:
            from mmadapters.artefact import load_artefact

            self.model: Any = load_artefact(settings["artefact"])
        else:
            from mmadapters.export import load_exported

            self.model = load_exported(settings["exported"], threads=settings["threads"], **FORMS[name])
        self.eager = name == SAVED
        random = np.random.default_rng(0)
        names = [n for n in self.model.preprocessor.tokenizer.model_input_names if n != "input_ids"]
        self.text = {"input_ids": random.integers(*settings.get("ids", IDS), (rows, tokens))}
        self.text |= {n: np.full((rows, tokens), int(n == "attention_mask"), np.int64) for n in names}
        modalities = self.model.preprocessor.modalities
        self.features = {m.name: random.normal(size=(rows, m.feature_dim)).astype(np.float32) for m in modalities}
        self.masks = {m.name: np.ones(rows, bool) for m in modalities}
        if self.eager:
            import torch

            self.text = {key: torch.from_numpy(value) for key, value in self.text.items()}
            self.features = {key: torch.from_numpy(value) for key, value in self.features.items()}
            self.masks = {key: torch.from_numpy(value) for key, value in self.masks.items()}

    def infer(self) -> np.ndarray:
        """Run the batch, and return the logits."""
        if not self.eager:
            return self.model.infer(self.text, self.features, self.masks)["logits"]
        import torch

        with torch.inference_mode():
            output = self.model.model(**self.text, modality_features=self.features, modality_mask=self.masks)
        return output["logits"].numpy()

    def known(self) -> dict[str, Any]:
        """Return what is known without measuring in turns: nothing."""
        return {}


def run_command(name: str, settings: dict[str, Any]) -> dict[str, float]:
    """Predict a file of rows from the command line in a new process, and return its time and peak memory.

    Args:
        name: ``eager``, or one of ``FORMS``.
        settings: ``artefact`` and ``exported`` folders, ``file`` with rows, ``target``; threads are its own.
    """
    model = settings["artefact"] if name == SAVED else settings["exported"]
    arguments = ["predict", model, settings["file"], "-o", settings["target"], *COMMAND_OPTIONS.get(name, [])]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    if not Path(settings["target"]).is_file():
        raise RuntimeError(f"'{name}' predicted nothing: {process.stderr[-300:]}")
    return {"seconds": round(seconds, 3), "peak_megabytes": round(int(process.stdout.split()[-1]) / 1024)}
