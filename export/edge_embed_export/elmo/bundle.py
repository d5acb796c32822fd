"""An ELMo model to a bundle."""

from edge_embed_export.elmo.graph import build_elmo
from edge_embed_export.elmo.reading import is_elmo, read_elmo
from edge_embed_export.receipt.finish import check_usable, finish
from edge_embed_export.request import CODES, Request, Source
from edge_embed_runtime.bundle.bundle import Bundle, file_records
from edge_embed_runtime.bundle.manifest import MODEL, TOKENIZER, Layer, Manifest
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.inputs.characters import CHARACTERS
from edge_embed_runtime.inputs.tokenizer import sanitize
from edge_embed_runtime.vectors.kinds import DENSE

MAX_TOKENS = 256
# Options that change nothing of such a model.
UNUSED = (
    *("int4", "table", "search", "recipes", "adapter", "adapters", "task", "truncate_dims", "truncate_norm"),
    *("attention", "graph", "similarity", "side", "prompts", "kind"),
)


class ElmoFolder(Source):
    """A folder with the options and the weights of an ELMo model; see reading.py."""

    has_configs = False
    unverifiable = "it has no ELMo models"

    def fits(self, request: Request) -> bool:
        return is_elmo(request.source)

    def refuses(self, request: Request) -> str:
        unused = UNUSED[:-1] if request.options.output is DENSE else UNUSED
        return super().refuses(request) or request.unused("an ELMo model, whose weights are int8 or fp32", *unused)

    def export(self, request: Request) -> Manifest:
        options = request.options
        options.progress(f"reading {request.source}")
        elmo = read_elmo(request.source)
        tokenizer = sanitize(elmo.tokenizer)

        def in_memory(*, int8: bool) -> tuple[Embedder, dict[str, bytes]]:
            model, states = build_elmo(elmo, int8=int8)
            contents = {MODEL: model.SerializeToString(), TOKENIZER: tokenizer}
            manifest = Manifest(
                name=request.name,
                files=file_records(contents),
                dim=elmo.dim,
                max_tokens=MAX_TOKENS if options.max_tokens is None else options.max_tokens,
                pooling="mean of words",
                architecture=elmo.describe(),
                quantization={"weights": "int8, one scale per output channel" if int8 else "float32"},
                codes=CODES,
                provenance=request.provenance(elmo.sha256),
                layers=[Layer(state) for state in states],
                inputs=CHARACTERS,
            )
            return Embedder(Bundle(request.target, manifest, contents[MODEL], tokenizer), threads=1), contents

        options.progress("building the graph")
        reference, contents = in_memory(int8=False)
        check_usable(reference, request.source)
        embedder = reference
        if options.precision != "fp32":
            embedder, contents = in_memory(int8=True)
        return finish(request, contents, (reference, embedder))
