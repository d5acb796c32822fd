"""The command line: `edge-embed COMMAND --help` explains each command."""

import io
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from edge_embed.cli.add import add
from edge_embed.cli.bench import bench
from edge_embed.cli.distill import distill
from edge_embed.cli.doctor import doctor
from edge_embed.cli.load_dump import dump, load
from edge_embed.cli.options import (
    JSON,
    background_option,
    beside,
    bundle_option,
    graph_options,
    json_option,
    kind_options,
    max_rss_option,
    shorten,
    show,
    show_error,
    space_options,
    threads_option,
)
from edge_embed.cli.prune import prune
from edge_embed.cli.rebuild import rebuild
from edge_embed.cli.reembed import reembed
from edge_embed.cli.search import search
from edge_embed.cli.terminal import discard, prepare, say
from edge_embed.cli.tokens import tokens
from edge_embed.cli.upkeep import backup, compact, delete, repair, verify
from edge_embed.cli.wheelhouse import wheelhouse
from edge_embed_runtime.errors import EdgeEmbedError

INTERRUPTED = "interrupted; what was committed is stored"


class Commands(click.Group):
    """Errors end in one line on stderr and exit status 1; with --json stdout has them too, see `show_error`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[JSON] = "--json" in takewhile("--".__ne__, args)  # before anything can be wrong
        return super().parse_args(ctx, args)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """An interruption at any moment ends with 130, where click has "Aborted!" and 1."""
        prepare()
        try:
            status = super().main(*arguments, **{**options, "standalone_mode": False})
        except click.ClickException as error:
            written = io.StringIO()
            error.show(written)
            for line in written.getvalue().splitlines():
                say(line, err=True)
            show_error(getattr(error, "ctx", None), {"code": "usage", "message": error.format_message()})
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            say(f"edge-embed: {INTERRUPTED}", err=True)
            status = 130
        except SystemExit:  # click's way out where nobody reads what it prints
            discard(sys.stdout)
            status = 0
        except OSError as error:  # of what click prints itself: --help to a full disk
            discard(sys.stdout)
            say(f"edge-embed: {error}", err=True)
            status = 1
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeEmbedError as error:
            return _fail(ctx, str(error), error.as_dict())
        except OSError as error:
            path = {} if error.filename is None else {"path": str(error.filename)}
            return _fail(ctx, str(error), {"code": "os_error", "message": str(error), **path})
        except MemoryError:
            return _fail(ctx, "there is not enough memory", {"code": "out_of_memory"})
        except KeyboardInterrupt:
            return _fail(ctx, INTERRUPTED, {"code": "interrupted"}, 130)


def _fail(ctx: click.Context, message: str, error: dict[str, Any], status: int = 1) -> NoReturn:
    """Say what went wrong, in one line, and end."""
    line = " ".join(message.split())
    say(f"edge-embed: {line}", err=True)
    show_error(ctx, {**error, "message": line})
    ctx.exit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edge-embed", prog_name="edge-embed")
def main() -> None:
    """Embed and search text on this machine: no server, no network."""


@main.command()
@bundle_option
@space_options
@threads_option
@json_option
def demo(bundle: str | None, threads: int | None, as_json: bool, **space: Any) -> None:
    """Index a small real corpus, search it, print timings and peak memory."""
    from edge_embed.cli.demo import run_demo

    result = run_demo(bundle, threads, **space)

    def text() -> Iterator[str]:
        yield f"{result['documents']} questions of bank customers; {result['bundle']}, threads: {result['threads']}"
        for answer in result["results"]:
            yield ""
            yield f"> {answer['query']}   ({answer['ms']:.1f} ms)"
            for hit in answer["hits"]:
                yield f"  {hit['score']:.4f}  {shorten(hit['text'], 70)}  [{hit['metadata']['topic']}]"
        yield ""
        yield f"load {result['load_seconds']:.2f} s, embed and store {result['add_seconds']:.2f} s"
        if result["start_to_first_hit_seconds"] is not None:
            yield f"process start to first hit {result['start_to_first_hit_seconds']:.2f} s"
        if result["peak_rss_mb"] is not None:
            yield f"peak memory {result['peak_rss_mb']:.0f} MB"

    show(result, as_json, text)


@main.command()
@click.argument("file", metavar="FILE|-", default="-")
@click.option("-o", "--output", metavar="FILE", required=True, help="Where to write vectors (.npy).")
@click.option("--role", help="Whose prompt to put before each text: query, document, ...")
@click.option("--prompt", help="Text to put before each text, as it stands, in place of a role's.")
@bundle_option
@space_options
@threads_option
@max_rss_option
@background_option
@json_option
def encode(
    file: str,
    output: str,
    role: str | None,
    prompt: str | None,
    bundle: str | None,
    threads: int | None,
    max_rss_mb: float | None,
    background: bool,
    as_json: bool,
    **space: Any,
) -> None:
    """Embed every line of FILE (- is stdin) into a float32 array [lines, dim]."""
    import numpy as np

    from edge_embed.embedder import Embedder
    from edge_embed_runtime.errors import SourceError
    from edge_embed_runtime.system.writing import check_output, replacing

    target = Path(output)
    check_output(target)
    if not target.absolute().parent.is_dir():
        raise SourceError(
            f"{target}: the folder {target.absolute().parent} does not exist", path=target, code="source_missing"
        )
    texts = _lines(file)
    embedder = Embedder(bundle, threads=threads, max_rss_mb=max_rss_mb, background=background, **space)
    vectors = embedder.encode(texts, role=role, prompt=prompt, show_progress=True)
    with replacing(target, 0o666) as stream:
        np.save(stream, vectors)
    result = {"texts": len(texts), "dim": embedder.dim, "output": str(target), "fingerprint": embedder.fingerprint}
    show(result, as_json, lambda: [f"{target}: {len(texts)} vectors of {embedder.dim} dimensions"])


def _lines(file: str) -> list[str]:
    """The lines of a file, or of stdin where it is "-"."""
    from edge_embed_runtime.errors import SourceError
    from edge_embed_runtime.system.files import open_regular

    if file == "-" and sys.stdin is None:
        raise SourceError("stdin is closed; give a file to read, or lines on stdin")
    name = "<stdin>" if file == "-" else file
    stream = sys.stdin.buffer if file == "-" else open_regular(file)
    try:
        with io.TextIOWrapper(stream, "utf-8") as text:
            return [line.rstrip("\r\n") for line in text]
    except UnicodeDecodeError as error:
        raise SourceError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})", path=name) from error
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror or error}", path=name) from error


@main.command()
@click.argument("source", required=False)
@click.argument("bundle", required=False)
@click.option("--list", "listed", is_flag=True, help="Show the families of models that are known, and nothing else.")
@click.option("--name", help="The bundle's name.  [default: the folder's]")
@click.option("--source-name", help="Where the checkpoint comes from, for the manifest.  [default: the folder's name]")
@click.option(
    "--ignore",
    metavar="NAME",
    multiple=True,
    help="Leave a tensor or key out of account that changes no vector but is not known here; may be given several "
    "times.",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "int4", "fp32"]),
    default="int8",
    show_default=True,
    help="How weights are stored; int4 computes in int8.",
)
@click.option(
    "--table",
    type=click.Choice(["int8", "int4", "int3"]),
    default="int8",
    show_default=True,
    help="How rows of the embedding table are stored; frequent tokens keep int8.",
)
@click.option("--search", is_flag=True, help="Search for the most faithful way to quantize each layer's input.")
@click.option("--recipes", metavar="FOLDER|minilm", help="Quantize as this bundle was, instead of searching again.")
@click.option(
    "--floor",
    type=click.FloatRange(-1, 1),
    help="Lowest mean cosine to the float model to accept.  [default: 0.995 for int8, 0.95 for int4]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(3),
    help="Tokens of a text that count.  [default: what SOURCE says, or what the model allows, at most 8192]",
)
@click.option("--prompt", "prompts", metavar="ROLE=TEXT", multiple=True, help="Put TEXT before texts of this role.")
@click.option("--adapter", metavar="FOLDER", help="Add a LoRA adapter to the weights.")
@click.option(
    "--adapters",
    metavar="NAME=FOLDER",
    multiple=True,
    help="Keep a LoRA adapter apart, to be chosen when texts are embedded; may be given several times. One named query "
    "or document is that role's.",
)
@click.option(
    "--task", help="Add the model's own adapter of this task to the weights (Jina v3); `all` keeps all of them apart."
)
@click.option(
    "--truncate-dims",
    metavar="N,N,...",
    help="Dimensions that the model was trained to be cut to.  [default: what SOURCE says]",
)
@click.option(
    "--truncate-norm/--no-truncate-norm",
    default=None,
    help="Bring a layer norm over the whole vector before it is cut.  [default: what the model's card says]",
)
@click.option(
    "--kind",
    type=click.Choice(["dense", "sparse", "multi"]),
    help="What SOURCE gives for a text: a vector, weights of tokens (SPLADE), or a vector for each token (ColBERT).  "
    "[default: what its files say]",
)
@click.option(
    "--similarity",
    type=click.Choice(["cosine"]),
    help="Export a model that was made for dot products or distances all the same: an index ranks by cosines.",
)
@click.option(
    "--attention",
    type=click.Choice(["causal", "bidirectional"]),
    help="Whether the tokens of a decoder see those behind them.  [default: what its files say]",
)
@click.option(
    "--side",
    type=click.Choice(["query", "document"]),
    help="Of a model whose queries and documents go through different networks (a Router), export that of this role.",
)
@click.option("--words", type=click.IntRange(1), help="Of a file of word vectors, only so many from its beginning.")
@click.option(
    "--sif",
    type=click.FloatRange(0, min_open=True),
    help="Weight word vectors by A / (A + frequency), the frequency from a word's place in the file; try 0.0001.",
)
@graph_options
@click.option(
    "--verify",
    type=click.Choice(["auto", "require", "skip"]),
    default="auto",
    show_default=True,
    help="Compare the float32 vectors of 64 texts with those of sentence-transformers or transformers, where they are "
    "installed (extra `verify`); `require` fails where they cannot be compared.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@json_option
def export(
    source: str | None,
    bundle: str | None,
    listed: bool,
    name: str | None,
    source_name: str | None,
    ignore: tuple[str, ...],
    precision: str,
    table: str,
    search: bool,
    recipes: str | None,
    floor: float | None,
    max_tokens: int | None,
    prompts: tuple[str, ...],
    adapter: str | None,
    adapters: tuple[str, ...],
    task: str | None,
    truncate_dims: str | None,
    truncate_norm: bool | None,
    kind: Any,
    similarity: str | None,
    attention: Any,
    side: Any,
    words: int | None,
    sif: float | None,
    general: bool,
    onnx_file: str | None,
    tokenizer: str | None,
    pooling: str | None,
    output: str | None,
    verify: Any,
    force: bool,
    as_json: bool,
) -> None:
    """Export SOURCE to the folder BUNDLE: a sentence-transformers folder, an ONNX file or its folder, word vectors.

    Needs the extra `export`: pip install 'edge-embed[export]'
    """
    from edge_embed.cli.describe import bundle_facts, bundle_lines
    from edge_embed.embedder import bundle_path
    from edge_embed_export import export_model
    from edge_embed_export.families.known import describe
    from edge_embed_export.options import GraphOptions

    if listed:
        rows = describe()
        show({"families": rows}, as_json, lambda: _family_lines(rows))
        return
    if source is None or bundle is None:
        raise click.UsageError(f"Missing argument '{'SOURCE' if source is None else 'BUNDLE'}'.")
    if precision == "fp32" and floor is not None:
        raise click.UsageError("--precision fp32 loses nothing: there is no use for --floor.")
    target = Path(bundle)
    manifest = export_model(
        source,
        target,
        name=name,
        source_name=source_name,
        ignore=ignore,
        precision=precision,
        table=table,
        search=search,
        recipes=None if recipes is None else bundle_path(recipes),
        floor=floor,
        max_tokens=max_tokens,
        prompts=_pairs(prompts, "--prompt 'query=query: '"),
        adapter=adapter,
        adapters=_pairs(adapters, "--adapters law=FOLDER"),
        task=task,
        truncate_dims=_dims(truncate_dims),
        truncate_norm=truncate_norm,
        kind=kind,
        similarity=similarity,
        attention=attention,
        side=side,
        words=words,
        sif=sif,
        graph=GraphOptions(general, onnx_file, tokenizer, cast("Any", pooling), output),
        verify=verify,
        overwrite=force,
        progress=lambda step: say(step, err=True) if sys.stderr.isatty() else None,
    )
    if notes := manifest.provenance.get("notes"):
        click.echo(f"note: {notes}", err=True)
    show(bundle_facts(manifest), as_json, lambda: bundle_lines(target, manifest))


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
            f"write each name once, and = behind it, as in {example}", param_hint=example.partition(" ")[0]
        )
    return found


def _dims(given: str | None) -> list[int] | None:
    """ "256,128" -> [256, 128]."""
    try:
        return None if given is None else [int(part) for part in given.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{given!r} is no list of numbers, as 256,128 is", param_hint="--truncate-dims"
        ) from None


@main.command("eval")
@click.argument("data_dir")
@bundle_option
@kind_options
@space_options
@threads_option
@json_option
def evaluate(
    data_dir: str,
    bundle: str | None,
    threads: int | None,
    as_json: bool,
    sparse: str | None,
    multi: str | None,
    **space: Any,
) -> None:
    """Measure retrieval on a judged set in BEIR's layout, at every storage tier.

    DATA_DIR holds corpus.jsonl (or .gz), queries.jsonl, and qrels.tsv or qrels/test.tsv.
    """
    from edge_embed.embedder import Embedder
    from edge_embed.evaluate import evaluate as run
    from edge_embed.evaluate import read_judged_set
    from edge_embed_quantize.receipt import FIGURES

    judged = read_judged_set(data_dir)
    others = beside(sparse, multi, threads=threads)
    result = run(judged, Embedder(bundle, threads=threads, **space), **others, show_progress=True)

    def text() -> Iterator[str]:
        yield f"{len(judged.documents)} documents, {len(judged.queries)} queries"
        yield f"{'tier':<12}" + "".join(f"{name:>11}" for name in FIGURES) + "  bytes/vector"
        for tier, figures in result.items():
            yield (
                f"{tier:<12}" + "".join(f"{figures[n]:>11.4f}" for n in FIGURES) + f"{figures['bytes_per_vector']:>14}"
            )

    show(result, as_json, text)


@main.command()
@click.argument("path")
@json_option
def info(path: str, as_json: bool) -> None:
    """Show what the bundle or index at PATH holds; a bundle is verified, its golden vectors too."""
    from edge_embed.cli.describe import bundle_facts, bundle_lines
    from edge_embed.embedder import Embedder, bundle_path
    from edge_embed_runtime.errors import SourceError

    path = str(bundle_path(path))
    if not Path(path).exists():
        raise SourceError(f"{path} does not exist", path=path, code="source_missing")
    if Path(path).is_dir():
        embedder = Embedder(path)
        manifest, cosine = embedder.manifest, embedder.golden_cosine
        reproduced = f"  golden        {len(manifest.golden)} texts reproduced here, lowest cosine {cosine:.6f}"
        facts = {**bundle_facts(manifest), "golden_cosine": cosine}
        show(facts, as_json, lambda: (*bundle_lines(Path(path), manifest), reproduced))
    else:
        from edge_embed_runtime.index.stats import read_stats

        stats = read_stats(path)
        said = {**stats, "root": stats["root"] or "none: keys of files are paths as they were typed"}
        show(stats, as_json, lambda: (f"{name:<13}{value}" for name, value in said.items()))


COMMANDS = (
    *(add, load, search, delete, verify, repair, compact, backup, rebuild, reembed, dump),
    *(tokens, distill, prune, doctor, wheelhouse, bench),
)
for command in COMMANDS:
    main.add_command(command)
