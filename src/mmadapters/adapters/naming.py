"""How modalities and members are called in the names of parameters.

A suffix follows the name that a user chose: nn.ModuleDict refuses the names of its own attributes, such as ``type``,
and PEFT wraps every module whose path ends like an entry of ``modules_to_save``, such as ``score``.
"""

from __future__ import annotations

_MODALITY, _MEMBER = "_modality", "_member"


def modality_key(modality_name: str) -> str:
    """Return the key of a modality in a ModuleDict."""
    return modality_name + _MODALITY


def member_key(member_name: str) -> str:
    """Return the key of a member of an AdapterFusion in a ModuleDict."""
    return member_name + _MEMBER


def name_of(key: str) -> str:
    """Return the name that ``modality_key`` or ``member_key`` made a key of."""
    return key.removesuffix(_MODALITY).removesuffix(_MEMBER)
