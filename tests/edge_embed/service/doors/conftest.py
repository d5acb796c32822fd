"""One service with two embedders and a reranker for all tests of the doors."""

from collections.abc import Iterator

import pytest
from builders.asking import Ask, asking
from builders.services import running

from edge_embed import Embedder, Reranker
from edge_embed.service.service import Service


@pytest.fixture(scope="session")
def ask(embedder: Embedder, prompted: Embedder, reranker: Reranker) -> Iterator[Ask]:
    """Asks a service with the models "minilm", "tiny" and "judge"."""
    with running(Service({"minilm": embedder, "tiny": prompted}, {"judge": reranker})) as service:
        yield asking(service)
