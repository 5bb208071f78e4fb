"""Makes the method known to PEFT; importing this module does it.

``peft.utils.register_peft_method`` refuses names that are not in PEFT's own enumeration, so the method is entered into
the tables that it fills. They are not public: ``tests/adapters/test_register.py`` holds what is relied on, and
pyproject bounds the PEFT version.
"""

from __future__ import annotations

from typing import Any, cast

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from mmadapters.adapters.config import MultimodalAdapterConfig, MultimodalAdapterType
from mmadapters.adapters.model import MultimodalAdapterModel

_KEY = cast(Any, MultimodalAdapterType.MULTIMODAL_ADAPTER)

PEFT_TYPE_TO_CONFIG_MAPPING[_KEY] = MultimodalAdapterConfig
PEFT_TYPE_TO_TUNER_MAPPING[_KEY] = MultimodalAdapterModel
PEFT_TYPE_TO_PREFIX_MAPPING[_KEY] = MultimodalAdapterModel.prefix
