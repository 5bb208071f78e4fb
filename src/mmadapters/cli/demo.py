"""``mmadapters demo``: adapters on real movies, beside honest baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.cli.settings import load_settings, to_yaml
from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    from mmadapters.demo.comparison import DemoResult


def demo(
    media: Annotated[
        bool,
        typer.Option(
            "--media", help="From raw posters, trailers and sound of a small synthetic set, all five modalities."
        ),
    ] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Where the results go; runs/demo, or runs/demo-media, where absent."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of split, initialisation and order.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: training.learning_rate=1e-3. Repeatable.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Train text-only and multimodal adapters on MovieLens-100k and compare them with logistic regression."""
    from mmadapters.cli.run_config import DemoConfig

    settings = load_settings(DemoConfig, None, overrides or [])
    output = output_dir or Path("runs/demo-media" if media else "runs/demo")

    from dataclasses import asdict, replace

    from mmadapters.artefact import check_may_be_written
    from mmadapters.cli.console import ERR, prepare_libraries, step
    from mmadapters.cli.options import check_adapter_options, coerce_training
    from mmadapters.demo import comparison, miniatures, movies
    from mmadapters.files import write_text_atomically
    from mmadapters.training.fit import ModelSettings

    shown = prepare_libraries(progress)
    names = miniatures.MODALITIES if media else [column.name for column in movies.MODALITIES]
    adapter = check_adapter_options(settings.adapter, names)
    if adapter.get("fusion") == "none":
        raise ConfigurationError(
            "adapter.fusion=none was set, but the demonstration trains the text-only adapter beside one that reads "
            "modalities. Leave it out, or choose a fusion for the latter."
        )
    singles = [f"{name} adapter" for name in names] if media else []
    for method in (comparison.TEXT_ONLY, *singles, comparison.MULTIMODAL):
        check_may_be_written(comparison.artefact_folder(output, method))
    options = comparison.DemoOptions(
        output_dir=output,
        seed=seed,
        model=ModelSettings(**asdict(settings.model)),
        adapter=adapter,
        training=coerce_training(settings.training, seed=seed, progress=shown),
        report=step,
    )
    result = miniatures.run_media_demo(options) if media else movies.run_demo(options)
    resolved = replace(settings, output_dir=str(output), seed=seed)
    write_text_atomically(output / "config.resolved.yaml", to_yaml(resolved))
    print_result(result)
    step(f"Loading the artefact in a new process and predicting the test {result.unit} again")
    comparison.check_reload(result)
    ERR.print(f"The same predictions, bit for bit. Artefact: {result.artefact}", soft_wrap=True)
    predictions = output / "predictions.csv"
    ERR.print(f"Try: mmadapters predict {result.artefact} {result.test_rows} -o {predictions}", soft_wrap=True)


def print_result(result: DemoResult) -> None:
    """Print the comparison, what all modalities add to the best single one where each was tried, and the mean gates.

    Args:
        result: What the demonstration measured.
    """
    from mmadapters.cli.console import OUT, file_size, print_table
    from mmadapters.demo.comparison import best_single

    rows = [
        [
            method.method,
            " + ".join(method.modalities),
            f"{method.micro_average_precision:.3f}",
            f"{method.macro_average_precision:.3f}",
            f"{method.micro_f1:.3f}",
            f"{method.trainable_parameters:,}",
            file_size(method.file_bytes),
            f"{method.seconds:.0f}",
        ]
        for method in result.methods
    ]
    print_table(
        f"Genres of {result.n_test} test {result.unit} ({len(result.labels)} labels)",
        ["method", "reads", "micro AP", "macro AP", "micro F1", "trained parameters", "file", "seconds"],
        rows,
        f"{result.n_train} training, {result.n_validation} validation and {result.n_test} test {result.unit}, "
        f"seed {result.seed}. Epoch and C were chosen on the validation {result.unit}; F1 at a probability of 0.5.",
    )
    if result.note:
        OUT.print(result.note, soft_wrap=True)
    if len(result.methods[-1].modalities) > 3:
        single, together = best_single(result)
        OUT.print(
            f"All {len(together.modalities)} modalities together: {together.micro_average_precision:.3f} micro AP; the "
            f"best single one ({single.modalities[0]}, {single.method}): {single.micro_average_precision:.3f}.",
            soft_wrap=True,
        )
    gates = result.gates
    if gates is None:
        return
    print_table(
        f"Mean gate by layer (multimodal adapter, test {result.unit})",
        ["layer", *gates.names],
        [[str(layer), *(f"{v:.3f}" for v in row)] for layer, row in zip(gates.layers, gates.by_layer, strict=True)],
        "0 is closed, 1 is open. A gate alone is no contribution: it says what is let through, not how much there is.",
    )
