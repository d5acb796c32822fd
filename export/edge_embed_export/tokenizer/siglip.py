"""SigLIP's tokenizer, which both libraries run in Python: written as a tokenizer.json that does the same.

It lowers a text, takes ASCII's punctuation out, makes one space of all white space, and gives the rest to
sentencepiece, whose file it reads without the package (messages: sentencepiece_model.proto of google/sentencepiece).
"""

import base64
import string
import struct
from collections.abc import Iterator
from pathlib import Path

from edge_embed_export.files.reading import is_there
from edge_embed_export.tokenizer.definition import read_definition
from edge_embed_export.tokenizer.parts import Part, template
from edge_embed_export.tokenizer.settings import Settings
from edge_embed_export.tokenizer.whitespace import SPACES, lowered
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.inputs.tokenizer import parse_tokenizer, sanitize
from edge_embed_runtime.inputs.vetting import MAX_BYTES
from edge_embed_runtime.system.files import read_regular

CLASS = "SiglipTokenizer"
MODEL_TYPES = ("siglip", "siglip_text_model")
# SigLIP 2 of fixed size, whose published folders name Gemma's class.
CAPITALS = (
    "texts keep their capitals, as transformers reads this folder; SigLIP was trained on lower case: where "
    'tokenizer.json is that of SigLIP 2, "tokenizer_class": "Siglip2Tokenizer" lowers them'
)
FILE = "spiece.model"
SPACE = "▁"
# Fields of ModelProto, TrainerSpec, NormalizerSpec and SentencePiece.
PIECES, TRAINER, NORMALIZER = 1, 2, 3
MODEL_TYPE, BYTE_FALLBACK, UNKNOWN_ID, CHARSMAP, EXTRA_SPACES, ESCAPED = 3, 35, 40, 2, 4, 5
PIECE, SCORE, TYPE = 1, 2, 3
UNIGRAM, NORMAL, UNKNOWN, CONTROL, UNUSED = 1, 1, 2, 3, 5
# What is the same text to SigLIP.
SAME = ("A red Cat, at night!", "a red cat at night")

Field = int | bytes


def read_siglip(path: Path, settings: Settings) -> tuple[Part, list[str]]:
    """The tokenizer of a folder, and notes. path: where its tokenizer.json would be; spiece.model next to it counts
    more, as the libraries read no other file.

    Raises ExportError for a file of sentencepiece that is none, or none of SigLIP's, and for a tokenizer.json that
    keeps capitals or punctuation.
    """
    if is_there(path.parent / FILE):
        return _made(path.parent / FILE, settings), [
            f"tokenizer.json was made of {FILE}, which SigLIP's tokenizer reads"
        ]
    definition = read_definition(path)
    tokenizer = parse_tokenizer(sanitize(definition))
    given, meant = (tokenizer.encode(text, add_special_tokens=False).ids for text in SAME)
    if given != meant and settings.flag("do_lower_case", True) is not False:
        raise ExportError(
            f"{path}: it keeps capitals or punctuation, which SigLIP's tokenizer takes away: put the model's {FILE} "
            "next to it"
        )
    return definition, []


def _made(path: Path, settings: Settings) -> Part:
    try:
        fields = _fields(read_regular(path, MAX_BYTES))
        trainer, normalizer = (_fields(_bytes(fields, number, b"")) for number in (TRAINER, NORMALIZER))
        pieces = [_piece(raw) for raw in fields.get(PIECES, []) if isinstance(raw, bytes)]
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is no file of sentencepiece: {error}") from error
    unknown = _number(trainer, UNKNOWN_ID, 0)
    odd = {kind for _, _, kind in pieces} - {NORMAL, UNKNOWN, CONTROL, UNUSED}
    if not pieces or _number(trainer, MODEL_TYPE, UNIGRAM) != UNIGRAM or _number(trainer, BYTE_FALLBACK, 0) or odd:
        raise ExportError(f"{path} is no unigram model without bytes and words of its own, as SigLIP's is")
    if not _number(normalizer, EXTRA_SPACES, 1) or not _number(normalizer, ESCAPED, 1):
        raise ExportError(f"{path} keeps spaces that SigLIP's takes away")
    ids = {piece: number for number, (piece, _, _) in enumerate(pieces)}
    end = settings.token("eos_token", "</s>") or "</s>"
    if end not in ids or not 0 <= unknown < len(pieces):
        raise ExportError(f"{path} lacks the token {end!r:.40}, which stands behind every text (eos_token), or <unk>")
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = sorted({ids[end], unknown, *(i for i, (_, _, kind) in enumerate(pieces) if kind == CONTROL)})
    made: Part = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i][0], **plain, "special": True} for i in special],
        "normalizer": {"type": "Sequence", "normalizers": list(_steps(_bytes(normalizer, CHARSMAP, b"")))},
        "pre_tokenizer": None,
        "post_processor": template([], [(end, ids[end])]),
        "decoder": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": unknown, "byte_fallback": False,
                  "vocab": [[piece, score] for piece, score, _ in pieces]},
    }  # fmt: skip
    return lowered(made, as_python=True) if settings.flag("do_lower_case", True) else made


def _steps(charsmap: bytes) -> Iterator[Part]:
    """What is done to a text, in the order of SiglipTokenizer.tokenize and then of sentencepiece."""
    spaces = "".join(f"\\x{{{ord(sign):X}}}" for sign in SPACES)
    punctuation = "".join(f"\\x{{{ord(sign):X}}}" for sign in string.punctuation)
    yield {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    yield {"type": "Prepend", "prepend": SPACE}
    yield {"type": "Replace", "pattern": {"Regex": f"[{punctuation}]+"}, "content": ""}
    yield {"type": "Replace", "pattern": {"Regex": f"[{spaces}]+"}, "content": " "}
    yield {"type": "Replace", "pattern": {"Regex": r" \z"}, "content": ""}
    if charsmap:
        yield {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
    yield {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    yield {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    yield {"type": "Replace", "pattern": {"Regex": f"{SPACE}+\\z"}, "content": ""}


def _piece(raw: bytes) -> tuple[str, float, int]:
    """A piece, its score, and its type."""
    fields = _fields(raw)
    (score,) = struct.unpack("<f", _bytes(fields, SCORE, bytes(4)))
    return _bytes(fields, PIECE, b"").decode(), score, _number(fields, TYPE, NORMAL)


def _bytes(fields: dict[int, list[Field]], number: int, usual: bytes) -> bytes:
    found = fields.get(number, [usual])[-1]
    if not isinstance(found, bytes):
        raise ValueError(f"field {number} is a number")
    return found


def _number(fields: dict[int, list[Field]], number: int, usual: int) -> int:
    found = fields.get(number, [usual])[-1]
    if not isinstance(found, int):
        raise ValueError(f"field {number} is no number")
    return found


def _fields(raw: bytes) -> dict[int, list[Field]]:
    """The fields of a protobuf message by number: numbers, and the bytes of all else."""
    found: dict[int, list[Field]] = {}
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        value: Field
        if key & 7 == 0:
            value, at = _varint(raw, at)
        else:
            length, at = _varint(raw, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7] if key & 7 in (1, 5) else -1, at)
            if not 0 <= length <= len(raw) - at:
                raise ValueError(f"a field of {length} bytes at {at}")
            value, at = raw[at : at + length], at + length
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next begins."""
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at {at}")
