"""A static model from any bundle: what the bundle says of each token alone, then fitted to what it says of texts.

1. Every token of the vocabulary goes through the model alone (Minish Lab's Model2Vec,
   https://github.com/MinishLab/model2vec), is centred, and weighted by how rare it is (`table.zipf_weights`).
2. With texts: a linear map of all rows by ridge regression, so that sums of rows come near to the model's vectors of
   the texts; then each row on its own by regularised least squares, which tokens without texts do not take part in.
   Every tenth text is held out, and says how strongly to regularise, and whether a step pays.
3. Principal components: rotated so that the first dimensions say most, and cut.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.stored import Array
from edge_embed_export.modules.folder import Folder
from edge_embed_export.options import ExportOptions
from edge_embed_export.request import Request
from edge_embed_export.static.bundle import write_static
from edge_embed_export.static.table import StaticSource, zipf_weights
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.checks import check_count
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import ExportError, InputError
from edge_embed_runtime.inputs.tokenizer import TokenIds
from edge_embed_runtime.progress import progress_bar

# What Model2Vec takes: a hundred times rarer words count fifty times as much.
SIF = 1e-4
LEAST_TEXTS = 100
HELD_OUT = 10
# Strengths of regularisation that are tried, the strongest first.
MAP_STRENGTHS = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
ROW_STRENGTHS = (3.0, 1.0, 0.3)
STEPS = 12
# Rows that are gathered at a time: 12 MB at 384 dimensions.
BLOCK = 8192
PLACEHOLDER = re.compile(r"\[unused\d+\]|<unused\d+>")


@dataclass(frozen=True)
class Counts:
    """Which tokens each of n texts holds: a sparse matrix [n, vocab] with products from both sides."""

    texts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: Sequence[TokenIds], vocab: int) -> "Counts":
        texts = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return cls(texts, np.concatenate(rows).astype(np.int64), (len(rows), vocab))

    def times(self, table: Array, scale: Array) -> Array:
        """Sums of the tokens' rows [n, d], each times the scale of its text."""
        return _sums(table, self.tokens, self.texts, self.shape[0]) * scale[:, None]

    def transposed_times(self, values: Array, scale: Array) -> Array:
        """For each token the sum of its texts' values [vocab, d], each times the scale of its text."""
        order = np.argsort(self.tokens, kind="stable")
        return _sums(values * scale[:, None], self.texts[order], self.tokens[order], self.shape[1])

    def diagonal(self, scale: Array) -> Array:
        """The diagonal of (counts * scale).T @ (counts * scale), as if no token came twice in a text."""
        found = np.bincount(self.tokens, (scale**2)[self.texts], self.shape[1])
        return np.asarray(found, np.float32)[:, None]


def _sums(rows: Array, which: NDArray[np.int64], into: NDArray[np.int64], count: int) -> Array:
    """sums[j] = the sum of rows[which[i]] over all i with into[i] == j; `into` ascends."""
    sums = np.zeros((count, rows.shape[1]), np.float32)
    for start in range(0, len(which), BLOCK):
        target = into[start : start + BLOCK]
        first = np.flatnonzero(np.diff(target, prepend=-1))
        found = np.add.reduceat(rows.take(which[start : start + BLOCK], axis=0), first, axis=0)
        sums[target[first]] += found
    return sums


def distill_model(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dim: int = 256,
    texts: Sequence[str] = (),
    texts_name: str = "",
    name: str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Make a static bundle of a bundle. No torch is needed.

    dim:   numbers in a vector, at most the bundle's
    texts: unlabelled texts of the kind that will be embedded, 100 or more; some thousands make vectors much better
    texts_name: what they are, for the manifest

    Raises InputError for a static bundle, for too many dimensions and for too few texts.
    """
    loaded = read_bundle(bundle)
    if loaded.manifest.is_static:
        raise InputError(f"{loaded.path} is static already: only a model that reads whole texts can be distilled")
    loaded.manifest.output.check_embeds(loaded.path)
    check_count(dim, "dim", 1, loaded.manifest.dim)
    given = [text for text in dict.fromkeys(texts) if text.strip()]
    if texts and len(given) < LEAST_TEXTS:
        raise InputError(f"{len(given)} different texts are too few to learn from: give {LEAST_TEXTS} or more, or none")
    teacher = Embedder(loaded, threads=threads)
    progress(f"embedding {teacher.tokenizer.largest_id + 1} tokens")
    table, kept = _start(teacher, show_progress)
    notes: dict[str, Any] = {"distilled_from": f"{teacher.manifest.name}, {teacher.fingerprint}", "sif": SIF}
    axes = table[kept]
    if given:
        progress(f"embedding {len(given)} texts")
        expected = teacher.encode_document(given, show_progress=show_progress)
        progress("fitting")
        expected -= expected.mean(axis=0)
        rows = [_content(teacher, text) for text in given]
        table, notes["held_out_cosine"] = fit(table, rows, expected)
        digest = hashlib.sha256("\n".join(given).encode()).hexdigest()
        notes["texts"] = {"name": texts_name, "count": len(given), "sha256": digest}
        axes = expected
    static = StaticSource(
        kind="distilled",
        vectors=table @ _components(axes, dim),
        tokenizer=json.loads(loaded.tokenizer),
        sha256=loaded.manifest.files[loaded.manifest.large_files()[-1]].sha256,
        licence=teacher.manifest.provenance.get("licence"),
        notes=notes,
    )
    source = str(teacher.manifest.provenance.get("source", teacher.manifest.name))
    cut = [n for n in (dim // 2, dim // 4) if n]
    options = ExportOptions(name=name, source_name=source, truncate_dims=cut, overwrite=overwrite, progress=progress)
    return write_static(static, Request(loaded.path, Folder(loaded.path), Path(out), options))


def _content(teacher: Embedder, text: str) -> TokenIds:
    """The ids that the model sees of a text, without special tokens."""
    ids = teacher.tokenizer.encode(teacher.prompts["document"] + text)
    before, after = teacher.tokenizer.around
    return ids[len(before) : len(ids) - len(after)]


def _start(teacher: Embedder, show_progress: bool) -> tuple[Array, NDArray[np.bool_]]:
    """Rows [vocab, d], centred and weighted, and which tokens a text can hold; the others' rows are 0."""
    vocabulary = teacher.tokenizer.vocabulary()
    size = teacher.tokenizer.largest_id + 1
    special = set(teacher.tokenizer.added_tokens())
    kept = np.zeros(size, np.bool_)
    for token, number in vocabulary.items():
        kept[number] = token not in special and not PLACEHOLDER.fullmatch(token)
    if not kept.any():
        raise ExportError(f"{teacher.path}: its tokenizer has no tokens but special ones")
    ids = np.flatnonzero(kept)
    before, after = teacher.tokenizer.around
    rows = [np.array([*before, number, *after], np.int64) for number in ids]
    found = np.empty((len(ids), teacher.dim), np.float32)
    network = teacher.network
    with progress_bar(len(ids), show_progress) as advance:
        for start in range(0, len(rows), BLOCK):
            for batch, vectors in network.run_all(
                rows[start : start + BLOCK], network.loaded.batch_tokens, network.run
            ):
                found[[start + i for i in batch]] = vectors
                advance(len(batch))
    found -= found.mean(axis=0)
    # vocabularies are in the order of how frequent their tokens are, or nearly
    found *= zipf_weights(np.arange(len(ids)), SIF)[:, None]
    table = np.zeros((size, teacher.dim), np.float32)
    table[ids] = found
    return table, kept


def fit(table: Array, rows: Sequence[TokenIds], expected: Array) -> tuple[Array, dict[str, float]]:
    """A table whose sums over texts come nearer to the expected vectors, and the mean cosines of texts held out.

    table:    [vocab, d]
    rows:     token ids of n texts
    expected: [n, d]
    """
    full = [i for i, row in enumerate(rows) if len(row) and table[row].any()]
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    expected = expected / np.maximum(lengths, np.float32(1e-12))
    parts = [[i for i in full if (i % HELD_OUT == 0) == held] for held in (False, True)]
    (counts, target), (held, wanted) = ((Counts.of([rows[i] for i in p], len(table)), expected[p]) for p in parts)

    def cosine(tried: Array) -> float:
        sums = held.times(tried, np.ones(held.shape[0], np.float32))
        norms = np.maximum(np.linalg.norm(sums, axis=1), 1e-12)
        return float(((sums * wanted).sum(axis=1) / norms).mean())

    figures = {"tokens": cosine(table)}
    for step, candidates in (("map", _mapped), ("rows", _moved)):
        best = figures["tokens"] if step == "map" else figures["map"]
        for tried in candidates(table, counts, target):
            reached = cosine(tried)
            if not reached > best:
                break  # strengths only fall: what comes is fitted more closely still
            best, chosen = reached, tried
            table = chosen
        figures[step] = best
    return table, {name: round(value, 4) for name, value in figures.items()}


def _scales(counts: Counts, table: Array) -> tuple[Array, Array]:
    """What brings each text's sum to length 1 [n], and the sums of length 1 [n, d]."""
    sums = counts.times(table, np.ones(counts.shape[0], np.float32))
    norms = np.linalg.norm(sums, axis=1)
    scale = np.where(norms > 0, 1 / np.maximum(norms, 1e-12), 0).astype(np.float32)
    return scale, sums * scale[:, None]


def _mapped(table: Array, counts: Counts, target: Array) -> Iterator[Array]:
    """Tables under linear maps by ridge regression, less and less like the identity."""
    _, sums = _scales(counts, table)
    gram, cross, one = sums.T @ sums, sums.T @ target, np.eye(table.shape[1], dtype=np.float32)
    for strength in MAP_STRENGTHS:
        yield table @ np.linalg.solve(gram + strength * one, cross + strength * one).astype(np.float32)


def _moved(table: Array, counts: Counts, target: Array) -> Iterator[Array]:
    """Tables of which each row has moved, further and further: conjugate gradients on the normal equations.

    Magnus Hestenes and Eduard Stiefel: Methods of conjugate gradients for solving linear systems (1952).
    """
    scale, sums = _scales(counts, table)
    right = counts.transposed_times(target - sums, scale)
    mean = float((scale**2).mean())
    for strength in ROW_STRENGTHS:
        pull = np.float32(strength * mean)
        condition = 1 / (counts.diagonal(scale) + pull)
        move, residual = np.zeros_like(table), right.copy()
        direction = condition * residual
        energy = float((residual * direction).sum())
        for _ in range(STEPS):
            product = counts.transposed_times(counts.times(np.asarray(direction, np.float32), scale), scale)
            product += pull * direction
            length = np.float32(energy / max(float((direction * product).sum()), 1e-30))
            move += length * direction
            residual -= length * product
            ahead = condition * residual
            before, energy = energy, float((residual * ahead).sum())
            direction = ahead + np.float32(energy / max(before, 1e-30)) * direction
        yield table + move


def _components(vectors: Array, dim: int) -> Array:
    """The principal axes [d, dim] of centred vectors [n, d], each with the sign that its largest number is positive."""
    _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    axes = axes[:, ::-1][:, :dim]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dim)])
    return np.asarray(axes * signs, np.float32)
