"""The saved form of a trained model: a folder of a few MB that predicts the same in another process.

==============================  ==================================================================================
``adapter_config.json``         the adapters' configuration, PEFT's
``adapter_model.safetensors``   adapters and head, PEFT's
``pipeline.json``               the backbone and a digest of its weights, labels, preprocessing, versions, what was
                                measured
``README.md``                   the model card
==============================  ==================================================================================

A folder may have come from anywhere, so everything in it is looked at before anything is made of it; see ``loading``.
"""

from mmadapters.artefact.files import CARD_FILE, FILES, PIPELINE_FILE
from mmadapters.artefact.finding import FoundArtefact, find_artefact
from mmadapters.artefact.loading import load_artefact, read_artefact
from mmadapters.artefact.model import Artefact, weights_digest
from mmadapters.artefact.pipeline_file import FORMAT_VERSION
from mmadapters.artefact.record import training_record, training_settings
from mmadapters.artefact.saving import artefact_bytes, card_of, check_may_be_written, describe_pipeline, save_artefact

__all__ = [
    "CARD_FILE",
    "FILES",
    "FORMAT_VERSION",
    "PIPELINE_FILE",
    "Artefact",
    "FoundArtefact",
    "artefact_bytes",
    "card_of",
    "check_may_be_written",
    "describe_pipeline",
    "find_artefact",
    "load_artefact",
    "read_artefact",
    "save_artefact",
    "training_record",
    "training_settings",
    "weights_digest",
]
