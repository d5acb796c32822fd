"""One service with two embedders and a reranker for all tests of the doors."""

from collections.abc import Iterator

import pytest
from builders.asking import Ask, asking
from builders.served import prompted_bundle, reranker_bundle
from builders.services import running

from edge_embed import Embedder, Reranker
from edge_embed.service.service import Service


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(prompted_bundle(tmp_path_factory.mktemp("prompted")), threads=1)


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return Reranker(reranker_bundle(tmp_path_factory.mktemp("reranker")), threads=1)


@pytest.fixture(scope="session")
def ask(embedder: Embedder, prompted: Embedder, reranker: Reranker) -> Iterator[Ask]:
    """Asks a service with the models "minilm", "tiny" and "judge"."""
    with running(Service({"minilm": embedder, "tiny": prompted}, {"judge": reranker})) as service:
        yield asking(service)
