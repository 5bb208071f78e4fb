"""What a search may choose: ranges and choices, the default space by the data and the encoder, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mmadapters.errors import ConfigurationError
from mmadapters.modality import Modality
from mmadapters.training.search_space import (
    Choices,
    Range,
    contains,
    decoded,
    default_space,
    distribution,
    encoded,
    field_type,
    full_space,
    layer_choices,
    usable_fusions,
)

POSTER, TABLE = Modality("poster", 6), Modality("table", 3)
FOR_ANY = ["gmu", "softmax_gmu", "sum", "concat", "cross_attention", "mag"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Range(2, 2), "low=2 must be below high=2"),
        (lambda: Range(float("nan"), 2), "low=nan must be below"),
        (lambda: Range(0, float("inf")), "both finite"),
        (lambda: Range(0, 1, log=True), "log=True needs a low above 0, and it is 0"),
        (lambda: Range(1, 2, step=0.5, log=True), "cannot be combined with log=True"),
        (lambda: Range(1, 2, step=0), "step=0 must be above 0"),
        (lambda: Range(1, 2, step=3), "at most high - low"),
        (lambda: Choices("gmu"), "choices='gmu' must be a list"),
        (lambda: Choices(["gmu"]), "at least two different values"),
        (lambda: Choices([[1], [2], [1]]), "at least two different values"),
        (lambda: Choices([1, True]), "at least two different values"),
    ],
)
def test_a_space_that_is_none_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("adapter", "modalities", "fusions"),
    [
        ({}, [], ["none"]),
        ({}, [POSTER], ["complementary", *FOR_ANY]),
        ({}, [POSTER, TABLE], FOR_ANY),
        ({"share_projections": True}, [POSTER, TABLE], ["gmu", "softmax_gmu", "sum", "concat"]),
    ],
)
def test_only_fusions_that_accept_the_modalities(adapter: dict, modalities: list, fusions: list[str]) -> None:
    assert sorted(usable_fusions(adapter, modalities)) == sorted(fusions)


@pytest.mark.parametrize(
    ("n_layers", "choices"),
    [
        (12, [None, [6, 7, 8, 9, 10, 11], [8, 9, 10, 11]]),
        (6, [None, [3, 4, 5], [4, 5]]),
        (3, [None, [2]]),
        (2, [None, [1]]),
        (1, [None]),
    ],
)
def test_layers_are_the_last_ones(n_layers: int, choices: list) -> None:
    assert layer_choices(n_layers) == choices


def test_the_default_space_follows_the_data_and_the_encoder() -> None:
    space = default_space({}, [POSTER, TABLE], 6)
    assert list(space) == [
        "adapter.bottleneck_size",
        "adapter.fusion",
        "adapter.dropout",
        "adapter.modality_dropout",
        "adapter.layers_to_transform",
        "training.learning_rate",
        "training.head_learning_rate_multiplier",
    ]
    assert space["training.learning_rate"] == Range(3e-4, 1e-2, log=True)
    text = ["adapter.bottleneck_size", "adapter.dropout", "training.learning_rate"]
    text.append("training.head_learning_rate_multiplier")
    assert list(default_space({}, [], 1)) == text
    assert list(default_space({"fusion": "none"}, [POSTER], 1)) == text


def test_what_is_given_stays_and_what_is_named_is_searched() -> None:
    named = {"adapter.dropout": Choices([0.1, 0.2]), "model.head": Choices(["linear", "mlp"])}
    fixed = {"adapter": {"dropout": 0.3, "bottleneck_size": 8}, "training": {"learning_rate": 1e-3}}
    space = full_space(named, fixed, [POSTER], 1)
    assert list(space) == [
        "adapter.fusion",
        "adapter.modality_dropout",
        "training.head_learning_rate_multiplier",
        "adapter.dropout",
        "model.head",
    ]
    assert space["adapter.dropout"] == named["adapter.dropout"]
    assert full_space(named, fixed, [POSTER], 1, with_default=False) == named


def test_nothing_to_search_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="There is nothing to search"):
        full_space({}, {}, [POSTER], 1, with_default=False)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("adaptor.dropout", Range(0, 1), "'adaptor.dropout' is unknown. Did you mean 'adapter'?"),
        ("adapter.dropuot", Range(0, 1), "'adapter.dropuot' is unknown. Did you mean 'dropout'?"),
        ("training.metric_for_best_model", Choices(["a", "b"]), "cannot be searched; it is the same in all trials"),
        ("training.seed", Range(0, 9), "'training.seed' cannot be searched"),
        ("model.backbone", Choices(["a", "b"]), "'model.backbone' cannot be searched"),
        ("adapter.modalities", Choices(["a", "b"]), "'adapter.modalities' cannot be searched"),
        ("adapter.fusion", Range(0, 1), "'adapter.fusion' is no number: give choices"),
        ("adapter.bottleneck_size", Range(8, 16.5), "'adapter.bottleneck_size' is a whole number"),
    ],
)
def test_what_cannot_be_searched_is_named(name: str, option: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        full_space({name: option, "adapter.up_init_std": Range(0, 1)}, {}, [POSTER], 2)
    assert message in str(caught.value)
    assert "up_init_std" not in str(caught.value)


def test_whole_numbers_are_whole() -> None:
    space = full_space({"adapter.bottleneck_size": Range(8.0, 64.0, step=8.0)}, {}, [], 1)
    assert repr(space["adapter.bottleneck_size"]) == "Range(low=8, high=64, step=8, log=False)"
    assert field_type("adapter.bottleneck_size") is int
    assert field_type("training.learning_rate") is float
    assert field_type("training.max_tokens_per_batch") is int
    assert field_type("training.class_weights") is None
    drawn = distribution("adapter.bottleneck_size", space["adapter.bottleneck_size"])
    assert (drawn.low, drawn.high, drawn.step) == (8, 64, 8)


@pytest.mark.parametrize(
    ("name", "option", "inside", "outside"),
    [
        ("adapter.dropout", Range(0, 0.5, step=0.05), [0.0, 0.2, 0.3, 0.5], [0.21, 0.55, "0.2", None, False]),
        ("training.learning_rate", Range(1e-4, 1e-2, log=True), [1e-4, 3e-3], [1e-5, 1]),
        ("adapter.bottleneck_size", Range(8, 64), [8, 9, 64], [7, 8.5, True]),
        ("adapter.bottleneck_size", Range(8, 64, step=8), [8, 64], [9]),
        ("adapter.layers_to_transform", Choices([None, [4, 5]]), [None, [4, 5]], [[5], [5, 4]]),
    ],
)
def test_what_is_in_a_space(name: str, option: Any, inside: list, outside: list) -> None:
    assert [value for value in inside if not contains(name, option, value)] == []
    assert [value for value in outside if contains(name, option, value)] == []


def test_values_are_stored_and_read_back() -> None:
    layers = Choices([None, [4, 5], [5]])
    for value in layers.values:
        assert decoded(layers, encoded(value)) == value
    assert encoded([4, 5]) == "[4, 5]"
    assert decoded(Range(0, 0.5, step=0.05), 0.30000000000000004) == 0.3
    assert decoded(Range(0, 1), 0.30000000000000004) == 0.30000000000000004
    assert repr(decoded(Range(8, 64, step=8), 16)) == "16"
