"""Makes PEFT know the method, whatever is imported first, without importing PEFT (and so torch) for its own sake."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_PEFT = "peft"
_REGISTER = "mmadapters.adapters.register"


class _RegisteringLoader(Loader):
    """Runs PEFT's own loader and then registers the method."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        importlib.import_module(_REGISTER)


class _PeftFinder(MetaPathFinder):
    """Waits for the import of PEFT, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _PEFT:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = find_spec(_PEFT)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


def ensure_registered() -> None:
    """Register at once where PEFT is loaded, else right after PEFT will have been imported."""
    if _PEFT in sys.modules:
        importlib.import_module(_REGISTER)
    elif not any(isinstance(finder, _PeftFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PeftFinder())
