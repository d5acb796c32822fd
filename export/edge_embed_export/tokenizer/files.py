"""The tokenizer of a model folder, with the settings next to tokenizer.json that the reference obeys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed_export.files.formats import missing_tokenizer
from edge_embed_export.files.reading import is_there
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.text import TextModule, limit_of, read_text_module
from edge_embed_export.tokenizer import classes as tokenizerclasses
from edge_embed_export.tokenizer import openclip, siglip
from edge_embed_export.tokenizer import rebuild as tokenizerrebuild
from edge_embed_export.tokenizer.classes import TYPES
from edge_embed_export.tokenizer.definition import read_definition
from edge_embed_export.tokenizer.pairtypes import gives_types
from edge_embed_export.tokenizer.parts import Part
from edge_embed_export.tokenizer.sentencepieces import NAMES, convert
from edge_embed_export.tokenizer.settings import GENERIC_NAMES, Settings, read_settings
from edge_embed_export.tokenizer.vocab import from_vocabulary
from edge_embed_export.tokenizer.whitespace import lowered, lowers, stripped, strips
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, RERANK, Kind

# Tokens of a text where tokenizer_config.json alone allows more: more need gigabytes of attention.
LONGEST = 8192


@dataclass(frozen=True)
class Text:
    """How a model reads a text.

    tokenizer: what goes into the bundle as tokenizer.json, before `sanitize`
    limit:     tokens of a text, special ones among them; None where nothing says
    notes:     what was done that tokenizer.json alone does not say
    module:    the settings of the module that reads texts
    types:     of a model that scores pairs, whether it is given the types of their tokens
    """

    tokenizer: dict[str, Any]
    limit: int | None
    notes: tuple[str, ...]
    module: TextModule = field(default=TextModule(Path()), compare=False)
    types: bool = False


def read_text(
    folder: Path, root: Folder, config: Mapping[str, Any], definition: Path | None = None, kind: Kind = DENSE
) -> Text:
    """The tokenizer of a folder and its limit, as the reference has them.

    root:       the folder of the whole model, where the transformer lies in a folder of its own
    config:     of the model
    definition: a tokenizer.json that is not in the folder; settings lie next to it
    kind:       see `read_text_module`
    """
    module = read_text_module(folder, root, kind)
    home = folder if definition is None else definition.parent
    settings = read_settings(home, config, module.tokenizer, root)
    given = home / "tokenizer.json" if definition is None else definition
    tokenizer, notes = _loaded(given, settings)
    tokenizer, cleaning = openclip.cleaned(tokenizer, config)
    notes += cleaning
    _check(tokenizer, settings)
    if settings.model_type in siglip.MODEL_TYPES and not lowers(tokenizer):
        notes.append(siglip.CAPITALS)
    limit = limit_of(module, settings.values, settings.path)
    if module.limit is None and limit is not None and limit > LONGEST:
        notes.append(
            f"texts may have {limit:,} tokens by {settings.path.name}; {LONGEST:,} unless --max-tokens says more"
        )
        limit = LONGEST
    if module.lower and not lowers(tokenizer):
        tokenizer = lowered(tokenizer, as_python=module.old)
        notes.append(f"texts are lowered, as {module.path.name} says")
    if is_there(root.path / "modules.json") and not strips(tokenizer):
        # lower case was put first above: what is taken off has none
        tokenizer = stripped(tokenizer) if module.old else tokenizer
        notes.append(_white_space(module))
    return Text(tokenizer, limit, tuple(notes), module, kind is RERANK and gives_types(settings, tokenizer))


def _white_space(module: TextModule) -> str:
    if module.old:
        return "white space around a text is taken off, as sentence-transformers does before 5.4"
    named = "" if module.release else "; the folder names no release, and those before take it off"
    return f"white space around a text is kept, as sentence-transformers does from 5.4{named}"


def _loaded(path: Path, settings: Settings) -> tuple[Part, list[str]]:
    """The tokenizer as the release of transformers loads it that wrote the folder, and notes on what that changed."""
    if (settings.declared_class or TYPES.get(settings.model_type)) == siglip.CLASS:
        return siglip.read_siglip(path, settings)
    if is_there(path):
        given = read_definition(path)
        load = tokenizerrebuild.load_as_5 if settings.major == 5 else tokenizerclasses.load_as_4
        loaded = load(given, settings)
        changed = [name for name in ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
                   if loaded.get(name) is not given.get(name)]  # fmt: skip
        release = f"transformers {settings.major}" + ("" if settings.version else ", since the folder names no release")
        return loaded, [
            f"{', '.join(changed)} of tokenizer.json by {settings.path.name}, as in {release}"
        ] if changed else []
    return _made(path, settings)


def _made(path: Path, settings: Settings) -> tuple[Part, list[str]]:
    """The tokenizer of a folder without tokenizer.json."""
    folder = path.parent
    name = settings.declared_class
    if name is None or name in GENERIC_NAMES:
        name = TYPES.get(settings.model_type, name or "")
    tokenizerclasses.own_code(settings)
    made = from_vocabulary(folder, settings, name)
    if made is not None:
        if settings.major == 5:
            return tokenizerrebuild.load_as_5(made, settings, made=True), ["tokenizer.json was made of the vocabulary"]
        return tokenizerclasses.load_as_4(made, settings), ["tokenizer.json was made of the vocabulary"]
    file = next((file for file in NAMES if is_there(folder / file)), None)
    if file is None:
        raise missing_tokenizer(path)
    converted, release = convert(folder, file)
    if release.split(".")[0] != str(settings.major) and settings.version:
        raise ExportError(
            f"{folder / file}: written with transformers {settings.version}, while {release} is installed, "
            f"which may make another tokenizer of it: install transformers {settings.major}, or save the tokenizer "
            "with it (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER))"
        )
    return converted, [f"tokenizer.json was made of {file} by transformers {release}"]


def _check(tokenizer: Part, settings: Settings) -> None:
    """Raise ExportError for settings that no bundle has."""
    side = settings.values.get("truncation_side")
    side = side or str((tokenizer.get("truncation") or {}).get("direction") or "right")
    if str(side).lower() != "right":
        raise ExportError(
            f"{settings.path}: truncation_side {side!r:.20} keeps the end of a long text; a bundle keeps its "
            "beginning. Remove it to have that"
        )
    if settings.flag("fix_mistral_regex", False):
        raise ExportError(
            f"{settings.path}: fix_mistral_regex is not supported; save the tokenizer with the mended pattern"
        )
    template = tokenizer.get("post_processor") or {}
    for piece in template.get("single") or ():
        for part in piece.values() if isinstance(piece, dict) else ():
            if part.get("type_id"):
                raise ExportError(
                    f"{settings.path.parent / 'tokenizer.json'}: the template gives a token the type "
                    f"{part['type_id']}; only type 0 is supported"
                )
