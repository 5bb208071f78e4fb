"""Make docs/results.md and the README's table of results from ``benchmarks/quality/*/result.json``.

``python benchmarks/quality_page.py`` (or ``make bench-page``) fills what stands between markers; what is outside of
them stays as it was written by hand. The tables are those of ``mmadapters compare``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from page_tables import table
from pages import file_stem, filled

from mmadapters.cli.console import step
from mmadapters.evaluation.names import metric_title
from mmadapters.files import write_text_atomically
from mmadapters.plots.draw import draw_pictures
from mmadapters.report.explanation_tables import faithfulness_table, leave_one_out_table, missing_table
from mmadapters.report.markdown import escaped, markdown_table
from mmadapters.report.tables import Table, differences_table, mean_and_deviation, summary_table

BENCHMARKS = Path(__file__).parent
ROOT = BENCHMARKS.parent
PAGE, README, IMAGES = ROOT / "docs" / "results.md", ROOT / "README.md", ROOT / "docs" / "images"
SETS = ("movies", "emoji", "trailers")
LATER = ("-2", "-3")
"""End the names of the folders whose methods were run after those of a set."""
PREFIX = "results-"
SHOWN_PICTURES = ("results", "costs", "missing", "left-out", "shares")
NOT_MEASURED = "Not measured yet: `make bench` does it."
OURS, DROPPED, THINNED, TEXT = (
    "adapters",
    "adapters, modality dropout",
    "adapters, trained at 70 % missing",
    "text only",
)
MMBT, LINEAR = "MMBT", "logistic regression"
BEST = {
    MMBT: "MMBT (everything fine-tuned), best settings on these rows",
    LINEAR: "logistic regression, best modalities on these rows",
}
"""Of several settings or subsets the one that is best on the test rows, which flatters these methods and not ours."""
FEW_ROWS = "adapters, trained as the predictor does"
README_ROWS = (OURS, FEW_ROWS, TEXT, MMBT, "LoRA, late fusion", "late GMU", LINEAR)
"""What the README's table shows of each set, where it was compared: labels of methods; of several subsets the best."""
AT_RATE = 0.7

Result = Mapping[str, Any]


def results(benchmarks: Path) -> dict[str, Result]:
    """Return the results by set, as far as they are there, with what later experiments add to them."""
    found: dict[str, Result] = {}
    for name in SETS:
        for folder in (name, *(f"{name}{ending}" for ending in LATER)):
            file = benchmarks / "quality" / folder / "result.json"
            if file.exists():
                result = {**json.loads(file.read_text(encoding="utf-8")), "folder": folder}
                found[name] = joined(found[name], result) if name in found else result
    return found


def joined(first: Result, later: Result) -> Result:
    """Return a result with the contenders that another one has beside.

    Differences to the reference and their intervals are of the runs of each, so they belong together only if the
    reference was the same. A contender that came out like one of the same method and modalities stands there once.

    Args:
        first: The result.
        later: Of the same rows and seeds, with the same reference.

    Raises:
        ValueError: If rows, labels, seeds or the reference's scores are not the same.
    """
    ours, others = first["comparison"], later["comparison"]
    reference = ours["reference"]
    same = {what: (ours[what], others[what]) for what in ("rows", "labels", "seeds", "reference", "main_metrics")}
    scores = [(named(each, reference) or {"metrics": None})["metrics"] for each in (ours, others)]
    unlike = [what for what, (one, two) in same.items() if one != two]
    if unlike or not alike(*scores):
        raise ValueError(
            f"quality/{later['folder']} does not continue quality/{first['folder']}: "
            f"{', '.join(unlike) or f'scores of {reference}'} differ. Put it into a folder of another name."
        )
    labels = {each["label"] for each in ours["contenders"]}
    added = [each for each in others["contenders"] if each["label"] not in labels and not _stands(each, ours)]
    comparison = {**ours, "contenders": [*ours["contenders"], *added]}
    return {**first, "comparison": comparison, "later": [*first.get("later", []), later]}


def _stands(contender: Mapping[str, Any], comparison: Mapping[str, Any]) -> bool:
    """Tell whether a comparison has the same under another label."""
    return any(
        each["method"] == contender["method"]
        and each["modalities"] == contender["modalities"]
        and each["trainable_parameters"] == contender["trainable_parameters"]
        and alike(each["metrics"], contender["metrics"])
        for each in comparison["contenders"]
        if each["seeds"] and contender["seeds"]
    )


def pictured(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison for the pictures: the curves of missing modalities are of methods that read all of them."""
    contenders = comparison["contenders"]
    most = max((len(each["modalities"]) for each in contenders), default=0)
    return {
        **comparison,
        "contenders": [each if len(each["modalities"]) == most else {**each, "variants": []} for each in contenders],
    }


def alike(one: Any, two: Any) -> bool:
    """Tell whether two nests of plain values are the same, numbers but for the last digit that results keep."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(alike(one[name], two[name]) for name in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(alike, one, two))
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-4, abs_tol=2e-5)
    return bool(one == two)


def labelled(comparison: Mapping[str, Any], label: str) -> list[dict[str, Any]]:
    """Return the finished contenders of a label."""
    return [each for each in comparison["contenders"] if each["label"].startswith(label) and each["seeds"]]


def named(comparison: Mapping[str, Any], label: str) -> dict[str, Any] | None:
    """Return the finished contender whose label is this one, or None."""
    return next((each for each in comparison["contenders"] if each["label"] == label and each["seeds"]), None)


def best(contenders: list[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """Return the contender with the best mean on the test rows, or None."""
    return max(contenders, key=lambda each: each["metrics"]["test"][metric]["mean"], default=None)


def reached(contender: Mapping[str, Any], metric: str) -> float:
    """Return a contender's mean on the test rows."""
    return contender["metrics"]["test"][metric]["mean"]


def targets(found: Mapping[str, Result]) -> str:
    """Return the table of what was aimed at, one row a set and aim."""
    rows = []
    for name, result in found.items():
        if name == "trailers":
            continue
        rows += [[name, *row] for row in _aims(result["comparison"])]
    return table(["set", "aim", "at least", "measured", ""], rows) if rows else NOT_MEASURED


def _aims(comparison: Mapping[str, Any]) -> list[list[str]]:
    ours, text = named(comparison, OURS), named(comparison, TEXT)
    micro, macro = comparison["main_metrics"]
    rows: list[list[str]] = []
    if ours is None:
        return rows

    def row(aim: str, bound: float, value: float) -> None:
        rows.append([aim, f"{bound:+.3f}", f"{value:+.4f}", "met" if value >= bound else "**missed**"])

    for metric in (micro, macro):
        mmbt = best(labelled(comparison, MMBT), metric)
        if mmbt is not None:
            several = f" ({mmbt['name']})" if len(labelled(comparison, MMBT)) > 1 else ""
            aim = f"{metric_title(metric)} over MMBT's{several}"
            row(aim, -0.005, reached(ours, metric) - reached(mmbt, metric))
    if mmbt is not None:
        share = ours["trainable_parameters"] / mmbt["trainable_parameters"]
        met = "met" if share <= 0.1 else "**missed**"
        rows.append(["parameters trained, of MMBT's", "at most 10 %", f"{100 * share:.1f} %", met])
    linear = best(labelled(comparison, LINEAR), micro)
    if linear is not None:
        row(
            f"{metric_title(micro)} over the best logistic regression ({linear['name']})",
            0.01,
            reached(ours, micro) - reached(linear, micro),
        )
    if text is not None:
        row(f"{metric_title(micro)} over adapters of the text alone", 0.0, reached(ours, micro) - reached(text, micro))
    kept = gap_kept(comparison, micro)
    if kept is not None:
        rows.append(
            [
                "of what training on rows with 70 % missing gains over text alone, modality dropout keeps",
                "0.9",
                f"{kept:.2f}",
                "met" if kept >= 0.9 else "**missed**",
            ]
        )
    return rows


def gap_kept(comparison: Mapping[str, Any], metric: str) -> float | None:
    """Return which part of what training on thinned rows gains over the text alone modality dropout reaches, or None.

    Both are scored on test rows of which 70 % lack each modality.
    """
    dropped, thinned, text = (named(comparison, label) for label in (DROPPED, THINNED, TEXT))
    if dropped is None or thinned is None or text is None:
        return None
    by_dropout, by_thinning = (_at_rate(each, metric) for each in (dropped, thinned))
    if by_dropout is None or by_thinning is None:
        return None
    return (by_dropout - reached(text, metric)) / (by_thinning - reached(text, metric))


def _at_rate(contender: Mapping[str, Any], metric: str) -> float | None:
    for variant in contender["variants"]:
        if not variant["kept"] and variant["rate"] == AT_RATE:
            return variant["metrics"][metric]["mean"]
    return None


def section(name: str, result: Result, link: Callable[[str], str], drawn: set[str]) -> str:
    """Return what the page says of a set.

    Args:
        name: Of the set.
        result: Of the experiment.
        link: From a picture's name to its address.
        drawn: The names of the pictures that there are.
    """
    comparison = result["comparison"]
    sources = [result, *result.get("later", [])]
    rows = comparison["rows"]
    explained = {each["name"]: each["explanation"] for each in comparison["contenders"] if each.get("explanation")}
    variants = {each["name"]: each["variants"] for each in comparison["contenders"] if each.get("variants")}
    metric = comparison["main_metrics"][0]
    tables: list[Table | None] = [
        summary_table(comparison),
        differences_table(comparison),
        leave_one_out_table(explained[OURS], OURS) if OURS in explained else None,
        faithfulness_table(explained) if explained else None,
        missing_table(variants, metric) if variants else None,
    ]
    parts = [
        f"{rows['train']:,} training, {rows['validation']:,} validation and {rows['test']:,} test rows, "
        f"{len(comparison['labels'])} labels, {len(comparison['seeds'])} seeds.",
        *(markdown_table(each) for each in tables if each is not None),
        *(f"![{name}: {picture}]({link(picture)})" for picture in SHOWN_PICTURES if picture in drawn),
        *map(_source, sources),
    ]
    return "\n\n".join(parts)


def _source(result: Result) -> str:
    folder, machine, versions = result["folder"], result["machine"], result["versions"]
    return (
        f"[quality/{folder}](../benchmarks/quality/{folder}/result.json), {result['date']}: "
        f"{machine.get('processor') or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; torch "
        f"{versions['torch']}, transformers {versions['transformers']}, peft {versions['peft']}."
    )


def readme_table(found: Mapping[str, Result]) -> str:
    """Return the README's table: micro and macro average precision of each set, and what is trained."""
    if not found:
        return NOT_MEASURED
    headings = ["method"]
    for name, result in found.items():
        headings += [f"{name}: {metric_title(metric)}" for metric in result["comparison"]["main_metrics"]]
    headings.append("trained parameters")
    rows = []
    for label in README_ROWS:
        cells, parameters = [BEST.get(label, label)], []
        comparisons = [result["comparison"] for result in found.values()]
        if not any(labelled(comparison, label) for comparison in comparisons):
            continue
        for comparison in comparisons:
            mains = comparison["main_metrics"]
            contender = best(labelled(comparison, label), mains[0]) if label in BEST else named(comparison, label)
            for metric in mains:
                cells.append("–" if contender is None else mean_and_deviation(contender["metrics"]["test"][metric]))
            if contender is not None:
                parameters.append(contender["trainable_parameters"])
        trained = [f"{count:,}" for count in sorted({min(parameters), max(parameters)})] if parameters else ["–"]
        rows.append([*map(escaped, cells), " to ".join(trained)])
    return table(headings, rows)


def make(benchmarks: Path, page: str, readme: str, images: str) -> tuple[str, str, dict[str, str]]:
    """Return the page, the README, and the pictures by file name.

    Args:
        benchmarks: The folder of experiments.
        page: The page as it is.
        readme: The README as it is.
        images: Folder of the pictures, as the page names it.
    """
    found = results(benchmarks)
    svgs: dict[str, str] = {}
    sections = {"aims": targets(found)}
    for name in SETS:
        if name not in found:
            sections[name] = NOT_MEASURED
            continue
        own = {picture.name: picture.svg for picture in draw_pictures(pictured(found[name]["comparison"]))}
        files = {what: f"{PREFIX}{file_stem(f'{name} {what}')}.svg" for what in SHOWN_PICTURES if what in own}
        svgs |= {file: own[what] for what, file in files.items()}
        sections[name] = section(name, found[name], lambda what, f=files: f"{images}/{f[what]}", set(files))
    return filled(page, sections), filled(readme, {"results": readme_table(found)}), svgs


def main(benchmarks: Path, page: Path, readme: Path, images: Path) -> None:
    try:
        text, start, svgs = make(
            benchmarks, page.read_text(encoding="utf-8"), readme.read_text(encoding="utf-8"), images.name
        )
    except ValueError as error:
        sys.exit(f"{page} or {readme}: {error}")
    for file, svg in svgs.items():
        write_text_atomically(images / file, svg)
    for old in set(images.glob(f"{PREFIX}*.svg")) - {images / file for file in svgs}:
        old.unlink()
    write_text_atomically(page, text)
    write_text_atomically(readme, start)
    step(f"written to {page} and {readme}, with {len(svgs)} pictures")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, default=BENCHMARKS, help="Folder of the experiments.")
    parser.add_argument("--page", type=Path, default=PAGE, help="The page of results.")
    parser.add_argument("--readme", type=Path, default=README, help="The README.")
    parser.add_argument("--images", type=Path, default=IMAGES, help="Folder of the pictures, beside the page.")
    main(**vars(parser.parse_args()))
