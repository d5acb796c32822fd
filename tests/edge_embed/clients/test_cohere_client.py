"""The client of the package `cohere`."""

import numpy as np
import pytest
from builders.marks import CLIENTS

from edge_embed import Embedder, Reranker
from edge_embed_runtime.embed.reranker import sigmoid

cohere = pytest.importorskip("cohere", exc_type=ImportError)
pytestmark = CLIENTS
TEXTS = ["the cat", "a dog in the garden"]


@pytest.fixture
def client(url: str) -> "cohere.ClientV2":
    return cohere.ClientV2(api_key="none", base_url=url, max_retries=0)


def test_vectors_are_those_of_encode(client: "cohere.ClientV2", prompted: Embedder) -> None:
    """With the prompt of the role that `input_type` names."""
    for input_type, role in (("search_query", "query"), ("search_document", "document")):
        found = client.embed(
            model="tiny", input_type=input_type, texts=TEXTS, embedding_types=["float"], output_dimension=16
        )
        wanted = prompted.encode(TEXTS, role=role, truncate_dim=16)
        assert np.array_equal(np.array(found.embeddings.float_, np.float32), wanted)
        assert found.texts == TEXTS


def test_documents_by_score(client: "cohere.ClientV2", reranker: Reranker) -> None:
    """From 0 to 1, best first."""
    found = client.rerank(model="judge", query="the cat", documents=TEXTS, top_n=2).results
    scores = sigmoid(reranker.scores([("the cat", text) for text in TEXTS], raw=True))
    assert {one.index: np.float32(one.relevance_score) for one in found} == dict(enumerate(scores))
    assert found[0].relevance_score >= found[1].relevance_score


def test_errors(client: "cohere.ClientV2") -> None:
    """Each is the client's own for its status."""
    with pytest.raises(cohere.NotFoundError, match=r"no model 'embed-v4\.0'"):
        client.embed(model="embed-v4.0", input_type="search_query", texts=TEXTS)
    with pytest.raises(cohere.BadRequestError, match="input_type is 'image'"):
        client.embed(model="tiny", input_type="image", texts=TEXTS)
