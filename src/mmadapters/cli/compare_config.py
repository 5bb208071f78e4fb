"""What the section ``compare`` of a run's YAML may say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmadapters.cli.settings import coerce_options
from mmadapters.errors import ConfigurationError, did_you_mean, listed

ALL, EACH = "all", "each"
DEFAULT_METHODS = ("adapters", "adapters_text_only", "logistic_regression", "majority")


@dataclass(frozen=True)
class MethodEntry:
    """One method of a comparison.

    Attributes:
        name: Of the method.
        label: What tables call it; its name where absent.
        options: Its own options, which win over the run's sections.
        subsets: The modalities that it reads, where they are not those of the whole comparison.
        missing_in_training: Probability with which each training and validation row lacks each modality.
    """

    name: str
    label: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    subsets: Any = None
    missing_in_training: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.missing_in_training < 1.0:
            raise ConfigurationError(
                f"missing_in_training is {self.missing_in_training!r}. Give a probability of at least 0 and below 1."
            )


@dataclass(frozen=True)
class CompareConfig:
    """What ``mmadapters compare`` compares.

    Attributes:
        methods: Names of methods, or mappings with ``name``, ``label``, ``options`` and ``subsets``.
        subsets: ``all`` modalities together, ``each`` of them alone and all together, or a list of lists of names.
        seeds: Every method runs once with each.
        reference: Label of the method that the others are compared with; the first one where absent.
        resamples: Draws of the bootstrap.
        missing_rates: Rates at which modalities of the test rows go missing, each alone and all at once; every model
            with modalities is then scored on these rows as well.
        missing_subsets: Whether these models are scored on test rows with every subset of their modalities.
        missing_seed: Of the draw of what is missing.
    """

    methods: list[Any] = field(
        default_factory=lambda: list(DEFAULT_METHODS), metadata={"help": "names, or mappings with name and options"}
    )
    subsets: Any = field(default=ALL, metadata={"help": "all, each, or a list of lists of modalities"})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "one run of each method a seed"})
    reference: str | None = field(default=None, metadata={"help": "what the others are compared with"})
    resamples: int = field(default=2000, metadata={"help": "draws of the bootstrap"})
    missing_rates: list[float] = field(
        default_factory=list, metadata={"help": "rates at which modalities of the test rows go missing"}
    )
    missing_subsets: bool = field(default=False, metadata={"help": "score on every subset of the modalities, too"})
    missing_seed: int = field(default=0, metadata={"help": "of the draw of what is missing"})

    def __post_init__(self) -> None:
        method_entries(self.methods)
        if not self.seeds:
            raise ConfigurationError("seeds is empty. Give at least one whole number: [0, 1, 2].")
        twice = [seed for seed in dict.fromkeys(self.seeds) if self.seeds.count(seed) > 1]
        if twice or min(self.seeds) < 0:
            raise ConfigurationError(f"seeds is {self.seeds}. Give every seed once, as a whole number of at least 0.")
        if any(not 0.0 <= rate < 1.0 for rate in self.missing_rates):
            raise ConfigurationError(
                f"missing_rates is {self.missing_rates}. Give probabilities of at least 0 and below 1, such as "
                "[0.1, 0.3, 0.5, 0.7, 0.9]."
            )
        if self.missing_seed < 0:
            raise ConfigurationError(f"missing_seed is {self.missing_seed}. Give a whole number of at least 0.")
        if self.resamples < 100:
            raise ConfigurationError(
                f"resamples is {self.resamples}, which is too few for an interval of 95 %. Give at least 100."
            )


def method_entries(methods: Iterable[Any]) -> list[MethodEntry]:
    """Return the entries of ``compare.methods``.

    Args:
        methods: Names or mappings.

    Raises:
        ConfigurationError: If there is none, or one is something else or has an unknown key.
    """
    entries = []
    for index, given in enumerate(methods):
        where = f"methods[{index}]"
        if isinstance(given, str):
            entries.append(MethodEntry(given))
        elif isinstance(given, dict) and "name" in given:
            entries.append(MethodEntry(**coerce_options(where, MethodEntry, given)))
        else:
            raise ConfigurationError(
                f"{where} is {given!r}. Give the name of a method, or a mapping: {{name: mmbt, label: MMBT}}."
            )
    if not entries:
        raise ConfigurationError("methods is empty. Name at least one, for example [adapters, majority].")
    return entries


def chosen_subsets(subsets: Any, modalities: Iterable[str], where: str = "compare.subsets") -> list[tuple[str, ...]]:
    """Return the subsets of modalities, each in the order of the run.

    Args:
        subsets: ``all``, ``each``, or a list of lists of names; an empty list in it is the text alone.
        modalities: Of the run.
        where: The key, for messages.

    Raises:
        ConfigurationError: If it is something else, or names a modality that the run does not have.
    """
    names = list(modalities)
    if subsets == ALL:
        return [tuple(names)]
    if subsets == EACH:
        return list(dict.fromkeys([tuple(names), *((name,) for name in names)]))
    if not isinstance(subsets, list) or not subsets or not all(isinstance(entry, list) for entry in subsets):
        raise ConfigurationError(
            f"{where} is {subsets!r}. Accepted are '{ALL}', '{EACH}', and a list of lists of modalities, such as "
            f"[{names}, []]; an empty list is the text alone."
        )
    for entry in subsets:
        for name in entry:
            if name not in names:
                raise ConfigurationError(
                    f"{where} names the modality {name!r}.{did_you_mean(str(name), names)} The run has {listed(names)}."
                )
    return list(dict.fromkeys(tuple(name for name in names if name in entry) for entry in subsets))
