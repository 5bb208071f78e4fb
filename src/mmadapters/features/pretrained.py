"""Frozen transformers encoders: loaded with all of their weights or not at all, and pooled to one vector."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmadapters.errors import ConfigurationError

_POOLER_PARTS = ("pooler", "head")
_ONLY_IN_TRAINING = ("mask_token", "masked_spec_embed")
_FIRST_TOKENS = ("cls_token", "class_embedding")


def choose_device(device: str | None) -> torch.device:
    """Return the named device, or CUDA where there is any and else the CPU.

    Raises:
        ConfigurationError: If there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device={device!r} cannot be used: {reason}. Give 'cpu' or 'cuda:0'.") from error


@dataclass(frozen=True)
class Pooling:
    """How an encoder's output becomes one vector an item.

    Attributes:
        name: ``pooler``, ``cls`` or ``mean``.
    """

    name: str

    def __call__(self, output: Any) -> torch.Tensor:
        """Return float32 (N, D) of a model output."""
        if self.name == "pooler":
            return output.pooler_output.flatten(1)
        states = output.last_hidden_state
        if states.ndim == 4:
            return states.mean(dim=(2, 3))
        return states[:, 0] if self.name == "cls" else states.mean(dim=1)


class PretrainedEncoder:
    """A frozen transformers model, its vision part where it also has a text part.

    Args:
        name: A local folder or the name of a model on the Hub.
        revision: Branch, tag or commit on the Hub.
        device: Where it runs.

    Attributes:
        model: The module, in evaluation mode and float32.
        missing: Its weights that the checkpoint lacks: of a pooler, or of masks that only training uses.

    Raises:
        ConfigurationError: If it cannot be loaded, or the checkpoint lacks weights of other parts than a pooler.
    """

    def __init__(self, name: str, revision: str | None, device: torch.device) -> None:
        from transformers import AutoModel

        try:
            model, info = AutoModel.from_pretrained(
                name, revision=revision, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigurationError(
                f"The encoder '{name}' cannot be loaded: {_first_line(error)} Give a folder that save_pretrained "
                "wrote, or the name of a model on the Hub."
            ) from error
        missing = set(info["missing_keys"]) | {str(entry[0]) for entry in info["mismatched_keys"]}
        part = "vision_model." if hasattr(model, "vision_model") else ""
        if part:
            model = model.vision_model
            missing = {key.removeprefix(part) for key in missing if key.startswith(part)}
        elif getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        self.missing = missing
        other = sorted(key for key in missing if not _has_part(key, (*_POOLER_PARTS, *_ONLY_IN_TRAINING)))
        if other:
            raise ConfigurationError(
                f"The checkpoint '{name}' lacks {len(other)} weights of its encoder, such as '{other[0]}'; they would "
                "be random. Give a checkpoint that holds the whole encoder."
            )
        self.name = name
        self.model: nn.Module = model.eval().requires_grad_(False).to(device)

    def choose_pooling(self, wanted: str, output: Any) -> Pooling:
        """Return the pooling to use, seeing an output of the model.

        Args:
            wanted: ``auto``, ``pooler``, ``cls`` or ``mean``.
            output: What the model returned.

        Raises:
            ConfigurationError: If the encoder or its checkpoint has no such thing.
        """
        first_token = any(name.rpartition(".")[2] in _FIRST_TOKENS for name, _ in self.model.named_parameters())
        has = {
            "pooler": getattr(output, "pooler_output", None) is not None
            and not any(_has_part(key, _POOLER_PARTS) for key in self.missing),
            "cls": first_token and output.last_hidden_state.ndim == 3,
            "mean": True,
        }
        chosen = next(name for name, there in has.items() if there) if wanted == "auto" else wanted
        if not has[chosen]:
            lacking = "weights of a pooler" if chosen == "pooler" else "first token that stands for the whole"
            raise ConfigurationError(
                f"pooling='{chosen}' cannot be used with '{self.name}', which has no {lacking}. Use pooling='auto'."
            )
        return Pooling(chosen)

    def digest(self) -> str:
        """Return the digest of the weights that came from the checkpoint."""
        return weights_digest(self.model, self.missing)


def weights_digest(model: nn.Module, without: Iterable[str] = ()) -> str:
    """Return the SHA-256 of a module's parameters and buffers, names included.

    Args:
        model: The module.
        without: Names to leave out.
    """
    digest = hashlib.sha256()
    left_out = set(without)
    for name, tensor in sorted(model.state_dict().items()):
        if name in left_out:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _has_part(key: str, parts: Iterable[str]) -> bool:
    return not set(parts).isdisjoint(key.split("."))


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip()
    return line if line.endswith(".") else f"{line}."
