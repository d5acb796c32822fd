"""What goes into an index and what comes out."""

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.checks import check_text, shown
from edge_embed_runtime.errors import DocumentError, DuplicateKeyError, InputError, MediaError, MemoryBudgetError

if TYPE_CHECKING:
    from edge_embed_runtime.storage.media import Given, Kind
    from edge_embed_runtime.system.headroom import Room

MAX_KEY_CHARACTERS = 2048
MAX_NESTING = 64
# Places of a document, and characters of a label.
MAX_PLACES = 100_000
MAX_LABEL_CHARACTERS = 512
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What most values are: asked for first, since asking for Mapping is slow.
SCALARS = (str, int, float, type(None))

# Where something begins in a document: the character, and a label such as "page 3" or "Chapter 1 > Heading".
Place = tuple[int, str]


@dataclass(frozen=True)
class Document:
    """A text under a key that is unique in the index, with metadata that JSON can hold.

    places: where pages, chapters or headings begin in the text, (start in characters, label), sorted by start: a hit
            says in which of them its passage begins. A start is at most the length of the text, a label one line of 1
            to 512 characters; of places with the same start the last one counts
    image:  a picture: a path, bytes, a PIL image or a uint8 array [height, width, 3]; or a Media, which `Index.get`
            gives. The text, which may be empty then, is its caption
    audio:  likewise a sound: a path, bytes or (samples, rate), where samples are float [n] or [n, channels]
    time:   when the picture or sound was taken, in ISO 8601
    """

    key: str
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    places: Sequence[Place] = ()
    image: Any = None
    audio: Any = None
    time: str | None = None


@dataclass(frozen=True)
class Hit:
    """A document found, and the passage of it that fits best.

    score:      larger is better. Mode "vector": cosine; "text": BM25; "hybrid": both, each as its distance from the
                mean in standard deviations, added up. With a reranker: its score
    text:       the passage: document.text[start:end], all of it for a short document
    start, end: where the passage lies in the document, in characters
    place:      label of the last of the document's places that starts at or before the first character of the passage
                that is not blank; None where there is none
    kind:       what the document is: "text", "image" or "audio". Where its picture or sound was found, text is the
                beginning of its caption
    source:     path of the picture or sound; "" for a text, and for one that was not given as a path
    """

    key: str
    score: float
    text: str
    metadata: dict[str, Any]
    start: int
    end: int
    place: str | None = None
    kind: "Kind" = "text"
    source: str = ""


class Hits(list[Hit]):
    """Hits, best first. `shortfall` says why there are fewer than asked for, or is None."""

    def __init__(self, hits: Iterable[Hit] = (), shortfall: str | None = None) -> None:
        super().__init__(hits)
        self.shortfall = shortfall


# Takes a document that is left out because its picture or sound cannot be read, and why.
Refused = Callable[[Document, MediaError], None]


@dataclass(frozen=True)
class Record:
    """A checked document as it is stored: metadata as JSON."""

    key: str
    text: str
    metadata: str
    places: tuple[Place, ...] = ()
    media: "Given | None" = None


def check_documents(
    documents: Iterable[Document],
    *,
    blank: bool = False,
    room: "Room | None" = None,
    refused: "Refused | None" = None,
) -> list[Record]:
    """Every document checked, before anything is embedded or stored.

    blank:   texts may be empty
    room:    what there is for them; raises MemoryBudgetError where it is too small
    refused: takes those whose picture or sound cannot be read, which are left out; None raises the error
    """
    if isinstance(documents, Document | str | bytes | Mapping) or not isinstance(documents, Iterable):
        raise InputError(
            f"expected a list of Documents, got {type(documents).__name__}: write [document]", option="documents"
        )
    records: dict[str, Record] = {}
    given = 0
    for i, document in enumerate(documents):
        if room is not None:
            given += _check_size(document, f"document {i}", room, given)
        try:
            record = check_document(document, f"document {i}", blank=blank)
        except MediaError as error:
            if refused is None:
                raise
            refused(document, error)
            continue
        if record.key in records:
            raise DuplicateKeyError(
                f"document {i}: the key {shown(record.key)} comes twice in one call; nothing was stored",
                keys=[record.key],
            )
        records[record.key] = record
    return list(records.values())


def _check_size(document: object, place: str, room: "Room", before: int) -> int:
    """Bytes of a document, which fit in a room together with those before it. Raises MemoryBudgetError."""
    if not isinstance(document, Document):
        return 0
    size, longest = document_bytes(document), room.longest_value(stored=True)
    if size > longest:
        raise MemoryBudgetError(
            f"{place}, {document.key!r:.80}, has {size:,} bytes of text and metadata; max_rss_mb leaves room for "
            f"{longest:,}. Nothing was stored",
            keys=[document.key],
        )
    with room.for_storing(before + size):
        return size


def document_bytes(document: Document) -> int:
    """The most that a document's text and metadata take, as Python holds them or in UTF-8."""
    size = 64 + _value_bytes(document.text) + _value_bytes(document.metadata) + _value_bytes(document.places)
    given = document.audio if document.image is None else document.image
    return size if given is None else size + _value_bytes(getattr(given, "content", given))


def _value_bytes(value: object) -> int:
    size, pending = 0, [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, str):
            size += 16 + len(inner) * (1 if inner.isascii() else 4)
        elif isinstance(inner, Mapping):
            pending += [*inner.keys(), *inner.values()]
        elif isinstance(inner, list | tuple):
            pending += inner
        elif isinstance(inner, bytes):
            size += len(inner)
        size += 32
    return size


def check_key(key: object, what: str = "key") -> str:
    text = _text(key, what)
    if not text or len(text) > MAX_KEY_CHARACTERS or "\x00" in text:
        raise DocumentError(
            f"{what} {shown(text)} cannot be used: expected 1 to {MAX_KEY_CHARACTERS} characters without NUL",
            keys=[text],
        )
    return text


def _text(value: object, what: str) -> str:
    try:
        return check_text(value, what)
    except InputError as error:
        raise DocumentError(str(error)) from None


def check_document(document: object, place: str, *, blank: bool = False) -> Record:
    """One document checked; `place` names it in the error until its key is known."""
    if not isinstance(document, Document):
        raise DocumentError(f"{place} is {type(document).__name__}, expected Document(key=..., text=...)")
    key = check_key(document.key, f"{place}: key")
    where = f"document {shown(key)}"
    try:
        text = _text(document.text, f"{where}: text")
        media = _check_media(document, where)
        if media is None and not blank and (not text or text.isspace()):
            raise DocumentError(f"{where} has no text: leave it out, or give it some", keys=[key])
        metadata = metadata_json(document.metadata, where)
        places = _check_places(document.places, len(text), where) if document.places else ()
        return Record(key, text, metadata, places, media)
    except (DocumentError, MediaError) as error:
        error.keys = (key,)
        raise


def _check_media(document: Document, where: str) -> "Given | None":
    if document.image is None and document.audio is None and document.time is None:
        return None
    from edge_embed_runtime.storage.media import check_media  # most indexes have none

    return check_media(document.image, document.audio, document.time, where)


def metadata_json(metadata: object, where: str) -> str:
    """Metadata as they are stored. Raises DocumentError that says of what they are, for what JSON cannot hold."""
    if not isinstance(metadata, Mapping):
        raise DocumentError(f"{where}: metadata is {type(metadata).__name__}, expected a dict")
    try:
        _check_names(metadata, where, MAX_NESTING)
        encoded = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        check_text(encoded, "it")
    except DocumentError:
        raise
    except (TypeError, ValueError, RecursionError) as error:  # an InputError is a ValueError
        raise DocumentError(f"{where}: metadata cannot be stored as JSON: {error}") from error
    return encoded


def _check_names(value: object, where: str, depth: int) -> None:
    """Field names, nested ones too: json.dumps would turn other keys into text without a word."""
    if isinstance(value, SCALARS):
        return
    if depth == 0:
        raise DocumentError(f"{where}: metadata is nested more than {MAX_NESTING} deep")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or "\x00" in name:
                raise DocumentError(f"{where}: metadata field {shown(name)} is not a name: expected str without NUL")
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            _check_names(inner, where, depth - 1)


def _check_places(places: object, length: int, where: str) -> tuple[Place, ...]:
    """Places of a text of so many characters. Raises DocumentError."""
    if not isinstance(places, list | tuple):
        raise DocumentError(f"{where}: places is {type(places).__name__}, expected a list of (start, label)")
    if len(places) > MAX_PLACES:
        raise DocumentError(f"{where} has {len(places):,} places, expected at most {MAX_PLACES:,}")
    found: list[Place] = []
    for number, place in enumerate(places):
        what = f"{where}: place {number}"
        if not isinstance(place, list | tuple) or len(place) != 2:
            raise DocumentError(f"{what} is {shown(place)}, expected (start, label)")
        start, least = _start(place[0]), found[-1][0] if found else 0
        if start is None or not least <= start <= length:
            raise DocumentError(
                f"{what} starts at {shown(place[0])}, expected a whole number from {least} to {length}: places are "
                "sorted, and lie in the text"
            )
        label = _text(place[1], f"{what}: label")
        if not label.strip() or len(label) > MAX_LABEL_CHARACTERS or CONTROL.search(label):
            raise DocumentError(
                f"{what}: label {shown(label)} cannot be used: expected one line of 1 to {MAX_LABEL_CHARACTERS} "
                "characters"
            )
        found.append((start, label))
    return tuple(found)


def _start(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
