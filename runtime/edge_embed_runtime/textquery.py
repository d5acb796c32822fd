"""A question typed by a person as a query for FTS5."""

import unicodedata

# A query longer than this is a document; its first words must do.
MAX_CHARACTERS = 8192
MAX_TERMS = 64


def match_expression(query: str) -> str | None:
    """Any of the words: 'Is this a test? Is it' -> '"Is" OR "this" OR "a" OR "test" OR "it"'; None without a word.

    Every word is quoted, so nothing typed by a user is an operator of FTS5. Case and accents are left to FTS5, which
    treats queries as it treated the documents.
    """
    text = unicodedata.normalize("NFC", query[:MAX_CHARACTERS])
    words = "".join(character if _in_word(character) else " " for character in text).split()
    terms: dict[str, str] = {}
    for word in words:
        terms.setdefault(word.casefold(), word)
    return " OR ".join(f'"{word}"' for word in list(terms.values())[:MAX_TERMS]) or None


def _in_word(character: str) -> bool:
    """Letters, numbers and private use, as FTS5's unicode61 has it, and the marks that belong to letters."""
    category = unicodedata.category(character)
    return category[0] in "LNM" or category == "Co"
