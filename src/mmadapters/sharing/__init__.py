"""Artefacts on the Hugging Face Hub: ``push_to_hub`` and ``from_pretrained``."""

from mmadapters.sharing.pretrained import from_pretrained
from mmadapters.sharing.push import push_to_hub

__all__ = ["from_pretrained", "push_to_hub"]
