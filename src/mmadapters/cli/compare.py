"""``mmadapters compare``: methods × modality subsets × seeds, one table and a report."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmadapters.cli.settings import load_settings, to_yaml
from mmadapters.errors import ConfigurationError, MissingDependencyError, TrainingInterrupted

if TYPE_CHECKING:
    from mmadapters.cli.compare_plan import Plan
    from mmadapters.cli.compare_runs import Launch
    from mmadapters.cli.compare_worker import Job
    from mmadapters.cli.run_config import RunConfig
    from mmadapters.evaluation.run_files import Experiment

RESOLVED_CONFIG = "config.resolved.yaml"


def compare(
    config: Annotated[
        Path | None, typer.Argument(help="The run as YAML; its section 'compare' says what is compared.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: compare.seeds=[0,1,2,3,4]. Repeatable.")
    ] = None,
    report_only: Annotated[
        Path | None,
        typer.Option(help="Make table and report of this folder's finished runs again, and run nothing."),
    ] = None,
) -> None:
    """Run methods with several seeds and modalities, and write a table with intervals, and a report.

    The same command goes on with a killed comparison; finished runs are kept.
    """
    from mmadapters.cli.run_config import RunConfig

    if report_only is not None:
        if config is not None or overrides:
            raise ConfigurationError(
                "--report-only makes the report of a folder again and reads no YAML. Leave the YAML and --set out."
            )
        tell(report_only, None)
        return
    if config is None:
        raise ConfigurationError("No YAML was named. Write `mmadapters compare config.yaml`, or --report-only FOLDER.")
    run_comparison(load_settings(RunConfig, config, overrides or []), Path.cwd())


def run_comparison(settings: RunConfig, rows_folder: Path, launch: Launch | None = None) -> dict[str, Any]:
    """Make the runs that are not finished, compare all, and write and print what came out.

    Args:
        settings: The run.
        rows_folder: Relative paths of row files start here.
        launch: Does one run; in a process of its own where absent.

    Returns:
        What ``comparison.json`` holds.
    """
    from mmadapters.cli.compare_plan import plan_contenders
    from mmadapters.cli.compare_runs import make_runs
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.files import write_text_atomically

    prepare_libraries(progress=False)
    check_splits(settings)
    # The rows of all seeds are those of the run.
    split_seed = settings.seed if settings.data.split_seed is None else settings.data.split_seed
    settings = replace(settings, data=replace(settings.data, split_seed=split_seed))
    output = Path(settings.output_dir)
    # Everything that can be wrong in the file is found before the first row is read.
    plan = plan_contenders(settings)
    with _ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="mmadapters-compare-") as private:
        experiment, rows = prepare_experiment(settings, plan, rows_folder, Path(private), step)
        write_text_atomically(output / RESOLVED_CONFIG, to_yaml(settings))
        jobs = planned_jobs(settings, plan, experiment, rows_folder, rows)
        make_runs(output, experiment.runs, jobs, step, launch)
    return tell(output, experiment)


def check_splits(settings: RunConfig) -> None:
    """Refuse a run without validation or test rows, or whose rows are streamed.

    Args:
        settings: The run.

    Raises:
        ConfigurationError: If it is one.
    """
    data = settings.data
    missing = [split for split in ("validation", "test") if getattr(data, split) is None and split not in data.split]
    if missing:
        raise ConfigurationError(
            f"A comparison chooses on validation rows and measures on test rows, and the run has no {missing[0]} rows. "
            f"Name a file (data.{missing[0]}) or a share of the training rows (data.split: {{{missing[0]}: 0.2}})."
        )
    if data.streaming:
        raise ConfigurationError("A comparison holds its rows in memory. Set data.streaming: false, or leave it out.")


def prepare_experiment(
    settings: RunConfig, plan: Plan, rows_folder: Path, private: Path, report: Callable[[str], None]
) -> tuple[Experiment, Path | None]:
    """Read and prepare the rows, and write down what all runs have in common.

    Args:
        settings: The run.
        plan: Who is compared.
        rows_folder: Relative paths of row files start here.
        private: A folder that nobody else can write to, for the prepared rows.
        report: Called with lines for a person.

    Returns:
        What is fixed, and the file of the prepared rows; None where each run reads them anew, since features in
        stores stay there.
    """
    from mmadapters.cli.compare_config import CompareConfig
    from mmadapters.cli.compare_plan import describe_task, plan_runs
    from mmadapters.cli.compare_worker import prepare, write_prepared
    from mmadapters.evaluation.comparison import reference_name
    from mmadapters.evaluation.run_files import Experiment, write_experiment

    config = settings.compare or CompareConfig()
    preprocessor, data, test_rows = prepare(settings, rows_folder)
    report(", ".join(f"{split}: {len(data[split])} rows" for split in data))
    unseen = {split: sum(rows.unseen_labels.values()) for split, rows in data.items()}
    experiment = Experiment(
        task=describe_task(settings, preprocessor, data, test_rows),
        contenders=plan.contenders,
        runs=plan_runs(settings, plan, preprocessor, data),
        seeds=list(config.seeds),
        reference=reference_name(plan.contenders, config.reference),
        resamples=config.resamples,
        notes=[
            f"Labels that no training row has, ignored in the {split} rows: {count}."
            for split, count in unseen.items()
            if count
        ],
    )
    write_experiment(Path(settings.output_dir), experiment)
    if any(modality.store is not None for modality in settings.modalities.values()):
        return experiment, None
    rows = private / "rows.pickle"
    write_prepared(rows, preprocessor, data)
    return experiment, rows


def planned_jobs(
    settings: RunConfig, plan: Plan, experiment: Experiment, rows_folder: Path, rows: Path | None
) -> Mapping[tuple[str, int], Job]:
    """Return what the process of each run is to do, by contender and seed.

    Args:
        settings: The run.
        plan: Who is compared.
        experiment: What is fixed.
        rows_folder: Relative paths of row files start here.
        rows: File of the prepared rows, if there is one.
    """
    from mmadapters.cli.compare_worker import Job

    output = Path(settings.output_dir).absolute()
    by_name = dict(zip((contender.name for contender in plan.contenders), plan.entries, strict=True))
    modalities = {contender.name: list(contender.modalities) for contender in plan.contenders}
    return {
        (run.contender, run.seed): Job(
            contender=run.contender,
            method=by_name[run.contender].name,
            options=by_name[run.contender].options,
            modalities=modalities[run.contender],
            seed=run.seed,
            folder=str(output / run.folder),
            digest=run.digest,
            run=str(output / RESOLVED_CONFIG),
            rows_folder=str(rows_folder),
            rows=None if rows is None else str(rows),
            missing_in_training=by_name[run.contender].missing_in_training,
        )
        for run in experiment.runs
    }


def tell(output: Path, experiment: Experiment | None) -> dict[str, Any]:
    """Compare the finished runs of a folder, write table and report, and print the tables.

    Args:
        output: Folder of the comparison.
        experiment: What is fixed; read from the folder where absent.

    Returns:
        What ``comparison.json`` holds.
    """
    from mmadapters.cli.console import OUT, print_table, step
    from mmadapters.evaluation.run_files import compare_folder
    from mmadapters.report.files import HTML_FILE, write_comparison
    from mmadapters.report.tables import differences_table, footer, metric_tables, summary_table

    # As JSON has it, whether it is read from the file or comes from the runs.
    comparison = json.loads(json.dumps(compare_folder(output, experiment)))
    pictures = []
    try:
        from mmadapters.plots.draw import draw_pictures

        pictures = draw_pictures(comparison)
    except MissingDependencyError as error:
        step(str(error))
    write_comparison(output, comparison, pictures)
    for table in (summary_table(comparison), differences_table(comparison), *metric_tables(comparison, ("test",))):
        if table is not None and table.rows:
            print_table(table.title, table.columns, table.rows, table.note, table.text_columns)
    for line in footer(comparison):
        OUT.print(line, soft_wrap=True)
    step(f"the report is {output / HTML_FILE}; tables as JSON, Markdown and CSV are beside it")
    return comparison


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception meanwhile, so that the run that is under way is ended and temporary files go."""

    def stop(number: int, _: object) -> None:
        raise TrainingInterrupted(
            "The comparison was ended; finished runs are kept. The same command goes on with it.", number
        )

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # Not in the main thread, where nobody sends signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
