"""Emoji as rows: what is a row, its text, its labels and its table, and a check against what was published."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emoji_files import (
    LABEL_COUNTS,
    N_EACH,
    N_ROWS,
    VERSION,
    WORDS,
    entries,
    entry,
    package_files,
    png,
    write_archive,
    write_folder,
)
from mmadapters.data.sources import emoji
from mmadapters.data.sources.emoji import (
    TABLE_COLUMNS,
    check_published,
    emoji_rows,
    emoji_splits,
    label_words,
    load_emoji,
    text_of,
)
from mmadapters.data.sources.emoji_package import EmojiPackage, read_emoji_package
from mmadapters.errors import DataError, DownloadError


@pytest.fixture
def package() -> EmojiPackage:
    pictures = {name.rpartition("/")[2]: content for name, content in package_files().items()}
    return EmojiPackage(VERSION, entries(), pictures)


@pytest.fixture
def rows(package: EmojiPackage) -> pd.DataFrame:
    return emoji_rows(package)


def test_an_archive_and_a_folder_hold_the_same(tmp_path: Path) -> None:
    files = package_files()
    archive = read_emoji_package(write_archive(tmp_path / "emoji.tgz", files))
    assert archive == read_emoji_package(write_folder(tmp_path / "flat", files))
    write_folder(tmp_path / "unpacked" / "package", files)
    assert archive == read_emoji_package(tmp_path / "unpacked")
    assert archive.version == VERSION
    assert archive.entries == entries()
    shown = {each["image"] for each in entries() if each["has_img_google"]}
    assert set(archive.pictures) == shown
    assert archive.pictures["1f601.png"] == files["img/google/64/1f601.png"]


def test_every_emoji_with_a_picture_and_a_label_is_a_row(rows: pd.DataFrame) -> None:
    assert len(rows) == N_ROWS == 59
    assert rows["id"].is_unique
    assert not {"1f600-1f3fb", "1f3ff", "1f5ff"} & set(rows["id"])
    assert Counter(label for labels in rows["labels"] for label in labels) == LABEL_COUNTS


def test_a_row(rows: pd.DataFrame) -> None:
    assert rows.iloc[0].to_dict() == {
        "id": "1f600",
        "name": "ah flag",
        "text": "ah",
        "labels": ["Flags", "Flags/country-flag"],
        "picture": "pictures/1f600.png",
        "added_in": 15.1,
        "aliases": 1,
        "text_form": 1,
        "docomo": 0,
        "au": 1,
        "softbank": 0,
        "google": 1,
    }
    assert rows.iloc[1][list(TABLE_COLUMNS)].to_list() == [0.6, 2, 0, 1, 0, 1, 0]
    frog = rows[rows["name"] == "lovely frog"].iloc[0]
    assert frog["labels"] == ["Animals & Nature"]


def test_no_text_names_a_label_but_one_that_is_nothing_else(rows: pd.DataFrame) -> None:
    words = label_words(LABEL_COUNTS)
    named = [text for text in rows["text"] if any(re.search(rf"\b{re.escape(word)}\b", text) for word in words)]
    assert named == ["arrow"]
    (labels,) = rows["labels"][rows["text"] == "arrow"]
    assert labels == ["Animals & Nature"]
    assert list(rows["text"][:14]) == [word.lower() for word in WORDS]
    # "bird" is a part of the label's name, and no label is called so.
    assert rows["text"][14] == "ah bird"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Brazil Flag", "brazil"),
        ("CROSSED FLAGS", "crossed"),
        ("FLAGPOLE", "flagpole"),
        ("KEYCAP: *", "*"),
        ("FAMILY: MAN, BOY", "man, boy"),
        ("COUPLE WITH HEART: WOMAN, MAN", "couple with: woman, man"),
        ("PERSON: BALD", "bald"),
        ("EYES, HEART-SHAPED", "eyes, shaped"),
        ("ANIMAL BIRD IN A CAGE", "in a cage"),
        ("TWO ANIMAL-BIRDS", "two"),
        ("ANIMAL-BIRDS", "animal-birds"),
        ("SPORTS ACTIVITY MEDAL", "medal"),
        ("U.S. Outlying Islands Flag", "u.s. outlying islands"),
        ("CURAÇAO FLAG", "curaçao"),
        ("FAMILY", "family"),
    ],
)
def test_a_text_is_the_name_without_the_names_of_labels(name: str, text: str) -> None:
    labels = ["Flags", "Activities", "P/family", "P/person", "S/keycap", "S/heart", "A/animal-bird", "A/sport"]
    assert text_of(name, label_words(labels)) == text


def test_labels_give_singular_and_plural() -> None:
    assert label_words(["Flags", "Activities", "Objects/book-paper"]) == {
        *("flags", "flag"),
        *("activities", "activity"),
        *("book paper", "book papers"),
    }
    assert label_words([]) == frozenset()


def test_a_group_needs_twelve_members() -> None:
    few = [one for one in entries() if one["subcategory"] != "keycap"] + entries()[42:53]
    counts = Counter(label for labels in emoji_rows(EmojiPackage(None, few, {}))["labels"] for label in labels)
    assert counts["Symbols"] == 14 + 11
    assert "Symbols/keycap" not in counts
    one_more = few + entries()[53:54]
    counts = Counter(label for labels in emoji_rows(EmojiPackage(None, one_more, {}))["labels"] for label in labels)
    assert counts["Symbols/keycap"] == 12


def test_splits_are_70_10_20_of_the_rows_by_seed(rows: pd.DataFrame) -> None:
    splits = emoji_splits(rows, seed=0)
    assert {name: len(frame) for name, frame in splits.items()} == {"train": 41, "validation": 6, "test": 12}
    assert sorted(id for frame in splits.values() for id in frame["id"]) == sorted(rows["id"])
    again, other = emoji_splits(rows, seed=0), emoji_splits(rows, seed=1)
    assert again["test"].equals(splits["test"])
    assert set(other["test"]["id"]) != set(splits["test"]["id"])


def changed_files(changes: dict[int, dict[str, Any]]) -> dict[str, bytes]:
    made = entries()
    for place, change in changes.items():
        made[place] |= change
    return package_files() | {"emoji.json": json.dumps(made).encode()}


def test_all_problems_of_the_pictures_are_listed(tmp_path: Path) -> None:
    files = package_files()
    del files["img/google/64/1f601.png"]
    files["img/google/64/1f602.png"] = png((0, 0, 0), size=32)
    files["img/google/64/1f603.png"] = b"GIF89a"
    with pytest.raises(DataError) as raised:
        read_emoji_package(write_archive(tmp_path / "emoji.tgz", files))
    assert str(raised.value).splitlines()[1:] == [
        "- 'img/google/64/' lacks 1 picture: '1f601.png'",
        "- 'img/google/64/' holds 2 files that are no PNG of 64 x 64 pixels: '1f602.png', '1f603.png'",
    ]


def test_all_problems_of_the_entries_are_listed(tmp_path: Path) -> None:
    changes = {3: {"name": None}, 4: {"image": "../../outside.png"}, 5: {"added_in": "soon"}, 6: {"category": 7}}
    with pytest.raises(DataError) as raised:
        read_emoji_package(write_archive(tmp_path / "emoji.tgz", changed_files(changes)))
    assert str(raised.value).splitlines()[1:] == [
        "- the field 'name' is absent or no str in 1 entry: '3'",
        "- the field 'category' is absent or no str in 1 entry: '6'",
        "- the field 'added_in' holds 1 value that is no version: 'soon'",
        "- the field 'image' holds 1 value that is no picture: '../../outside.png'",
    ]


@pytest.mark.parametrize("content", ["[1]", "{}"])
def test_entries_that_are_no_objects_are_an_error(content: str, tmp_path: Path) -> None:
    files = package_files() | {"emoji.json": content.encode()}
    with pytest.raises(DataError, match=r"'emoji\.json' is not a list of objects"):
        read_emoji_package(write_folder(tmp_path / "emoji", files))


def test_what_is_no_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'.*absent' does not exist. Give the package's .tgz file"):
        read_emoji_package(tmp_path / "absent")
    (tmp_path / "text.tgz").write_text("no archive")
    with pytest.raises(DataError, match="cannot be read as a .tgz archive"):
        read_emoji_package(tmp_path / "text.tgz")
    whole = write_archive(tmp_path / "whole.tgz", package_files()).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read as a \.tgz archive.*Fetch it again"):
        read_emoji_package(tmp_path / "cut.tgz")
    write_archive(tmp_path / "other.tgz", {"package.json": b"{}", "index.js": b""})
    with pytest.raises(DataError, match=r"has no 'emoji\.json' and 'img/google/64/'"):
        read_emoji_package(tmp_path / "other.tgz")
    broken = write_folder(tmp_path / "broken", package_files() | {"emoji.json": b'[{"name":'})
    with pytest.raises(DataError, match=r"'emoji\.json' in '.*broken' is no valid JSON"):
        read_emoji_package(broken)


def test_the_check_names_what_differs(package: EmojiPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji, "N_ROWS", N_ROWS)
    monkeypatch.setattr(emoji, "LABEL_COUNTS", LABEL_COUNTS)
    check_published("emoji.tgz", package)
    more = [*package.entries, entry("NEW", 0x1F700, "Symbols/arrow")]
    fewer = [one for one in more if one["subcategory"] != "keycap"]
    with pytest.raises(DataError) as raised:
        check_published("emoji.tgz", EmojiPackage("17.0.0", fewer, {}))
    assert "'emoji.tgz' holds other emoji than emoji-datasource-google 16.0.0" in str(raised.value)
    assert str(raised.value).splitlines()[1:] == [
        "- version: 17.0.0 instead of 16.0.0",
        f"- rows: {N_ROWS + 1 - N_EACH} instead of {N_ROWS}",
        f"- label 'Symbols': {N_EACH + 1} instead of {2 * N_EACH}",
        f"- label 'Symbols/arrow': {N_EACH + 1} instead of {N_EACH}",
        f"- label 'Symbols/keycap': 0 instead of {N_EACH}",
    ]


def test_a_package_that_was_not_published_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "emoji.tgz", package_files())
    with pytest.raises(DataError, match="rows: 59 instead of 1906"):
        load_emoji(archive)


def test_the_published_counts_fit_together() -> None:
    categories = {label: count for label, count in emoji.LABEL_COUNTS.items() if "/" not in label}
    assert sum(categories.values()) == emoji.N_ROWS == 1906
    assert len(categories) == 9
    assert len(emoji.LABEL_COUNTS) == 64
    assert min(emoji.LABEL_COUNTS.values()) == emoji.MIN_MEMBERS
    for category, count in categories.items():
        assert count >= sum(n for label, n in emoji.LABEL_COUNTS.items() if label.startswith(f"{category}/"))


@pytest.mark.slow
def test_the_real_package(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    try:
        package = load_emoji()
    except DownloadError as error:
        pytest.skip(str(error))
    rows = emoji_rows(package)
    assert len(rows) == 1906
    assert Counter(label for labels in rows["labels"] for label in labels) == emoji.LABEL_COUNTS
    for labels, text in zip(rows["labels"], rows["text"], strict=True):
        words = label_words(labels)
        assert not re.search(rf"\b(?:{'|'.join(map(re.escape, words))})\b", text), (labels, text)
    assert {name: len(frame) for name, frame in emoji_splits(rows, 0).items()} == {
        "train": 1334,
        "validation": 191,
        "test": 381,
    }
