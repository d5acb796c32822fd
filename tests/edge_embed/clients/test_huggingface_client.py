"""InferenceClient of the package `huggingface_hub`, which asks text-embeddings-inference."""

import numpy as np
import pytest
from builders.marks import CLIENTS

from edge_embed import Embedder

hub = pytest.importorskip("huggingface_hub", exc_type=ImportError)
pytestmark = CLIENTS


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE forbids even this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def test_vectors_are_those_of_encode(url: str, embedder: Embedder) -> None:
    """At /embed, and at the address alone."""
    for address in (f"{url}/embed", url):
        client = hub.InferenceClient(address)
        found = client.feature_extraction(
            ["the cat", "東京"], normalize=True, truncate=True, truncation_direction="right"
        )
        assert np.array_equal(found, embedder.encode(["the cat", "東京"]))


def test_errors(url: str) -> None:
    """The sentence arrives."""
    client = hub.InferenceClient(f"{url}/embed")
    with pytest.raises(hub.errors.HfHubHTTPError, match="normalize is False"):
        client.feature_extraction("the cat", normalize=False)
