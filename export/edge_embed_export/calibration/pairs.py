"""Pairs of texts for cross-encoders, made of the texts that ship with the exporter: a question, and a paragraph that
answers it or that shares words with it."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed_export.calibration.texts import calibration_texts, records
from edge_embed_export.transformer.spec import Array
from edge_embed_runtime.errors import BundleFormatError, ExportError
from edge_embed_runtime.inputs.pairs import PairTokenizer
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer

# Questions that a model is calibrated on, and that its receipt is measured on, with so many paragraphs each.
QUESTIONS, CALIBRATED_PARAGRAPHS, PARAGRAPHS = 30, 2, 8
# Of the calibration texts, every so many is cut in two.
CUT_TEXTS = 2


@dataclass(frozen=True)
class Question:
    """A question, and paragraphs of which the one that answers it stands at `answer`."""

    name: str
    text: str
    paragraphs: list[str]
    answer: int

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(self.text, paragraph) for paragraph in self.paragraphs]


def pair_rows(tokenizer: Tokenizer) -> list[TokenIds]:
    """What a cross-encoder is calibrated on, [tokens, 2] each."""
    pairs = PairTokenizer(tokenizer)
    return [pairs.row(first, second) for first, second in calibration_pairs()]


def check_pairs(tokenizer: Tokenizer, types: Array | None, source: Path) -> None:
    """Raise ExportError for a tokenizer without a template for pairs, or with other types than the model has.

    types: what the model adds to tokens of each type, where it reads them
    """
    try:
        row = PairTokenizer(tokenizer).row("a", "a")
    except BundleFormatError as error:
        raise ExportError(f"{source}: {error}") from error
    if types is not None and row[:, 1].max() >= len(types):
        raise ExportError(
            f"{source}: the tokenizer gives a token of a pair the type {row[:, 1].max()}, the model has {len(types)}"
        )


def calibration_pairs() -> list[tuple[str, str]]:
    """Questions with paragraphs, and of each calibration text its beginning with the rest; of many languages."""
    halves = [_halves(text) for text in calibration_texts("calibration")[::CUT_TEXTS]]
    return [pair for question in questions("calibration") for pair in question.pairs] + halves


def _halves(text: str) -> tuple[str, str]:
    """A text's first sentence, or what is about a quarter of it, and the rest."""
    border = re.search(r"[.?!。？！।؟]\s*", text[: len(text) // 2])
    cut = border.end() if border else len(text) // 4
    return text[:cut].strip(), text[cut:].strip()


def questions(part: str) -> list[Question]:
    """QUESTIONS questions of the judged set, for "calibration" or "receipt": no paragraph is in both."""
    rows = records("judged")
    paragraphs = {row["id"]: row["text"] for row in rows if "relevant" not in row}
    names = list(paragraphs)
    half = len(names) // 2
    own = set(names[:half] if part == "calibration" else names[half:])
    asked = [row for row in rows if "relevant" in row and row["relevant"][0] in own]
    chosen = [asked[i * len(asked) // QUESTIONS] for i in range(QUESTIONS)]
    count = CALIBRATED_PARAGRAPHS if part == "calibration" else PARAGRAPHS
    words = {name: _words(paragraphs[name]) for name in names if name in own}
    common = Counter(word for found in words.values() for word in found)
    rare = {word: math.log(len(words) / held) for word, held in common.items()}
    return [_question(row, paragraphs, _near(row, words, rare), count) for row in chosen]


def _near(row: dict[str, Any], words: dict[str, set[str]], rare: dict[str, float]) -> list[str]:
    """Paragraphs that do not answer a question, those that share most words with it first, rare ones counting more."""
    asked = _words(row["text"])
    shared = {name: sum(rare[word] for word in sorted(asked & found)) for name, found in words.items()}
    return sorted((name for name in words if name not in row["relevant"]), key=lambda name: (-shared[name], name))


def _question(row: dict[str, Any], paragraphs: dict[str, str], others: list[str], count: int) -> Question:
    """The paragraph that answers it among others."""
    answer = row["relevant"][0]
    place = sum(map(ord, row["id"])) % count
    near = others[: count - 1]
    return Question(row["id"], row["text"], [paragraphs[n] for n in [*near[:place], answer, *near[place:]]], place)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
