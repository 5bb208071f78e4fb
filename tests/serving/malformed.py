"""Requests that are wrong in every way that a list can hold, and mutations of a right one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from served_models import feature_row, movie_rows

JSON = {"content-type": "application/json"}
PATH = "/predict/features"
RIGHT = {"model": "genres", "rows": [feature_row(next(movie_rows(4, seed=5).itertuples()), "genres")]}
ROW = RIGHT["rows"][0]

Call = tuple[str, dict[str, Any]]
"""Path, and arguments of ``httpx``."""


def malformed_requests(mutations: int) -> Iterator[Call]:
    yield from bodies()
    yield from wrong_rows()
    for path in ("/predict", "/explain"):
        yield from forms(path)
    yield from mutated(mutations)


def with_json(**changes: Any) -> Call:
    return PATH, {"content": json.dumps({**RIGHT, **changes}), "headers": JSON}


def bodies() -> Iterator[Call]:
    for content in (b"", b"{", b"null", b"[]", b"7", b'"rows"', b"\xff\xfe\x00", b"[" * 5000, b'{"a":' * 5000):
        yield PATH, {"content": content, "headers": JSON}
    yield PATH, {"content": json.dumps(RIGHT), "headers": {"content-type": "text/plain"}}
    for content in (
        b'{"rows": [{"text": "x", "features": {"viewers": [1e999, 1, 1, 1]}}]}',
        b'{"rows": [{"features": {"viewers": [NaN, 1, 1, 1]}}]}',
        b'{"rows": [{"table": {"budget": ' + b"9" * 5000 + b"}}]}",
    ):
        yield PATH, {"content": content, "headers": JSON}
    for rows in (None, [], {}, "x", [None], ["x"], [[]], [{}], [{"text": ""}], [ROW] * 65):
        yield with_json(rows=rows)
    for model in (7, "", "no such model", ["genres"], "x" * 1000, "../genres", "genres\x00"):
        yield with_json(model=model)
    yield with_json(unknown=1)


def wrong_rows() -> Iterator[Call]:
    texts = [7, ["a"], {"a": 1}, True, "x" * 100_001]
    vectors = ["/etc/passwd", "poster.npy", 7, [], [[]], [1, 2], [1, 2, 3, 4, 5], [[1, 2, 3, 4], [1, 2]]]
    vectors += [[1, "a", 3, 4], [[[1, 2, 3, 4]]], {"a": 1}, [None] * 4, [1e39, 1, 1, 1], [[1, 2, 3, 4]] * 4097]
    features = [{"table": [1.0] * 12}, {"viewer": [1, 2, 3, 4]}, {"": [1]}, [1], "x", 7]
    tables = [{"budget": "much"}, {"budget": [1]}, {"budget": {}}, {"country": ["fr"]}, {"nothing": 1}, [], "x", 7]
    tables += [{"actors": [["Ann"]]}, {"actors": [{}]}, {"actors": ["x"] * 1001}, {f"c{i}": 1 for i in range(1001)}]
    changes: list[dict[str, Any]] = [{"text": text} for text in texts]
    changes += [{"text_pair": "a second text"}]
    changes += [{"features": {"viewers": vector}} for vector in vectors]
    changes += [{"features": given} for given in features]
    changes += [{"table": table} for table in tables]
    for change in changes:
        yield with_json(rows=[{**ROW, **change}])


def forms(path: str) -> Iterator[Call]:
    yield path, {}
    yield path, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}
    yield path, {"content": b"--a\r\nrubbish", "headers": {"content-type": "multipart/form-data; boundary=a"}}
    yield path, {"data": {"text": "x"}}
    yield path, {"json": {"text": "x"}}
    for fields in (
        {"text": ""},
        {"txt": "x"},
        {"text": "x", "table": "{"},
        {"text": "x", "table": "[1]"},
        {"text": "x", "table": '{"budget": "much"}'},
        {"text": "x", "table": '{"budget": {}}'},
        {"text": "x", "features": '{"viewers": "/etc/passwd"}'},
        {"text": "x", "features": '{"viewers": [1]}'},
        {"text": "x", "features": "nonsense"},
        {"text": "x", "model": "none"},
        {"text": "x" * 100_001},
        {"text": "x", "text_pair": "y"},
    ):
        yield path, {"files": {name: (None, value) for name, value in fields.items()}}
    yield path, {"files": [("text", (None, "a")), ("text", (None, "b"))]}
    yield path, {"files": {"viewers": ("v.npy", b"\x93NUMPY")}}
    yield path, {"files": {"text": ("a.txt", b"x")}}
    yield path, {"files": {"../../etc/passwd": ("../../x", b"x")}}
    yield path, {"files": [(f"f{i}", ("a", b"x")) for i in range(17)]}
    yield path, {"files": [(f"f{i}", (None, "x")) for i in range(40)]}


def mutated(count: int) -> Iterator[Call]:
    """JSON of which some characters are lost or replaced, so that it is none any more."""
    draw = random.Random(0)
    text = json.dumps(RIGHT)
    made = 0
    while made < count:
        start = draw.randrange(len(text))
        rest = text[start + draw.randrange(1, 9) :]
        changed = text[:start] + draw.choice(["", "{", "]", "null", '"', "\x00", ",", "\\"]) + rest
        try:
            json.loads(changed)
        except ValueError:
            made += 1
            yield PATH, {"content": changed, "headers": JSON}
