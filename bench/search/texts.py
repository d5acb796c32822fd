"""Real texts: some are stored, others are the queries."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_embed.measuring.judged import read_judged_set
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.system.files import read_lines

SEED = 0


@dataclass(frozen=True)
class Texts:
    """No text twice, whatever its case and spaces; no query stored; both in a fixed mixed order."""

    stored: list[str]
    queries: list[str]


def read_texts(folders: Sequence[str | Path], most_queries: int) -> Texts:
    """Texts of folders in BEIR's or in Banking77's layout, or without folders the few that come with the package.

    Queries are taken from the folders in turn. Raises SourceError for a folder that is neither.
    """
    sets = [_read(Path(folder)) for folder in folders] if folders else [_own_texts()]
    stored = _distinct([text for documents, _ in sets for text in documents], set())
    queries = _in_turn([_distinct(texts, set(map(_plain, stored))) for _, texts in sets])
    if not queries:
        raise SourceError("there is no query that is not among the stored texts")
    return Texts(stored, _distinct(queries, set(), mix=False)[:most_queries])


def _distinct(texts: Sequence[str], without: set[str], *, mix: bool = True) -> list[str]:
    """Texts that are not empty, each once, in a mixed order unless `mix` is off."""
    found = {plain: text for text in texts if (plain := _plain(text)) and plain not in without}
    kept = list(found.values())
    if mix:
        random.Random(SEED).shuffle(kept)  # noqa: S311 - an order, no secret
    return kept


def _plain(text: str) -> str:
    """ "Is it   you?" -> "is it you?": what models that know no case see."""
    return " ".join(text.casefold().split())


def _in_turn(lists: Sequence[list[str]]) -> list[str]:
    """[["a", "b", "c"], ["d"]] -> ["a", "d", "b", "c"]."""
    longest = max(map(len, lists))
    return [texts[i] for i in range(longest) for texts in lists if i < len(texts)]


def _read(folder: Path) -> tuple[list[str], list[str]]:
    """Documents and queries of one folder."""
    if (folder / "train.tsv").is_file():
        return _labelled(folder / "train.tsv"), _labelled(folder / "test.tsv")
    judged = read_judged_set(folder)
    return list(judged.documents.values()), list(judged.queries.values())


def _labelled(path: Path) -> list[str]:
    """Banking77: a label, a tab and a text on each line."""
    rows = [line.split("\t") for line in read_lines(path) if line]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise SourceError(f"{path}, line {number}: expected a label, a tab and a text", path=path, line=number)
    return [text for _, text in rows]


def _own_texts() -> tuple[list[str], list[str]]:
    """The corpus of `edge-embed demo`, and the judged set that bundles are measured on at export."""
    from edge_embed.corpus import demo_documents
    from edge_embed_export.calibration.texts import records

    rows = records("judged")
    paragraphs = [row["text"] for row in rows if "relevant" not in row]
    questions = [row["text"] for row in rows if "relevant" in row]
    return [document.text for document in demo_documents()] + paragraphs, questions
