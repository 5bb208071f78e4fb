"""``mmadapters search``: search options of a run by the metric on its validation rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmadapters.cli.rows import prepare_rows
from mmadapters.cli.settings import load_settings, to_yaml
from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    from mmadapters.cli.run_config import OptionSpaceConfig, RunConfig, SpaceConfig
    from mmadapters.training.search_results import SearchResult, SearchTrial
    from mmadapters.training.search_space import OptionSpace

BEST_CONFIG = "best.yaml"
BEST_FOLDER = "best"
SHOWN_TRIALS = 10


def search(
    config: Annotated[Path, typer.Argument(help="The run as YAML; its section 'search' says what is searched.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: training.num_train_epochs=4. Repeatable.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="How many trials there are to be in the end.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no other trial is started.")] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study, and of its folder in output_dir.")] = None,
    storage: Annotated[str | None, typer.Option(help="The SQLite file of the study.")] = None,
    pruner: Annotated[str | None, typer.Option(help="Which trials are ended early: median, hyperband or none.")] = None,
    cache_limit: Annotated[
        float | None,
        typer.Option(help="The most that the prefix cache may take, in GB; the YAML's limit_gb otherwise."),
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Search options of a run, and write the best as a run's YAML. The same command goes on with a killed search."""
    from mmadapters.cli.run_config import RunConfig

    given = {"trials": trials, "timeout": timeout, "study": study, "storage": storage, "pruner": pruner}
    own = [f"search.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    if cache_limit is not None:
        own.append(f"prefix_cache.limit_gb={cache_limit}")
    run_search(load_settings(RunConfig, config, [*(overrides or []), *own]), rows_folder=Path.cwd(), progress=progress)


def run_search(settings: RunConfig, rows_folder: Path, progress: bool) -> SearchResult:
    """Search as the settings say; the test rows are not read.

    Args:
        settings: The run.
        rows_folder: Relative paths of row files start here.
        progress: Whether progress bars may be shown.

    Returns:
        What was found.
    """
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.cli.options import check_adapter_options, coerce_training, prefix_cache_options
    from mmadapters.cli.run_config import SearchConfig
    from mmadapters.files import write_text_atomically
    from mmadapters.training.fit import ModelSettings
    from mmadapters.training.search import SearchOptions, search
    from mmadapters.training.search_study import require_optuna

    require_optuna()
    shown = prepare_libraries(progress)
    config = settings.search or SearchConfig()
    folder = Path(settings.output_dir) / config.study
    # Everything that can be wrong in the file is found before the first row is read.
    options = SearchOptions(
        folder,
        config.trials,
        config.timeout,
        config.study,
        None if config.storage is None else Path(config.storage),
        config.pruner,
        config.default_space,
    )
    space = named_space(config.space)
    training = coerce_training(settings.training, seed=settings.seed, progress=shown)
    adapter = check_adapter_options(settings.adapter, settings.modalities)
    if settings.data.validation is None and "validation" not in settings.data.split:
        raise ConfigurationError(
            "A search compares trials on validation rows, and the run has none. Name a file (data.validation) or a "
            "share of the training rows (data.split: {validation: 0.1})."
        )
    without_test = replace(settings, data=replace(settings.data, test=None))
    preprocessor, data = prepare_rows(without_test, rows_folder, report=step)
    # A share of the training file: it stays out of the training rows, and nothing looks at it.
    data.pop("test", None)
    step(", ".join(f"{split}: {len(rows)} rows" for split, rows in data.items()))

    def write_best(result: SearchResult) -> None:
        if result.best is not None:
            origin = (
                f"# Trial {result.best.number}, the best of {len(result.trials)} in the study '{result.study}': "
                f"{result.metric} {result.best.value:.4f} on the validation rows.\n"
            )
            write_text_atomically(folder / BEST_CONFIG, origin + to_yaml(best_settings(settings, result.best, folder)))

    result = search(
        preprocessor,
        data["train"],
        data.get("validation"),
        options=options,
        settings=ModelSettings(**asdict(settings.model)),
        adapter=adapter,
        training=training,
        space=space,
        prefix_cache=prefix_cache_options(settings.prefix_cache),
        report=step,
        after_trial=write_best,
    )
    print_result(result)
    step(f"all trials are in {folder}; train the best settings with: mmadapters train {folder / BEST_CONFIG}")
    return result


def named_space(config: SpaceConfig) -> dict[str, OptionSpace]:
    """Return the options that a run's file names for the search, their values brought to the options' types.

    Args:
        config: The section ``search.space``.

    Raises:
        ConfigurationError: With a list of every unknown option and unfitting value.
    """
    from mmadapters.adapters.config import MultimodalAdapterConfig
    from mmadapters.cli.run_config import ModelConfig
    from mmadapters.training.arguments import MultimodalTrainingArguments

    sections: list[tuple[str, type, Mapping[str, OptionSpaceConfig]]] = [
        ("adapter", MultimodalAdapterConfig, config.adapter),
        ("training", MultimodalTrainingArguments, config.training),
        ("model", ModelConfig, config.model),
    ]
    space: dict[str, OptionSpace] = {}
    problems: list[str] = []
    for section, cls, named in sections:
        for name, option in named.items():
            try:
                space[f"{section}.{name}"] = _option_space(section, cls, name, option)
            except ConfigurationError as error:
                problems.append(f"search.space.{section}.{name}: {error}")
    if problems:
        raise ConfigurationError("The section 'search' cannot be used:\n" + "\n".join(f"- {line}" for line in problems))
    return space


def _option_space(section: str, cls: type, name: str, option: OptionSpaceConfig) -> OptionSpace:
    from mmadapters.cli.settings import coerce_options
    from mmadapters.training.search_space import Choices, Range

    def coerced(value: Any) -> Any:
        return coerce_options(section, cls, {name: value})[name]

    if option.choices is not None:
        return Choices([coerced(value) for value in option.choices])
    low, high = (coerced(value) for value in (option.low, option.high))
    return Range(low, high, option.step, option.log)


def best_settings(settings: RunConfig, trial: SearchTrial, folder: Path) -> RunConfig:
    """Return a run with the options of a trial, which writes into a folder of its own.

    Args:
        settings: The run that was searched.
        trial: The trial.
        folder: Of the search.
    """
    parts: dict[str, dict[str, Any]] = {"adapter": {}, "training": {}, "model": {}}
    for name, value in trial.options.items():
        section, _, option = name.partition(".")
        parts[section][option] = value
    return replace(
        settings,
        adapter={**settings.adapter, **parts["adapter"]},
        training={**settings.training, **parts["training"]},
        model=replace(settings.model, **parts["model"]),
        search=None,
        output_dir=str(folder / BEST_FOLDER),
    )


def print_result(result: SearchResult) -> None:
    """Print the best trials, and what each option's share in the differences is.

    Args:
        result: What was found.
    """
    from mmadapters.cli.console import print_table
    from mmadapters.training.search_results import shown

    listed = result.ranked[:SHOWN_TRIALS]
    if result.own is not None and result.own not in listed:
        listed.append(result.own)
    rows = [
        [
            f"{trial.number}{' (without a search)' if trial.is_own else ''}",
            "failed" if trial.value is None else f"{trial.value:.4f}",
            "–" if trial.epoch is None else f"{trial.epoch:g}",
            *(shown(trial.options.get(name)) for name in result.space),
        ]
        for trial in listed
    ]
    counts = ", ".join(f"{result.count(state)} {state}" for state in ("complete", "pruned", "failed"))
    print_table(
        f"{result.metric} on the validation rows: the best of {len(result.trials)} trials ({counts})",
        ["trial", "value", "epoch", *(name.partition(".")[2].replace("_", " ") for name in result.space)],
        rows,
        footer="The best value of many trials is too high an estimate: measure the best settings on test rows.",
    )
    if result.importance:
        print_table(
            f"share of each option in what the {result.count('complete')} complete trials differ by",
            ["option", "share"],
            [[name, f"{share:.2f}"] for name, share in result.importance.items()],
        )
