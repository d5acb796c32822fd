"""Words and parts of a text: which characters a word has, in which form words are compared, where a part lies."""

import re
import unicodedata

# A part of a text: its characters from the first number up to the second.
Span = tuple[int, int]

# The form in which words go into the tables of new indexes: half-width kana, ligatures, full-width digits and letters
# that are put together of several characters are then what they look like. No less is found than in NFC on SciFact,
# Cranfield and XQuAD; on Hindi, texts in any form, 0.3 % more than as they are.
NORMAL = "NFKC"
FORMS = ("", NORMAL)

# Scripts whose words have no spaces between them, and Korean, whose words carry their particles: Thai, Lao, Burmese,
# Khmer, Hangul, Kana, Bopomofo and Han.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


def normal(text: str, form: str = NORMAL) -> str:
    """A text as it goes into a table of words and as a query asks that table, by the fact `normal` of the index."""
    return text if not form or text.isascii() else unicodedata.normalize(form, text)  # type: ignore[arg-type]  # one of FORMS


def folded(text: str) -> str:
    """A text without the difference of forms and letter case, for comparing words past the table: 'ΟΣ' -> 'οσ'."""
    return normal(text).lower().replace("ς", "σ")


def in_word(character: str) -> bool:
    """Letters, numbers and private use, as FTS5's unicode61 has it, and the marks that belong to letters."""
    category = unicodedata.category(character)
    return category[0] in "LNM" or category == "Co"
