"""Attention of long texts: queries in blocks, each with the keys that it sees, so that memory grows with the length.

The whole table of scores of 8,192 tokens and 12 heads takes 3.2 GB, several times. Here one step of ONNX's Scan
computes the scores of a block of queries, whole rows of them, so softmax stays what it is. Short texts go the same way:
their queries are one block.

A text has one vector, because what a step computes for a query depends on the query's place in the text alone: blocks
and windows begin at the same tokens whatever the length of the batch. Of a longer batch a step sees more keys, all
hidden and behind those of the text, which weigh exactly 0.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_embed_export.transformer.attention import Attention
from edge_embed_export.transformer.positions import MASKED, offsets
from edge_embed_export.transformer.spec import Array, Layer, Spec, Weights

# Queries in a block. Fewer make products inefficient, more need more memory. Of a table with numbers for each head,
# rows for one block are held for all offsets, 6 MB a row at 12 heads and 8,192 tokens.
ROWS, ROWS_WITH_HEADS = 128, 64
# From so many tokens on a step takes one head, so that its scores stay in the cache (1.6 times as fast at 4,096).
APART = 1024


@dataclass(frozen=True)
class Span:
    """What a query sees: tokens before and after itself, None for all."""

    before: int | None = None
    after: int | None = None

    @property
    def narrow(self) -> bool:
        """Whether the scores of a block are few, for all heads together."""
        return self.before is not None and self.after is not None and self.before + self.after <= APART


@dataclass(frozen=True)
class Steps:
    """Of every step, one after the other, where it begins and ends: int64 [steps, ...].

    queries, keys, hidden, bias: in [s, b, heads, ...], [s, b, heads, ...], [b, ..., s] and [heads, rows, ...]
    groups:                      steps of one block, each with other heads; the block is what changes faster
    """

    queries: tuple[str, str]
    keys: tuple[str, str]
    hidden: tuple[str, str]
    bias: tuple[str, str]
    groups: str


def architecture(spec: Spec, weights: Weights) -> dict[str, int]:
    """What a manifest says so that memory can be predicted (see `budget.activation_bytes`).

    block: queries in a block; block_tables: tables that are added to their scores; width: numbers of all heads
    """
    if not spec.blockwise:
        return {}
    tables = table_heads(spec, weights)
    rows = block_size(tables)
    return {"block": rows, "block_tables": max(tables, default=0), "width": spec.heads * spec.size}


def table_heads(spec: Spec, weights: Weights) -> list[int]:
    return [len(weights[f"positions.{block.bias}"]) for block in spec.blocks if block.bias]


def block_size(tables: list[int]) -> int:
    return ROWS_WITH_HEADS if max(tables, default=0) > 1 else ROWS


def seen(table: Array, max_tokens: int) -> Span:
    """What a table by offset leaves to be seen."""
    near = offsets(max_tokens)[(table > MASKED / 2).any(axis=0)]
    before, after = -int(near.min()), int(near.max())
    return Span(None if before == max_tokens - 1 else before, None if after == max_tokens else after)


class Blockwise(Attention):
    """Attention in blocks where `spec.blockwise` says so."""

    groups = ""

    def lay_out(self) -> None:
        """As `Attention.lay_out`, with texts and heads apart; besides, numbers of blocks and queries."""
        g, spec = self.graph, self.spec
        if not spec.blockwise:
            super().lay_out()
            return
        kv, grouped = spec.heads // spec.sharing, spec.sharing > 1
        self.block_size = block_size(table_heads(spec, self.weights))
        self.split = self.joined("length", "batch", kv, *([spec.sharing] if grouped else []), spec.size)
        self.shared = self.joined("length", "batch", kv, *([1] if grouped else []), spec.size)
        self.hidden = g.op("Unsqueeze", self.padded, g.shape(*range(1, 4 if grouped else 3)))
        more = g.op("Add", "length", g.shape(self.block_size - 1))
        self.block_count = g.op("Div", more, g.shape(self.block_size))
        self.block_rows = g.op("Min", g.shape(self.block_size), "length")
        self.whole = g.op("Mul", self.block_count, self.block_rows)
        self.lacking = g.op("Concat", g.shape(0), g.op("Sub", self.whole, "length"), axis=0)

    def attention(self, x: str, layer: str, block: Layer, asking: str = "") -> str:
        """As `Attention.attention`; the context is [steps, ..., rows, size], and `merge_heads` puts it in order."""
        if not self.spec.blockwise:
            return super().attention(x, layer, block, asking)
        g, spec = self.graph, self.spec
        parts = ("query", "key", "value")
        q, k, v = (self.heads(self.linear(x, f"{layer}.{part}"), layer, part, block) for part in parts)
        q = g.op("Pad", q, self.lacking, "", g.shape(0))
        span = Span() if block.bias is None else seen(self.weights[f"positions.{block.bias}"], spec.max_tokens)
        steps = self.steps(span, len(self.weights[f"positions.{block.bias}"]) if block.bias else 1)
        table = self.shifted(block.bias) if block.bias else ""
        hide = not spec.causal or block.bias is None
        ends = (*steps.queries, *steps.keys, *(steps.bias if table else ()), *(steps.hidden if hide else ()))
        step = partial(self.step, q, k, v, table, self.hidden if hide else "")
        context = g.scan(step, ends, ["texts", "heads", *(["sharing"] * (spec.sharing > 1)), "rows", spec.size])
        self.groups = steps.groups
        found = self.leave(context, layer)
        self.groups = ""
        return found

    def step(self, q: str, k: str, v: str, table: str, hidden: str, *ends: str) -> str:
        """The context of one block of queries, [b, heads, rows, size] or [b, kv_heads, sharing, rows, size]."""
        g, left = self.graph, list(ends)

        def cut(x: str, places: list[str], *axes: int) -> str:
            return g.op("Slice", x, *places, g.shape(*axes))

        queries = cut(q, left[:2], 0, 1, 2)
        keys, values = (cut(x, left[2:4], 0, 1, 2) for x in (k, v))
        del left[:4]
        scores = g.op(
            "FusedMatMul", queries, keys, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0
        )
        scores = self.capped(scores)
        bias = ""
        if table:
            bias = cut(table, left[:2], 0, -1)
            del left[:2]
        if hidden:
            padding = cut(hidden, left, 0, -1)
            bias = g.op("Add", bias, padding) if bias else padding
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        if self.spec.unattended is not None and table:
            weights = g.op("Mul", weights, self.alive(bias))
        return g.op("FusedMatMul", weights, values, domain="com.microsoft", transBatchB=1)

    def merge_heads(self, x: str, width: int) -> str:
        """The context of all steps -> [s * b, width]."""
        if not self.groups:
            return super().merge_heads(x, width)
        g = self.graph
        apart = self.joined(self.groups, self.block_count, -1, self.block_rows, self.spec.size)
        x = g.op("Transpose", g.op("Reshape", x, apart), perm=[1, 3, 0, 2, 4])
        tokens = self.once("tokens", lambda: g.op("Mul", "length", "batch"))
        return g.op("Slice", g.op("Reshape", x, g.shape(-1, width)), g.shape(0), tokens, g.shape(0))

    def steps(self, span: Span, tables: int) -> Steps:
        """Of layers that see the same, where their steps begin and end. tables: heads of their table"""
        g = self.graph
        name = f"steps:{span}:{tables}"

        def number(part: str, op: str, *inputs: str) -> str:
            return self.once(f"{name}:{part}", partial(g.op, op, *inputs))

        def pair(part: str, *columns: str) -> str:
            return self.once(f"{name}:{part}", partial(g.op, "Concat", *columns, axis=1))

        groups, batches, heads = self.grouping(span.narrow)
        steps = number("count", "Mul", groups, self.block_count)
        last = number("last", "Squeeze", steps)
        numbers = number("range", "Range", g.scalar(0, "int64"), last, g.scalar(1, "int64"))
        numbers = number("numbers", "Unsqueeze", numbers, g.shape(1))
        group, block = (number(op, op, numbers, self.block_count) for op in ("Div", "Mod"))
        start = number("start", "Mul", block, self.block_rows)
        end = number("end", "Add", start, self.block_rows)
        kv = g.shape(self.spec.heads // self.spec.sharing)
        first_batch, first_head = number("batch", "Div", group, kv), number("head", "Mod", group, kv)
        end_batch, end_head = number("batches", "Add", first_batch, batches), number("heads", "Add", first_head, heads)
        zero = number("zero", "Sub", start, start)
        first = zero
        if span.before is not None:
            first = number("first", "Max", number("before", "Sub", start, g.shape(span.before)), g.shape(0))
        behind = end if span.after is None else number("after", "Add", end, g.shape(span.after))
        behind = (
            number("behind", "Min", behind, "length")
            if span.after is not None
            else number("behind", "Add", zero, "length")
        )
        # columns of a table in rows by offset, which begin with those of the last block's first query
        base = number("base", "Sub", self.whole, end)
        left, right = number("left", "Add", base, first), number("right", "Add", base, behind)
        table_end = number("one", "Add", zero, g.shape(1)) if tables == 1 else end_head
        return Steps(
            (pair("q0", start, first_batch, first_head), pair("q1", end, end_batch, end_head)),
            (pair("k0", first, first_batch, first_head), pair("k1", behind, end_batch, end_head)),
            (pair("h0", first_batch, first), pair("h1", end_batch, behind)),
            (pair("t0", zero if tables == 1 else first_head, left), pair("t1", table_end, right)),
            groups,
        )

    def grouping(self, together: bool) -> tuple[str, str, str]:
        """Steps of one block, and how many texts and heads (of keys) are in each: int64 [1]."""
        g, kv = self.graph, self.spec.heads // self.spec.sharing
        if together:
            return g.shape(1), "batch", g.shape(kv)

        def choose(long: str, short: str) -> str:
            is_long = self.once("long", lambda: g.op("Greater", "length", g.shape(APART)))
            return g.op("Where", is_long, long, short)

        every = self.once("every", lambda: g.op("Mul", "batch", g.shape(kv)))
        return (
            self.once("groups", lambda: choose(every, g.shape(1))),
            self.once("groups:batch", lambda: choose(g.shape(1), "batch")),
            self.once("groups:heads", lambda: choose(g.shape(1), g.shape(kv))),
        )

    def shifted(self, name: str) -> str:
        """A table by offset as rows for one block, each shifted by one against that before: [heads or 1, rows, ...].

        Column c of row r is for the offset c - r - (blocks - 1) * rows; see `Attention.skew`.
        """
        g, table, most = self.graph, self.weights[f"positions.{name}"], self.spec.max_tokens

        def make() -> str:
            # rows behind the last token, which nobody reads, would begin before the table
            wide = g.constant(f"positions.{name}", np.pad(table, ((0, 0), (self.block_size, 0)), mode="edge"))
            start = g.op("Sub", g.shape(most + self.block_size), self.whole)
            # rows are one shorter than what they are cut from: of a single token one would have no columns
            reach = g.op("Max", "length", g.shape(2))
            width = g.op("Sub", g.op("Add", self.whole, reach), g.shape(1))
            near = g.op("Unsqueeze", g.op("Slice", wide, start, g.op("Add", start, width), g.shape(1)), g.shape(1))
            rows = g.op("Expand", near, g.op("Concat", g.shape(1), self.block_rows, g.shape(1), axis=0))
            rows = g.op("Reshape", rows, g.shape(0, -1))
            shorter = g.op("Sub", width, g.shape(1))
            skip = g.op("Sub", self.block_rows, g.shape(1))
            rows = g.op("Slice", rows, skip, g.op("Add", skip, g.op("Mul", self.block_rows, shorter)), g.shape(1))
            return g.op("Reshape", rows, g.op("Concat", g.shape(0), self.block_rows, shorter, axis=0))

        return self.once(f"shifted:{name}", make)
