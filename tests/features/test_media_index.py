from pathlib import Path

from mmadapters.features.media_index import MEDIA_INDEX, MediaIndex


def test_the_first_row_of_a_content_is_found_again(tmp_path: Path) -> None:
    index = MediaIndex(tmp_path, 0)
    assert index.row_of("poster", "aa") is None
    index.add([(0, {"poster": "aa", "clip": "bb"}), (3, {"poster": "cc"})])
    index.add([])
    index.add([(5, {"poster": "aa"})])
    for opened in (index, MediaIndex(tmp_path, 6)):
        assert opened.row_of("poster", "aa") == 0
        assert opened.row_of("clip", "bb") == 0
        assert opened.row_of("clip", "aa") is None
        assert opened.row_of("poster", "cc") == 3


def test_rows_that_were_never_committed_are_dropped(tmp_path: Path) -> None:
    MediaIndex(tmp_path, 0).add([(0, {"poster": "aa"}), (4, {"poster": "bb"})])
    committed = (tmp_path / MEDIA_INDEX).read_bytes().splitlines(keepends=True)[0]
    index = MediaIndex(tmp_path, 4)
    assert index.row_of("poster", "bb") is None
    assert (tmp_path / MEDIA_INDEX).read_bytes() == committed
    index.add([(4, {"poster": "bb"})])
    assert MediaIndex(tmp_path, 5).row_of("poster", "bb") == 4


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    MediaIndex(tmp_path, 0).add([(0, {"poster": "aa"}), (1, {"poster": "bb"})])
    whole = (tmp_path / MEDIA_INDEX).read_bytes()
    first = whole.splitlines(keepends=True)[0]
    for cut in range(len(first), len(whole) - 1):
        (tmp_path / MEDIA_INDEX).write_bytes(whole[:cut])
        index = MediaIndex(tmp_path, 2)
        assert index.row_of("poster", "aa") == 0
        assert index.row_of("poster", "bb") is None
        assert (tmp_path / MEDIA_INDEX).read_bytes() == first


def test_an_index_that_is_no_index_is_not_believed(tmp_path: Path) -> None:
    lines = [b"\xff\xfe", b"[]", b'{"row": 1}', b'{"row": "x", "media": {}}', b'{"row": 0, "media": 3}']
    (tmp_path / MEDIA_INDEX).write_bytes(b"\n".join(lines))
    assert MediaIndex(tmp_path, 9).row_of("poster", "aa") is None
    assert (tmp_path / MEDIA_INDEX).read_bytes() == b""
