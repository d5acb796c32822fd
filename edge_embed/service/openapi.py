"""`GET /openapi.json`: what the routes take and give, as OpenAPI 3.1, from what they themselves declare."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from starlette.responses import Response

import edge_embed
from edge_embed.schemas import ANYTHING, TEXT, Schema
from edge_embed.service.doors import cohere, openai
from edge_embed.service.doors.embedding import dims
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.media import FILE_FORMAT
from edge_embed.service.service import Service
from edge_embed_runtime.embed.embedder import Embedder

PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def endpoint(others: Sequence[Endpoint]) -> Endpoint:
    """The route of the document that describes the others, and itself."""

    async def show(call: Call) -> Response:
        return json_response(document(call.service, [*others, own]))

    own = Endpoint("GET", "/openapi.json", show, summary="This document", gives=ANYTHING)
    return own


def document(service: Service, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document for these routes. Models, roles and dimensions are those of the service."""
    known = _known(service)
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        path = PARAMETER.sub(r"{\1}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _filled(_operation(one), known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edge_embed",
            "version": edge_embed.__version__,
            "description": "Embeddings, reranking and search on this machine",
        },
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(one: Endpoint) -> dict[str, Any]:
    refused = {"description": "What is wrong", "content": {"application/json": {"schema": one.error}}}
    answer: dict[str, Any] = {"description": "The answer"}
    if one.gives is not None:
        answer["content"] = {"application/json": {"schema": one.gives}}
    elif one.kind:
        answer["content"] = {one.kind: {"schema": {"type": "string", "format": "binary"}}}
    found: dict[str, Any] = {
        "summary": one.summary,
        "tags": [one.tag],
        "operationId": f"{one.method.lower()} {one.path}",
        "responses": {"200": answer, "4XX": refused, "503": refused},
        # the token is needed where one was given at the start, and for what changes an index in any case
        "security": [{"token": []}] if one.writes else [{}, {"token": []}],
    }
    given: list[tuple[str, str, Schema]] = [(name, "path", TEXT) for name in PARAMETER.findall(one.path)]
    given += [(name, "query", schema) for name, schema in one.query.items()]
    if given:
        found["parameters"] = [
            {"name": name, "in": place, "required": place == "path" or "default" not in schema, "schema": schema}
            for name, place, schema in given
        ]
    if one.body:
        kind, schema = ("application/octet-stream", {}) if one.body == "raw" else ("application/json", one.takes or {})
        found["requestBody"] = {"required": True, "content": {kind: {"schema": schema}}}
    return found


def _known(service: Service) -> dict[str, dict[str, Any]]:
    """What a schema of such a `format` says besides, here."""
    embedders = list(service.embedders.values())
    roles = _roles(embedders)
    choices = {
        "model": list(service.embedders),
        "reranker": list(service.rerankers),
        "any_model": [*service.embedders, *service.rerankers],
        "first_role": _roles(embedders[:1]),
        "input_type": [*roles, *openai.ALIASES],
        "cohere_input_type": [name for name, role in cohere.INPUT_TYPES.items() if role in roles],
        "dimensions": _dims(embedders),
        "first_dimensions": _dims(embedders[:1]),
    }
    modalities = {modality for embedder in embedders for modality in embedder.modalities}
    window = max((embedder.max_tokens for embedder in embedders), default=0)
    found: dict[str, dict[str, Any]] = {"window": {"minimum": window}}
    if modalities - {"text"}:
        found[FILE_FORMAT] = {}
    return {**found, **{name: {"enum": choice} for name, choice in choices.items() if choice}}


def _without_files(schemas: Any) -> Any:
    """Properties, or alternatives, without those that need a file in base64."""
    if isinstance(schemas, Mapping):
        return {name: schema for name, schema in schemas.items() if not _needs_file(schema)}
    return [schema for schema in schemas if not _needs_file(schema)]


def _needs_file(schema: Any) -> bool:
    """Whether one cannot be without a file: it is one, a list of them, or an object that requires one."""
    if not isinstance(schema, Mapping):
        return False
    if schema.get("format") == FILE_FORMAT:
        return True
    if "items" in schema:
        return _needs_file(schema["items"])
    if "anyOf" in schema:
        return all(map(_needs_file, schema["anyOf"]))
    required = schema.get("required", ())
    return any(_needs_file(schema["properties"][name]) for name in required)


def _roles(embedders: Sequence[Embedder]) -> list[str]:
    return sorted({role for embedder in embedders for role in embedder.prompts})


def _dims(embedders: Sequence[Embedder]) -> list[int]:
    return sorted({dim for embedder in embedders for dim in dims(embedder)})


def _filled(schema: Any, known: Mapping[str, dict[str, Any]]) -> Any:
    """The same, with what is known of a `format`: {"format": "model"} -> {"format": "model", "enum": ["minilm"]}."""
    if isinstance(schema, list | tuple):
        return [_filled(entry, known) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    if FILE_FORMAT not in known:  # pictures and sounds are not taken here
        parts = {name: _without_files(schema[name]) for name in ("properties", "anyOf") if name in schema}
        schema = {**schema, **parts}
        if len(schema) == len(schema.get("anyOf", ())) == 1:
            return _filled(schema["anyOf"][0], known)
    found: dict[str, Any] = {name: _filled(entry, known) for name, entry in schema.items()}
    about = known.get(schema["format"], {}) if isinstance(schema.get("format"), str) else {}
    if "enum" in about and "null" in schema["type"]:
        about = {"enum": [*about["enum"], None]}
    return {**found, **about}
