"""What is relied on in PEFT's tables, which are no public interface."""

from __future__ import annotations

import json
from pathlib import Path

from adapter_models import adapted
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from mmadapters.adapters.config import MultimodalAdapterConfig, MultimodalAdapterType
from mmadapters.adapters.model import MultimodalAdapterModel


def test_the_tables_hold_the_method() -> None:
    key = MultimodalAdapterType.MULTIMODAL_ADAPTER
    assert PEFT_TYPE_TO_CONFIG_MAPPING[key] is MultimodalAdapterConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING[key] is MultimodalAdapterModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING[key] == "mmadapter_"
    assert PEFT_TYPE_TO_CONFIG_MAPPING["MULTIMODAL_ADAPTER"] is MultimodalAdapterConfig


def test_a_saved_configuration_names_the_method(tmp_path: Path) -> None:
    adapted().save_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "MULTIMODAL_ADAPTER"
    assert isinstance(PeftConfig.from_pretrained(str(tmp_path)), MultimodalAdapterConfig)
