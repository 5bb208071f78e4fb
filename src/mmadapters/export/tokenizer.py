"""The tokenizer of an exported model: one file, run by the package ``tokenizers`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmadapters.errors import ArtefactError, listed

OUTPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""What a model may read of a tokenizer, and what ``tokenizers`` calls it."""
SIDES = ("left", "right")


class FileTokenizer:
    """Tokenises as the ``transformers`` tokenizer did that it was written from.

    Args:
        file: A ``tokenizer.json``.
        described: What ``describe_tokenizer`` returned.

    Raises:
        ArtefactError: If the file cannot be read.
    """

    def __init__(self, file: Path, described: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        # The package raises a bare Exception for whatever it cannot read.
        except Exception as error:
            raise ArtefactError(
                f"'{file}' is no tokenizer that can be read: {error}. Export the model again."
            ) from error
        self.model_input_names = [str(name) for name in described["model_input_names"]]
        self.padding = {name: int(described["padding"][name]) for name in self.model_input_names}
        self.padding_side = str(described["padding_side"])
        self.truncation_side = str(described["truncation_side"])

    def __call__(
        self, *texts: Sequence[str], truncation: bool = True, max_length: int, padding: bool = False
    ) -> dict[str, list[list[int]]]:
        """Tokenise N texts, or N pairs.

        Args:
            texts: The texts; two lists for pairs.
            truncation: Texts are always cut.
            max_length: To so many tokens, special ones included; of a pair the longer text first.
            padding: Nothing is padded here.

        Returns:
            For each model input N lists of whole numbers.
        """
        if not truncation or padding:
            raise ValueError("FileTokenizer always cuts texts and never pads them.")
        self._tokenizer.enable_truncation(max_length, strategy="longest_first", direction=self.truncation_side)
        given = list(texts[0]) if len(texts) == 1 else list(zip(*texts, strict=True))
        encoded = self._tokenizer.encode_batch(given)
        return {name: [getattr(row, OUTPUTS[name]) for row in encoded] for name in self.model_input_names}


def describe_tokenizer(tokenizer: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return what ``tokenizer.json`` does not hold, as plain values.

    Args:
        tokenizer: Of ``transformers``.
        names: Its outputs that the model reads.

    Raises:
        ArtefactError: If the model reads something else of it than the tokens, their mask and types.
    """
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise ArtefactError(
            f"The model reads {listed(unknown)} of its tokenizer, and an exported one gives {listed(OUTPUTS)} only."
        )
    values = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id, "attention_mask": 0}
    return {
        "model_input_names": list(names),
        "padding": {name: values[name] for name in names},
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
    }


def write_tokenizer(tokenizer: Any, file: Path) -> None:
    """Write a tokenizer as one file that needs no ``transformers``.

    Args:
        tokenizer: Of ``transformers``.
        file: Where to.

    Raises:
        ArtefactError: If it is written in Python and has no such form.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ArtefactError(
            f"The tokenizer is a {type(tokenizer).__name__}, which has no form that the package 'tokenizers' runs. Use "
            "the encoder's fast tokenizer, with a tokenizer.json in its folder."
        )
    # A copy: cutting and padding are switched off in the file alone.
    copied = Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    copied.save(str(file))


def check_described(described: Any) -> None:
    """Refuse a description that ``describe_tokenizer`` did not write.

    Raises:
        ArtefactError: Says what is wrong.
    """
    names = described.get("model_input_names") if isinstance(described, Mapping) else None
    fine = (
        isinstance(names, list)
        and names[:1] == ["input_ids"]
        and set(names) <= set(OUTPUTS)
        and set(described.get("padding", ())) == set(names)
        and all(isinstance(value, int) for value in described["padding"].values())
        and described.get("padding_side") in SIDES
        and described.get("truncation_side") in SIDES
    )
    if not fine:
        raise ArtefactError("pipeline.json describes the tokenizer in a way that is unknown. Export the model again.")
