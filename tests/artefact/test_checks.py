"""What an artefact's folder may not hold, and what is said of it."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import BACKBONE, OLD, WEIGHTS, at, copy, edit_json, header_of, with_header
from safetensors.torch import load, save

from mmadapters.artefact import files as artefact_files
from mmadapters.artefact import load_artefact, read_artefact, save_artefact, weights_file
from mmadapters.errors import ArtefactError
from mmadapters.features.extractor import ExtractorSpec

PIPELINE, ADAPTER = "pipeline.json", "adapter_config.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy("multi_label", tmp_path)


def refused(folder: Path, message: str, **options: Any) -> str:
    """Load, and return the error, which is of one line and readable length."""
    with pytest.raises(ArtefactError, match=message) as found:
        load_artefact(folder, backbone=BACKBONE, **options)
    said = str(found.value)
    assert len(said) < 1500
    assert "\n" not in said
    return said


class Boom:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch ran",))


def test_pickles_are_never_read(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("adapter_model.bin", "training_args.bin", "optimizer.pt", "pipeline.pkl"):
        (folder / name).write_bytes(pickle.dumps(Boom()))
    (folder / "modeling.py").write_text("open('ran', 'w')")
    (folder / "__init__.py").write_text("open('ran', 'w')")
    assert load_artefact(folder, backbone=BACKBONE).labels == ["dark", "new", "war"]
    (folder / WEIGHTS).unlink()
    said = refused(
        folder, f"has no {WEIGHTS} but 'adapter_model.bin', 'optimizer.pt', 'pipeline.pkl', .*may be a pickle"
    )
    assert "A pickle can run any code when it is read, so none ever is. Ask for the weights as" in said
    torch.save({"a": torch.ones(2)}, folder / WEIGHTS)
    refused(folder, f"{WEIGHTS}' cannot be used: its header would have .* or no safetensors file")
    assert not (tmp_path / "ran").exists()


def test_links_that_leave_the_folder(folder: Path, tmp_path: Path) -> None:
    for name in (PIPELINE, ADAPTER, WEIGHTS):
        outside = tmp_path / name
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)
        refused(folder, f"'.*{name}' is a link to '.*{name}', outside of the artefact's folder, where nothing is read")
        (folder / name).unlink()
        outside.rename(folder / name)
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert load_artefact(linked, backbone=BACKBONE).batch_size == 8
    (folder / "inside.json").write_bytes((folder / PIPELINE).read_bytes())
    (folder / PIPELINE).unlink()
    (folder / PIPELINE).symlink_to("inside.json")
    assert load_artefact(folder, backbone=BACKBONE).batch_size == 8
    (folder / PIPELINE).unlink()
    (folder / PIPELINE).symlink_to(PIPELINE)
    refused(folder, "pipeline.json' cannot be read: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_not_waited_for(folder: Path) -> None:
    (folder / PIPELINE).unlink()
    os.mkfifo(folder / PIPELINE)
    refused(folder, "pipeline.json' is no regular file, and nothing else is read")
    (folder / PIPELINE).unlink()
    (folder / PIPELINE).mkdir()
    refused(folder, "pipeline.json' is no regular file, and nothing else is read")


def test_files_that_are_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PIPELINE, ADAPTER, WEIGHTS):
        size = (folder / name).stat().st_size
        monkeypatch.setitem(artefact_files.LARGEST, name, size - 1)
        refused(folder, f"{name}' has {size:,} bytes, and at most {size - 1:,} are read of such a file")
        monkeypatch.setitem(artefact_files.LARGEST, name, size)
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(2**42)
    monkeypatch.undo()
    refused(folder, f"{WEIGHTS}' has 4,398,046,511,104 bytes, and at most 4,000,000,000 are read of such a file")


@pytest.mark.parametrize("name", [PIPELINE, ADAPTER])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read: Expecting property name"),
        (b"[]", "cannot be read: it holds a list, accepted is a JSON object"),
        (b"\xff\xfe{}", "cannot be read: 'utf-8' codec can't decode"),
        (b'{"a": NaN}', "cannot be read: NaN is no number of JSON"),
        (b'{"a": 1e999}', "cannot be read: the number 1e999 is too large"),
        (b'{"a": 1, "a": 2}', "cannot be read: the key 'a' is given twice"),
        (b"[" * 200_000, "cannot be read: it is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read: Exceeds the limit"),
        (b"", "cannot be read: Expecting value"),
    ],
)
def test_what_is_no_json(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    refused(folder, f"{name}' {message}")


HUGE = 10**12


def media(**changes: Any) -> dict[str, Any]:
    """How raw media become features, with every field of ``ExtractorSpec`` that belongs to no machine."""
    of_a_machine = ("batch_size", "device")
    spec = {key: value for key, value in asdict(ExtractorSpec("sound", "audio")).items() if key not in of_a_machine}
    return {"modality": "sound", "column": "file", "spec": {**spec, **changes}, "reads_steps": True}


PIPELINE_CHANGES: dict[str, tuple[Any, str]] = {
    "format_version": (99, "has format 99, this version of mmadapters reads up to 1. Install a newer"),
    "format_version#2": (0, "format_version is 0; accepted is a whole number from 1 to 1"),
    "format_version#3": ("1", "format_version is '1'; accepted is a whole number"),
    "format_version#4": (True, "format_version is True; accepted is a whole number"),
    "auto_map": ({"AutoModel": "x.Y"}, "has the key 'auto_map', by which code would be loaded. Artefacts never bring"),
    "trust_remote_code": (True, "has the key 'trust_remote_code', by which code would be loaded"),
    "model.trust_remote_code": (True, "model has the key 'trust_remote_code'; accepted are 'backbone', 'pooling'"),
    "model.backbone": ("/x/../../etc", "may not go up by '..', start with '~' or name another machine"),
    "model.backbone#2": ("../bert", "accepted is an alias, the name of a model on the Hub, or the full path"),
    "model.backbone#3": ("https://evil.example/bert", "accepted is an alias, the name of a model on the Hub, or"),
    "model.backbone#4": ("//evil/share/bert", "may not go up by '..', start with '~' or name another machine"),
    "model.backbone#5": ("\\\\evil\\share", "may not go up by '..', start with '~' or name another machine"),
    "model.backbone#6": ("/bert\0", "accepted is non-empty text of at most 4,096 characters"),
    "model.backbone#7": (
        "~/bert",
        "accepted is an alias, the name of a model on the Hub, or the full path of a folder",
    ),
    "model.backbone#8": ("file:///etc", "accepted is an alias, the name of a model on the Hub, or"),
    "model.backbone#9": (["minilm"], "accepted is non-empty text"),
    "model.pooling": ("__import__", "model.pooling is '__import__'; accepted is one of 'cls', 'mean'"),
    "model.head_dropout": (5.0, "model.head_dropout is 5.0; accepted is a number from 0 to 0.999"),
    "backbone_digest": ("x" * 64, "backbone_digest is 'xxx.*; accepted is non-empty text .*64 hexadecimal digits"),
    "backbone_revision": ("main", "backbone_revision is 'main'; accepted is .*a commit"),
    "problem_type": ("guess", "problem_type is 'guess'; accepted is one of 'multi_label_classification'"),
    "labels": ([], "labels is 'a list of 0'; accepted is a list of 1 to"),
    "labels#2": (["a", 2], r"labels\[1\] is 2; accepted is text"),
    "labels#3": ("abc", "labels is 'abc'; accepted is a list"),
    "thresholds": ([0.5], "thresholds is 'a list of 1'; accepted is one for each of the 3 labels"),
    "thresholds#2": ([0.5, 0.5, "x"], r"thresholds\[2\] is 'x'; accepted is a finite number"),
    "batch_size": (HUGE, "batch_size is 1000000000000; accepted is a whole number from 1 to 1,000,000"),
    "batch_size#2": (-1, "batch_size is -1; accepted is a whole number"),
    "max_tokens_per_batch": ("8", "max_tokens_per_batch is '8'; accepted is a whole number"),
    "metrics": ({"test": {"f1": "high"}}, "metrics.test.f1 is 'high'; accepted is a finite number"),
    "versions": ([], r"versions is \[\]; accepted is a mapping"),
    "license": ("free for\nall", "license is .*; accepted is .*such as apache-2.0 or other"),
    "predictor": ([], r"predictor is \[\]; accepted is a mapping"),
    "predictor#2": ({"format_version": "x"}, "predictor.format_version is 'x'; accepted is a whole number"),
    "predictor#3": ({"format_version": 1, "media": {}}, "predictor.media is {}; accepted is a list"),
    "predictor#4": (
        {"format_version": 1, "media": [media(frames=HUGE)]},
        r"media\[0\].spec.frames is 1000000000000; accepted is a whole number from 1 to 100,000",
    ),
    "predictor#5": (
        {"format_version": 1, "media": [media(decode="os.system")]},
        r"predictor.media\[0\].spec has the key 'decode'; accepted are",
    ),
    "predictor#6": (
        {"format_version": 1, "parameters": {"x": "a\0"}},
        "predictor.parameters.x is .*; accepted is text",
    ),
    "record": ({"splits": {"test": {"rows": -1}}}, "record.splits.test.rows is -1; accepted is a whole number"),
    "sha256": ({"adapter_config.json": "0" * 64}, "adapter_config.json' is not the file that was saved"),
    "sha256#2": ({WEIGHTS: "0" * 64}, f"{WEIGHTS}' is not the file that was saved with the artefact"),
    "preprocessor": (None, "preprocessor is None; accepted is a mapping"),
    "preprocessor.max_length": (10**8, "preprocessor.max_length is 100000000; accepted is a whole number"),
    "preprocessor.modalities": ([], "do not name the same modalities"),
    "preprocessor.modalities.0.feature_dim": (
        5,
        "The modality 'poster' is 4 wide for the adapters and in pipeline.json 5",
    ),
    "preprocessor.modalities.0.feature_dim#2": (HUGE, "feature_dim is 1000000000000; accepted is a whole number"),
    "preprocessor.modalities.0.name": (
        "../x",
        r"preprocessor.modalities\[0\].name is '../x'; accepted is .*letters",
    ),
    "preprocessor.modalities.0.kind": ("code", r"modalities\[0\].kind is 'code'; accepted is one of 'vector', 'image'"),
    "preprocessor.modalities.0.loader": ("x", "has the key 'loader'; accepted are 'name', 'feature_dim'"),
    "preprocessor.schema.text": (["a", "b", "c"], "its preprocessor cannot be made. text was given 3 columns"),
    "preprocessor.schema.text#2": ("plot\0", "preprocessor.schema.text is .*; accepted is the name of a column"),
    "preprocessor.schema.loader": ("x", "preprocessor.schema has the key 'loader'; accepted are 'text', 'label'"),
    "preprocessor.schema.modalities.0.kind": ("pickle", "kind is 'pickle'; accepted is one of 'vector', 'tabular'"),
    "preprocessor.schema.modalities.0": (
        {"kind": "store", "name": "poster", "store": "../../features"},
        r"modalities\[0\].store is '../../features'; a path may not go up by '..'",
    ),
    "preprocessor.schema.modalities.0#2": (
        {"kind": "store", "name": "poster", "store": "s3://bucket/features"},
        "is 's3://bucket/features'; accepted is a folder, and no URL",
    ),
    "preprocessor.schema.modalities.0#3": (
        {"kind": "store", "name": "poster", "store": "features"},
        "preprocessor.fingerprints lacks 'poster', whose features are in a store",
    ),
    "preprocessor.tabular": ({}, "preprocessor.tabular lacks the modality 'metadata'"),
    "preprocessor.tabular.metadata.numeric.0.mean": ("x", "numeric\\[0\\].mean is 'x'; accepted is a finite number"),
    "preprocessor.tabular.metadata.numeric.0.std": (-1.0, "numeric\\[0\\].std is -1.0; accepted is a number from 0"),
    "preprocessor.tabular.metadata.numeric": ([], "preprocessor.tabular.metadata has other columns than the schema"),
    "preprocessor.tabular.metadata.categorical.0.categories": (["a"], "makes 10 features, the modality has 13"),
    "preprocessor.labels.classes": ([{}], r"classes\[0\] is {}; accepted is text, a number or a truth value"),
    "preprocessor.labels.problem_type": ("x", "preprocessor.labels.problem_type is 'x'; accepted is one of"),
}


@pytest.mark.parametrize("path", list(PIPELINE_CHANGES))
def test_values_of_the_pipeline(folder: Path, path: str) -> None:
    value, message = PIPELINE_CHANGES[path]
    edit_json(folder, PIPELINE, at(path.partition("#")[0], value))
    if path.startswith("model.backbone"):
        with pytest.raises(ArtefactError, match=message):
            load_artefact(folder)
    else:
        refused(folder, message)


ADAPTER_CHANGES: dict[str, tuple[Any, str]] = {
    "auto_mapping": ({"parent_library": "os"}, "has the key 'auto_mapping', by which code would be loaded"),
    "runtime_config": ({"x": 1}, "has the key 'runtime_config', by which code would be loaded"),
    "peft_type": ("LORA", "peft_type is 'LORA'; accepted is one of 'MULTIMODAL_ADAPTER'"),
    "task_type": ("CAUSAL_LM", "task_type is 'CAUSAL_LM'; accepted is one of 'SEQ_CLS'"),
    "future_option": (1, "it has the key 'future_option'; accepted are"),
    "bottleneck_size": (HUGE, "bottleneck_size is 1000000000000; accepted is a whole number from 1 to 65,536"),
    "bottleneck_size#2": (65536, f"{WEIGHTS}': the tensor '.*' is F32 .*, the adapters' configuration asks for F32"),
    "bottleneck_size#3": ("64", "bottleneck_size is '64'; accepted is a whole number"),
    "fusion": ("eval", "fusion='eval' is unknown; accepted are 'none'"),
    "fusion#2": (
        "concat",
        "does not have the tensors that the adapters' configuration asks for: .*lack: .*are extra: ",
    ),
    "fusion#3": (["gmu"], "fusion is .*; accepted is non-empty text"),
    "non_linearity": ("__class__", "non_linearity='__class__' is unknown"),
    "dropout": (float(1), "dropout is 1.0; accepted is a number from 0"),
    "sites": (["attention", "os"], r"sites\[1\] is 'os'; accepted is one of 'attention', 'feed_forward'"),
    "sites#2": (["attention"], "does not have the tensors that the adapters' configuration asks for: .* are extra"),
    "layers_to_transform": (list(range(-3, 3)), "cannot be put into the backbone '.*'"),
    "layers_to_transform#2": ([0], "does not have the tensors that the adapters' configuration asks for: .* are extra"),
    "leave_out": ("0", "leave_out is '0'; accepted is a list"),
    "labels": (["x", "y"], "labels are others than those in pipeline.json"),
    "problem_type": ("regression", "problem_type is 'regression', and another in pipeline.json"),
    "modalities.0.name": (
        "poster2",
        "The modality 'poster2' is 4 wide for the adapters and in pipeline.json not there",
    ),
    "modalities.0.feature_dim": (HUGE, "feature_dim is 1000000000000; accepted is a whole number"),
    "modalities.0.pooling": ("eval", "pooling is 'eval'; accepted is one of 'mean'"),
    "modules_to_save": (["encoder"], "does not have the tensors that the adapters' configuration asks for: .* lack"),
    "modules_to_save#2": (["a;b"], r"modules_to_save\[0\] is 'a;b'; accepted is .*a path of modules"),
    "encoder_sites": (
        {"layers": "__class__", "attention": "x", "feed_forward": "y"},
        "cannot be put into the backbone",
    ),
    "encoder_sites#2": ({"layers": "a"}, "encoder_sites lacks 'attention', 'feed_forward'"),
    "target_modules": (["x"], r"target_modules is \['x'\]; accepted is null"),
    "members": ([{"name": "a", "config": {}}], r"members\[0\].config lacks 'peft_type'"),
    "members#2": (
        [{"name": "a", "config": {"peft_type": "MULTIMODAL_ADAPTER", "members": [{"name": "b"}]}}],
        r"members\[0\].config.members is 'a list of 1'; accepted is a list of 0 to 0",
    ),
    "pre_projection_size": (HUGE, "pre_projection_size is 1000000000000; accepted"),
    "pre_projection_size#2": (2**24, "the tensor '.*' is F32|does not have the tensors"),
}


@pytest.mark.parametrize("path", list(ADAPTER_CHANGES))
def test_values_of_the_adapters_configuration(folder: Path, path: str) -> None:
    value, message = ADAPTER_CHANGES[path]
    edit_json(folder, ADAPTER, at(path.partition("#")[0], value))
    refused(folder, message)


def test_what_a_newer_version_may_write_beside_is_passed_over(folder: Path) -> None:
    edit_json(folder, PIPELINE, lambda content: {**content, "carbon": {"kg": 0.1}, "media": {"poster": {"frames": 8}}})
    edit_json(folder, ADAPTER, lambda content: {**content, "future_option": None})
    assert load_artefact(folder, backbone=BACKBONE).batch_size == 8


def test_more_modalities_than_tensors_are_not_built(folder: Path) -> None:
    many = [{"name": f"m{n}", "feature_dim": 4} for n in range(200)]

    def change(content: dict[str, Any]) -> None:
        content["preprocessor"]["modalities"] = many
        content["preprocessor"]["schema"]["modalities"] = [
            {"kind": "vector", "name": each["name"], "column": "poster"} for each in many
        ]

    edit_json(folder, PIPELINE, change)
    edit_json(folder, ADAPTER, at("modalities", many))
    refused(folder, f"names 200 modalities and members, and '.*{WEIGHTS}' has only 64 tensors")


def weights(folder: Path, change: Callable[[dict[str, Any], bytes], bytes]) -> None:
    file = folder / WEIGHTS
    file.write_bytes(change(*header_of(file.read_bytes())))


def test_headers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / WEIGHTS
    content = file.read_bytes()
    header, data = header_of(content)
    first, second = [name for name in header if name != "__metadata__"][:2]
    other = {**header[first], "data_offsets": header[second]["data_offsets"]}
    end = max(value["data_offsets"][1] for name, value in header.items() if name != "__metadata__")
    shifted = {**header, "x": {"dtype": "F32", "shape": [0, HUGE], "data_offsets": [end + 4, end + 4]}}
    cases: list[tuple[bytes, str]] = [
        (b"", "its header would have 0 bytes; the file has 0"),
        (b"\x05", "its header would have 5 bytes; the file has 1"),
        (struct.pack("<Q", 2**63) + data, "its header would have 9,223,372,036,854,775,808 bytes; the file has"),
        (struct.pack("<Q", len(content)) + content[8:], "its header would have .* bytes; the file has"),
        (with_header(b"{", data), "its header cannot be read: Expecting property name"),
        (with_header(b"[" * 100_000, data), "its header cannot be read: "),
        (with_header([], data), r"its header is \[\]; accepted is a JSON object"),
        (with_header({**header, first: 5}, data), "is 5; accepted is a mapping"),
        (with_header({**header, "__metadata__": {"a": 1}}, data), "__metadata__.a is 1; accepted is text"),
        (with_header({**header, first: {**header[first], "dtype": "P8"}}, data), "dtype is 'P8'; accepted is one of"),
        (
            with_header({**header, first: {**header[first], "shape": [-1]}}, data),
            r"shape\[0\] is -1; accepted is a whole",
        ),
        (with_header({**header, first: {**header[first], "shape": [HUGE] * 3}}, data), "another size than its shape"),
        (with_header({**header, first: {**header[first], "shape": [1] * 9}}, data), "accepted is a list of 0 to 8"),
        (with_header({**header, first: other}, data), "another size than its shape|overlap or leave gaps"),
        (with_header(shifted, data), "its tensors overlap or leave gaps"),
        (with_header({**header, "é\0": header[first]}, data), "a tensor's name is"),
        (with_header(header, data + b"code"), "its tensors have .* bytes and the file holds .* behind the header"),
        (with_header(header, data[:-4]), "its tensors have .* bytes and the file holds .* behind the header"),
    ]
    for broken, message in cases:
        file.write_bytes(broken)
        refused(folder, f"{WEIGHTS}' cannot be used: .*({message})")
    file.write_bytes(content)
    monkeypatch.setattr(weights_file, "MOST_TENSORS", 63)
    refused(folder, "its header has 64 tensors; at most 63 are read")
    monkeypatch.undo()
    monkeypatch.setattr(weights_file, "LARGEST_HEADER", 100)
    refused(folder, "at most 100 are read of a header")


def test_tensors_that_do_not_fit(folder: Path) -> None:
    file = folder / WEIGHTS
    tensors = load(file.read_bytes())
    first = sorted(tensors)[0]
    bias = next(name for name in tensors if name.endswith("classifier.out.bias"))
    for changed, message in (
        (
            {name: tensor for name, tensor in tensors.items() if name != first},
            f"asks for: 1 lack: '{first}'. The files",
        ),
        ({**tensors, "base_model.model.encoder.x": torch.ones(1)}, "1 are extra: 'base_model.model.encoder.x'"),
        ({**tensors, bias: torch.ones(4)}, r"out.bias' is F32 \(4,\), the adapters' configuration asks for F32 or F16"),
        (
            {**tensors, bias: torch.ones(3, dtype=torch.float64)},
            r"out.bias' is F64 \(3,\), the adapters' configuration",
        ),
        ({**tensors, bias: torch.ones(3, dtype=torch.int64)}, "out.bias' is I64"),
        ({**tensors, bias: torch.tensor([0.0, float("nan"), 1.0])}, "out.bias' holds NaN or infinite numbers"),
        ({**tensors, bias: torch.tensor([0.0, float("inf"), 1.0])}, "out.bias' holds NaN or infinite numbers"),
    ):
        file.write_bytes(save(changed))
        refused(folder, message)
    file.write_bytes(save({name: tensor.half() for name, tensor in tensors.items()}))
    half = load_artefact(folder, backbone=BACKBONE)
    held = dict(half.model.named_parameters())
    assert {parameter.dtype for parameter in held.values()} == {torch.float32}


def test_places_that_do_not_exist(tmp_path: Path) -> None:
    folder = copy("regression", tmp_path)
    file = folder / WEIGHTS
    tensors = load(file.read_bytes())
    places = next(name for name, tensor in tensors.items() if tensor.dtype == torch.int64)
    file.write_bytes(save({**tensors, places: tensors[places] + 1}))
    refused(folder, "units' holds places that do not exist")


def test_another_backbone_is_found_before_a_weight_is_read(tmp_path: Path, tiny_backbone: Path) -> None:
    folder = copy("multi_label", tmp_path)
    with pytest.raises(ArtefactError, match="the tensor .* the adapters' configuration asks for"):
        load_artefact(folder, backbone=str(tiny_backbone))
    edit_json(folder, PIPELINE, at("backbone_digest", "0" * 64))
    (folder / WEIGHTS).write_bytes(
        save({k: v * float("nan") for k, v in load((folder / WEIGHTS).read_bytes()).items()})
    )
    refused(folder, "has other weights")


def test_full_paths_are_followed_only_where_they_may_be(folder: Path) -> None:
    edit_json(folder, PIPELINE, at("model.backbone", BACKBONE))
    assert load_artefact(folder).settings.backbone == BACKBONE
    message = f"model.backbone is '{BACKBONE}', a path of the machine that wrote it, which is not followed here"
    with pytest.raises(ArtefactError, match=message):
        load_artefact(folder, local_paths=False)
    assert load_artefact(folder, BACKBONE, local_paths=False).batch_size == 8
    source = {"kind": "store", "name": "poster", "store": "/data/features"}
    edit_json(folder, PIPELINE, at("preprocessor.schema.modalities.0", source))
    edit_json(folder, PIPELINE, at("preprocessor.schema.id", "id"))
    edit_json(folder, PIPELINE, at("preprocessor.fingerprints", {"poster": "{}"}))
    assert load_artefact(folder).preprocessor.schema.modalities[0].to_dict()["store"] == "/data/features"
    with pytest.raises(ArtefactError, match=r"modalities\[0\].store is '/data/features', a path of the machine"):
        load_artefact(folder, BACKBONE, local_paths=False)


@pytest.mark.parametrize(
    ("encoder", "named"),
    [
        ("efficientnet-lite0", True),
        ("timm:vgg16.tv_in1k", True),
        ("facebook/dinov2-small", True),
        (None, True),
        ("/data/dinov2", False),
        ("../dinov2", False),
        ("timm:../x", False),
        ("https://evil.example/x", False),
    ],
)
def test_encoders_of_raw_media(folder: Path, encoder: str | None, named: bool) -> None:
    kept = {"format_version": 1, "media": [media(encoder=encoder)], "numeric": ["year"], "parameters": {"seed": 3}}
    edit_json(folder, PIPELINE, at("predictor", kept))
    assert load_artefact(folder, backbone=BACKBONE).predictor == kept
    if named:
        assert load_artefact(folder, BACKBONE, local_paths=False).predictor == kept
    else:
        refused(folder, f"spec.encoder is '{encoder}'; accepted is 'timm:<model>', or an encoder", local_paths=False)


def test_how_media_are_made_is_kept(folder: Path, tmp_path: Path) -> None:
    kept = {"format_version": 1, "media": [media()]}
    edit_json(folder, PIPELINE, at("predictor", kept))
    saved = save_artefact(load_artefact(folder, backbone=BACKBONE), tmp_path / "again")
    assert load_artefact(saved, backbone=BACKBONE).predictor == kept


def test_reading_changes_nothing_and_is_said_to_be_whole(folder: Path, tmp_path: Path) -> None:
    content = read_artefact(folder, local_paths=False)
    assert content.weights_digest is None
    artefact = load_artefact(folder, backbone=BACKBONE)
    again = save_artefact(artefact, tmp_path / "again")
    digests = json.loads((again / PIPELINE).read_text())["sha256"]
    assert set(digests) == {ADAPTER, WEIGHTS, "README.md"}
    first, second = (load((place / WEIGHTS).read_bytes()) for place in (folder, again))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    flipped = bytearray((again / WEIGHTS).read_bytes())
    flipped[-1] ^= 1
    (again / WEIGHTS).write_bytes(flipped)
    refused(again, f"{WEIGHTS}' is not the file that was saved with the artefact .*: it is damaged, or was replaced")
    assert OLD.is_dir()
