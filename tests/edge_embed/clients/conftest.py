"""A service for clients of others, which reach nothing but it."""

import gc
import warnings
from collections.abc import Iterator

import pytest
from builders.services import running

from edge_embed import Document, Embedder, Index, Reranker
from edge_embed.service.indexes import ServedIndex
from edge_embed.service.service import Service


@pytest.fixture(scope="session")
def url(embedder: Embedder, prompted: Embedder, reranker: Reranker) -> Iterator[str]:
    """Of a service with the models "minilm", "tiny" and "judge"."""
    with running(Service({"minilm": embedder, "tiny": prompted}, {"judge": reranker})) as service:
        yield service.url


@pytest.fixture(scope="session")
def exact_url(prompted: Embedder, reranker: Reranker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a service with an index and one model of each kind, whose document can say exactly what each route takes."""
    path = tmp_path_factory.mktemp("index") / "index.db"
    with Index.open(path, prompted) as index:
        index.add([Document("a", "the cat", {"n": 1, "tags": ["x"]}), Document("b", "a dog in the garden", {"n": 2})])
    embedders = {"tiny": prompted}
    with running(Service(embedders, {"judge": reranker}, index=ServedIndex(path, embedders))) as service:
        yield service.url


@pytest.fixture(autouse=True)
def closed_in_silence() -> Iterator[None]:
    """Connections that a client leaves open are closed here, without a warning about code of others."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
