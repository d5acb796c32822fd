"""What the text module of sentence-transformers does to a text before the tokenizer, written into tokenizer.json.

Up to version 5.3 it strips the text, its prompt before it, and lowers it where sentence_bert_config.json says so
(models/Transformer.py, `tokenize`); later ones put a lower-casing normalizer first, and strip nothing. As normalizers
these need nothing new of a device, and places in a text stay what they are.
"""

import json
from typing import Any

import tokenizers

from edge_embed_export.tokenizer.parts import Part, steps

# What Python's str.strip takes off: Unicode's white space and the four separators of ASCII.
SPACES = "".join(
    map(chr, (*range(9, 14), *range(28, 33), 133, 160, 5760, *range(8192, 8203), 8232, 8233, 8239, 8287, 12288))
)
# Those that texts have. Separators and NEL alone are no reason to change a tokenizer.
USUAL_SPACES = "".join(sign for sign in SPACES if not "\x1c" <= sign <= "\x1f" and sign != "\x85")
_CLASS = "".join(f"\\x{{{ord(sign):X}}}" for sign in SPACES)
# Python writes a sigma at the end of a word as ς; a letter next to it, accents between, is what counts.
_FINAL_SIGMA = r"(?<=\p{L})\x{3A3}(?!\p{M}?\p{L})"


def strips(definition: Part) -> bool:
    """Whether a tokenizer makes the same of a text with and without white space around it."""
    if any(_plain(token) and token["content"].strip() != token["content"] for token in _added(definition)):
        return False
    pieces = _pieces(definition)
    around = (f"{sign}{text}{sign}" for sign in USUAL_SPACES for text in ("a b", "a"))
    return (
        all(pieces(text) == pieces(text.strip()) for text in around)
        and all(pieces(2 * sign) == pieces("") for sign in USUAL_SPACES)
    )  # fmt: skip


def lowers(definition: Part) -> bool:
    """Whether a tokenizer makes the same of capitals and small letters."""
    return any(
        step.get("type") == "Lowercase" or (step.get("type") == "BertNormalizer" and step.get("lowercase", True))
        for step in steps(definition.get("normalizer"))
    )


def stripped(definition: Part) -> Part:
    """The tokenizer that strips a text first. A text of white space alone becomes empty, but where a token is that.

    Words that the tokenizer looks for in a text (added tokens that are not special) would be found before: they are
    looked for in what was stripped.
    """
    spaces = [token["content"] for token in _added(definition) if _plain(token) and not token["content"].strip()]
    kept = "|".join("".join(f"\\x{{{ord(sign):X}}}" for sign in content) for content in spaces)
    but = f"(?!(?:{kept})\\z)" if kept else ""
    patterns = (f"\\A{but}[{_CLASS}]+\\z", f"\\A[{_CLASS}]+(?=[^{_CLASS}])", f"(?<=[^{_CLASS}])[{_CLASS}]+\\z")
    first = [{"type": "Replace", "pattern": {"Regex": pattern}, "content": ""} for pattern in patterns]
    return _first(definition, first)


def lowered(definition: Part, *, as_python: bool) -> Part:
    """The tokenizer that lowers a text first. as_python: also a sigma at the end of a word."""
    sigma = {"type": "Replace", "pattern": {"Regex": _FINAL_SIGMA}, "content": "ς"}
    return _first(definition, [sigma, {"type": "Lowercase"}] if as_python else [{"type": "Lowercase"}], lower=as_python)


def _first(definition: Part, first: list[dict[str, Any]], *, lower: bool = False) -> Part:
    """A definition whose normalizer begins with other steps, which added tokens do not come before."""
    normalizer = {"type": "Sequence", "normalizers": [*first, *steps(definition.get("normalizer"))]}
    changed = {**definition, "normalizer": normalizer}
    tokens = [_behind(token, changed, lower=lower) for token in _added(definition)]
    return {**changed, "added_tokens": tokens} if tokens != _added(definition) else changed


def _behind(token: dict[str, Any], definition: Part, *, lower: bool) -> dict[str, Any]:
    """An added token as it is looked for in a normalised text; one that lowering leaves nowhere is special: unseen."""
    if not _plain(token) or token.get("normalized"):
        return token
    if lower and token["content"].lower() != token["content"]:
        return {**token, "special": True}
    same = _tokenizer(definition).normalizer.normalize_str(token["content"]) == token["content"]
    return {**token, "normalized": True} if same else token


def _added(definition: Part) -> list[dict[str, Any]]:
    return list(definition.get("added_tokens") or ())


def _plain(token: dict[str, Any]) -> bool:
    """Whether a token is looked for in texts; special ones are not (see edge_embed_runtime.inputs.tokenizer)."""
    return not token.get("special")


def _tokenizer(definition: Part) -> Any:
    """A tokenizer that normalises and cuts texts as this one, with no vocabulary to read."""
    model = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
    parts = {"version": "1.0", "normalizer": definition.get("normalizer"), "model": model}
    return tokenizers.Tokenizer.from_str(json.dumps({**parts, "pre_tokenizer": definition.get("pre_tokenizer")}))


def _pieces(definition: Part) -> Any:
    """A function from a text to the words that the model sees."""
    tokenizer = _tokenizer(definition)

    def pieces(text: str) -> list[str]:
        text = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
        words = (
            [text]
            if tokenizer.pre_tokenizer is None
            else [w for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        )
        return [word for word in words if word]

    return pieces
