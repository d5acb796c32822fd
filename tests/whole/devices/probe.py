"""What one device does with fixed texts: runs on the device itself, or under emulation, and prints one JSON object.

    python probe.py natives | vectors OUT.npy [--short] | index | queries N

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
from typing import Any

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


def vectors(out: Path, short: bool) -> dict[str, Any]:
    """The texts one by one with one thread, then all at once with two; the vectors [n, dim] of the former are kept."""
    import numpy as np

    from edge_embed import Embedder
    from edge_embed_runtime.system.cpu import cpu_model

    texts = TEXTS.read_text(encoding="utf-8").splitlines()
    texts = texts[SHORT] if short else texts
    embedder = Embedder(threads=1)
    alone = np.vstack([embedder.encode([text]) for text in texts])
    together = Embedder(threads=2).encode(texts)
    np.save(out, alone)
    return {
        "machine": platform.machine(),
        "processor": cpu_model(),
        "bundle": f"{embedder.manifest.name} {embedder.fingerprint}",
        "form": "exact" if embedder.exact else "fast",
        "golden": embedder.golden_cosine,
        "one_vector": bool(np.array_equal(alone, together)),
        "texts": len(texts),
    }


def index() -> dict[str, Any]:
    """Every step of an index's life; what went wrong, or nothing."""
    from edge_embed import Document, Embedder, Index

    texts, wrong = [*QUERIES, *TEXTS.read_text(encoding="utf-8").splitlines()[SHORT]], []
    documents = [Document(f"d{i}", text, {"even": i % 2 == 0}) for i, text in enumerate(texts)]
    embedder = Embedder(threads=1)

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


def queries(count: int) -> dict[str, Any]:
    """Start, then embed so many queries one by one: what a counter of instructions watches from outside."""
    from edge_embed import Embedder

    embedder = Embedder(threads=1)
    for text in QUERIES[:count]:
        embedder.encode_query([text])
    return {"tokens": sorted({len(embedder.tokenizer.encode(text)) for text in QUERIES})}


def main() -> None:
    parser = argparse.ArgumentParser(description="what this device does with fixed texts, as JSON")
    steps = parser.add_subparsers(dest="step", required=True)
    for name in ("natives", "index"):
        steps.add_parser(name)
    step = steps.add_parser("vectors")
    step.add_argument("out", type=Path)
    step.add_argument("--short", action="store_true")
    steps.add_parser("queries").add_argument("count", type=int)
    given = vars(parser.parse_args())
    step = {"natives": natives, "vectors": vectors, "index": index, "queries": queries}[given.pop("step")]
    print(json.dumps({"python": platform.python_version(), **step(**given)}))


if __name__ == "__main__":
    main()
