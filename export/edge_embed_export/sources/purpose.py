"""What a folder says its model is for: what would come out as other vectors than are meant is refused, or noted.

Notes are sentences for the manifest's provenance: what was decided where the folder does not say it, or says otherwise.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_embed_export.modules.folder import SETTINGS, Folder
from edge_embed_export.options import ExportOptions
from edge_embed_export.sources.owncode import own_classes
from edge_embed_export.sources.prompts import ALIASES, default_role, read_prompts
from edge_embed_runtime.errors import ExportError, InputError, UnsupportedModelError
from edge_embed_runtime.vectors.kinds import DENSE, RERANK, Kind

# What an index compares by. Of vectors of length 1 (a Normalize module at the end) these have the same order.
SAME_ORDER = ("cosine", "dot", "dot_product", "euclidean")
# Models that were trained for dot products, where their files do not say it, by a part of their names.
DOT_NAMES = re.compile(r"-dot-(v\d|prod)|-tas-b$|(^|/)(facebook-)?dpr-|contriever", re.IGNORECASE)
# Models whose cards have an instruction put before queries, another for each task, by a part of their names.
INSTRUCTED = re.compile(
    r"e5-(large|mistral-7b)-instruct|nv-embed|gritlm|(^|/)instructor-(base|large|xl)$", re.IGNORECASE
)
# As its authors publish it, it is exported as its own code uses it (see tokenizer/authors.py).
UNIXCODER = re.compile(r"unixcoder", re.IGNORECASE)
# Architectures of decoders as the library has them: their tokens see those before them alone.
PLAIN = re.compile(
    r"^(Llama|Mistral|Ministral|Qwen2|Qwen3|Gemma[23])(Text)?"
    r"(Model|For(CausalLM|SequenceClassification|TokenClassification|QuestionAnswering))$"
)
# Ends of `architectures` in config.json whose models give scores of texts, of pairs of texts, or of tokens, and no
# vectors.
SCORING = re.compile(
    r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|NextSentence\w*)$"
)
UNTRAINED = re.compile(r"(For(MaskedLM|PreTraining|CausalLM|ConditionalGeneration)|LMHeadModel)$")


def notes_of(folder: Folder, options: ExportOptions) -> list[str]:
    """What is to be noted of the model of a folder.

    Raises ExportError for a model that gives no vectors, or vectors that are not for cosines, InputError for options.
    """
    kind, similarity = options.output, options.similarity
    modules = [str(module["type"]) for module in folder.modules]
    names = folder.known_as(options.names)
    notes = _scoring(folder, modules, kind)
    if (kind or folder.kind) is RERANK:
        if similarity is not None:
            raise InputError(f"similarity is for models that give vectors; {folder.path} scores pairs of texts")
        return notes
    notes += _default(folder)
    if folder.side is not None:
        notes.append(f"the side of the model for the role {folder.side}; the other is a bundle of its own")
    given = kind or folder.kind
    token_kinds = folder.is_multi or any(re.search("sparse|pylate|MultiVector", m) for m in modules)
    if given is DENSE or (given is None and not token_kinds):
        notes += _not_trained(folder.config, modules) + _similarity(folder, modules, names, similarity)
        notes += _instruction(folder, names, options.prompts or {})
        if modules and any(map(UNIXCODER.search, names)):
            said = "puts a token for the mode <encoder-only> before a text, the bundle does not"
            notes.append(f"the model's own code {said}")
    elif similarity is not None:
        raise InputError(f"similarity is for models that give one vector for a text; {folder.path} gives others")
    return notes


def noted(notes: Sequence[str]) -> dict[str, str]:
    """Notes as the manifest's provenance has them."""
    return {"notes": "; ".join(notes)} if notes else {}


def _scoring(folder: Folder, modules: list[str], kind: Kind | None) -> list[str]:
    """Refuses models that score something else than pairs, unless the caller wants their encoder."""
    config = folder.config
    named = next((str(name) for name in _architectures(config) if SCORING.search(str(name))), None)
    if (named is None or modules) and not folder.is_cross_encoder:
        return []
    if kind is None and folder.scores_pairs:  # exported as a cross-encoder
        return []
    what = f"{named or config.get('model_type')}, a cross-encoder or classifier"
    if kind not in (DENSE, RERANK):
        raise ExportError(
            f"{folder.path} holds {what}: it gives scores, no vectors. --kind dense exports its encoder all the same, "
            "pooled as is usual"
        )
    if kind is RERANK:
        return []
    return [f"the folder holds {what}: it was exported to give vectors all the same, which it was not trained for"]


def _not_trained(config: dict[str, Any], modules: list[str]) -> list[str]:
    named = next((str(name) for name in _architectures(config) if UNTRAINED.search(str(name))), None)
    if named is None or modules:
        return []
    sparse = "; if it is a SPLADE model, export it with --kind sparse" if named.endswith("ForMaskedLM") else ""
    return [
        f"the folder holds {named}, a language model, and does not say how it gives vectors of texts: vectors of its "
        f"tokens were pooled as is usual{sparse}"
    ]


def _similarity(folder: Folder, modules: list[str], names: tuple[str, ...], similarity: str | None) -> list[str]:
    """Refuses models that rank by something else than the cosine."""
    said = folder.settings.get("similarity_fn_name")
    unit = bool(modules) and modules[-1].rsplit(".", 1)[-1] == "Normalize"
    meant = str(said).lower() if said is not None else "cosine"
    by_name = next((name for name in names if DOT_NAMES.search(name)), None) if said is None else None
    meant = meant if by_name is None else "dot"
    if meant == "cosine" or (unit and meant in SAME_ORDER):
        return []
    where = f"{folder.path}: {by_name!r}"
    if said is not None:
        where = f"{folder.path / SETTINGS}: similarity_fn_name is {said!r:.40}"
    what = f"{where}: the model's vectors are compared by {meant}, not by their cosine"
    if similarity is None:
        raise ExportError(
            f"{what}, as an index does, so that other documents would be found. --similarity cosine exports it all the "
            "same"
        )
    return [f"made for {meant}, exported for cosines as was asked: ranks differ from the model's own"]


def _instruction(folder: Folder, names: tuple[str, ...], prompts: Mapping[str, str]) -> list[str]:
    """What is to be known of models whose queries have an instruction that depends on the task."""
    own = folder.settings.get("prompts")
    given = {**(own if isinstance(own, dict) else {}), **prompts}
    said = any(given.get(alias) for alias in ALIASES["query"])
    if said or not any(INSTRUCTED.search(name) for name in names):
        return []
    usual = read_prompts(folder, names).get("query", "")
    if "Instruct" in usual:
        return [f"queries have the instruction of the model's card for searches, {usual!r}: --prompt gives another"]
    return [
        "the model's card has an instruction put before queries, and its files have none for that role: give it with "
        "--prompt 'query=...', or in each search"
    ]


def _default(folder: Folder) -> list[str]:
    """Where a folder's default prompt stands for roles that sentence-transformers' encode_query puts none for."""
    own = folder.settings.get("prompts")
    prompts = own if isinstance(own, dict) else {}
    name = default_role(folder, prompts)
    roles = [role for role, aliases in ALIASES.items() if name and not any(alias in prompts for alias in aliases)]
    if not roles:
        return []
    return [f"the default prompt, {name!r:.60}, stands for {' and '.join(roles)}, which the folder has no prompts for"]


def check_own_code(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a decoder whose own code may let tokens see those behind them, where nothing says whether it does."""
    own = [str(name) for name in _architectures(config) if not PLAIN.search(str(name))]
    own += own_classes(config, "AutoModel")
    if own:
        raise UnsupportedModelError(
            f"{folder}: the model has code of its own ({own[0]}), which is never run, and config.json does not say "
            "whether tokens see those behind them: export it with --attention bidirectional where they do, as in "
            'stella_en_1.5B and LLM2Vec, else with --attention causal (or write "is_causal": false, or true, into '
            "config.json)"
        )


def _architectures(config: Mapping[str, Any]) -> list[Any]:
    named = config.get("architectures")
    return named if isinstance(named, list) else []
