"""``mmadapters import-pickles``: published layouts made into columns that training reads, all or nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from mmadapters.cli.import_pickles import import_pickles, training_layout
from mmadapters.data.dataset import FeatureFile, read_features
from mmadapters.data.files import ROOT, read_rows
from mmadapters.errors import ConfigurationError, DataError

RANDOM = np.random.default_rng(0)


def command(*arguments: object) -> Result:
    app = typer.Typer()
    app.command("import-pickles")(import_pickles)
    return CliRunner().invoke(app, list(map(str, arguments)))


def dump(path: Path, value: Any) -> Path:
    path.write_bytes(pickle.dumps(value, 2))
    return path


def features_of(folder: Path) -> dict[Any, np.ndarray]:
    """What training reads from the column ``path``."""
    rows = read_rows(folder / "index.csv")
    read = {}
    for key, path in zip(rows["id"], rows["path"], strict=True):
        features = read_features(path, "a row", rows.attrs[ROOT])
        read[key] = features.load() if isinstance(features, FeatureFile) else features
    return read


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dict_of_posters_becomes_a_column_of_vectors(tmp_path: Path) -> None:
    posters = {f"tt{number}": RANDOM.normal(size=(1, 8)).astype(np.float32) for number in range(5)}
    result = command(dump(tmp_path / "posters.p", posters), "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert sorted(contents(tmp_path / "out")) == [*(f"features/00000{i}.npy" for i in range(5)), "index.csv"]
    assert (tmp_path / "out" / "index.csv").read_text().splitlines()[:2] == ["id,path", "tt0,features/000000.npy"]
    read = features_of(tmp_path / "out")
    assert list(read) == list(posters)
    for key, poster in posters.items():
        np.testing.assert_array_equal(read[key], poster[0])
    assert "5 arrays (float32 (8,)) of 1 files written to" in result.stderr.replace("\n", "")


def test_a_folder_of_one_file_a_film_becomes_a_column_of_sequences(tmp_path: Path) -> None:
    """Moviescope's 200F_VGG16/<id>.p, here (1, 20, 6)."""
    folder = tmp_path / "200F_VGG16"
    folder.mkdir()
    videos = {number: RANDOM.normal(size=(1, 20, 6)) for number in (3, 12, 2)}
    for number, video in videos.items():
        dump(folder / f"{number}.p", video)
    (folder / "README").write_text("not a pickle")
    assert command(folder, "-o", tmp_path / "out").exit_code == 0
    read = features_of(tmp_path / "out")
    assert list(read) == [12, 2, 3]
    for number, video in videos.items():
        np.testing.assert_array_equal(read[number], video[0].astype(np.float32))
    assert np.load(tmp_path / "out" / "features" / "000000.npy").dtype == np.float64


def test_spectrograms_are_joined_in_time(tmp_path: Path) -> None:
    """The published (1, clips, bands, steps), of which the first 4 clips are read as (4 * steps, bands)."""
    sound = RANDOM.normal(size=(1, 6, 3, 5)).astype(np.float32)
    file = dump(tmp_path / "sounds.p", {"many": sound, "one": sound[:, :1], "flat": sound[0, 0]})
    assert command(file, "-o", tmp_path / "out", "--clips", 4).exit_code == 0
    read = features_of(tmp_path / "out")
    assert read["many"].shape == (20, 3)
    for clip in range(4):
        np.testing.assert_array_equal(read["many"][clip * 5 : clip * 5 + 5], sound[0, clip].T)
    np.testing.assert_array_equal(read["one"], sound[0, 0].T)
    np.testing.assert_array_equal(read["flat"], sound[0, 0].T)


def test_ids_never_become_file_names(tmp_path: Path) -> None:
    ids = ["../escape", "/etc/x", "a,b", 'say "hi"', "NA", "-1+2", "x" * 400, "né|é"]
    array = np.ones(2, np.float32)
    assert command(dump(tmp_path / "a.p", dict.fromkeys(ids, array)), "-o", tmp_path / "out").exit_code == 0
    assert sorted(contents(tmp_path / "out")) == [*(f"features/00000{i}.npy" for i in range(8)), "index.csv"]
    assert list(read_rows(tmp_path / "out" / "index.csv")["id"]) == ids
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.p", "out"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    good, bad = dump(tmp_path / "good.p", {"a": np.ones(3)}), dump(tmp_path / "bad.p", {"b": [1.0]})
    refused = command(good, bad, "-o", tmp_path / "out")
    assert isinstance(refused.exception, DataError)
    assert "bad.p' was not read: the entry 'b' is of type list" in str(refused.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.p", "good.p"]

    assert command(good, "-o", tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    assert isinstance(command(good, bad, "-o", tmp_path / "out").exception, DataError)
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.p", "good.p", "out"]


def test_an_import_before_is_replaced_whole(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    assert command(dump(tmp_path / "a.p", [np.ones(3)] * 4), "-o", output).exit_code == 0
    assert command(dump(tmp_path / "b.p", {"x": np.zeros(2)}), "-o", output).exit_code == 0
    assert sorted(contents(output)) == ["features/000000.npy", "index.csv"]
    assert list(features_of(output)) == ["x"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("mine")
    file = dump(tmp_path / "a.p", [np.ones(3)])
    refused = command(file, "-o", tmp_path)
    assert isinstance(refused.exception, ConfigurationError)
    assert "would be lost. Name another folder" in str(refused.exception)
    assert (tmp_path / "index.csv").read_text() == "mine"


def test_a_folder_without_pickles_and_pickles_without_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no .p, .pkl, .pickle files" in str(command(tmp_path / "empty", "-o", tmp_path / "out").exception)
    none = dump(tmp_path / "none.p", {})
    assert "hold no arrays" in str(command(none, "-o", tmp_path / "out").exception)
    assert not (tmp_path / "out").exists()


def test_limits_are_handed_on(tmp_path: Path) -> None:
    file = dump(tmp_path / "a.p", [np.zeros(2_000_000)])
    refused = command(file, "-o", tmp_path / "out", "--memory", 0.015)
    assert "The limit is 15,000,000 bytes" in str(refused.exception)
    slow = tmp_path / "slow.p"
    keys = b"".join(pickle.dumps(number * (2**61 - 1), 2)[2:-1] + b"N" for number in range(1, 40_000))
    slow.write_bytes(b"\x80\x02}(" + keys + b"u.")
    assert "longer than 0.2 s" in str(command(slow, "-o", tmp_path / "out", "--seconds", 0.2).exception)


def test_numbers_that_training_refuses_are_told(tmp_path: Path) -> None:
    result = command(dump(tmp_path / "a.p", [np.array([1, np.nan]), np.ones(2)]), "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "1 of them have NaN or infinite numbers" in result.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("shape", "clips", "kept"),
    [
        ((4,), None, (4,)),
        ((1,), None, (1,)),
        ((1, 4), None, (4,)),
        ((1, 1), None, (1,)),
        ((3, 4), None, (3, 4)),
        ((1, 3, 4), None, (3, 4)),
        ((1, 1, 4), None, (4,)),
        ((0, 4), None, (0, 4)),
        ((2, 3, 4), 4, (8, 3)),
        ((2, 3, 4), 1, (4, 3)),
        ((1, 2, 3, 4), 2, (8, 3)),
        ((1, 1, 3, 4), 2, (4, 3)),
        ((1, 4), 2, (4, 1)),
    ],
)
def test_layouts(shape: tuple[int, ...], clips: int | None, kept: tuple[int, ...]) -> None:
    features = training_layout(np.zeros(shape), "x", clips)
    assert features.shape == kept
    assert features.flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "clips", "message"),
    [
        ((), None, r"has the shape \(\). Accepted are \(D,\) and \(T, D\)"),
        ((2, 3, 4), None, r"\(2, 3, 4\).*are read with --clips"),
        ((3, 1, 4), None, "are read with --clips"),
        ((2, 2, 3, 4), 2, r"Accepted are \(clips, bands, steps\)"),
        ((4,), 2, r"Accepted are \(clips, bands, steps\)"),
    ],
)
def test_layouts_that_training_cannot_read(shape: tuple[int, ...], clips: int | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        training_layout(np.zeros(shape), "x", clips)
