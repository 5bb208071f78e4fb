"""A saved model predicts the same in another process, and says what is wrong with a broken one."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmadapters.adapters.adapter_fusion import add_adapter_fusion
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.artefact import Artefact, artefact_bytes, load_artefact, save_artefact, weights_digest
from mmadapters.backbones import load_encoder, load_tokenizer
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.errors import ArtefactError
from mmadapters.evaluation.evaluator import predict
from mmadapters.training.fit import HEAD_DROPOUT, ModelSettings, build_model

ROWS = pd.DataFrame(
    {
        "plot": ["war love", "robot", "the dance of a ghost king in the cold night", "", "murder"],
        "labels": [["a"], ["b"], ["a", "c"], [], ["c"]],
        "clip": [[0.1, 0.2, 0.3], None, [1.0, -1.0, 0.5], [9.0, 8.0, 7.0], [0.0, 0.0, 0.1]],
        "year": [1990.0, 2000.0, None, 1970.0, 2010.0],
        "country": ["fr", "us", "us", None, "de"],
    }
)
SCHEMA = DatasetSchema(
    text="plot",
    label="labels",
    modalities=(VectorColumn("clip", "clip"), TabularColumns("table", ("year",), ("country",))),
)
OTHER_PROCESS = """
import hashlib, sys
import pandas as pd
from mmadapters import load_artefact
from mmadapters.evaluation.evaluator import predict
artefact = load_artefact(sys.argv[1])
data = artefact.preprocessor.transform(pd.read_json(sys.argv[2], lines=True), with_labels=False)
logits = predict(artefact.model, data, artefact.collator, artefact.problem_type, batch_size=artefact.batch_size).logits
print(hashlib.sha256(logits.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def artefact(tiny_backbone: Path) -> Artefact:
    torch.manual_seed(0)
    preprocessor = Preprocessor.fit(ROWS, SCHEMA, load_tokenizer(str(tiny_backbone)))
    settings = ModelSettings(backbone=str(tiny_backbone))
    config = MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8)
    model = build_model(preprocessor, settings, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    return Artefact(model.eval(), preprocessor, settings, batch_size=2, metrics={"test": {"micro_f1": 0.5}})


def logits(artefact: Artefact) -> np.ndarray:
    data = artefact.preprocessor.transform(ROWS, with_labels=False)
    return predict(
        artefact.model, data, artefact.collator, artefact.problem_type, batch_size=artefact.batch_size
    ).logits


def test_a_new_process_predicts_bit_for_bit_the_same(artefact: Artefact, tmp_path: Path) -> None:
    folder = save_artefact(artefact, tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    ROWS.to_json(rows, orient="records", lines=True)
    process = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(folder), str(rows)], capture_output=True, text=True, check=True
    )
    assert process.stdout.split()[-1] == hashlib.sha256(logits(artefact).tobytes()).hexdigest()


def test_what_is_saved(artefact: Artefact, tmp_path: Path) -> None:
    folder = save_artefact(artefact, tmp_path / "deep" / "model")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "pipeline.json",
    ]
    assert artefact_bytes(folder) < 200_000
    pipeline = json.loads((folder / "pipeline.json").read_text())
    assert pipeline["format_version"] == 1
    assert pipeline["labels"] == ["a", "b", "c"]
    assert pipeline["versions"]["torch"]
    card = (folder / "README.md").read_text()
    assert "| clip | vector | 3 | column clip |" in card
    assert "| micro F1 | 0.5000 | – |" in card
    loaded = load_artefact(folder)
    assert np.array_equal(logits(loaded), logits(artefact))
    assert (loaded.labels, loaded.batch_size, loaded.metrics) == (["a", "b", "c"], 2, {"test": {"micro_f1": 0.5}})
    # Without a value it is that of adapters, when it is trained further, too.
    assert (pipeline["model"]["head_dropout"], loaded.settings.head_dropout) == (None, None)
    assert loaded.model.config.head_dropout == artefact.model.config.head_dropout == HEAD_DROPOUT


def test_only_the_modalities_that_the_adapter_reads_are_kept(artefact: Artefact, tmp_path: Path) -> None:
    config = MultimodalAdapterConfig(bottleneck_size=8)
    model = build_model(artefact.preprocessor, artefact.settings, config).eval()
    text_only = Artefact(model, artefact.preprocessor, artefact.settings)
    assert [modality.name for modality in artefact.preprocessor.modalities] == ["clip", "table"]
    assert text_only.preprocessor.schema.input_columns == ("plot",)
    assert text_only.collator.modalities == []
    plots = ROWS[["plot"]]
    expected = text_only.preprocessor.transform(ROWS, with_labels=False)[2]
    folder = save_artefact(text_only, tmp_path / "model")
    assert load_artefact(folder).preprocessor.transform(plots, with_labels=False)[2] == expected
    file = folder / "pipeline.json"
    pipeline = json.loads(file.read_text())
    assert pipeline["preprocessor"]["modalities"] == []
    pipeline["preprocessor"] = artefact.preprocessor.to_dict()
    file.write_text(json.dumps(pipeline))
    assert load_artefact(folder).preprocessor.transform(plots, with_labels=False)[2] == expected


def test_thresholds_are_kept_and_an_artefact_without_any_has_a_half(artefact: Artefact, tmp_path: Path) -> None:
    tuned = replace(artefact, thresholds=(0.1, 1 / 3, 0.7))
    folder = save_artefact(tuned, tmp_path / "model")
    loaded = load_artefact(folder)
    assert loaded.thresholds == loaded.decision_thresholds == (0.1, 1 / 3, 0.7)
    assert "(0.10 to 0.70)" in (folder / "README.md").read_text()
    file = folder / "pipeline.json"
    pipeline = json.loads(file.read_text())
    del pipeline["thresholds"]
    file.write_text(json.dumps(pipeline))
    before = load_artefact(folder)
    assert (before.thresholds, before.decision_thresholds) == (None, (0.5, 0.5, 0.5))
    with pytest.raises(ArtefactError, match="2 thresholds were given for 3 labels. Give one per label, or None"):
        replace(artefact, thresholds=(0.1, 0.2))


def test_saving_again_replaces_an_artefact_and_nothing_else(artefact: Artefact, tmp_path: Path) -> None:
    folder = save_artefact(artefact, tmp_path / "model")
    (folder / "stale.txt").write_text("old")
    save_artefact(artefact, folder)
    assert not (folder / "stale.txt").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("precious")
    with pytest.raises(ArtefactError, match="holds no pipeline.json, so it is no artefact and is not replaced"):
        save_artefact(artefact, other)
    assert (other / "chapter.tex").read_text() == "precious"


def test_an_interrupted_save_leaves_the_old_artefact(artefact: Artefact, tmp_path: Path, monkeypatch) -> None:
    folder = save_artefact(artefact, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupted(*args, **kwargs) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmadapters.artefact.saving.write_json_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_artefact(artefact, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_broken_artefacts(artefact: Artefact, tmp_path: Path, tiny_backbone: Path) -> None:
    with pytest.raises(ArtefactError, match="is no artefact: it has no adapter_config.json"):
        load_artefact(tmp_path)
    folder = save_artefact(artefact, tmp_path / "model")
    file = folder / "pipeline.json"
    pipeline = json.loads(file.read_text())
    file.write_text(json.dumps({**pipeline, "format_version": 99}))
    with pytest.raises(ArtefactError, match="has format 99, this version of mmadapters reads up to 1"):
        load_artefact(folder)
    file.write_text("{")
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_artefact(folder)
    file.write_text(json.dumps(pipeline))
    encoder = load_encoder(str(tiny_backbone))
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight[5, 5] += 1e-3
    other = tmp_path / "other"
    encoder.save_pretrained(other)
    artefact.preprocessor.tokenizer.save_pretrained(other)
    with pytest.raises(ArtefactError, match="has other weights"):
        load_artefact(folder, backbone=str(other))


def test_the_digest_is_that_of_the_encoder_alone(artefact: Artefact, tiny_backbone: Path) -> None:
    adapted = artefact.model.get_base_model().encoder
    assert weights_digest(adapted) == weights_digest(load_encoder(str(tiny_backbone)))


def test_one_of_several_adapters_is_an_artefact_of_its_own(artefact: Artefact, tmp_path: Path) -> None:
    model = copy.deepcopy(artefact.model)
    clip, table = artefact.preprocessor.modalities
    own = {"bottleneck_size": 8, "task_type": "SEQ_CLS"}
    model.add_adapter("clip", MultimodalAdapterConfig(modalities=[clip], labels=["x", "y"], **own))
    model.add_adapter("table", MultimodalAdapterConfig(modalities=[table], **own))
    add_adapter_fusion(model, "fused", ["clip", "table"], labels=["p", "q", "r", "s"])
    for name, labels, files in (("fused", ["p", "q", "r", "s"], ["clip", "table"]), ("clip", ["x", "y"], ["clip"])):
        model.set_adapter(name)
        saved = Artefact(model.eval(), artefact.preprocessor, artefact.settings, batch_size=2)
        folder = save_artefact(saved, tmp_path / name)
        assert not [path for path in folder.iterdir() if path.is_dir()]
        loaded = load_artefact(folder)
        assert loaded.labels == saved.labels == labels
        assert [modality.name for modality in loaded.preprocessor.modalities] == files
        assert np.array_equal(logits(loaded), logits(saved))
    assert "fuses `clip`, `table`" in (tmp_path / "fused" / "README.md").read_text()


def test_a_file_in_the_way_is_named(artefact: Artefact, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(ArtefactError, match="out' is a file, so '.*model' cannot be a folder"):
        save_artefact(artefact, tmp_path / "out" / "model")
