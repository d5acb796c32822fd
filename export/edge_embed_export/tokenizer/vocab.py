"""Tokenizers of folders that hold vocab.txt, or vocab.json with merges.txt, and no tokenizer.json.

Made as the converters of transformers make them (convert_slow_tokenizer.py, 4.57), for the classes of BERT's and of
GPT-2's kind; whatever the class does besides is done as with any tokenizer.json.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.files.reading import is_there, read_json
from edge_embed_export.tokenizer.classes import BERT, MPNET, ROBERTA
from edge_embed_export.tokenizer.parts import QWEN_WORDS, Part, clip_steps, framed, template
from edge_embed_export.tokenizer.settings import Settings
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.inputs.vetting import MAX_BYTES
from edge_embed_runtime.system.files import read_regular

BYTES = frozenset({"GPT2Tokenizer", "Qwen2Tokenizer", "DebertaTokenizer", *ROBERTA})
WORDS, PAIRS = "vocab.txt", ("vocab.json", "merges.txt")
CLIP, CLIP_MERGES = "CLIPTokenizer", 49152 - 256 - 2
_BERT: dict[str, str | None] = {
    "unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]",
}  # fmt: skip
_ROBERTA: dict[str, str | None] = {
    "bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>", "mask": "<mask>",
}  # fmt: skip
_GPT2: dict[str, str | None] = {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"}
_CLIP: dict[str, str | None] = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"}
# A class's special tokens, where tokenizer_config.json does not say.
SPECIAL: dict[str, dict[str, str | None]] = {
    **dict.fromkeys(BERT, _BERT),
    **dict.fromkeys(ROBERTA, _ROBERTA),
    MPNET: {**_ROBERTA, "unk": "[UNK]"},
    "DebertaTokenizer": {**_BERT, "bos": "[CLS]", "eos": "[SEP]"},
    "GPT2Tokenizer": _GPT2,
    CLIP: _CLIP,
    "Qwen2Tokenizer": {**_GPT2, "bos": None},
}


def from_vocabulary(folder: Path, settings: Settings, name: str) -> Part | None:
    """The tokenizer of a class, made of a folder's vocabulary; None where the folder or the class has none of these."""
    if is_there(folder / WORDS) and (name in BERT or name == MPNET):
        return _word_pieces(folder / WORDS, settings, name)
    if all(is_there(folder / file) for file in PAIRS) and name in BYTES:
        return _byte_pairs(folder, settings, name)
    if all(is_there(folder / file) for file in PAIRS) and name == CLIP:
        return _clip_pairs(folder, settings)
    return None


def _clip_pairs(folder: Path, settings: Settings) -> Part:
    """CLIPConverter: pairs of bytes, of which the last of a word is marked; CLIP's own number of merges at most."""
    vocab = read_json(folder / PAIRS[0])
    if not all(isinstance(number, int) for number in vocab.values()):
        raise ExportError(f"{folder / PAIRS[0]} does not map tokens to numbers")
    ends = []
    for kind in ("bos", "eos"):
        token = settings.token(f"{kind}_token", SPECIAL[CLIP][kind])
        if token is None or token not in vocab:
            raise ExportError(f"{folder / PAIRS[0]} lacks the token {token!r:.40}, which stands around every text")
        ends.append((token, vocab[token]))
    if settings.major == 4:  # its class passes over the first line, whatever it holds
        lines = "\n".join(_lines(folder / PAIRS[1])).strip().split("\n")[1 : CLIP_MERGES + 1]
        merges = [line.split() for line in lines]
    else:
        merges = _merges(folder / PAIRS[1], settings, CLIP)
    wrong = next((pair for pair in merges if len(pair) != 2), None)
    if wrong is not None:
        raise ExportError(f"{folder / PAIRS[1]}: {' '.join(wrong)!r:.60} is not two parts of a token")
    return _definition(
        settings,
        CLIP,
        vocab,
        **clip_steps(),
        post_processor=template([ends[0]], [ends[1]]),
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": settings.token("unk_token", SPECIAL[CLIP]["unk"]),
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    )


def _lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends, as Python's text files have them."""
    try:
        text = read_regular(path, MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ExportError(f"{path} is not UTF-8: {error}") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _definition(settings: Settings, name: str, vocab: Mapping[str, int], **parts: Any) -> Part:
    """A definition with the class's special tokens, those that the vocabulary has."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokens = {}
    for kind, usual in SPECIAL[name].items():
        token = settings.token(f"{kind}_token", usual)
        if token is not None and token in vocab:
            front = kind == "mask" and name in {MPNET, *ROBERTA, "DebertaTokenizer"}
            tokens[vocab[token]] = {"id": vocab[token], "content": token, **plain, "lstrip": front, "special": True}
    added = [tokens[number] for number in sorted(tokens)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **parts}


def _pair(settings: Settings, name: str, vocab: Mapping[str, int], path: Path) -> list[tuple[str, int]]:
    """The tokens before and after a text."""
    found = []
    for kind in ("cls", "sep"):
        token = settings.token(f"{kind}_token", SPECIAL[name][kind])
        if token is None or token not in vocab:
            raise ExportError(f"{path} lacks the token {token!r:.40}, which stands around every text ({kind}_token)")
        found.append((token, vocab[token]))
    return found


def _word_pieces(path: Path, settings: Settings, name: str) -> Part:
    """BertConverter: a token in each line, numbered from 0."""
    lines = _lines(path)
    # transformers 5 leaves it to tokenizers, which takes white space off the end
    vocab = {line.rstrip() if settings.major == 5 else line: i for i, line in enumerate(lines)}
    cls, sep = _pair(settings, name, vocab, path)
    unknown = settings.token("unk_token", SPECIAL[name]["unk"])
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": settings.flag("tokenize_chinese_chars", True),
        "strip_accents": settings.flag("strip_accents", None),
        "lowercase": settings.flag("do_lower_case", True),
    }
    model = {
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    return _definition(
        settings,
        name,
        vocab,
        normalizer=normalizer,
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=framed(cls, sep),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        model=model,
    )


def _merges(path: Path, settings: Settings, name: str) -> list[list[str]]:
    """Pairs in their order. GPT-2's class of transformers 4 passes over the first line, whatever it holds."""
    raw = _lines(path)
    if settings.major == 4 and name != "Qwen2Tokenizer":
        ends = read_regular(path, MAX_BYTES).endswith((b"\n", b"\r"))
        lines = raw[1:] if ends else raw[1:-1]
    else:
        lines = [line for line in raw if line and not line.startswith("#version")]
    pairs = dict.fromkeys(tuple(line.split()) for line in lines)
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise ExportError(f"{path}: {' '.join(wrong)!r:.60} is not two parts of a token")
    return [list(pair) for pair in pairs]


def _byte_pairs(folder: Path, settings: Settings, name: str) -> Part:
    """GPT2Converter, RobertaConverter, DebertaConverter and Qwen2Converter."""
    vocab = read_json(folder / PAIRS[0])
    if not all(isinstance(number, int) for number in vocab.values()):
        raise ExportError(f"{folder / PAIRS[0]} does not map tokens to numbers")
    prefix = bool(settings.flag("add_prefix_space", False))
    qwen = name == "Qwen2Tokenizer"
    as_bytes = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": not qwen}
    words = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
    post: Part | None = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    if name in ROBERTA or name == "DebertaTokenizer":
        cls, sep = _pair(settings, name, vocab, folder / PAIRS[0])
        post = template([cls], [sep])
    elif name == "GPT2Tokenizer" and settings.flag("add_bos_token", False):
        bos = settings.token("bos_token", "<|endoftext|>")
        if bos is None or bos not in vocab:
            raise ExportError(f"{settings.path}: bos_token is {bos!r:.40}, which is no token of {PAIRS[0]}")
        post = template([(bos, vocab[bos])], [])
    return _definition(
        settings,
        name,
        vocab,
        normalizer={"type": "NFC"} if qwen else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [words, as_bytes]} if qwen else as_bytes,
        post_processor=post,
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": _merges(folder / PAIRS[1], settings, name),
        },
    )
