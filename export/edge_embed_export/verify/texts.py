"""The 64 texts that a bundle is compared with the reference on: every kind of text that went wrong somewhere."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from edge_embed_export.calibration.texts import calibration_texts
from edge_embed_runtime.inputs.tokenizer import Tokenizer

TEXTS = 64
# Of other scripts and shapes: what tokenizers and what comes before them treat in ways of their own.
ODD = (
    "",
    " ",
    "Where is the bank?\n",
    "  white space around  ",
    "two\n\nparagraphs\tand a tab",
    "数据保留在设备上，不经过网络。",
    "東京タワーはどこですか",
    "데이터는 기기에 남습니다",
    "Les données restent sur l'appareil; ÇA Y EST",
    "البيانات تبقى على الجهاز",
    "🚲🔋 charge here? 👍🏽",
    "İstanbul ﬁne ½ e\u0301",
    "UPPER and lower Case",
    "def mean(values): return sum(values) / len(values)",
    "don't stop -- it's 3.14, not 22/7 (@home)",
    "a",
)
# What most tokenizers give one token for, so that a text can be brought to a number of tokens.
UNITS = (" the", " a", "a", " 1", "的", "!", " of", "the")
# Tokens of a text up to which lengths about the limit are compared: beyond it, of large models, that takes hours.
PATIENCE = 2**41


class Asked(NamedTuple):
    """A text, and the role it is embedded in; None is no role."""

    role: str | None
    text: str


MARKED = ("[]", "<>")


def asked_texts(tokenizer: Tokenizer, roles: Sequence[str | None], longest: int) -> list[Asked]:
    """TEXTS texts, each in one of the roles, the first of which has most.

    longest: tokens that a text about the limit may have, special ones among them
    """
    first = [*ODD, *_of_lengths(tokenizer, longest), *_of_the_vocabulary(tokenizer, 12)]
    real = list(calibration_texts("receipt"))
    others = ["", "Where is the bank?\n", "数据保留在设备上", "a", real[0], _past(longest)]
    found: list[Asked] = []
    for role in roles[1:]:
        found += [Asked(role, text) for text in [*others, *_of_the_vocabulary(tokenizer, 4, seed=len(found))]]
    room = TEXTS - len(found)
    return [Asked(roles[0], text) for text in [*first, *real[1:]][:room]] + found


def _of_lengths(tokenizer: Tokenizer, longest: int) -> Iterator[str]:
    """Texts of 1, 2, 3, longest - 1, longest and longest + 1 tokens where there are such, and one far beyond."""
    for tokens in (1, 2, 3, 4, longest - 1, longest, longest + 1):
        text = _of_length(tokenizer, tokens)
        if text is not None:
            yield text
    yield _past(longest)


def _past(longest: int) -> str:
    """A text of more tokens than `longest`."""
    text = " ".join(calibration_texts("receipt")[:8])
    return (text + " ") * (1 + 8 * longest // len(text))


def _of_length(tokenizer: Tokenizer, tokens: int) -> str | None:
    """A text of so many tokens with special ones: real words, then one unit again and again."""
    wanted = tokens - sum(len(part) for part in tokenizer.around)
    if wanted < 0:
        return None
    words = _past(tokens).split()
    kept = 0
    while kept < len(words) and len(tokenizer.word(" ".join(words[: kept + 1]))) <= wanted and kept < 64:
        kept += 1
    for start in dict.fromkeys((" ".join(words[:kept]), "")):
        for unit in UNITS:
            text = start + unit * (wanted - len(tokenizer.word(start)))
            if len(tokenizer.word(text)) == wanted:
                return text
    return None


def _of_the_vocabulary(tokenizer: Tokenizer, count: int, seed: int = 0) -> Iterator[str]:
    """Texts of tokens that the vocabulary has, whatever its language."""
    added = set(tokenizer.added_tokens())
    # what looks like a special token is taken for one where a library says so when it loads: [unused0] is ColBERT's [Q]
    plain = (token for token in tokenizer.vocabulary() if token not in added and token[:1] + token[-1:] not in MARKED)
    tokens = sorted(plain)
    random: Any = np.random.default_rng(seed)
    for _ in range(count if tokens else 0):
        chosen = [tokens[i] for i in random.integers(0, len(tokens), random.integers(2, 24))]
        yield "".join(_plain(token) for token in chosen).strip()


def _plain(token: str) -> str:
    """A token as it stands in a text: "##ing" -> "ing", "▁the" and "Ġthe" -> " the"; a word that says nothing of its
    place gets one of its own."""
    if token.startswith("##"):
        return token[2:]
    return token.replace("▁", " ").replace("Ġ", " ") if token[:1] in "▁Ġ" else f" {token}"
