"""What a run's YAML may say: every problem reported at once, nothing misspelt accepted, nothing changed on the way."""

from __future__ import annotations

import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.cli.options import (
    NOT_FOR_ADAPTER,
    NOT_FOR_TRAINING,
    adapter_config,
    check_adapter_options,
    training_arguments,
)
from mmadapters.cli.run_config import DataSettings, DemoConfig, ModalitySettings, ModelConfig, RunConfig
from mmadapters.cli.settings import coerce_options, load_settings, to_yaml
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.errors import ConfigurationError
from mmadapters.modality import Modality
from mmadapters.training.arguments import MultimodalTrainingArguments

DATA = "data: {train: rows.csv, text: plot, label: genres}\n"
FULL_RUN = """
data:
  train: rows.csv
  test: test.parquet
  text: [title, plot]
  label: genres
  split: {validation: 0.1}
  label_separator: "|"
  problem_type: multi_label_classification
  max_length: 128
  id: movie
modalities:
  viewers: {column: viewers}
  poster: {columns: [p1, p0]}
  audience: {numeric: [year, "1"], categorical: [studio], max_categories: 7, min_frequency: 2}
  people: {multi_valued: [actors, keywords], value_separator: ";"}
model: {backbone: bert-base-uncased, pooling: cls, head: mlp, head_dropout: 0.25}
adapter: {bottleneck_size: 16, fusion: gmu}
training: {learning_rate: 1e-3, num_train_epochs: 2}
output_dir: runs/here
seed: 7
"""


@dataclass(frozen=True)
class Inner:
    name: str = field(metadata={"help": "what it is called"})
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Outer:
    rate: float = 0.5
    count: int = 1
    flag: bool = False
    place: Path = Path("here")
    kind: Literal["small", "large"] = "small"
    level: Literal[1, 2] | None = None
    text_or_list: str | list[str] = "one"
    number_or_text: int | str = 0
    maybe: float | None = None
    pair: tuple[float, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)
    inner: Inner | None = None
    inners: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(error: ConfigurationError) -> list[str]:
    head, *problems = str(error).splitlines()
    assert head.endswith("cannot be used:")
    assert all(problem.startswith("- ") for problem in problems)
    return [problem[2:] for problem in problems]


def outer(text: str) -> Outer:
    with tempfile.TemporaryDirectory() as folder:
        return load_settings(Outer, written(Path(folder), text))


def outer_problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        outer(text)
    return problems_of(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("rate: 1e-3", "rate", 0.001),
        ("rate: 1.0e-3", "rate", 0.001),
        ("rate: '0.25'", "rate", 0.25),
        ("rate: 3", "rate", 3.0),
        ("count: 3.0", "count", 3),
        ("count: 1e3", "count", 1000),
        ("count: '-2'", "count", -2),
        ("count: 9007199254740993", "count", 9007199254740993),
        ("count: '9007199254740993'", "count", 9007199254740993),
        ("count: 0x20000000000001", "count", 9007199254740993),
        ("count: " + "9" * 400, "count", 10**400 - 1),
        ("flag: yes", "flag", True),
        ("place: there/file", "place", Path("there/file")),
        ("kind: large", "kind", "large"),
        ("level: 2", "level", 2),
        ("level: null", "level", None),
        ("text_or_list: a", "text_or_list", "a"),
        ("text_or_list: [a, b]", "text_or_list", ["a", "b"]),
        ("number_or_text: 12", "number_or_text", 12),
        ("number_or_text: '12'", "number_or_text", "12"),
        ("maybe: 2", "maybe", 2.0),
        ("maybe: ~", "maybe", None),
        ("pair: [1, 1e-1]", "pair", (1.0, 0.1)),
        ("shares: {a: 1, 2: 5e-1}", "shares", {"a": 1.0, "2": 0.5}),
        ("inner: {name: a, sizes: [1, 2.0]}", "inner", Inner("a", [1, 2])),
        ("inners: {y: {name: a}, x: {name: b}}", "inners", {"y": Inner("a"), "x": Inner("b")}),
        ("anything: [1, {a: 1e-3}]", "anything", [1, {"a": "1e-3"}]),
    ],
)
def test_values_are_brought_to_the_type_of_their_field(text: str, name: str, expected: Any) -> None:
    value = getattr(outer(text), name)
    assert value == expected
    assert type(value) is type(expected)


def test_the_order_of_mappings_is_kept() -> None:
    assert list(outer("inners: {y: {name: a}, x: {name: b}, z: {name: c}}").inners) == ["y", "x", "z"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rate: fast", "rate is 'fast'; expected is a number."),
        ("rate: true", "rate is True; expected is a number."),
        ("rate: null", "rate is None; expected is a number."),
        ("rate: [1]", "rate is [1]; expected is a number."),
        ("rate: " + "9" * 400, f"rate is {'9' * 400}; expected is a number."),
        ("count: 2.5", "count is 2.5; expected is a whole number."),
        ("count: .inf", "count is inf; expected is a whole number."),
        ("count: .nan", "count is nan; expected is a whole number."),
        ("count: '1e999'", "count is '1e999'; expected is a whole number."),
        ("count: true", "count is True; expected is a whole number."),
        ("flag: 1", "flag is 1; expected is true or false."),
        ("flag: 'yes'", "flag is 'yes'; expected is true or false."),
        ("place: 1", "place is 1; expected is Path."),
        ("kind: larg", "kind is 'larg'; accepted are 'small', 'large'. Did you mean 'large'?"),
        ("kind: 1", "kind is 1; accepted are 'small', 'large'."),
        ("level: 3", "level is 3; accepted are '1', '2'."),
        ("text_or_list: 1", "text_or_list is 1; expected is text or a list."),
        ("text_or_list: [1]", "text_or_list is [1]; expected is text or a list."),
        ("number_or_text: [1]", "number_or_text is [1]; expected is a whole number or text."),
        ("maybe: much", "maybe is 'much'; expected is a number."),
        ("pair: 1", "pair is 1; expected is a list."),
        ("pair: [1, a]", "pair[1] is 'a'; expected is a number."),
        ("shares: 1", "shares is 1; expected is a mapping of keys to values."),
        ("shares: {a: b}", "shares.a is 'b'; expected is a number."),
        ("inner: 1", "inner is 1; expected is a mapping of keys to values."),
        ("inner: {}", "inner.name is missing: what it is called."),
        ("inner: {name: a, sizes: [1, x]}", "inner.sizes[1] is 'x'; expected is a whole number."),
        ("inner: {name: a, sise: 1}", "inner.sise is unknown. Did you mean 'sizes'? Accepted are 'name', 'sizes'."),
        ("inners: {a: {}}", "inners.a.name is missing: what it is called."),
        ("inners: {a: null}", "inners.a is None; expected is a mapping of keys to values."),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_is_expected(text: str, problem: str) -> None:
    assert outer_problems(text) == [problem]


def test_every_problem_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        dat: {}
        data: {train: 1, text: plot, lable: genres}
        modalities: {poster: {colum: a}, audio: {column: [a]}}
        model: {head: big, head_dropout: much}
        seed: 1.5
        """,
    )
    with pytest.raises(ConfigurationError) as caught:
        load_settings(RunConfig, path)
    assert str(caught.value).startswith(f"'{path}' cannot be used:\n- ")
    assert problems_of(caught.value) == [
        "dat is unknown. Did you mean 'data'? Accepted are 'data', 'modalities', 'model', 'adapter', 'training', "
        "'prefix_cache', 'search', 'compare', 'output_dir', 'seed'.",
        "data.lable is unknown. Did you mean 'label'? Accepted are 'train', 'text', 'label', 'validation', 'test', "
        "'split', 'split_seed', 'label_separator', 'problem_type', 'max_length', 'id', "
        "'streaming', 'shuffle_buffer', 'synthetic'.",
        "data.train is 1; expected is text.",
        "data.label is missing: column of the label or labels, or a list of 0/1 columns.",
        "modalities.poster.colum is unknown. Did you mean 'column'? Accepted are 'column', 'columns', 'numeric', "
        "'categorical', 'multi_valued', 'value_separator', 'max_categories', 'min_frequency', 'store', 'pooling'.",
        "modalities.audio.column is ['a']; expected is text.",
        "model.head is 'big'; accepted are 'linear', 'mlp'.",
        "model.head_dropout is 'much'; expected is a number.",
        "seed is 1.5; expected is a whole number.",
    ]


def test_a_key_that_resembles_nothing_gets_the_accepted_ones_only() -> None:
    (problem,) = outer_problems("inner: {name: a, 5: 1}")
    assert problem == "inner.5 is unknown. Accepted are 'name', 'sizes'."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\ndata: {}\nseed: 2\n", "is no valid YAML in line 3, column 1: the key 'seed' is given twice."),
        ("model:\n  head: mlp\n  head: mlp\n", "is no valid YAML in line 3, column 3: the key 'head' is given twice."),
        ("model: {head: mlp, 'head': mlp}\n", "is no valid YAML in line 1, column 20: the key 'head' is given twice."),
        ("model: [1\n", "is no valid YAML in line 2, column 1: expected ',' or ']', but got '<stream end>'."),
        (
            "output_dir: {{ x }}\n",
            "is no valid YAML in line 1, column 14: {'x': None} cannot be a key; put text with brackets or braces in "
            "quotes.",
        ),
        ("seed: 1\n? [a, b]\n: 1\n", "is no valid YAML in line 2, column 3: ['a', 'b'] cannot be a key; put text"),
        ("seed: 2024-13-45\n", "is no valid YAML in line 1, column 7: '2024-13-45' cannot be read as a value of the"),
        ("seed: !!bool perhaps\n", "is no valid YAML in line 1, column 7: 'perhaps' cannot be read as a value of the"),
        ("seed: " + "9" * 5000 + "\n", "is no valid YAML in line 1, column 7: '99"),
        ("<<: {seed: 1}\n<<: {seed: 2}\n", "is no valid YAML in line 2, column 1: the key '<<' is given twice."),
        ("data:\n  <<: 3\n", "is no valid YAML in line 2, column 7: expected a mapping or list of mappings"),
        ("- 1\n", "holds a list. It must be a mapping: `key: value` lines."),
        ("seed\n", "holds a str. It must be a mapping: `key: value` lines."),
        ("seed: !!python/name:os.system\n", "is no valid YAML in line 1, column 7: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_mapping_of_keys_given_once(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(RunConfig, path)
    assert str(caught.value).startswith(f"'{path}' {message}")


def test_merge_keys_fill_in_what_a_mapping_leaves_out(tmp_path: Path) -> None:
    text = """
    modalities:
      poster: &many {numeric: [a], max_categories: 7, min_frequency: 3}
      audio: {<<: *many, numeric: [b]}
      tags: &few {<<: *many, min_frequency: 1}
    adapter: {first: &deep {inner: &inner {<<: *few, min_frequency: 2}}}
    training: {<<: [*inner, {epochs: 1}]}
    """
    run = load_settings(RunConfig, written(tmp_path, DATA + textwrap.dedent(text)))
    assert run.modalities == {
        "poster": ModalitySettings(numeric=["a"], max_categories=7, min_frequency=3),
        "audio": ModalitySettings(numeric=["b"], max_categories=7, min_frequency=3),
        "tags": ModalitySettings(numeric=["a"], max_categories=7, min_frequency=1),
    }
    merged = {"numeric": ["a"], "max_categories": 7, "min_frequency": 2}
    assert run.adapter == {"first": {"inner": merged}}
    assert run.training == {**merged, "epochs": 1}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(RunConfig, tmp_path / "run.yaml")
    assert str(caught.value) == (
        f"The file '{tmp_path / 'run.yaml'}' cannot be read: No such file or directory. Name a YAML file."
    )
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_settings(RunConfig, tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"output_dir: caf\xe9\n")
    with pytest.raises(ConfigurationError, match="latin.yaml' is no valid YAML: .*invalid continuation byte"):
        load_settings(RunConfig, tmp_path / "latin.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n", "null\n"])
def test_an_empty_file_leaves_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_settings(DemoConfig, written(tmp_path, text)) == DemoConfig()
    assert load_settings(DemoConfig, None) == DemoConfig()


def test_an_empty_file_lacks_what_is_required(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(RunConfig, written(tmp_path, ""))
    assert problems_of(caught.value) == ["data is missing: rows and columns."]


@pytest.mark.parametrize(
    ("override", "section", "name", "expected"),
    [
        ("seed=3", None, "seed", 3),
        ("model.head_dropout=1e-3", "model", "head_dropout", 0.001),
        ("model.pooling=cls", "model", "pooling", "cls"),
        ("data.id=movie", "data", "id", "movie"),
        ("data.id=", "data", "id", None),
        ("data.id=null", "data", "id", None),
        ("data.label=[drama, war]", "data", "label", ["drama", "war"]),
        ("data.split={test: 0.5}", "data", "split", {"test": 0.5}),
        ("data.split.validation=0.1", "data", "split", {"validation": 0.1}),
        ("data.label_separator='='", "data", "label_separator", "="),
        ("output_dir=a=b.c", None, "output_dir", "a=b.c"),
        (" seed = 3", None, "seed", 3),
        ("training.learning_rate=0.5", None, "training", {"learning_rate": 0.5}),
    ],
)
def test_an_override_wins_over_the_file(
    tmp_path: Path, override: str, section: str | None, name: str, expected: Any
) -> None:
    path = written(tmp_path, DATA + "seed: 1\nmodel: {head_dropout: 0.5, head: mlp}\n")
    run = load_settings(RunConfig, path, [override])
    assert getattr(getattr(run, section) if section else run, name) == expected
    assert (run.model.head, run.data.train) == ("mlp", "rows.csv")


def test_overrides_are_applied_in_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, DATA + "modalities: {poster: {column: a}, audio: {column: b}}\n")
    run = load_settings(
        RunConfig,
        path,
        ["seed=1", "seed=2", "modalities.poster.column=c", "modalities.tags.columns=[x, y]", "adapter.dropout=0"],
    )
    assert run.seed == 2
    assert run.modalities == {
        "poster": ModalitySettings(column="c"),
        "audio": ModalitySettings(column="b"),
        "tags": ModalitySettings(columns=["x", "y"]),
    }
    assert list(run.modalities) == ["poster", "audio", "tags"]
    assert run.adapter == {"dropout": 0}


def test_overrides_need_no_file() -> None:
    assert load_settings(DemoConfig, None, ["seed=3", "model.backbone=here"]) == DemoConfig(
        model=ModelConfig(backbone="here"), seed=3
    )


def test_an_override_is_checked_like_the_file() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(DemoConfig, None, ["sed=1", "model.head=big", "seed.x=1"])
    assert str(caught.value).startswith("The settings cannot be used:\n")
    assert problems_of(caught.value) == [
        "sed is unknown. Did you mean 'seed'? Accepted are 'model', 'adapter', 'training', 'output_dir', 'seed'.",
        "model.head is 'big'; accepted are 'linear', 'mlp'.",
        "seed is {'x': 1}; expected is a whole number.",
    ]


@pytest.mark.parametrize("override", ["seed", "=1", "model..head=mlp", ".seed=1", "seed.=1", ""])
def test_a_malformed_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(DemoConfig, None, [override])
    assert str(caught.value) == f"--set {override!r} is malformed. Write it as section.key=value."


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model={head", "in line 1, column 6: expected ',' or '}', but got '<stream end>'."),
        ("model={head: mlp, head: linear}", "in line 1, column 13: the key 'head' is given twice."),
        ("output_dir={{ x }}", "in line 1, column 2: {'x': None} cannot be a key; put text with brackets or braces in"),
        ("seed=2024-13-45", "in line 1, column 1: '2024-13-45' cannot be read as a value of the kind 'timestamp'"),
    ],
)
def test_an_override_whose_value_is_no_yaml_is_refused_like_in_a_file(override: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(DemoConfig, None, [override])
    assert str(caught.value).startswith(f"--set {override!r}: the value is no valid YAML {reason}")


def test_a_whole_run_is_read(tmp_path: Path) -> None:
    assert load_settings(RunConfig, written(tmp_path, FULL_RUN)) == RunConfig(
        data=DataSettings(
            train="rows.csv",
            text=["title", "plot"],
            label="genres",
            test="test.parquet",
            split={"validation": 0.1},
            label_separator="|",
            problem_type="multi_label_classification",
            max_length=128,
            id="movie",
        ),
        modalities={
            "viewers": ModalitySettings(column="viewers"),
            "poster": ModalitySettings(columns=["p1", "p0"]),
            "audience": ModalitySettings(
                numeric=["year", "1"], categorical=["studio"], max_categories=7, min_frequency=2
            ),
            "people": ModalitySettings(multi_valued=["actors", "keywords"], value_separator=";"),
        },
        model=ModelConfig("bert-base-uncased", "cls", "mlp", 0.25),
        adapter={"bottleneck_size": 16, "fusion": "gmu"},
        training={"learning_rate": "1e-3", "num_train_epochs": 2},
        output_dir="runs/here",
        seed=7,
    )


def test_a_run_becomes_a_schema_with_the_modalities_in_their_order(tmp_path: Path) -> None:
    schema = load_settings(RunConfig, written(tmp_path, FULL_RUN)).to_schema()
    assert schema == DatasetSchema(
        text=("title", "plot"),
        label="genres",
        modalities=(
            VectorColumn("viewers", "viewers"),
            VectorColumn("poster", ("p1", "p0")),
            TabularColumns("audience", ("year", "1"), ("studio",), 7, 2),
            TabularColumns("people", multi_valued=("actors", "keywords"), value_separator=";"),
        ),
        problem_type="multi_label_classification",
        label_separator="|",
        id="movie",
    )
    plain = load_settings(RunConfig, written(tmp_path, DATA.replace("genres", "[drama, war]"))).to_schema()
    assert plain == DatasetSchema(text="plot", label=("drama", "war"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"split": {"dev": 0.1}}, "split names 'dev'; accepted are 'validation', 'test'."),
        ({"split": {"train": 0.8}}, "split names 'train'; accepted are 'validation', 'test'."),
        (
            {"split": {"validation": 0.1}, "validation": "b.csv"},
            "'validation' has both a file and a share in split; give one of them.",
        ),
        (
            {"split": {"validation": 0.5, "test": 0.5}},
            "split is {'validation': 0.5, 'test': 0.5}; each share is above 0, and together they are below 1.",
        ),
        ({"split": {"test": 0}}, "split is {'test': 0.0}; each share is above 0, and together they are below 1."),
        ({"split": {"test": -0.1}}, "split is {'test': -0.1}; each share is above 0, and together they are below 1."),
        ({"split": {"test": 1}}, "split is {'test': 1.0}; each share is above 0, and together they are below 1."),
        (
            {"split": {"test": float("nan")}},
            "split is {'test': nan}; each share is above 0, and together they are below 1.",
        ),
    ],
)
def test_shares_that_split_no_rows_are_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    text = yaml.safe_dump({"data": {"train": "a.csv", "text": "plot", "label": "genres", **changes}}, sort_keys=False)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(RunConfig, written(tmp_path, text))
    assert problems_of(caught.value) == [f"data: {problem}"]


@pytest.mark.parametrize(
    "modality",
    [
        {},
        {"column": "a", "columns": ["b"]},
        {"column": "a", "numeric": ["b"]},
        {"columns": ["a"], "categorical": ["b"]},
        {"columns": ["a"], "multi_valued": ["b"]},
        {"column": "a", "columns": ["b"], "numeric": ["c"]},
        {"numeric": [], "categorical": []},
        {"max_categories": 3},
    ],
)
def test_a_modality_is_read_from_exactly_one_kind_of_columns(tmp_path: Path, modality: dict[str, Any]) -> None:
    text = DATA + yaml.safe_dump({"modalities": {"poster": modality}})
    with pytest.raises(ConfigurationError) as caught:
        load_settings(RunConfig, written(tmp_path, text))
    assert problems_of(caught.value) == [
        "modalities.poster: a modality is either `column:` (a column of vectors), or `columns:` (a list of number "
        "columns), or `numeric:`, `categorical:` and `multi_valued:` (table columns), or `store:` (a folder of "
        "extracted features); give exactly one of the four."
    ]


def test_a_separator_without_columns_to_separate_is_refused(tmp_path: Path) -> None:
    text = DATA + "modalities: {people: {categorical: [actors], value_separator: '|'}}"
    with pytest.raises(ConfigurationError) as caught:
        load_settings(RunConfig, written(tmp_path, text))
    assert problems_of(caught.value) == [
        "modalities.people: value_separator is for the columns under `multi_valued:`, and there are none."
    ]


@pytest.mark.parametrize(
    "modality",
    [{"column": "a"}, {"columns": ["a"]}, {"numeric": ["a"]}, {"categorical": ["a"]}, {"multi_valued": ["a"]}],
    ids=list,
)
def test_each_kind_of_columns_makes_a_modality(modality: dict[str, Any]) -> None:
    assert ModalitySettings(**modality).max_categories == 50


letters = st.characters(codec="utf-8")
names = st.text(letters, min_size=1, max_size=5) | st.sampled_from(
    ["yes", "1e-3", "null", "~", "", "2024-01-01", "a: b", "# c", "a\x85b", "\x85", "<<", "="]
)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)
modalities = st.one_of(
    st.builds(ModalitySettings, column=names),
    st.builds(ModalitySettings, columns=st.lists(names, max_size=3)),
    st.builds(
        ModalitySettings,
        numeric=st.lists(names, min_size=1, max_size=2),
        categorical=st.lists(names, max_size=2),
        max_categories=st.integers(),
    ),
    st.builds(
        ModalitySettings, multi_valued=st.lists(names, min_size=1, max_size=2), value_separator=st.none() | names
    ),
)
runs = st.builds(
    RunConfig,
    data=st.builds(
        DataSettings,
        train=names,
        text=names | st.lists(names, max_size=2),
        label=names | st.lists(names, max_size=3),
        validation=st.none() | names,
        split=st.dictionaries(st.just("test"), st.floats(0.001, 0.999)),
        problem_type=st.sampled_from([None, "regression", "single_label_classification"]),
        max_length=st.none() | st.integers(1, 512),
    ),
    modalities=st.dictionaries(names, modalities, max_size=3),
    model=st.builds(ModelConfig, backbone=names, head_dropout=st.floats(allow_nan=False)),
    adapter=st.dictionaries(names, plain_values, max_size=3),
    training=st.dictionaries(names, plain_values, max_size=3),
    output_dir=names,
    seed=st.integers(),
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(runs)
def test_settings_written_as_yaml_are_read_back_as_they_were(run: RunConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        again = load_settings(RunConfig, written(Path(folder), to_yaml(run)))
    assert again == run
    assert list(again.modalities) == list(run.modalities)


@pytest.mark.parametrize("text", ["a\x85b", "\x85", "a \x85 'b'", "é\u2028b", "a\r\nb"])
def test_every_sign_of_a_text_is_read_back(tmp_path: Path, text: str) -> None:
    config = DemoConfig(adapter={text: [text]}, output_dir=text)
    assert load_settings(DemoConfig, written(tmp_path, to_yaml(config))) == config


def test_yaml_has_the_fields_in_their_order_and_plain_values() -> None:
    text = to_yaml(Outer(place=Path("a/b"), pair=(1.0, 1e-5), inner=Inner("é", [1])))
    content = yaml.safe_load(text)
    assert list(content) == list(Outer.__dataclass_fields__)
    assert (content["place"], content["pair"], content["inner"]) == ("a/b", [1.0, 1e-5], {"name": "é", "sizes": [1]})
    assert "é" in text
    assert outer(text) == Outer(place=Path("a/b"), pair=(1.0, 1e-5), inner=Inner("é", [1]))


@pytest.mark.parametrize(
    ("cls", "options", "expected"),
    [
        (MultimodalTrainingArguments, {"learning_rate": "1e-3"}, {"learning_rate": 0.001}),
        (MultimodalTrainingArguments, {"num_train_epochs": 3}, {"num_train_epochs": 3.0}),
        (MultimodalTrainingArguments, {"max_steps": "1e2"}, {"max_steps": 100}),
        (MultimodalTrainingArguments, {"early_stopping_patience": None}, {"early_stopping_patience": None}),
        (MultimodalTrainingArguments, {"report_to": ["none"]}, {"report_to": ["none"]}),
        (MultimodalTrainingArguments, {"lr_scheduler_type": "cosine"}, {"lr_scheduler_type": "cosine"}),
        (
            MultimodalAdapterConfig,
            {"bottleneck_size": "32", "dropout": "1e-1"},
            {"bottleneck_size": 32, "dropout": 0.1},
        ),
        (MultimodalAdapterConfig, {"layers_to_transform": [0, -1]}, {"layers_to_transform": [0, -1]}),
        (MultimodalAdapterConfig, {"layers_to_transform": 1}, {"layers_to_transform": 1}),
        (MultimodalAdapterConfig, {"encoder_sites": {"layers": "a.b"}}, {"encoder_sites": {"layers": "a.b"}}),
        (MultimodalAdapterConfig, {}, {}),
    ],
)
def test_options_are_brought_to_the_types_of_their_fields(
    cls: type, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    checked = coerce_options("section", cls, options)
    assert checked == expected
    assert [type(value) for value in checked.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("cls", "options", "start"),
    [
        (MultimodalTrainingArguments, {"learning_rat": 1}, "s.learning_rat is unknown. Did you mean 'learning_rate'?"),
        (MultimodalTrainingArguments, {"learning_rate": "fast"}, "s.learning_rate is 'fast'; expected is a number."),
        (MultimodalTrainingArguments, {"max_steps": 1.5}, "s.max_steps is 1.5; expected is a whole number."),
        (MultimodalTrainingArguments, {"bf16": "yes"}, "s.bf16 is 'yes'; expected is true or false."),
        (MultimodalTrainingArguments, {"run_name": 3}, "s.run_name is 3; expected is text."),
        (MultimodalTrainingArguments, {"report_to": 3}, "s.report_to is 3; expected is text or a list or null."),
        (
            MultimodalAdapterConfig,
            {"bottleneck_sise": 8},
            "s.bottleneck_sise is unknown. Did you mean 'bottleneck_size'?",
        ),
        (MultimodalAdapterConfig, {"bottleneck_size": [8]}, "s.bottleneck_size is [8]; expected is a whole number."),
        (MultimodalAdapterConfig, {"fusion": 1}, "s.fusion is 1; expected is text."),
        (
            MultimodalAdapterConfig,
            {"layers_to_transform": "first"},
            "s.layers_to_transform is 'first'; expected is a list or a whole number or null.",
        ),
        (MultimodalAdapterConfig, {"encoder_sites": {"layers": 1}}, "s.encoder_sites.layers is 1; expected is text."),
    ],
)
def test_options_that_do_not_fit_are_named(cls: type, options: dict[str, Any], start: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        coerce_options("s", cls, options)
    assert str(caught.value).startswith("The section 's' cannot be used:\n")
    (problem,) = problems_of(caught.value)
    assert problem.startswith(start)


def test_every_problem_of_a_section_is_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        coerce_options("adapter", MultimodalAdapterConfig, {"dropout": "x", "fusoin": "gmu", "bottleneck_size": 1.5})
    starts = [problem.split(";")[0].split(" Accepted")[0] for problem in problems_of(caught.value)]
    assert starts == [
        "adapter.dropout is 'x'",
        "adapter.fusoin is unknown. Did you mean 'fusion'?",
        "adapter.bottleneck_size is 1.5",
    ]


@pytest.mark.parametrize("name", NOT_FOR_ADAPTER)
def test_what_other_sections_decide_is_no_option_of_the_adapter(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        adapter_config({name: None}, [])
    (problem,) = problems_of(caught.value)
    assert problem.startswith(f"adapter.{name} is unknown.")
    assert f"'{name}'" not in problem


@pytest.mark.parametrize("name", NOT_FOR_TRAINING)
def test_what_other_sections_decide_is_no_option_of_the_training(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        training_arguments({name: None}, seed=1, progress=False)
    (problem,) = problems_of(caught.value)
    assert problem.startswith(f"training.{name} is unknown.")
    assert f"'{name}'" not in problem


MODALITIES = [Modality("poster", 8), Modality("audio", 4)]


def test_the_adapter_section_becomes_an_adapter_configuration() -> None:
    config = adapter_config({"bottleneck_size": "16", "dropout": "1e-1", "non_linearity": "relu"}, MODALITIES)
    assert config == MultimodalAdapterConfig(
        modalities=MODALITIES, bottleneck_size=16, dropout=0.1, non_linearity="relu", fusion="gmu"
    )
    assert config.modality_names == ["poster", "audio"]
    assert adapter_config({}, MODALITIES[::-1]).modality_names == ["audio", "poster"]


def test_the_fusion_none_leaves_the_modalities_out() -> None:
    config = adapter_config({"fusion": "none"}, MODALITIES)
    assert (config.fusion, config.modalities) == ("none", [])


@pytest.mark.parametrize(
    ("fusion", "modalities"),
    [
        ("gmu", ["poster"]),
        ("softmax_gmu", ["poster", "audio"]),
        ("complementary", ["poster"]),
        ("none", ["poster"]),
        ("none", []),
        (None, ["poster"]),
        (None, []),
    ],
)
def test_a_fusion_that_fits_the_names_of_the_modalities_is_accepted(fusion: str | None, modalities: list[str]) -> None:
    check_adapter_options({"bottleneck_size": 8, "fusion": fusion}, modalities)


@pytest.mark.parametrize(
    ("fusion", "modalities", "message"),
    [
        ("gmuu", ["poster"], "fusion='gmuu' is unknown; accepted are '"),
        ("gmuu", [], "fusion='gmuu' is unknown; accepted are '"),
        ("gmu", [], "fusion='gmu' needs modalities and none were given; pass some, or fusion='none'."),
        ("complementary", ["poster", "audio"], "fusion='complementary' is for exactly one modality, 2 were given"),
        ("complementary", [], "fusion='complementary' is for exactly one modality, 0 were given"),
        (None, ["text"], "A modality was named 'text'"),
    ],
)
def test_a_fusion_that_does_not_fit_is_refused_before_the_rows_are_read(
    fusion: str | None, modalities: list[str], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_adapter_options({"fusion": fusion}, modalities)
    assert message in str(caught.value)


def test_no_modalities_are_no_reason_to_train_on_the_text_alone_unasked() -> None:
    with pytest.raises(ConfigurationError, match="fusion='gmu' needs modalities and none were given"):
        adapter_config({"fusion": "gmu"}, [])
    assert adapter_config({}, []).fusion == "none"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bottleneck_size": 0}, "bottleneck_size=0 must be a whole number of at least 1."),
        ({"dropout": 1}, "dropout=1.0 must be at least 0 and below 1."),
        ({"fusion": "gmuu"}, "fusion='gmuu' is unknown; accepted are '"),
        ({"fusion": "gmuu"}, "Did you mean 'gmu'?"),
        ({"fusion": "complementary"}, "fusion='complementary' is for exactly one modality, 2 were given"),
    ],
)
def test_values_that_no_adapter_can_have_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        adapter_config(options, MODALITIES)
    assert message in str(caught.value)


def test_the_training_section_becomes_training_arguments() -> None:
    arguments = training_arguments(
        {"learning_rate": "1e-3", "num_train_epochs": 2, "class_weights": True, "metric_for_best_model": "rmse"},
        seed=11,
        progress=False,
    )
    assert isinstance(arguments, MultimodalTrainingArguments)
    assert (arguments.learning_rate, arguments.num_train_epochs, arguments.class_weights) == (0.001, 2.0, True)
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == ("rmse", False)
    assert (arguments.seed, arguments.disable_tqdm, arguments.needs_output_dir) == (11, True, True)


@pytest.mark.parametrize(
    ("progress", "options", "disabled"),
    [
        (True, {}, False),
        (False, {}, True),
        (True, {"disable_tqdm": True}, True),
        (False, {"disable_tqdm": False}, False),
    ],
)
def test_progress_bars_are_shown_as_asked_unless_the_section_says_otherwise(
    progress: bool, options: dict[str, Any], disabled: bool
) -> None:
    assert training_arguments(options, seed=1, progress=progress).disable_tqdm is disabled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stopping_patience": 0}, "early_stopping_patience=0 must be at least 1, or null."),
        ({"head_learning_rate_multiplier": 0}, "head_learning_rate_multiplier=0.0 must be above 0."),
        ({"lr_scheduler_type": "cosin"}, "cosin"),
        ({"eval_strategy": "foo"}, "foo"),
        ({"optim": "adam"}, "adam"),
        ({"save_strategy": "steps"}, "save"),
    ],
)
def test_values_that_no_training_can_have_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        training_arguments(options, seed=1, progress=False)
    assert message in str(caught.value)
