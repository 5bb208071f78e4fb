"""However an artefact's files are damaged: the same model, or an error of the library, soon and in little memory."""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hostile import BACKBONE, OLD
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutations import HOSTILE, JSON_FILES, KINDS, WEIGHTS, with_bytes, with_values

import mmadapters.classifier
from mmadapters.artefact import Artefact, card_of, load_artefact, loading, save_artefact
from mmadapters.artefact.files import FILES
from mmadapters.errors import MMAdaptersError
from mmadapters.evaluation.evaluator import predict

SECONDS, MEGABYTES = 10.0, 500
ROWS = pd.read_json(OLD / "rows.jsonl", lines=True)[:3]
quick = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def encoder_once() -> Iterator[None]:
    """The backbone is the same for all: it is read once."""
    once: dict[str, Any] = {}

    def kept(name: str, load: Callable[..., Any]) -> Callable[..., Any]:
        def loaded(backbone: str, *args: Any, **kwargs: Any) -> Any:
            if backbone != BACKBONE:
                return load(backbone, *args, **kwargs)
            if name not in once:
                once[name] = load(backbone, *args, **kwargs)
            return copy.deepcopy(once[name])

        return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmadapters.classifier, "load_encoder", kept("encoder", mmadapters.classifier.load_encoder))
        for name in ("load_tokenizer", "load_encoder_config"):
            patch.setattr(loading, name, kept(name, getattr(loading, name)))
        yield


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, encoder_once: None) -> dict[str, Path]:
    """Artefacts of version 0.1, and one of this version, whose files have digests."""
    target = tmp_path_factory.mktemp("new") / "model"
    new = save_artefact(load_artefact(OLD / "multi_label", backbone=BACKBONE), target)
    return {"multi_label": OLD / "multi_label", "regression": OLD / "regression", "fusion": OLD / "fusion", "new": new}


def weights_of(artefact: Artefact) -> dict[str, torch.Tensor]:
    return {name: value for name, value in artefact.model.state_dict().items() if "mmadapter_" in name}


def outcome(folder: Path) -> Artefact | None:
    """Load within the limits: the artefact, or None after an error of the library."""
    before, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    artefact, said = None, "loaded"
    try:
        artefact = load_artefact(folder, backbone=BACKBONE)
    except MMAdaptersError as error:
        said = str(error)
    assert 0 < len(said) < 3000
    assert time.perf_counter() - before < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEGABYTES * 1024
    return artefact


def check(folder: Path, source: Path, same_weights: bool = True) -> None:
    artefact = outcome(folder)
    if artefact is None:
        return
    expected, found = weights_of(load_artefact(source, backbone=BACKBONE)), weights_of(artefact)
    if same_weights:
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    assert card_of(folder).startswith("---\n")
    try:
        rows = artefact.preprocessor.transform(ROWS, with_labels=False)
        logits = predict(artefact.model, rows, artefact.collator, artefact.problem_type, batch_size=2).logits
    except MMAdaptersError:
        # Of rows that lack what a changed preprocessing asks for.
        return
    assert np.isfinite(logits).all()


def damaged_copy(source: Path, name: str, content: bytes, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    for file in FILES:
        (target / file).write_bytes(content if file == name else (source / file).read_bytes())
    return target


CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(HOSTILE)), min_size=1, max_size=3)


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("kind", ["multi_label", "fusion"])
def test_any_value_of_a_json_file(kind: str, name: str, sources: dict[str, Path], tmp_path: Path) -> None:
    content = json.loads((sources[kind] / name).read_text())

    @quick
    @given(changes=CHANGES)
    def damage(changes: list[tuple[int, Any]]) -> None:
        changed = json.dumps(with_values(content, changes)).encode()
        check(damaged_copy(sources[kind], name, changed, tmp_path / "damaged"), sources[kind])

    damage()


@pytest.mark.parametrize("name", FILES)
def test_any_byte(name: str, sources: dict[str, Path], tmp_path: Path) -> None:
    content = (sources["regression"] / name).read_bytes()
    head = min(len(content), 3000)

    @quick
    @example(kind="truncate", position=8, value=0)
    @given(kind=st.sampled_from(KINDS), position=st.integers(0, head), value=st.integers(0, 255))
    def damage(kind: str, position: int, value: int) -> None:
        changed = with_bytes(content, kind, position, value)
        folder = damaged_copy(sources["regression"], name, changed, tmp_path / "damaged")
        # Without a digest another number among the weights cannot be told from a right one.
        check(folder, sources["regression"], same_weights=name != WEIGHTS)

    damage()


def test_with_digests_every_other_byte_of_the_weights_is_noticed(sources: dict[str, Path], tmp_path: Path) -> None:
    content = (sources["new"] / WEIGHTS).read_bytes()

    @quick
    @given(position=st.integers(0, len(content) - 1), value=st.integers(1, 255))
    def damage(position: int, value: int) -> None:
        changed = bytearray(content)
        changed[position] ^= value
        folder = damaged_copy(sources["new"], WEIGHTS, bytes(changed), tmp_path / "damaged")
        assert outcome(folder) is None

    damage()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("kind", "seed"), [("multi_label", 1), ("regression", 2), ("fusion", 3)])
def test_many_damaged_artefacts_under_limits_of_memory_and_time(kind: str, seed: int) -> None:
    script = Path(__file__).with_name("mutations.py")
    command = [sys.executable, str(script), str(OLD / kind), str(seed), "1500"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    ended = json.loads(process.stdout.splitlines()[-1])
    assert set(ended) <= {"loaded", "ArtefactError", "ConfigurationError"}
    assert ended["ArtefactError"] > 500
    assert ended["loaded"] > 20
