"""/openapi.json describes the routes that there are, with what this service has."""

from typing import Any

import pytest
from builders.asking import asking
from builders.served import prompted_bundle
from builders.services import running

from edge_embed import Embedder
from edge_embed.service import app
from edge_embed.service.service import Service


@pytest.fixture(scope="module")
def document(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    tiny = Embedder(prompted_bundle(tmp_path_factory.mktemp("prompted")), threads=1)
    with running(Service({"minilm": embedder, "tiny": tiny})) as service:
        status, found = asking(service)("/openapi.json")
    assert status == 200
    return found


def properties(document: dict[str, Any], path: str) -> dict[str, Any]:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["additionalProperties"] is False
    return dict(body["properties"])


def test_every_route_is_there(document: dict[str, Any]) -> None:
    """Each with a name of its own, a summary and a description of its errors."""
    assert document["openapi"] == "3.1.0"
    served = {(one.method.lower(), one.path.replace(":path}", "}")) for module in app.MODULES for one in module.ROUTES}
    operations = {
        (method, path): found for path, methods in document["paths"].items() for method, found in methods.items()
    }
    assert set(operations) == served | {("get", "/openapi.json")}
    assert len({found["operationId"] for found in operations.values()}) == len(operations)
    assert all(found["summary"] and found["tags"] for found in operations.values())
    assert all("4XX" in found["responses"] for found in operations.values())


def test_models_roles_and_dimensions(document: dict[str, Any]) -> None:
    """Those of this service; routes that name no model have those of the first."""
    body = properties(document, "/v1/embeddings")
    assert body["model"]["enum"] == ["minilm", "tiny"]
    assert body["input_type"]["enum"] == ["clustering", "document", "query", "passage", None]
    assert body["dimensions"]["enum"] == [8, 16, 32, 384, None]
    assert properties(document, "/embed")["dimensions"]["enum"] == [384, None]
    assert properties(document, "/embed")["prompt_name"]["enum"] == ["document", "query", None]
    assert properties(document, "/v2/embed")["input_type"]["enum"] == ["search_document", "search_query", "clustering"]
    assert "enum" not in properties(document, "/v2/rerank")["model"]  # there is none


def test_parameters(document: dict[str, Any]) -> None:
    """What stands in the path is described without starlette's own way to write it."""
    (parameter,) = document["paths"]["/v1/models/{model}"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("model", "path", True)


def test_what_needs_the_token(document: dict[str, Any]) -> None:
    """Every route says how the token is sent; those that change an index cannot do without."""
    for module in app.MODULES:
        for one in module.ROUTES:
            found = document["paths"][one.path.replace(":path}", "}")][one.method.lower()]
            assert ({} in found["security"]) is not one.writes, one.path
