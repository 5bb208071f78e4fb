"""What a comparison is going to run: contenders, runs, and the digests by which finished ones are known again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmadapters.cli.compare_config import CompareConfig, MethodEntry, chosen_subsets, method_entries
from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

    from mmadapters.cli.run_config import RunConfig
    from mmadapters.data.dataset import MultimodalDataset
    from mmadapters.data.preprocessor import Preprocessor
    from mmadapters.evaluation.comparison import Contender, Task
    from mmadapters.evaluation.run_files import PlannedRun

SNIPPET = 200
"""Characters of a test row's text that are kept for people."""
TEXT_ALONE = "text"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Plan:
    """Who is compared.

    Attributes:
        contenders: In the order of the tables.
        entries: The method's entry of each contender, in the same order.
    """

    contenders: list[Contender]
    entries: list[MethodEntry]


def plan_contenders(settings: RunConfig) -> Plan:
    """Return the contenders of a comparison; every option of every method is checked.

    Args:
        settings: The run.

    Raises:
        ConfigurationError: With all that is wrong with methods, options, subsets or names.
    """
    from mmadapters.baselines.method import READ_TEXT_ONLY, build_method
    from mmadapters.evaluation.comparison import Contender, reference_name
    from mmadapters.training.fit import ModelSettings

    config = settings.compare or CompareConfig()
    problems: list[str] = []
    contenders: list[Contender] = []
    entries: list[MethodEntry] = []
    for index, entry in enumerate(method_entries(config.methods)):
        where = f"compare.methods[{index}].subsets"
        try:
            build_method(
                entry.name, ModelSettings(**asdict(settings.model)), settings.adapter, settings.training, entry.options
            )
            given = config.subsets if entry.subsets is None else entry.subsets
            subsets = chosen_subsets(
                given, settings.modalities, where if entry.subsets is not None else "compare.subsets"
            )
        except ConfigurationError as error:
            problems.append(str(error))
            continue
        label = entry.label or entry.name
        if entry.name in READ_TEXT_ONLY:
            subsets = [()]
        for subset in subsets:
            name = label if len(subsets) == 1 else f"{label} [{subset_name(subset, settings.modalities)}]"
            contenders.append(Contender(name, label, entry.name, subset))
            entries.append(entry)
    for taken in _repeated([contender_folder(contender) for contender in contenders]):
        problems.append(f"Several methods would write to '{taken}'. Give each a label of its own.")
    if problems:
        lines = "\n".join(f"- {problem}" for problem in dict.fromkeys(problems))
        raise ConfigurationError(f"The section 'compare' cannot be used:\n{lines}")
    reference_name(contenders, config.reference)
    return Plan(contenders, entries)


def subset_name(subset: Sequence[str], modalities: Sequence[str] | Mapping[str, Any]) -> str:
    """Return what tables call a subset of a run's modalities.

    Args:
        subset: In the order of the run.
        modalities: All of them.
    """
    if not subset:
        return TEXT_ALONE
    return "all" if len(subset) == len(modalities) > 1 else "+".join(subset)


def contender_folder(contender: Contender) -> str:
    """Return the folder of a contender's runs, relative to the comparison's."""
    subset = "+".join(contender.modalities) or TEXT_ALONE
    return f"runs/{_file_name(contender.label)}/{_file_name(subset)}"


def plan_runs(
    settings: RunConfig, plan: Plan, preprocessor: Preprocessor, data: Mapping[str, MultimodalDataset]
) -> list[PlannedRun]:
    """Return all runs, one seed of every contender before the next seed.

    Args:
        settings: The run.
        plan: Who is compared.
        preprocessor: Made the data.
        data: The rows by split.
    """
    from mmadapters.evaluation.run_files import PlannedRun

    config = settings.compare or CompareConfig()
    rows = {split: data[split].digest() for split in SPLITS}
    labels = None if preprocessor.labels is None else preprocessor.labels.to_dict()
    common = {
        "model": asdict(settings.model),
        "adapter": settings.adapter,
        "training": settings.training,
        "rows": rows,
        "labels": labels,
    }
    runs = []
    for seed in config.seeds:
        for contender, entry in zip(plan.contenders, plan.entries, strict=True):
            own = {
                "method": entry.name,
                "options": entry.options,
                "modalities": list(contender.modalities),
                "seed": seed,
            }
            if contender.modalities:
                own |= {
                    "missing_in_training": entry.missing_in_training,
                    "missing": [config.missing_rates, config.missing_subsets, config.missing_seed],
                }
            digest = digest_of({**common, **own})
            runs.append(PlannedRun(contender.name, seed, f"{contender_folder(contender)}/seed-{seed}", digest))
    return runs


def digest_of(content: Mapping[str, Any]) -> str:
    """Return a SHA-256 of plain values, whatever the order of their keys.

    Args:
        content: What to digest.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def describe_task(
    settings: RunConfig, preprocessor: Preprocessor, data: Mapping[str, MultimodalDataset], test_rows: pd.DataFrame
) -> Task:
    """Return what all runs have in common.

    Args:
        settings: The run.
        preprocessor: Made the data.
        data: The rows by split.
        test_rows: The test rows as they were read, for names and texts.
    """
    import numpy as np

    from mmadapters.evaluation.comparison import Task
    from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION

    assert preprocessor.labels is not None
    problem_type = str(preprocessor.labels.problem_type)
    labels = [] if problem_type == REGRESSION else [str(label) for label in preprocessor.labels.classes]
    targets = np.asarray(data["train"].labels)
    if problem_type == MULTI_LABEL:
        counts = targets.sum(axis=0).astype(int).tolist()
    elif problem_type == REGRESSION:
        counts = []
    else:
        counts = np.bincount(targets[targets != IGNORED_LABEL].astype(int), minlength=len(labels)).tolist()
    columns = [settings.data.text] if isinstance(settings.data.text, str) else settings.data.text
    texts = [
        " / ".join("" if value is None or value != value else str(value) for value in row)
        for row in test_rows[columns].itertuples(index=False)
    ]
    names = test_rows[settings.data.id] if settings.data.id else test_rows.index
    return Task(
        problem_type=problem_type,
        labels=labels,
        label_counts=counts,
        rows={split: len(data[split]) for split in SPLITS},
        targets={split: np.asarray(data[split].labels) for split in ("validation", "test")},
        row_names=[str(name) for name in names],
        row_texts=[_cut(text) for text in texts],
    )


def _cut(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= SNIPPET else f"{joined[: SNIPPET - 1]}…"


def _file_name(text: str) -> str:
    """Return a name for a folder; where characters are replaced, a digest keeps different texts apart."""
    plain = re.sub(r"[^\w+.-]", "_", text)
    return plain if plain == text and text.strip(".") else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]
