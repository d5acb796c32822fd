"""What callers hand in to be embedded: checked, and with what the model reads before each text."""

from collections.abc import Iterable, Mapping, Set
from typing import Literal

from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import InputError

Truncation = Literal["ignore", "warn", "error"]
ON_TRUNCATION = ("ignore", "warn", "error")


class Texts:
    """Checked texts.

    before:       what is put before each
    batch_tokens: padded tokens in the model at a time
    """

    def __init__(self, texts: list[str], before: str, batch_tokens: int) -> None:
        self.texts, self.before, self.batch_tokens = texts, before, batch_tokens

    def __len__(self) -> int:
        return len(self.texts)

    def whole(self, start: int = 0, stop: int | None = None) -> list[str]:
        """As the model reads them."""
        return [self.before + text for text in self.texts[start:stop]]


def check_texts(texts: object, call: str = "encode", example: str = "encode([text])") -> list[str]:
    """Raise InputError for anything that is not a list of Unicode texts. call: of what, with an example of it"""
    if type(texts) is not list and (isinstance(texts, str | bytes | Mapping | Set) or not isinstance(texts, Iterable)):
        raise InputError(f"{call} takes a list of texts, got {type(texts).__name__}: write {example}")
    try:
        return [check_text(text, f"text {i}") for i, text in enumerate(texts)]
    except TypeError as error:  # an array without dimensions says that it can be iterated over
        raise InputError(f"{call} takes a list of texts: {error}") from error
