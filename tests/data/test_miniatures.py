"""Miniature trailers: their layout, what is missing, that seeds decide everything, and what each modality tells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from mmadapters.data.files import ROOT, read_rows
from mmadapters.data.sources import miniatures
from mmadapters.data.sources.miniature_media import (
    FRAME_RATE,
    SAMPLING_RATE,
    TONES,
    draw_frames,
    draw_poster,
    make_sound,
)
from mmadapters.data.sources.miniatures import (
    CATEGORICAL_COLUMNS,
    GENRES,
    MISSING_SHARES,
    MODALITIES,
    NUMERIC_COLUMNS,
    RELIABILITY,
    draw_miniatures,
    plot_text,
    table_cells,
    write_miniatures,
)
from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features.tabular import TabularEncoder

N = 24
COLUMNS = ["id", "plot", "genres", "poster", "trailer", *NUMERIC_COLUMNS, *CATEGORICAL_COLUMNS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    return write_miniatures(tmp_path_factory.mktemp("miniatures") / "set", n=N, seed=3).parent


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rows_have_the_columns_and_labels_that_were_drawn(folder: Path) -> None:
    rows = read_rows(folder / "rows.csv")
    drawn = draw_miniatures(N, seed=3)
    assert list(rows) == COLUMNS
    assert list(rows["id"]) == [f"miniature-{row:04d}" for row in range(N)]
    told = [[genre in cell.split("|") for genre in GENRES] for cell in rows["genres"]]
    np.testing.assert_array_equal(told, drawn.labels)
    assert rows["plot"].str.len().min() > 40
    for column in NUMERIC_COLUMNS:
        assert pd.api.types.is_numeric_dtype(rows[column])


def test_the_files_are_those_of_the_rows(folder: Path) -> None:
    rows = read_rows(folder / "rows.csv")
    drawn = draw_miniatures(N, seed=3)
    for column in ("poster", "trailer"):
        np.testing.assert_array_equal(rows[column].notna(), drawn.present[column])
        assert not drawn.present[column].all()
    named = [*rows["poster"].dropna(), *rows["trailer"].dropna()]
    assert sorted(files_of(folder)) == sorted(["README.txt", "rows.csv", *named])
    assert all(Path(rows.attrs[ROOT], name).is_file() for name in named)
    table = rows[[*NUMERIC_COLUMNS, *CATEGORICAL_COLUMNS]]
    assert table[~drawn.present["table"]].isna().all(axis=None)
    assert table[drawn.present["table"]].isna().to_numpy().mean() < 0.15


def test_posters_are_the_drawn_pixels(folder: Path) -> None:
    from PIL import Image

    drawn = draw_miniatures(N, seed=3)
    for row in np.flatnonzero(drawn.present["poster"])[:6]:
        with Image.open(folder / f"posters/{row:04d}.png") as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (128, 128))
            pixels = np.asarray(image)
        place = 1 + MODALITIES.index("poster")
        expected = draw_poster(drawn.shown["poster"][row], np.random.default_rng([3, place, row]))
        np.testing.assert_array_equal(pixels, expected)


def test_trailers_decode_to_the_drawn_frames_and_sound(folder: Path) -> None:
    import av

    drawn = draw_miniatures(N, seed=3)
    trailers = np.flatnonzero(drawn.present["trailer"])
    with_sound = drawn.present["sound"][trailers]
    assert with_sound.any()
    assert not with_sound.all()
    for row in {trailers[with_sound][0], trailers[~with_sound][0]}:
        with av.open(str(folder / f"trailers/{row:04d}.mp4")) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert container.streams.video[0].average_rate == FRAME_RATE
            assert [stream.codec_context.name for stream in container.streams.audio] == (
                ["aac"] if drawn.present["sound"][row] else []
            )
            pictures, samples = [], []
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    pictures.append(frame.to_ndarray(format="rgb24"))
                else:
                    assert frame.sample_rate == SAMPLING_RATE
                    samples.append(frame.to_ndarray()[0])
        expected = draw_frames(drawn.shown["trailer"][row], random_of("trailer", row))
        assert np.stack(pictures).shape == expected.shape == (40, 64, 96, 3)
        assert np.abs(np.stack(pictures).astype(float) - expected).mean() < 8
        if samples:
            assert_sounds_alike(np.concatenate(samples), make_sound(drawn.shown["sound"][row], random_of("sound", row)))


def random_of(modality: str, row: int) -> np.random.Generator:
    return np.random.default_rng([3, 1 + MODALITIES.index(modality), row])


def assert_sounds_alike(heard: np.ndarray, made: np.ndarray) -> None:
    """AAC moves phases and pads: the spectra are compared."""
    assert abs(len(heard) - len(made)) <= 2048
    size = min(len(heard), len(made))
    spectra = [np.abs(np.fft.rfft(sound[:size])) for sound in (heard, made)]
    assert np.corrcoef(spectra)[0, 1] > 0.9


def test_it_says_that_it_is_synthetic(folder: Path) -> None:
    assert miniatures.__doc__ is not None
    assert "SYNTHETIC" in miniatures.__doc__.splitlines()[0]
    text = (folder / "README.txt").read_text()
    assert "SYNTHETIC" in text.splitlines()[0]
    assert "Nothing in this folder is real" in text
    assert f"{N} rows, seed 3" in text
    assert "{" not in text


def test_a_seed_decides_rows_and_pixels(tmp_path: Path) -> None:
    pytest.importorskip("av")
    first, again, other = (
        files_of(write_miniatures(tmp_path / name, n=4, seed=seed).parent)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert sorted(first) == sorted(again)
    # What encoders make of the same frames and samples is theirs, and not promised.
    assert [name for name in first if first[name] != again[name] and not name.endswith(".mp4")] == []
    for draw in (draw_poster, draw_frames, make_sound):
        shown = np.array([True, False] * 3)
        np.testing.assert_array_equal(draw(shown, np.random.default_rng(2)), draw(shown, np.random.default_rng(2)))
    assert first["rows.csv"] != other["rows.csv"]
    posters = [{content for name, content in files.items() if name.endswith(".png")} for files in (first, other)]
    assert min(map(len, posters)) >= 2
    assert posters[0].isdisjoint(posters[1])


def test_miniatures_are_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    pytest.importorskip("av")
    target = tmp_path / "set"
    target.mkdir()
    write_miniatures(target, n=3, seed=0)
    rows = write_miniatures(target, n=2, seed=0)
    assert rows == target / "rows.csv"
    assert len(read_rows(rows)) == 2
    (target / "README.txt").write_text("my own data")
    with pytest.raises(ConfigurationError, match="holds something else than miniature trailers"):
        write_miniatures(target, n=2)
    assert len(read_rows(rows)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(miniatures, "write_mp4", fail)
    with pytest.raises(OSError, match="disk full"):
        write_miniatures(tmp_path / "set", n=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("package", "extra"), [("PIL", "image"), ("av", "video")])
def test_absent_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if package == "av":
        monkeypatch.setattr(miniatures, "write_png", lambda *_: None)
    with pytest.raises(MissingDependencyError, match=rf"mmadapters\[{extra}\]"):
        write_miniatures(tmp_path / "set", n=3)


@pytest.mark.parametrize(("n", "seed", "name"), [(0, 0, "n"), (2.0, 0, "n"), (True, 0, "n"), (3, -1, "seed")])
def test_numbers_that_cannot_be_used(tmp_path: Path, n: Any, seed: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=.* cannot be used"):
        write_miniatures(tmp_path / "set", n=n, seed=seed)


def test_genres_are_balanced_and_every_row_has_one() -> None:
    labels = draw_miniatures(240, seed=0).labels
    assert labels.any(axis=1).all()
    assert labels.mean(axis=0).min() > 0.28
    assert labels.mean(axis=0).max() < 0.48
    assert 2.0 < labels.sum(axis=1).mean() < 2.6


def test_shares_and_reliability_are_as_said() -> None:
    drawn = draw_miniatures(20_000, seed=1)
    frequency = drawn.labels.mean()
    assert drawn.labels.mean(axis=0) == pytest.approx(frequency, abs=0.012)
    agreed = RELIABILITY + (1 - RELIABILITY) * (frequency**2 + (1 - frequency) ** 2)
    for modality in MODALITIES:
        assert (drawn.shown[modality] == drawn.labels).mean(axis=0) == pytest.approx(agreed, abs=0.012)
        assert drawn.shown[modality].mean() == pytest.approx(frequency, abs=0.01)
    missing = {modality: 1 - drawn.present[modality].mean() for modality in MODALITIES}
    assert missing["text"] == 0
    for modality in ("poster", "trailer", "table"):
        assert missing[modality] == pytest.approx(MISSING_SHARES[modality], abs=0.01)
    either = 1 - (1 - MISSING_SHARES["sound"]) * (1 - MISSING_SHARES["trailer"])
    assert missing["sound"] == pytest.approx(either, abs=0.01)
    assert not (drawn.present["sound"] & ~drawn.present["trailer"]).any()


def test_modalities_err_apart() -> None:
    drawn = draw_miniatures(20_000, seed=2)
    wrong = [(drawn.shown[modality] != drawn.labels)[drawn.labels].astype(float) for modality in MODALITIES]
    correlations = np.corrcoef(wrong)[~np.eye(len(MODALITIES), dtype=bool)]
    assert np.abs(correlations).max() < 0.03


def test_all_together_tell_what_none_tells_alone() -> None:
    drawn = draw_miniatures(2_000, seed=0)
    shown = {name: drawn.shown[name] * drawn.present[name][:, None] for name in MODALITIES}
    alone = [precision(evidence, drawn.labels) for evidence in shown.values()]
    assert max(alone) < 0.75
    assert min(alone) > 0.6
    assert precision(np.hstack(list(shown.values())), drawn.labels) > max(alone) + 0.17


def precision(features: np.ndarray, targets: np.ndarray) -> float:
    """Micro average precision on the second half of a logistic regression on the first."""
    half = len(features) // 2
    scores = [
        LogisticRegression(C=10, max_iter=500).fit(features[:half], target[:half]).predict_proba(features[half:])[:, 1]
        for target in targets.T
    ]
    return float(average_precision_score(targets[half:].ravel(), np.column_stack(scores).ravel()))


def colours(pixels: np.ndarray) -> np.ndarray:
    """Square roots of the shares of 64 colours, (64,)."""
    bins = (pixels.reshape(-1, 3) // 64).astype(int) @ (16, 4, 1)
    return np.sqrt(np.bincount(bins, minlength=64) / len(bins))


def pitches(sound: np.ndarray) -> np.ndarray:
    """Logarithms of the energy in 60 bands from 150 to 6000 Hz, (60,)."""
    edges = np.geomspace(150, 6000, 61) * len(sound) / SAMPLING_RATE
    power = np.abs(np.fft.rfft(sound)) ** 2
    return np.log(np.add.reduceat(power, edges.astype(int))[:60] + 1)


def words(text: str) -> np.ndarray:
    """Counts of hashed words, (512,)."""
    places = [sum(ord(letter) * 31**i for i, letter in enumerate(word)) % 512 for word in text.lower().split()]
    return np.bincount(places, minlength=512).astype(float)


def features_of(modality: str, shown: np.ndarray) -> np.ndarray:
    randoms = [np.random.default_rng([7, row]) for row in range(len(shown))]
    rows = list(zip(shown, randoms, strict=True))
    if modality == "table":
        cells = pd.DataFrame([table_cells(genres, random) for genres, random in rows])
        return TabularEncoder(NUMERIC_COLUMNS, CATEGORICAL_COLUMNS).fit(cells).transform(cells)
    makers = {
        "text": lambda genres, random: words(plot_text(genres, random)),
        "poster": lambda genres, random: colours(draw_poster(genres, random)),
        "trailer": lambda genres, random: colours(draw_frames(genres, random)[::3]),
        "sound": lambda genres, random: pitches(make_sound(genres, random)),
    }
    features = np.stack([makers[modality](genres, random) for genres, random in rows])
    return (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_a_modality_shows_can_be_read_from_it(modality: str) -> None:
    """By the plainest features: colours, pitches, words, cells. The labels themselves can be read less well."""
    drawn = draw_miniatures(160, seed=11)
    features = features_of(modality, drawn.shown[modality])
    read = precision(features, drawn.shown[modality])
    assert read > 0.85
    assert precision(features, drawn.labels) < read - 0.1
    other = MODALITIES[MODALITIES.index(modality) - 1]
    assert precision(features, drawn.shown[other]) < read - 0.2


@pytest.mark.parametrize("genre", range(len(GENRES)))
def test_each_genre_has_its_colours_its_movement_and_its_pitch(genre: int) -> None:
    one, none = np.eye(len(GENRES), dtype=bool)[genre], np.zeros(len(GENRES), dtype=bool)
    with_emblem = np.mean([colours(draw_poster(one, np.random.default_rng(seed))) for seed in range(8)], axis=0)
    without = np.mean([colours(draw_poster(none, np.random.default_rng(seed))) for seed in range(8)], axis=0)
    assert np.abs(with_emblem - without).max() > 0.08

    frames = draw_frames(one, np.random.default_rng(1)).astype(float)
    still = draw_frames(none, np.random.default_rng(1)).astype(float)
    moved, barely = (np.abs(np.diff(film, axis=0)).mean(axis=(1, 2, 3)) for film in (frames, still))
    inside = np.arange(39) % 20 % 7 != 6  # within a scene; cuts are left out
    assert np.sort(moved[inside])[-4:].mean() > 2 * np.median(barely)

    pitch, _ = TONES[genre]
    frequencies = np.fft.rfftfreq(64_000, 1 / SAMPLING_RATE)
    band = (frequencies > 0.96 * pitch) & (frequencies < 1.04 * pitch)
    heard, silent = (
        (np.abs(np.fft.rfft(make_sound(shown, np.random.default_rng(0)))) ** 2)[band].sum() for shown in (one, none)
    )
    assert heard > 20 * silent
