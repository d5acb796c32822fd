"""What a folder says its model is for: what would come out as other vectors than are meant is refused, or noted.

Notes are sentences for the manifest's provenance: what was decided where the folder does not say it, or says otherwise.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_embed_export.modules.listed import listed
from edge_embed_export.modules.routers import Side
from edge_embed_export.sources.files import optional_json
from edge_embed_export.sources.heads import SETTINGS, Kind, told_kind
from edge_embed_export.sources.multihead import is_multi
from edge_embed_export.sources.owncode import own_classes
from edge_embed_export.sources.prompts import ALIASES, default_role, read_prompts
from edge_embed_runtime.checks import unusable
from edge_embed_runtime.errors import ExportError, InputError, UnsupportedModelError

# What an index compares by. Of vectors of length 1 (a Normalize module at the end) these have the same order.
SAME_ORDER = ("cosine", "dot", "dot_product", "euclidean")
# Models that were trained for dot products, where their files do not say it, by a part of their names.
DOT_NAMES = re.compile(r"-dot-(v\d|prod)|-tas-b$|(^|/)(facebook-)?dpr-|contriever", re.IGNORECASE)
# Models whose cards have an instruction put before queries, another for each task, by a part of their names.
INSTRUCTED = re.compile(
    r"e5-(large|mistral-7b)-instruct|nv-embed|gritlm|(^|/)instructor-(base|large|xl)$", re.IGNORECASE
)
# As its authors publish it, it is exported as its own code uses it (see families/unixcoder.py).
UNIXCODER = re.compile(r"unixcoder", re.IGNORECASE)
# Architectures of decoders as the library has them: their tokens see those before them alone.
PLAIN = re.compile(
    r"^(Llama|Mistral|Ministral|Qwen2|Qwen3|Gemma[23])(Text)?"
    r"(Model|For(CausalLM|SequenceClassification|TokenClassification|QuestionAnswering))$"
)
# Ends of `architectures` in config.json whose models give scores of texts, or of pairs of texts, and no vectors.
SCORING = re.compile(
    r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|NextSentence\w*)$"
)
UNTRAINED = re.compile(r"(For(MaskedLM|PreTraining|CausalLM|ConditionalGeneration)|LMHeadModel)$")


def notes_of(
    source: Path,
    names: tuple[str, ...],
    kind: Kind | None,
    similarity: str | None,
    prompts: Mapping[str, str] | None = None,
    side: Side | None = None,
) -> list[str]:
    """What is to be noted of the model of a folder, or of an ONNX file in one.

    names:      what else the model is known by
    kind:       what the caller says that it gives
    similarity: "cosine" where the caller has it exported for cosines, whatever it was made for
    prompts:    by role, of the caller
    side:       of a Router, whose route

    Raises ExportError for a model that gives no vectors, or vectors that are not for cosines, InputError for options.
    """
    folder = source if source.is_dir() else source.parent
    if source.is_file() and not (folder / "config.json").is_file():
        folder = folder.parent
    config = optional_json(folder / "config.json")
    modules = [str(module["type"]) for module in listed(folder, side)]
    names = (*names, folder.resolve().name, str(config.get("_name_or_path", "")))
    notes = _scoring(folder, config, modules, kind) + _default(folder)
    if side is not None:
        notes.append(f"the side of the model for the role {side}; the other is a bundle of its own")
    given = kind or told_kind(folder)
    token_kinds = is_multi(folder) or any(re.search("sparse|pylate|MultiVector", m) for m in modules)
    if given == "dense" or (given is None and not token_kinds):
        notes += _not_trained(config, modules) + _similarity(folder, modules, names, similarity)
        notes += _instruction(folder, names, prompts or {})
        if modules and any(map(UNIXCODER.search, names)):
            said = "puts a token for the mode <encoder-only> before a text, the bundle does not"
            notes.append(f"the model's own code {said}")
    elif similarity is not None:
        raise InputError(f"similarity is for models that give one vector for a text; {folder} gives others")
    return notes


def noted(notes: Sequence[str]) -> dict[str, str]:
    """Notes as the manifest's provenance has them."""
    return {"notes": "; ".join(notes)} if notes else {}


def _scoring(folder: Path, config: dict[str, Any], modules: list[str], kind: Kind | None) -> list[str]:
    """Refuses cross-encoders and classifiers, unless the caller wants their encoder."""
    named = next((str(name) for name in _architectures(config) if SCORING.search(str(name))), None)
    own = config.get("sentence_transformers")
    cross = _settings(folder).get("model_type") == "CrossEncoder" or (isinstance(own, dict) and "activation_fn" in own)
    if (named is None or modules) and not cross:
        return []
    what = f"{named or config.get('model_type')}, a cross-encoder or classifier"
    if kind != "dense":
        raise ExportError(
            f"{folder} holds {what}: it gives scores of texts or pairs of texts, no vectors. Reranking is not there "
            "yet. --kind dense exports its encoder all the same, pooled as is usual"
        )
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


def _similarity(folder: Path, modules: list[str], names: tuple[str, ...], similarity: str | None) -> list[str]:
    """Refuses models that rank by something else than the cosine."""
    if similarity not in (None, "cosine"):
        raise unusable("similarity", similarity, "'cosine': an index compares by nothing else")
    said = _settings(folder).get("similarity_fn_name")
    unit = bool(modules) and modules[-1].rsplit(".", 1)[-1] == "Normalize"
    meant = str(said).lower() if said is not None else "cosine"
    by_name = next((name for name in names if DOT_NAMES.search(name)), None) if said is None else None
    meant = meant if by_name is None else "dot"
    if meant == "cosine" or (unit and meant in SAME_ORDER):
        return []
    where = f"{folder / SETTINGS}: similarity_fn_name is {said!r:.40}" if said is not None else f"{folder}: {by_name!r}"
    what = f"{where}: the model's vectors are compared by {meant}, not by their cosine"
    if similarity is None:
        raise ExportError(
            f"{what}, as an index does, so that other documents would be found. --similarity cosine exports it all the "
            "same"
        )
    return [f"made for {meant}, exported for cosines as was asked: ranks differ from the model's own"]


def _instruction(folder: Path, names: tuple[str, ...], prompts: Mapping[str, str]) -> list[str]:
    """What is to be known of models whose queries have an instruction that depends on the task."""
    own = _settings(folder).get("prompts")
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


def _default(folder: Path) -> list[str]:
    """Where a folder's default prompt stands for roles that sentence-transformers' encode_query puts none for."""
    own = _settings(folder).get("prompts")
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


def _settings(folder: Path) -> dict[str, Any]:
    return optional_json(folder / SETTINGS)
