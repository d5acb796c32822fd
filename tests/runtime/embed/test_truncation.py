"""`count_tokens` and `on_truncation`: what a model does not read of a text."""

import warnings

import pytest

from edge_embed import Embedder, TruncationWarning
from edge_embed.errors import InputError, TruncationError
from edge_embed_runtime.inputs import blocks

LONG = "river bank " * 400


def test_tokens_are_counted_with_special_ones_and_beyond_the_limit(embedder: Embedder) -> None:
    assert embedder.count_tokens(["", "river bank", LONG]) == [2, 4, 802]
    assert embedder.count_tokens([]) == []
    assert embedder.count_tokens(["bank"], prompt="river ") == [4]
    for text in ("river bank", "unaffable naïveté", "日本語"):
        assert embedder.count_tokens([text]) == [len(embedder.tokenizer.encode(text))]


def test_a_long_text_is_counted_block_by_block(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedder.count_tokens([LONG])
    monkeypatch.setattr(blocks, "BLOCK", 64)
    assert embedder.count_tokens([LONG]) == whole


def test_a_truncated_text_is_an_error_or_a_warning(embedder: Embedder) -> None:
    with pytest.raises(TruncationError, match=r"leaves out the end of text 1 \(802 tokens\); nothing was") as caught:
        embedder.encode(["short", LONG], on_truncation="error")
    assert (caught.value.code, caught.value.texts) == ("text_too_long", (1,))
    with pytest.warns(TruncationWarning, match="text 0 .* text 2") as found:
        vectors = embedder.encode_query([LONG, "short", LONG], on_truncation="warn")
    assert found[0].filename == __file__
    assert (vectors == embedder.encode_query([LONG, "short", LONG])).all()


def test_a_text_that_just_fits_is_read_whole(embedder: Embedder) -> None:
    fits = "river " * (embedder.max_tokens - 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder.encode([fits], on_truncation="error")
    with pytest.raises(TruncationError):
        embedder.encode([fits + "bank"], on_truncation="error")
    with pytest.raises(TruncationError):  # what a prompt takes counts
        embedder.encode([fits], prompt="query: ", on_truncation="error")


def test_what_is_no_way_to_handle_truncation(embedder: Embedder) -> None:
    with pytest.raises(InputError, match="on_truncation"):
        embedder.encode(["a"], on_truncation="raise")  # type: ignore[arg-type]
