"""Routes of the index: what it holds, search, find, documents, files, delete."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.refusals import Refusal
from edge_embed.service.schemas import ANYTHING, COUNT, TEXT, TEXTS, Schema, check, fields, or_null
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
    },
)
SPAN: Schema = {"type": "array", "items": COUNT, "minItems": 2, "maxItems": 2}
HIT = fields({**PLACED, "score": NUMBER, "place": or_null(TEXT)}, {"marks": {"type": "array", "items": SPAN}})
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
    "documents": {"type": "array", "items": fields({**PLACED, "characters": COUNT})},
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
    the best DEPTH hits; `score` is then its score."""
    body = check(call.json(), SEARCH)
    started, service = time.perf_counter(), call.service
    query, k = body["query"], body["k"]
    if body["rerank"]:
        _check_rerank(service, body)
    given = {name: body[name] for name in ("where", "mode", "mmr") if body[name] is not None}
    given |= {name: body[name] for name in ("like", "unlike") if body[name]}
    wanted = max(k, min(DEPTH, service.limits.hits)) if body["rerank"] else k
    hits: Sequence[Hit] = (found := await service.search(query, wanted, **given))
    if body["rerank"]:
        hits = (await _reranked(service, query, hits))[:k]
    shown = [dict(vars(hit)) for hit in hits]
    if body["marks"] and query is not None:
        texts = [hit.text for hit in hits]
        for hit, spans in zip(shown, await service.read(lambda index: index.marks(query, texts)), strict=True):
            hit["marks"] = spans
    damaged = await service.read(lambda index: len(index.damaged))
    shortfall = found.shortfall if len(hits) < k else None
    return json_response({"hits": shown, "shortfall": shortfall, "damaged": damaged, **_cost(started)})


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


def _find(body: Mapping[str, Any], end: int, index: "Index") -> dict[str, Any]:
    where, offset, start = body["where"], body["offset"], body["start"]
    documents, characters = [], 0
    for document in index.find(where, limit=body["limit"], offset=offset):
        text = document.text[start:end]
        places = {"start": min(start, len(document.text)), "end": min(end, len(document.text))}
        documents.append({
            "key": document.key, "text": text, "metadata": document.metadata, **places,
            "characters": len(document.text),
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
