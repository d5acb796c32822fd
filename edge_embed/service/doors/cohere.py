"""Cohere's API, version 2: https://docs.cohere.com/v2/reference/rerank and .../embed."""

import asyncio
import uuid
from functools import partial
from typing import Any

from starlette.responses import Response

from edge_embed.schemas import ANYTHING, COUNT, TEXT, TEXTS, VECTORS, Schema, check, fields, or_null
from edge_embed.service.answers import vectors_response
from edge_embed.service.doors.embedding import (
    DIMENSIONS,
    MODEL,
    RERANKER,
    Cut,
    Names,
    base64_rows,
    embed,
    embed_images,
)
from edge_embed.service.doors.reranking import first_tokens, rerank
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.media import FILE, decoded
from edge_embed.service.refusals import Problem

ERROR: Schema = fields({"id": TEXT, "message": TEXT})
# Which request is answered first: here all are alike.
PRIORITY: Schema = or_null({"type": "integer", "minimum": 0, "maximum": 999})
SOME_TEXTS: Schema = {**TEXTS, "minItems": 1}
TAKES: Schema = fields(
    {"model": RERANKER, "query": TEXT, "documents": SOME_TEXTS},
    {
        "top_n": or_null({"type": "integer", "minimum": 1}),
        "max_tokens_per_doc": or_null({"type": "integer", "minimum": 1}),
        # of the first release of version 2; clients still send it
        "return_documents": or_null({"type": "boolean"}),
        "priority": PRIORITY,
    },
)
META: dict[str, Schema] = {"id": TEXT, "meta": ANYTHING}
RANKED: Schema = fields({"index": COUNT, "relevance_score": {"type": "number"}}, {"document": fields({"text": TEXT})})
GIVES: Schema = fields({"results": {"type": "array", "items": RANKED}, **META})
INPUT_TYPES: dict[str, str] = {
    "search_document": "document",
    "search_query": "query",
    "classification": "classification",
    "clustering": "clustering",
}
CUTS: dict[str, Cut] = {"NONE": "none", "START": "start", "END": "end"}
OPTIONS: dict[str, Schema] = {
    "embedding_types": or_null(
        {"type": "array", "items": {"type": "string", "enum": ["float", "base64"]}, "minItems": 1}
    ),
    "output_dimension": DIMENSIONS,
    "truncate": or_null({"type": "string", "enum": list(CUTS)}, default="END"),
    "priority": PRIORITY,
}
TAKES_TEXTS: Schema = fields(
    {
        "model": MODEL,
        "input_type": {"type": "string", "enum": list(INPUT_TYPES), "format": "cohere_input_type"},
        "texts": SOME_TEXTS,
    },
    OPTIONS,
)
TAKES_IMAGES: Schema = fields(
    {
        "model": MODEL,
        "input_type": {"type": "string", "enum": ["image"]},
        "images": {"type": "array", "items": FILE, "minItems": 1},
    },
    OPTIONS,
)
TAKES_INPUTS: Schema = {"anyOf": [TAKES_TEXTS, TAKES_IMAGES]}
GIVES_VECTORS: Schema = fields(
    {
        "embeddings": fields({}, {"float": VECTORS, "base64": TEXTS}),
        "texts": TEXTS,
        "response_type": {"type": "string", "enum": ["embeddings_by_type"]},
        **META,
    },
    {"images": {"type": "array", "items": fields({"width": COUNT, "height": COUNT, "format": TEXT})}},
)
NAMES = Names("texts", "input_type", "output_dimension", 'send shorter texts, or {"truncate": "END"}')


def errors(problem: Problem) -> dict[str, Any]:
    return {"id": _id(), "message": problem.message}


async def rank_documents(call: Call) -> Response:
    body = check(call.json(), TAKES)
    given = documents = body["documents"]
    most = body.get("max_tokens_per_doc")
    if most is not None:
        documents = await first_tokens(call.service, documents, most, body["model"])
    scores = await rerank(call.service, body["query"], documents, model=body["model"])
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[: body.get("top_n")]
    results: list[dict[str, Any]] = [{"index": i, "relevance_score": scores[i]} for i in best]
    if body.get("return_documents"):
        results = [{**result, "document": {"text": given[result["index"]]}} for result in results]
    return json_response({"results": results, **_meta()})


async def embed_inputs(call: Call) -> Response:
    """Texts, or with `input_type` "image" pictures in base64."""
    body = check(call.json(), TAKES_INPUTS)
    if "images" in body:
        images = [decoded(one, f"images[{i}]") for i, one in enumerate(body["images"])]
        vectors = await embed_images(call.service, images, NAMES, model=body["model"], dim=body.get("output_dimension"))
        said = {"texts": [], "images": await asyncio.to_thread(lambda: [_size(one) for one in images])}
    else:
        found = await embed(
            call.service,
            body["texts"],
            NAMES,
            model=body["model"],
            role=INPUT_TYPES[body["input_type"]],
            dim=body.get("output_dimension"),
            cut=CUTS[body["truncate"] or "END"],
        )
        vectors, said = found.vectors, {"texts": body["texts"]}
    kinds = body.get("embedding_types") or ["float"]
    every = {kind: vectors if kind == "float" else base64_rows(vectors) for kind in dict.fromkeys(kinds)}
    answer = {"embeddings": every, **said, "response_type": "embeddings_by_type", **_meta()}
    return await vectors_response(call, answer, vectors.size)


def _size(image: bytes) -> dict[str, Any]:
    from edge_embed_runtime.inputs.imagefacts import describe_image

    facts = describe_image(image).metadata
    return {"width": facts["width"], "height": facts["height"], "format": str(facts.get("format", "")).lower()}


def _id() -> str:
    return str(uuid.uuid4())


def _meta() -> dict[str, Any]:
    return {"id": _id(), "meta": {"api_version": {"version": "2"}}}


door = partial(Endpoint, errors=errors, error=ERROR, tag="Cohere")
ROUTES = [
    door("POST", "/v2/rerank", rank_documents, body="json", summary="Documents by how well they answer a query",
         takes=TAKES, gives=GIVES),
    door("POST", "/v2/embed", embed_inputs, body="json", summary="Texts or pictures to vectors", takes=TAKES_INPUTS,
         gives=GIVES_VECTORS),
]  # fmt: skip
