"""From whatever a model comes as to a verified bundle."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_embed_export.calibration.quantizer import read_recipes
from edge_embed_export.elmo.graph import export_elmo, is_elmo
from edge_embed_export.families.directions import ATTENTIONS, Attention
from edge_embed_export.from_checkpoint import Said, export_checkpoint
from edge_embed_export.from_graph import export_graph
from edge_embed_export.modules.routers import SIDES, Side
from edge_embed_export.receipt.finish import FLOORS
from edge_embed_export.sources.accounting import leaving_out
from edge_embed_export.sources.files import is_there
from edge_embed_export.sources.formats import check_file
from edge_embed_export.sources.heads import Kind
from edge_embed_export.sources.onnxfile import GraphOptions, is_graph
from edge_embed_export.sources.prompts import with_roles
from edge_embed_export.sources.purpose import noted, notes_of
from edge_embed_export.static.sources import find_kind, read_static, write_static
from edge_embed_export.verify.compare import Verifier, Verify
from edge_embed_quantize.table import TABLE_BITS
from edge_embed_runtime.bundle.bundle import Manifest
from edge_embed_runtime.checks import check_text, unusable
from edge_embed_runtime.errors import InputError

PRECISIONS = tuple(FLOORS)


@leaving_out
def export_model(
    source: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    name: str | None = None,
    source_name: str | None = None,
    ignore: Sequence[str] = (),
    precision: str = "int8",
    table: str = "int8",
    search: bool = False,
    recipes: str | os.PathLike[str] | None = None,
    floor: float | None = None,
    max_tokens: int | None = None,
    prompts: Mapping[str, str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
    adapters: Mapping[str, str | os.PathLike[str]] | None = None,
    task: str | None = None,
    truncate_dims: Sequence[int] | None = None,
    truncate_norm: bool | None = None,
    kind: Kind | None = None,
    similarity: str | None = None,
    attention: Attention | None = None,
    side: Side | None = None,
    words: int | None = None,
    sif: float | None = None,
    graph: GraphOptions = GraphOptions(),  # noqa: B008 - it is frozen
    verify: Verify = "auto",
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a sentence-transformers folder, or a static model (see `static`), to a bundle.

    source:    a folder with config.json, model.safetensors, tokenizer.json and, where they exist, modules.json and
               the folders of its pooling and dense modules
    name:      the bundle's name; None means the name of the folder `bundle`
    source_name: where the checkpoint comes from, for the manifest; None means the folder's name
    ignore:    names of tensors and keys that change no vector, which would be refused because they are not known
    precision: "int8"; "int4" stores weights in four bits and computes in int8; "fp32" is a reference to compare with
    table:     the embedding table's rows: "int8", or "int4" or "int3" for tokens that are not frequent
    search:    try several ways to quantize at every place and keep the best (two minutes for MiniLM)
    recipes:   a bundle, or its manifest.json, whose recipes are taken instead: the same result without the search
    floor:     the lowest mean cosine to float32 to accept; None means what FLOORS says
    max_tokens: of a text; None means what the folder says, or 8192 where it says nothing and the model allows more
    prompts:   text put before the input, by role, besides and instead of the folder's own
    adapter:   a folder with a LoRA adapter (peft's format), added to the weights
    adapters:  such folders by name, which are kept apart from the weights and chosen when a text is embedded; one named
               "query" or "document" is that role's
    task:      which of the model's own adapters to add to the weights (Jina v3: "retrieval.query", ...); "all" keeps
               all of them apart
    truncate_dims: dims that the model was trained to be cut to; None means what its own files say
    truncate_norm: whether a layer norm over the whole vector comes before it is cut, as on the card of Nomic's v1.5;
               None means what the model's card says. Older releases load no such bundle
    kind:      what the model gives: "dense", "sparse" (SPLADE) or "multi" (ColBERT); None means what the folder says
    similarity: "cosine" to export a model that was made for another comparison: an index ranks by cosines
    attention: of a decoder, whether its tokens see those behind them ("bidirectional") or not ("causal"); None means
               what the folder says
    side:      of a model whose queries and documents go through different networks, the one for this role
    words:     of a file of word vectors, only so many from its beginning
    sif:       of a file of word vectors, weight words by a / (a + p) for this a (see `static.zipf_weights`)
    graph:     of a source that is an ONNX file or holds one, or that is to be converted through torch: what to take
    verify:    compare the float32 form with sentence-transformers or transformers, which give the same texts other
               vectors by LARGEST at most: "auto" where they are installed (extra `verify`), "require", or "skip"
    progress:  called with a line of text before each step

    Raises SourceError for a missing or malformed file, UnsupportedModelError for an unknown architecture, ExportError
    for a checkpoint that cannot be exported, FidelityError (an ExportError) below the floor or for other vectors than
    the reference's. Nothing is written then.
    """
    _check_options(precision, table, search, recipes)
    for ignored in ignore:
        check_text(ignored, "a name to ignore")
    if side not in (None, *SIDES):
        raise unusable("side", side, f"one of {SIDES}")
    source, target = Path(source), Path(bundle)
    if source.is_file():
        check_file(source)
    verifier = Verifier(
        source,
        verify,
        said=frozenset(with_roles(prompts or {})),
        limited=max_tokens is not None,
        pooling=graph.pooling,
        adapter=None if adapter is None else Path(adapter),
        without=_without_reference(source, task),
    )
    names = () if source_name is None else (source_name,)
    others: dict[str, object] = {
        "table": table != "int8",
        "search": search,
        "recipes": recipes,
        "adapter": adapter,
        "adapters": adapters,
        "task": task,
        "truncate_dims": truncate_dims,
        "truncate_norm": truncate_norm,
        "attention": attention,
        "max_tokens": max_tokens,
        "kind": kind not in (None, "dense"),
        "int4": precision == "int4",
        "graph": graph != GraphOptions(),
    }
    if find_kind(source, side) is not None:
        word_file = source.is_file()
        others |= {"kind": kind, "similarity": word_file and similarity, "side": word_file and side}
        _refuse(source, "a static model, whose table is int8 or fp32", others)
        told = [] if word_file else notes_of(source, names, kind, similarity, prompts, side)
        progress(f"reading {source}")
        static = read_static(source, words=words, sif=sif, side=side, names=names)
        static = replace(static, notes={**(static.notes or {}), **noted(told)})
        return write_static(
            static.with_prompts(prompts),
            target,
            name=name,
            source_name=source_name or source.resolve().name,
            precision=precision,
            floor=floor,
            overwrite=overwrite,
            progress=progress,
            verifier=verifier,
        )
    if words is not None or sif is not None:
        raise InputError("words and sif are for files of word vectors")
    if is_elmo(source):
        others |= {"similarity": similarity, "side": side, "prompts": prompts, "max_tokens": None}
        _refuse(source, "an ELMo model, whose weights are int8 or fp32", others)
        return export_elmo(
            source,
            target,
            name=name,
            source_name=source_name or source.resolve().name,
            precision=precision,
            floor=floor,
            max_tokens=max_tokens,
            overwrite=overwrite,
            progress=progress,
            verifier=verifier,
        )
    told = notes_of(source, names, kind, similarity, prompts, side) if source.exists() else []
    given = None if recipes is None else read_recipes(Path(recipes))
    if attention is not None and attention not in ATTENTIONS:
        raise unusable("attention", attention, f"one of {ATTENTIONS}")
    of_checkpoints = (adapter, adapters, task, attention, None if kind == "dense" else kind, side)
    if is_graph(source, graph, of_checkpoints=of_checkpoints):
        return export_graph(
            source,
            target,
            graph,
            name=name,
            source_name=source_name,
            precision=precision,
            table=table,
            search=search,
            recipes=given,
            floor=floor,
            max_tokens=max_tokens,
            prompts=prompts,
            truncate_dims=truncate_dims,
            truncate_norm=truncate_norm,
            told=told,
            overwrite=overwrite,
            progress=progress,
            verifier=verifier,
        )
    said = Said(
        source_name=source_name,
        max_tokens=max_tokens,
        prompts=prompts,
        adapter=None if adapter is None else Path(adapter),
        adapters=adapters,
        task=task,
        truncate_dims=truncate_dims,
        kind=kind,
        attention=attention,
        truncate_norm=truncate_norm,
        notes=told,
        side=side,
    )
    return export_checkpoint(
        source,
        target,
        said,
        name=name,
        precision=precision,
        table=table,
        search=search,
        recipes=given,
        floor=floor,
        overwrite=overwrite,
        progress=progress,
        verifier=verifier,
    )


def _refuse(source: Path, what: str, options: Mapping[str, object]) -> None:
    """Raise InputError that names the options which were given and change nothing for such a source."""
    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"{source} is {what}: there is no use for {', '.join(given)}")


def _check_options(precision: str, table: str, search: bool, recipes: str | os.PathLike[str] | None) -> None:
    if precision not in PRECISIONS:
        raise unusable("precision", precision, f"one of {PRECISIONS}")
    if table not in TABLE_BITS:
        raise unusable("table", table, f"one of {tuple(TABLE_BITS)}")
    if precision == "fp32" and (table != "int8" or search or recipes is not None):
        raise InputError("precision fp32 quantizes nothing: table, search and recipes have no use with it")
    if search and recipes is not None:
        raise InputError("search finds recipes and recipes gives them: choose one")


def _without_reference(source: Path, task: str | None) -> str:
    """Why no reference gives vectors of a source; "" where one does."""
    if source.is_file():
        return "the source is a file, and no folder that it loads"
    if is_elmo(source):
        return "it has no ELMo models"
    if not any(is_there(source / name) for name in ("config.json", "modules.json")):
        return "the folder has neither config.json nor modules.json"
    return "" if task is None else "tasks are code of the model's own, which is never run"
