"""`edge-embed export`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from edge_embed.cli.options import all_options, json_option, show
from edge_embed.cli.terminal import say, say_step

POOLINGS = ["mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean"]
# The name of the bundle, and what of SOURCE to ignore.
BUNDLE_OPTIONS = all_options(
    click.option("--name", help="The bundle's name.  [default: the folder's]"),
    click.option("--revision", help="Of a model on a hub: a branch, a tag or a commit.  [default: the main branch]"),
    click.option("--source-name", help="Where the model comes from, for the manifest.  [default: the folder's name]"),
    click.option(
        "--ignore",
        metavar="NAME",
        multiple=True,
        help="Ignore an unknown tensor or key that does not change vectors; may be given several times.",
    ),
)
# How numbers are stored.
QUANTIZATION_OPTIONS = all_options(
    click.option(
        "--precision",
        type=click.Choice(["int8", "int4", "fp32"]),
        default="int8",
        show_default=True,
        help="How weights are stored; int4 computes in int8.",
    ),
    click.option(
        "--table",
        type=click.Choice(["int8", "int4", "int3"]),
        default="int8",
        show_default=True,
        help="How rows of the embedding table are stored; frequent tokens keep int8.",
    ),
    click.option("--search", is_flag=True, help="Search for the most exact way to quantize each layer's input."),
    click.option(
        "--recipes", metavar="FOLDER|minilm", help="Quantize as this bundle was quantized, without a new search."
    ),
    click.option(
        "--floor",
        type=click.FloatRange(-1, 1),
        help="Lowest mean cosine (of a cross-encoder, rank correlation) with the float model to accept.  [default: "
        "0.995 for int8, 0.95 for int4; of a cross-encoder 0.99 and 0.95]",
    ),
)
# What SOURCE is, where its files do not say it or say something else.
MODEL_OPTIONS = all_options(
    click.option(
        "--max-tokens",
        type=click.IntRange(3),
        help="Use only this many tokens of a text.  [default: what SOURCE says, or what the model allows, at most "
        "8192]",
    ),
    click.option("--prompt", "prompts", metavar="ROLE=TEXT", multiple=True, help="Put TEXT before texts of this role."),
    click.option("--adapter", metavar="FOLDER", help="Add a LoRA adapter to the weights."),
    click.option(
        "--adapters",
        metavar="NAME=FOLDER",
        multiple=True,
        help="Store a LoRA adapter separately, to be chosen when texts are embedded; may be given several times. The "
        "names query and document make it that role's adapter.",
    ),
    click.option(
        "--task",
        help="Add the model's own adapter for this task to the weights (Jina v3); `all` stores all of them separately.",
    ),
    click.option(
        "--truncate-dims",
        metavar="N,N,...",
        help="Dimensions that the model was trained to be truncated to.  [default: what SOURCE says]",
    ),
    click.option(
        "--truncate-norm/--no-truncate-norm",
        default=None,
        help="Apply a layer norm to the whole vector before truncation.  [default: what the model's card says]",
    ),
    click.option(
        "--kind",
        type=click.Choice(["dense", "sparse", "multi", "rerank"]),
        help="What SOURCE makes of a text: one vector, weights of tokens (SPLADE), a vector per token (ColBERT), or "
        "scores of pairs of texts (a cross-encoder).  "
        "[default: what its files say]",
    ),
    click.option(
        "--similarity",
        type=click.Choice(["cosine"]),
        help="Export a model made for dot products or distances although an index ranks by cosines.",
    ),
    click.option(
        "--attention",
        type=click.Choice(["causal", "bidirectional"]),
        help="Whether tokens of a decoder see the tokens after them.  [default: what its files say]",
    ),
    click.option(
        "--side",
        type=click.Choice(["query", "document"]),
        help="If queries and documents have different networks (a Router), export the network of this role.",
    ),
    click.option("--words", type=click.IntRange(1), help="Of a file of word vectors, read only the first N words."),
    click.option(
        "--sif",
        type=click.FloatRange(0, min_open=True),
        help="Weight word vectors by A / (A + frequency), with the frequency from a word's place in the file; try "
        "0.0001.",
    ),
)
# Of a model that comes as a graph: see edge_embed_export.options.GraphOptions.
GRAPH_OPTIONS = all_options(
    click.option("--general", is_flag=True, help="Convert SOURCE, of any architecture, through torch."),
    click.option("--onnx", "onnx_file", metavar="FILE", help="Which ONNX file of the folder SOURCE to use."),
    click.option("--tokenizer", metavar="FILE", help="A tokenizer.json that does not lie next to the ONNX model."),
    click.option(
        "--pooling",
        type=click.Choice(POOLINGS),
        help="How an ONNX model's token vectors become one vector.  [default: what its folder says]",
    ),
    click.option("--output", metavar="NAME", help="Which output of an ONNX model to use."),
)

# Of models of pictures and sounds: see edge_embed_export.options.TowerOptions.
TOWER_OPTIONS = all_options(
    click.option(
        "--towers",
        metavar="text,image,...",
        help="Of a SOURCE with several models, export only those for these modalities.  [default: all]",
    ),
    click.option(
        "--modality",
        type=click.Choice(["image", "audio"]),
        help="SOURCE is an ONNX graph that reads pictures or sounds; needs --front.",
    ),
    click.option(
        "--front",
        metavar="FILE",
        help="How a picture or sound becomes the numbers that an ONNX graph reads: preprocessor_config.json, "
        "open_clip_config.json, timm's config.json, or a front end as a manifest has it.",
    ),
    click.option(
        "--calibration",
        metavar="FOLDER",
        help="Find int8 scales on the pictures of this folder.  [default: pictures drawn by code]",
    ),
    click.option(
        "--space",
        metavar="BUNDLE",
        help="The bundle with whose vectors those of an ONNX graph were trained to agree, or a name for their space.",
    ),
    click.option(
        "--decode",
        type=click.Choice(["full", "scaled"]),
        help="scaled: decode a large JPEG at a half, a quarter or an eighth of its size, as long as twice the pixels "
        "remain that are needed; faster, and measured in the receipt.  [default: what SOURCE says, else full]",
    ),
)


@click.command()
@click.argument("source", required=False)
@click.argument("bundle", required=False)
@click.option("--list", "listed", is_flag=True, help="Show the known families of models; export nothing.")
@BUNDLE_OPTIONS
@QUANTIZATION_OPTIONS
@MODEL_OPTIONS
@GRAPH_OPTIONS
@TOWER_OPTIONS
@click.option(
    "--engine",
    type=click.Choice(["native", "onnxruntime"]),
    help="What runs the bundle: native, for int8 models of BERT's shape, is faster and gives the same vectors on every "
    "CPU. Older releases read only bundles for onnxruntime.  [default: native, if it can run the model]",
)
@click.option(
    "--portable",
    is_flag=True,
    help="Write standard ONNX operators only (opset 17, QDQ), for engines that lack those of onnxruntime.",
)
@click.option(
    "--verify",
    type=click.Choice(["auto", "require", "skip"]),
    default="auto",
    show_default=True,
    help="Compare the float32 vectors of 64 texts with those of sentence-transformers or transformers, if installed "
    "(extra `verify`); `require` fails where they cannot be compared.",
)
@click.option("--force", "overwrite", is_flag=True, help="Replace an existing bundle.")
@json_option
def export(source: str | None, bundle: str | None, listed: bool, as_json: bool, **options: Any) -> None:
    """Convert a model to a bundle.

    SOURCE is a sentence-transformers folder, a folder with models of texts and pictures (CLIP, SigLIP), an ONNX file or
    its folder, or a file of word vectors; BUNDLE is the folder to write. Needs the extra `export`: pip install
    'edge-embed[export]'; for models of pictures or sounds also `image` or `audio`.

    SOURCE can also be the name of a model on the Hugging Face hub, such as BAAI/bge-small-en-v1.5. What the export
    needs is downloaded (safetensors, JSON and tokenizer; never code, never pickles), to where HF_HOME says.
    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE count. Needs the extra `hub`: pip install 'edge-embed[export,hub]'
    """
    from edge_embed.cli.describe import bundle_facts, bundle_lines
    from edge_embed.embedder import BUNDLES, bundle_path
    from edge_embed_export import GraphOptions, TowerOptions, export_model
    from edge_embed_export.families.known import describe

    if listed:
        rows = describe()
        show({"families": rows}, as_json, lambda: _family_lines(rows))
        return
    if source is None or bundle is None:
        raise click.UsageError(f"Missing argument '{'SOURCE' if source is None else 'BUNDLE'}'.")
    if options["precision"] == "fp32" and options["floor"] is not None:
        raise click.UsageError("--precision fp32 loses nothing: there is no use for --floor.")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read where huggingface_hub is imported
    graph = [options.pop(name) for name in ("general", "onnx_file", "tokenizer", "pooling", "output")]
    only = options.pop("towers")
    towers = [options.pop(name) for name in ("modality", "front", "calibration", "space", "decode")]
    towers[3] = bundle_path(towers[3]) if towers[3] in BUNDLES else towers[3]
    options |= {
        "recipes": None if options["recipes"] is None else bundle_path(options["recipes"]),
        "prompts": _pairs(options["prompts"], "--prompt 'query=query: '"),
        "adapters": _pairs(options["adapters"], "--adapters law=FOLDER"),
        "truncate_dims": _dims(options["truncate_dims"]),
    }
    chosen = TowerOptions(None if only is None else only.split(","), *towers)
    manifest = export_model(source, bundle, graph=GraphOptions(*graph), towers=chosen, progress=say_step, **options)
    if notes := manifest.provenance.get("notes"):
        say(f"note: {notes}", err=True)
    show(bundle_facts(manifest), as_json, lambda: bundle_lines(Path(bundle), manifest))


def _family_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        types = ", ".join(row["model_types"])
        yield f"{row['family']} ({types})" if types else row["family"]
        yield f"    {row['parts']}"
        if row["checkpoints"]:
            yield f"    {'; '.join(row['checkpoints'])}"


def _pairs(given: tuple[str, ...], example: str) -> dict[str, str]:
    """("query=query: ",) -> {"query": "query: "}."""
    found = dict(entry.partition("=")[::2] for entry in given)
    if not all("=" in entry for entry in given) or "" in found or len(found) < len(given):
        raise click.BadParameter(
            f"write each name once, followed by =, as in {example}", param_hint=example.partition(" ")[0]
        )
    return found


def _dims(given: str | None) -> list[int] | None:
    """ "256,128" -> [256, 128]."""
    try:
        return None if given is None else [int(part) for part in given.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{given!r} is not a list of numbers such as 256,128", param_hint="--truncate-dims"
        ) from None
