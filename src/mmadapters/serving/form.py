"""The form of ``/predict`` and ``/explain``: one row as text, JSON and files."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from mmadapters.errors import did_you_mean, listed
from mmadapters.features.outcome import Status
from mmadapters.serving.config import RequestLimits
from mmadapters.serving.media import MediaDecoder, TemporaryFiles
from mmadapters.serving.models import ModelGroup, ModelRegistry, ServedModel
from mmadapters.serving.problems import RequestProblem, unprocessable
from mmadapters.serving.rows import Row
from mmadapters.serving.schemas import FeatureRow

FORM = "multipart/form-data"
FIELDS = ("model", "text", "text_pair", "table", "features")
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class FormReader:
    """Makes rows of forms.

    Args:
        registry: The models.
        limits: What a form may be at most.
        decoder: Reads files; None where no model takes any.
        files: Where they are kept meanwhile.
    """

    def __init__(
        self, registry: ModelRegistry, limits: RequestLimits, decoder: MediaDecoder | None, files: TemporaryFiles
    ) -> None:
        self._registry = registry
        self._limits = limits
        self._decoder = decoder
        self._files = files

    async def read(self, request: Request) -> tuple[ModelGroup, ServedModel, Row]:
        """Return the model and the row of a form.

        Args:
            request: Its body is the form.

        Raises:
            RequestProblem: If it cannot be used.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != FORM:
            raise RequestProblem(415, f"The body is of type '{kind[:100] or 'none'}'. Send a form as {FORM}.")
        form = await request.form(
            max_files=self._limits.max_files,
            max_fields=len(FIELDS) + self._limits.max_files,
            max_part_size=self._limits.max_field_bytes,
        )
        try:
            return await self._row(form)
        finally:
            await form.close()

    async def _row(self, form: FormData) -> tuple[ModelGroup, ServedModel, Row]:
        fields, files = _sorted_fields(form)
        group, model = self._registry.group(fields.get("model"))
        given = _checked(fields)
        row = model.reader.read(given.text, given.text_pair, given.features, given.table)
        wanted = {name: self._modalities_of(name, model) for name in files}
        for name, modalities in wanted.items():
            twice = [modality for modality in modalities if modality in row.features]
            if twice:
                raise unprocessable(f"'{twice[0]}' is given as features and as the file '{name}'. Leave one out.")
        named = [modality for modalities in wanted.values() for modality in modalities]
        if len(set(named)) < len(named):
            raise unprocessable(f"Two files are given for one modality: {listed(files)}. Leave one out.")
        if wanted:
            await self._decode(row, model, {name: (files[name], wanted[name]) for name in wanted})
        model.reader.require_content(row)
        return group, model, row

    def _modalities_of(self, name: str, model: ServedModel) -> list[str]:
        """Return the modalities that a file is for: those of the column of its name, or the one that is called so."""
        of_column = [modality for modality, recipe in model.recipes.items() if recipe.column == name]
        if of_column:
            return of_column
        if name in model.extractors:
            return [name]
        accepted = file_fields(model)
        if name in model.reader.modalities:
            raise unprocessable(
                f"The model '{model.name}' knows no way from a file to the modality '{name}': it was trained on "
                "features that were made elsewhere. Give them in 'features', or call /predict/features."
            )
        raise unprocessable(
            f"There is no field '{name[:100]}'. The model '{model.name}' takes {listed(FIELDS)} and the files "
            f"{listed(accepted)}.{did_you_mean(name, [*FIELDS, *accepted])}"
        )

    async def _decode(self, row: Row, model: ServedModel, files: Mapping[str, tuple[UploadFile, list[str]]]) -> None:
        assert self._decoder is not None
        async with self._folder() as folder:
            jobs = []
            for number, (upload, modalities) in enumerate(files.values()):
                path = folder / str(number)
                await asyncio.to_thread(_write, upload, path)
                if path.stat().st_size == 0:
                    raise unprocessable(f"The file of '{modalities[0]}' is empty.")
                jobs += [(modality, path) for modality in modalities]
            decoded = await asyncio.gather(
                *(self._decoder.decode(path, model.recipes[m], model.extractors[m]) for m, path in jobs)
            )
        for (modality, _), found in zip(jobs, decoded, strict=True):
            if found.values is None:
                row.notes.append(f"{modality}: there is none in the file")
                continue
            row.decoded[modality] = found
            if found.status is Status.DEGRADED:
                row.notes.append(f"{modality}: {found.error or 'a part of the file is damaged'}")

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        folder = self._files.new_folder()
        try:
            yield folder
        finally:
            self._files.remove(folder)


def file_fields(model: ServedModel) -> dict[str, str]:
    """Return what file fields a model takes, each with what it is for: columns of the training rows, and modalities.

    Args:
        model: The model.
    """
    fields: dict[str, str] = {}
    for modality, recipe in model.recipes.items():
        kind = "an image" if recipe.spec.kind == "image" else recipe.spec.kind
        fields.setdefault(recipe.column, f"A file, as the column '{recipe.column}' of the training rows named.")
        fields.setdefault(modality, f"A file with {kind} for the modality '{modality}' alone.")
    return fields


def _sorted_fields(form: FormData) -> tuple[dict[str, str], dict[str, UploadFile]]:
    fields: dict[str, str] = {}
    files: dict[str, UploadFile] = {}
    for name, value in form.multi_items():
        if name in fields or name in files:
            raise unprocessable(f"The field '{name[:100]}' is given twice. Give it once.")
        if isinstance(value, UploadFile):
            if name in FIELDS:
                raise unprocessable(f"The field '{name}' is given as a file. Give it as text.")
            files[name] = value
        elif name in FIELDS:
            fields[name] = value
        else:
            raise unprocessable(
                f"The field '{name[:100]}' is given as text. As text are accepted {listed(FIELDS)}; files need a file "
                f"name.{did_you_mean(name, FIELDS)}"
            )
    return fields, files


def _checked(fields: Mapping[str, str]) -> FeatureRow:
    """Return texts and JSON of a form, checked as a row of ``/predict/features`` is."""
    row: dict[str, Any] = {name: fields[name] for name in ("text", "text_pair") if name in fields}
    for name in ("table", "features"):
        if fields.get(name, "").strip():
            try:
                row[name] = _OBJECT.validate_json(fields[name])
            except ValidationError:
                raise unprocessable(f"The field '{name}' is no JSON object. Write it as {{\"name\": value}}.") from None
    try:
        return FeatureRow.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise unprocessable(f"'{where[:200]}' cannot be used: {first['msg']}.") from None


def _write(upload: UploadFile, path: Path) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(upload.file, file, 1 << 20)
