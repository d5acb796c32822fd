"""Ollama's API as far as it is about embeddings: https://github.com/ollama/ollama/blob/main/docs/api.md.

Models are loaded as long as the service runs, so that `keep_alive` changes nothing; nor do `options`, which are those
of a model that writes, but for `num_ctx`.
"""

import time
from functools import partial
from typing import Any

from starlette.responses import Response

import edge_embed
from edge_embed.schemas import ANYTHING, COUNT, TEXT, TEXTS, VECTOR, VECTORS, Schema, check, fields, or_null
from edge_embed.service.answers import vectors_response
from edge_embed.service.doors.embedding import ANY_MODEL, DIMENSIONS, MODEL, Embedded, Names, embed, text_list
from edge_embed.service.doors.models import Served, served
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.refusals import Problem, Refusal
from edge_embed.service.service import Service
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import InputError

# Every model has one version here; Ollama's clients write it behind the name.
TAG = ":latest"
ERROR: Schema = fields({"error": TEXT})
ALWAYS: dict[str, Schema] = {
    "options": or_null({"type": "object", "properties": {"num_ctx": or_null({"type": "integer", "format": "window"})}}),
    "keep_alive": or_null({"type": ["string", "number"]}),
}
TAKES: Schema = fields(
    {"model": MODEL},
    {
        "input": or_null({"anyOf": [TEXT, TEXTS]}),
        "truncate": or_null({"type": "boolean"}, default=True),
        "dimensions": or_null({**DIMENSIONS, "minimum": 0}),
        **ALWAYS,
    },
)
GIVES: Schema = fields(
    {"model": TEXT, "embeddings": VECTORS},
    {"total_duration": COUNT, "load_duration": COUNT, "prompt_eval_count": COUNT},
)
TAKES_PROMPT: Schema = fields({"model": MODEL}, {"prompt": or_null(TEXT), **ALWAYS})
GIVES_ONE: Schema = fields({"embedding": VECTOR})
DETAILS: Schema = fields(
    {
        "parent_model": TEXT,
        "format": TEXT,
        "family": TEXT,
        "families": TEXTS,
        "parameter_size": TEXT,
        "quantization_level": TEXT,
    }
)
LISTED: dict[str, Schema] = {"name": TEXT, "model": TEXT, "size": COUNT, "digest": TEXT, "details": DETAILS}
MODELS: Schema = fields({"models": {"type": "array", "items": fields({**LISTED, "modified_at": TEXT})}})
RUNNING: Schema = fields(
    {"models": {"type": "array", "items": fields({**LISTED, "size_vram": COUNT, "context_length": COUNT})}}
)
VERBOSE: dict[str, Schema] = {"verbose": or_null({"type": "boolean"})}
# older clients write `name`
TAKES_NAME: Schema = {"anyOf": [fields({"model": ANY_MODEL}, VERBOSE), fields({"name": ANY_MODEL}, VERBOSE)]}
SHOWN: Schema = fields(
    {
        "modelfile": TEXT,
        "parameters": TEXT,
        "template": TEXT,
        "details": DETAILS,
        "model_info": ANYTHING,
        "capabilities": TEXTS,
        "modified_at": TEXT,
    }
)
NAMES = Names("input", "role", "dimensions", 'send shorter texts, or leave out "truncate": false')


def errors(problem: Problem) -> dict[str, Any]:
    return {"error": problem.message}


async def embed_texts(call: Call) -> Response:
    begun = time.perf_counter_ns()
    body = check(call.json(), TAKES)
    given = body.get("input") or []
    found = await _embed(call, body, text_list(given), "end" if body["truncate"] in (True, None) else "none")
    if found is None:
        return json_response({"model": body["model"], "embeddings": []})
    return await vectors_response(
        call,
        {
            "model": body["model"],
            "embeddings": found.vectors,
            "total_duration": time.perf_counter_ns() - begun,
            "load_duration": 0,
            "prompt_eval_count": found.tokens,
        },
        found.vectors.size,
    )


async def embed_prompt(call: Call) -> Response:
    """The API before /api/embed: one text."""
    body = check(call.json(), TAKES_PROMPT)
    found = await _embed(call, body, [body["prompt"]] if body.get("prompt") else [], "end")
    return json_response({"embedding": [] if found is None else found.vectors[0].tolist()})


async def _embed(call: Call, body: dict[str, Any], texts: list[str], cut: Any) -> Embedded | None:
    """None for no text, by which Ollama's clients have a model loaded."""
    name = _name(call.service, body["model"])
    embedder = call.service.embedder(name)
    window = (body.get("options") or {}).get("num_ctx")
    if window is not None and window < embedder.max_tokens:
        raise InputError(
            f"options.num_ctx is {shown(window)}, expected at least {embedder.max_tokens}, which the model reads: "
            "send shorter texts",
            option="options.num_ctx",
        )
    texts = [] if texts == [""] else texts
    if not texts:
        return None
    return await embed(call.service, texts, NAMES, model=name, dim=body.get("dimensions") or None, cut=cut)


async def tags(call: Call) -> Response:
    return json_response(
        {"models": [{**_listed(model), "modified_at": model.changed.isoformat()} for model in served(call.service)]}
    )


async def running(call: Call) -> Response:
    return json_response(
        {
            "models": [
                {**_listed(model), "size_vram": 0, "context_length": model.manifest.max_tokens}
                for model in served(call.service)
            ]
        }
    )


async def show(call: Call) -> Response:
    body = check(call.json(), TAKES_NAME)
    asked = body["model"] if "model" in body else body["name"]
    for model in served(call.service):
        if model.name == _name(call.service, asked):
            return json_response(_shown(model))
    raise Refusal(404, "model_not_found", f"there is no model {shown(asked)} here")


async def version(call: Call) -> Response:  # noqa: ARG001 - as of every route
    return json_response({"version": edge_embed.__version__})


def _name(service: Service, asked: str) -> str:
    """ "minilm:latest" -> "minilm", unless a model has that whole name."""
    known = asked in service.embedders or asked in service.rerankers
    return asked if known else asked.removesuffix(TAG)


def _listed(model: Served) -> dict[str, Any]:
    name = model.name if ":" in model.name else model.name + TAG
    return {
        "name": name,
        "model": name,
        "size": model.size,
        "digest": model.manifest.fingerprint,
        "details": _details(model),
    }


def _details(model: Served) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "onnx" if not model.manifest.is_static else "safetensors",
        "family": model.family,
        "families": [model.family],
        "parameter_size": "",
        "quantization_level": model.weights,
    }


def _shown(model: Served) -> dict[str, Any]:
    facts = {"context_length": model.manifest.max_tokens, "embedding_length": model.manifest.dim}
    return {
        "modelfile": "",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": _details(model),
        "model_info": {
            "general.architecture": model.family,
            **{f"{model.family}.{name}": value for name, value in facts.items()},
        },
        "capabilities": ["rerank" if model.is_reranker else "embedding"],
        "modified_at": model.changed.isoformat(),
    }


door = partial(Endpoint, errors=errors, error=ERROR, tag="Ollama")
ROUTES = [
    door("POST", "/api/embed", embed_texts, body="any", summary="Texts to vectors", takes=TAKES, gives=GIVES),
    door("POST", "/api/embeddings", embed_prompt, body="any", summary="One text to a vector", takes=TAKES_PROMPT,
         gives=GIVES_ONE),
    door("GET", "/api/tags", tags, summary="The models here", gives=MODELS),
    door("GET", "/api/ps", running, summary="The models that are loaded: all", gives=RUNNING),
    door("POST", "/api/show", show, body="any", summary="One model", takes=TAKES_NAME, gives=SHOWN),
    door("GET", "/api/version", version, summary="The version of edge_embed", gives=fields({"version": TEXT})),
]  # fmt: skip
