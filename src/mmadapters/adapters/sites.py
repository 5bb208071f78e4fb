"""Where adapters sit in an encoder: one table of attribute paths per model type.

A site is a module of a layer; the adapter reads that module's output and adds its update, before Add&LayerNorm. In
BERT these are the parameter-free dropouts behind the attention output and the feed-forward output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

from torch import nn

from mmadapters.errors import ConfigurationError, UnsupportedBackboneError, listed

SITE_NAMES = ("attention", "feed_forward")


@dataclass(frozen=True)
class EncoderSites:
    """The attribute paths of one encoder family.

    Attributes:
        layers: Path from the encoder to its list of layers.
        attention: Path within a layer of the module after whose output the first adapter sits.
        feed_forward: Path within a layer of the module after whose output the second adapter sits.
    """

    layers: str
    attention: str
    feed_forward: str


BERT_LIKE = EncoderSites("encoder.layer", "attention.output.dropout", "output.dropout")
DECODER = EncoderSites("layers", "self_attn.o_proj", "mlp.down_proj")

ENCODER_SITES: dict[str, EncoderSites] = {
    "bert": BERT_LIKE,
    "roberta": BERT_LIKE,
    "xlm-roberta": BERT_LIKE,
    "camembert": BERT_LIKE,
    "electra": BERT_LIKE,
    "deberta-v2": BERT_LIKE,
    "longformer": BERT_LIKE,
    "mpnet": EncoderSites("encoder.layer", "attention.dropout", "output.dropout"),
    "distilbert": EncoderSites("transformer.layer", "attention.out_lin", "ffn.dropout"),
    "albert": EncoderSites(
        "encoder.albert_layer_groups", "albert_layers.0.attention.output_dropout", "albert_layers.0.ffn_output"
    ),
    "modernbert": EncoderSites("layers", "attn.out_drop", "mlp.Wo"),
    "llama": DECODER,
    "mistral": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER,
}
"""Sites by ``config.model_type``. An encoder is added by one row."""


@dataclass(frozen=True)
class Site:
    """One place for an adapter.

    Attributes:
        path: Path of the module from the model that was given.
        layer: Index of the layer, counted from 0.
        name: ``attention`` or ``feed_forward``.
    """

    path: str
    layer: int
    name: str


@dataclass(frozen=True)
class SiteMap:
    """All places of a model that get adapters.

    Attributes:
        sites: In the order in which they run.
        hidden_size: Width of the hidden states.
        n_layers: Number of layers of the encoder. Layers that share their weights (ALBERT) count once.
        n_passes: How often the encoder runs a layer: more than ``n_layers`` where layers share their weights.
        encoder_path: Path of the encoder from the model that was given; empty where it is the encoder.
        layers_path: Path of the list of layers from the encoder.
        members: For an AdapterFusion: the members that have an adapter at each site, by its path.
    """

    sites: tuple[Site, ...]
    hidden_size: int
    n_layers: int
    n_passes: int
    encoder_path: str = ""
    layers_path: str = ""
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def by_path(self) -> dict[str, Site]:
        """The sites by their module's path."""
        return {site.path: site for site in self.sites}

    @property
    def run_sites(self) -> list[Site]:
        """The sites in the order in which they run; where layers share their weights a site comes several times."""
        runs = (index * self.n_layers // self.n_passes for index in range(self.n_passes))
        return [site for layer in runs for site in self.sites if site.layer == layer]

    def members_at(self, site: Site) -> list[str]:
        """Return the members of an AdapterFusion that have an adapter at a site."""
        return list(self.members.get(site.path, ()))


def unite_sites(members: Mapping[str, SiteMap]) -> SiteMap:
    """Return the places of an AdapterFusion: all that a member has.

    Args:
        members: The places of each member in one encoder, by the member's name.
    """
    first = next(iter(members.values()))
    united = {site for site_map in members.values() for site in site_map.sites}
    return replace(
        first,
        sites=tuple(sorted(united, key=lambda site: (site.layer, SITE_NAMES.index(site.name)))),
        members={
            site.path: tuple(name for name, site_map in members.items() if site in site_map.sites) for site in united
        },
    )


def find_sites(
    model: nn.Module,
    encoder_sites: Mapping[str, str] | None = None,
    layers_to_transform: list[int] | int | None = None,
    site_names: Sequence[str] = SITE_NAMES,
) -> SiteMap:
    """Find the places for adapters in a model: a bare encoder, or anything that contains one.

    Args:
        model: A transformers encoder, a model with a head, or a ``TextClassifier``.
        encoder_sites: Attribute paths to use instead of the table, as in ``MultimodalAdapterConfig``.
        layers_to_transform: The layers to keep; without a value all.
        site_names: The sites of a layer to keep.

    Raises:
        UnsupportedBackboneError: If no known encoder is found.
        ConfigurationError: If given paths or layers do not exist.
    """
    given = _given_paths(encoder_sites)
    for prefix, module in model.named_modules():
        model_type = getattr(getattr(module, "config", None), "model_type", None)
        paths = given or ENCODER_SITES.get(model_type or "")
        layers = _resolve(module, paths.layers) if paths and model_type else None
        if paths and isinstance(layers, nn.ModuleList) and len(layers):
            chosen = list(range(len(layers)))
            if layers_to_transform is not None:
                chosen = chosen_layers("layers_to_transform", layers_to_transform, len(layers))
            sites = _sites(f"{prefix}." if prefix else "", layers, paths, chosen, site_names)
            n_passes = max(int(getattr(module.config, "num_hidden_layers", 0)), len(layers))
            return SiteMap(sites, int(module.config.hidden_size), len(layers), n_passes, prefix, paths.layers)
    raise _not_found(model, given)


def _given_paths(encoder_sites: Mapping[str, str] | None) -> EncoderSites | None:
    if encoder_sites is None:
        return None
    expected = [f.name for f in fields(EncoderSites)]
    if sorted(encoder_sites) != sorted(expected):
        raise ConfigurationError(
            f"encoder_sites has the keys {listed(encoder_sites)}. It needs exactly {listed(expected)}."
        )
    return EncoderSites(**encoder_sites)


def _resolve(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def chosen_layers(option: str, layers: Sequence[int] | int, n_layers: int) -> list[int]:
    """Return layer numbers counted from 0, sorted and each once.

    Args:
        option: The option's name, for the message.
        layers: Numbers, negative ones counting from the last layer.
        n_layers: Number of layers of the encoder.

    Raises:
        ConfigurationError: If there is no such layer, or none at all was named.
    """
    wanted = [layers] if isinstance(layers, int) else list(layers)
    outside = [index for index in wanted if not -n_layers <= index < n_layers]
    if outside or not wanted:
        raise ConfigurationError(
            f"{option}={wanted} does not fit an encoder of {n_layers} layers. Accepted are indices from "
            f"{-n_layers} to {n_layers - 1}, at least one."
        )
    return sorted({index % n_layers for index in wanted})


def _sites(
    prefix: str, layers: nn.ModuleList, paths: EncoderSites, chosen: list[int], site_names: Sequence[str]
) -> tuple[Site, ...]:
    sites = []
    for index in chosen:
        for name in (name for name in SITE_NAMES if name in site_names):
            path = getattr(paths, name)
            if _resolve(layers[index], path) is None:
                found = [child for child, _ in layers[index].named_modules() if child]
                raise ConfigurationError(
                    f"Layer {index} of the encoder has no module '{path}' for the site '{name}'. Its modules are "
                    f"{listed(found)}. Correct encoder_sites['{name}']."
                )
            sites.append(Site(f"{prefix}{paths.layers}.{index}.{path}", index, name))
    return tuple(sites)


def _not_found(model: nn.Module, given: EncoderSites | None) -> Exception:
    if given is not None:
        lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        return ConfigurationError(
            f"encoder_sites={asdict(given)} was given, but no part of {type(model).__name__} that has a config has a "
            f"list of layers at '{given.layers}'. Lists of layers were found at {listed(lists)} (from the model; the "
            "path starts at the encoder). Correct encoder_sites['layers']."
        )
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return UnsupportedBackboneError(
        f"{type(model).__name__} (model_type {model_type!r}) has no known places for adapters. Supported model types "
        f"are {listed(ENCODER_SITES)}. To use another one, pass its attribute paths: MultimodalAdapterConfig("
        "encoder_sites={'layers': 'encoder.layer', 'attention': 'attention.output.dropout', 'feed_forward': "
        "'output.dropout'}), or add a row to mmadapters.adapters.sites.ENCODER_SITES."
    )
