"""Prompts by role: from the model's own files, or as its authors' model card gives them; and how they are pooled."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown
from edge_embed_export.files.reading import check_flag, optional_json
from edge_embed_export.modules.folder import SETTINGS, Folder
from edge_embed_export.modules.routers import kind_of
from edge_embed_runtime.bundle.manifest import ROLES
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import ExportError, InputError
from edge_embed_runtime.inputs.prompts import check_room
from edge_embed_runtime.inputs.tokenizer import Tokenizer

# What models call the two sides of a search. The first name that a model has gives our role its prompt.
ALIASES = {
    "query": ("query", "search_query", "retrieval.query", "Retrieval-query", "s2p_query", "web_search_query"),
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
    # instructions of searches; the cards have others for other tasks
    (
        r"(multilingual-e5-large|e5-mistral-7b)-instruct",
        {
            "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
            "document": "",
        },
    ),
    (
        r"nv-embed",
        {
            "query": "Instruct: Given a question, retrieve passages that answer the question\nQuery: ",
            "document": "",
        },
    ),
    (r"gritlm", {"query": "<|embed|>\n", "document": "<|embed|>\n"}),
)
# What is read of it: prompts here, similarity_fn_name and model_type in purpose.py and heads.py, dims in
# receipt/truncation.py, the activation of a cross-encoder in pairs.py,
# and what PyLate's models say of queries and documents in heads.py.
READ = frozenset({
    "prompts", "default_prompt_name", "similarity_fn_name", "model_type", "matryoshka_dimensions", "matryoshka_dims",
    "query_prefix", "document_prefix", "query_length", "document_length", "attend_to_expansion_tokens",
    "skiplist_words", "do_query_expansion", "truncate_dim", "max_active_dims", "activation_fn",
})  # fmt: skip
# The releases that wrote the folder, and layers of a cross-encoder that are computed in float32 in any case here.
HARMLESS[SETTINGS] = frozenset({"__version__", "keep_in_fp32_modules"})
# Models whose prompts are never pooled, where no file says so: sentence-transformers knows them by their names, and so
# does the code of their authors.
UNPOOLED = re.compile(r"(^|/)instructor-(base|large|xl)$|gritlm", re.IGNORECASE)


def read_prompts(folder: Folder, names: tuple[str, ...]) -> dict[str, str]:
    """Prompts by role of a sentence-transformers folder, under the model's own names and ours.

    names: what the model may be known by, where its files hold no prompts (see CARDS)
    """
    path, settings = folder.path / SETTINGS, folder.settings
    nothing = {name for name, value in settings.items() if value is None}
    refuse_unknown(path, settings, READ | HARMLESS[SETTINGS] | nothing)
    found = settings.get("prompts") or {}
    try:
        prompts = {role: check_text(text, f"{path}: the prompt of {role!r}") for role, text in dict(found).items()}
    except (InputError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: prompts must map a role to a text: {error}") from error
    if not any(prompts.values()):
        known = (card for pattern, card in CARDS for name in names if re.search(pattern, name, re.IGNORECASE))
        prompts |= next(known, {})
    return with_roles(prompts)


def default_role(folder: Folder, prompts: Mapping[str, str]) -> str:
    """The role whose prompt is put before a text where no role is named, "" for none.

    prompts: by role, those of the folder among them
    """
    path, name = folder.path / SETTINGS, folder.settings.get("default_prompt_name")
    if name is None:
        return ""
    if not isinstance(name, str) or name not in {*prompts, *ROLES}:
        raise ExportError(
            f"{path}: default_prompt_name is {name!r:.60}, which is none of its prompts ({', '.join(prompts)})"
        )
    return name if prompts.get(name) else ""


def completed(prompts: Mapping[str, str], default: str) -> dict[str, str]:
    """Prompts of all roles: the default stands for query and document where the folder does not name them."""
    return {**dict.fromkeys(ROLES, prompts[default]), **prompts} if default else dict(prompts)


def left_out(folder: Folder, config: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Which tokens at a text's beginning are not pooled (see `Manifest.left_out`).

    config: of the model, whose keys count as read; names: what it is known by
    """
    if config.get("model_type") == "nvembed":  # its code does so on these conditions
        masked = config.get("is_mask_instruction", True) is True, config.get("padding_side", "right") == "right"
        return "instruction" if all(masked) else ""
    remote = str(config.get("auto_map"))
    if any(UNPOOLED.search(name) for name in (*names, remote)):
        return "prompt"
    for module in folder.modules:
        if kind_of(module) == "Pooling":
            path = folder.path / str(module["path"]) / "config.json"
            if not check_flag(optional_json(path).get("include_prompt", True), "include_prompt", path):
                return "prompt"
    return ""


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
    """Prompts with those of our roles that the model has under another name: search_query -> query as well.

    An empty one says nothing: sentence-transformers 5 writes such into every folder that it saves.
    """
    named = dict(prompts)
    for role, aliases in ALIASES.items():
        given = [alias for alias in aliases if alias in prompts]
        if given:
            named[role] = next((prompts[alias] for alias in given if prompts[alias]), "")
    return named


def without_empty(prompts: Mapping[str, str]) -> dict[str, str]:
    """Prompts without those of our two roles that are empty, which is what a bundle without them has: releases of
    sentence-transformers since 5.0 write them into every folder, so that a fingerprint would tell who saved a model."""
    return {role: prompt for role, prompt in prompts.items() if prompt or role not in ALIASES}
