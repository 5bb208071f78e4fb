"""The artefacts that the tests of sharing push and load."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures" / "artefact_0_1"
BACKBONE = str(FIXTURES / "backbone")
FILES = ["README.md", "adapter_config.json", "adapter_model.safetensors", "pipeline.json"]
