"""From a published ONNX model, or one that torch converted, to a verified bundle."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.recipes import Quantized, read_recipes
from edge_embed_export.calibration.texts import calibration_texts
from edge_embed_export.families.known import is_known
from edge_embed_export.files.reading import is_there
from edge_embed_export.files.tensors import INDEX, WEIGHTS
from edge_embed_export.general.convert import convert
from edge_embed_export.general.model import General, GeneralQuantizer
from edge_embed_export.general.signature import TOLERANCE, Original, Prepared, prepare, trial
from edge_embed_export.general.structure import WORDS, find_structure
from edge_embed_export.modules.listed import as_steps
from edge_embed_export.options import GraphOptions, Pooling
from edge_embed_export.receipt.finish import check_usable, finish
from edge_embed_export.receipt.truncation import truncation
from edge_embed_export.request import CODES, FLOAT32, Request, Source
from edge_embed_export.sources.onnxfile import USUAL_TOKENS, Published, find_onnx, read_published
from edge_embed_export.sources.prompts import check_prompts
from edge_embed_export.sources.purpose import noted
from edge_embed_export.tokenizer.definition import load
from edge_embed_export.transformer.spec import Spec
from edge_embed_runtime.bundle.bundle import Bundle, file_records
from edge_embed_runtime.bundle.manifest import MODEL, OWN_POOLING, TOKENIZER, Manifest
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import ExportError, InputError, SourceError
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.model.batching import pad
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.vectors.kinds import DENSE

Vectors = NDArray[np.float32]

# Texts whose vectors are compared, alone and in a batch with others, with the published file's.
COMPARED = 12
LENGTHS = (3, 5, 8, 16, 33)
# What a batch may hold, and why not more.
BATCHES = {
    "padded": "",
    "equal": "a text's vector depends on padding, so a batch holds texts of one length",
    "single": "a text's vector may depend on the batch, so a batch holds one text",
}
# Vectors that differ by more than the last bits of their numbers are not the same.
SAME = 1 - 1e-6


def read_model(published: Published, options: GraphOptions, max_tokens: int | None) -> tuple[General, Prepared]:
    """What a published graph is made of.

    max_tokens: of a text; None means what its files say, at most what its position table has rows for
    """
    prepared = prepare(published, pooling=options.pooling, output=options.output)
    if prepared.pooling is None:  # a graph that gives vectors of texts has the modules in it, and no cut
        published = replace(published, of_tokens=(), after=tuple(m for m in published.after if m.step.kind == "cut"))
    structure = find_structure(prepared.graph)
    weights = dict(structure.weights)
    if any(module.sides > 1 for module in published.after):
        raise ExportError(f"{published.path}: a Router with a Dense for each side needs a checkpoint, not a graph")
    config, table = published.config, weights.get(WORDS)
    widths = [w.shape[1] for name, w in weights.items() if name.startswith("linear.") and w.ndim == 2]
    heads = config.get("num_attention_heads")
    spec = Spec(
        layers=0,
        hidden=0,
        heads=heads if isinstance(heads, int) and heads > 0 else 0,
        intermediate=max(widths, default=0),
        vocab=0 if table is None else len(table),
        max_tokens=max_tokens or published.max_tokens or USUAL_TOKENS,
        dim=0,
        pooling=prepared.pooling or "mean",
        left_out=_left_out(published, prepared.pooling),
    )
    model = General(structure, spec, weights, pooled=prepared.pooling is None)
    return _fitted(model, published, longest=max_tokens), prepared


def _left_out(published: Published, pooling: Pooling | None) -> str:
    """Which tokens are not pooled. Raises ExportError where pooling is in the graph, or takes the first token."""
    if published.left_out and (pooling is None or "cls" in pooling.split("+")):
        raise ExportError(
            f"{published.path}: tokens of a prompt are left out of the model's pooling (include_prompt false), which "
            f"{'is in the graph already' if pooling is None else 'takes the first token'}: no bundle can do that"
        )
    return "" if pooling == "last" else published.left_out


def _fitted(model: General, published: Published, *, longest: int | None) -> General:
    """The model with its dimensions and the number of tokens that it can take, found by running it."""
    spec, path = model.spec, published.path
    draft = replace(model, spec=replace(spec, dim=1, pooling=spec.pooling.partition("+")[0]))
    session = make_session(draft.build().SerializeToString(), threads=1)

    def run(tokens: int) -> NDArray[Any]:
        return np.asarray(session.run(None, trial(1, tokens))[0])

    hidden = run(5).shape[-1]
    most = spec.max_tokens
    try:
        run(most)
    except Exception as error:  # onnxruntime's errors have no common type
        low, high = 5, most
        while high - low > 1:
            middle = (low + high) // 2
            try:
                run(middle)
                low = middle
            except Exception:  # noqa: BLE001
                high = middle
        if longest is not None:
            raise ExportError(f"{path}: the model fails for {longest} tokens; it takes at most {low}") from error
        most = low
    how = "" if model.pooled else spec.pooling
    steps, weights = as_steps(published.of_tokens, published.after, hidden, how)
    fitted = replace(spec, hidden=hidden, max_tokens=most, **steps)
    return replace(model, spec=fitted, weights={**model.weights, **weights})


class OnnxGraph(Source):
    """An ONNX file, or a folder with one and no checkpoint of a known family."""

    def fits(self, request: Request) -> bool:
        return request.options.graph.file is not None or _holds_graph(request)

    def refuses(self, request: Request) -> str:
        options = ("adapter", "adapters", "task", "attention", "side")
        if request.options.given(*options) or request.options.output not in (None, DENSE):
            return (
                f"{request.source} is taken as a graph; adapters, tasks, --attention and other kinds of vectors need a "
                "checkpoint"
            )
        return super().refuses(request)

    def read(self, request: Request) -> Published:
        """The graph as it was published."""
        options, source = request.options, request.source
        tokenizer = None if options.graph.tokenizer is None else Path(options.graph.tokenizer)
        file = find_onnx(source, options.graph.file)
        if file is None:
            raise SourceError(f"{source} holds no ONNX model")
        return read_published(source, file, tokenizer=tokenizer, names=options.names)

    def export(self, request: Request) -> Manifest:
        options = request.options
        recipes = None if options.recipes is None else read_recipes(options.recipes)
        options.progress(f"reading {request.source}")
        published = self.read(request)
        options.progress("bringing the graph into our form")
        model, prepared = read_model(published, options.graph, options.max_tokens)
        maker = _Maker(
            request, published, model, *_tokenizer(published, model), notes=[*published.conversion, *prepared.done]
        )
        check_prompts(maker.tokenizer, maker.prompts, request.source)
        reference, _ = maker.make(None)
        check_usable(reference, published.path)
        maker.batches = _find_batches(published.path, model, reference)
        maker.notes += [BATCHES[maker.batches]] * (maker.batches != "padded")
        maker.notes += _compare(published, prepared, reference, maker.tokenizer)
        reference, contents = maker.make(None)  # its manifest says now what was found out
        embedder = reference
        if options.precision != "fp32":
            options.progress("calibrating")
            embedder, contents = maker.make(GeneralQuantizer(model, maker.tokenizer).run(recipes, options))
        if not _keeps_vectors(request.source, embedder, maker.batches):
            raise ExportError(
                f"{request.source}: a text's vector depends on those that it is batched with; no bundle may do that"
            )
        for note in maker.notes:
            options.progress(note)
        return finish(request, contents, (reference, embedder))


class Converted(OnnxGraph):
    """A checkpoint of any architecture that torch converts."""

    def fits(self, request: Request) -> bool:
        return request.options.graph.convert

    def read(self, request: Request) -> Published:
        """The graph that torch makes of a checkpoint."""
        options, source = request.options, request.source
        if not _holds_weights(source) and find_onnx(source) is not None:
            raise InputError(f"{source} holds an ONNX model and no checkpoint: there is no use for --general")
        tokenizer = None if options.graph.tokenizer is None else Path(options.graph.tokenizer)
        return convert(source, tokenizer=tokenizer, names=options.names)


def _holds_weights(source: Path) -> bool:
    return any(is_there(source / name) for name in (WEIGHTS, INDEX))


def _holds_graph(request: Request) -> bool:
    source = request.source
    if source.is_file():
        return source.suffix.lower() == ".onnx"
    if not any(any(source.glob(pattern)) for pattern in ("*.onnx", "onnx/*.onnx")):
        return False
    return not _holds_weights(source) or not is_known(request.folder.config.get("model_type"))


@dataclass
class _Maker:
    """Makes bundles in memory.

    notes: what was done and found, in words
    """

    request: Request
    published: Published
    model: General
    tokenizer_bytes: bytes
    tokenizer: Tokenizer
    notes: list[str]
    batches: str = "padded"

    @cached_property
    def prompts(self) -> dict[str, str]:
        return self.request.prompts(self.published.prompts, self.published.default_role)

    def make(self, quantized: Quantized | None) -> tuple[Embedder, dict[str, bytes]]:
        parts = (None,) if quantized is None else (quantized.weights, quantized.layers, quantized.table)
        contents = {MODEL: self.model.build(*parts).SerializeToString(), TOKENIZER: self.tokenizer_bytes}
        manifest = self._manifest(quantized, contents)
        return Embedder(
            Bundle(self.request.target, manifest, contents[MODEL], self.tokenizer_bytes), threads=1
        ), contents

    def _manifest(self, quantized: Quantized | None, contents: dict[str, bytes]) -> Manifest:
        spec, kept, published, request = self.model.spec, self.model.kept(), self.published, self.request
        quantization = FLOAT32 if quantized is None else quantized.describe()
        if quantized is not None and kept:
            quantization["kept_in_float32"] = kept
        return Manifest(
            name=request.name,
            files=file_records(contents),
            dim=spec.dim,
            max_tokens=spec.max_tokens,
            pooling=OWN_POOLING if self.model.pooled else spec.pooling,
            architecture={"family": published.architecture, "graph": "general", "batches": self.batches, **spec.sizes},
            prompts=self.prompts,
            **truncation(published.folder, published.config, spec.dim, request.options),
            default_role=published.default_role,
            left_out=spec.left_out,
            quantization=quantization,
            codes=CODES,
            provenance=request.provenance(
                published.sha256,
                licence=published.licence,
                conversion="; ".join(self.notes),
                **noted([*request.notes, *published.notes]),
            ),
        )


def _tokenizer(published: Published, model: General) -> tuple[bytes, Tokenizer]:
    path, vocab = published.path, model.spec.vocab
    content = sanitize(published.tokenizer)
    tokenizer = load(content, model.spec.max_tokens, path)
    largest = tokenizer.largest_id
    fits = largest < vocab
    if not vocab:
        session = make_session(model.build().SerializeToString(), threads=1)
        try:
            session.run(None, pad([np.full(3, largest, np.int64)]))
            fits = True
        except Exception:  # onnxruntime's errors have no common type  # noqa: BLE001
            fits = False
    if not fits:
        raise ExportError(
            f"{path}: the tokenizer has {largest + 1} tokens, the embedding table {vocab or 'fewer'} rows; "
            "they do not belong together"
        )
    return content, tokenizer


def _compare(published: Published, prepared: Prepared, reference: Embedder, tokenizer: Tokenizer) -> list[str]:
    """How near our float form is to the published file, and whether that one gives a text one vector.

    Raises ExportError where a float file and our form of it differ.
    """
    rows = [tokenizer.encode(text) for text in calibration_texts("receipt")[:COMPARED]]
    try:
        original = Original(published, prepared)
        alone = np.vstack([original.encode(pad([row])) for row in rows])
        together = original.encode(pad(rows))
    except Exception as error:  # onnxruntime's errors have no common type  # noqa: BLE001
        return [f"the published file itself fails here, so it was not compared with: {error}"]
    feed = [pad([row]) for row in rows]
    ours = np.vstack([reference.network.session.run(None, one)[0] for one in feed])
    notes = []
    if not published.of_tokens and not published.after and reference.dim == alone.shape[1]:
        cosine = float((ours * alone).sum(axis=1).min())
        # infinitely far apart counts as differing too
        if not prepared.done and not cosine > 1 - TOLERANCE:
            raise ExportError(
                f"{published.path}: our form of the graph gives other vectors than the file (cosine {cosine:.6f}); "
                "nothing was written"
            )
        notes.append(f"lowest cosine of our float32 form to the published file: {cosine:.6f}")
    apart = float((alone * together).sum(axis=1).min())
    if apart < SAME:
        notes.append(
            f"the published file gives a text another vector in a batch than alone (cosine down to {apart:.4f}); "
            "the bundle does not"
        )
    return notes


def _find_batches(path: Path, model: General, embedder: Embedder) -> str:
    """The largest kind of BATCHES in which every text keeps its vector, to the bit."""
    if model.pooled:  # sums whose order may depend on the batch, for some lengths only
        return "single"
    return next(kind for kind in BATCHES if _keeps_vectors(path, embedder, kind))


def _keeps_vectors(path: Path, embedder: Embedder, kind: str) -> bool:
    """Whether texts have the same vectors, to the bit, alone and in batches of this kind."""
    texts = calibration_texts("receipt")[:COMPARED]
    rows = [embedder.tokenizer.encode(text) for text in texts]
    groups = [[row[: 3 + 2 * i] for i, row in enumerate(rows)]]
    if kind != "padded":
        groups = [[row for row in rows if len(row) >= size] for size in LENGTHS]
        groups = [[row[:size] for row in group] for size, group in zip(LENGTHS, groups, strict=True) if group]
    if kind == "single":
        return True
    session = embedder.network.session
    try:
        for group in groups:
            alone = np.vstack([session.run(None, pad([row]))[0] for row in group])
            if not (
                np.array_equal(alone, session.run(None, pad(group))[0])
                and np.array_equal(alone[:2], session.run(None, pad(group[:2]))[0])
            ):
                return False
    except Exception as error:  # onnxruntime's errors have no common type
        raise ExportError(f"{path}: the model fails for several texts at a time: {error}") from error
    return True
