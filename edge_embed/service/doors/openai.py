"""OpenAI's API for embeddings: https://platform.openai.com/docs/api-reference/embeddings.

Of our own are `input_type`, whose prompt is put before each text, and `truncate`, without which a text that is longer
than the model reads is an error, as it is there.
"""

from functools import partial
from typing import Any

import numpy as np
from starlette.responses import Response

from edge_embed.schemas import COUNT, TEXT, VECTOR, Schema, check, fields, or_null
from edge_embed.service.answers import vectors_response
from edge_embed.service.doors.embedding import (
    DIMENSIONS,
    MODEL,
    ONE_OR_MORE,
    Embedded,
    Names,
    base64_rows,
    embed,
    embed_images,
    refuse_token_ids,
    text_list,
)  # fmt: skip
from edge_embed.service.doors.models import Served, served
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.media import FILE, decoded
from edge_embed.service.refusals import Problem, Refusal
from edge_embed_runtime.checks import shown

ERROR: Schema = fields(
    {
        "error": fields(
            {"message": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}
        )
    }
)
# Texts and pictures in one request, as Jina's API takes them: {"text": "a cat"}, {"image": "iVBORw0..."}.
MIXED: Schema = {
    "type": "array", "items": {"anyOf": [fields({"text": TEXT}), fields({"image": FILE})]}, "minItems": 1,
}  # fmt: skip
OPTIONS: dict[str, Schema] = {
    "encoding_format": or_null({"type": "string", "enum": ["float", "base64"]}, default="float"),
    "dimensions": DIMENSIONS,
    "user": or_null(TEXT),
    "input_type": or_null({"type": "string", "format": "input_type"}),
    "truncate": or_null({"type": "boolean"}, default=False),
}
TAKES: Schema = fields({"input": ONE_OR_MORE, "model": MODEL}, OPTIONS)
TAKES_MIXED: Schema = fields({"input": MIXED, "model": MODEL}, OPTIONS)
TAKES_ANY: Schema = fields({"input": {"anyOf": [*ONE_OR_MORE["anyOf"], MIXED]}, "model": MODEL}, OPTIONS)
GIVES: Schema = fields(
    {
        "object": {"type": "string", "enum": ["list"]},
        "data": {
            "type": "array",
            "items": fields(
                {
                    "object": {"type": "string", "enum": ["embedding"]},
                    "index": COUNT,
                    "embedding": {"anyOf": [VECTOR, TEXT]},
                }
            ),
        },
        "model": TEXT,
        "usage": fields({"prompt_tokens": COUNT, "total_tokens": COUNT}),
    }
)
A_MODEL: Schema = fields(
    {"id": TEXT, "object": {"type": "string", "enum": ["model"]}, "created": COUNT, "owned_by": TEXT}
)
MODELS: Schema = fields({"object": {"type": "string", "enum": ["list"]}, "data": {"type": "array", "items": A_MODEL}})
NAMES = Names(
    "input", "input_type", "dimensions", 'send shorter texts, or {"truncate": true} to leave out what is too much'
)
# Other names of roles: NVIDIA's clients call a document so.
ALIASES = {"passage": "document"}
# What OpenAI says with a status, in place of our code: type and code.
KINDS: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", None),
}


def errors(problem: Problem) -> dict[str, Any]:
    kind, code = KINDS.get(problem.status, ("invalid_request_error", problem.code))
    param = problem.more.get("option")
    return {"error": {"message": problem.message, "type": kind, "param": param, "code": code}}


async def embeddings(call: Call) -> Response:
    given = call.json()
    entries = given.get("input")
    refuse_token_ids(entries, "input")
    if isinstance(entries, list) and any(isinstance(entry, dict) for entry in entries):
        body = check(given, TAKES_MIXED)
        found = await _embed_mixed(call, body)
    else:
        body = check(given, TAKES)
        found = await _embed_texts(call, text_list(body["input"]), body)
    rows: Any = base64_rows(found.vectors) if body["encoding_format"] == "base64" else found.vectors
    return await vectors_response(
        call,
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
            "model": body["model"],
            "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
        },
        found.vectors.size,
    )


async def _embed_texts(call: Call, texts: list[str], body: dict[str, Any]) -> Embedded:
    role: str | None = body.get("input_type")
    return await embed(
        call.service,
        texts,
        NAMES,
        model=body["model"],
        role=None if role is None else ALIASES.get(role, role),
        dim=body.get("dimensions"),
        cut="end" if body["truncate"] else "none",
    )


async def _embed_mixed(call: Call, body: dict[str, Any]) -> Embedded:
    """Texts and pictures, each at its place."""
    entries, dim = body["input"], body.get("dimensions")
    texts = {i: entry["text"] for i, entry in enumerate(entries) if "text" in entry}
    images = {i: decoded(entry["image"], f"input[{i}].image") for i, entry in enumerate(entries) if "image" in entry}
    found = await _embed_texts(call, list(texts.values()), body)
    if not images:
        return found
    shown = await embed_images(call.service, list(images.values()), NAMES, model=body["model"], dim=dim)
    vectors = np.empty((len(entries), shown.shape[1]), np.float32)
    vectors[list(texts)] = found.vectors
    vectors[list(images)] = shown
    return Embedded(vectors, found.tokens)


async def models(call: Call) -> Response:
    return json_response({"object": "list", "data": [_model(model) for model in served(call.service)]})


async def one_model(call: Call) -> Response:
    name = call.request.path_params["model"]
    for model in served(call.service):
        if model.name == name:
            return json_response(_model(model))
    raise Refusal(404, "model_not_found", f"there is no model {shown(name)} here")


def _model(model: Served) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": int(model.changed.timestamp()), "owned_by": "edge-embed"}


door = partial(Endpoint, errors=errors, error=ERROR, tag="OpenAI")
ROUTES = [
    door(
        "POST",
        "/v1/embeddings",
        embeddings,
        body="json",
        summary="Texts or pictures to vectors",
        takes=TAKES_ANY,
        gives=GIVES,
    ),
    door("GET", "/v1/models", models, summary="The models here", gives=MODELS),
    door("GET", "/v1/models/{model:path}", one_model, summary="One model", gives=A_MODEL),
]
