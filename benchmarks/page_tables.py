"""The parts of docs/speed.md that follow from results, as Markdown. Nothing here says more than the results hold."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from names import ADAPTERHUB, AXES, FULL, OURS, OURS_SHARED, display_name
from results import Part, Source, newest_parts, ratio, sources

NOT_MEASURED = "Not measured yet: `make bench` does it."
ENCODERS = {"bert-base": "BERT-base", "minilm": "MiniLM"}
PARTS = {"step": "step", "infer": "inference"}


@dataclass(frozen=True)
class Target:
    """A figure to reach, of issue 5.

    Attributes:
        what: In words.
        shape: Shape of the results.
        contender: Of the shape.
        part: ``step``, ``infer`` or ``memory``.
        bound: The greatest ratio.
        than: The contender that the ratio refers to.
    """

    what: str
    shape: str
    contender: str
    part: str
    bound: float
    than: str = FULL


TARGETS = (
    Target("training step, BERT-base", "bert-base", OURS, "step", 0.74),
    Target("the same, against AdapterHub's text-only adapters", "bert-base", OURS, "step", 1.05, ADAPTERHUB),
    Target("inference, BERT-base", "bert-base", OURS, "infer", 1.05),
    Target("peak memory of training, BERT-base", "bert-base", OURS, "memory", 0.70),
    Target("peak memory, last 4 layers", "bert-base", "ours last 4", "memory", 0.40),
    Target("peak memory, last 4 layers, prefix cached", "bert-base", "ours last 4, cached", "memory", 0.34),
    Target("training step, last 4 layers, prefix cached", "bert-base", "ours last 4, cached", "step", 0.27),
    Target("training step, MiniLM", "minilm", OURS, "step", 0.70),
    Target("the same with two modalities (1280, 312)", "minilm, two modalities", OURS, "step", 0.70),
)
LENGTH_TARGET = 1.5


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def targets_table(benchmarks: Path) -> str:
    """Return each target beside what the newest results hold."""
    shapes = newest_parts(benchmarks, "steps", "shapes")
    rows = []
    for target in TARGETS:
        contenders = shapes[target.shape].values["contenders"] if target.shape in shapes else {}
        measured = ratio(contenders, target.contender, target.part, target.than)
        shared = None
        if target.contender == OURS:
            shared = ratio(contenders, OURS_SHARED, target.part, target.than)
        verdict = "–" if measured is None else "met" if measured <= target.bound else "**missed**"
        rows.append(
            [target.what, f"at most {target.bound:.2f}", _number(measured), verdict, _number(shared, absent="")]
        )
    training = length_part(benchmarks, "training")
    speedup = None if training is None else training["similar length"]["times_arrival_order"]
    verdict = "–" if speedup is None else "met" if speedup >= LENGTH_TARGET else "**missed**"
    rows.append(
        [
            "rows a second, similar length against arrival order",
            f"at least {LENGTH_TARGET}",
            _number(speedup),
            verdict,
            "",
        ]
    )
    return table(["", "target", "measured", "", "with shared projections"], rows)


def steps_section(benchmarks: Path, images: dict[str, str]) -> str:
    """Return a section for each shape: what was compared, the table, the picture, and who was left out.

    Args:
        benchmarks: The folder of experiments.
        images: Paths of pictures as the page names them, by what they show.
    """
    shapes = newest_parts(benchmarks, "steps", "shapes")
    if not shapes:
        return NOT_MEASURED
    return "\n\n".join(_shape_section(name, part, images[f"steps {name}"]) for name, part in shapes.items())


def _shape_section(name: str, part: Part, image: str) -> str:
    contenders = part.values["contenders"]
    reference = contenders[part.source.config["reference"]]
    size = _encoder_name(part.config["encoder"])
    shape = part.config
    seconds = {of: _seconds(reference[f"{of}_seconds"]["median"]) for of in PARTS}
    lines = [
        f"### {title_of(name)}",
        _wrapped(
            f"{size} with random weights, {shape['batch_size']} rows of {shape['length']} tokens, modalities of "
            f"{_listed(shape['modalities'])} features, {part.source.config['labels']} labels. Full fine-tuning takes "
            f"{seconds['step']} a step, {seconds['infer']} an inference and {reference['peak_megabytes']:,} MiB; the "
            "others are multiples of that."
        ),
        contenders_table(contenders),
        f"![Step, inference and memory of each contender as multiples of full fine-tuning]({image})",
    ]
    if left_out := left_out_line(part.values.get("left_out", {})):
        lines.append(left_out)
    return "\n\n".join([*lines, measured_line(part)])


def contenders_table(contenders: dict[str, Any]) -> str:
    """Return the table of a shape; columns that a result of an older form does not hold are left out."""
    has_limits = all("step_limit_ratio" in result for result in contenders.values())
    headings = [""]
    for part in PARTS.values():
        headings += [part, f"products of the {part}", f"time of the {part} / limit"] if has_limits else [part]
    headings += ["memory", "trained parameters", *(["saved file"] if has_limits else [])]
    rows = []
    for name, result in contenders.items():
        row = [display_name(name)]
        for part in PARTS:
            row.append(_spread(result[f"{part}_ratio"]))
            if has_limits:
                row += [f"{result[f'{part}_limit_ratio']:.3f}", f"{result[f'{part}_to_limit']:.2f}"]
        row += [f"{result['memory_ratio']:.3f}", f"{result['trainable_parameters'] / 1e6:.1f} M"]
        rows.append(row + ([f"{result['file_megabytes']:,.1f} MB"] if has_limits else []))
    return table(headings, rows)


def growth_section(benchmarks: Path, images: dict[str, str]) -> str:
    """Return a section for each axis: table and picture.

    Args:
        benchmarks: The folder of experiments.
        images: Paths of pictures as the page names them, by what they show.
    """
    axes = newest_parts(benchmarks, "growth", "axes")
    if not axes:
        return NOT_MEASURED
    return "\n\n".join(_axis_section(axis, part, images[f"growth {axis}"]) for axis, part in axes.items())


def _axis_section(axis: str, part: Part, image: str) -> str:
    lines = [f"### {AXES[axis].capitalize()}"]
    if axis == "rows":
        lines += [_rows_text(part), _rows_table(part)]
    else:
        lines += [_shape_text(axis, part), _axis_table(axis, part)]
    lines.append(f"![Time and memory against {AXES[axis]}]({image})")
    left_out: dict[str, str] = {}
    for point in part.values["points"]:
        left_out |= point["left_out"]
    if left_out:
        lines.append(left_out_line(left_out))
    return "\n\n".join([*lines, measured_line(part)])


def _shape_text(axis: str, part: Part) -> str:
    shape = part.source.config["shape"]
    modalities = {
        "modalities": f"modalities of {part.config.get('width')} features",
        "width": f"{len(shape['modalities'])} modalities",
    }
    told = {
        "batch_size": f"{shape['batch_size']} rows a batch",
        "length": f"{shape['length']} tokens a text",
        "features": modalities.get(axis, f"modalities of {_listed(shape['modalities'])} features"),
        "labels": f"{shape['labels']} labels",
    }
    fixed = ", ".join(text for size, text in told.items() if size != axis)
    return _wrapped(
        f"{_encoder_name(shape['encoder'])}, {fixed}. Step / inference / memory; of the others as multiples of it."
    )


def _axis_table(axis: str, part: Part) -> str:
    reference = part.source.config["reference"]
    names = list(dict.fromkeys(name for point in part.values["points"] for name in point["contenders"]))
    rows = []
    for point in part.values["points"]:
        contenders = point["contenders"]
        absolute = contenders[reference]
        row = [
            f"{point['value']:,}",
            f"{_seconds(absolute['step_seconds']['median'])} / {_seconds(absolute['infer_seconds']['median'])} / "
            f"{absolute['peak_megabytes']:,} MiB",
        ]
        for name in names[1:]:
            values = [ratio(contenders, name, what, reference) for what in ("step", "infer", "memory")]
            row.append(" / ".join(_number(value, digits=2) for value in values))
        rows.append(row)
    return table([AXES[axis], *(display_name(name) for name in [reference, *names[1:]])], rows)


def _rows_text(part: Part) -> str:
    first, last = part.values["points"][0], part.values["points"][-1]
    told = []
    for name in last["contenders"]:
        if name not in first["contenders"]:
            continue
        more = last["contenders"][name]["peak_megabytes"] - first["contenders"][name]["peak_megabytes"]
        a_row = more * 2**20 / (last["value"] - first["value"])
        told.append(
            f"With the rows {display_name(name)}, the peak grows by {more:,} MiB from {first['value']:,} to "
            f"{last['value']:,} rows: {a_row:,.0f} bytes a row."
        )
    settings = part.config
    return _wrapped(
        f"Training from a Parquet file by the Trainer's own loader, adapters in `{settings['backbone']}`, texts of "
        f"{settings['words']} words, vectors of {_listed(settings['widths'])} features, {settings['batch_size']} rows "
        f"a batch. {' '.join(told)}"
    )


def _rows_table(part: Part) -> str:
    rows = [
        [
            f"{point['value']:,}",
            display_name(name),
            _seconds(result["step_seconds"]["median"]),
            _seconds(result["batch_seconds"]["median"]),
            f"{result['prepare_seconds']:.1f} s",
            f"{result['peak_megabytes']:,} MiB",
        ]
        for point in part.values["points"]
        for name, result in point["contenders"].items()
    ]
    return table(["rows", "", "step", "of it the loader", "reading and preparing", "peak memory"], rows)


def length_section(benchmarks: Path) -> str:
    """Return the table of batches of similar length."""
    found = sources(benchmarks, "length")
    if not found:
        return NOT_MEASURED
    source = found[-1]
    rows = []
    for way in source.result["training"]:
        row = [way]
        for part in ("training", "inference"):
            measured = source.result[part][way]
            row += [f"{measured['times_arrival_order']:.2f}", f"{measured['padded_tokens_to_tokens']:.2f}"]
        rows.append(row)
    headings = ["", "training", "padded / real tokens", "inference", "padded / real tokens"]
    return f"{table(headings, rows)}\n\n{_measured(source, source.result['machine'].get('load'))}"


def length_part(benchmarks: Path, part: str) -> dict[str, Any] | None:
    """Return ``training`` or ``inference`` of the newest result on length, or None."""
    found = sources(benchmarks, "length")
    return found[-1].result[part] if found else None


def _encoder_name(encoder: Any) -> str:
    """Return the name of an encoder that a configuration names, or its sizes where it gives these."""
    if isinstance(encoder, str):
        return ENCODERS.get(encoder, encoder)
    return f"A BERT of {encoder['num_hidden_layers']} layers, {encoder['hidden_size']} wide"


def title_of(shape: str) -> str:
    """Return a shape's name as a heading."""
    first, comma, rest = shape.partition(",")
    return ENCODERS.get(first, first) + comma + rest


def left_out_line(left_out: dict[str, str]) -> str:
    """Return who was left out, and why; nothing where all were there."""
    return _wrapped("".join(f"Left out: {display_name(name)} ({why}). " for name, why in left_out.items()))


def measured_line(part: Part) -> str:
    """Return when and on what a part was measured."""
    return _measured(part.source, part.values.get("load_before"))


def _measured(source: Source, load: float | None) -> str:
    machine, versions = source.result["machine"], source.result["versions"]
    told = [
        machine.get("processor") or machine["cpu"],
        _counted(machine["cores"], "core"),
        _counted(machine["threads"], "thread"),
    ]
    if "memory_gigabytes" in machine:
        told.append(f"{machine['memory_gigabytes']:.0f} GB of memory")
    if load is not None:
        told.append(f"load {load:.1f}")
    packages = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if versions.get(name))
    folder = source.folder.name
    link = f"[{folder}](../benchmarks/{folder}/result.json)"
    return _wrapped(f"{link}, {source.result['date']}: {', '.join(told)}; {packages}.")


def _spread(value: dict[str, float]) -> str:
    if value["quartile_1"] == value["quartile_3"]:
        return f"{value['median']:.3f}"
    return f"{value['median']:.3f} ({value['quartile_1']:.3f} to {value['quartile_3']:.3f})"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _number(value: float | None, digits: int = 3, absent: str = "–") -> str:
    return absent if value is None else f"{value:.{digits}f}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _listed(values: Sequence[Any]) -> str:
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " and " + texts[-1]
