"""The published sets whose rows are in jsonl files, with few rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = ["war", "love", "robot", "dance", "ghost", "king"]
ROWS = {"train": 12, "dev": 6, "test": 6}
FILES = {name: f"{name}.jsonl" for name in ROWS}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def picture(path: Path, shade: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 10), (shade % 256, 3 * shade % 256, 0)).save(path)


def text(number: int) -> str:
    return f"the {WORDS[number % 6]} and the {WORDS[number // 2 % 6]}"


def write_set(folder: Path, row: Callable[[str, int], dict[str, Any]], files: dict[str, str] | None = None) -> Path:
    """Write rows and their pictures; rows are numbered through all splits."""
    number = 0
    for split, file in (files or FILES).items():
        rows = []
        for _ in range(ROWS[split]):
            rows.append(row(split, number))
            if "img" in rows[-1]:
                picture(folder / rows[-1]["img"], number)
            number += 1
        write_lines(folder / file, rows)
    return folder


def food101_row(split: str, number: int) -> dict[str, Any]:
    dish = ["apple_pie", "ramen", "sushi"][number % 3]
    path = f"images/{'test' if split == 'test' else 'train'}/{dish}/{dish}_{number}.jpg"
    return {"id": f"{dish}_{dish}_{number}.jpg", "label": dish, "text": text(number), "img": path}


def vsnli_row(split: str, number: int) -> dict[str, Any]:
    """Two pairs share a picture."""
    label = ["entailment", "neutral", "contradiction"][number % 3]
    return {
        "sentence1": text(number // 2),
        "sentence2": text(number),
        "label": label,
        "img": f"flickr30k/{number // 2}.jpg",
    }


def memes_row(split: str, number: int) -> dict[str, Any]:
    return {"id": 10_000 + number, "img": f"img/{10_000 + number}.png", "label": number % 2, "text": text(number)}


def mpaa_row(split: str, number: int) -> dict[str, Any]:
    rating = ["G", "PG", "PG-13", "R"][number % 4]
    return {"script": text(number), "genre": ["War", "Drama"][: 1 + number % 2], "label": rating}
