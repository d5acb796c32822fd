"""OpenAIEmbeddings of the package `langchain-openai`."""

import asyncio

import numpy as np
import pytest
from builders.marks import CLIENTS

from edge_embed import Embedder

langchain = pytest.importorskip("langchain_openai", exc_type=ImportError)
openai = pytest.importorskip("openai", exc_type=ImportError)
pytestmark = CLIENTS
TEXTS = ["the cat sits on the mat", "東京"]


def test_vectors_are_those_of_encode(url: str, embedder: Embedder) -> None:
    """With the one option that the refusal of token ids names."""
    client = langchain.OpenAIEmbeddings(
        model="minilm", base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False
    )
    wanted = embedder.encode(TEXTS)
    assert np.array_equal(np.array(client.embed_documents(TEXTS), np.float32), wanted)
    assert np.array_equal(np.array(client.embed_query(TEXTS[0]), np.float32), wanted[0])
    assert np.array_equal(np.array(asyncio.run(client.aembed_documents(TEXTS)), np.float32), wanted)


def test_roles(url: str, prompted: Embedder) -> None:
    """`model_kwargs` brings the role; one object embeds documents, another queries."""
    for role in ("query", "document"):
        client = langchain.OpenAIEmbeddings(
            model="tiny",
            base_url=f"{url}/v1",
            api_key="none",
            check_embedding_ctx_length=False,
            model_kwargs={"extra_body": {"input_type": role}},
        )
        wanted = prompted.encode(["the cat"], role=role)
        assert np.array_equal(np.array(client.embed_documents(["the cat"]), np.float32), wanted)


def test_token_ids_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that option it sends ids of its own tokenizer, which would be downloaded: here they are made up."""
    client = langchain.OpenAIEmbeddings(model="minilm", base_url=f"{url}/v1", api_key="none", max_retries=0)

    class Encoding:
        def encode(self, text: str, **_: object) -> list[int]:
            return list(text.encode())

        encode_ordinary = encode

    from langchain_openai.embeddings import base

    monkeypatch.setattr(base.tiktoken, "encoding_for_model", lambda _: Encoding())
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embed_documents(TEXTS)
