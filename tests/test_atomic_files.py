"""Atomic writing: a path holds all of the new content or all of the old, and nothing lies beside it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.errors import ConfigurationError
from mmadapters.files import replace_folder, write_bytes_atomically, write_json_atomically, write_text_atomically

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def raising(error: BaseException) -> Callable[..., None]:
    def stand_in(*args: Any, **kwargs: Any) -> None:
        raise error

    return stand_in


def fill(target: Path, text: str, error: BaseException | None = None) -> None:
    with replace_folder(target) as folder:
        (folder / "weights").write_text(text)
        if error is not None:
            raise error


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    assert os.umask(before) == request.param


def test_text_is_written_with_its_folders(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a" / "b" / "note.txt", "Café\r\nnext\n")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == b"Caf\xc3\xa9\r\nnext\n"
    assert list(content(tmp_path)) == ["a/b/note.txt"]


def test_a_path_may_be_text(tmp_path: Path) -> None:
    write_text_atomically(str(tmp_path / "note.txt"), "new")
    write_json_atomically(str(tmp_path / "note.json"), 1)
    with replace_folder(str(tmp_path / "folder")) as folder:
        (folder / "a").write_text("1")
    assert content(tmp_path) == {"note.txt": "new", "note.json": "1\n", "folder/a": "1"}


def test_bytes_are_written_as_they_are(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a" / "data.bin"
    write_bytes_atomically(path, b"\r\n\x00\xff")
    assert path.read_bytes() == b"\r\n\x00\xff"
    assert mode(path) == 0o666 & ~umask
    assert [entry.name for entry in path.parent.iterdir()] == ["data.bin"]


def test_old_text_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old and much longer")
    write_text_atomically(path, "new")
    assert content(tmp_path) == {"note.txt": "new"}


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.text())
def test_every_text_arrives_byte_for_byte(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_text_atomically(Path(folder) / "note.txt", text)
        assert (Path(folder) / "note.txt").read_bytes() == text.encode("utf-8")


def test_text_that_cannot_be_encoded_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(path, "new " * 100_000 + "\ud800")
    assert content(tmp_path) == {"note.txt": "old"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), OSError("the disk is full")], ids=repr)
@pytest.mark.parametrize("function", ["fsync", "chmod", "replace"])
def test_an_interruption_at_any_step_leaves_the_old_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, raising(error))
        with pytest.raises(type(error)) as caught:
            write_text_atomically(path, "new")
    assert caught.value is error
    assert content(tmp_path) == {"note.txt": "old"}


def test_an_interruption_makes_no_file_where_there_was_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            write_text_atomically(tmp_path / "note.txt", "new")
    assert list(tmp_path.iterdir()) == []


def test_text_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(handle: int) -> None:
        fsync(handle)
        seen.append(f"synchronised {os.fstat(handle).st_size} bytes, target is {path.read_text()}")

    def recorded_replace(source: Path, target: Path) -> None:
        seen.append(f"replaced by {Path(source).read_text()}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_text_atomically(path, "newer")
    assert seen == ["synchronised 5 bytes, target is old", "replaced by newer"]


def test_a_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "note.txt"
    write_text_atomically(path, "new")
    assert mode(path) == 0o666 & ~umask
    path.chmod(0o600)
    write_json_atomically(path, [])
    assert mode(path) == 0o666 & ~umask


def test_json_is_indented_and_keeps_order_and_letters(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "values.json", {"b": [1, 0.5], "a": "Café"})
    expected = '{\n  "b": [\n    1,\n    0.5\n  ],\n  "a": "Café"\n}\n'
    assert (tmp_path / "values.json").read_text(encoding="utf-8") == expected


@settings(derandomize=True, deadline=None, max_examples=40)
@given(json_values)
def test_json_is_read_back_as_it_was(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json_atomically(Path(folder) / "values.json", value)
        assert json.loads((Path(folder) / "values.json").read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_numbers_that_it_does_not_have(tmp_path: Path, value: float) -> None:
    path = tmp_path / "values.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomically(path, {"metrics": [1.0, value]})
    assert content(tmp_path) == {"values.json": "old"}


def test_json_refuses_objects_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    path.write_text("old")
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json_atomically(path, {"path": path})
    assert content(tmp_path) == {"values.json": "old"}


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "runs" / "artefact") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_text("1")
    assert content(tmp_path) == {"runs/artefact/inner/weights": "1"}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["artefact"]


def test_the_old_content_stands_until_the_block_ends_and_is_then_gone(tmp_path: Path) -> None:
    target = tmp_path / "artefact"
    (target / "inner").mkdir(parents=True)
    (target / "inner" / "old").write_text("old")
    (target / "weights").write_text("old")
    with replace_folder(target) as folder:
        assert folder.parent == tmp_path
        assert list(folder.iterdir()) == []
        (folder / "weights").write_text("new")
        assert content(target) == {"inner/old": "old", "weights": "old"}
    assert content(tmp_path) == {"artefact/weights": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), ValueError("no")], ids=repr)
@pytest.mark.parametrize("existed", [True, False])
def test_a_block_that_raises_leaves_the_target_as_it_was(tmp_path: Path, error: BaseException, existed: bool) -> None:
    target = tmp_path / "artefact"
    if existed:
        target.mkdir()
        (target / "weights").write_text("old")
    before = content(tmp_path)
    with pytest.raises(type(error)) as caught:
        fill(target, "half", error)
    assert caught.value is error
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["artefact"] if existed else [])


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_to_move_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    target = tmp_path / "artefact"
    target.mkdir()
    (target / "weights").write_text("old")
    replace, calls = os.replace, []

    def fails_once(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == failing:
            raise KeyboardInterrupt
        replace(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails_once)
        with pytest.raises(KeyboardInterrupt):
            fill(target, "new")
    assert content(tmp_path) == {"artefact/weights": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize(("interrupted", "expected"), [(1, "old"), (2, "new")])
def test_an_interrupt_right_after_a_move_leaves_one_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: int, expected: str, error: BaseException
) -> None:
    target = tmp_path / "artefact"
    target.mkdir()
    (target / "weights").write_text("old")
    replace, calls = os.replace, []

    def moves_and_is_interrupted(source: Path, destination: Path) -> None:
        replace(source, destination)
        calls.append(source)
        if len(calls) == interrupted:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", moves_and_is_interrupted)
        with pytest.raises(type(error)) as caught:
            fill(target, "new")
    assert caught.value is error
    assert content(tmp_path) == {"artefact/weights": expected}
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


@pytest.mark.parametrize(("module", "function", "expected"), [(os, "chmod", "old"), (shutil, "rmtree", "new")])
def test_an_interrupt_before_and_after_the_moves_leaves_one_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, function: str, expected: str
) -> None:
    target = tmp_path / "artefact"
    target.mkdir()
    (target / "weights").write_text("old")
    original, calls = getattr(module, function), []

    def interrupted_once(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt
        original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, function, interrupted_once)
        with pytest.raises(KeyboardInterrupt):
            fill(target, "new")
    assert content(tmp_path) == {"artefact/weights": expected}
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


def test_an_old_folder_that_cannot_be_brought_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "artefact"
    target.mkdir()
    (target / "weights").write_text("old")
    replace, calls = os.replace, []

    def works_once(source: Path, destination: Path) -> None:
        if calls:
            raise OSError("the disk is gone")
        calls.append(source)
        replace(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", works_once)
        with pytest.raises(OSError, match="the disk is gone"):
            fill(target, "new")
    assert "old" in content(tmp_path).values()


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path, linked: bool) -> None:
    (tmp_path / "note").write_text("precious")
    target = tmp_path / "note"
    if linked:
        target = tmp_path / "link"
        target.symlink_to("note")
    entries = set(tmp_path.iterdir())
    with pytest.raises(ConfigurationError) as caught:
        fill(target, "new")
    assert str(caught.value) == f"'{target}' is a file, and a folder is to be written there. Name another path."
    assert set(tmp_path.iterdir()) == entries
    assert (tmp_path / "note").read_text() == "precious"


@pytest.mark.parametrize("existed", [True, False])
def test_the_folder_behind_a_link_is_replaced(tmp_path: Path, existed: bool) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").mkdir()
    if existed:
        (tmp_path / "disk" / "artefact").mkdir()
        (tmp_path / "disk" / "artefact" / "weights").write_text("old")
    link = tmp_path / "runs" / "artefact"
    link.symlink_to("../disk/artefact")
    fill(link, "new")
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["artefact"]
    assert content(tmp_path / "disk") == {"artefact/weights": "new"}
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["artefact"]


def test_a_folder_has_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    with replace_folder(tmp_path / "artefact") as folder:
        write_text_atomically(folder / "weights", "1")
    assert mode(tmp_path / "artefact") == 0o777 & ~umask
    assert mode(tmp_path / "artefact" / "weights") == 0o666 & ~umask
