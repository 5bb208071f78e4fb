"""What is wrong with the folder of an exported model is told, and nothing outside of it is read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from exported_models import Export
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from mmadapters.artefact import load_artefact, save_artefact
from mmadapters.errors import ArtefactError, ConfigurationError, MissingDependencyError, MMAdaptersError
from mmadapters.export import export_artefact, load_exported
from mmadapters.export.files import file_entries, is_exported


@pytest.fixture
def folder(export: Export, tmp_path: Path) -> Path:
    return Path(shutil.copytree(export.folder, tmp_path / "model"))


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "pipeline.json"
    pipeline = json.loads(file.read_text())
    edit(pipeline)
    file.write_text(json.dumps(pipeline))


def sign(folder: Path) -> None:
    """Note the digests anew, as somebody does who means harm."""
    change(folder, lambda pipeline: pipeline["export"].update(files=file_entries(folder)))


def test_the_folder_is_known_by_its_pipeline(export: Export, tmp_path: Path) -> None:
    assert is_exported(export.folder)
    assert not is_exported(save_artefact(export.artefact, tmp_path / "artefact"))
    assert not is_exported(tmp_path / "absent")


def test_an_artefact_is_no_exported_model_and_the_other_way_round(export: Export, tmp_path: Path) -> None:
    artefact = save_artefact(export.artefact, tmp_path / "artefact")
    with pytest.raises(ArtefactError, match=r"is no exported model. Make one of an artefact by `mmadapters export"):
        load_exported(artefact)
    with pytest.raises(ArtefactError, match="is an exported model, which is for prediction alone"):
        load_artefact(export.folder)
    with pytest.raises(ArtefactError, match="is an exported model"):
        export_artefact(export.folder, tmp_path / "again")
    with pytest.raises(ArtefactError, match="holds an artefact, which would be lost"):
        export_artefact(export.artefact, artefact)
    assert load_artefact(artefact).labels == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda p: p["export"].update(format_version=9),
            "is of the export format 9, this version .* up to 1. Install a",
        ),
        (lambda p: p["export"].update(format_version="x"), "export format 'x'"),
        (lambda p: p["export"].pop("tokenizer"), "lacks 'tokenizer' of the export"),
        (lambda p: p["export"].update(files=None), "has no float32 model, but none"),
        (lambda p: p["export"]["files"].pop("tokenizer.json"), "tokenizer.json' is not among the files that were"),
        (
            lambda p: p["export"]["tokenizer"].update(padding_side="up"),
            "describes the tokenizer in a way that is unknown",
        ),
        (lambda p: p["export"]["tokenizer"].update(padding=[]), "describes the tokenizer"),
        (lambda p: p["export"]["tokenizer"].update(model_input_names=["input_ids", "__class__"]), "describes the tok"),
        (lambda p: p["export"].update(tokenizer="fast"), "describes the tokenizer"),
        (lambda p: p["export"].update(gates={}), "lacks something or holds what it should not: KeyError"),
        (
            lambda p: p.update(thresholds=None, labels=["a", "b", "c", "d"]),
            r"'logits' as float32 \(\?, 3\), and its pipeline.json as float32 \(batch, 4\)",
        ),
        (lambda p: p.update(thresholds=[0.5]), "1 thresholds for 3 labels"),
        (lambda p: p.update(threshold=[]), "lacks something or holds what it should not"),
        (lambda p: p.pop("problem_type"), "KeyError"),
        (lambda p: p.update(problem_type="ranking"), "problem type 'ranking'"),
        (lambda p: p.update(batch_size=0), "batch size 0"),
        (
            lambda p: p["preprocessor"]["modalities"][1].update(feature_dim=7),
            r"modality_features.the-poster' as float32",
        ),
        (lambda p: p["export"]["tokenizer"]["model_input_names"].pop(), "describes the tokenizer"),
        (lambda p: p["export"].update(gates={"names": [], "layers": []}), "only one of both has gates"),
    ],
)
def test_a_pipeline_that_does_not_fit(folder: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    change(folder, edit)
    errors = (ArtefactError, ConfigurationError)
    with pytest.raises(errors, match=message):
        load_exported(folder, threads=1)


def test_files_that_are_damaged_or_absent(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_exported(tmp_path)
    with pytest.raises(
        ConfigurationError, match="runtime='openwino' is unknown. Accepted are .*Did you mean 'openvino'"
    ):
        load_exported(folder, runtime="openwino")
    with pytest.raises(ConfigurationError, match="int8 model was asked for under 'openvino'"):
        load_exported(folder, runtime="openvino", int8=True)
    model = folder / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(ArtefactError, match="model.onnx' is not as it was exported: size or digest differ"):
        load_exported(folder)
    model.unlink()
    with pytest.raises(ConfigurationError, match="has no float32 model, but 'int8', 'openvino'. Export it again, or"):
        load_exported(folder)
    assert load_exported(folder, int8=True, threads=1).form.name == "int8"
    (folder / "model.bin").unlink()
    with pytest.raises(ArtefactError, match="model.bin' is absent, and was exported. Copy the whole folder"):
        load_exported(folder, runtime="openvino")
    (folder / "model.onnx.data").write_bytes(b"x")
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"model.onnx' is not as it was|model.onnx.data' is not among the files"):
        load_exported(folder)
    (folder / "pipeline.json").write_text("[1]")
    with pytest.raises(ArtefactError, match="holds no JSON object"):
        load_exported(folder)
    with (folder / "pipeline.json").open("wb") as file:
        file.truncate(60_000_000)
    with pytest.raises(ArtefactError, match="60,000,000 bytes, which no exported model needs"):
        load_exported(folder)


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "tokenizer.json"):
        elsewhere = tmp_path / name
        shutil.move(folder / name, elsewhere)
        os.symlink(elsewhere, folder / name)
        with pytest.raises(ArtefactError, match=f"{name}' is a link or no file at all, and could lead out"):
            load_exported(folder)
        (folder / name).unlink()
        shutil.move(elsewhere, folder / name)
    os.symlink(tmp_path / "absent", folder / "model.onnx.data")
    with pytest.raises(ArtefactError, match="model.onnx.data' is not among the files"):
        load_exported(folder)


def with_weights_at(source: Path, location: str, offset: int = 0) -> bytes:
    """Return a graph of which one weight is said to be in another file."""
    graph = onnx.load(source)
    tensor = next(t for t in graph.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims == [32])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", "128")):
        tensor.external_data.add(key=key, value=value)
    return graph.SerializeToString()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_weights_outside_of_the_folder_are_not_read(folder: Path, tmp_path: Path, runtime: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(128))
    for name in ("model.xml", "model.bin"):
        (folder / name).unlink()
    source = onnx.load(folder / "model.onnx").SerializeToString()
    for location in ("../secret.bin", str(secret), "./../model/../secret.bin"):
        (folder / "model.onnx").write_bytes(source)
        (folder / "model.onnx").write_bytes(with_weights_at(folder / "model.onnx", location))
        sign(folder)
        with pytest.raises(ArtefactError, match=f"model.onnx' cannot be opened by {runtime}: .*[Pp]ath"):
            load_exported(folder, runtime=runtime, threads=1)
    # The same graph with the same weight in its own folder is fine: it is the place that is refused.
    (folder / "model.onnx").write_bytes(source)
    (folder / "model.onnx.data").write_bytes(bytes(128))
    (folder / "model.onnx").write_bytes(with_weights_at(folder / "model.onnx", "model.onnx.data"))
    sign(folder)
    assert load_exported(folder, runtime=runtime, threads=1).labels == ["a", "b", "c"]


def test_what_is_no_graph_is_told(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph")
    (folder / "tokenizer.json").write_text("{}")
    sign(folder)
    with pytest.raises(ArtefactError, match="tokenizer.json' is no tokenizer that can be read"):
        load_exported(folder)


def test_a_graph_that_cannot_be_opened(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph")
    sign(folder)
    with pytest.raises(ArtefactError, match="model.onnx' cannot be opened by onnxruntime: .* Export the model again"):
        load_exported(folder)


def test_a_runtime_that_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        MissingDependencyError, match=r'needs the package .openvino.*pip install openvino, or "mmadapters\[op'
    ):
        load_exported(folder, runtime="openvino")


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Return the path of every value in nested lists and dictionaries."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


ODD = (None, -1, 0, 10**12, 0.5, True, "x", "../x", [], {}, [[]], {"x": 1})


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_value_of_the_pipeline_may_be_another(export: Export, data: st.DataObject) -> None:
    """It is loaded, or refused with a reason; there is no other error."""
    pipeline = json.loads((export.folder / "pipeline.json").read_text())
    *above, last = data.draw(st.sampled_from(places(pipeline)[1:]))
    changed = pipeline
    for key in above:
        changed = changed[key]
    changed[last] = data.draw(st.sampled_from(ODD))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("model.onnx", "tokenizer.json"):
            os.link(export.folder / file, folder / file)
        (folder / "pipeline.json").write_text(json.dumps(pipeline))
        with contextlib.suppress(MMAdaptersError):
            assert load_exported(folder, threads=1).preprocessor.max_length is not None
