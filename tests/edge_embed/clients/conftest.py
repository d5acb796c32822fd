"""A service for clients of others, which reach nothing but it."""

from collections.abc import Iterator

import pytest
from builders.prompted import prompted_bundle
from builders.services import running

from edge_embed import Embedder
from edge_embed.service.service import Service


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(prompted_bundle(tmp_path_factory.mktemp("prompted")), threads=1)


@pytest.fixture(scope="session")
def url(embedder: Embedder, prompted: Embedder) -> Iterator[str]:
    """Of a service with the models "minilm" and "tiny"."""
    with running(Service({"minilm": embedder, "tiny": prompted})) as service:
        yield service.url
