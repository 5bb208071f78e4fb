"""The example in docs/baselines.md runs, and its tables name the options and the defaults that there are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mmadapters.baselines.fine_tuning import FULL_FINE_TUNING, FULL_FINE_TUNING_LENGTH
from mmadapters.baselines.full_text import FullTextOptions
from mmadapters.baselines.head_search import HeadOptions
from mmadapters.baselines.linear import LogisticRegressionOptions
from mmadapters.baselines.lora_late_fusion import LORA_TRAINING, LoraOptions
from mmadapters.baselines.method import METHODS
from mmadapters.baselines.mmbt import MMBTOptions

TEXT = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")
OWN_OPTIONS = {
    "mmbt": MMBTOptions,
    "full_text_only": FullTextOptions,
    "lora_late_fusion": LoraOptions,
    "late_gmu": HeadOptions,
    "late_concat": HeadOptions,
    "logistic_regression": LogisticRegressionOptions,
}


def test_the_example_runs(tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert 'backbone="minilm"' in code
    names: dict = {}
    exec(compile(code.replace('"minilm"', repr(str(tiny_backbone))), "docs/baselines.md", "exec"), names)
    lines = [line for line in capsys.readouterr().out.splitlines() if " right, " in line]
    assert [line.partition(":")[0] for line in lines] == ["mmbt", "late_gmu", "majority"]
    right = {line.partition(":")[0]: float(line.split()[1]) for line in lines}
    assert right["late_gmu"] > right["majority"]


def test_every_method_is_in_the_table() -> None:
    table = TEXT.partition("## Running one")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(METHODS)


def test_every_option_is_in_the_table() -> None:
    rows = [line.split("|")[1:4] for line in TEXT.partition("## Options")[2].splitlines() if line.startswith("| ")][1:]
    documented: dict[str, dict[str, str]] = {}
    methods: list[str] = []
    for named, options, default in rows:
        methods = re.findall(r"`(\w+)`", named) or methods
        for method in methods:
            for option in re.findall(r"`([\w.]+)`", options):
                documented.setdefault(method, {})[option] = default.strip()
    for method, cls in OWN_OPTIONS.items():
        own = {option for option in documented[method] if not option.startswith("training.")}
        assert own == {entry.name for entry in fields(cls)}, method
    for method, defaults in (
        ("mmbt", {**FULL_FINE_TUNING, **FULL_FINE_TUNING_LENGTH}),
        ("lora_late_fusion", LORA_TRAINING),
    ):
        for option, default in documented[method].items():
            if option.startswith("training."):
                expected = None if default == "none" else float(default)
                assert expected == defaults[option.removeprefix("training.")]
