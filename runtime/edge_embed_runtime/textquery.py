"""A question typed by a person as a query for FTS5."""

import re

# A query longer than this is a document; its first words must do.
MAX_TERMS = 64


def match_expression(query: str) -> str | None:
    """Any of the words: 'Is "this" a test?' -> '"is" OR "this" OR "a" OR "test"'; None when there is no word.

    Every word is quoted, so nothing typed by a user is an operator of FTS5.
    """
    words = dict.fromkeys(re.findall(r"\w+", query.lower()))
    terms = [word for word in words if word.strip("_")][:MAX_TERMS]
    return " OR ".join(f'"{word}"' for word in terms) or None
