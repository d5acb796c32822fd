"""Routes of the index: what it holds, search, find, documents, files, delete."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from edge_embed.files.formats.filetypes import modality_of
from edge_embed.schemas import ANYTHING, COUNT, TEXT, TEXTS, Schema, check, fields, or_null
from edge_embed.service.endpoints import Call, Endpoint, json_response, parsed
from edge_embed.service.media import FILE, decoded
from edge_embed.service.refusals import Refusal
from edge_embed.service.summary import describe
from edge_embed.service.uploads import file_name, store_file
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.search.reranking import DEPTH
from edge_embed_runtime.storage.documents import Document, Hit
from edge_embed_runtime.system.memory import rss_bytes

if TYPE_CHECKING:
    from edge_embed.service.service import Service
    from edge_embed_runtime.index.index import Index

MAX_DOCUMENTS = 1000
MAX_FOUND = 1000
MAX_KEYS = 10_000
# Characters of one text that `find` gives, and of all texts of an answer: it ends with the document that passes them.
MAX_TEXT = 1_000_000
MAX_TEXTS = 4_000_000

NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
CHOICE: Schema = {"type": "string", "enum": ["true", "false"], "default": "true"}
WHERE: Schema = or_null(ANYTHING, default=None)
# Keys that searches start from, or keep away from.
SOME_KEYS: Schema = {**TEXTS, "maxItems": 100, "default": []}
KINDS = ["text", "image", "audio"]
KIND: Schema = {"type": "string", "enum": KINDS}
MODES = ["hybrid", "vector", "text", "sparse", "multi"]
COST: dict[str, Schema] = {"seconds": NUMBER, "memory_bytes": or_null(COUNT)}
PLACED: dict[str, Schema] = {"key": TEXT, "text": TEXT, "metadata": ANYTHING, "start": COUNT, "end": COUNT}

SEARCH = fields(
    {},
    {
        "query": or_null(TEXT, default=None),
        "k": {"type": "integer", "minimum": 1, "default": 10},
        "where": WHERE,
        "mode": or_null({"type": "string", "enum": MODES}, default=None),
        "rerank": {**FLAG, "default": False},
        "like": SOME_KEYS,
        "unlike": SOME_KEYS,
        "mmr": or_null({**NUMBER, "minimum": 0, "maximum": 1}, default=None),
        "marks": {**FLAG, "default": False},
        "image": or_null(FILE, default=None),
        "audio": or_null(FILE, default=None),
        "kind": or_null(KIND, default=None),
    },
)
SPAN: Schema = {"type": "array", "items": COUNT, "minItems": 2, "maxItems": 2}
HIT = fields(
    {**PLACED, "score": NUMBER, "place": or_null(TEXT), "kind": TEXT, "source": TEXT},
    {"marks": {"type": "array", "items": SPAN}},
)
FOUND = fields({"hits": {"type": "array", "items": HIT}, "shortfall": or_null(TEXT), "damaged": COUNT, **COST})
FIND = fields(
    {},
    {
        "where": WHERE,
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_FOUND, "default": 10},
        "offset": {**COUNT, "maximum": 2**53, "default": 0},
        "start": {**COUNT, "maximum": 2**53, "default": 0},
        "end": or_null({**COUNT, "maximum": 2**53}, default=None),
    },
)
LISTED = fields({
    "documents": {"type": "array", "items": fields({**PLACED, "characters": COUNT, "kind": KIND})},
    "total": COUNT, "next": or_null(COUNT), **COST,
})  # fmt: skip
DOCUMENT = fields({"key": TEXT, "text": TEXT}, {"metadata": {**ANYTHING, "default": {}}})
DOCUMENTS = fields({"documents": {"type": "array", "items": DOCUMENT, "maxItems": MAX_DOCUMENTS}})
STORED = fields({"stored": COUNT, "unchanged": COUNT, "documents": COUNT})
PROBLEM = fields({"line": or_null(COUNT), "reason": TEXT})
UPLOADED = fields({
    "key": TEXT, "stored": COUNT, "unchanged": COUNT, "deleted": COUNT, "documents": COUNT,
    "notes": TEXTS, "problems": {"type": "array", "items": PROBLEM}, "problems_left_out": COUNT,
})  # fmt: skip
DELETE = fields({}, {"keys": {**TEXTS, "maxItems": MAX_KEYS}, "where": ANYTHING})
DELETED = fields({"deleted": COUNT, "documents": COUNT})


async def about(call: Call) -> Response:
    """`fields=false` leaves out what takes long in a large index."""
    fields = check(call.request.query_params.get("fields", "true"), CHOICE, "fields")
    return json_response(await describe(call.service, fields=fields == "true"))


async def search(call: Call) -> Response:
    """`marks` asks for the places of the query's words in each passage, `rerank` for the order that a reranker gives
    the best DEPTH hits; `score` is then its score. `image` and `audio` are files in base64."""
    body = check(call.json(), SEARCH)
    media = {name: decoded(body[name], name) for name in ("image", "audio") if body[name] is not None}
    return json_response(await _found(call.service, body, media))


async def search_by_file(call: Call) -> Response:
    """By the picture or sound in the body, whose name is in the address; `ask` is the rest of a search, in JSON."""
    given, limits = call.request.query_params, call.service.limits
    name = file_name(given.get("name", ""))
    modality = modality_of(name)
    if modality not in ("image", "audio"):
        raise Refusal(400, "invalid_input", f"{name} is named neither like a picture nor like a sound")
    if len(asked := given.get("ask", "{}")) > limits.body_bytes:
        raise Refusal(413, "body_too_large", f"ask is larger than {limits.body_bytes:,} bytes")
    body = check(parsed(asked.encode("utf-8", "replace"), "ask"), SEARCH)
    if any(body[one] is not None for one in ("image", "audio")):
        raise Refusal(400, "invalid_input", "ask has a picture or a sound, and the body is one, too")
    if not call.body:
        raise Refusal(400, "invalid_input", f"{name} is empty")
    return json_response(await _found(call.service, body, {modality: call.body}))


async def _found(service: "Service", body: Mapping[str, Any], media: Mapping[str, bytes]) -> dict[str, Any]:
    started, query, k = time.perf_counter(), body["query"], body["k"]
    if body["rerank"]:
        _check_rerank(service, body)
    given: dict[str, Any] = {name: body[name] for name in ("where", "mode", "mmr", "kind") if body[name] is not None}
    given |= {name: body[name] for name in ("like", "unlike") if body[name]}
    wanted = max(k, min(DEPTH, service.limits.hits)) if body["rerank"] else k
    hits: Sequence[Hit] = (found := await service.search(query, wanted, **given, **media))
    if body["rerank"]:
        hits = (await _reranked(service, query, hits))[:k]
    shown = [{**vars(hit), "source": _source(hit)} for hit in hits]
    if body["marks"] and query is not None:
        texts = [hit.text for hit in hits]
        for hit, spans in zip(shown, await service.read(lambda index: index.marks(query, texts)), strict=True):
            hit["marks"] = spans
    damaged = await service.read(lambda index: len(index.damaged))
    shortfall = found.shortfall if len(hits) < k else None
    return {"hits": shown, "shortfall": shortfall, "damaged": damaged, **_cost(started)}


def _source(hit: Hit) -> str:
    """The name of the file of a picture or sound: not where it lies on this machine."""
    return Path(hit.source).name


async def thumbnail(call: Call) -> Response:
    """The small copy of a picture; 404 for a document without one."""
    key = call.request.query_params.get("key", "")
    content = await call.service.read(lambda index: index.thumbnail(key))
    if content is None:
        raise Refusal(404, "no_thumbnail", "there is no document of this key, or no thumbnail of it")
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # a picture of the same key may be another one the next time: asked for each time, and answered by 304
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Content-Security-Policy": "default-src 'none'"}
    if tag in call.request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/webp", headers=headers)


def _check_rerank(service: "Service", body: Mapping[str, Any]) -> None:
    """As `Index.search(rerank=...)` checks it. Raises Refusal where there is no reranker, InputError for what it cannot
    order."""
    service.reranker().check_ranks()
    if body["query"] is None:
        raise InputError("rerank compares texts with a query: give one", option="rerank")
    if body["mmr"] is not None:
        raise InputError("mmr and rerank each give an order of their own: choose one", option="mmr")


async def _reranked(service: "Service", query: str, hits: Sequence[Hit]) -> list[Hit]:
    """Best first, with the reranker's scores."""
    scores = await service.rerank(query, [hit.text for hit in hits])
    order = sorted(range(len(hits)), key=lambda place: -scores[place])
    return [replace(hits[place], score=float(scores[place])) for place in order]


async def find(call: Call) -> Response:
    """Documents in the order of their keys; `start` and `end` cut each text."""
    body = check(call.json(), FIND)
    started = time.perf_counter()
    most = body["start"] + MAX_TEXT
    end = most if body["end"] is None else min(most, body["end"])
    found = await call.service.read(partial(_find, body, end))
    return json_response({**found, **_cost(started)})


def _kind(document: Document) -> str:
    return next((name for name in ("image", "audio") if getattr(document, name) is not None), "text")


def _find(body: Mapping[str, Any], end: int, index: "Index") -> dict[str, Any]:
    where, offset, start = body["where"], body["offset"], body["start"]
    documents, characters = [], 0
    for document in index.find(where, limit=body["limit"], offset=offset):
        text = document.text[start:end]
        places = {"start": min(start, len(document.text)), "end": min(end, len(document.text))}
        documents.append({
            "key": document.key, "text": text, "metadata": document.metadata, **places,
            "characters": len(document.text), "kind": _kind(document),
        })  # fmt: skip
        characters += len(text)
        if characters > MAX_TEXTS:
            break
    total, reached = index.count(where), offset + len(documents)
    return {"documents": documents, "total": total, "next": reached if documents and reached < total else None}


async def add(call: Call) -> Response:
    """Documents, in place of those with the same keys: all of them or none."""
    given = check(call.json(), DOCUMENTS)["documents"]
    documents = [Document(entry["key"], entry["text"], entry["metadata"]) for entry in given]
    stored, total = await call.service.write(lambda index: (index.upsert(documents), len(index)))
    return json_response({"stored": stored, "unchanged": len(documents) - stored, "documents": total})


async def add_file(call: Call) -> Response:
    """The documents of a file, whose name is in the address and whose bytes are the body."""
    name = file_name(call.request.query_params.get("name", ""))
    return json_response(asdict(await store_file(call.service, name, call.body)))


async def delete(call: Call) -> Response:
    body = check(call.json(), DELETE)
    if len(body) != 1:
        raise Refusal(400, "invalid_input", "give keys or where, one of them")
    deleted, total = await call.service.write(lambda index: (index.delete(**body), len(index)))
    return json_response({"deleted": deleted, "documents": total})


def _cost(started: float) -> dict[str, Any]:
    return {"seconds": round(time.perf_counter() - started, 6), "memory_bytes": rss_bytes()}


_endpoint = partial(Endpoint, tag="index")
ROUTES = [
    _endpoint("GET", "/index", about, summary="What the index holds", query={"fields": CHOICE}, gives=ANYTHING),
    _endpoint("POST", "/index/search", search, body="json", summary="Search", takes=SEARCH, gives=FOUND),
    _endpoint(
        "POST", "/index/search/file", search_by_file, body="raw", summary="Search by a picture or a sound",
        query={"name": TEXT, "ask": {**TEXT, "default": "{}"}}, gives=FOUND,
    ),
    _endpoint(
        "GET", "/index/thumbnail", thumbnail, summary="The small copy of a picture, as WebP", query={"key": TEXT},
        kind="image/webp",
    ),
    _endpoint("POST", "/index/find", find, body="json", summary="Documents by fields", takes=FIND, gives=LISTED),
    _endpoint(
        "POST", "/index/documents", add, writes=True, body="json",
        summary="Add or replace documents", takes=DOCUMENTS, gives=STORED,
    ),
    _endpoint(
        "POST", "/index/files", add_file, writes=True, body="raw",
        summary="Add a file", query={"name": TEXT}, gives=UPLOADED,
    ),
    _endpoint(
        "POST", "/index/delete", delete, writes=True, body="json",
        summary="Delete documents by key or fields", takes=DELETE, gives=DELETED,
    ),
]  # fmt: skip
