"""One run of a comparison in a process of its own: ``python -m mmadapters.cli.compare_worker job.json``.

A process of its own has a peak memory of its own, gives it all back, and takes no other run with it when it dies.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmadapters.cli.compare_config import CompareConfig
from mmadapters.errors import MMAdaptersError

if TYPE_CHECKING:
    from mmadapters.data.dataset import MultimodalDataset
    from mmadapters.data.preprocessor import Preprocessor
    from mmadapters.evaluation.ablation import Variant

EXIT_FAILED = 1
EXIT_PARENT_GONE = 3
PACKAGES = ("mmadapters", "torch", "transformers", "peft", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Job:
    """What a process is to do. Plain values.

    Attributes:
        contender: Its name.
        method: Name of the method.
        options: The method's own.
        modalities: What it reads.
        seed: Of the run.
        folder: Of the run.
        digest: Of settings and rows.
        run: The comparison's file of settings.
        rows_folder: Relative paths of row files start here.
        rows: File with the rows as the comparison prepared them; None to read and prepare them again.
        missing_in_training: Probability with which each training and validation row lacks each modality.
    """

    contender: str
    method: str
    options: dict[str, Any]
    modalities: list[str]
    seed: int
    folder: str
    digest: str
    run: str
    rows_folder: str
    rows: str | None
    missing_in_training: float = 0.0


def do(job: Job) -> None:
    """Train, predict and write the result.

    Args:
        job: What to do.
    """
    import numpy as np

    from mmadapters.baselines.method import build_method
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.cli.run_config import RunConfig
    from mmadapters.cli.settings import load_settings
    from mmadapters.evaluation.ablation import variant_metrics, varied
    from mmadapters.evaluation.comparison import SPLITS, RunOutcome
    from mmadapters.evaluation.run_files import write_outcome
    from mmadapters.training.fit import ModelSettings

    prepare_libraries(progress=False)
    settings = load_settings(RunConfig, Path(job.run))
    preprocessor, data = read_prepared(Path(job.rows)) if job.rows else prepare(settings, Path(job.rows_folder))[:2]
    method = build_method(
        job.method, ModelSettings(**asdict(settings.model)), settings.adapter, settings.training, job.options
    )
    folder = Path(job.folder)
    compare = settings.compare or CompareConfig()
    data = {split: rows.restricted_to(job.modalities) for split, rows in data.items()}
    for split in ("train", "validation"):
        data[split] = thinned(data[split], split, job.missing_in_training, compare.missing_seed)
    variants = test_variants(compare, job.modalities)
    with_variants = {variant.key: varied(data["test"], variant, compare.missing_seed) for variant in variants}
    restricted = preprocessor.restricted_to(job.modalities)
    result = method.run(restricted, {**data, **with_variants}, seed=job.seed, folder=folder, report=step)
    kind, labels = task_of(restricted)
    outcome = RunOutcome(
        logits={split: result.logits[split] for split in SPLITS},
        trainable_parameters=result.trainable_parameters,
        parameters=result.parameters,
        file_bytes=result.file_bytes,
        seconds=result.seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=peak_gpu_memory_bytes(),
        log=result.log,
        settings=result.settings,
        versions=versions(),
        variants=variant_metrics(variants, result.logits, kind, np.asarray(data["test"].labels), labels),
        explanation=result.explanation,
    )
    about = {"contender": job.contender, "method": job.method, "modalities": job.modalities, "seed": job.seed}
    write_outcome(folder, job.digest, outcome, **about, options=job.options)


def test_variants(compare: CompareConfig, modalities: list[str]) -> list[Variant]:
    """Return the variants of the test rows that a model is scored on beside the rows themselves.

    Args:
        compare: What is compared.
        modalities: That the model reads.
    """
    from mmadapters.evaluation.ablation import rate_variants, subset_variants

    if not modalities:
        return []
    subsets = subset_variants(modalities) if compare.missing_subsets else []
    return [*subsets, *rate_variants(modalities, compare.missing_rates)]


def thinned(rows: MultimodalDataset, split: str, rate: float, seed: int) -> MultimodalDataset:
    """Return rows of which each lacks each modality with a probability.

    Args:
        rows: Of a split.
        split: Its name.
        rate: The probability.
        seed: Of the draw.
    """
    from mmadapters.data.missing import draw_missing, without

    if not rate:
        return rows
    return without(rows, draw_missing(len(rows), [each.name for each in rows.modalities], rate, seed, split))


def task_of(preprocessor: Preprocessor) -> tuple[str, list[str]]:
    """Return problem type and label names.

    Args:
        preprocessor: With labels.
    """
    from mmadapters.baselines.result import label_names

    assert preprocessor.labels is not None
    return str(preprocessor.labels.problem_type), label_names(preprocessor)


def prepare(settings: Any, rows_folder: Path) -> tuple[Preprocessor, dict[str, MultimodalDataset], Any]:
    """Read and prepare the rows of a comparison.

    Args:
        settings: The run.
        rows_folder: Relative paths start here.

    Returns:
        The preprocessor, the data sets by split, and the test rows as they were read.
    """
    from mmadapters.backbones import load_tokenizer
    from mmadapters.cli.rows import read_splits
    from mmadapters.data.preprocessor import Preprocessor

    frames = read_splits(settings, rows_folder)
    tokenizer = load_tokenizer(settings.model.backbone)
    preprocessor = Preprocessor.fit(
        frames["train"], settings.to_schema(), tokenizer, max_length=settings.data.max_length
    )
    return preprocessor, {split: preprocessor.transform(frame) for split, frame in frames.items()}, frames["test"]


def write_prepared(path: Path, preprocessor: Preprocessor, data: dict[str, MultimodalDataset]) -> None:
    """Write prepared rows for processes of this command.

    Args:
        path: In a folder that nobody else can write to: reading it runs what is in it.
        preprocessor: Made the data.
        data: The rows by split.
    """
    with path.open("wb") as file:
        pickle.dump((preprocessor, data), file, protocol=pickle.HIGHEST_PROTOCOL)


def read_prepared(path: Path) -> tuple[Preprocessor, dict[str, MultimodalDataset]]:
    """Read what ``write_prepared`` wrote, in the folder that the parent process made for itself."""
    with path.open("rb") as file:
        preprocessor, data = pickle.load(file)
    return preprocessor, data


def peak_memory_bytes() -> int:
    """Return the most main memory that this process has had.

    Linux's ``ru_maxrss`` starts from the parent's peak, since it outlives ``exec``; ``VmHWM`` belongs to the process.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def peak_gpu_memory_bytes() -> int | None:
    """Return the most GPU memory that tensors of this process took, or None without a GPU that was used."""
    import torch

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in PACKAGES}


def attempt(job: Job) -> int:
    """Do a job, or write down why it could not be done, and return the exit status.

    Args:
        job: What to do.
    """
    from mmadapters.evaluation.run_files import write_failure

    try:
        do(job)
    except Exception as error:
        traceback.print_exc()
        name = "" if isinstance(error, MMAdaptersError) else f"{type(error).__name__}: "
        write_failure(Path(job.folder), job.digest, f"{name}{error}")
        return EXIT_FAILED
    return 0


def main(arguments: list[str]) -> int:
    """Do the job of the file that is named, and return the exit status.

    Args:
        arguments: Of the command line.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return attempt(Job(**json.loads(Path(arguments[0]).read_text(encoding="utf-8"))))


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even if that was killed: its end of the pipe closes."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(EXIT_PARENT_GONE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
