"""What a tokenizer's class does to tokenizer.json when transformers 4 loads it, and which class that is.

Source: tokenization_auto.py, tokenization_utils_fast.py and models/*/tokenization_*_fast.py of transformers 4.57; for
version 5 see rebuild.py.
"""

from typing import Any

from edge_embed_export.tokenizer.parts import (
    Part,
    around,
    find_id,
    same_steps,
    sequence,
    steps,
    template,
)
from edge_embed_export.tokenizer.settings import GENERIC, GENERIC_NAMES, Settings, is_token
from edge_embed_runtime.errors import ExportError

# Classes whose BertNormalizer obeys tokenizer_config.json.
BERT = frozenset({
    "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer", "ConvBertTokenizer",
    "SqueezeBertTokenizer", "LayoutLMTokenizer", "LxmertTokenizer", "RetriBertTokenizer", "RealmTokenizer",
    "DPRQuestionEncoderTokenizer", "DPRContextEncoderTokenizer", "DPRReaderTokenizer",
})  # fmt: skip
MPNET = "MPNetTokenizer"
ROBERTA = frozenset({
    "RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer", "MvpTokenizer",
})  # fmt: skip
# Classes that write a template of their own: whether it begins and ends with a special token by default, and the two.
ENDS: dict[str, tuple[bool, bool, str, str]] = {
    "LlamaTokenizer": (True, False, "<s>", "</s>"),
    "CodeLlamaTokenizer": (True, False, "<s>", "</s>"),
    "GemmaTokenizer": (True, False, "<bos>", "<eos>"),
    "CohereTokenizer": (True, False, "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "GPTNeoXTokenizer": (False, False, "<|endoftext|>", "<|endoftext|>"),
}
# Classes that take tokenizer.json as it stands, but for `add_prefix_space` of a pre_tokenizer of bytes.
PLAIN = frozenset({
    *GENERIC_NAMES, *ROBERTA, "XLMRobertaTokenizer", "CamembertTokenizer", "AlbertTokenizer", "DebertaTokenizer",
    "DebertaV2Tokenizer", "T5Tokenizer", "MT5Tokenizer", "Qwen2Tokenizer", "GPT2Tokenizer", "CodeGenTokenizer",
    "BigBirdTokenizer", "XLNetTokenizer", "RemBertTokenizer", "FNetTokenizer", "HerbertTokenizer",
    "OpenAIGPTTokenizer", "BarthezTokenizer", "PegasusTokenizer", "CLIPTokenizer",
})  # fmt: skip
# Tokenizers whose code lies in the model's folder and is known: the class that they are, and that they add an end.
OWN_CODE = {
    "tokenization_qwen.Qwen2TokenizerFast": "Qwen2Tokenizer",
    "tokenization_qwen.Qwen2Tokenizer": "Qwen2Tokenizer",
}
# Model types whose class is that of another name; `TYPES` says what a folder without tokenizer_class has.
TYPES = {
    "bert": "BertTokenizer", "ernie": "BertTokenizer", "megatron-bert": "BertTokenizer", "nezha": "BertTokenizer",
    "distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer", "mobilebert": "MobileBertTokenizer",
    "convbert": "ConvBertTokenizer", "squeezebert": "SqueezeBertTokenizer", "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer", "data2vec-text": "RobertaTokenizer", "longformer": "LongformerTokenizer",
    "bart": "BartTokenizer", "xlm-roberta": "XLMRobertaTokenizer", "xlm-roberta-xl": "XLMRobertaTokenizer",
    "xmod": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer", "albert": "AlbertTokenizer",
    "deberta": "DebertaTokenizer", "deberta-v2": "DebertaV2Tokenizer", "t5": "T5Tokenizer", "mt5": "MT5Tokenizer",
    "umt5": "T5Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "llama": "LlamaTokenizer",
    "mistral": "LlamaTokenizer", "phi3": "LlamaTokenizer", "gemma": "GemmaTokenizer", "gemma2": "GemmaTokenizer",
    "gemma3": "GemmaTokenizer", "gemma3_text": "GemmaTokenizer", "gpt2": "GPT2Tokenizer", "gpt_neo": "GPT2Tokenizer",
    "gptj": "GPT2Tokenizer", "opt": "GPT2Tokenizer", "gpt_neox": "GPTNeoXTokenizer", "big_bird": "BigBirdTokenizer",
    "xlnet": "XLNetTokenizer", "rembert": "RemBertTokenizer", "fnet": "FNetTokenizer",
    "clip": "CLIPTokenizer", "clip_text_model": "CLIPTokenizer", "metaclip_2": "XLMRobertaTokenizer",
    "siglip": "SiglipTokenizer", "siglip_text_model": "SiglipTokenizer",
    "chinese_clip": "BertTokenizer", "altclip": "XLMRobertaTokenizer",
}  # fmt: skip
# The kind of model that a class's tokenizer has; a folder that names no class and has another kind has another class.
MODELS = {
    **dict.fromkeys([*BERT, MPNET], "WordPiece"),
    **dict.fromkeys([*ROBERTA, *ENDS, "DebertaTokenizer", "Qwen2Tokenizer", "GPT2Tokenizer", "CLIPTokenizer"], "BPE"),
    "Siglip2Tokenizer": "BPE",
    **dict.fromkeys(
        ("XLMRobertaTokenizer", "CamembertTokenizer", "AlbertTokenizer", "DebertaV2Tokenizer", "T5Tokenizer"), "Unigram"
    ),
}


def own_code(settings: Settings) -> str | None:
    """The class of a tokenizer whose code lies in the folder. Raises ExportError for code that is not known."""
    named = settings.values.get("auto_map")
    code = named.get("AutoTokenizer") if isinstance(named, dict) else named
    if code is None:
        return None
    names = [str(name).rsplit("--", 1)[-1] for name in (code if isinstance(code, list) else [code]) if name]
    for name in names:
        if name in OWN_CODE:
            return OWN_CODE[name]
    raise ExportError(
        f"{settings.path}: auto_map names code of the folder's own ({', '.join(names)}), which is never run; where "
        "tokenizer.json alone says what it does, remove auto_map"
    )


def class_of(settings: Settings, model: Part | None) -> str:
    """The class by which transformers 4 loads a tokenizer, without "Fast". model: of tokenizer.json, where it is.

    Raises ExportError for a class that is not known, or that is written in Python.
    """
    name = own_code(settings) or settings.declared_class
    if name is None:
        name = TYPES.get(settings.model_type, GENERIC)
        if model is not None and MODELS.get(name, model.get("type")) != model.get("type", "BPE"):
            name = GENERIC
    if name not in PLAIN and name not in BERT and name not in ENDS and name != MPNET:
        raise ExportError(
            f"{settings.path}: tokenizer_class {name!r} is not known here; where tokenizer.json alone says what it "
            f'does, write "{GENERIC}Fast" there'
        )
    return name


def load_as_4(definition: Part, settings: Settings) -> Part:
    """tokenizer.json as transformers 4.57 changes it while it loads it."""
    name = class_of(settings, definition["model"])
    changed = with_declared(definition, settings)
    changed = _prefixed(changed, settings, name)
    if name in BERT or name == MPNET:
        changed = _normalized(changed, settings, chinese=name != MPNET)
    if name in ENDS:
        changed = _ended(changed, settings, name)
    if own_code(settings) is not None and settings.flag("add_eos_token", False):
        changed = with_end(changed, settings)
    return changed


def _normalized(definition: Part, settings: Settings, *, chinese: bool) -> Part:
    """BertTokenizerFast.__init__: the settings replace what a BertNormalizer has. MPNet's leaves Chinese as it is."""
    normalizer = definition.get("normalizer")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        return definition
    wanted = {"lowercase": settings.flag("do_lower_case", True), "strip_accents": settings.flag("strip_accents", None)}
    if chinese:
        wanted["handle_chinese_chars"] = settings.flag("tokenize_chinese_chars", True)
    made = {**normalizer, **wanted}
    return definition if same_steps(made, normalizer) else {**definition, "normalizer": made}


def _prefixed(definition: Part, settings: Settings, name: str) -> Part:
    """PreTrainedTokenizerFast.__init__: `add_prefix_space` replaces that of the pre_tokenizer, which is no sequence.

    Llama's and T5's make the tokenizer again from sentencepiece's file where the setting is there (`from_slow`).
    """
    said = settings.flag("add_prefix_space", None)
    if settings.flag("from_slow", False):
        raise ExportError(
            f"{settings.path}: from_slow asks for a tokenizer made again from other files than tokenizer.json; take it "
            "out, or save the tokenizer again with transformers"
        )
    if said is not None and name in ("LlamaTokenizer", "T5Tokenizer", "MT5Tokenizer"):
        return _spaced(definition, settings, name, prefix=said)
    current = definition.get("pre_tokenizer")
    if not isinstance(current, dict) or current.get("type") != "ByteLevel":
        return definition
    made = {**current, "add_prefix_space": bool(said)}
    return definition if same_steps(made, current) else {**definition, "pre_tokenizer": made}


def _spaced(definition: Part, settings: Settings, name: str, *, prefix: bool) -> Part:
    """LlamaConverter and SpmConverter (convert_slow_tokenizer.py): where a space is put before a text."""
    legacy = settings.flag("legacy", True) is not False
    scheme = ("always" if legacy else "first") if prefix else "never"
    metaspace: Part = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": scheme,
        "split": name != "LlamaTokenizer",
    }
    if name != "LlamaTokenizer":
        # what is split at spaces before stays so: the file of sentencepiece makes no such step
        before = [step for step in steps(definition.get("pre_tokenizer")) if step.get("type") != "Metaspace"]
        made = sequence("pretokenizers", [*before, metaspace])
        return (
            definition if same_steps(made, definition.get("pre_tokenizer")) else {**definition, "pre_tokenizer": made}
        )
    written: list[Part] = [{"type": "Prepend", "prepend": "▁"}] if prefix else []
    written.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    normalizer = {"type": "Sequence", "normalizers": written} if legacy else None
    pre_tokenizer = None if legacy else metaspace
    same = same_steps(normalizer, definition.get("normalizer"))
    if same and same_steps(pre_tokenizer, definition.get("pre_tokenizer")):
        return definition
    return {**definition, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}


def _ended(definition: Part, settings: Settings, name: str) -> Part:
    """LlamaTokenizerFast.update_post_processor: the template that `add_bos_token` and `add_eos_token` ask for."""
    begins, ends, bos, eos = ENDS[name]
    before = [bos] if settings.flag("add_bos_token", begins) else []
    after = [eos] if settings.flag("add_eos_token", ends) else []
    return with_ends(definition, settings, [("bos_token", t) for t in before], [("eos_token", t) for t in after])


def with_end(definition: Part, settings: Settings) -> Part:
    """The tokenizer whose texts end with eos_token, once."""
    sides = around(definition.get("post_processor"))
    token = settings.token("eos_token")
    number = None if token is None else find_id(definition, token)
    if token is None or number is None or sides is None:
        raise ExportError(f"{settings.path}: add_eos_token asks for the end {token!r:.40}, which tokenizer.json lacks")
    if sides[1][-1:] == [number]:
        return definition
    names = {number: token, **_names(definition, [*sides[0], *sides[1]])}
    before, after = ([(names[i], i) for i in side] for side in (sides[0], [*sides[1], number]))
    return {**definition, "post_processor": template(before, after)}


def _names(definition: Part, ids: list[int]) -> dict[int, str]:
    vocab: Any = definition["model"]["vocab"]
    entries = vocab.items() if isinstance(vocab, dict) else ((entry[0], i) for i, entry in enumerate(vocab))
    wanted = set(ids)
    found = {i: token for token, i in entries if i in wanted} if wanted else {}
    return found | {t["id"]: t["content"] for t in definition.get("added_tokens") or () if t["id"] in wanted}


def with_ends(
    definition: Part, settings: Settings, before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> Part:
    """A template of the named special tokens (setting, what it is where it is not set)."""
    sides = []
    for side in (before, after):
        found = []
        for name, usual in side:
            token = settings.token(name, usual)
            number = None if token is None else find_id(definition, token)
            if token is None or number is None:
                raise ExportError(f"{settings.path}: {name} is {token!r:.40}, which is no token of tokenizer.json")
            found.append((token, number))
        sides.append(found)
    wanted = tuple([number for _, number in side] for side in sides)
    if around(definition.get("post_processor")) == wanted:
        return definition
    return {**definition, "post_processor": template(sides[0], sides[1])}


def with_declared(definition: Part, settings: Settings, *, alone: bool = False) -> Part:
    """Added tokens of tokenizer_config.json put over those of tokenizer.json, as `add_tokens` of tokenizers does it.

    alone: those of tokenizer.json do not count
    """
    given = [] if alone else [dict(token) for token in definition.get("added_tokens") or ()]
    by_content = {token["content"]: token for token in given}
    vocab = definition["model"]["vocab"]
    size, numbers = len(vocab), None
    named = [name for name, value in settings.values.items() if name.endswith("_token") and is_token(name, value)]
    special = {settings.token(name) for name in named}
    changed = alone
    for declared in settings.declared.values():
        token = dict(declared)
        token["special"] = token["special"] or token["content"] in special
        held = by_content.get(token["content"])
        same = held is not None and all(held.get(flag, False) == value for flag, value in token.items())
        if same or (held is not None and not settings.own):  # tokenizer.json wins over added_tokens.json
            continue
        if held is not None:
            held.update(token)
        else:
            if numbers is None:
                numbers = vocab if isinstance(vocab, dict) else {entry[0]: i for i, entry in enumerate(vocab)}
            known = numbers.get(token["content"])
            last = max((t["id"] for t in given), default=-1)
            new = known if known is not None else max(size, last + 1)
            held = {"id": new, **token}
            by_content[token["content"]] = held
            given.append(held)
        changed = True
    return {**definition, "added_tokens": sorted(given, key=lambda t: int(t["id"]))} if changed else definition
