"""Which form of each step ONNX Runtime runs fastest: the graph's own form against what else was tried.

    python -m bench.forms [--rounds 9] [--only 2 6] [--json]

Each table asks one question on graphs of one block in MiniLM's shapes (hidden 384, intermediate 1536, 12 heads of 32),
one thread, at 12, 52, 208 and 832 tokens (1x12, 1x52, 4x52, 16x52). The first form is the one that the exporter writes.
Figures are CPU milliseconds of one run, medians of interleaved rounds, less those of a graph that does nothing; the
ratio is to the first form. `differs` is the largest difference to the first form's output over that output's largest
value, at 12 tokens; it is empty where outputs are of another kind. A block runs again and again on the same arrays, so
weights and small activations lie in the cache, which they do not in a whole model. FORMS.md holds the verdicts.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bench.blocks import (
    HIDDEN,
    INTERMEDIATE,
    MS,
    SHAPES,
    Block,
    Run,
    activation,
    attention,
    float_gemm,
    nbits,
    norm,
    product,
    qgemm,
    qkv,
    quantizing,
    smoothing,
)
from edge_embed.embedder import default_bundle
from edge_embed_runtime.model.session import make_session

SAMPLE = 0.01  # seconds of CPU time that one sample takes at least; five times that for the whole model

Write = Callable[[Block], str | list[str]]  # writes its block and returns the names of the outputs


@dataclass(frozen=True)
class Question:
    """`forms` gives what to time in a column, by name; the first one is in use."""

    title: str
    forms: dict[str, Callable[[str], Callable[[], object]]]
    columns: tuple[str, ...] = tuple(SHAPES)
    work: int = 0  # operations per token, for GOP/s
    small: bool = True  # so that what an empty run costs is taken off


def ask(title: str, forms: Mapping[str, Write], work: int = 0) -> Question:
    def build(write: Write, column: str) -> Run:
        block = Block(*SHAPES[column])
        outputs = write(block)
        return block.run(*([outputs] if isinstance(outputs, str) else outputs))

    return Question(title, {name: partial(build, write) for name, write in forms.items()}, work=work)


def session(model: bytes, level: str, entry: str = "", **changes: Any) -> onnxruntime.InferenceSession:
    """As make_session, but with another level, an entry of the configuration set to 1, or changed SessionOptions."""
    options = onnxruntime.SessionOptions()
    changes["graph_optimization_level"] = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    base = {"intra_op_num_threads": 1, "inter_op_num_threads": 1, "log_severity_level": 4, "enable_mem_pattern": False}
    for name, value in (base | changes).items():
        setattr(options, name, value)
    if entry:
        options.add_session_config_entry(entry, "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def model_bytes() -> bytes:
    return (default_bundle() / "model.onnx").read_bytes()


def saved(level: str) -> bytes:
    """The graph that onnxruntime writes after its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.onnx"
        session(model_bytes(), level, optimized_model_filepath=str(path))
        return path.read_bytes()


def whole(make: Callable[[bytes], onnxruntime.InferenceSession], column: str) -> Run:
    ids = np.random.default_rng(0).integers(1000, 29000, SHAPES[column])
    return Run(make(model_bytes()), {"input_ids": ids, "attention_mask": np.ones_like(ids)})


PRODUCT: dict[str, Callable[..., str]] = {
    "MatMulIntegerToFloat u8 x s8": product,
    "  and its QuantizeLinear": partial(product, x="float"),
    "MatMulIntegerToFloat u8 x u8": partial(product, w="u8"),
    "MatMulIntegerToFloat s8 x s8": partial(product, x="s8"),
    "MatMulInteger u8 x s8 (int32)": partial(product, y="int32"),
    "QGemm, float out": partial(qgemm, y="float"),
    "QGemm, uint8 out": partial(qgemm, y="u8"),
    "MatMulNBits 8 bits, block 32": partial(nbits, bits=8, size=32),
    "MatMulNBits 8 bits, block 128": partial(nbits, bits=8, size=128),
    "MatMulNBits 4 bits, block 32": partial(nbits, bits=4, size=32),
    "MatMulNBits 4 bits, block 128": partial(nbits, bits=4, size=128),
    "float Gemm": float_gemm,
}
QKV = {
    "three products, Reshape": partial(qkv, form="three"),
    "one product, Split per head": partial(qkv, form="heads"),
    "one product, Split of columns": partial(qkv, form="columns"),
}
ATTENTION = {
    "FusedMatMul, sequence first": partial(attention, form="codes first"),
    "  context quantized after Transpose": partial(attention, form="codes last"),
    "  mask as [b, 1, 1, s]": partial(attention, form="codes first", mask="4-D"),
    "  no mask (lower bound)": partial(attention, form="codes first", mask="none"),
    "Transpose of q, k, v, MatMul": partial(attention, form="transposes"),
    "MultiHeadAttention": partial(attention, form="operator"),
}
ACTIVATION = {
    "com.microsoft Gelu": partial(activation, op_type="Gelu", domain=MS),
    "Gelu (opset 20)": partial(activation, op_type="Gelu"),
    "Gelu (opset 20), tanh": partial(activation, op_type="Gelu", approximate="tanh"),
    "FastGelu": partial(activation, op_type="FastGelu", domain=MS),
    "BiasGelu": partial(activation, op_type="BiasGelu", domain=MS, bias=True),
    "QuickGelu": partial(activation, op_type="QuickGelu", domain=MS, alpha=1.702),
    "Relu (lower bound)": partial(activation, op_type="Relu"),
}
NORM = {
    "Add, LayerNormalization": partial(norm, form="layer"),
    "SkipLayerNormalization": partial(norm, form="skip"),
    "Add, SimplifiedLayerNormalization": partial(norm, form="simplified"),
}
QUANTIZING = {
    "static QuantizeLinear": partial(quantizing, form="static"),
    "per row: ReduceMax, blocks, Mul after": partial(quantizing, form="block"),
    "per row: ReduceMax, axis 0, Mul after": partial(quantizing, form="axis"),
    "per row: ReduceMax, Div, Mul after": partial(quantizing, form="div"),
    "per tensor: DynamicQuantizeLinear": partial(quantizing, form="tensor"),
}
SMOOTHING = {
    "Mul, static QuantizeLinear": partial(smoothing, form="mul"),
    "QuantizeLinear per channel": partial(smoothing, form="channel"),
    "no smoothing (lower bound)": partial(smoothing, form="none"),
}
BIAS = {where: partial(product, n=HIDDEN, m=HIDDEN, bias=where) for where in ("inside", "after", "none")}
USED = partial(make_session, threads=1)
BASIC, EXTENDED = partial(session, level="ENABLE_BASIC"), partial(session, level="ENABLE_EXTENDED")
OFF, ALL = partial(session, level="DISABLE_ALL"), partial(session, level="ENABLE_ALL")
WHOLE = {
    "make_session (BASIC)": USED,
    "DISABLE_ALL": OFF,
    "EXTENDED": EXTENDED,
    "ALL": ALL,
    "BASIC, memory pattern": partial(BASIC, enable_mem_pattern=True),
    "BASIC, no arena": partial(BASIC, enable_cpu_mem_arena=False),
    "BASIC, disable_quant_qdq": partial(BASIC, entry="session.disable_quant_qdq"),
    "EXTENDED, x64quantprecision": partial(EXTENDED, entry="session.x64quantprecision"),
}
LOADING: dict[str, Callable[[str], Callable[[], object]]] = {
    "make_session (BASIC), path": lambda _: partial(USED, default_bundle() / "model.onnx"),
    "make_session (BASIC), bytes": lambda _: partial(USED, model_bytes()),
    "DISABLE_ALL": lambda _: partial(OFF, model_bytes()),
    "ALL": lambda _: partial(ALL, model_bytes()),
    "saved after BASIC, then BASIC": lambda _: partial(BASIC, saved("ENABLE_BASIC")),
    "saved after BASIC, then DISABLE_ALL": lambda _: partial(OFF, saved("ENABLE_BASIC")),
}
QUESTIONS = [
    *(
        ask(f"1. product {n}x{m}", {name: partial(form, n=n, m=m) for name, form in PRODUCT.items()}, 2 * n * m)
        for n, m in ((HIDDEN, HIDDEN), (HIDDEN, INTERMEDIATE), (INTERMEDIATE, HIDDEN))
    ),
    ask("2. q, k, v and unmasked attention", QKV),
    ask("3. attention, from q, k, v to the context's codes", ATTENTION),
    ask("4. activation [tokens, 1536]", ACTIVATION),
    ask("5. residual and norm [tokens, 384]", NORM),
    ask("6. quantizing [tokens, 1536]", QUANTIZING),
    ask("6. smoothing and quantizing [tokens, 384]", SMOOTHING),
    ask("7. bias of the product 384x384", BIAS),
    Question("8. whole model", {name: partial(whole, make) for name, make in WHOLE.items()}, ("12", "52"), small=False),
    Question("8. loading the model", LOADING, ("load",), small=False),
]


def cpu_seconds(run: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        run()
    return time.process_time() - start


def measure(runs: dict[str, Callable[[], object]], rounds: int, sample: float = SAMPLE) -> dict[str, float]:
    """Milliseconds of one run each, medians of interleaved rounds."""
    times = dict.fromkeys(runs, 1)
    for name, run in runs.items():
        run()
        while cpu_seconds(run, times[name]) < sample:
            times[name] *= 2
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)  # noqa: S311 - no secret; a shuffled order gives no form a fixed predecessor
    for _ in range(rounds):
        for name in order.sample(list(runs), len(runs)):
            samples[name].append(cpu_seconds(runs[name], times[name]) / times[name])
    return {name: 1000 * statistics.median(found) for name, found in samples.items()}


def empty_run(rounds: int) -> float:
    block = Block(1, 1)
    run = block.run(block.op("Identity", block.feed(np.zeros(1, np.float32))))
    return measure({"": run}, rounds)[""]


def differences(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    outputs = {name: run.output() for name, run in runs.items() if isinstance(run, Run)}
    used = next(iter(outputs.values()), np.zeros(0))
    alike = {n: output for n, output in outputs.items() if (output.shape, output.dtype) == (used.shape, used.dtype)}
    reference = used.astype(np.float64)
    return {name: float(np.abs(output - reference).max() / np.abs(reference).max()) for name, output in alike.items()}


def answer(question: Question, rounds: int, empty: float) -> list[dict[str, Any]]:
    """One record for each form and column."""
    records, differs, sample = [], None, SAMPLE if question.small else 5 * SAMPLE
    for column in question.columns:
        runs = {name: form(column) for name, form in question.forms.items()}
        times = {name: ms - empty * question.small for name, ms in measure(runs, rounds, sample).items()}
        differs = differences(runs) if differs is None else differs
        used = next(iter(times.values()))
        for name, ms in times.items():
            record = {"question": question.title, "form": name, "column": column, "ms": ms, "ratio": ms / used}
            gops = {"gops": question.work * int(column) / ms / 1e6} if question.work else {}
            records.append({**record, **gops, "differs": differs.get(name)})
    return records


def show(question: Question, records: list[dict[str, Any]]) -> None:
    width = 22 if question.work else 16
    print(f"\n{question.title}: ms (ratio{', GOP/s' if question.work else ''})")
    print(f"{'tokens':40}" + "".join(f"{column:>{width}}" for column in question.columns) + f"{'differs':>10}")
    for name in dict.fromkeys(record["form"] for record in records):
        row = [record for record in records if record["form"] == name]
        cells = [f"{r['ms']:.4f} ({r['ratio']:.2f}" + (f", {r['gops']:.0f})" if "gops" in r else ")") for r in row]
        differs = row[0]["differs"]
        print(f"{name:40}" + "".join(f"{cell:>{width}}" for cell in cells), end="")
        print("" if differs is None else f"{differs:>10.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description="which form of each step ONNX Runtime runs fastest")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", default=[""], help="numbers of questions")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    empty, collected = empty_run(options.rounds), []
    for question in (q for q in QUESTIONS if q.title.startswith(tuple(options.only))):
        collected += (records := answer(question, options.rounds, empty))
        if not options.json:
            show(question, records)
    machine = {"onnxruntime": onnxruntime.__version__, "machine": platform.machine(), "load": os.getloadavg()[0]}
    if options.json:
        print(json.dumps({**machine, "empty_run_ms": empty, "forms": collected}, indent=1))
    else:
        print(f"\n{machine}; an empty run of {empty:.4f} ms is taken off, except under 8")


if __name__ == "__main__":
    main()
