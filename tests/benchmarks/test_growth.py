"""How time and memory grow: which sizes a point has, and training from files of many rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import growth
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from experiment import read_config
from growth import comparison_at, measure_axis, rows_comparison_at, shape_at
from rows import LABELS, InMemoryRows, write_rows
from turns import Comparison

from mmadapters.data.files import read_rows

ROOT = Path(__file__).parents[2]
SHAPE = {"encoder": "minilm", "batch_size": 4, "length": 64, "modalities": [512, 96], "labels": 13}


@pytest.mark.parametrize(
    ("axis", "value", "changed"),
    [
        ("length", 256, {"length": 256}),
        ("batch_size", 1, {"batch_size": 1}),
        ("labels", 10_000, {"labels": 10_000}),
        ("modalities", 3, {"modalities": [32, 32, 32]}),
        ("modalities", 0, {"modalities": []}),
        ("width", 4096, {"modalities": [4096, 4096]}),
    ],
)
def test_a_point_differs_in_one_size(axis: str, value: int, changed: dict[str, Any]) -> None:
    assert shape_at(SHAPE, axis, value, width=32) == {**SHAPE, **changed}
    assert SHAPE["modalities"] == [512, 96]


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no axis 'tokens'. Accepted are length, .* labels and rows"):
        shape_at(SHAPE, "tokens", 5)


def test_every_point_of_the_configuration_can_be_measured() -> None:
    config = read_config(ROOT / "benchmarks" / "growth")
    assert set(config["axes"]) == {"length", "batch_size", "modalities", "width", "labels", "rows"}
    for axis, settings in config["axes"].items():
        assert settings["values"] == sorted(set(settings["values"]))
        for value in settings["values"] if axis != "rows" else []:
            made = comparison_at(config, axis, value)
            assert made.reference in made.specifications
            shape = made.specifications["ours"]["shape"]
            assert len(shape["modalities"]) < shape["length"]
    made = rows_comparison_at(config, Path("rows.parquet"))
    assert made.parts == ("step", "batch")
    assert made.reference == "in memory"
    assert made.specifications["in memory"]["rows"]["path"] == "rows.parquet"


def test_an_axis_is_measured_point_by_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(comparison: Comparison) -> dict[str, Any]:
        (specification,) = comparison.specifications.values()
        if "rows" in specification:
            return {"rows_of_the_file": len(read_rows(specification["rows"]["path"]))}
        return {"length": specification["shape"]["length"]}

    monkeypatch.setattr(growth.Comparison, "run", run)
    axes = {
        "length": {"values": [8, 16]},
        "rows": {
            "values": [20, 30],
            "contenders": ["in memory"],
            "backbone": "x",
            "words": 3,
            "widths": [2],
            "batch_size": 4,
        },
    }
    config = {"shape": SHAPE, "contenders": ["ours"], "reference": "ours", "threads": 1, "turns": 1}
    config |= {"steps_a_turn": 1, "axes": axes}
    assert measure_axis(config, "length") == {"points": [{"value": 8, "length": 8}, {"value": 16, "length": 16}]}
    assert measure_axis(config, "rows")["points"] == [
        {"value": 20, "rows_of_the_file": 20},
        {"value": 30, "rows_of_the_file": 30},
    ]


def test_a_file_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rows.ROWS_A_GROUP", 20)
    path = write_rows(tmp_path / "rows.parquet", 50, n_words=4, widths=[3, 2])
    frame = pd.read_parquet(path)
    assert list(frame["label"]) == [LABELS[row % len(LABELS)] for row in range(50)]
    assert set(frame["text"].str.split().str.len()) == {4}
    vectors = np.stack(frame["vector 0"].to_list())
    assert vectors.shape == (50, 3)
    assert abs(float(vectors.mean())) < 0.3
    # Each group of rows is drawn anew.
    assert not np.array_equal(vectors[:20], vectors[20:40])
    again = pd.read_parquet(write_rows(tmp_path / "again.parquet", 50, n_words=4, widths=[3, 2]))
    assert np.array_equal(np.stack(again["vector 1"].to_list()), np.stack(frame["vector 1"].to_list()))


def test_training_from_rows_in_memory(tmp_path: Path, tiny_backbone: Path) -> None:
    path = write_rows(tmp_path / "rows.parquet", 40, n_words=4, widths=[6])
    settings = {"path": str(path), "widths": [6], "backbone": str(tiny_backbone), "batch_size": 16}
    contender = InMemoryRows(settings)
    sizes = [len(contender.batch()["labels"]) for _ in range(6)]
    # Two epochs of 40 rows: the loader begins again, and every row is in one batch of an epoch.
    assert sorted(sizes[:3]) == sorted(sizes[3:]) == [8, 16, 16]
    assert contender.batch()["modality_features"]["m0"].shape[1] == 6
    before = {name: value.clone() for name, value in contender.trainer.model.named_parameters()}
    contender.step()
    for name, value in contender.trainer.model.named_parameters():
        assert value.requires_grad or torch.equal(value, before[name])
    assert any(not torch.equal(value, before[name]) for name, value in contender.trainer.model.named_parameters())
    assert contender.known()["prepare_seconds"] > 0


@pytest.mark.slow
def test_a_measurement_from_start_to_end(tmp_path: Path, tiny_backbone: Path) -> None:
    encoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    rows = {"contenders": ["in memory"], "backbone": str(tiny_backbone), "words": 3, "widths": [4], "batch_size": 8}
    config = {
        "runner": "growth",
        "threads": 1,
        "turns": 2,
        "steps_a_turn": 1,
        "reference": "full fine-tuning",
        "contenders": ["full fine-tuning", "ours"],
        "shape": {**SHAPE, "encoder": encoder | {"vocab_size": 50}, "batch_size": 2, "length": 8, "modalities": [4]},
        "axes": {"modalities": {"values": [0, 2], "width": 4}, "rows": {"values": [100, 60_000]} | rows},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    subprocess.run([sys.executable, growth.__file__, str(tmp_path)], check=True)
    axes = json.loads((tmp_path / "result.json").read_text())["axes"]
    without, both = axes["modalities"]["points"]
    assert without["contenders"]["ours"]["trainable_parameters"] < both["contenders"]["ours"]["trainable_parameters"]
    few, many = (point["contenders"]["in memory"] for point in axes["rows"]["points"])
    # 60,000 texts with vectors and labels; while they are prepared, the frame is there beside them.
    assert many["peak_megabytes"] > few["peak_megabytes"] + 20
    assert not (tmp_path / "partial.json").exists()
