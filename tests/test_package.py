"""The package from outside, in new processes: what an import costs, who knows the method, which names there are."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import mmadapters
from mmadapters import _registration
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.model import MultimodalAdapterModel
from mmadapters.artefact import load_artefact
from mmadapters.errors import ConfigurationError, MMAdaptersError
from mmadapters.modality import Modality

KEY = "MULTIMODAL_ADAPTER"
HEAVY = ["torch", "transformers", "peft", "pandas", "numpy", "scipy", "sklearn", "optuna", "tensorboard"]
LOADED = f"import sys; print('loaded:', sorted(name for name in {HEAVY} if name in sys.modules))"
REGISTERED = f"""
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
print(PEFT_TYPE_TO_CONFIG_MAPPING['{KEY}'].__name__, PEFT_TYPE_TO_TUNER_MAPPING['{KEY}'].__name__)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120)


def printed(code: str, *arguments: str) -> str:
    process = python("-W", "error", "-c", code, *arguments)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import mmadapters; mmadapters.Modality('poster', 3); mmadapters.MMAdaptersError; {LOADED}"
    assert printed(code) == "loaded: []"


@pytest.mark.parametrize(
    "verb", [[], ["train"], ["search"], ["compare"], ["evaluate"], ["predict"], ["info"], ["demo"]]
)
def test_help_loads_nothing_heavy(verb: list[str]) -> None:
    code = f"""
import sys
from mmadapters.cli.main import app
try:
    app({[*verb, "--help"]})
except SystemExit as stop:
    print('status:', stop.code)
{LOADED}
"""
    *help_text, status, loaded = printed(code).splitlines()
    assert status == "status: 0"
    assert loaded == "loaded: []"
    said = " ".join("\n".join(help_text).split())
    assert "Usage:" in said
    expected = {
        "": "Teach a frozen text encoder to use images, video, audio and tables",
        "train": "The run as YAML.",
        "search": "Search options of a run, and write the best as a run's YAML",
        "compare": "Run methods with several seeds and modalities, and write a table with intervals, and a report.",
        "evaluate": "Score a saved model on rows with labels",
        "predict": "with the predicted labels and each label's probability",
        "info": "Show what a saved model is",
        "demo": "compare them with logistic regression",
    }
    assert expected["".join(verb)] in said


def test_peft_knows_the_method_where_it_was_imported_first() -> None:
    assert printed("import peft; import mmadapters" + REGISTERED) == "MultimodalAdapterConfig MultimodalAdapterModel"


@pytest.mark.slow
def test_peft_knows_the_method_where_it_is_imported_later_and_is_left_as_it_was() -> None:
    code = f"""
import sys, mmadapters, mmadapters.modality, peft
{REGISTERED}
print(type(peft.__spec__.loader).__name__, type(peft.__loader__).__name__)
print([type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith('mmadapters')])
"""
    assert printed(code).splitlines() == [
        "MultimodalAdapterConfig MultimodalAdapterModel",
        "SourceFileLoader SourceFileLoader",
        "[]",
    ]


@pytest.mark.slow
def test_looking_for_peft_the_way_transformers_does_leaves_the_registration_in_place() -> None:
    code = "import mmadapters; import importlib.util; importlib.util.find_spec('peft'); import peft"
    assert printed(code + REGISTERED) == "MultimodalAdapterConfig MultimodalAdapterModel"


REGISTRATION = "made_up_registration"


@pytest.fixture
def made_up_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package in the place of PEFT, and a module in the place of what registers the method."""
    (tmp_path / "made_up_peft.py").write_text("import time\ntime.sleep(0.05)\n")
    (tmp_path / f"{REGISTRATION}.py").write_text("import made_up_peft\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_registration, "_PEFT", "made_up_peft")
    monkeypatch.setattr(_registration, "_REGISTER", REGISTRATION)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("made_up_peft", REGISTRATION):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)
    _registration.ensure_registered()
    return tmp_path


def waiting() -> int:
    return sum(isinstance(finder, _registration._PeftFinder) for finder in sys.meta_path)


def test_a_loader_is_wrapped_once_however_often_it_is_looked_for(made_up_peft: Path) -> None:
    class Remembering:
        """As some import hooks do: it looks for the module by the whole chain, and always gives the same answer."""

        specs: dict = {}

        def find_spec(self, name: str, path: object = None, target: object = None) -> object:
            if name == "made_up_peft" and name not in self.specs:
                self.specs[name] = None
                self.specs[name] = find_spec(name)
            return self.specs.get(name)

    sys.meta_path.append(Remembering())
    sys.meta_path.insert(0, Remembering())
    _registration.ensure_registered()
    assert waiting() == 1
    for _ in range(3):
        spec = find_spec("made_up_peft")
        assert isinstance(spec.loader, _registration._RegisteringLoader)
        assert not isinstance(spec.loader.loader, _registration._RegisteringLoader)
    assert (waiting(), REGISTRATION in sys.modules) == (1, False)
    __import__("made_up_peft")
    assert (waiting(), REGISTRATION in sys.modules) == (0, True)


def test_an_import_that_fails_is_waited_for_again(made_up_peft: Path) -> None:
    broken, whole = "raise ImportError('no torch')\n", ""
    (made_up_peft / "made_up_peft.py").write_text(broken)
    with pytest.raises(ImportError, match="no torch"):
        __import__("made_up_peft")
    assert (waiting(), REGISTRATION in sys.modules) == (1, False)
    (made_up_peft / "made_up_peft.py").write_text(whole)
    __import__("made_up_peft")
    assert (waiting(), REGISTRATION in sys.modules) == (0, True)


def test_threads_that_import_at_once_all_get_the_registered_module(made_up_peft: Path) -> None:
    def imported(_: int) -> bool:
        find_spec("made_up_peft")
        __import__("made_up_peft")
        return REGISTRATION in sys.modules

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(imported, range(8)))
    assert waiting() == 0


def test_without_peft_nothing_is_found(made_up_peft: Path) -> None:
    (made_up_peft / "made_up_peft.py").unlink()
    assert find_spec("made_up_peft") is None
    with pytest.raises(ModuleNotFoundError, match="No module named 'made_up_peft'"):
        __import__("made_up_peft")
    assert waiting() == 1


def test_a_saved_configuration_is_read_after_the_import_of_the_package_alone(tmp_path: Path) -> None:
    config = MultimodalAdapterConfig(modalities=[Modality("poster", 7), Modality("table", 3)], bottleneck_size=5)
    config.save_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == KEY
    code = """
import sys, mmadapters
from peft import PeftConfig
config = PeftConfig.from_pretrained(sys.argv[1])
print(type(config).__name__, config.bottleneck_size, config.fusion)
print([(modality.name, modality.feature_dim) for modality in config.modalities])
"""
    assert printed(code, str(tmp_path)).splitlines() == [
        "MultimodalAdapterConfig 5 gmu",
        "[('poster', 7), ('table', 3)]",
    ]


def test_every_public_name_can_be_had_and_there_are_few() -> None:
    assert len(mmadapters.__all__) <= 15
    assert sorted(set(mmadapters.__all__)) == mmadapters.__all__
    for name in mmadapters.__all__:
        assert getattr(mmadapters, name) is not None
        assert name in dir(mmadapters)
    assert mmadapters.MultimodalAdapterConfig is MultimodalAdapterConfig
    assert mmadapters.MultimodalAdapterModel is MultimodalAdapterModel
    assert mmadapters.load_artefact is load_artefact
    assert mmadapters.Modality is Modality
    assert issubclass(ConfigurationError, mmadapters.MMAdaptersError)
    assert mmadapters.MMAdaptersError is MMAdaptersError


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match=r"^module 'mmadapters' has no attribute 'MultimodalAdaptor'$"):
        _ = mmadapters.MultimodalAdaptor
    with pytest.raises(ImportError, match="cannot import name 'adaptor' from 'mmadapters'"):
        exec("from mmadapters import adaptor")


def test_the_module_is_the_command() -> None:
    process = python("-m", "mmadapters", "--version")
    assert (process.returncode, process.stdout) == (0, f"mmadapters {mmadapters.__version__}\n")
    assert mmadapters.__version__.split(".")[0].isdigit()
