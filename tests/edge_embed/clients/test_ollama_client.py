"""The client of the package `ollama`."""

import numpy as np
import pytest
from builders.marks import CLIENTS

from edge_embed import Embedder

ollama = pytest.importorskip("ollama", exc_type=ImportError)
pytestmark = CLIENTS
TEXTS = ["the cat sits on the mat", "東京"]


@pytest.fixture
def client(url: str) -> "ollama.Client":
    return ollama.Client(host=url)


def test_vectors_are_those_of_encode(client: "ollama.Client", embedder: Embedder) -> None:
    """Of several texts, of one, and of one by the older call."""
    found = client.embed(model="minilm", input=TEXTS, options={"num_ctx": 4096, "temperature": 0}, keep_alive=-1)
    assert np.array_equal(np.array(found.embeddings, np.float32), embedder.encode(TEXTS))
    assert (found.model, found.prompt_eval_count) == ("minilm", sum(len(embedder.tokenizer.encode(t)) for t in TEXTS))
    assert found.total_duration > 0
    one = client.embed(model="minilm:latest", input=TEXTS[0]).embeddings
    assert np.array_equal(np.array(one, np.float32), embedder.encode(TEXTS[:1]))
    older = client.embeddings(model="minilm", prompt=TEXTS[0]).embedding
    assert np.array_equal(np.array(older, np.float32), embedder.encode(TEXTS[:1])[0])


def test_dimensions(client: "ollama.Client", prompted: Embedder) -> None:
    """Those that the model was trained for."""
    found = client.embed(model="tiny", input="the cat", dimensions=8).embeddings
    assert np.array_equal(np.array(found, np.float32), prompted.encode(["the cat"], truncate_dim=8))


def test_errors(client: "ollama.Client") -> None:
    """With the sentence and the status."""
    with pytest.raises(ollama.ResponseError, match="has 302 tokens") as caught:
        client.embed(model="minilm", input="x " * 300, truncate=False)
    assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="no model 'llama'") as caught:
        client.embed(model="llama", input="x")
    assert caught.value.status_code == 404


def test_models(client: "ollama.Client") -> None:
    """Lists of models, and what is said of one."""
    assert [model.model for model in client.list().models] == ["minilm:latest", "tiny:latest", "judge:latest"]
    assert [model.context_length for model in client.ps().models] == [256, 24, 40]
    shown = client.show("minilm")
    assert (shown.capabilities, shown.modelinfo["bert.embedding_length"]) == (["embedding"], 384)
