"""Small models with prompts, and with scores of pairs, for the tests of the service and of its clients."""

import pytest
from builders.served import prompted_bundle, reranker_bundle

from edge_embed import Embedder, Reranker


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(prompted_bundle(tmp_path_factory.mktemp("prompted")), threads=1)


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return Reranker(reranker_bundle(tmp_path_factory.mktemp("reranker")), threads=1)
