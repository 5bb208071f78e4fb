"""``mmadapters demo``: adapters on real movies, beside honest baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.cli.settings import load_settings, to_yaml
from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    from mmadapters.demo import DemoResult


def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Where the results go.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of split, initialisation and order.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: training.learning_rate=1e-3. Repeatable.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Train text-only and multimodal adapters on MovieLens-100k and compare them with logistic regression."""
    from mmadapters.cli.run_config import DemoConfig

    settings = load_settings(DemoConfig, None, overrides or [])

    from dataclasses import asdict, replace

    from mmadapters.artefact import check_may_be_written
    from mmadapters.cli.console import ERR, prepare_libraries, step
    from mmadapters.cli.options import check_adapter_options, coerce_training
    from mmadapters.demo import MODALITIES, MULTIMODAL, TEXT_ONLY, DemoOptions, artefact_folder, check_reload, run_demo
    from mmadapters.files import write_text_atomically
    from mmadapters.training.fit import ModelSettings

    shown = prepare_libraries(progress)
    adapter = check_adapter_options(settings.adapter, [column.name for column in MODALITIES])
    if adapter.get("fusion") == "none":
        raise ConfigurationError(
            "adapter.fusion=none was set, but the demonstration trains the text-only adapter beside one that reads "
            "modalities. Leave it out, or choose a fusion for the latter."
        )
    for method in (TEXT_ONLY, MULTIMODAL):
        check_may_be_written(artefact_folder(output_dir, method))
    training = coerce_training(settings.training, seed=seed, progress=shown)
    result = run_demo(
        DemoOptions(
            output_dir=output_dir,
            seed=seed,
            model=ModelSettings(**asdict(settings.model)),
            adapter=adapter,
            training=training,
            report=step,
        )
    )
    resolved = replace(settings, output_dir=str(output_dir), seed=seed)
    write_text_atomically(output_dir / "config.resolved.yaml", to_yaml(resolved))
    print_result(result)
    step("Loading the artefact in a new process and predicting the test movies again")
    check_reload(result)
    ERR.print(f"The same predictions, bit for bit. Artefact: {result.artefact}", soft_wrap=True)
    predictions = output_dir / "predictions.csv"
    ERR.print(f"Try: mmadapters predict {result.artefact} {result.test_rows} -o {predictions}", soft_wrap=True)


def print_result(result: DemoResult) -> None:
    """Print the comparison and the mean gates.

    Args:
        result: What the demonstration measured.
    """
    from mmadapters.cli.console import file_size, print_table

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
        f"Genres of {result.n_test} test movies ({len(result.labels)} labels)",
        ["method", "reads", "micro AP", "macro AP", "micro F1", "trained parameters", "file", "seconds"],
        rows,
        f"{result.n_train} training, {result.n_validation} validation and {result.n_test} test movies, seed "
        f"{result.seed}. Epoch and C were chosen on the validation movies; F1 at a probability of 0.5.",
    )
    gates = result.gates
    if gates is None:
        return
    print_table(
        "Mean gate by layer (multimodal adapter, test movies)",
        ["layer", *gates.names],
        [[str(layer), *(f"{v:.3f}" for v in row)] for layer, row in zip(gates.layers, gates.by_layer, strict=True)],
        "0 is closed, 1 is open. A gate alone is no contribution: it says what is let through, not how much there is.",
    )
