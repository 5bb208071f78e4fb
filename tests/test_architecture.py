"""ARCHITECTURE.md, held: who may import whom, files of a readable length, a command line that loads nothing heavy."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "mmadapters"
LONGEST_FILE = 400

LEAVES = {"errors", "modality", "files"}
TO_EVALUATION = LEAVES | {"adapters", "features", "data", "backbones", "classifier", "evaluation"}
EVERYTHING_BELOW_DEMO = TO_EVALUATION | {"training", "baselines", "hub", "artefact"}
PREDICTOR = TO_EVALUATION | {"training", "artefact", "hub", "sharing", "plots", "report", "console"}
MAY_IMPORT = {
    "errors": set(),
    "modality": {"errors"},
    "files": {"errors"},
    "adapters": {"errors", "modality"},
    "features": LEAVES,
    "data": LEAVES | {"features"},
    "backbones": LEAVES | {"adapters", "hub"},
    "classifier": LEAVES | {"adapters", "backbones"},
    "evaluation": LEAVES | {"data"},
    "training": LEAVES | {"data", "backbones", "classifier", "adapters", "evaluation"},
    "baselines": TO_EVALUATION - {"features"} | {"training"},
    "export": LEAVES | {"data", "evaluation", "artefact"},
    "plots": LEAVES | {"evaluation"},
    "report": LEAVES | {"evaluation", "plots"},
    "hub": LEAVES,
    "artefact": TO_EVALUATION | {"training", "report", "hub"},
    "sharing": LEAVES | {"hub", "artefact"},
    "console": set(),
    "predictor": PREDICTOR,
    "webpage": LEAVES | {"features", "data", "evaluation", "artefact", "plots", "predictor"},
    "serving": PREDICTOR | {"predictor", "__init__"},
    "demo": EVERYTHING_BELOW_DEMO,
    "cli": EVERYTHING_BELOW_DEMO | PREDICTOR | {"export", "predictor", "webpage", "serving", "demo", "__init__"},
    "__init__": {"_registration"},
    "_registration": set(),
    "__main__": {"cli"},
}
"""A part's name is the first one below the package; every part may import itself."""

TYPE_CHECKING_IS_FREE = {"cli", "__init__"}
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "pandas",
    "numpy",
    "sklearn",
    "scipy",
    "accelerate",
    "pyarrow",
    "safetensors",
    "huggingface_hub",
    "ray",
    "optuna",
    "tensorboard",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "gradio",
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "prometheus_client",
}
WITHOUT_PYTORCH = {"torch", "transformers", "peft", "accelerate", "safetensors", "sklearn", "onnx", "onnxscript"}
"""What an exported model does without."""


@dataclass(frozen=True)
class Import:
    """One imported module, and whether it is imported when the importing module is."""

    module: str
    line: int
    at_import_time: bool
    type_checking: bool


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imported_names(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """What a statement imports: ``from a import b`` is ``a`` and ``a.b``, which may be a module.

    Of the package itself only the names count, since ``from mmadapters import errors`` is there for the errors.
    """
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    around = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*around, *([node.module] if node.module else [])])
    names = [f"{base}.{alias.name}" for alias in node.names if alias.name != "*"]
    return names if names and base == "mmadapters" else [base, *names]


def walk_imports(node: ast.AST, package: str, at_import_time: bool, type_checking: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for name in imported_names(node, package):
            yield Import(name, node.lineno, at_import_time and not type_checking, type_checking)
        return
    guarded = node.body if isinstance(node, ast.If) and is_type_checking(node.test) else []
    inner = at_import_time and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from walk_imports(child, package, inner, type_checking or child in guarded)


def imports_of(source: str, module: str, is_package: bool = False) -> list[Import]:
    """Every import of a source text, those in functions and under TYPE_CHECKING included."""
    package = module if is_package else module.rpartition(".")[0]
    return list(walk_imports(ast.parse(source), package, True, False))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str | None:
    """The part that a module of the package belongs to, None for what is not of the package."""
    package, *rest = module.split(".")
    if package != "mmadapters":
        return None
    return rest[0] if rest and rest[0] in MAY_IMPORT else "__init__"


def forbidden_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of a source text that the table does not allow, one line each."""
    own = part_of(module)
    assert own is not None
    problems = []
    for entry in imports_of(source, module, is_package):
        part = part_of(entry.module)
        if part in (None, own) or part in MAY_IMPORT[own] or (entry.type_checking and own in TYPE_CHECKING_IS_FREE):
            continue
        problems.append(f"{module}:{entry.line}: '{own}' may not import '{entry.module}'")
    return problems


def heavy_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """The heavy packages that a source text loads when it is imported, one line each."""
    return [
        f"{module}:{entry.line}: loads '{entry.module.split('.')[0]}'"
        for entry in imports_of(source, module, is_package)
        if entry.at_import_time and entry.module.split(".")[0] in HEAVY
    ]


def loaded_with(start: str, sources: dict[str, tuple[str, bool]]) -> set[str]:
    """The modules of ``sources`` that importing ``start`` imports, the packages around each included."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if "." in module:
            waiting.append(module.rpartition(".")[0])
        if module in reached or module not in sources:
            continue
        reached.add(module)
        source, is_package = sources[module]
        waiting += [entry.module for entry in imports_of(source, module, is_package) if entry.at_import_time]
    return reached


FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {module_name(path): (path.read_text(encoding="utf-8"), path.name == "__init__.py") for path in FILES}


def test_every_import_goes_the_way_of_the_table() -> None:
    assert len(SOURCES) > 40
    problems = [
        line for name, (source, is_package) in SOURCES.items() for line in forbidden_imports(source, name, is_package)
    ]
    assert problems == []


def test_every_part_is_in_the_table() -> None:
    found = {path.stem if path.suffix == ".py" else path.name for path in PACKAGE.iterdir() if path.name[0] != "."}
    assert found - {"__pycache__", "py.typed"} == set(MAY_IMPORT)


@pytest.mark.skipif(not (REPOSITORY / "ARCHITECTURE.md").is_file(), reason="a source distribution has no such file")
def test_the_table_of_the_document_has_the_same_parts() -> None:
    lines = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| part | does | may import |")
    named: list[str] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        named += re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1])
    assert sorted(named) == sorted(part for part in MAY_IMPORT if not part.startswith("_"))


def test_features_and_adapters_meet_only_in_the_leaves_and_nothing_goes_round() -> None:
    used: dict[str, set[str]] = {part: set() for part in MAY_IMPORT}
    for name, (source, is_package) in SOURCES.items():
        own = part_of(name)
        parts = {part_of(entry.module) for entry in imports_of(source, name, is_package) if not entry.type_checking}
        used[str(own)] |= {part for part in parts if part is not None} - {str(own)}
    assert used["adapters"] & used["features"] <= LEAVES
    assert "features" not in used["adapters"]
    assert "adapters" not in used["features"]
    TopologicalSorter(used).prepare()
    TopologicalSorter(MAY_IMPORT).prepare()


def test_the_leaves_need_the_standard_library_alone() -> None:
    for part in sorted(LEAVES):
        source, _ = SOURCES[f"mmadapters.{part}"]
        outside = {
            entry.module
            for entry in imports_of(source, f"mmadapters.{part}")
            if entry.module.split(".")[0] not in {"mmadapters", *sys.stdlib_module_names}
        }
        assert outside == set(), part


def test_the_command_line_and_the_package_load_nothing_heavy() -> None:
    loaded = loaded_with("mmadapters.cli.main", SOURCES)
    verbs = {
        f"mmadapters.cli.{verb}"
        for verb in ("train", "search", "compare", "evaluate", "predict", "export", "info", "demo")
    }
    assert verbs | {"mmadapters", "mmadapters._registration", "mmadapters.cli", "mmadapters.cli.settings"} <= loaded
    problems = [line for name in sorted(loaded) for line in heavy_imports(SOURCES[name][0], name, SOURCES[name][1])]
    assert problems == []
    assert "mmadapters.cli.options" not in loaded
    assert "mmadapters.adapters.config" in loaded_with("mmadapters.cli.options", SOURCES)


def test_cli_modules_other_than_options_are_light_themselves() -> None:
    heavy = {
        name
        for name, (source, is_package) in SOURCES.items()
        if part_of(name) == "cli" and any(heavy_imports(*_named(other)) for other in loaded_with(name, SOURCES))
    }
    assert heavy == {"mmadapters.cli.options"}


def _named(module: str) -> tuple[str, str, bool]:
    source, is_package = SOURCES[module]
    return source, module, is_package


def test_ray_is_loaded_where_it_is_used() -> None:
    loading = {
        name
        for name, (source, is_package) in SOURCES.items()
        for entry in imports_of(source, name, is_package)
        if entry.at_import_time and entry.module.split(".")[0] == "ray"
    }
    # What Ray starts on its nodes; the command that has it started loads it when it is asked for Ray.
    assert loading == {"mmadapters.serving.replicas"}
    assert not loading & (
        loaded_with("mmadapters.cli.main", SOURCES) | loaded_with("mmadapters.serving.server", SOURCES)
    )
    assert "mmadapters.features.ray_workers" not in loaded_with("mmadapters.features.extract", SOURCES)


def test_an_exported_model_is_loaded_without_pytorch() -> None:
    loaded = loaded_with("mmadapters.export.exported", SOURCES)
    assert {"mmadapters.data.preprocessor", "mmadapters.data.dataset", "mmadapters.evaluation.predictions"} <= loaded
    imported = {
        entry.module.split(".")[0]
        for name in loaded
        for entry in imports_of(SOURCES[name][0], name, SOURCES[name][1])
        if entry.at_import_time
    }
    assert imported & WITHOUT_PYTORCH == set()
    assert "torch" in {entry.module for entry in imports_of(SOURCES["mmadapters.export.graph"][0], "x")}


def test_no_file_is_too_long_and_none_is_a_drawer() -> None:
    lengths = {module: len(source.splitlines()) for module, (source, _) in SOURCES.items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_FILE} == {}
    assert [path.name for path in FILES if path.name == "utils.py"] == []


@pytest.mark.parametrize(
    ("source", "module", "problem"),
    [
        ("import os\nfrom mmadapters.features.tabular import is_missing", "adapters.model", "2: 'adapters' may not"),
        ("import mmadapters.adapters", "features.image", "1: 'features' may not import 'mmadapters.adapters'"),
        ("from mmadapters import adapters", "features.image", "1: 'features' may not import 'mmadapters.adapters'"),
        ("from ..adapters import config", "features.image", "1: 'features' may not import 'mmadapters.adapters'"),
        ("def f():\n    from mmadapters.training.fit import fit", "data.labels", "2: 'data' may not import"),
        ("if TYPE_CHECKING:\n    import mmadapters.cli.main", "demo", "2: 'demo' may not import 'mmadapters.cli.main'"),
        (
            "from mmadapters import load_artefact",
            "training.fit",
            "1: 'training' may not import 'mmadapters.load_artefact'",
        ),
        ("from mmadapters.errors import listed", "_registration", "1: '_registration' may not import"),
    ],
)
def test_the_check_finds_a_forbidden_import(source: str, module: str, problem: str) -> None:
    found = forbidden_imports(source, f"mmadapters.{module}")
    assert found
    assert f"mmadapters.{module}:{problem}" in found[0]


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from mmadapters import errors, modality", "adapters.config"),
        ("from . import config\nfrom .config import x", "adapters.model"),
        ("import torch, pandas", "errors"),
        ("if TYPE_CHECKING:\n    from mmadapters.demo import DemoResult", "cli.demo"),
        ('"""\nfrom mmadapters.cli.main import main\n"""', "data.files"),
    ],
)
def test_the_check_passes_what_is_allowed(source: str, module: str) -> None:
    assert forbidden_imports(source, f"mmadapters.{module}") == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", ["m:1: loads 'torch'"]),
        (
            "try:\n    from pandas import DataFrame\nexcept ImportError:\n    pass",
            ["m:2: loads 'pandas'", "m:2: loads 'pandas'"],
        ),
        ("class A:\n    import peft", ["m:2: loads 'peft'"]),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import scipy", ["m:4: loads 'scipy'"]),
        ("def f():\n    import torch", []),
        ("if typing.TYPE_CHECKING:\n    import torch", []),
    ],
)
def test_the_check_finds_a_heavy_import(source: str, found: list[str]) -> None:
    assert heavy_imports(source, "m") == found


def test_what_is_loaded_is_followed_through_packages() -> None:
    sources = {
        "p": ("", True),
        "p.a": ("from p.b import c\ndef f():\n    import p.d", False),
        "p.b": ("from .d import x\nif TYPE_CHECKING:\n    import p.e", True),
        "p.b.c": ("", False),
        "p.b.d": ("from ..g import y", False),
        "p.d": ("", False),
        "p.e": ("", False),
        "p.g": ("", False),
    }
    assert loaded_with("p.a", sources) == {"p", "p.a", "p.b", "p.b.c", "p.b.d", "p.g"}
