"""Small models with prompts, with scores of pairs, and with towers, for the tests of files, the service and clients."""

from pathlib import Path

import pytest
from builders.colours import colour_bundle
from builders.served import prompted_bundle, reranker_bundle

from edge_embed import Embedder, Reranker


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(prompted_bundle(tmp_path_factory.mktemp("prompted")), threads=1)


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return Reranker(reranker_bundle(tmp_path_factory.mktemp("reranker")), threads=1)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with towers for pictures and sounds: see builders/colours.py."""
    return colour_bundle(tmp_path_factory.mktemp("colours") / "bundle")
