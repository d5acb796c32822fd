"""A static model to a bundle: from a folder, or from a file of word vectors."""

from dataclasses import replace

from edge_embed_export.receipt.finish import finish
from edge_embed_export.request import CODES, Request, Source
from edge_embed_export.sources.prompts import check_prompts
from edge_embed_export.sources.purpose import noted
from edge_embed_export.sources.wordvectors import read_word_vectors
from edge_embed_export.static.sources import find_kind, read_static
from edge_embed_export.static.table import StaticSource, make_table, weighted_rows
from edge_embed_export.static.wordfile import from_words
from edge_embed_export.tokenizer.definition import load
from edge_embed_runtime.bundle.bundle import Bundle, file_records
from edge_embed_runtime.bundle.manifest import TABLE, TOKENIZER, Manifest
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.inputs.tokenizer import sanitize

WORD_FILES = (".txt", ".vec", ".bin", ".gz", ".glove", ".w2v")
# Options that change nothing of a static model.
UNUSED = (
    *("kind", "int4", "table", "search", "recipes", "adapter", "adapters", "task", "truncate_dims", "truncate_norm"),
    *("attention", "max_tokens", "graph", "engine"),
)


class StaticFolder(Source):
    """A folder with a table of token vectors; see sources.py."""

    def fits(self, request: Request) -> bool:
        return request.source.is_dir() and find_kind(request.folder) is not None

    def refuses(self, request: Request) -> str:
        if request.options.given("words", "sif"):
            kind = find_kind(request.folder)
            return f"{request.source} is a {kind} model with weights of its own: words and sif are for word vectors"
        return _unused(request, *UNUSED)

    def export(self, request: Request) -> Manifest:
        request.options.progress(f"reading {request.source}")
        static = read_static(request.folder, request.options.names)
        return write_static(replace(static, notes=noted(request.notes)), request)


class WordVectorFile(Source):
    """A file of GloVe or word2vec."""

    has_configs = False
    unverifiable = "the source is a file, and no folder that it loads"

    def fits(self, request: Request) -> bool:
        return request.source.is_file() and request.source.suffix.lower() in WORD_FILES

    def refuses(self, request: Request) -> str:
        return _unused(request, *UNUSED, "similarity", "side")

    def export(self, request: Request) -> Manifest:
        source, options = request.source, request.options
        options.progress(f"reading {source}")
        return write_static(from_words(source, read_word_vectors(source, options.words), options.sif), request)


def _unused(request: Request, *names: str) -> str:
    return request.unused("a static model, whose table is int8 or fp32", *names)


def write_static(static: StaticSource, request: Request) -> Manifest:
    """Write a bundle of a static model. Errors are those of `export_model`."""
    options = request.options
    tokenizer_bytes = sanitize({**static.tokenizer, "post_processor": None})  # special tokens would say nothing
    tokenizer = load(tokenizer_bytes, static.max_tokens, request.source, special=False)
    prompts = request.prompts(static.prompts, static.default_role)
    check_prompts(tokenizer, prompts, request.source)
    vocab = tokenizer.largest_id + 1
    rows, place = weighted_rows(static, vocab)

    def in_memory(*, int8: bool) -> tuple[Embedder, dict[str, bytes]]:
        contents = {TABLE: make_table(rows, place, int8=int8), TOKENIZER: tokenizer_bytes}
        manifest = Manifest(
            name=request.name,
            files=file_records(contents),
            dim=static.dim,
            max_tokens=static.max_tokens,
            pooling="weighted sum of token vectors",
            architecture={"family": "static", "kind": static.kind, "vocab": vocab, "rows": len(rows) - 1},
            prompts=prompts,
            default_role=static.default_role,
            side=static.side,
            inputs=static.inputs,
            truncate_dims=list(options.truncate_dims or ()),
            quantization={"embedding_table": "int8, one scale per column" if int8 else "float32"},
            codes=CODES,
            provenance=request.provenance(
                static.sha256, ("tokenizers",), licence=static.licence, **(static.notes or {})
            ),
        )
        return Embedder(Bundle(request.target, manifest, contents[TABLE], tokenizer_bytes), threads=1), contents

    reference, _ = in_memory(int8=False)
    embedder, contents = in_memory(int8=options.precision == "int8")
    return finish(request, contents, (reference, embedder))
