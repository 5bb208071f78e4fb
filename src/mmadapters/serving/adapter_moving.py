"""Adapters that were saved apart, put into one backbone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from mmadapters.adapters.naming import modality_key
from mmadapters.artefact import Artefact
from mmadapters.errors import ArtefactError, listed
from mmadapters.modality import Modality


def new_names(artefact: Artefact, there: Mapping[str, Modality], number: int) -> dict[str, str]:
    """Return new names for modalities that are called like others, of another width, in the same backbone.

    Rows of several adapters share a batch, in which a name stands for one tensor.

    Args:
        artefact: What is to be put there.
        there: The modalities in the backbone, by name.
        number: Makes the names new.
    """
    names = {}
    for modality in artefact.model.active_peft_config.modalities:
        other = there.get(modality.name)
        if other is not None and other.feature_dim != modality.feature_dim:
            names[modality.name] = f"{modality.name}-{number}"
            while names[modality.name] in there:
                names[modality.name] += "_"
    return names


def move_adapter(artefact: Artefact, model: PeftModel, adapter: str, names: Mapping[str, str]) -> None:
    """Put the adapter of a loaded artefact, with its head, into another model of the same backbone.

    Args:
        artefact: What was loaded.
        model: Where its adapter goes.
        adapter: What it is called there.
        names: What modalities are called there, of those that get another name.

    Raises:
        ArtefactError: If the weights do not fit.
    """
    own = str(artefact.model.active_adapter)
    config = copy.deepcopy(artefact.model.peft_config[own])
    config.labels, config.problem_type = list(artefact.labels), artefact.problem_type
    config.modalities = [replace(m, name=names.get(m.name, m.name)) for m in config.modalities]
    # PEFT enters the head again as it adds the adapter.
    model.add_adapter(adapter, config)
    weights = get_peft_model_state_dict(artefact.model, adapter_name=own, save_embedding_layers=False)
    keys = {modality_key(old): modality_key(new) for old, new in names.items()}
    weights = {".".join(keys.get(part, part) for part in key.split(".")): value for key, value in weights.items()}
    outcome = set_peft_model_state_dict(model, weights, adapter_name=adapter)
    own_missing = [key for key in outcome.missing_keys if f".{adapter}." in key]
    if outcome.unexpected_keys or own_missing:
        odd = [*outcome.unexpected_keys, *own_missing][:3]
        raise ArtefactError(f"An adapter does not fit into the backbone of another: {listed(odd)}.")
    model.eval()
    model.to(next(model.parameters()).device)
