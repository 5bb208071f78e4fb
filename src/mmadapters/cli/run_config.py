"""What a run's YAML may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mmadapters.cli.compare_config import CompareConfig
from mmadapters.errors import ConfigurationError, listed

if TYPE_CHECKING:
    from mmadapters.data.schema import DatasetSchema, ModalitySource

SPLITS = ("validation", "test")


def _field(help_text: str, **kwargs: Any) -> Any:
    return field(metadata={"help": help_text}, **kwargs)


@dataclass(frozen=True)
class DataSettings:
    """Which rows, and what their columns are.

    Attributes:
        train: File of the training rows; with ``streaming`` also a folder or a pattern of files.
        text: Column of the text, or two columns for a pair.
        label: Column of the label or labels, or a list of 0/1 columns.
        validation: File of the validation rows.
        test: File of the test rows.
        split: Shares of the training file for splits without a file, for example ``{validation: 0.1, test: 0.2}``.
        split_seed: Decides which rows these are; the run's seed where absent.
        label_separator: Text between several labels in one cell.
        problem_type: Inferred from the labels where absent.
        max_length: Tokens that a text is cut to.
        id: Column that names a row in predictions.
        streaming: Whether training rows are read while the model is trained, and not held in memory.
        shuffle_buffer: With ``streaming``, the rows that are in memory and shuffled at a time; 10,000 where absent.
        synthetic: Whether a program made the rows up; the model card then says so.
    """

    train: str = _field("file of the training rows: CSV, JSONL or Parquet")
    text: str | list[str] = _field("column of the text, or two for a pair")
    label: str | list[str] = _field("column of the label or labels, or a list of 0/1 columns")
    validation: str | None = _field("file of the validation rows", default=None)
    test: str | None = _field("file of the test rows", default=None)
    split: dict[str, float] = _field("shares of the training file", default_factory=dict)
    split_seed: int | None = _field("decides which rows these are", default=None)
    label_separator: str | None = _field("text between the labels of a cell", default=None)
    problem_type: Literal["multi_label_classification", "single_label_classification", "regression"] | None = _field(
        "inferred from the labels where absent", default=None
    )
    max_length: int | None = _field("tokens that a text is cut to", default=None)
    id: str | None = _field("column that names a row", default=None)
    streaming: bool = _field("whether training rows are read while training", default=False)
    shuffle_buffer: int | None = _field("with streaming: rows that are shuffled at a time", default=None)
    synthetic: bool = _field("whether a program made the rows up", default=False)

    def __post_init__(self) -> None:
        self._check_split()
        self._check_streaming()

    def _check_streaming(self) -> None:
        if self.streaming and self.split:
            raise ConfigurationError(
                f"split names {listed(self.split)}, and shares cannot be cut from rows that are streamed, since those "
                "parts are held in memory. Name files for them (validation:, test:), such as one of the shards, which "
                "`train:` then has to leave out."
            )
        if self.shuffle_buffer is not None and not self.streaming:
            raise ConfigurationError("shuffle_buffer is for streamed rows; set streaming: true, or leave it out.")
        if self.shuffle_buffer is not None and self.shuffle_buffer < 1:
            raise ConfigurationError(f"shuffle_buffer is {self.shuffle_buffer}; give a number of rows of at least 1.")

    def _check_split(self) -> None:
        unknown = [name for name in self.split if name not in SPLITS]
        if unknown:
            raise ConfigurationError(f"split names {listed(unknown)}; accepted are {listed(SPLITS)}.")
        if self.split_seed is not None and self.split_seed < 0:
            raise ConfigurationError(f"split_seed is {self.split_seed}; give a whole number of at least 0.")
        twice = [name for name in self.split if getattr(self, name) is not None]
        if twice:
            raise ConfigurationError(f"{listed(twice)} has both a file and a share in split; give one of them.")
        if any(not 0 < share < 1 for share in self.split.values()) or sum(self.split.values()) >= 1:
            raise ConfigurationError(f"split is {self.split}; each share is above 0, and together they are below 1.")


@dataclass(frozen=True)
class ModalitySettings:
    """Where one modality is found: a column of vectors, several number columns, table columns, or a feature store.

    Attributes:
        column: Column whose cells are arrays, lists or paths of ``.npy`` files; with ``store`` the store's column,
            the one that is called like the modality where absent.
        columns: Number columns that together are the vector.
        numeric: Table columns of numbers.
        categorical: Table columns of categories.
        multi_valued: Table columns of which a cell has several categories.
        value_separator: With ``multi_valued``, text between the categories of a cell; ``|`` where absent.
        max_categories: Most categories of a column that are kept.
        min_frequency: Training rows that a category must have to be kept.
        store: Folder that ``mmadapters extract`` wrote; ``data.id`` finds a row's features.
        pooling: With ``store``, ``mean`` to read the mean of a sequence.
    """

    column: str | None = _field("column of vectors or .npy paths, or of the store", default=None)
    columns: list[str] | None = _field("number columns that are the vector", default=None)
    numeric: list[str] = _field("table columns of numbers", default_factory=list)
    categorical: list[str] = _field("table columns of categories", default_factory=list)
    multi_valued: list[str] = _field("table columns of several categories a cell", default_factory=list)
    value_separator: str | None = _field("with multi_valued: text between the categories of a cell", default=None)
    max_categories: int = _field("most categories of a column", default=50)
    min_frequency: int = _field("rows that a category must have", default=1)
    store: str | None = _field("folder of extracted features", default=None)
    pooling: Literal["mean"] | None = _field("with store: mean of a sequence", default=None)

    def __post_init__(self) -> None:
        given = [
            self.column is not None and self.store is None,
            self.columns is not None,
            bool(self.numeric or self.categorical or self.multi_valued),
            self.store is not None,
        ]
        if sum(given) != 1:
            raise ConfigurationError(
                "a modality is either `column:` (a column of vectors), or `columns:` (a list of number columns), or "
                "`numeric:`, `categorical:` and `multi_valued:` (table columns), or `store:` (a folder of extracted "
                "features); give exactly one of the four."
            )
        if self.pooling is not None and self.store is None:
            raise ConfigurationError("pooling is for features from a store; give `store:`, or leave it out.")
        if self.value_separator is not None and not self.multi_valued:
            raise ConfigurationError("value_separator is for the columns under `multi_valued:`, and there are none.")

    def to_source(self, name: str) -> ModalitySource:
        """Return the modality as the schema names it."""
        from mmadapters.data.schema import StoredFeatures, TabularColumns, VectorColumn

        if self.store is not None:
            return StoredFeatures(name, self.store, self.column, self.pooling)
        if self.column is not None:
            return VectorColumn(name, self.column)
        if self.columns is not None:
            return VectorColumn(name, tuple(self.columns))
        separator = {} if self.value_separator is None else {"value_separator": self.value_separator}
        return TabularColumns(
            name,
            tuple(self.numeric),
            tuple(self.categorical),
            self.max_categories,
            self.min_frequency,
            tuple(self.multi_valued),
            **separator,
        )


@dataclass(frozen=True)
class ModelConfig:
    """The frozen encoder and the head.

    Attributes:
        backbone: An alias (``minilm``), a local folder or the name of a model on the Hub.
        pooling: How token states become one vector.
        head: The head on top.
        head_dropout: Dropout of the head in training; 0.5 for adapters where absent.
    """

    backbone: str = _field("alias, folder or Hub name", default="minilm")
    pooling: Literal["cls", "mean", "last", "pooler"] = _field("token states to one vector", default="mean")
    head: Literal["linear", "mlp"] = _field("the head", default="linear")
    head_dropout: float | None = _field("dropout of the head in training; 0.5 for adapters", default=None)


@dataclass(frozen=True)
class PrefixCacheConfig:
    """Whether what the layers below the first adapter make of the texts is kept on disk.

    Attributes:
        enabled: Whether it is.
        folder: Of the caches of all runs.
        dtype: Type of the numbers; float16 takes half the space and rounds.
        limit_gb: The most that a run may keep, in GB.
    """

    enabled: bool = _field("whether hidden states are kept", default=False)
    folder: str = _field("of the caches of all runs", default="runs/prefix-cache")
    dtype: Literal["float32", "float16"] = _field("type of the numbers", default="float32")
    limit_gb: float = _field("the most that a run may keep, in GB", default=8.0)

    def __post_init__(self) -> None:
        if not self.limit_gb > 0:
            raise ConfigurationError(f"prefix_cache.limit_gb={self.limit_gb} cannot be used. Give GB above 0.")


@dataclass(frozen=True)
class OptionSpaceConfig:
    """What a search may choose for one option: numbers between two, or one of several values.

    Attributes:
        low: The smallest number.
        high: The largest.
        step: Distance of the numbers that are tried.
        log: Whether small numbers are as likely as large ones.
        choices: The values.
    """

    low: float | None = _field("the smallest number", default=None)
    high: float | None = _field("the largest number", default=None)
    step: float | None = _field("distance of the numbers that are tried", default=None)
    log: bool = _field("whether small numbers are as likely as large ones", default=False)
    choices: list[Any] | None = _field("the values", default=None)

    def __post_init__(self) -> None:
        is_range = self.low is not None and self.high is not None and self.choices is None
        is_choice = self.choices is not None and (self.low, self.high, self.step, self.log) == (None, None, None, False)
        if not (is_range or is_choice):
            raise ConfigurationError(
                "an option is searched between two numbers, {low: 1e-4, high: 1e-2, log: true} or {low: 0, high: 0.5, "
                "step: 0.1}, or among values, {choices: [16, 64]}; give one of the two."
            )


@dataclass(frozen=True)
class SpaceConfig:
    """The options that a search chooses, by the section that they belong to.

    Attributes:
        adapter: Options of the section ``adapter``.
        training: Options of the section ``training``.
        model: Options of the section ``model``, the backbone aside.
    """

    adapter: dict[str, OptionSpaceConfig] = _field("options of the adapters", default_factory=dict)
    training: dict[str, OptionSpaceConfig] = _field("options of the training", default_factory=dict)
    model: dict[str, OptionSpaceConfig] = _field("pooling, head, head_dropout", default_factory=dict)


@dataclass(frozen=True)
class SearchConfig:
    """How ``mmadapters search`` searches.

    Attributes:
        space: What to search.
        default_space: Whether to search the default space, too: its options that have no value in the file.
        trials: How many trials there are to be in the end.
        timeout: Seconds after which no other trial is started.
        study: Name of the study, and of its folder in ``output_dir``.
        storage: The SQLite file; ``study.db`` in the study's folder where absent.
        pruner: Which trials are ended early.
    """

    space: SpaceConfig = _field("what to search", default_factory=SpaceConfig)
    default_space: bool = _field("whether to search the default space, too", default=True)
    trials: int = _field("how many trials there are to be in the end", default=20)
    timeout: float | None = _field("seconds after which no other trial is started", default=None)
    study: str = _field("name of the study", default="search")
    storage: str | None = _field("the SQLite file", default=None)
    pruner: Literal["median", "hyperband", "none"] = _field("which trials are ended early", default="median")


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
        data: Rows and columns.
        modalities: What is read beside the text, by name; the order is kept.
        model: Encoder and head.
        adapter: Options of ``MultimodalAdapterConfig``.
        training: Options of ``MultimodalTrainingArguments``.
        prefix_cache: Where to keep the hidden states below the first adapter.
        search: What ``mmadapters search`` does; a training does not look at it.
        compare: What ``mmadapters compare`` does; a training does not look at it.
        output_dir: Where artefact, metrics and resolved config go.
        seed: Of splits, initialisation and order.
    """

    data: DataSettings = _field("rows and columns")
    modalities: dict[str, ModalitySettings] = _field("what is read beside the text", default_factory=dict)
    model: ModelConfig = _field("encoder and head", default_factory=ModelConfig)
    adapter: dict[str, Any] = _field("options of the adapters", default_factory=dict)
    training: dict[str, Any] = _field("options of the training", default_factory=dict)
    prefix_cache: PrefixCacheConfig = _field("hidden states below the first adapter", default_factory=PrefixCacheConfig)
    search: SearchConfig | None = _field("what mmadapters search does", default=None)
    compare: CompareConfig | None = _field("what mmadapters compare does", default=None)
    output_dir: str = _field("where results go", default="runs/train")
    seed: int = _field("of splits, initialisation and order", default=42)

    def __post_init__(self) -> None:
        if self.data.streaming and self.prefix_cache.enabled:
            raise ConfigurationError(
                "data.streaming and prefix_cache.enabled are both true. The cache keeps hidden states of all training "
                "rows on disk, whose texts it needs at once; set one of them to false."
            )

    def to_schema(self) -> DatasetSchema:
        """Return the data's schema."""
        from mmadapters.data.schema import DatasetSchema

        return DatasetSchema(
            text=_column_or_columns(self.data.text),
            label=_column_or_columns(self.data.label),
            modalities=tuple(modality.to_source(name) for name, modality in self.modalities.items()),
            problem_type=self.data.problem_type,
            label_separator=self.data.label_separator,
            id=self.data.id,
        )


@dataclass(frozen=True)
class DemoConfig:
    """The demonstration on real movies.

    Attributes:
        model: Encoder and head.
        adapter: Options of ``MultimodalAdapterConfig``.
        training: Options of ``MultimodalTrainingArguments``.
        output_dir: Where the results go.
        seed: Of split, initialisation and order.
    """

    model: ModelConfig = _field("encoder and head", default_factory=ModelConfig)
    adapter: dict[str, Any] = _field("options of the adapters", default_factory=dict)
    training: dict[str, Any] = _field("options of the training", default_factory=dict)
    output_dir: str = _field("where results go; the command's option wins", default="runs/demo")
    seed: int = _field("of split, initialisation and order; the command's option wins", default=0)


def _column_or_columns(value: str | list[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)
