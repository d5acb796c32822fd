"""What transformers 5 makes of a tokenizer: its class builds it again, with the vocabulary of tokenizer.json alone.

Source: tokenization_auto.py, tokenization_utils_tokenizers.py and models/*/tokenization_*.py of transformers 5.24. A
class that is not built again takes tokenizer.json as it stands; there `add_prefix_space`, `add_bos_token` and
`add_eos_token` count for nothing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from edge_embed_export.tokenizer.classes import (
    BERT,
    ENDS,
    MODELS,
    MPNET,
    PLAIN,
    ROBERTA,
    own_code,
    with_declared,
    with_end,
    with_ends,
)
from edge_embed_export.tokenizer.classes import TYPES as TYPES_4
from edge_embed_export.tokenizer.parts import (
    QWEN_WORDS,
    Part,
    around,
    clip_steps,
    find_id,
    framed,
    same_model,
    same_steps,
    sequence,
    steps,
    template,
)
from edge_embed_export.tokenizer.settings import GENERIC, GENERIC_NAMES, Settings
from edge_embed_runtime.errors import ExportError

# The class of a model type, where it is another than in transformers 4, or where that knows no such type.
TYPES = {
    "distilbert": "BertTokenizer", "electra": "BertTokenizer", "convbert": "BertTokenizer",
    "nomic_bert": "BertTokenizer", "squeezebert": "BertTokenizer", "longformer": "RobertaTokenizer",
    "bart": "RobertaTokenizer",
    "gte": "XLMRobertaTokenizer", "jina_embeddings_v3": "XLMRobertaTokenizer", "mt5": "T5Tokenizer",
    "xlm-roberta-xl": GENERIC, "umt5": GENERIC, "modernbert": GENERIC, "modernbert-decoder": GENERIC, "llama": None,
    "mistral": GENERIC, "phi3": GENERIC, "granite": GENERIC,
}  # fmt: skip
# Model types whose folders name a wrong class: theirs counts whatever they name.
WRONG = frozenset({"qwen2", "modernbert", "modernbert-decoder", "phi3", "qwen3_5", "qwen3_5_text", "nemotron"})
WORDPIECE = {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
SPLIT_WORDS = {"type": "WhitespaceSplit"}


def class_of(settings: Settings, model: Part | None, pre_tokenizer: Part | None) -> str:
    """The class by which transformers 5 loads a tokenizer. Raises ExportError for one that is not known."""
    own = own_code(settings)
    if own is not None:
        return own
    types: Mapping[str, str | None] = {**TYPES_4, **TYPES}
    named, usual = settings.declared_class, types.get(settings.model_type)
    bytes_ = any(step.get("type") == "ByteLevel" for step in steps(pre_tokenizer))
    if named == "LlamaTokenizer" and bytes_ and settings.model_type not in ("mistral", *WRONG):
        return GENERIC
    name = named or usual or GENERIC
    if named is not None and usual is not None and usual != named:
        name = GENERIC if usual == GENERIC else usual if settings.model_type in WRONG else named
    if named is None and model is not None and MODELS.get(name, model.get("type")) != model.get("type", "BPE"):
        name = GENERIC
    if name in GENERIC_NAMES or name == "MT5Tokenizer":  # which transformers 5 has no more
        return GENERIC
    if name not in BUILT and not (settings.values.get("backend") and name in PLAIN | frozenset(ENDS)):
        raise ExportError(
            f"{settings.path}: tokenizer_class {name!r} of transformers 5 is not known here; where tokenizer.json "
            'alone says what it does, write "TokenizersBackend" there'
        )
    return name


def load_as_5(definition: Part, settings: Settings, *, made: bool = False) -> Part:
    """tokenizer.json as transformers 5.24 loads it. made: it was made of other files, and settings of ends count."""
    name = class_of(settings, definition["model"], definition.get("pre_tokenizer"))
    if name == GENERIC or name not in BUILT:
        changed = with_declared(definition, settings)
        return with_end(changed, settings) if own_code(settings) and settings.flag("add_eos_token", False) else changed
    kind = definition["model"].get("type")
    if kind is not None and kind != MODELS.get(name, kind):
        raise ExportError(
            f"{settings.path}: tokenizer_class {name!r} makes a {MODELS[name]}, tokenizer.json holds a {kind}"
        )
    changed = with_declared(definition, settings, alone=settings.own)
    if _same_tokens(changed.get("added_tokens"), definition.get("added_tokens")):
        changed = definition
    changed = BUILT[name](changed, settings)
    if name == "GPTNeoXTokenizer":
        changed = with_ends(changed, settings, [], [])
    if made:
        changed = _asked_ends(changed, settings, name)
    if own_code(settings) is not None and settings.flag("add_eos_token", False):
        changed = with_end(changed, settings)
    return changed


def _same_tokens(one: Any, other: Any) -> bool:
    """Whether two lists have the same tokens that a text can be split at; special ones are plain text here."""
    plain = [[token for token in held or () if not token.get("special")] for held in (one, other)]
    return sorted(map(repr, map(_sorted, plain[0]))) == sorted(map(repr, map(_sorted, plain[1])))


def _sorted(token: Part) -> list[tuple[str, Any]]:
    return sorted(token.items())


def _asked_ends(definition: Part, settings: Settings, name: str) -> Part:
    """TokenizersBackend.__init__: without tokenizer.json a template is made where a setting asks for one."""
    # other classes write their own template
    if (
        name not in ("GPT2Tokenizer", "Qwen2Tokenizer")
        or not {"add_bos_token", "add_eos_token"} & settings.values.keys()
    ):
        return definition
    usual = {"bos": None if name == "Qwen2Tokenizer" else "<|endoftext|>", "eos": "<|endoftext|>"}
    sides: list[list[tuple[str, str]]] = []
    for kind, token in usual.items():
        held = settings.token(f"{kind}_token", token)  # a token that there is none of is not put anywhere
        sides.append([(f"{kind}_token", held)] if held and settings.flag(f"add_{kind}_token", False) else [])
    return with_ends(definition, settings, *sides)


def _built(
    definition: Part, *, normalizer: Part | None, pre_tokenizer: Part | None, model: Part, post: Part | None = None
) -> Part:
    """A definition with other parts, each of which stays as it stands in the file where it does the same."""
    changed = dict(definition)
    for name, part in (("normalizer", normalizer), ("pre_tokenizer", pre_tokenizer)):
        if not same_steps(part, definition.get(name)):
            changed[name] = part
    if not same_model(model, {"type": model.get("type"), **definition["model"]}):
        changed["model"] = {**model, "vocab": definition["model"]["vocab"]}
        if "merges" in definition["model"]:
            changed["model"]["merges"] = definition["model"]["merges"]
    if post is not None and around(post) != around(definition.get("post_processor")):
        changed["post_processor"] = post
    return changed


def _token(definition: Part, settings: Settings, name: str, usual: str) -> tuple[str, int]:
    token = settings.token(name, usual) or usual
    number = find_id(definition, token)
    if number is None:
        raise ExportError(f"{settings.path}: {name} is {token!r:.40}, which is no token of tokenizer.json")
    return token, number


def _charsmap(definition: Part) -> list[Part]:
    return [step for step in steps(definition.get("normalizer")) if step.get("type") == "Precompiled"][:1]


def _metaspace(settings: Settings, otherwise: str = "never", *, split: bool = True) -> Part:
    scheme = "always" if settings.flag("add_prefix_space", True) is not False else otherwise
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def _bert(definition: Part, settings: Settings, *, mpnet: bool = False) -> Part:
    cls = _token(definition, settings, "cls_token", "<s>" if mpnet else "[CLS]")
    sep = _token(definition, settings, "sep_token", "</s>" if mpnet else "[SEP]")
    return _built(
        definition,
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars", True),
            "strip_accents": settings.flag("strip_accents", None),
            "lowercase": settings.flag("do_lower_case", True),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        model={**WORDPIECE, "unk_token": settings.token("unk_token", "[UNK]")},
        post=framed(cls, sep),
    )


def _bytes(definition: Part, settings: Settings, *, post: Part | None = None) -> Part:
    prefix = bool(settings.flag("add_prefix_space", False))
    return _built(
        definition,
        normalizer=None,
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True},
        model={"type": "BPE"},
        post=post,
    )


def _framed_bytes(definition: Part, settings: Settings, *, names: tuple[str, str]) -> Part:
    """Bytes, and a template of cls_token and sep_token. names: what they are where they are not set"""
    kinds = zip(("cls_token", "sep_token"), names, strict=True)
    cls, sep = (_token(definition, settings, kind, usual) for kind, usual in kinds)
    return _bytes(definition, settings, post=template([cls], [sep]))


def _qwen2(definition: Part, settings: Settings) -> Part:
    prefix = bool(settings.flag("add_prefix_space", False))
    words = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": False}
    return _built(
        definition,
        normalizer={"type": "NFC"},
        pre_tokenizer=sequence("pretokenizers", [words, as_bytes]),
        model={"type": "BPE"},
    )


def _neox(definition: Part, settings: Settings) -> Part:
    made = _bytes(definition, settings)
    return (
        made if same_steps({"type": "NFC"}, definition.get("normalizer")) else {**made, "normalizer": {"type": "NFC"}}
    )


def _xlm_roberta(definition: Part, settings: Settings) -> Part:
    bos = _token(definition, settings, "bos_token", "<s>")
    eos = _token(definition, settings, "eos_token", "</s>")
    return _built(
        definition,
        normalizer=sequence("normalizers", _charsmap(definition)),
        pre_tokenizer=sequence("pretokenizers", [SPLIT_WORDS, _metaspace(settings)]),
        model={"type": "Unigram", "unk_id": 3, "byte_fallback": False},
        post=template([bos], [eos]),
    )


def _camembert(definition: Part, settings: Settings) -> Part:
    unknown = settings.token("unk_token", "<unk>")
    vocab = definition["model"]["vocab"]
    made = _xlm_roberta(definition, settings)
    number = next((i for i, (token, _) in enumerate(vocab) if token == unknown), 0)
    return made if number == made["model"].get("unk_id") else {**made, "model": {**made["model"], "unk_id": number}}


def _albert(definition: Part, settings: Settings) -> Part:
    written: list[Part] = [{"type": "Replace", "pattern": {"String": sign}, "content": '"'} for sign in ("``", "''")]
    if not settings.flag("keep_accents", False):
        written += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if settings.flag("do_lower_case", True):
        written.append({"type": "Lowercase"})
    post = None
    if definition.get("post_processor") is None:
        cls, sep = (_token(definition, settings, f"{n}_token", f"[{n.upper()}]") for n in ("cls", "sep"))
        post = framed(cls, sep)
    return _built(
        definition,
        normalizer=sequence("normalizers", [*written, *_charsmap(definition)]),
        pre_tokenizer=sequence("pretokenizers", [SPLIT_WORDS, _metaspace(settings)]),
        model={"type": "Unigram", "unk_id": 1, "byte_fallback": False},
        post=post,
    )


def _deberta_v2(definition: Part, settings: Settings) -> Part:
    vocab = definition["model"]["vocab"]
    unknown = settings.token("unk_token", "[UNK]")
    given = settings.values.get("unk_id", 1)
    number = next((i for i, entry in enumerate(vocab) if tuple(entry) == (unknown, 0.0)), given)
    cls = _token(definition, settings, "cls_token", "[CLS]")
    sep = _token(definition, settings, "sep_token", "[SEP]")
    lower: list[Part] = [{"type": "Lowercase"}] if settings.flag("do_lower_case", False) else []
    words: list[Part] = (
        [{"type": "Punctuation", "behavior": "Isolated"}] if settings.flag("split_by_punct", False) else []
    )
    return _built(
        definition,
        normalizer=sequence(
            "normalizers",
            [
                *lower,
                {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "},
                {"type": "NFC"},
                {"type": "Strip", "strip_left": False, "strip_right": True},
            ],
        ),
        pre_tokenizer=sequence("pretokenizers", [*words, _metaspace(settings, "first")]),
        model={"type": "Unigram", "unk_id": number, "byte_fallback": False},
        post=framed(cls, sep),
    )


def _t5(definition: Part, settings: Settings) -> Part:
    scheme = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    end = find_id(definition, settings.token("eos_token", "</s>") or "</s>")
    if end is None:
        raise ExportError(f"{settings.path}: eos_token is no token of tokenizer.json")
    return _built(
        definition,
        normalizer=sequence("normalizers", _charsmap(definition)),
        pre_tokenizer=sequence("pretokenizers", [SPLIT_WORDS, scheme]),
        model={"type": "Unigram", "unk_id": 2, "byte_fallback": False},
        post=template([], [("</s>", end)]),
    )


def _llama(definition: Part, settings: Settings) -> Part:
    legacy = bool(settings.flag("legacy", False))
    prefix = settings.flag("add_prefix_space", None)
    scheme = "never" if prefix is False else "always" if legacy else "first"
    return _built(
        definition,
        normalizer=None,
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False},
        model={"type": "BPE", "fuse_unk": True, "byte_fallback": True},
    )


def _gemma(definition: Part, settings: Settings, *, lower: bool = False) -> Part:
    """lower: texts are lowered first, as SigLIP 2 was trained"""
    spaces: Part = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return _built(
        definition,
        normalizer=sequence("normalizers", [{"type": "Lowercase"}, spaces]) if lower else spaces,
        pre_tokenizer={
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
        },
        model={
            "type": "BPE", "unk_token": settings.token("unk_token", "<unk>"), "fuse_unk": True, "byte_fallback": True,
        },
    )  # fmt: skip


def _clip(definition: Part, settings: Settings) -> Part:
    bos = _token(definition, settings, "bos_token", "<|startoftext|>")
    eos = _token(definition, settings, "eos_token", "<|endoftext|>")
    return _built(
        definition,
        **clip_steps(),
        model={
            "type": "BPE",
            "unk_token": settings.token("unk_token", "<|endoftext|>"),
            "end_of_word_suffix": "</w>",
        },
        post=template([bos], [eos]),
    )


BUILT: dict[str, Callable[[Part, Settings], Part]] = {
    **dict.fromkeys(BERT - {"RetriBertTokenizer", "RealmTokenizer"}, _bert),
    **dict.fromkeys(ROBERTA, partial(_framed_bytes, names=("<s>", "</s>"))),
    MPNET: partial(_bert, mpnet=True),
    "DebertaTokenizer": partial(_framed_bytes, names=("[CLS]", "[SEP]")),
    "GPT2Tokenizer": _bytes,
    "CodeGenTokenizer": _bytes,
    "GPTNeoXTokenizer": _neox,
    "Qwen2Tokenizer": _qwen2,
    "XLMRobertaTokenizer": _xlm_roberta,
    "CamembertTokenizer": _camembert,
    "AlbertTokenizer": _albert,
    "FNetTokenizer": _albert,
    "DebertaV2Tokenizer": _deberta_v2,
    "T5Tokenizer": _t5,
    "LlamaTokenizer": _llama,
    "GemmaTokenizer": _gemma,
    "Siglip2Tokenizer": partial(_gemma, lower=True),
    "CLIPTokenizer": _clip,
}
