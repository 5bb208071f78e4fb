"""``mmadapters data moviescope|mmimdb|…``: published data sets that are on disk, checked and made into a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from mmadapters.data.sources.published import PublishedSet

Source = Annotated[Path, typer.Argument(help="Folder of the data set as it was published.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; it must not exist, or be empty.")]
Partial = Annotated[
    bool, typer.Option("--allow-partial", help="Accept a part of the data set: fewer rows, and rows without a file.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the training.")]
Dtype = Annotated[Literal["float16", "float32"], typer.Option(help="Type of the features' numbers in the store.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of the published data sets.

    Args:
        app: Where to.
    """
    app.command("moviescope")(moviescope)
    app.command("mmimdb")(mmimdb)
    app.command("food101")(food101)
    app.command("vsnli")(vsnli)
    app.command("hateful-memes")(hateful_memes)
    app.command("mpaa")(mpaa)


def moviescope(
    folder: Source,
    output: Folder,
    layout: Annotated[
        Literal["released", "research"] | None, typer.Option(help="Which files; found out where absent.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Modality to leave out: poster, trailer, audio or metadata; repeatable.")
    ] = None,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Keep only the means over frames and sound, not the sequences.")
    ] = False,
    dtype: Dtype = "float16",
    seed: Seed = 1,
    allow_partial: Partial = False,
) -> None:
    """Write Moviescope: 4,934 movies with plot, poster, trailer, sound and metadata; labels are 13 genres.

    FOLDER has the released files (movie_metadata.csv, raw_data_{train,val,test}.p, MatchedPosters/, 200F_VGG16/), or
    those of later research ({train,dev,test}.jsonl, PosterFeatures/, 200F_VGG16/, MelgramPorcessed/,
    Metadata_matrices/). They are on https://www.paolacascante.com/research/moviescope.html
    """

    def read() -> PublishedSet:
        from mmadapters.data.sources.moviescope import read_moviescope

        return read_moviescope(folder, layout, without or (), pooled, dtype, allow_partial)

    _prepare("Moviescope", folder, output, seed, read)


def mmimdb(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set as it was published, or its HDF5 file.")],
    output: Folder,
    layout: Annotated[
        Literal["archive", "hdf5", "jsonl"] | None, typer.Option(help="Which files; found out where absent.")
    ] = None,
    dtype: Dtype = "float16",
    seed: Seed = 1,
    allow_partial: Partial = False,
) -> None:
    """Write MM-IMDb: 25,959 movies with plot and poster; labels are 23 genres.

    FOLDER has the archive (split.json, dataset/), or multimodal_imdb.hdf5 and metadata.npy (needs the extra hdf5), or
    train.jsonl, dev.jsonl and test.jsonl of MMBT. They are on https://archive.org/details/mmimdb
    """

    def read() -> PublishedSet:
        from mmadapters.data.sources.mmimdb import read_mmimdb

        return read_mmimdb(folder, layout, dtype, allow_partial)

    _prepare("MM-IMDb", folder, output, seed, read)


def food101(folder: Source, output: Folder, seed: Seed = 1, allow_partial: Partial = False) -> None:
    """Write UPMC Food-101: pictures of 101 dishes with the text of their page.

    FOLDER has what scripts/food_101.py of https://github.com/facebookresearch/mmbt makes of the data set
    (https://visiir.isir.upmc.fr/explore): train.jsonl, dev.jsonl, test.jsonl, images/.
    """

    def read() -> PublishedSet:
        from mmadapters.data.sources.food101 import read_food101

        return read_food101(folder, allow_partial)

    _prepare("UPMC Food-101", folder, output, seed, read)


def vsnli(folder: Source, output: Folder, seed: Seed = 1, allow_partial: Partial = False) -> None:
    """Write V-SNLI: pairs of sentences with a picture; labels are entailment, neutral and contradiction.

    FOLDER has train.jsonl, dev.jsonl and test.jsonl with sentence1, sentence2, label and img, and the pictures of
    Flickr30k. See https://github.com/claudiogreco/coling18-gte
    """

    def read() -> PublishedSet:
        from mmadapters.data.sources.vsnli import read_vsnli

        return read_vsnli(folder, allow_partial)

    _prepare("V-SNLI", folder, output, seed, read)


def hateful_memes(
    folder: Source,
    output: Folder,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Read dev_unseen.jsonl and test_unseen.jsonl of the second phase.")
    ] = False,
    seed: Seed = 1,
    allow_partial: Partial = False,
) -> None:
    """Write Hateful Memes: 10,000 memes, hateful or not.

    FOLDER has train.jsonl, dev_seen.jsonl, test_seen.jsonl and img/, from https://hatefulmemeschallenge.com
    """

    def read() -> PublishedSet:
        from mmadapters.data.sources.hateful_memes import read_hateful_memes

        return read_hateful_memes(folder, unseen, allow_partial)

    _prepare("Hateful Memes", folder, output, seed, read)


def mpaa(folder: Source, output: Folder, seed: Seed = 1, allow_partial: Partial = False) -> None:
    """Write MPAA ratings: scripts and genres of movies; labels are the ratings.

    FOLDER has train.jsonl, dev.jsonl and test.jsonl with script, genre and label. The corpus is that of
    https://aclanthology.org/2020.lrec-1.166
    """

    def read() -> PublishedSet:
        from mmadapters.data.sources.mpaa import read_mpaa

        return read_mpaa(folder, allow_partial)

    _prepare("MPAA ratings", folder, output, seed, read)


def _prepare(title: str, folder: Path, output: Path, seed: int, read: Callable[[], PublishedSet]) -> None:
    """Read, check and write a data set, and say what was written.

    Args:
        title: Its name.
        folder: Where it is.
        output: Where to.
        seed: Of the training.
        read: Reads and checks it.
    """
    from mmadapters.cli.console import step
    from mmadapters.cli.data import print_prepared
    from mmadapters.data.sources.prepared import check_new_folder
    from mmadapters.data.sources.published import write_published

    check_new_folder(output)
    step(f"{title}: reading and checking {folder}")
    data = read()
    for note in data.notes:
        step(note)
    if data.features is not None:
        step(f"{title}: writing the features of {sum(map(len, data.splits.values())):,} rows")
    print_prepared(title, write_published(data, output, seed))
