"""What one device does with fixed texts: runs on the device itself, or under emulation, and prints one JSON object.

    python probe.py natives | vectors OUT.npy [--short] | bits N [--turned] | index | queries N

All but the first take --bundle FOLDER and --engine NAME.

Needs the runtime alone (PYTHONPATH=ROOT:ROOT/runtime). qemu-user shows a program of the host's architecture the host's
/proc/cpuinfo: the name of the processor is then the host's, the instructions are not.
"""

# ruff: noqa: T201 - a script prints
import argparse
import json
import os
import platform
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_embed import Embedder

NATIVE = ("numpy", "onnxruntime", "tokenizers", "numkong", "usearch.index")
TEXTS = Path(__file__).parent / "texts.txt"
# Lines of the short run: emulation is slow. Long words, digits, other scripts.
SHORT = slice(3, 11)
# Different ones, so that nothing can be remembered; 12 tokens each with MiniLM's vocabulary.
QUERIES = (
    "how do i change the battery of this old watch",
    "which train goes to the airport on a late sunday",
    "why is there a second charge on my new card",
    "can i send this letter abroad without a paper stamp",
    "when does the town library close in the hot summer",
    "who repairs old bicycles and scales near the market place",
    "is the long bridge open for heavy trucks again today",
    "what does the red light on the box mean now",
    "where can i park a van for two nights here",
    "how long may cooked white rice stay in a fridge",
    "does the lake up there freeze before the new year",
)
QUERY_TOKENS = 12
ASKED = "a bus to the airport"


def natives() -> dict[str, Any]:
    """Each native package in a process of its own: "ok", or what stopped it ("signal 4" is an unknown instruction)."""
    return {"natives": {name: _in_child(name) for name in NATIVE}}


def _in_child(package: str) -> str:
    child = os.fork()
    if child == 0:
        try:
            import_module(package)
            WORK.get(package, int)()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is to know
            print(f"{package}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "ok" if status == 0 else f"signal {-status}" if status < 0 else "error"


def _multiply() -> None:
    """numpy and its BLAS choose kernels by CPU when they are used, not when they are imported."""
    import numpy as np

    whole = np.arange(96 * 96).reshape(96, 96) % 7
    assert np.array_equal(whole.astype(np.float32) @ whole.astype(np.float32).T, whole @ whole.T)
    assert int(np.bitwise_count(whole.astype(np.uint64)).max()) == 2  # of 0 to 6


def _infer() -> None:
    """A product of int8 matrices, with whichever kernel this CPU gets."""
    from edge_embed_runtime.model.session import products_saturate

    products_saturate()


def _tokenize() -> None:
    from tokenizers import Tokenizer

    from edge_embed.embedder import default_bundle

    Tokenizer.from_str((default_bundle() / "tokenizer.json").read_text()).encode("of bits and 東京")


def _nearest() -> None:
    """usearch's distances of bits and of int8 numbers."""
    import numpy as np
    from usearch.index import MetricKind, search

    rows = np.random.default_rng(0).integers(-127, 128, (64, 384)).astype(np.int8)
    bits = np.packbits(rows > 0, axis=1)
    assert search(rows, rows[5], 1, MetricKind.Cos, exact=True).keys[0] == 5
    assert search(bits, bits[7], 1, MetricKind.Hamming, exact=True).keys[0] == 7


WORK = {"numpy": _multiply, "onnxruntime": _infer, "tokenizers": _tokenize, "usearch.index": _nearest}


def many_texts(count: int) -> list[str]:
    """The same texts on every device: words of texts.txt in all their scripts, from one word to some 200."""
    words = TEXTS.read_text(encoding="utf-8").split()
    random, texts = Random(17), list[str]()  # noqa: S311 - the same numbers in each run
    for place in range(count):
        most = 200 if place % 40 == 0 else 12
        first, length = int(random.random() * len(words)), 1 + int(random.random() ** 2 * most)
        texts.append(" ".join((words * 2)[first : first + length]))
    return texts


def bits(made: "Embedder", count: int, turned: bool) -> dict[str, Any]:
    """One sha256 of the vectors of many texts: half of them one by one, half in one call; turned: the other half."""
    import hashlib

    import numpy as np

    texts, half = many_texts(count), count // 2
    parts = [texts[:half], texts[half:]]
    found = []
    for place, part in enumerate(parts):
        together = turned == (place == 0)
        found += [made.encode(part)] if together else [made.encode([text]) for text in part]
    stacked = np.vstack(found)
    lengths = {len(made.tokenizer.encode(text)) for text in texts}
    return {
        "engine": made.engine,
        "isa": isa_name() if made.engine == "native" else None,
        "sha256": hashlib.sha256(stacked.astype("<f4").tobytes()).hexdigest(),
        "texts": len(stacked),
        "tokens": [min(lengths), max(lengths), len(lengths)],
    }


def isa_name() -> str:
    """The instruction set that the native library uses."""
    from edge_embed_runtime.native.library import native

    loaded = native()
    return loaded.isa_name if loaded else ""


def embedder(bundle: Path | None, engine: str | None, threads: int = 1) -> "Embedder":
    from edge_embed import Embedder

    return Embedder(bundle, threads=threads, engine=engine)


def vectors(made: "Embedder", other: "Embedder", out: Path, short: bool) -> dict[str, Any]:
    """The texts one by one with one thread, then all at once with two; the vectors [n, dim] of the former are kept."""
    import numpy as np

    from edge_embed_runtime.system.cpu import cpu_model

    texts = TEXTS.read_text(encoding="utf-8").splitlines()
    texts = texts[SHORT] if short else texts
    alone = np.vstack([made.encode([text]) for text in texts])
    together = other.encode(texts)
    np.save(out, alone)
    return {
        "machine": platform.machine(),
        "processor": cpu_model(),
        "bundle": f"{made.manifest.name} {made.fingerprint}",
        "form": "native" if made.engine == "native" else "exact" if made.exact else "fast",
        "golden": made.golden_cosine,
        "one_vector": bool(np.array_equal(alone, together)),
        "texts": len(texts),
    }


def index(embedder: "Embedder") -> dict[str, Any]:
    """Every step of an index's life; what went wrong, or nothing."""
    from edge_embed import Document, Index

    texts, wrong = [*QUERIES, *TEXTS.read_text(encoding="utf-8").splitlines()[SHORT]], []
    documents = [Document(f"d{i}", text, {"even": i % 2 == 0}) for i, text in enumerate(texts)]

    def expect(step: str, condition: bool) -> None:
        if not condition:
            wrong.append(step)

    def first(step: str, wanted: str, **options: Any) -> None:
        hits = opened.search(texts[2], k=3, **options)
        expect(step, [hit.key for hit in hits][:1] == [wanted])

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.db"
        with Index.open(path, embedder) as opened:
            expect("add", opened.add(documents) == len(texts))
            for mode in ("vector", "text", "hybrid"):
                first(mode, "d2", mode=mode)
            odd = opened.search(texts[2], len(texts), {"even": False})
            expect("filter", {int(hit.key[1:]) for hit in odd} == set(range(1, len(texts), 2)))
            opened.rebuild("always")
            expect("graph is used", opened.stats()["graph"] is not None)
            first("graph", "d2", mode="vector")
            expect("delete", opened.delete(["d2"]) == 1)
            expect("deleted is gone", "d2" not in {hit.key for hit in opened.search(texts[2], k=len(texts))})
            before = [vars(hit) for hit in opened.search(ASKED, k=5)]
            expect("hits", len(before) == 5)
            expect("verify", opened.verify().whole)
        with Index.open(path, embedder) as opened:
            expect("reopen", len(opened) == len(texts) - 1)
            expect("the same hits", [vars(hit) for hit in opened.search(ASKED, k=5)] == before)
    return {"index": wrong}


def queries(embedder: "Embedder", count: int) -> dict[str, Any]:
    """Start, then embed so many queries one by one: what a counter of instructions watches from outside."""
    for text in QUERIES[:count]:
        embedder.encode_query([text])
    return {"tokens": sorted({len(embedder.tokenizer.encode(text)) for text in QUERIES})}


def main() -> None:
    parser = argparse.ArgumentParser(description="what this device does with fixed texts, as JSON")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("natives")
    step = steps.add_parser("vectors")
    step.add_argument("out", type=Path)
    step.add_argument("--short", action="store_true")
    step = steps.add_parser("bits")
    step.add_argument("count", type=int)
    step.add_argument("--turned", action="store_true")
    steps.add_parser("index")
    steps.add_parser("queries").add_argument("count", type=int)
    for step in list(steps.choices.values())[1:]:
        step.add_argument("--bundle", type=Path, help="[default: that of the package]")
        step.add_argument("--engine", choices=("native", "onnxruntime"), help="[default: the bundle's]")
    given = parser.parse_args()

    def made(threads: int = 1) -> "Embedder":
        return embedder(given.bundle, given.engine, threads)

    work = {
        "natives": natives,
        "vectors": lambda: vectors(made(), made(2), given.out, given.short),
        "bits": lambda: bits(made(2), given.count, given.turned),
        "index": lambda: index(made()),
        "queries": lambda: queries(made(), given.count),
    }
    print(json.dumps({"python": platform.python_version(), **work[given.step]()}))


if __name__ == "__main__":
    main()
