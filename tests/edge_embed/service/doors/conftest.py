"""One service with two embedders for all tests of the doors."""

from collections.abc import Iterator

import pytest
from builders.asking import Ask, asking
from builders.bert import bert_folder
from builders.services import running

from edge_embed import Embedder
from edge_embed.service.service import Service
from edge_embed_export import export_model
from edge_embed_export.verify import compare as verifying


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """A small random BERT with prompts, whose vectors may be cut to 16 or 8 numbers."""
    folder = tmp_path_factory.mktemp("prompted")
    prompts = {"query": "river ", "document": "", "clustering": "a bank "}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "installed", lambda: False)
        export_model(bert_folder(folder / "checkpoint"), folder / "tiny", prompts=prompts, truncate_dims=[16, 8])
    return Embedder(folder / "tiny", threads=1)


@pytest.fixture(scope="session")
def ask(embedder: Embedder, prompted: Embedder) -> Iterator[Ask]:
    """Asks a service with the models "minilm" and "tiny"."""
    with running(Service({"minilm": embedder, "tiny": prompted})) as service:
        yield asking(service)
