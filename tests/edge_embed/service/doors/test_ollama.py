"""Ollama's API for embeddings, as raw HTTP."""

import re
from typing import Any

import numpy as np
import pytest
from builders.asking import Ask, asking
from builders.services import running

import edge_embed
from edge_embed import Embedder
from edge_embed.service.service import Service

TEXTS = ["the cat", "a dog in the garden"]


def embed(ask: Ask, **body: Any) -> tuple[int, Any]:
    return ask("/api/embed", {"model": "minilm", **body})


@pytest.mark.parametrize("model", ["minilm", "minilm:latest"])
def test_vectors_are_those_of_encode(ask: Ask, embedder: Embedder, model: str) -> None:
    """With times in nanoseconds and tokens counted; the name may have Ollama's tag."""
    status, answer = embed(ask, model=model, input=TEXTS, keep_alive="5m", options={"temperature": 0, "num_ctx": 2048})
    assert status == 200
    assert np.array_equal(np.array(answer["embeddings"], np.float32), embedder.encode(TEXTS))
    assert answer["model"] == model
    assert answer["prompt_eval_count"] == sum(len(embedder.tokenizer.encode(text)) for text in TEXTS)
    assert answer["total_duration"] > answer["load_duration"] == 0


def test_one_text(ask: Ask, embedder: Embedder) -> None:
    """A text alone is a list of one; /api/embeddings gives its vector alone."""
    _, answer = embed(ask, input="the cat")
    assert np.array_equal(np.array(answer["embeddings"], np.float32), embedder.encode(["the cat"]))
    _, answer = ask("/api/embeddings", {"model": "minilm", "prompt": "the cat"})
    assert np.array_equal(np.array(answer["embedding"], np.float32), embedder.encode(["the cat"])[0])


@pytest.mark.parametrize("given", [{}, {"input": ""}, {"input": []}, {"input": None}, {"input": [""]}])
def test_no_text(ask: Ask, given: dict[str, Any]) -> None:
    """Clients that only want the model loaded get no vectors."""
    assert embed(ask, **given) == (200, {"model": "minilm", "embeddings": []})


def test_no_prompt(ask: Ask) -> None:
    """The same in the older API."""
    assert ask("/api/embeddings", {"model": "minilm"}) == (200, {"embedding": []})


def test_body_of_any_type(ask: Ask) -> None:
    """`curl -d` calls its body a form; Ollama takes it all the same."""
    form = "application/x-www-form-urlencoded"
    status, answer = ask("/api/embed", b'{"model": "minilm", "input": "x"}', Content_Type=form)
    assert (status, len(answer["embeddings"])) == (200, 1)


def test_long_texts_are_cut_unless_told_otherwise(ask: Ask, embedder: Embedder) -> None:
    """As Ollama does."""
    long = "x " * 300
    _, answer = embed(ask, input=long)
    assert np.array_equal(np.array(answer["embeddings"], np.float32), embedder.encode([long]))
    assert answer["prompt_eval_count"] == 256
    status, answer = embed(ask, input=["x", long], truncate=False)
    assert status == 400
    assert answer["error"].startswith("input[1] has 302 tokens; the model reads 256")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"input": 5}, 400, "input is 5, expected a string or a list or null"),
        ({"input": ["x", 5]}, 400, r"input\[1\] is 5, expected a string"),
        ({"input": "x", "dimensions": 5}, 400, "dimensions is 5, expected one of 384, which .*"),
        ({"input": "x", "options": {"num_ctx": 128}}, 400, "options.num_ctx is 128, expected at least 256, .*"),
        ({"input": "x", "images": []}, 400, "'images' is unknown: known are model, .*"),
        ({"input": "x", "model": "llama"}, 404, "there is no model 'llama' here"),
    ],
)
def test_what_cannot_be_used_is_named(ask: Ask, body: dict[str, Any], status: int, message: str) -> None:
    """{"error": SENTENCE}, and no more."""
    got, answer = embed(ask, **body)
    assert got == status
    assert list(answer) == ["error"]
    assert re.fullmatch(message, answer["error"])


def test_dimensions(ask: Ask, prompted: Embedder) -> None:
    """Those that the model was trained for; 0 means all."""
    for dimensions, dim in ((8, 8), (0, 32), (None, 32)):
        _, answer = embed(ask, model="tiny", input="the cat", dimensions=dimensions)
        wanted = prompted.encode(["the cat"], truncate_dim=dim)
        assert np.array_equal(np.array(answer["embeddings"], np.float32), wanted)


def test_models(ask: Ask, embedder: Embedder) -> None:
    """/api/tags and /api/ps list the models; /api/show tells about one, by its new or old name of the field."""
    _, answer = ask("/api/tags")
    assert [model["name"] for model in answer["models"]] == ["minilm:latest", "tiny:latest", "judge:latest"]
    assert answer["models"][0]["details"]["family"] == "bert"
    assert answer["models"][0]["size"] == sum(record.size for record in embedder.manifest.files.values())
    _, running = ask("/api/ps")
    assert [model["name"] for model in running["models"]] == ["minilm:latest", "tiny:latest", "judge:latest"]
    _, shown = ask("/api/show", {"model": "minilm"})
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"] == {
        "general.architecture": "bert", "bert.context_length": 256, "bert.embedding_length": 384
    }  # fmt: skip
    assert ask("/api/show", {"name": "minilm:latest"}) == (200, shown)
    assert ask("/api/show", {"model": "llama"}) == (404, {"error": "there is no model 'llama' here"})


def test_names_with_a_tag_of_their_own(prompted: Embedder) -> None:
    """They stay as they are."""
    with running(Service({"tiny:latest": prompted, "tiny:v2": prompted})) as service:
        ask = asking(service)
        _, answer = ask("/api/tags")
        assert [model["name"] for model in answer["models"]] == ["tiny:latest", "tiny:v2"]
        for name in ("tiny:latest", "tiny:v2"):
            assert ask("/api/embed", {"model": name, "input": "x"})[0] == 200
            assert ask("/api/show", {"model": name})[0] == 200


def test_version(ask: Ask) -> None:
    """It is ours."""
    assert ask("/api/version") == (200, {"version": edge_embed.__version__})
