"""What a merged index is, and whether its parts are of one kind."""

from collections.abc import Sequence
from dataclasses import replace

from edge_embed_runtime.checks import listed, shown, unusable
from edge_embed_runtime.errors import BundleMismatchError, InputError
from edge_embed_runtime.inputs.words import NORMAL
from edge_embed_runtime.maintenance.mergeparts import IndexPart, Part
from edge_embed_runtime.storage.schema import MAX_FIELDS, WORDS, Facts, SideModel, check_fields
from edge_embed_runtime.vectors.rotation import NONE


def merged_facts(
    old: IndexPart | None, parts: Sequence[Part], words: str | None, fields: tuple[str, ...] | None
) -> Facts:
    """The facts of the merged index.

    old:           the index that is there already, None where a new one is made
    words, fields: that were asked for, or None

    Raises BundleMismatchError for a part whose vectors are not those of the first, InputError for one that splits texts
    into words in another way, and where something else was asked for than there is.
    """
    every: list[Part] = [*parts] if old is None else [old, *parts]
    for part in every[1:]:
        _check_same(every[0], part)
    of_words = _words(every, words)
    if old is not None:
        if fields is not None and sorted(check_fields(fields)) != sorted(old.facts.fields):
            raise InputError(
                f"{old.path} was made with the fields {listed(old.facts.fields)}; that can't be changed",
                path=old.path,
                option="fields",
            )
        return old.facts
    declared = list(dict.fromkeys(name for part in parts for name in part.facts.fields))
    if fields is None and len(declared) > MAX_FIELDS:
        raise InputError(
            f"the indexes have {len(declared)} fields together, and an index at most {MAX_FIELDS}: choose them with "
            "--field (fields=)",
            option="fields",
        )
    frame = next((part.facts.frame for part in parts if isinstance(part, IndexPart)), NONE)
    chosen = check_fields(declared if fields is None else list(fields))
    return replace(every[0].facts, words=of_words, fields=chosen, frame=frame, normal=NORMAL)


def _words(parts: Sequence[Part], asked: str | None) -> str:
    """How texts are split into words: as in all parts that are indexes, or as was asked for."""
    if asked is not None and asked not in WORDS:
        raise unusable("words", asked, f"one of {', '.join(WORDS)}")
    there = [part for part in parts if part.facts.words]
    words = there[0].facts.words if there else asked or "english"
    for part in there:
        if part.facts.words != words:
            raise InputError(
                f"{part.path} was made with words={part.facts.words!r}, {there[0].path} with {words!r}: their texts "
                "are split into words in different ways, which one index cannot be",
                path=part.path,
                option="words",
            )
    if asked not in (None, words):
        raise InputError(
            f"{there[0].path} was made with words={words!r}; that can't be changed to {asked!r}",
            path=there[0].path,
            option="words",
        )
    return words


def _check_same(first: Part, other: Part) -> None:
    if _identity(first) == _identity(other):
        return
    one, two = (_said(part) for part in (first, other))
    if one == two:
        one, two = (f"{_said(part)} ({part.facts.fingerprint[:8]})" for part in (first, other))
    raise BundleMismatchError(
        f"{other.path} holds {two}, and {first.path} {one}: they cannot be in one index; nothing was written. "
        "`edge-embed reembed` gives an index the vectors of another bundle",
        path=other.path,
        bundle=other.facts.bundle,
    )


def _identity(part: Part) -> tuple[object, ...]:
    facts = part.facts
    side = [(name, model.fingerprint, model.dim) for name, model in facts.attached.items()]
    return facts.fingerprint, facts.dim, facts.space, facts.late, side, part.prompt


def _said(part: Part) -> str:
    """ "vectors of the bundle 'minilm', dim 384", and what else tells them from others."""
    facts = part.facts
    said = f"vectors of the {'space' if facts.space else 'bundle'} {facts.bundle!r}, dim {facts.dim}"
    said += ", with late chunking" if facts.late else ""
    said += "".join(f", with {name} vectors of {_model(model)}" for name, model in facts.attached.items())
    return said + ("" if part.prompt is None else f", made with the prompt {shown(part.prompt)}")


def _model(model: SideModel) -> str:
    return f"{model.name!r} ({model.fingerprint[:8]})"
