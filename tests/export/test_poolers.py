"""Stored queries that look at tokens, against the same computed by hand: SigLIP's head, CoCa's pooler, the Q-Former."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import handtowers
from builders.architectures import Tensors
from builders.texttowers import HEADS, HIDDEN, INNER, LAYERS, QFORMER, add_qformer

from edge_embed_export.families import poolers
from edge_embed_export.families.reader import Reader
from edge_embed_export.files.accounting import Accounted
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.layers import Parts
from edge_embed_export.transformer.pooler import StoredQueries
from edge_embed_export.transformer.spec import Spec
from edge_embed_quantize.calibrate import Recipe, condition, grams, quantize_layers, ranges
from edge_embed_quantize.rounding import round_int8
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.model.session import make_session

Array = np.ndarray[Any, Any]
WIDTH = 40  # numbers of a token of CoCa's pictures
TOKENS = np.random.default_rng(1).standard_normal((2, 9, HIDDEN)).astype(np.float32)


def reader(tensors: Tensors, anchor: str, config: dict[str, Any] | None = None) -> Reader:
    return Reader(
        Checkpoint(Path("folder"), config or {}, Accounted(tensors), {}, None, None, (), {}, "", None), anchor
    )


def siglip() -> tuple[Tensors, Reader, StoredQueries, Callable[[Array], Array]]:
    t = Tensors()
    t.add("head.probe", 1, 1, HIDDEN)
    t.add("head.attention.in_proj_weight", 3 * HIDDEN, HIDDEN)
    t.add("head.attention.in_proj_bias", 3 * HIDDEN)
    t.linear("head.attention.out_proj", HIDDEN, HIDDEN)
    t.norm("head.layernorm")
    t.linear("head.mlp.fc1", INNER, HIDDEN)
    t.linear("head.mlp.fc2", HIDDEN, INNER)
    read = reader(t, "head.probe")
    return (
        t,
        read,
        poolers.read_siglip_head(read, HEADS, 1e-6, "gelu_tanh"),
        lambda x: handtowers.siglip_head(t, x, HEADS, 1e-6)[None],
    )


def coca() -> tuple[Tensors, Reader, StoredQueries, Callable[[Array], Array]]:
    """Queries of other numbers than tokens have; only the first of them gives the picture's vector."""
    t = Tensors()
    t.add("attn_pool.query", 6, WIDTH)
    t.add("attn_pool.attn.q_proj_weight", WIDTH, WIDTH)
    for part in "kv":
        t.add(f"attn_pool.attn.{part}_proj_weight", WIDTH, HIDDEN)
    t.add("attn_pool.attn.in_proj_bias", 3 * WIDTH)
    t.linear("attn_pool.attn.out_proj", WIDTH, WIDTH)
    t.norm("attn_pool.ln_q", WIDTH)
    t.norm("attn_pool.ln_k")
    read = reader(t, "attn_pool.query")
    return (
        t,
        read,
        poolers.read_coca_pooler(read, HEADS),
        lambda x: handtowers.coca_pooler(t, x, HEADS)[:1],
    )


def qformer() -> tuple[Tensors, Reader, StoredQueries, Callable[[Array], Array]]:
    t = Tensors()
    add_qformer(t, 9)
    read = reader(t, "layernorm.weight", QFORMER)
    return (
        t,
        read,
        poolers.read_qformer(read, t["query_tokens"], 1e-12, "gelu"),
        lambda x: handtowers.qformer(t, x, layers=LAYERS, heads=HEADS),
    )


def session(queries: StoredQueries, weights: Any, batch: int, layers: Any = None, *, observe: bool = False) -> Any:
    """A graph of nothing but the queries."""
    spec = Spec(layers=1, hidden=HIDDEN, heads=HEADS, intermediate=8, vocab=0, max_tokens=9, dim=queries.width)
    parts = Parts(spec, weights, layers or {}, None, observe)
    graph = parts.graph
    tokens = graph.feed("tokens", ["rows", HIDDEN])
    graph.constant("batch", np.array([batch], np.int64))
    graph.op("Identity", queries.pool(parts, tokens), name="found")
    outputs: dict[str, Any] = {"found": ["vectors", queries.width]}
    for name, values in (parts.observed or {}).items():
        outputs[graph.op("Identity", values[0], name=name)] = None
    return make_session(graph.model(outputs, "test").SerializeToString(), threads=1)


def rows(tokens: Array) -> Array:
    """[b, s, h] -> [s * b, h]: token t of picture i in row t * b + i."""
    return np.ascontiguousarray(tokens.swapaxes(0, 1).reshape(-1, tokens.shape[2]))


@pytest.mark.parametrize("make", [siglip, coca, qformer])
def test_queries_see_what_they_see_by_hand(make: Any) -> None:
    """Two pictures at once, their vectors one after the other, within 1e-5; each as if it were alone."""
    _, read, queries, by_hand = make()
    (found,) = session(queries, read.weights, 2).run(["found"], {"tokens": rows(TOKENS)})
    expected = np.concatenate([by_hand(x.astype(float)) for x in TOKENS])
    assert found.shape == (2 * queries.queries, queries.width)
    assert np.abs(found - expected).max() < 1e-5
    one = session(queries, read.weights, 1)
    again = np.concatenate([one.run(["found"], {"tokens": rows(x[None])})[0] for x in TOKENS])
    assert np.abs(again - expected).max() < 1e-5


@pytest.mark.parametrize("make", [siglip, coca, qformer])
def test_queries_in_int8_see_nearly_the_same(make: Any) -> None:
    """All linear layers but the first product with stored queries run in int8, calibrated on 24 pictures."""
    _, read, queries, _ = make()
    pictures = np.random.default_rng(2).standard_normal((24, 9, HIDDEN)).astype(np.float32)
    weights = {name: np.ascontiguousarray(array, np.float32) for name, array in read.weights.items()}
    sites = queries.sites(weights)
    linears = {name.removesuffix(".weight") for name, w in weights.items() if name.endswith(".weight") and w.ndim == 2}
    assert sorted(reader for site in sites for reader in site.readers) == sorted(linears)
    one = session(queries, weights, 1, observe=True)
    names = [site.name for site in sites]

    def seen() -> Any:
        return [dict(zip(names, one.run(names, {"tokens": rows(x[None])}), strict=True)) for x in pictures]

    found = ranges(seen())
    recipes = {site.name: Recipe(smooth=0.5) if site.name.endswith(".out.input") else Recipe("row") for site in sites}
    moved, inputs = condition(weights, sites, recipes, found)
    products = grams(seen(), inputs)
    layers = quantize_layers(
        moved, sites, inputs, lambda site, weight: (*round_int8(weight, products[site.name]), None)
    )
    exact, quantized = session(queries, weights, 1), session(queries, moved, 1, layers)
    for x in TOKENS:
        before, after = (s.run(["found"], {"tokens": rows(x[None])})[0] for s in (exact, quantized))
        cosines = (handtowers.unit(before) * handtowers.unit(after)).sum(axis=1)
        assert cosines.min() > 0.99


def test_queries_that_are_not_what_the_config_says_are_refused() -> None:
    tensors, read, _, _ = siglip()
    with pytest.raises(ExportError, match="no attention of 5 heads"):
        poolers.read_siglip_head(read, 5, 1e-6, "gelu")
    tensors["head.probe"] = np.zeros((1, 2, HIDDEN), np.float32)
    with pytest.raises(ExportError, match="has 2 queries"):
        poolers.read_siglip_head(reader(tensors, "head.probe"), HEADS, 1e-6, "gelu")
