"""A folder of mixed files whose content a seed decides, and a change of some of them: for bench/sync.py and tests."""

import csv
import json
import random
from pathlib import Path

WORDS = [
    "ferry", "harbour", "island", "train", "garden", "bread", "flour", "oven", "tax", "letter", "invoice",
    "river", "bank", "money", "forest", "walk", "winter", "apple", "orchard", "bicycle", "repair", "window",
    "roof", "ladder", "kitchen", "recipe", "salt", "sugar", "coffee", "meeting", "notes", "budget", "travel",
    "ticket",
]  # fmt: skip
# Of ten files: the types, in the order of their numbers.
TYPES = ("md", "md", "md", "txt", "txt", "jsonl", "csv", "md", "txt", "md")
FOLDERS = 40
ROWS = 3


def build(folder: Path, files: int, seed: int = 0, words: int = 120) -> list[Path]:
    """Write files of today's types into folders of a folder. words: of a text; a row has half as many."""
    pick = random.Random(seed)  # noqa: S311 - a reproducible choice, not a secret
    made = []
    for number in range(files):
        suffix = TYPES[number % len(TYPES)]
        path = folder / f"part{number % FOLDERS:02}" / f"file{number:06}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content(suffix, pick, words), "utf-8")
        made.append(path)
    return made


def content(suffix: str, pick: random.Random, words: int) -> str:
    """A text, or a table of rows."""
    if suffix == "jsonl":
        rows = ({"id": i, "text": _text(pick, words // 2), "year": pick.randrange(1990, 2030)} for i in range(ROWS))
        return "".join(f"{json.dumps(row)}\n" for row in rows)
    if suffix == "csv":
        return "id,text\n" + "".join(f'{i},"{_text(pick, words // 2)}"\n' for i in range(ROWS))
    head = f"---\ntitle: {_text(pick, 3)}\n---\n\n# {_text(pick, 4)}\n\n" if suffix == "md" else ""
    return f"{head}{_text(pick, words)}\n"


def change(made: list[Path], part: float, seed: int = 1, words: int = 120) -> list[Path]:
    """Write a part of the files again with other texts. Returns them."""
    pick = random.Random(seed)  # noqa: S311
    chosen = pick.sample(made, max(1, round(part * len(made))))
    for path in chosen:
        path.write_text(content(path.suffix[1:], pick, words), "utf-8")
    return chosen


def texts(files: list[Path]) -> list[str]:
    """The texts in files of `build`, as `add` reads them."""
    found = []
    for path in files:
        raw = path.read_text("utf-8")
        if path.suffix == ".jsonl":
            found += [json.loads(line)["text"] for line in raw.splitlines()]
        elif path.suffix == ".csv":
            found += [row["text"] for row in csv.DictReader(raw.splitlines())]
        else:
            found.append(raw.split("---\n", 2)[-1])
    return found


def _text(pick: random.Random, words: int) -> str:
    return " ".join(pick.choices(WORDS, k=words))
