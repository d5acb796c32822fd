"""The client of the package `openai`."""

import asyncio

import numpy as np
import pytest
from builders.marks import CLIENTS

from edge_embed import Embedder

openai = pytest.importorskip("openai", exc_type=ImportError)
pytestmark = CLIENTS
TEXTS = ["the cat sits on the mat", "ein Satz mit Umlauten: äöü", "東京"]


@pytest.fixture
def client(url: str) -> "openai.OpenAI":
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
def test_vectors_are_those_of_encode(client: "openai.OpenAI", embedder: Embedder, encoding: dict[str, str]) -> None:
    """Bit for bit; the client asks for base64 unless told otherwise."""
    found = client.embeddings.create(model="minilm", input=TEXTS, **encoding)
    assert np.array_equal(np.array([one.embedding for one in found.data], np.float32), embedder.encode(TEXTS))
    assert found.usage.total_tokens == sum(len(embedder.tokenizer.encode(text)) for text in TEXTS)


def test_base64_is_the_bytes_of_encode(client: "openai.OpenAI", embedder: Embedder) -> None:
    """The text that the client decodes is read here as it comes."""
    import base64

    found = client.embeddings.with_raw_response.create(model="minilm", input=TEXTS, encoding_format="base64")
    rows = [base64.b64decode(one["embedding"]) for one in found.http_response.json()["data"]]
    assert b"".join(rows) == embedder.encode(TEXTS).astype("<f4").tobytes()


def test_asynchronous_client(url: str, embedder: Embedder) -> None:
    """Many requests at a time give each its own vectors."""

    async def ask() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            calls = (client.embeddings.create(model="minilm", input=f"text {i}") for i in range(32))
            return [found.data[0].embedding for found in await asyncio.gather(*calls)]

    wanted = embedder.encode([f"text {i}" for i in range(32)])
    assert np.array_equal(np.array(asyncio.run(ask()), np.float32), wanted)


def test_role_and_dimensions(client: "openai.OpenAI", prompted: Embedder) -> None:
    """`extra_body` brings what OpenAI's API does not have."""
    found = client.embeddings.create(
        model="tiny", input="the cat", dimensions=16, extra_body={"input_type": "query", "truncate": True}
    )
    wanted = prompted.encode_query(["the cat"], truncate_dim=16)
    assert np.array_equal(np.array([found.data[0].embedding], np.float32), wanted)


def test_errors(client: "openai.OpenAI") -> None:
    """Each is the client's own for its status, with what it is about."""
    for body, kind, code, param in (
        ({"input": [1, 2]}, openai.BadRequestError, "invalid_input", "input"),
        ({"input": "x", "dimensions": 5}, openai.BadRequestError, "invalid_input", "dimensions"),
        ({"input": "x", "model": "gpt"}, openai.NotFoundError, "model_not_found", None),
    ):
        with pytest.raises(kind) as caught:
            client.embeddings.create(**{"model": "minilm", **body})
        assert (caught.value.code, caught.value.param) == (code, param)


def test_models(client: "openai.OpenAI") -> None:
    """Both ways to ask for them."""
    assert [model.id for model in client.models.list()] == ["minilm", "tiny", "judge"]
    assert client.models.retrieve("tiny").owned_by == "edge-embed"
