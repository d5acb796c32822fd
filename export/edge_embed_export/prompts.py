"""Prompts by role: from the model's own files, or as its authors' model card gives them."""

import re
from collections.abc import Mapping
from pathlib import Path

from edge_embed_export.reading import optional_json
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import ExportError, InputError
from edge_embed_runtime.prompts import check_room
from edge_embed_runtime.tokenizer import Tokenizer

# What models call the two sides of a search. The first name that a model has gives our role its prompt.
ALIASES = {
    "query": ("query", "search_query", "retrieval.query", "Retrieval-query", "s2p_query"),
    "document": ("document", "passage", "corpus", "search_document", "retrieval.passage", "Retrieval-document"),
}
# Models whose cards ask for prompts that none of their files has, by a part of the model's name.
CARDS: tuple[tuple[str, dict[str, str]], ...] = (
    (r"e5-(small|base|large)(-v2|-unsupervised)?$", {"query": "query: ", "document": "passage: "}),
    (
        r"bge-(small|base|large)-en(-v1\.5)?$",
        {"query": "Represent this sentence for searching relevant passages: ", "document": ""},
    ),
    (r"bge-(small|base|large)-zh(-v1\.5)?$", {"query": "为这个句子生成表示以用于检索相关文章：", "document": ""}),
    (
        r"(snowflake-arctic-embed-(xs|s|m|l|m-long)|mxbai-embed-(large|xsmall)-v1)$",
        {"query": "Represent this sentence for searching relevant passages: ", "document": ""},
    ),
    (r"(nomic-embed-text-v\d|modernbert-embed-base)", {"query": "search_query: ", "document": "search_document: "}),
)


def read_prompts(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Prompts by role of a sentence-transformers folder, those of the model's own names beside ours.

    names: what the model may be known by, where its files hold no prompts (see CARDS)
    """
    path = folder / "config_sentence_transformers.json"
    found = optional_json(path).get("prompts") or {}
    try:
        prompts = {role: check_text(text, f"{path}: the prompt of {role!r}") for role, text in dict(found).items()}
    except (InputError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: prompts must map a role to a text: {error}") from error
    if not any(prompts.values()):
        known = (card for pattern, card in CARDS for name in names if re.search(pattern, name, re.IGNORECASE))
        prompts |= next(known, {})
    return with_roles(prompts)


def check_prompts(
    tokenizer: Tokenizer, prompts: Mapping[str, str], source: Path, query_limit: int | None = None
) -> None:
    """Raise ExportError for a prompt that leaves no room for a text. query_limit: tokens of a query, where fewer."""
    for role, prompt in prompts.items():
        limit = query_limit if role == "query" else None
        try:
            check_room(tokenizer, prompt, f"{source}: the prompt of {role!r}", limit)
        except InputError as error:
            raise ExportError(str(error)) from error


def with_roles(prompts: Mapping[str, str]) -> dict[str, str]:
    """Prompts with those of our roles that the model has under another name: search_query -> query as well."""
    named = dict(prompts)
    for role, aliases in ALIASES.items():
        given = [alias for alias in aliases if alias in prompts]
        if given:
            named[role] = prompts[given[0]]
    return named


def without_empty(prompts: Mapping[str, str]) -> dict[str, str]:
    """Prompts without those of our two roles that are empty, which is what a bundle without them has: releases of
    sentence-transformers since 5.0 write them into every folder, so that a fingerprint would tell who saved a model."""
    return {role: prompt for role, prompt in prompts.items() if prompt or role not in ALIASES}
