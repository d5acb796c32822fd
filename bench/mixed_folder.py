"""A folder of mixed files whose content a seed decides, and a change of some of them: for bench/sync.py and tests."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import smallfiles
from edge_embed.files.documents import read_documents

WORDS = [
    "ferry", "harbour", "island", "train", "garden", "bread", "flour", "oven", "tax", "letter", "invoice",
    "river", "bank", "money", "forest", "walk", "winter", "apple", "orchard", "bicycle", "repair", "window",
    "roof", "ladder", "kitchen", "recipe", "salt", "sugar", "coffee", "meeting", "notes", "budget", "travel",
    "ticket",
]  # fmt: skip
# Types in the order of their numbers: of forty files, as a person's documents may be.
TYPES = (
    "pdf", "docx", "md", "txt", "eml", "pdf", "html", "xlsx", "csv", "md",
    "pdf", "docx", "txt", "py", "pdf", "pptx", "eml", "md", "json", "pdf",
    "docx", "html", "txt", "xlsx", "pdf", "md", "odt", "eml", "jsonl", "pdf",
    "docx", "txt", "epub", "pdf", "srt", "py", "rst", "odp", "mbox", "ods",
)  # fmt: skip
# Types that need no extra, and no process of their own.
PLAIN_TYPES = ("md", "md", "md", "txt", "txt", "jsonl", "csv", "md", "txt", "md")
FOLDERS = 40
ROWS = 3
LINE = 12


def build(folder: Path, files: int, seed: int = 0, words: int = 120, types: Sequence[str] = TYPES) -> list[Path]:
    """Write files into folders of a folder. words: of a text; a row has half as many."""
    pick = random.Random(seed)  # noqa: S311 - a reproducible choice, not a secret
    made = []
    for number in range(files):
        suffix = types[number % len(types)]
        path = folder / f"part{number % FOLDERS:02}" / f"file{number:06}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(suffix, pick, words))
        made.append(path)
    return made


def change(made: list[Path], part: float, seed: int = 1, words: int = 120) -> list[Path]:
    """Write a part of the files again with other texts. Returns them."""
    pick = random.Random(seed)  # noqa: S311
    chosen = pick.sample(made, max(1, round(part * len(made))))
    for path in chosen:
        path.write_bytes(content(path.suffix[1:], pick, words))
    return chosen


def texts(files: list[Path]) -> list[str]:
    """The texts in files, as `add` reads them."""
    return [document.text for path in files for document in read_documents(path)]


def content(suffix: str, pick: random.Random, words: int) -> bytes:
    """A file with a text of so many words, or with rows."""
    text = [" ".join(pick.choices(WORDS, k=min(LINE, words - at))) for at in range(0, words, LINE)]
    title = " ".join(pick.choices(WORDS, k=3))
    rows = [" ".join(pick.choices(WORDS, k=max(1, words // 2))) for _ in range(ROWS)]
    made = MAKERS[suffix](title, text, rows)
    return made.encode() if isinstance(made, str) else made


def _markdown(title: str, text: list[str], _: list[str]) -> str:
    return f"---\ntitle: {title}\n---\n\n# {title}\n\n{' '.join(text)}\n"


def _html(title: str, text: list[str], _: list[str]) -> str:
    head = f"<!doctype html><html><head><title>{title}</title></head><body><nav><a href='/'>home</a></nav>"
    return f"{head}<h1>{title}</h1><p>{'<br>'.join(text)}</p></body></html>"


def _docx(title: str, text: list[str], _: list[str]) -> bytes:
    heading = f'<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>{title}</w:t></w:r></w:p>'
    return smallfiles.docx(heading + "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in text))


def _odt(title: str, text: list[str], _: list[str]) -> bytes:
    heading = f'<text:h text:outline-level="1">{title}</text:h>'
    return smallfiles.odt(heading + "".join(f"<text:p>{line}</text:p>" for line in text))


def _mail(title: str, text: list[str], _: list[str]) -> str:
    head = f"From: a@example.org\nTo: b@example.org\nSubject: {title}\nDate: Mon, 30 Nov 2026 12:00:00 +0100\n\n"
    return head + "\n".join(text) + "\n"


def _mailbox(title: str, _: list[str], rows: list[str]) -> str:
    return "".join(f"From a@example.org Mon Nov 30 12:00:00 2026\n{_mail(title, [row], [])}\n" for row in rows)


def _subtitles(_: str, text: list[str], __: list[str]) -> str:
    return "".join(f"{i}\n00:00:{i:02},000 --> 00:00:{i:02},900\n{line}\n\n" for i, line in enumerate(text))


def _python(title: str, text: list[str], _: list[str]) -> str:
    lines = "".join(f"    # {line}\n" for line in text)
    return f"def {'_'.join(title.split())}():\n{lines}    return 1\n"


def _xlsx(_: str, text: list[str], __: list[str]) -> bytes:
    table: list[list[str | float]] = [["number", "line"]]
    return smallfiles.xlsx(Words=table + [[i, line] for i, line in enumerate(text)])


def _half(text: list[str]) -> tuple[str, str]:
    middle = max(1, len(text) // 2)
    return " ".join(text[:middle]), " ".join(text[middle:])


# How a file of a type is made of a title, lines of text, and rows.
MAKERS: dict[str, Callable[[str, list[str], list[str]], str | bytes]] = {
    "md": _markdown,
    "txt": lambda _, text, __: " ".join(text) + "\n",
    "rst": lambda title, text, _: f"{title}\n{'=' * len(title)}\n\n{' '.join(text)}\n",
    "py": _python,
    "json": lambda title, text, _: json.dumps({"title": title, "lines": text}, indent=1),
    "srt": _subtitles,
    "jsonl": lambda _, __, rows: "".join(
        f"{json.dumps({'id': i, 'text': row, 'year': 1990 + i})}\n" for i, row in enumerate(rows)
    ),
    "csv": lambda _, __, rows: "id,text\n" + "".join(f'{i},"{row}"\n' for i, row in enumerate(rows)),
    "pdf": lambda _, text, __: smallfiles.pdf(*("\n".join(text[at : at + 8]) for at in range(0, len(text), 8))),
    "html": _html,
    "docx": _docx,
    "odt": _odt,
    "pptx": lambda title, text, _: smallfiles.pptx([{"title": title, "body": half} for half in _half(text)]),
    "odp": lambda _, text, __: smallfiles.odp(*_half(text)),
    "epub": lambda title, text, _: smallfiles.epub(
        {name: f"<h1>{title}</h1><p>{half}</p>" for name, half in zip(("one", "two"), _half(text), strict=True)}
    ),
    "eml": _mail,
    "mbox": _mailbox,
    "xlsx": _xlsx,
    "ods": lambda _, text, __: smallfiles.ods("Words", [[line] for line in text]),
}
