"""The token of a service is the API key of its clients."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from builders.marks import CLIENTS
from builders.services import TOKEN, running

from edge_embed import Embedder
from edge_embed.service.service import Service

pytestmark = CLIENTS


@pytest.fixture(scope="module")
def guarded(prompted: Embedder) -> Iterator[str]:
    with running(Service({"tiny": prompted}), always=True) as service:
        yield service.url


def by_openai(url: str, token: str) -> Any:
    openai = pytest.importorskip("openai", exc_type=ImportError)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
    return client.embeddings.create(model="tiny", input="the cat").data[0].embedding


def by_ollama(url: str, token: str) -> Any:
    ollama = pytest.importorskip("ollama", exc_type=ImportError)
    client = ollama.Client(host=url, headers={"Authorization": f"Bearer {token}"})
    return client.embed(model="tiny", input="the cat").embeddings[0]


def by_cohere(url: str, token: str) -> Any:
    cohere = pytest.importorskip("cohere", exc_type=ImportError)
    client = cohere.ClientV2(api_key=token, base_url=url, max_retries=0)
    return client.embed(model="tiny", input_type="search_document", texts=["the cat"]).embeddings.float_[0]


def by_hub(url: str, token: str) -> Any:
    hub = pytest.importorskip("huggingface_hub", exc_type=ImportError)
    return hub.InferenceClient(url, token=token).feature_extraction("the cat")[0]


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (by_openai, "AuthenticationError"),
        (by_ollama, "ResponseError"),
        (by_cohere, "UnauthorizedError"),
        (by_hub, "HfHubHTTPError"),
    ],
)
def test_with_the_token_and_with_another(
    guarded: str, ask: Callable[[str, str], Any], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered, or refused by the client's own error."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert len(ask(guarded, TOKEN)) == 32
    with pytest.raises(Exception, match=r"this needs the token|401") as caught:
        ask(guarded, "another")
    assert type(caught.value).__name__ == error
