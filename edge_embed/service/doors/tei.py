"""The API of text-embeddings-inference: https://huggingface.github.io/text-embeddings-inference.

It names no model: the first embedder and the first reranker answer.
"""

from functools import partial, wraps
from typing import Any

from starlette.responses import Response

import edge_embed
from edge_embed.schemas import ANYTHING, COUNT, TEXT, TEXTS, VECTORS, Schema, check, fields, or_null
from edge_embed.service.answers import vectors_response
from edge_embed.service.doors.embedding import ONE_OR_MORE, Cut, Names, embed, refuse_token_ids, text_list
from edge_embed.service.doors.models import served
from edge_embed.service.doors.reranking import rerank
from edge_embed.service.endpoints import Call, Endpoint, Handler, json_response
from edge_embed.service.refusals import Problem, Refusal
from edge_embed_runtime.errors import InputError

# By status. Clients tell by it whether to try again.
KINDS = {424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
ERROR: Schema = fields(
    {
        "error": TEXT,
        "error_type": {
            "type": "string",
            "enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"],
        },
    }
)
TRUNCATION: dict[str, Schema] = {
    # null means /info's auto_truncate
    "truncate": or_null({"type": "boolean"}, default=None),
    "truncation_direction": {"type": "string", "enum": ["Right", "right", "Left", "left"], "default": "Right"},
}
FLAG: Schema = {"type": "boolean", "default": False}
TAKES: Schema = fields(
    {"inputs": ONE_OR_MORE},
    {
        "normalize": {"type": "boolean", "enum": [True], "default": True},
        "prompt_name": or_null({"type": "string", "format": "first_role"}),
        "dimensions": or_null({"type": "integer", "format": "first_dimensions", "minimum": 1}),
        **TRUNCATION,
    },
)
TAKES_PAIRS: Schema = fields(
    {"query": TEXT, "texts": {**TEXTS, "minItems": 1}},
    # `top_n` is no part of the API, but LiteLLM sends it
    {"raw_scores": FLAG, "return_text": FLAG, "top_n": or_null({"type": "integer", "minimum": 1}), **TRUNCATION},
)
RANKS: Schema = {
    "type": "array",
    "items": fields({"index": COUNT, "score": {"type": "number"}}, {"text": TEXT}),
}
INFO: Schema = fields(
    {
        "model_id": TEXT,
        "model_sha": TEXT,
        "model_dtype": TEXT,
        "served_model_name": TEXT,
        "model_type": ANYTHING,
        "max_concurrent_requests": COUNT,
        "max_input_length": COUNT,
        "max_batch_tokens": COUNT,
        "max_client_batch_size": COUNT,
        "auto_truncate": {"type": "boolean"},
        "tokenization_workers": COUNT,
        "version": TEXT,
    }
)
NAMES = Names("inputs", "prompt_name", "dimensions", 'send shorter texts, or {"truncate": true}')


def errors(problem: Problem) -> dict[str, Any]:
    otherwise = "Backend" if problem.status >= 500 else "Validation"
    kind = "Empty" if problem.code == "empty" else KINDS.get(problem.status, otherwise)
    return {"error": problem.message, "error_type": kind}


def _with_its_statuses(handle: Handler) -> Handler:
    """What cannot be used is 422 in this API, and a model that is not there 424."""

    @wraps(handle)
    async def handled(call: Call) -> Response:
        try:
            return await handle(call)
        except InputError as error:
            raise Refusal(422, error.code, str(error)) from error
        except Refusal as refusal:
            if refusal.status == 404:
                raise Refusal(424, refusal.code, str(refusal)) from refusal
            raise

    return handled


@_with_its_statuses
async def embed_inputs(call: Call) -> Response:
    given = call.json()
    _refuse_nothing(given, "inputs")
    refuse_token_ids(given.get("inputs"), "inputs")
    if given.get("normalize") is False:
        raise InputError("normalize is False: vectors have length 1 here, whatever the model", option="normalize")
    body = check(given, TAKES)
    found = await embed(
        call.service,
        text_list(body["inputs"]),
        NAMES,
        role=body.get("prompt_name"),
        dim=body.get("dimensions"),
        cut=_cut(body),
    )
    return await vectors_response(call, found.vectors, found.vectors.size)


@_with_its_statuses
async def rank_texts(call: Call) -> Response:
    given = call.json()
    _refuse_nothing(given, "texts")
    body = check(given, TAKES_PAIRS)
    texts = body["texts"]
    scores = await rerank(call.service, body["query"], texts, raw=body["raw_scores"], cut=_cut(body))
    ranks = [
        {"index": i, "score": scores[i], **({"text": texts[i]} if body["return_text"] else {})}
        for i in sorted(range(len(texts)), key=lambda i: -scores[i])[: body.get("top_n")]
    ]
    return json_response(ranks)


def _cut(body: dict[str, Any]) -> Cut:
    if body["truncate"] is False:
        return "none"
    return "end" if body["truncation_direction"].lower() == "right" else "start"


def _refuse_nothing(given: dict[str, Any], name: str) -> None:
    if given.get(name) == []:
        raise Refusal(400, "empty", f"{name} is empty")


@_with_its_statuses
async def info(call: Call) -> Response:
    model = next(served(call.service))
    manifest = model.manifest
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    limits = call.service.limits
    return json_response(
        {
            "model_id": model.name,
            "model_sha": manifest.fingerprint,
            "model_dtype": model.weights,
            "served_model_name": model.name,
            "model_type": {"reranker": labels} if model.is_reranker else {"embedding": {"pooling": manifest.pooling}},
            "max_concurrent_requests": limits.waiting,
            "max_input_length": manifest.max_tokens,
            "max_batch_tokens": limits.texts * manifest.max_tokens,
            "max_client_batch_size": limits.texts,
            "auto_truncate": True,
            "tokenization_workers": 1,
            "version": edge_embed.__version__,
        }
    )


door = partial(Endpoint, errors=errors, error=ERROR, tag="text-embeddings-inference")
ROUTES = [
    door("POST", "/embed", embed_inputs, body="any", summary="Texts to vectors", takes=TAKES, gives=VECTORS),
    # where clients go that know nothing but the address
    door("POST", "/", embed_inputs, body="any", summary="The same as /embed", takes=TAKES, gives=VECTORS),
    door("POST", "/rerank", rank_texts, body="any", summary="Texts by how well they answer a query",
         takes=TAKES_PAIRS, gives=RANKS),
    door("GET", "/info", info, summary="The first model and the limits", gives=INFO),
]  # fmt: skip
