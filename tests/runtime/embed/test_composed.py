"""Several embedders as one: cosines that are weighted means, indexes that take the whole, errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints

from edge_embed import ComposedEmbedder, Document, Embedder, Index
from edge_embed.errors import BundleMismatchError, InputError
from edge_embed.measuring.judged import JudgedSet
from edge_embed.measuring.quality import evaluate
from edge_embed_export import export_model
from edge_embed_runtime.maintenance.reembed import reembed_index
from edge_embed_runtime.vectors.int8 import quantize_int8

TEXTS = ["a cat on the mat", "the kitten sleeps", "markets fell on Tuesday", "", "naïve café " * 200]


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static")


def test_cosine_is_the_weighted_mean(embedder: Embedder, static: Embedder) -> None:
    """concat: the cosine of two texts is the members' mean by weight, which need not add up to 1; length is 1."""
    composed = ComposedEmbedder([(static, 1), (embedder, 3)])
    assert composed.dim == static.dim + embedder.dim
    vectors = composed.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), composed.dim)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    first, second = (v @ v.T for v in (static.encode(TEXTS), embedder.encode(TEXTS)))
    assert np.abs(vectors @ vectors.T - (0.25 * first + 0.75 * second)).max() < 1e-6


def test_mean_is_the_normalised_sum(embedder: Embedder) -> None:
    """Of vectors of one dim; vectors that cancel each other leave the first."""
    other = Embedder(threads=1, truncate_dim=64)
    composed = ComposedEmbedder([(other, 1), (embedder, 1)], mode="mean", dim=64)
    expected = other.encode(TEXTS) + embedder.encode(TEXTS, truncate_dim=64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(composed.encode(TEXTS) - expected).max() < 1e-6
    assert ComposedEmbedder([(embedder, 2)], mode="mean").dim == 384

    class Opposite(Embedder):
        def encode(self, texts: Any, **options: Any) -> Any:
            return -super().encode(texts, **options)

    cancelled = ComposedEmbedder([(embedder, 1), (Opposite(threads=1), 1)], mode="mean")
    assert np.abs(cancelled.encode(TEXTS) - embedder.encode(TEXTS)).max() < 1e-6


def test_dim_is_shared_by_the_members(embedder: Embedder, static: Embedder) -> None:
    """A composed vector that is cut keeps of each member's numbers the first, in proportion to what it has."""
    composed = ComposedEmbedder([(static, 1), (embedder, 1)], dim=208)
    vectors = composed.encode(TEXTS)
    parts = [static.encode(TEXTS, truncate_dim=80), embedder.encode(TEXTS, truncate_dim=128)]
    assert composed.dim == 208
    assert np.abs(vectors - np.hstack(parts) / np.sqrt(2)).max() < 1e-6
    assert ComposedEmbedder([(static, 1), (embedder, 1)], dim=2).encode(TEXTS).shape == (5, 2)


def test_one_vector_per_text(embedder: Embedder, static: Embedder) -> None:
    """The same bits alone, in a batch, and in batches of another size."""
    composed = ComposedEmbedder([(static, 1), (embedder, 2)])
    vectors = composed.encode(TEXTS)
    assert np.array_equal(vectors, np.vstack([composed.encode([text]) for text in TEXTS]))
    assert np.array_equal(vectors, composed.encode(TEXTS, batch_tokens=16))
    assert composed.encode([]).shape == (0, composed.dim)


def test_an_index_takes_it(embedder: Embedder, static: Embedder, tmp_path: Path) -> None:
    """Adds, searches, opens again, embeds anew; refuses the members, other weights and another order."""
    composed = ComposedEmbedder([(static, 1), (embedder, 2)])
    path = tmp_path / "composed.db"
    with Index.open(path, composed) as index:
        index.add([Document(key=str(i), text=text) for i, text in enumerate(TEXTS) if text])
        assert index.search("a small cat", k=1, mode="vector")[0].key == "0"
        assert index.stats()["bundle"] == "static-minilm-l6-v2+all-minilm-l6-v2"
    with Index.open(path, ComposedEmbedder([(static, 2), (embedder, 4.0)]), read_only=True) as index:
        assert index.search("a small cat", k=1)[0].key == "0"
    others = [[(embedder, 1)], [(static, 1), (embedder, 3)], [(embedder, 2), (static, 1)]]
    for other in (embedder, *(ComposedEmbedder(parts) for parts in others)):
        with pytest.raises(BundleMismatchError):
            Index.open(path, other)
    done = reembed_index(path, ComposedEmbedder([(static, 1), (embedder, 1)], dim=64))
    assert done.documents == 4
    with Index.open(path, ComposedEmbedder([(static, 1), (embedder, 1)], dim=64)) as index:
        assert index.search("a small cat", k=1)[0].key == "0"


def test_passages_fit_every_member(embedder: Embedder, static: Embedder, tmp_path: Path) -> None:
    """Documents are split for the member that takes the fewest tokens, whichever comes first."""
    for parts in ([(static, 1), (embedder, 1)], [(embedder, 1), (static, 1)]):
        composed = ComposedEmbedder(parts)
        assert composed.tokenizer is embedder.tokenizer
        assert composed.max_tokens == embedder.max_tokens
        assert not composed.is_static
    assert ComposedEmbedder([(static, 1)]).is_static


def test_roles_reach_the_members(checkpoint: Checkpoints, embedder: Embedder, tmp_path: Path,
                                 short_receipt: None) -> None:  # fmt: skip
    """Each member puts its own prompt before a text, or all the one that the caller gives."""
    export_model(checkpoint(), tmp_path / "own", prompts={"query": "river ", "document": ""})
    own = Embedder(tmp_path / "own", threads=1)
    composed = ComposedEmbedder([(embedder, 1), (own, 1)])
    halves = [embedder.encode(TEXTS), own.encode([f"river {text}" for text in TEXTS])]
    assert np.abs(composed.encode_query(TEXTS) - np.hstack(halves) / np.sqrt(2)).max() < 1e-6
    assert not np.array_equal(composed.encode_query(TEXTS), composed.encode_document(TEXTS))
    prompted = np.hstack([e.encode([f"x {text}" for text in TEXTS]) for e in (embedder, own)]) / np.sqrt(2)
    assert np.abs(composed.encode(TEXTS, prompt="x ") - prompted).max() < 1e-6
    with pytest.raises(InputError, match="role is 'typo'"):
        composed.encode(TEXTS, role="typo")


def test_frame_of_the_members(embedder: Embedder, static: Embedder) -> None:
    """Binary codes of whole vectors side by side are made as the members' are; of others as they come."""
    assert static.frame.turned
    assert ComposedEmbedder([(static, 1), (embedder, 1)]).frame.turned
    assert not ComposedEmbedder([(static, 1), (embedder, 1)], dim=64).frame.turned
    assert not ComposedEmbedder([(embedder, 1)]).frame.turned
    composed = ComposedEmbedder([(static, 1), (embedder, 1)])
    codes, _ = quantize_int8(composed.encode(TEXTS))
    assert composed.frame.place(codes.astype(np.float32)).shape == codes.shape


def test_evaluation_takes_it(embedder: Embedder, static: Embedder) -> None:
    judged = JudgedSet({"a": "the cat sleeps", "b": "stocks fell"}, {"q": "a kitten"}, {"q": {"a": 1}})
    found = evaluate(judged, ComposedEmbedder([(static, 1), (embedder, 1)]))
    assert found["float"]["ndcg@10"] == 1.0
    assert found["int8"]["bytes_per_vector"] == 628


def test_what_cannot_be_composed(embedder: Embedder, static: Embedder) -> None:
    """No parts, weights that are none, things that are no embedders, a mean of different dims: all named."""
    for parts, what in (
        ([], "one part at least"),
        ([(embedder, 0)], "weight 0"),
        ([(embedder, -1.0)], r"weight -1\.0"),
        ([(embedder, float("nan"))], "weight nan"),
        ([(embedder, float("inf"))], "weight inf"),
        ([(embedder, True)], "weight True"),
        ([(embedder, "1")], "weight '1'"),
        ([(static, 1), ("minilm", 1)], "part 1 has str in the place of an Embedder"),
        ([embedder], r"part 0 is .*expected \(Embedder, weight\)"),
        ([((embedder, "law"), 1)], "no adapter 'law'"),
    ):
        with pytest.raises(InputError, match=what):
            ComposedEmbedder(parts)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"one dim, the parts have \[240, 384\]"):
        ComposedEmbedder([(static, 1), (embedder, 1)], mode="mean")
    with pytest.raises(InputError, match="mode is 'sum'"):
        ComposedEmbedder([(embedder, 1)], mode="sum")  # type: ignore[arg-type]
    for mode, dim in (("concat", 1), ("concat", 625), ("mean", 241), ("mean", 0)):
        with pytest.raises(InputError, match="dim is"):
            ComposedEmbedder([(static, 1), (embedder, 1)], mode=mode, dim=dim)  # type: ignore[arg-type]
    composed = ComposedEmbedder([((embedder, "base"), 1)])
    for option in ({"adapter": "base"}, {"truncate_dim": 8}):
        with pytest.raises(InputError, match="is chosen when a ComposedEmbedder is made"):
            composed.encode(TEXTS, **option)
