"""The page itself, of Gradio's parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from mmadapters.webpage.examples import Example
from mmadapters.webpage.fields import (
    AUDIO_FIELD,
    CATEGORIES_FIELD,
    CATEGORY_FIELD,
    IMAGE_FIELD,
    NUMBER_FIELD,
    TEXT_FIELD,
    VECTOR_FIELD,
    VIDEO_FIELD,
    Field,
    Group,
)
from mmadapters.webpage.html import field_error, nothing_yet, page_head, results
from mmadapters.webpage.model import PageModel

UPLOAD_SECONDS = 3600
"""After which an uploaded file is deleted; the end of the server deletes all."""
MOST_FIELDS_OPEN = 8
"""A table with more is folded."""
MEDIA_HEIGHT = 220

SHOW_RESULTS = """() => {
  const results = document.getElementById('results');
  if (results.getBoundingClientRect().top > innerHeight * 0.6) results.scrollIntoView({block: 'start'});
}"""
"""On a telephone they stand below the fields."""


class Page:
    """Builds the page, and answers what happens on it.

    Args:
        model: The model.
        examples: Rows that fill in the page.
    """

    def __init__(self, model: PageModel, examples: Sequence[Example] = ()) -> None:
        self.model = model
        self.examples = list(examples)
        self._inputs: list[Any] = []
        self._errors: list[Any] = []
        self._switches: list[Any] = []

    @property
    def ids(self) -> dict[str, str]:
        """By field the id of its element."""
        return {field.name: _id("field", field.name) for field in self.model.fields}

    def build(self) -> gr.Blocks:
        """Return the page."""
        with gr.Blocks(
            title=f"{self.model.name} · mmadapters",
            analytics_enabled=False,
            delete_cache=(UPLOAD_SECONDS, UPLOAD_SECONDS),
        ) as blocks:
            gr.HTML(page_head(self.model), padding=False)
            with gr.Row():
                with gr.Column(min_width=300):
                    chosen = self._example_list()
                    for group in self.model.groups:
                        self._group(group)
                    with gr.Row():
                        clear = gr.Button("Clear all", min_width=80)
                        predict = gr.Button("Predict", variant="primary", min_width=120)
                with gr.Column(min_width=300):
                    shown = gr.HTML(nothing_yet(), padding=False, elem_id="results")
            # Whether there are results, which then follow the switches.
            asked = gr.State(False)
            given = [*self._inputs, *self._switches]
            told = [shown, asked, *self._errors]
            hidden: dict[str, Any] = {"api_visibility": "private"}
            predict.click(self._predict, given, told, **hidden).then(None, js=SHOW_RESULTS, **hidden)
            for switch in self._switches:
                switch.input(self._switched, [asked, *given], told, show_progress="hidden", **hidden)
            clear.click(self._clear, None, [*self._inputs, *self._switches, *told], **hidden)
            if chosen is not None:
                chosen.input(self._fill, chosen, [*self._inputs, *told], **hidden)
        blocks.queue(default_concurrency_limit=1, max_size=32)
        return blocks

    def _example_list(self) -> Any:
        if not self.examples:
            return None
        titles = [(example.title, place) for place, example in enumerate(self.examples)]
        return gr.Dropdown(titles, value=None, label="Fill in an example", elem_id="examples", filterable=False)

    def _group(self, group: Group) -> None:
        with gr.Group():
            for name in group.modalities:
                self._switches.append(
                    gr.Checkbox(True, label=f"Use {name}", elem_id=_id("use", name), container=True, min_width=100)
                )
            if len(group.fields) > MOST_FIELDS_OPEN:
                with gr.Accordion(f"{len(group.fields)} fields of {group.modalities[0]}", open=False):
                    self._fields(group.fields)
            else:
                self._fields(group.fields)

    def _fields(self, fields: Sequence[Field]) -> None:
        for together in _lines(fields):
            with gr.Row():
                for field in together:
                    with gr.Column(min_width=130):
                        self._inputs.append(_component(field))
                        self._errors.append(gr.HTML("", elem_classes=["mm-note"], elem_id=_id("error", field.name)))

    def _predict(self, *given: Any) -> list[Any]:
        fields = self.model.fields
        values = {field.name: value for field, value in zip(fields, given[: len(fields)], strict=True)}
        switches = dict(zip(self.model.modalities, given[len(fields) :], strict=True))
        reply = self.model.reply(values, [name for name, on in switches.items() if on])
        off = [name for name, on in switches.items() if not on]
        return [results(reply, off), True, *(field_error(reply.problems.get(field.name)) for field in fields)]

    def _switched(self, asked: bool, *given: Any) -> list[Any]:
        if not asked:
            return [gr.skip()] * (2 + len(self.model.fields))
        return self._predict(*given)

    def _clear(self) -> list[Any]:
        fields = self.model.fields
        return [*(_empty(f) for f in fields), *(True for _ in self.model.modalities), *self._nothing()]

    def _fill(self, place: int) -> list[Any]:
        example = self.examples[place]
        fields = self.model.fields
        values = [example.values.get(field.name) for field in fields]
        values = [_empty(field) if value is None else value for field, value in zip(fields, values, strict=True)]
        told = [nothing_yet(), False, *(field_error(example.gone.get(field.name)) for field in fields)]
        return [*values, *told]

    def _nothing(self) -> list[Any]:
        return [nothing_yet(), False, *("" for _ in self.model.fields)]


def _lines(fields: Sequence[Field]) -> list[list[Field]]:
    """Return fields in lines: two numbers, or two categories, stand side by side."""
    lines: list[list[Field]] = []
    for field in fields:
        small = field.kind in (NUMBER_FIELD, CATEGORY_FIELD)
        if small and lines and len(lines[-1]) == 1 and lines[-1][0].kind == field.kind:
            lines[-1].append(field)
        else:
            lines.append([field])
    return lines


def _component(field: Field) -> Any:
    named: dict[str, Any] = {"label": field.name, "elem_id": _id("field", field.name)}
    label = f"{field.name} ({field.hint})" if field.hint else field.name
    if field.kind == TEXT_FIELD:
        return gr.Textbox(lines=4, max_lines=12, **named)
    if field.kind == NUMBER_FIELD:
        # Gradio's Number shows 0 where nothing was given, and that is a number.
        return gr.Textbox(lines=1, max_lines=1, placeholder=field.hint, elem_classes=["mm-decimal"], **named)
    if field.kind in (CATEGORY_FIELD, CATEGORIES_FIELD):
        several = field.kind == CATEGORIES_FIELD
        return gr.Dropdown(
            list(field.choices), value=_empty(field), multiselect=several, allow_custom_value=True, **named
        )
    named["label"] = label
    if field.kind == VECTOR_FIELD:
        return _left_alone(gr.File(file_types=[".npy"], height=120, **named))
    makers: dict[str, Callable[..., Any]] = {IMAGE_FIELD: gr.Image, VIDEO_FIELD: gr.Video, AUDIO_FIELD: gr.Audio}
    options: dict[str, Any] = {"sources": ["upload"], "buttons": []}
    if field.kind != AUDIO_FIELD:
        options["height"] = MEDIA_HEIGHT
    return _left_alone(makers[field.kind](**options, **named))


def _left_alone(component: Any) -> Any:
    """Return a component that passes files on as they are.

    Gradio's own would open, and often convert, what was uploaded in this process; here files are opened by guarded
    workers alone. A subclass would do it too, but Gradio writes a stub beside the source of each.
    """
    form = component.data_model

    def path_of(payload: Any) -> str | None:
        if payload is None:
            return None
        one = payload.root[0] if isinstance(getattr(payload, "root", None), list) else payload
        return str(one.path)

    def shown(path: str | None) -> Any:
        if path is None:
            return None
        file = gr.FileData(path=path, orig_name=Path(path).name)
        return file if component.get_block_name() != "image" else form(**file.model_dump(exclude={"is_stream", "meta"}))

    component.preprocess = path_of
    component.postprocess = shown
    return component


def _empty(field: Field) -> Any:
    return [] if field.kind == CATEGORIES_FIELD else "" if field.kind in (TEXT_FIELD, NUMBER_FIELD) else None


def _id(kind: str, name: str) -> str:
    """Return an element's id; a name may hold whatever a column is called."""
    return f"{kind}-{''.join(letter if letter.isalnum() else '-' for letter in name)}"
