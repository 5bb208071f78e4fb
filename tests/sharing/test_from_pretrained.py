"""What comes from the Hub: the artefact's own files and no others, which predict the same in a new process."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
from fake_hub import FakeHub
from hub_artefacts import BACKBONE, FILES, FIXTURES
from huggingface_hub import constants

from mmadapters.artefact import Artefact, find_artefact, load_artefact, save_artefact
from mmadapters.errors import ArtefactError, HubError
from mmadapters.evaluation.evaluator import predict
from mmadapters.hub.names import parse_repository
from mmadapters.sharing import from_pretrained, push_to_hub

# Of huggingface_hub's own, in uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

OTHER_PROCESS = """
import hashlib, sys
import pandas as pd
from mmadapters.evaluation.evaluator import predict
from mmadapters.sharing import from_pretrained
artefact = from_pretrained(sys.argv[1], backbone=sys.argv[2])
rows = artefact.preprocessor.transform(pd.read_json(sys.argv[3], lines=True), with_labels=False)
logits = predict(artefact.model, rows, artefact.collator, artefact.problem_type, batch_size=artefact.batch_size).logits
print(hashlib.sha256(logits.tobytes()).hexdigest())
"""


def logits(artefact: Artefact) -> np.ndarray:
    rows = artefact.preprocessor.transform(pd.read_json(FIXTURES / "rows.jsonl", lines=True), with_labels=False)
    return predict(artefact.model, rows, artefact.collator, artefact.problem_type, batch_size=8).logits


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_there_and_back_a_new_process_predicts_bit_for_bit_the_same(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = load_artefact(FIXTURES / "multi_label", backbone=BACKBONE)
    folder = save_artefact(artefact, tmp_path / "movies")
    push_to_hub(folder, "ann/movies", private=True, token="hf_ann", backbone="mmadapters/tiny-bert")
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_ann",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-c", OTHER_PROCESS, "ann/movies", BACKBONE, str(FIXTURES / "rows.jsonl")]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[-1] == hashlib.sha256(logits(artefact).tobytes()).hexdigest()
    assert sorted(hub.downloaded()) == FILES
    assert {user for _, path, user in hub.log if "ann/movies" in path} == {"ann"}
    downloaded = find_artefact(next((tmp_path / "home/hub/models--ann--movies/snapshots").iterdir())).folder
    weights = downloaded / "adapter_model.safetensors"
    assert weights.read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert weights.is_symlink()
    assert np.array_equal(logits(load_artefact(downloaded, backbone=BACKBONE)), logits(artefact))


def test_only_the_artefact_s_files_are_downloaded(hub: FakeHub, folder: Path) -> None:
    others = {"adapter_model.bin": pickle.dumps(print), "big.dat": b"x" * 10_000, "sub/pipeline.json": b"{}"}
    hub.add("ann/movies", {**files_of(folder), **others})
    artefact = load_artefact("ann/movies", backbone=BACKBONE)
    assert np.array_equal(logits(artefact), logits(load_artefact(folder, backbone=BACKBONE)))
    assert sorted(hub.downloaded()) == FILES
    found = find_artefact("ann/movies")
    assert (found.repository, found.commit) == ("ann/movies", hub.repositories["ann/movies"].branches["main"])
    assert sorted(path.name for path in found.folder.iterdir()) == FILES


def test_revisions(hub: FakeHub, folder: Path) -> None:
    first = hub.add("ann/movies", files_of(folder))
    changed = json.loads((folder / "pipeline.json").read_text()) | {"batch_size": 3}
    repository = hub.repositories["ann/movies"]
    repository.branches["v2"] = first
    repository.commit("v2", {**files_of(folder), "pipeline.json": json.dumps(changed).encode()}, "second")
    for name, revision, batch_size in (
        ("ann/movies", None, 8),
        ("ann/movies", "v2", 3),
        ("ann/movies@v2", None, 3),
        ("ann/movies", first, 8),
    ):
        assert from_pretrained(name, revision=revision, backbone=BACKBONE).batch_size == batch_size
    with pytest.raises(HubError, match="'ann/movies@v3' could not be read on the Hub: it has no such branch, tag or"):
        from_pretrained("ann/movies", revision="v3", backbone=BACKBONE)
    with pytest.raises(ArtefactError, match="is a folder, which has no revisions"):
        from_pretrained(folder, revision="v2")
    with pytest.raises(ArtefactError, match="'movies' at revision='v2' cannot be looked for on the Hub"):
        from_pretrained("movies", revision="v2")
    assert np.array_equal(
        logits(from_pretrained(folder, backbone=BACKBONE)), logits(load_artefact(folder, backbone=BACKBONE))
    )


def test_the_cache_is_used_where_it_is_asked_for_or_the_hub_is_not_reached(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HubError, match="this machine's cache has no copy of it, and the Hub was not asked or reached"):
        from_pretrained("ann/movies", local_files_only=True, backbone=BACKBONE)
    assert hub.log == []
    hub.add("ann/movies", files_of(folder))
    expected = logits(from_pretrained("ann/movies", backbone=BACKBONE))
    asked = len(hub.log)
    assert np.array_equal(logits(from_pretrained("ann/movies", local_files_only=True, backbone=BACKBONE)), expected)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert np.array_equal(logits(load_artefact("ann/movies", backbone=BACKBONE)), expected)
    assert len(hub.log) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    unreached = "http://127.0.0.1:9"
    with caplog.at_level(logging.WARNING):
        again = from_pretrained("ann/movies", endpoint=unreached, backbone=BACKBONE)
    assert np.array_equal(logits(again), expected)
    assert "The Hub was not reached (ConnectError): a copy of 'ann/movies' in the cache is used" in caplog.text
    with pytest.raises(HubError, match="this machine's cache has no copy of it"):
        from_pretrained("ann/others", endpoint=unreached, backbone=BACKBONE)
    weights = next(Path(constants.HF_HUB_CACHE).rglob("adapter_model.safetensors"))
    weights.unlink()
    with pytest.raises(HubError, match="the copy in this machine's cache is not whole"):
        from_pretrained("ann/movies", local_files_only=True, backbone=BACKBONE)


@pytest.mark.parametrize("token", [None, "hf_bob"])
def test_what_the_hub_refuses_to_show(hub: FakeHub, folder: Path, token: str | None) -> None:
    hub.add("ann/secret", files_of(folder), private=True)
    hub.add("ann/gated", files_of(folder), gated=True)
    for name in ("ann/secret", "ann/nothing"):
        expected = f"'{name}' could not be read on the Hub: there is no such repository, or it is private"
        with pytest.raises(HubError, match=expected):
            from_pretrained(name, token=token, backbone=BACKBONE)
    with pytest.raises(HubError, match="it is gated. Ask for access on its page"):
        from_pretrained("ann/gated", token=token, backbone=BACKBONE)
    with pytest.raises(HubError, match="the token is not accepted"):
        from_pretrained("ann/secret", token="hf_nobody", backbone=BACKBONE)
    with pytest.raises(HubError, match="there is no token. Log in with"):
        from_pretrained("ann/secret", token=True, backbone=BACKBONE)
    hub.failures["/api/models"] = 418
    with pytest.raises(HubError, match="it answered with error 418"):
        from_pretrained("ann/gated", backbone=BACKBONE)


def test_sizes_are_looked_at_before_anything_is_downloaded(hub: FakeHub, folder: Path) -> None:
    hub.add("ann/movies", files_of(folder))
    hub.wrong_sizes["adapter_model.safetensors"] = 5_000_000_000
    with pytest.raises(HubError, match=r"a file adapter_model.safetensors of 5,000,000,000 bytes, and at most 4,000,"):
        load_artefact("ann/movies", backbone=BACKBONE)
    hub.wrong_sizes = {"pipeline.json": 20_000_000}
    with pytest.raises(HubError, match="a file pipeline.json of 20,000,000 bytes, .*Nothing was downloaded"):
        load_artefact("ann/movies", backbone=BACKBONE)
    assert hub.downloaded() == []


def test_what_changes_while_it_is_downloaded_is_not_taken(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ann/movies", files_of(folder))
    download = huggingface_hub.snapshot_download

    def changed_before(*args: object, **kwargs: object) -> object:
        hub.repositories["ann/movies"].commit("main", {**files_of(folder), "README.md": b"x" * 1000}, "second")
        return download(*args, **kwargs)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", changed_before)
    with pytest.raises(HubError, match="'ann/movies' was changed on the Hub while it was downloaded. Load it again"):
        load_artefact("ann/movies", backbone=BACKBONE)


def test_a_full_disk_is_said(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hub.add("ann/movies", files_of(folder))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(
        HubError, match="'ann/movies' could not be read on the Hub: the disk is full. Make room, or name"
    ):
        load_artefact("ann/movies", backbone=BACKBONE)


def test_a_repository_that_is_no_artefact(hub: FakeHub, folder: Path) -> None:
    files = files_of(folder)
    del files["adapter_model.safetensors"]
    hub.add("ann/movies", {**files, "adapter_model.bin": b"\x80\x04", ".gitattributes": b""})
    expected = r"it has no 'adapter_model.safetensors'. It has 'adapter_model.bin'; other files than .* and no pickles"
    with pytest.raises(HubError, match=expected):
        load_artefact("ann/movies", backbone=BACKBONE)
    assert hub.downloaded() == []


def test_from_the_hub_no_path_of_this_machine_is_followed(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    pipeline = json.loads((folder / "pipeline.json").read_text())
    pipeline["model"]["backbone"] = BACKBONE
    files = {**files_of(folder), "pipeline.json": json.dumps(pipeline).encode()}
    hub.add("eve/movies", files)
    message = "a path of the machine that wrote it, which is not followed here. Pass backbone=… "
    with pytest.raises(ArtefactError, match=message):
        load_artefact("eve/movies")
    assert load_artefact("eve/movies", backbone=BACKBONE).labels == ["dark", "new", "war"]
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert load_artefact(folder).labels == ["dark", "new", "war"]
    with pytest.raises(ArtefactError, match=message):
        load_artefact(folder, local_paths=False)


def test_names_of_what_is_neither(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        HubError, match=r"^There is no folder 'runs/artefact' here, so it was taken for a repository. 'run"
    ):
        load_artefact("runs/artefact")
    for name in (tmp_path / "none", "none", "a/b/c", "../x", "ann/movies@", "ann/.movies", "ann/mov--ies"):
        with pytest.raises(ArtefactError, match="There is no folder .*, and it is no name of a repository on the Hub"):
            load_artefact(name)
    with pytest.raises(ArtefactError, match="is a file. Name the folder of an artefact, or user/name on the Hub"):
        load_artefact(folder / "pipeline.json")
    assert [path for _, path, _ in hub.log] == ["/api/models/runs/artefact"]
    assert str(parse_repository("ann/movies@v1/x")) == "ann/movies@v1/x"
