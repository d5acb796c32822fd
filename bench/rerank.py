"""Pairs per second of a cross-encoder: our bundles beside sentence-transformers: python -m bench.rerank

Needs the extra `parity`. A random model of the size of MiniLM-L6 (6 layers, 384 numbers, as ms-marco-MiniLM-L6-v2) with
MiniLM's own vocabulary, is made, exported in int8 and float32, and asked for the scores of one query with many
paragraphs, by turns in one process: on one core, medians of some rounds, of wall and of CPU time. sentence-transformers
sorts pairs by length and runs 32 at a time, its default.

What it does not measure: quality, several cores, graphics cards, models that were trained (whose speed is the same).
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.common import child_variables
from edge_embed import Reranker
from edge_embed.embedder import default_bundle
from edge_embed_export import export_model
from edge_embed_export.calibration.pairs import questions
from edge_embed_quantize.receipt import spearman
from edge_embed_runtime.system.cpu import cpu_model

ROUNDS, PARAGRAPHS = 7, 64
SIZES = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
# Of torch's random numbers: with the usual 0.02 a model that was never trained gives all pairs nearly the same number.
SPREAD = 0.06


def make_model(folder: Path) -> None:
    """A folder as transformers saves it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(0)
    tokenizer = BertTokenizerFast(tokenizer_file=str(default_bundle() / "tokenizer.json"), model_max_length=512)
    config = BertConfig(vocab_size=len(tokenizer), num_labels=1, initializer_range=SPREAD, **SIZES)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Medians of wall and CPU seconds of each way; they take turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(wall for wall, _ in each), statistics.median(cpu for _, cpu in each))
        for name, each in taken.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rerank", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    os.environ.update(child_variables(1))
    import sentence_transformers
    import torch
    import transformers

    torch.set_num_threads(1)
    asked = questions("receipt")
    query = asked[0].text
    paragraphs = list(dict.fromkeys(paragraph for question in asked for paragraph in question.paragraphs))[:PARAGRAPHS]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make_model(folder / "model")
        bundles = {}
        for precision in ("int8", "fp32"):
            bundle = folder / precision
            export_model(folder / "model", bundle, precision=precision, floor=-1.0, verify="skip")
            bundles[precision] = Reranker(bundle, threads=1)
        reference = sentence_transformers.CrossEncoder(str(folder / "model"), device="cpu")
        pairs = [(query, paragraph) for paragraph in paragraphs]
        ways: dict[str, Callable[[], Any]] = {
            **{f"edge_embed, {name}": lambda model=model: model.scores(pairs) for name, model in bundles.items()},
            f"sentence-transformers {sentence_transformers.__version__}": lambda: reference.predict(
                pairs, show_progress_bar=False
            ),
        }
        found = measure(ways, options.rounds)
        tokens = statistics.mean(len(bundles["int8"].row(*pair)) for pair in pairs)
        expected = reference.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        ranks = {name: spearman(expected, model.scores(pairs, raw=True)) for name, model in bundles.items()}
    print(f"{cpu_model()}, one core; torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{len(pairs)} pairs of {tokens:.0f} tokens on average; medians of {options.rounds} rounds")
    slowest = found[f"sentence-transformers {sentence_transformers.__version__}"][1]
    for name, (wall, cpu) in found.items():
        rates = f"{len(pairs) / wall:7.1f} pairs/s  {len(pairs) / cpu:7.1f} pairs/CPU s  {slowest / cpu:4.1f}x"
        print(f"{name:<30}{rates}")
    print(
        f"rank correlation (Spearman) with torch: {', '.join(f'{name} {value:.4f}' for name, value in ranks.items())}"
    )


if __name__ == "__main__":
    sys.exit(main())
