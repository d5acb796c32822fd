"""From whatever a model comes as to a verified bundle."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_embed_export import detect
from edge_embed_export.files.accounting import ignoring
from edge_embed_export.hub import download, is_name
from edge_embed_export.modules.folder import Folder
from edge_embed_export.options import (
    Attention,
    Engine,
    ExportOptions,
    GraphOptions,
    KindName,
    Side,
    TowerOptions,
    Verify,
)
from edge_embed_export.request import Request
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.errors import ExportError, InputError, SourceError, about


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
    kind: KindName | None = None,
    similarity: str | None = None,
    attention: Attention | None = None,
    side: Side | None = None,
    words: int | None = None,
    sif: float | None = None,
    graph: GraphOptions = GraphOptions(),  # noqa: B008 - it is frozen
    towers: TowerOptions = TowerOptions(),  # noqa: B008 - it is frozen
    engine: Engine | None = None,
    portable: bool = False,
    verify: Verify = "auto",
    revision: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a sentence-transformers folder, a folder with models of texts and pictures (CLIP, SigLIP, ...) or of
    pictures alone, or a static model (see `static`), to a bundle.

    source:    a folder with config.json, model.safetensors, tokenizer.json and, where they exist, modules.json and
               the folders of its pooling and dense modules; or the name of a model on a hub, OWNER/NAME, of which
               what is needed is downloaded (extra `hub`, see hub.py)
    name:      the bundle's name; None means the name of the folder `bundle`
    source_name: where the checkpoint comes from, for the manifest; None means the folder's name
    ignore:    names of tensors and keys that change no vector, which would be refused because they are not known
    precision: "int8"; "int4" stores weights in four bits and computes in int8; "fp32" is a reference to compare with
    table:     the embedding table's rows: "int8", or "int4" or "int3" for tokens that are not frequent
    search:    try several ways to quantize at every place and keep the best (two minutes for MiniLM)
    recipes:   a bundle, or its manifest.json, whose recipes are taken instead: the same result without the search
    floor:     the lowest mean cosine to float32 to accept; None means what FLOORS says. Of a cross-encoder, the lowest
               rank correlation, and RANK_FLOORS
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
    kind:      what the model gives: "dense", "sparse" (SPLADE), "multi" (ColBERT) or "rerank" (a cross-encoder); None
               means what the folder says
    similarity: "cosine" to export a model that was made for another comparison: an index ranks by cosines
    attention: of a decoder, whether its tokens see those behind them ("bidirectional") or not ("causal"); None means
               what the folder says
    side:      of a model whose queries and documents go through different networks, the one for this role
    words:     of a file of word vectors, only so many from its beginning
    sif:       of a file of word vectors, weight words by a / (a + p) for this a (see static/table.py)
    graph:     of a source that is an ONNX file or holds one, or that is to be converted through torch: what to take
    towers:    of a source with models of pictures or sounds: which of them to take, and how
    engine:    what runs the bundle: "native" for the engine of this package, which knows models of BERT's shape in int8
               and gives the same bits on every CPU, or "onnxruntime"; None means DEFAULT_ENGINE where it can be.
               Older releases load no bundle for the native engine
    portable:  write standard ONNX operators alone, of opset 17, int8 as QDQ, for engines without onnxruntime's own; of
               a checkpoint of a known family. onnxruntime runs the bundle, and the receipt compares it with the fast
               form
    verify:    compare the float32 form with sentence-transformers or transformers, which give the same texts other
               vectors by LARGEST at most: "auto" where they are installed (extra `verify`), "require", or "skip"
    revision:  of a model on a hub: a branch, a tag or a commit; None is the main branch. The manifest records which
               commit it was
    progress:  called with a line of text before each step

    Raises SourceError for a missing or malformed file, UnsupportedModelError for an unknown architecture, ExportError
    for a checkpoint that cannot be exported, FidelityError (an ExportError) below the floor or for other vectors than
    the reference's. Nothing is written then.
    """
    options = ExportOptions(
        name=name,
        source_name=source_name,
        ignore=ignore,
        precision=precision,
        table=table,
        search=search,
        recipes=recipes,
        floor=floor,
        max_tokens=max_tokens,
        prompts=prompts,
        adapter=adapter,
        adapters=adapters,
        task=task,
        truncate_dims=truncate_dims,
        truncate_norm=truncate_norm,
        kind=kind,
        similarity=similarity,
        attention=attention,
        side=side,
        words=words,
        sif=sif,
        graph=graph,
        towers=towers,
        engine=engine,
        portable=portable,
        verify=verify,
        revision=revision,
        overwrite=overwrite,
        progress=progress,
    )
    place, commit = Path(source), ""
    if isinstance(source, str) and is_name(source):
        found = download(source, revision, graph.file, progress)
        place, commit = found.folder, found.revision
        options = replace(options, source_name=source_name or found.name)
    elif revision is not None:
        raise InputError(f"{place} is no model on a hub: there is no use for revision", option="revision")
    with about(place, ExportError, SourceError), ignoring(options.ignore):
        return detect.export(Request(place, Folder.of(place, side), Path(bundle), options, commit))
