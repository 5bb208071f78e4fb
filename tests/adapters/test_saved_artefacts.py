"""Every encoder and every fusion: saved as an artefact, looked at without memory, and the same when it is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from adapter_models import CASES, MODALITIES, adapter_config, case_modalities, case_model, strong
from encoders import ENCODERS, VOCABULARY_SIZE, classifier
from peft import PeftModel, get_peft_model
from transformers import BertTokenizer

from mmadapters.artefact import Artefact, load_artefact, save_artefact
from mmadapters.backbones import load_tokenizer
from mmadapters.classifier import TextClassifier
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.evaluation.evaluator import predict
from mmadapters.training.fit import ModelSettings

LABELS = ["a", "b", "c"]


def backbone(model_type: str, folder: Path) -> tuple[Path, str]:
    """Write a tiny encoder of a family with a tokenizer, and say how its states are pooled."""
    made = classifier(model_type)
    made.encoder.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(VOCABULARY_SIZE - 5))]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    return folder, made.config.pooling


def rows(names: list[str], sequences: bool) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"text": ["w1 w2", "w3", "w4 w5 w6 w7", ""], "label": [["a"], ["b"], ["c", "a"], []]})
    for modality in MODALITIES:
        if modality.name in names:
            shape = (3, modality.feature_dim) if sequences else (modality.feature_dim,)
            cells = [random.normal(size=shape).astype(np.float32) for _ in range(4)]
            frame[modality.name] = pd.Series([*cells[:3], None], dtype=object)
    return frame


def check_round_trip(model: PeftModel, folder: Path, pooling: str, frame: pd.DataFrame, target: Path) -> None:
    names = [modality.name for modality in model.active_peft_config.modalities]
    schema = DatasetSchema("text", "label", tuple(VectorColumn(name, name) for name in names))
    preprocessor = Preprocessor.fit(frame, schema, load_tokenizer(str(folder)))
    artefact = Artefact(model.eval(), preprocessor, ModelSettings(str(folder), pooling=pooling), batch_size=2)
    loaded = load_artefact(save_artefact(artefact, target))
    first, second = (
        predict(a.model, a.preprocessor.transform(frame), a.collator, a.problem_type, batch_size=2).logits
        for a in (artefact, loaded)
    )
    assert np.array_equal(first, second)
    assert np.ptp(first, axis=0).min() > 0
    assert not [name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("model_type", list(ENCODERS))
def test_every_encoder(model_type: str, tmp_path: Path) -> None:
    folder, pooling = backbone(model_type, tmp_path / "backbone")
    made = TextClassifier.from_backbone(
        str(folder), problem_type="multi_label_classification", labels=LABELS, pooling=pooling
    )
    model = strong(get_peft_model(made, adapter_config(MODALITIES[:1])))
    check_round_trip(model, folder, pooling, rows(["poster"], sequences=False), tmp_path / "model")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone("bert", tmp_path_factory.mktemp("bert"))[0]


@pytest.mark.parametrize("name", list(CASES))
def test_every_fusion(name: str, bert: Path, tmp_path: Path) -> None:
    made = TextClassifier.from_backbone(str(bert), problem_type="multi_label_classification", labels=LABELS)
    model = case_model(name, made)
    sequences = "pooling" in CASES[name] or CASES[name]["fusion"] == "cross_attention"
    names = [modality.name for modality in (MODALITIES if name.startswith("adapter_fusion") else case_modalities(name))]
    check_round_trip(model, bert, "mean", rows(names, sequences), tmp_path / "model")
