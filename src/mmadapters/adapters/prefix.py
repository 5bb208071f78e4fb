"""The layers below the first adapter: they never change, so what they compute can be kept and need not be run again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmadapters.errors import ConfigurationError, InputError, listed

STATES = "prefix_states"
"""Argument of the model's forward: (B, L, H), the hidden states that enter the first layer with an adapter."""

_TOLERANCE = 1e-4


class FrozenPrefix:
    """The embeddings and the layers below the first one that an active adapter changes.

    While it is installed, the model accepts ``prefix_states`` (B, L, H) beside the text, and then runs neither
    embeddings nor the layers below. Names of parameters and modules stay as they are. Weights that are not needed for
    that can be given back (``release``).

    Args:
        model: A PEFT model with multimodal adapters.

    Raises:
        ConfigurationError: If the first layer has an adapter, the encoder's layers share their weights, or something
            below the first adapter is trained.
    """

    def __init__(self, model: Any) -> None:
        self.tuner = model.base_model
        names = list(self.tuner.active_adapters)
        site_map = self.tuner.site_maps[names[0]]
        self.first_layer = min(site.layer for name in names for site in self.tuner.site_maps[name].sites)
        self.hidden_size = int(site_map.hidden_size)
        self._names = names
        self._encoder = self.tuner.model.get_submodule(site_map.encoder_path)
        self._layers = cast(nn.ModuleList, self._encoder.get_submodule(site_map.layers_path))
        if site_map.n_passes != site_map.n_layers:
            raise ConfigurationError(
                "The layers of this encoder share their weights, so that each has an adapter and nothing stays the "
                "same. Train without a prefix cache."
            )
        if self.first_layer == 0:
            raise ConfigurationError(
                f"The adapters start at layer 0 of {site_map.n_layers}, so no layer stays the same and there is "
                f"nothing to cache. Give layers_to_transform, such as [-4, -3, -2, -1], or train without a cache."
            )
        self._embeddings = self._encoder.get_input_embeddings()
        self._released = False
        self._check_frozen()
        # Some layers return a tuple, some the tensor itself; what skips them returns the like.
        self._returns: int | None = None
        self._look_at_output()

    def __enter__(self) -> FrozenPrefix:
        self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @property
    def below(self) -> list[nn.Module]:
        """The layers below the first one with an adapter."""
        return list(self._layers)[: self.first_layer]

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self._layers[self.first_layer].parameters()).device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that the hidden states depend on beside the text: weights, settings and versions."""
        digest = hashlib.sha256()
        settings = {key: value for key, value in self._encoder.config.to_dict().items() if not key.startswith("_")}
        settings.pop("transformers_version", None)
        attention = getattr(self._encoder.config, "_attn_implementation", None)
        versions = [".".join(version(package).split("+")[0].split(".")[:2]) for package in ("torch", "transformers")]
        digest.update(repr((sorted(settings.items(), key=str), attention, versions, self.first_layer)).encode())
        for name, tensor in sorted(self._frozen_tensors().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            values = tensor.detach().cpu().contiguous()
            digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
        return digest.hexdigest()

    def install(self) -> None:
        """Let the model take ``prefix_states``; without them it runs as before."""
        self.tuner.frozen_prefix = self
        last = self.first_layer - 1
        for place, layer in enumerate(self.below):
            layer.forward = partial(self._skipping, type(layer).forward.__get__(layer), place == last)
        self._embeddings.forward = partial(self._embedding, type(self._embeddings).forward.__get__(self._embeddings))

    def remove(self) -> None:
        """Make the model as it was; weights that were given back have to be restored before."""
        self.tuner.frozen_prefix = None
        for module in (*self.below, self._embeddings):
            module.__dict__.pop("forward", None)

    def hidden_states(self, **text: Tensor) -> Tensor:
        """Run the layers below and return what enters the first layer with an adapter, (B, L, H), without dropout.

        Args:
            text: ``input_ids`` and what else the tokenizer gave, (B, L) each.
        """
        seen: list[Tensor] = []

        def stop(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            raise _Enough

        training = {module: module.training for module in self._encoder.modules()}
        handle = self._layers[self.first_layer].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self._encoder.eval()
            with torch.no_grad():
                self._encoder(**text)
        except _Enough:
            pass
        finally:
            handle.remove()
            for module, mode in training.items():
                module.training = mode
        # Some encoders pad their input further than the caller did.
        return seen[0][:, : text["input_ids"].shape[1]]

    def checked(self, states: Any, shape: tuple[int, int]) -> Tensor:
        """Return ``prefix_states`` where the encoder is and in its precision.

        Args:
            states: What the caller passed.
            shape: Number of examples B and of tokens L.

        Raises:
            InputError: If they are no tensor (B, L, H), or other adapters are active than when this was made.
        """
        expected = (*shape, self.hidden_size)
        if not isinstance(states, Tensor) or tuple(states.shape) != expected:
            given = f"shape {tuple(states.shape)}" if isinstance(states, Tensor) else f"type {type(states).__name__}"
            raise InputError(f"{STATES} is of {given}. It must be a tensor (B, L, H), here {expected}.")
        if list(self.tuner.active_adapters) != self._names:
            raise InputError(
                f"{STATES} was made for the adapters {listed(self._names)}, active are "
                f"{listed(self.tuner.active_adapters)}. Activate the former, or make a FrozenPrefix anew."
            )
        place = next(self._layers[self.first_layer].parameters())
        return states.to(device=place.device, dtype=place.dtype)

    def check(self, **inputs: Any) -> None:
        """Compare the model with and without ``prefix_states`` on a batch.

        Args:
            inputs: A batch as the collator makes it.

        Raises:
            ConfigurationError: If the outputs differ: the encoder does something between its layers that skipping
                them leaves out.
        """
        text = {name: value for name, value in inputs.items() if name in _TEXT}
        training = {module: module.training for module in self.tuner.model.modules()}
        self.tuner.model.eval()
        with torch.no_grad():
            whole = self.tuner.model(**inputs)["logits"]
            started = self.tuner.model(**inputs, **{STATES: self.hidden_states(**text)})["logits"]
        for module, mode in training.items():
            module.training = mode
        if not torch.allclose(whole, started, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ConfigurationError(
                f"With the hidden states of layer {self.first_layer} this encoder ({type(self._encoder).__name__}) "
                f"gives other outputs than from the start, by up to {float((whole - started).abs().max()):.2g}. Train "
                "without a prefix cache."
            )

    def release(self) -> None:
        """Give back the memory of what ``prefix_states`` stand for: the layers below and the token embeddings."""
        for module in (*self.below, self._embeddings):
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        self._released = True

    def restore(self, encoder: nn.Module) -> None:
        """Bring back the weights that were given back.

        Args:
            encoder: The same pre-trained encoder, loaded again.
        """
        there = dict(encoder.state_dict(keep_vars=True)) | dict(encoder.named_buffers())
        for name, tensor in self._released_tensors().items():
            tensor.data = there[name].detach().to(device=tensor.device, dtype=tensor.dtype)
        self._released = False

    def _check_frozen(self) -> None:
        kept = {id(p) for layer in list(self._layers)[self.first_layer :] for p in layer.parameters()}
        trained = [n for n, p in self._encoder.named_parameters() if p.requires_grad and id(p) not in kept]
        if trained:
            raise ConfigurationError(
                f"Below layer {self.first_layer}, where the adapters start, {len(trained)} parameters are trained, "
                f"such as '{trained[0]}', so what those layers compute changes. Train without a prefix cache."
            )

    def _look_at_output(self) -> None:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            self._returns = len(output) if isinstance(output, tuple) else None

        handle = self.below[-1].register_forward_hook(look)
        try:
            place = next(self._encoder.parameters()).device
            tokens = torch.zeros((1, 2), dtype=torch.long, device=place)
            self.hidden_states(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        finally:
            handle.remove()

    def _frozen_tensors(self) -> dict[str, Tensor]:
        """Return what the hidden states depend on: all of the encoder but the layers from the first adapter on."""
        kept = {id(t) for layer in list(self._layers)[self.first_layer :] for t in _tensors(layer).values()}
        return {name: tensor for name, tensor in _tensors(self._encoder).items() if id(tensor) not in kept}

    def _released_tensors(self) -> dict[str, Tensor]:
        given_back = {id(t) for module in (*self.below, self._embeddings) for t in _tensors(module).values()}
        return {name: tensor for name, tensor in _tensors(self._encoder).items() if id(tensor) in given_back}

    def _states(self) -> Tensor | None:
        state = self.tuner.context.state
        states = None if state is None else state.prefix_states
        if states is None and self._released:
            raise InputError(
                "The model was called without prefix_states, and the weights of the layers below the first adapter "
                "were given back. Restore them first, or pass the states."
            )
        return states

    def _skipping(self, forward: Callable[..., Any], is_last: bool, *args: Any, **kwargs: Any) -> Any:
        states = self._states()
        if states is None:
            return forward(*args, **kwargs)
        passed: Tensor = args[0] if args else kwargs["hidden_states"]
        if is_last:
            passed = F.pad(states, (0, 0, 0, passed.shape[1] - states.shape[1]))
        return passed if self._returns is None else (passed, *[None] * (self._returns - 1))

    def _embedding(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        states = self._states()
        if states is None:
            return forward(*args, **kwargs)
        ids = args[0] if args else next(iter(kwargs.values()))
        width = int(getattr(self._embeddings, "embedding_dim", self.hidden_size))
        return torch.zeros((), dtype=states.dtype, device=states.device).expand(*ids.shape, width)


class _Enough(Exception):
    """The hidden states have been seen."""


_TEXT = ("input_ids", "attention_mask", "token_type_ids")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
