"""How texts become tokens of a model with a vector for each token (ColBERT, arXiv:2004.12832), as its files say it:
those of sentence-transformers since release 6, of PyLate, or of Stanford's ColBERT.

Sources: multi_vector_encoder/model.py and modules of sentence-transformers 6.2; colbert/infra/config/settings.py.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown, words
from edge_embed_export.files.reading import check_flag, is_there, optional_json, read_json
from edge_embed_export.modules.folder import METADATA, SETTINGS, Folder
from edge_embed_export.modules.text import TextModule
from edge_embed_export.sources.heads import Head
from edge_embed_export.tokenizer.parts import vocabulary
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import MULTI

# Tokens of queries and documents where a folder that is no ColBERT model is taken for one, markers included.
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 180
# Tokens of a text where nothing gives a limit; the model may have fewer.
LONGEST = 8192
# Queries are not filled up to more tokens than these.
LONGEST_QUERY = 512
MARKERS = ("[unused0]", "[unused1]")
# Of PyLate's settings, which stand next to prompts.
PYLATE = (
    *("query_prefix", "document_prefix", "query_length", "document_length", "skiplist_words", "do_query_expansion"),
    *("attend_to_expansion_tokens", "attend_to_mask_tokens", "query_expansion"),
)
STANFORD = words(
    "query_token_id doc_token_id query_maxlen doc_maxlen mask_punctuation attend_to_mask_tokens dim similarity "
    "interaction relu"
)
# Of Stanford's settings: the texts that markers stand for, training, indexing, searching, and where files were.
HARMLESS[METADATA] = words(
    "query_token doc_token checkpoint triples collection queries index_name bsize accumsteps lr maxsteps save_every "
    "resume warmup warmup_bert nway use_ib_negatives reranker distillation_alpha ignore_scores model_name index_path "
    "index_bsize nbits kmeans_niters ncells centroid_score_threshold ndocs load_index_with_mmap overwrite root "
    "experiment index_root name rank nranks amp gpus total_visible_gpus avoid_fork_if_possible meta"
)


@dataclass(frozen=True)
class Ways:
    """What a folder says of queries and documents.

    path:      of the file that says it
    query, document: tokens at most, markers included; None means the model's limit
    markers:   of queries and documents, tokens or None
    filled:    tokens up to which queries are filled up; 0 where they are not
    filler:    the token that fills them up; None means the tokenizer's mask
    attend:    whether other tokens see that
    skip:      tokens whose vectors documents do without; skip_queries: whether queries do, too
    """

    path: Path
    query: int | None = QUERY_LENGTH
    document: int | None = DOCUMENT_LENGTH
    markers: tuple[str | None, str | None] = (None, None)
    filled: int = 0
    filler: str | None = None
    attend: bool = False
    skip: Sequence[str] = ()
    skip_queries: bool = False

    def error(self, message: str) -> ExportError:
        return ExportError(f"{self.path}: {message}")


def multi_head(
    folder: Folder, tokenizer: Mapping[str, Any], mask: Path | None, text: TextModule, limit: int
) -> tuple[Head, int]:
    """The head of a ColBERT model, and tokens of its documents.

    mask:  the folder of a MultiVectorMask
    text:  settings of the module that reads texts
    limit: tokens of a text where nothing else is said
    """
    ways = _read(folder, mask, text)
    query, document = ways.query or limit, ways.document or limit
    if not 4 <= query <= document < 2**20 or ways.filled > LONGEST_QUERY:
        raise ways.error(
            f"queries of {query} tokens and documents of {document}: expected 4 or more, documents no shorter than "
            f"queries, and queries filled up to {LONGEST_QUERY} at most"
        )
    ids = vocabulary(tokenizer)
    unknown = [marker for marker in ways.markers if marker is not None and marker not in ids]
    if unknown:
        raise ways.error(f"the marker {unknown[0]!r:.40} is no token of the tokenizer")
    filler = _filler(text.path.parent, ways, ids, tokenizer) if ways.filled else None
    skip = sorted({ids[word] for word in ways.skip if word in ids})
    facts: dict[str, Any] = {
        "query_marker": None if ways.markers[0] is None else ids[ways.markers[0]],
        "document_marker": None if ways.markers[1] is None else ids[ways.markers[1]],
        "query_length": query,
        "expansion": filler,
        "skip": skip,
    }
    if ways.filled not in (0, query):
        facts["filled"] = ways.filled
    if skip and ways.skip_queries:
        facts["query_skip"] = skip
    return Head(MULTI, unattended=None if ways.attend else filler, facts=facts), document


def with_markers(
    head: Head, prompts: Mapping[str, str], tokenizer: Mapping[str, Any], folder: Path
) -> tuple[Head, dict[str, str]]:
    """The head with the special tokens that prompts begin with as markers, and the prompts without them: a bundle reads
    no special token in a text. "[Q] who" -> the marker "[Q] ", "who"

    Raises ExportError for one in another place.
    """
    special = {str(t["content"]): int(t["id"]) for t in tokenizer.get("added_tokens") or () if t.get("special")}
    facts, found = dict(head.facts), dict(prompts)
    for role in sorted(prompts, key=lambda role: role not in ("query", "document")):
        marker = "query_marker" if role == "query" else "document_marker"
        token = max((token for token in special if prompts[role].startswith(token)), key=len, default=None)
        if token is not None:
            found[role] = prompts[role].removeprefix(token)
            if role in ("query", "document") and facts[marker] is None:
                facts[marker] = special[token]
            elif facts[marker] != special[token]:
                token = None
        inner = next((other for other in special if other in found[role]), None)
        if inner is not None or (token is None and found[role] != prompts[role]):
            raise ExportError(
                f"{folder / SETTINGS}: the prompt of {role!r:.40} is {prompts[role]!r:.80}: a special token can only "
                "stand at the beginning, one for queries and one for documents"
            )
    return replace(head, facts=facts), found


def _filler(home: Path, ways: Ways, ids: Mapping[str, int], tokenizer: Mapping[str, Any]) -> int:
    """The id of what queries are filled up with: the mask, or the end of a text where there is none."""
    settings = optional_json(home / "tokenizer_config.json")
    named = [ways.filler] if ways.filler else [_content(settings.get("mask_token")), "[MASK]", "<mask>"]
    found = next((ids[name] for name in named if name in ids), None)
    end = _content(settings.get("eos_token"))
    if found is None and ways.filler is None and end in ids:
        found = ids[end]
    if found is None:
        raise ExportError(f"{home}: queries are filled up with {ways.filler or '[MASK]'}, which the tokenizer lacks")
    if not ways.attend and found in _special(tokenizer):
        raise ways.error(
            "queries are filled up with a token that every text has, and that no other is to see: a bundle cannot "
            "tell the one from the other"
        )
    return found


def _content(token: object) -> str:
    """A token of tokenizer_config.json, which is a text or an object."""
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _special(tokenizer: Mapping[str, Any]) -> set[int]:
    """Ids that the tokenizer puts around every text."""
    known = (tokenizer.get("post_processor") or {}).get("special_tokens") or {}
    return {int(id_) for token in known.values() if isinstance(token, dict) for id_ in token.get("ids") or ()}


def _read(home: Folder, mask: Path | None, text: TextModule) -> Ways:
    folder, settings = home.path, home.settings
    kind = settings.get("model_type")
    if mask is not None or kind == "MultiVectorEncoder":
        return _native(folder, settings, mask, text)
    if text.sides:
        name = next(iter(text.sides))
        raise ExportError(f"{text.path}: {name} is known in folders of sentence-transformers' MultiVectorEncoder alone")
    if is_there(folder / METADATA) and kind != "ColBERT":
        return _stanford(folder / METADATA)
    if kind == "ColBERT" or any(name in settings for name in PYLATE):
        return _pylate(folder / SETTINGS, settings)
    return Ways(folder, markers=MARKERS, filled=QUERY_LENGTH, skip=string.punctuation)


def _native(folder: Path, settings: Mapping[str, Any], mask: Path | None, text: TextModule) -> Ways:
    """Of sentence-transformers since 6: markers are texts of prompts there."""
    old = next((name for name in PYLATE if settings.get(name) is not None), None)
    if old is not None:
        raise ExportError(f"{folder / SETTINGS}: {old} is PyLate's; a MultiVectorEncoder has it in {text.path.name}")
    file, said = text.path, text.sides
    ways = Ways(file, _length(file, said, "query_length"), _length(file, said, "document_length"), attend=True)
    if "query_expansion" in said:
        ways = _expanded(ways, said["query_expansion"], mask)
    return ways if mask is None else _masked(ways, mask / "config.json")


def _expanded(ways: Ways, expansion: object, mask: Path | None) -> Ways:
    if not isinstance(expansion, dict):
        raise ways.error(f"query_expansion is {expansion!r:.60}, expected an object")
    refuse_unknown(ways.path, expansion, ("strategy", "attend", "token", "length"), "part of query_expansion")
    strategy, length, attend = expansion.get("strategy"), expansion.get("length"), expansion.get("attend", False)
    if strategy not in ("fixed", "min") or type(length) is not int or length < 4 or not isinstance(attend, bool):
        raise ways.error(f"query_expansion is {expansion!r:.120}, of which no filled up queries can be made")
    if mask is None:
        raise ways.error("query_expansion without a MultiVectorMask in modules.json, which is what counts its tokens")
    if strategy == "fixed":
        ways = replace(ways, query=length)
    elif ways.query is not None and ways.query < length:
        raise ways.error(f"query_length {ways.query} is less than the length {length} of query_expansion")
    return replace(ways, filled=length, filler=expansion.get("token"), attend=attend)


def _masked(ways: Ways, path: Path) -> Ways:
    """With what a MultiVectorMask leaves out."""
    config = optional_json(path)
    refuse_unknown(path, config, ("skiplist_words", "skiplist_tasks", "keep_only_token_ids"))
    if config.get("keep_only_token_ids"):
        raise ExportError(f"{path}: keep_only_token_ids is for documents that are images; a bundle keeps all tokens")
    skip, tasks = _texts(path, config, "skiplist_words") or [], config.get("skiplist_tasks")
    tasks = ["document"] if tasks is None else [tasks] if isinstance(tasks, str) else tasks
    if skip and not (isinstance(tasks, list) and "document" in tasks and set(tasks) <= {"query", "document"}):
        raise ExportError(f"{path}: skiplist_tasks is {tasks!r:.60}; documents, or documents and queries, are known")
    return replace(ways, skip=skip, skip_queries=bool(skip) and "query" in tasks)


def _pylate(path: Path, settings: Mapping[str, Any]) -> Ways:
    attend = "attend_to_expansion_tokens" if "attend_to_expansion_tokens" in settings else "attend_to_mask_tokens"
    if settings.get("query_expansion") is not None:
        raise ExportError(f"{path}: query_expansion is known in sentence_bert_config.json alone")
    query = _length(path, settings, "query_length") or QUERY_LENGTH
    skip = _texts(path, settings, "skiplist_words")
    return Ways(
        path,
        query=query,
        document=_needed(path, settings, "document_length", "PyLate takes 180"),
        markers=(_marker(path, settings, "query_prefix"), _marker(path, settings, "document_prefix")),
        filled=query if _flag(path, settings, "do_query_expansion", True) else 0,
        attend=_flag(path, settings, attend, False),
        skip=string.punctuation if skip is None else skip,
    )


def _stanford(path: Path) -> Ways:
    given = read_json(path)
    refuse_unknown(path, given, STANFORD | HARMLESS[METADATA])
    for name, usual in (("similarity", "cosine"), ("interaction", "colbert"), ("relu", False)):
        if given.get(name, usual) not in (usual, None):
            raise ExportError(f"{path}: {name} is {given[name]!r:.40}, expected {usual!r}")
    query = _length(path, given, "query_maxlen") or QUERY_LENGTH
    return Ways(
        path,
        query=query,
        document=_needed(path, given, "doc_maxlen", "ColBERT takes 220"),
        markers=(
            _marker(path, given, "query_token_id") or MARKERS[0],
            _marker(path, given, "doc_token_id") or MARKERS[1],
        ),
        filled=query,
        attend=_flag(path, given, "attend_to_mask_tokens", False),
        skip=string.punctuation if _flag(path, given, "mask_punctuation", "mask_punctuation" not in given) else (),
    )


def _flag(path: Path, settings: Mapping[str, Any], name: str, usual: bool) -> bool:
    value = settings.get(name)
    return usual if value is None else check_flag(value, name, path)


def _length(path: Path, settings: Mapping[str, Any], name: str) -> int | None:
    value = settings.get(name)
    if value is not None and (type(value) is not int or value < 4):
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected a whole number of 4 or more")
    return value


def _needed(path: Path, settings: Mapping[str, Any], name: str, usual: str) -> int:
    found = _length(path, settings, name)
    if found is None:
        raise ExportError(
            f"{path}: {name} is missing: {usual} then, and sentence-transformers the model's limit. Add it"
        )
    return found


def _marker(path: Path, settings: Mapping[str, Any], name: str) -> str | None:
    value = settings.get(name)
    if value is not None and not isinstance(value, str):
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected a token")
    return value or None


def _texts(path: Path, settings: Mapping[str, Any], name: str) -> list[str] | None:
    value = settings.get(name)
    if value is not None and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
        raise ExportError(f"{path}: {name} is {value!r:.60}, expected a list of tokens")
    return value
