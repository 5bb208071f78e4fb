"""What leaves the machine: exactly the artefact's files, without paths of the machine, or an error in one line."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_hub import FakeHub
from hub_artefacts import BACKBONE, FILES, FIXTURES
from huggingface_hub import ModelCard, constants
from safetensors.torch import load, save

from mmadapters.artefact import card_of, load_artefact, save_artefact
from mmadapters.errors import ArtefactError, HubError
from mmadapters.sharing import push_to_hub

# Of huggingface_hub's own, in uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "pipeline.json"
    pipeline = json.loads(file.read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = pipeline
        for part in parents:
            inner = inner[part]
        inner[last] = value
    file.write_text(json.dumps(pipeline))


def pushed(hub: FakeHub, name: str = "ann/movies", branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories[name]
    return repository.commits[repository.branches[branch]]


def test_exactly_the_files_of_an_artefact_are_uploaded(hub: FakeHub, folder: Path) -> None:
    (folder / "training_args.bin").write_bytes(b"\x80\x04pickle")
    (folder / "notes.txt").write_text("mine")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "pipeline.json").write_text("{}")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    uploaded = push_to_hub(folder, "ann/movies", license="mit", message="first films", token="hf_ann")
    files = pushed(hub)
    assert sorted(files) == [".gitattributes", *FILES]
    assert sorted(uploaded.files) == FILES
    assert uploaded.url == f"{hub.endpoint}/ann/movies/commit/{uploaded.commit}"
    assert hub.repositories["ann/movies"].messages == ["initial commit", "first films"]
    assert files["adapter_model.safetensors"] == (folder / "adapter_model.safetensors").read_bytes()
    assert json.loads(files["pipeline.json"])["license"] == "mit"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not hub.repositories["ann/movies"].private


def test_nothing_of_this_machine_is_uploaded(hub: FakeHub, folder: Path) -> None:
    private = "/home/ann/thesis/bert"
    source = {"kind": "store", "name": "poster", "store": "/home/ann/thesis/posters", "column": "file", "pooling": None}
    pipeline = json.loads((folder / "pipeline.json").read_text())
    modalities = [source, *pipeline["preprocessor"]["schema"]["modalities"][1:]]
    edit(
        folder,
        model__backbone=private,
        preprocessor__schema__modalities=modalities,
        preprocessor__schema__id="id",
        preprocessor__fingerprints={"poster": "{}"},
        predictor={"format_version": 1, "parameters": {"backbone": private, "media_root": "/home/ann", "seed": 3}},
    )
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace("mmadapters/tiny-bert", private))
    with pytest.raises(
        ArtefactError, match=r"'/home/ann/thesis/bert', a place on this machine and no name that others can"
    ):
        push_to_hub(folder, "ann/movies", token="hf_ann")
    assert hub.log == []
    push_to_hub(folder, "ann/movies", token="hf_ann", backbone="mmadapters/tiny-bert")
    files = pushed(hub)
    assert not [name for name, content in files.items() if b"/home" in content or b"thesis" in content]
    shared = json.loads(files["pipeline.json"])
    assert shared["model"]["backbone"] == "mmadapters/tiny-bert"
    assert shared["preprocessor"]["schema"]["modalities"][0]["store"] == "posters"
    assert shared["predictor"]["parameters"] == {"backbone": "mmadapters/tiny-bert", "seed": 3}
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "mmadapters/tiny-bert"
    with pytest.raises(ArtefactError, match="'../bert', a place on this machine and no name"):
        push_to_hub(folder, "ann/movies", token="hf_ann", backbone="../bert")


def test_a_card_that_its_author_changed_is_kept_and_another_is_written_anew(hub: FakeHub, tmp_path: Path) -> None:
    folder = save_artefact(load_artefact(FIXTURES / "multi_label", backbone=BACKBONE), tmp_path / "movies")
    assert card_of(folder) == (folder / "README.md").read_text()
    push_to_hub(folder, "ann/movies", token="hf_ann", backbone="mmadapters/tiny-bert", license="mit")
    card = ModelCard(pushed(hub)["README.md"].decode())
    assert card.content.count("ann/movies") == 4
    assert (card.data.license, card.data.base_model) == ("mit", "mmadapters/tiny-bert")
    assert card.data.base_model_relation == "adapter"
    assert "Adapters and head: `mit`." in card.content
    own = (folder / "README.md").read_text().replace("What this model is meant for is not recorded", "For film clubs")
    (folder / "README.md").write_text(own)
    push_to_hub(folder, "ann/movies", token="hf_ann", backbone="mmadapters/tiny-bert", license="apache-2.0")
    card = ModelCard(pushed(hub)["README.md"].decode())
    assert "For film clubs" in card.content
    assert card.data.license == "apache-2.0"
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(ArtefactError, match="cannot be uploaded as a model card: .* Mend it, or remove it"):
        push_to_hub(folder, "ann/movies", token="hf_ann", backbone="mmadapters/tiny-bert")
    (folder / "README.md").unlink()
    push_to_hub(folder, "ann/movies", token="hf_ann", backbone="mmadapters/tiny-bert")
    assert "not recorded: a program wrote this card" in pushed(hub)["README.md"].decode()


def test_a_branch_and_a_second_push(hub: FakeHub, folder: Path) -> None:
    push_to_hub(folder, "ann/movies", token="hf_ann")
    first = pushed(hub)
    edit(folder, threshold=0.4)
    for _ in range(2):
        push_to_hub(folder, "ann/movies", revision="v2", token="hf_ann")
    assert pushed(hub) == first
    assert json.loads(pushed(hub, branch="v2")["pipeline.json"])["threshold"] == 0.4


def test_private_means_private(hub: FakeHub, folder: Path) -> None:
    push_to_hub(folder, "ann/films", private=True, token="hf_ann")
    assert hub.repositories["ann/films"].private
    hub.add("ann/movies", {"README.md": b"public"})
    with pytest.raises(HubError, match="is a public repository on the Hub, and --private was asked for"):
        push_to_hub(folder, "ann/movies", private=True, token="hf_ann")
    assert list(pushed(hub)) == ["README.md"]
    assert not [path for _, path, _ in hub.log if "films" not in path and "commit" in path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": "hf_nobody"}, r"^'ann/movies' could not be written on the Hub: the token is not accepted. Log in"),
        (
            {"token": "hf_bob"},
            r"the token may not do this. Use one with the right to write to it. .*You don't have the",
        ),
        ({}, r"there is no token. Log in with `hf auth login`, set HF_TOKEN, or pass token=…"),
        ({"token": "hf_ann", "license": "free"}, "could not be written on the Hub: Invalid metadata in README.md"),
    ],
)
def test_what_the_hub_refuses(hub: FakeHub, folder: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(HubError, match=message) as refused:
        push_to_hub(folder, "ann/movies", **options)
    assert "\n" not in str(refused.value)
    assert "hf_" not in str(refused.value)


@pytest.mark.parametrize(
    ("part", "status", "message"),
    [
        ("preupload", 403, r"the token may not do this. .*\(.*made up for a test: 403"),
        ("commit", 413, "a file is too large for it"),
        ("create", 429, "too many requests were made. Wait some minutes"),
        ("/lfs/", 403, "the token may not do this"),
        ("commit", 418, "it answered with error 418: .*made up for a test"),
    ],
)
def test_statuses_of_the_hub(hub: FakeHub, folder: Path, part: str, status: int, message: str) -> None:
    hub.failures[part] = status
    with pytest.raises(HubError, match=message) as refused:
        push_to_hub(folder, "ann/movies", token="hf_ann")
    assert "\n" not in str(refused.value)


def test_what_is_wrong_here_is_found_before_the_hub_is_asked(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "movies",
        "ann/movies/x",
        "ann/../movies",
        "https://huggingface.co/ann/movies",
        "ann/movies@v2",
        "a b/c",
    ):
        with pytest.raises(HubError, match="is no repository of a user. Give user/name"):
            push_to_hub(folder, name, token="hf_ann")
    with pytest.raises(HubError, match="The revision 'a b' cannot be used"):
        push_to_hub(folder, "ann/movies", revision="a b", token="hf_ann")
    with pytest.raises(ArtefactError, match="license is 'for friends only!'; accepted is non-empty text"):
        push_to_hub(folder, "ann/movies", license="for friends only!", token="hf_ann")
    weights = folder / "adapter_model.safetensors"
    tensors = load(weights.read_bytes())
    first = next(iter(tensors))
    tensors[first][0] = float("nan")
    weights.write_bytes(save(tensors))
    with pytest.raises(ArtefactError, match="holds NaN or infinite numbers"):
        push_to_hub(folder, "ann/movies", token="hf_ann")
    weights.unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ArtefactError, match="which may be a pickle. A pickle can run any code"):
        push_to_hub(folder, "ann/movies", token="hf_ann")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.copy(FIXTURES / "multi_label" / "adapter_model.safetensors", weights)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it"):
        push_to_hub(folder, "ann/movies", token="hf_ann")
    assert hub.log == []


def test_a_full_disk_is_said(folder: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", full)
    with pytest.raises(HubError, match="the disk is full. Make room, or name another cache by HF_HOME"):
        push_to_hub(folder, "ann/movies", token="hf_ann")


def test_the_metadata_is_what_the_hub_reads(hub: FakeHub, folder: Path) -> None:
    (folder / "README.md").unlink()
    push_to_hub(folder, "ann/movies", token="hf_ann")
    _, metadata, _ = pushed(hub)["README.md"].decode().split("---\n", 2)
    values = yaml.safe_load(metadata)
    assert "license" not in values
    assert values["library_name"] == "peft"
    assert values["pipeline_tag"] == "text-classification"
    assert values["tags"] == ["mmadapters", "multimodal", "adapter", "multi-label-classification"]
    (model,) = values["model-index"]
    assert model["name"] == "ann/movies"
    assert model["results"][0]["dataset"] == {"name": "own rows", "type": "custom", "split": "validation"}
    assert model["results"][0]["metrics"][0] == {
        "type": "average_precision",
        "value": 0.808144,
        "name": "micro average precision, chosen on these rows",
    }
