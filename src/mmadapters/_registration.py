"""Makes PEFT know the method, whatever is imported first, without importing PEFT (and so torch) for its own sake."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PEFT = "peft"
_REGISTER = "mmadapters.adapters.register"


class _RegisteringLoader(Loader):
    """Runs PEFT's own loader, registers the method, and ends the waiting."""

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
        # A new list: another thread may be going through the old one, and would skip a finder.
        sys.meta_path = [finder for finder in sys.meta_path if not isinstance(finder, _PeftFinder)]


class _PeftFinder(MetaPathFinder):
    """Waits for the import of PEFT, however often PEFT is only looked for before.

    It asks the finders behind it, as the import system would, so that it never comes upon itself.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _PEFT:
            return None
        finders = list(sys.meta_path)
        behind = finders[finders.index(self) + 1 :] if self in finders else []
        specs = (finder.find_spec(fullname, path, target) for finder in behind if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None and not isinstance(spec.loader, _RegisteringLoader):
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


def ensure_registered() -> None:
    """Register at once where PEFT is loaded, else right after PEFT will have been imported."""
    if _PEFT in sys.modules:
        importlib.import_module(_REGISTER)
    elif not any(isinstance(finder, _PeftFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PeftFinder())
