"""Loads the scripts of docs/, and builds the site for the tests that look at it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def load_script(name: str) -> ModuleType:
    """Return a script of docs/ as a module."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(DOCS) not in sys.path:
        # Scripts import each other, as when they are run from a shell.
        sys.path.append(str(DOCS))
    spec.loader.exec_module(module)
    return module
