"""Which files are opened, and what kind they are by their bytes."""

from __future__ import annotations

import io
import os
import socket
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmadapters.errors import ConfigurationError
from mmadapters.features.guard import Limits, MediaError, checked_size, refuse_other_kinds, safe_path, sniff_kind


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "posters").mkdir(parents=True)
    (root / "posters" / "one.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "secret.jpg").write_bytes(b"\xff\xd8\xff")
    return root


@pytest.mark.parametrize(
    "path", ["posters/one.jpg", "./posters/one.jpg", "posters/../posters/one.jpg", Path("posters/one.jpg")]
)
def test_paths_within_the_root_lead_to_their_file(root: Path, path: str | Path) -> None:
    assert safe_path(path, root) == root.resolve() / "posters" / "one.jpg"


def test_an_absolute_path_may_lead_into_the_root(root: Path) -> None:
    assert safe_path(root / "posters" / "one.jpg", root).name == "one.jpg"
    assert safe_path("one.jpg", root / "posters" / ".." / "posters").name == "one.jpg"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../secret.jpg", "leads out of the data root"),
        ("posters/../../secret.jpg", "leads out of the data root"),
        ("../absent.jpg", "leads out of the data root"),
        ("/etc/passwd", "leads out of the data root"),
        ("../media2/one.jpg", "leads out of the data root"),
        ("posters", "is a folder"),
        (".", "is a folder"),
        ("posters/two.jpg", "the file does not exist"),
        ("posters/one.jpg/x", "the file does not exist"),
        ("http://localhost/one.jpg", "is a URL"),
        ("file:///etc/passwd", "is a URL"),
        ("posters/one.jpg\x00.png", "NUL byte"),
        ("", "empty"),
        ("  ", "empty"),
        (None, "no text"),
        (3.5, "no text"),
        (b"posters/one.jpg", "no text"),
        ("x" * 5000, "cannot be"),
        ("\ud800.jpg", "malformed"),
        ("concat:posters/one.jpg|posters/one.jpg", "does not exist"),
        ("data:image/png;base64,AAAA", "does not exist"),
    ],
)
def test_other_paths_are_refused_without_telling_where_the_root_is(root: Path, path: str, why: str) -> None:
    with pytest.raises(MediaError, match=why) as caught:
        safe_path(path, root)
    assert str(root.parent) not in str(caught.value)


def test_a_file_may_have_a_colon_in_its_name(root: Path) -> None:
    (root / "Alien: Romulus.jpg").write_bytes(b"\xff\xd8\xff")
    assert safe_path("Alien: Romulus.jpg", root).name == "Alien: Romulus.jpg"


def test_symbolic_links_may_not_lead_out(root: Path) -> None:
    (root / "link.jpg").symlink_to("../secret.jpg")
    (root / "folder").symlink_to("..")
    (root / "inner.jpg").symlink_to("posters/one.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    assert safe_path("inner.jpg", root).name == "one.jpg"
    for path in ("link.jpg", "folder/secret.jpg"):
        with pytest.raises(MediaError, match="leads out"):
            safe_path(path, root)
        assert safe_path(path, root, allow_outside_root=True).name == "secret.jpg"
    with pytest.raises(MediaError, match="cannot be"):
        safe_path("loop.jpg", root)


def test_what_is_no_regular_file_is_refused_and_not_opened(root: Path) -> None:
    os.mkfifo(root / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket.jpg"))
        for name in ("fifo.jpg", "socket.jpg"):
            with pytest.raises(MediaError, match="no regular file"):
                safe_path(name, root)
            with pytest.raises(MediaError, match="no regular file"):
                checked_size(root / name, Limits())
    with pytest.raises(MediaError, match="no regular file"):
        safe_path("/dev/zero", root, allow_outside_root=True)


@given(st.lists(st.sampled_from(["..", ".", "posters", "one.jpg", "a", "", "~", "*", "secret.jpg"]), max_size=8))
def test_no_path_escapes(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    base = tmp_path_factory.getbasetemp() / "escape"
    root = base / "media"
    (root / "posters").mkdir(parents=True, exist_ok=True)
    (root / "posters" / "one.jpg").write_bytes(b"x")
    (base / "secret.jpg").write_bytes(b"x")
    try:
        found = safe_path("/".join(parts), root)
    except MediaError:
        return
    assert found == (root / "posters" / "one.jpg").resolve()


def test_files_that_are_empty_or_too_large_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"12345")
    assert checked_size(file, Limits(max_bytes=5)) == 5
    with pytest.raises(MediaError, match="has 5 bytes; the limit max_bytes is 4"):
        checked_size(file, Limits(max_bytes=4))
    file.write_bytes(b"")
    with pytest.raises(MediaError, match="is empty"):
        checked_size(file, Limits())


@pytest.mark.parametrize("value", [0, -1, "8", None, True])
def test_a_limit_is_a_number_above_zero(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"The limit max_pixels=.* cannot be used"):
        Limits(max_pixels=value)  # type: ignore[arg-type]


def wav() -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\x00\x00")
    return content.getvalue()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"GIF89a", "image"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image"),
        (b"BM" + b"\x00" * 12 + b"\x28\x00\x00\x00", "image"),
        (b"\x00\x00\x00\x18ftypavif", "image"),
        (b"\x00\x00\x00\x18ftypisom", "video"),
        (b"\x00\x00\x00\x18ftypqt  ", "video"),
        (b"\x00\x00\x00\x08moov", "video"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio"),
        (b"\x1aE\xdf\xa3", "video"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "video"),
        (b"G" + b"\x00" * 187 + b"G", "video"),
        (b"OggS" + b"\x00" * 24 + b"\x80theora", "video"),
        (b"OggS" + b"\x00" * 24 + b"\x01vorbis", "audio"),
        (b"fLaC", "audio"),
        (b"ID3\x04", "audio"),
        (b"\xff\xfb\x90\x00", "audio"),
        (b"\xff\xf1\x50\x80", "audio"),
        (wav(), "audio"),
        (b"", None),
        (b"B", None),
        (b"BM is a text about bitmaps", None),
        (b"Go", None),
        (b"#EXTM3U\n", None),
        (b"%PDF-1.7", None),
        (b"PK\x03\x04", None),
        (b"\xff\xff\xff\xff", None),
        (b"\x00" * 600, None),
    ],
)
def test_content_is_told_by_its_first_bytes(tmp_path: Path, head: bytes, kind: str | None) -> None:
    for name in ("x.jpg", "x.mp4", "x"):
        (tmp_path / name).write_bytes(head)
        assert sniff_kind(tmp_path / name) == kind


def test_only_what_is_known_to_be_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.mp4"
    file.write_bytes(b"GIF89a")
    with pytest.raises(MediaError, match="given as video and holds an image"):
        refuse_other_kinds(file, "video", ("video",))
    file.write_bytes(b"who knows")
    refuse_other_kinds(file, "video", ("video",))
