"""The tokenizer of an exported model gives the tokens of the one that it was written from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.padding import pad_tokens
from mmadapters.errors import ArtefactError
from mmadapters.export.tokenizer import FileTokenizer, describe_tokenizer, write_tokenizer

WORDS = [
    "war",
    "space",
    "love",
    "[SEP]",
    "[MASK]",
    "ghosts",
    "ΑΒγ",
    "naïve",
    "1984",
    "\u200b",
    "  ",
    "漢字",
    "!?",
    "\n",
]
TEXTS = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer like RoBERTa's, which pads and cuts on the left and has no token types."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["war of love and space", "a ghost at night"], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        padding_side="left",
        truncation_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="module", params=["wordpiece", "byte level"])
def both(request: pytest.FixtureRequest, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    original = byte_level() if request.param == "byte level" else AutoTokenizer.from_pretrained(tiny_backbone)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    # What was asked of it before is not to be in the file.
    original(["war love space"], truncation=True, max_length=3, padding="max_length")
    write_tokenizer(original, file)
    return original, FileTokenizer(file, describe_tokenizer(original, original.model_input_names))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), others=st.lists(TEXTS, min_size=4, max_size=4), data=st.data())
def test_any_text_and_any_pair(both: tuple, texts: list[str], others: list[str], data: st.DataObject) -> None:
    original, written = both
    length = data.draw(st.integers(5, 20))
    pairs = data.draw(st.booleans())
    given_texts = (texts, others[: len(texts)]) if pairs else (texts,)
    expected = original(*given_texts, truncation=True, max_length=length, padding=False)
    found = written(*given_texts, truncation=True, max_length=length, padding=False)
    assert found == {name: expected[name] for name in original.model_input_names}
    rows = [{name: found[name][row] for name in found} for row in range(len(texts))]
    padded = pad_tokens(rows, written.padding, written.padding_side)
    batch = MultimodalCollator(original)(rows)
    assert {name: array.tolist() for name, array in padded.items()} == {n: batch[n].tolist() for n in padded}


def test_the_original_goes_on_as_before(tiny_backbone: Path, tmp_path: Path) -> None:
    original = AutoTokenizer.from_pretrained(tiny_backbone)
    original(["war"], truncation=True, max_length=3, padding="max_length")
    before = original.backend_tokenizer.to_str()
    write_tokenizer(original, tmp_path / "tokenizer.json")
    assert original.backend_tokenizer.to_str() == before


def test_what_cannot_be_written(tmp_path: Path) -> None:
    class InPython:
        pad_token_id = 0

    with pytest.raises(ArtefactError, match="is a InPython, which has no form that the package 'tokenizers' runs"):
        write_tokenizer(InPython(), tmp_path / "tokenizer.json")
    with pytest.raises(ArtefactError, match="The model reads 'bbox' of its tokenizer"):
        describe_tokenizer(BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1}), ["input_ids", "bbox"])


def test_nothing_is_padded_or_left_uncut(both: tuple) -> None:
    with pytest.raises(ValueError, match="always cuts texts and never pads"):
        both[1](["war"], max_length=5, padding=True)
