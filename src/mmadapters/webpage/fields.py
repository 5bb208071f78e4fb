"""What a page has to ask for, so that a model can answer: one field for each column that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmadapters.artefact import Artefact
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import StoredFeatures, TabularColumns, VectorColumn
from mmadapters.predictor.media_features import MediaRecipe

TEXT_FIELD = "text"
NUMBER_FIELD = "number"
CATEGORY_FIELD = "category"
CATEGORIES_FIELD = "categories"
VECTOR_FIELD = "vector"
IMAGE_FIELD = "image"
VIDEO_FIELD = "video"
AUDIO_FIELD = "audio"

MEDIA_FIELDS = (IMAGE_FIELD, VIDEO_FIELD, AUDIO_FIELD)
FILE_FIELDS = (*MEDIA_FIELDS, VECTOR_FIELD)


@dataclass(frozen=True)
class Field:
    """What a page asks for.

    Attributes:
        name: What it is called on the page: its column, or the modality of a vector that is made of several.
        kind: ``text``, ``number``, ``category``, ``categories`` (any number of them), ``image``, ``video``, ``audio``
            or ``vector`` (a ``.npy`` file).
        columns: The columns of a row that it fills: one, or those whose numbers make a vector.
        hint: What else a person should know, in a few words.
        choices: The categories that the training rows had.
        width: Numbers of a vector.
        separator: Text between the categories of a cell.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    hint: str = ""
    choices: tuple[str, ...] = ()
    width: int = 0
    separator: str = "|"

    @property
    def is_file(self) -> bool:
        """Whether a file is asked for."""
        return self.kind in FILE_FIELDS


@dataclass(frozen=True)
class Group:
    """Fields that stand together, and the modalities that are made of them.

    Attributes:
        modalities: Their names; none for the text, which a model always reads.
        fields: The fields.
    """

    modalities: tuple[str, ...]
    fields: tuple[Field, ...]


def page_groups(artefact: Artefact, recipes: Sequence[MediaRecipe]) -> list[Group]:
    """Return what a page asks for, the text first and then the modalities in their order.

    Args:
        artefact: The model, whose schema reads no modality from a store but those of ``recipes``.
        recipes: How raw media become features, of the modalities that are made of them.
    """
    preprocessor = artefact.preprocessor
    texts = tuple(Field(column, TEXT_FIELD, (column,)) for column in preprocessor.schema.text_columns)
    groups = [Group((), texts)]
    by_name = {recipe.modality: recipe for recipe in recipes}
    by_column: dict[str, list[MediaRecipe]] = {}
    for recipe in recipes:
        by_column.setdefault(recipe.column, []).append(recipe)
    widths = {modality.name: modality.feature_dim for modality in preprocessor.modalities}
    for source in preprocessor.schema.modalities:
        if source.name in by_name:
            column = by_name[source.name].column
            own = by_column.pop(column, [])
            if own:
                groups.append(Group(tuple(recipe.modality for recipe in own), (_media_field(column, own),)))
        elif isinstance(source, TabularColumns):
            groups.append(Group((source.name,), tuple(_table_fields(preprocessor, source))))
        elif isinstance(source, VectorColumn):
            groups.append(Group((source.name,), (_vector_field(source, widths[source.name]),)))
    return groups


def without_stores(preprocessor: Preprocessor, recipes: Sequence[MediaRecipe]) -> Preprocessor:
    """Return a preprocessor that reads what a store would have as a vector, in a column of the modality's name.

    Args:
        preprocessor: Of a saved model.
        recipes: How raw media become features; their modalities stay as they are.
    """
    extracted = {recipe.modality for recipe in recipes}
    stored = [
        source.name
        for source in preprocessor.schema.modalities
        if isinstance(source, StoredFeatures) and source.name not in extracted
    ]
    return preprocessor.with_vectors(stored)


def _media_field(column: str, recipes: Sequence[MediaRecipe]) -> Field:
    kinds = {recipe.spec.kind for recipe in recipes}
    kind = VIDEO_FIELD if VIDEO_FIELD in kinds else AUDIO_FIELD if AUDIO_FIELD in kinds else IMAGE_FIELD
    return Field(column, kind, (column,), "pictures and sound" if kinds == {VIDEO_FIELD, AUDIO_FIELD} else "")


def _table_fields(preprocessor: Preprocessor, source: TabularColumns) -> list[Field]:
    learned: dict[str, Any] = preprocessor.tabular[source.name].to_dict()
    means = {entry["column"]: entry["mean"] for entry in learned["numeric"]}
    known = {entry["column"]: entry["categories"] for entry in (*learned["categorical"], *learned["multi_valued"])}
    fields = [Field(column, NUMBER_FIELD, (column,), f"mean {means[column]:.4g}") for column in source.numeric]
    fields += [Field(column, CATEGORY_FIELD, (column,), "", tuple(known[column])) for column in source.categorical]
    fields += [
        Field(column, CATEGORIES_FIELD, (column,), "", tuple(known[column]), separator=source.value_separator)
        for column in source.multi_valued
    ]
    return fields


def _vector_field(source: VectorColumn, width: int) -> Field:
    return Field(source.name, VECTOR_FIELD, source.columns, f".npy file, {width:,} numbers", width=width)
