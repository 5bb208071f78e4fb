import json
import subprocess
import sys

import pytest

from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.errors import ConfigurationError

SCHEMA = DatasetSchema(
    text="title",
    label="genres",
    modalities=(
        VectorColumn("viewers", ("v1", "v0")),
        TabularColumns(
            "audience",
            numeric=["year", "rating"],
            categorical=["country"],
            max_categories=7,
            multi_valued=["actors"],
            value_separator=";",
        ),
        VectorColumn("poster", "poster_path"),
    ),
    problem_type="multi_label_classification",
    label_separator="|",
    id="movie",
)


def test_the_schema_survives_json_in_the_order_of_the_user():
    again = DatasetSchema.from_dict(json.loads(json.dumps(SCHEMA.to_dict(), sort_keys=True)))
    assert again == SCHEMA
    assert [modality.name for modality in again.modalities] == ["viewers", "audience", "poster"]
    assert again.modalities[0].columns == ("v1", "v0")


def test_a_description_from_before_there_were_multi_valued_columns_is_read():
    table = {"kind": "tabular", "name": "t", "numeric": ["year"], "categorical": [], "max_categories": 5}
    assert DatasetSchema.from_dict({"text": "a", "modalities": [table]}).modalities == (
        TabularColumns("t", ("year",), max_categories=5, multi_valued=(), value_separator="|"),
    )


def test_columns():
    assert SCHEMA.text_columns == ("title",)
    assert SCHEMA.label_columns == ("genres",)
    assert SCHEMA.input_columns == ("title", "v1", "v0", "year", "rating", "country", "actors", "poster_path")
    pair = DatasetSchema(text=["premise", "hypothesis"])
    assert pair.text == pair.text_columns == ("premise", "hypothesis")
    assert pair.label_columns == ()


def test_a_hand_written_schema_needs_only_a_text():
    schema = DatasetSchema.from_dict({"text": "title", "modalities": [{"kind": "vector", "name": "a", "column": "b"}]})
    assert schema == DatasetSchema("title", modalities=(VectorColumn("a", "b"),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ("a", "b", "c")}, "text was given 3 columns: 'a', 'b', 'c'.*Join the others into one column first"),
        ({"text": ()}, "text was given as"),
        ({"text": 3}, "text was given as 3"),
        ({"text": ("a", "a")}, "text lists column 'a' more than once"),
        ({"text": "a", "label": ("x", "y", "x")}, "label lists column 'x' more than once"),
        ({"text": "a", "label": ["x"]}, "label is a list of the one column 'x'.*label='x'"),
        ({"text": "a", "label": "a"}, "Label column 'a' is also an input of the model"),
        (
            {"text": "a", "label": "b", "modalities": (TabularColumns("t", ["b"]),)},
            "Label column 'b' is also an input",
        ),
        (
            {"text": "a", "label": "b", "modalities": (TabularColumns("t", multi_valued=["b"]),)},
            "Label column 'b' is also an input",
        ),
        ({"text": "a", "problem_type": "regresion"}, "problem_type='regresion' cannot.*Did you mean 'regression'?"),
        ({"text": "a", "label": "b", "label_separator": ""}, "label_separator='' cannot be used"),
        ({"text": "a", "label": ("b", "c"), "label_separator": "|"}, "needs one label column"),
        (
            {"text": "a", "label": "b", "label_separator": "|", "problem_type": "regression"},
            "problem_type='regression' does not fit",
        ),
        ({"text": "a", "label": ("b", "c"), "problem_type": "single_label_classification"}, "does not fit label="),
        ({"text": "a", "modalities": ("poster",)}, "modalities holds 'poster'. Accepted are VectorColumn"),
        (
            {"text": "a", "modalities": (VectorColumn("p", "x"), TabularColumns("p", ["y"]))},
            "2 modalities are named 'p'",
        ),
    ],
)
def test_fields_that_cannot_be_used(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        DatasetSchema(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VectorColumn("text", "a"), "named 'text'"),
        (lambda: VectorColumn("1st", "a"), "named '1st'"),
        (lambda: VectorColumn("p", ("a", "a")), "column of modality 'p' lists column 'a' more than once"),
        (lambda: VectorColumn("p", ()), r"column of modality 'p' was given as \(\)"),
        (lambda: TabularColumns("t"), "was given no column"),
        (lambda: TabularColumns("t", ["a"], ["a"]), "Column 'a' is listed 2 times"),
        (lambda: TabularColumns("t", "year"), "numeric='year' is one text"),
        (lambda: TabularColumns("t", ["a"], multi_valued=["a"]), "Column 'a' is listed 2 times"),
        (lambda: TabularColumns("t", multi_valued=["a"], value_separator=""), "value_separator='' cannot be used"),
    ],
)
def test_modalities_that_cannot_be_used(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"text": "a", "labels": "b"}, "'labels' is no key of a data set's schema.*Did you mean 'label'?"),
        ({"label": "b"}, "A data set's schema needs the key 'text'; given were 'label'"),
        ({"text": "a", "modalities": [{"kind": "vektor"}]}, "kind='vektor'. Accepted are 'vector', 'tabular'"),
        ({"text": "a", "modalities": ["poster"]}, "kind='poster'"),
        ({"text": "a", "modalities": [{"kind": "vector", "name": "p"}]}, "A vector modality needs the key 'column'"),
        (
            {"text": "a", "modalities": [{"kind": "tabular", "name": "p", "numerics": []}]},
            "'numerics' is no key of a tabular modality.*Did you mean 'numeric'?",
        ),
    ],
)
def test_descriptions_that_cannot_be_used(state, message):
    with pytest.raises(ConfigurationError, match=message):
        DatasetSchema.from_dict(state)


def test_schema_and_files_import_neither_torch_nor_transformers():
    code = (
        "import sys\n"
        "import types, importlib.util\n"
        "package = types.ModuleType('mmadapters')\n"
        "package.__path__ = list(importlib.util.find_spec('mmadapters').submodule_search_locations)\n"
        "sys.modules['mmadapters'] = package\n"
        "import mmadapters.data.schema, mmadapters.data.files, mmadapters.data.labels\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_of_the_package_are_imported_on_first_use():
    import mmadapters.data

    for name in mmadapters.data.__all__:
        assert getattr(mmadapters.data, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mmadapters.data.nothing
