"""Files of a bundle changed at random, with the hash check on, and with hashes that fit what was changed.

With the check on nothing may get past it. With hashes that fit, as whoever makes a bundle can write them, the parsers
of onnxruntime and tokenizers see the change: a child process may die of that, which is counted and named. It may not
hang, and no error may be another than ours.
"""

import hashlib
import json
import os
import random
import resource
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from children import Child, HangError, Send
from mutate import change_bytes, flip_bit, lengthen, overwrite, truncate
from onnx import helper, numpy_helper
from powercut import read_files, write_files
from workload import Bench, Row

from edge_embed import Embedder
from edge_embed.errors import BundleError, EdgeEmbedError
from edge_embed_runtime.bundle.manifest import MANIFEST, MODEL, TOKENIZER
from edge_embed_runtime.model import deadline
from edge_embed_runtime.onnxfile.allowed import OPERATORS

PARTS = (MODEL, TOKENIZER, MANIFEST)
TEXTS = ["", "the cat at the river", "a bank " * 100, "\0 [SEP] \u0301é 水 \U0001f600" * 3]
HEADROOM = 2**31  # bytes that a child may take beyond what it has: a server with more is no reason to use it
DEADLINE = 2.0  # seconds; in a child, so that a model that never ends shows
LIMIT = 60.0  # seconds without a word after which a child hangs; the machine stands still for some now and then
HOSTILE = ["If", "Loop", "Scan", "RandomNormal", "Multinomial", "StringSplit", "EPContext", "Nothing"]

ByteMutation = Callable[[random.Random, bytearray], None]
JsonMutation = Callable[[random.Random, Any], Any]


class Case(NamedTuple):
    """A bundle to load: what was done to it, whether its hashes fit that, and its files."""

    name: str
    fits: bool
    files: dict[str, bytes]


# --- bytes


def duplicate(rng: random.Random, data: bytearray) -> None:
    """A span comes twice, or in another place."""
    size = rng.randint(1, min(len(data), 4096))
    start, target = rng.randrange(len(data)), rng.randrange(len(data))
    data[target : target + rng.choice([0, size])] = data[start : start + size]


def deepen(rng: random.Random, data: bytearray) -> None:
    """A value of a JSON text becomes a deep list; other files get noise."""
    depth, start = rng.choice([100, 1000, 10**5]), data.find(b"null", rng.randrange(len(data)))
    start = rng.randrange(len(data)) if start < 0 else start
    data[start : start + 4] = b"[" * depth + b"]" * depth


BYTE_MUTATIONS: tuple[ByteMutation, ...] = (
    flip_bit,
    flip_bit,
    change_bytes,
    overwrite,
    truncate,
    lengthen,
    duplicate,
    deepen,
)


# --- JSON


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found, pending = [], [value]
    while pending:
        container = pending.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                pending.append(container[key])
    return found


def _place(rng: random.Random, value: Any) -> tuple[Any, Any]:
    """A place in a JSON value; those of large lists and dictionaries, such as a vocabulary, are not preferred."""
    places = _places(value)
    small = [place for place in places if len(place[0]) < 20]
    return rng.choice(small if small and rng.random() < 0.8 else places)


def odd_value(rng: random.Random) -> Any:
    depth = rng.choice([10, 100, 400])  # what json can write; `deepen` goes on
    return rng.choice(
        [
            None, True, -1, 0, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, 0.5, "", "a", "\0", "水", "a" * 10**5,
            [], {}, [None], [[]], {"type": "Sequence"}, {"type": None}, {"": ""}, _nested(rng, depth, list),
            _nested(rng, depth, dict), float("nan"), float("inf"), "(a+)+$", "[", "\ud800",
        ]
    )  # fmt: skip


def _nested(rng: random.Random, depth: int, kind: type) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value] if kind is list else {"type": "Sequence", rng.choice(["normalizers", "pretokenizers"]): [value]}
    return value


def json_replace(rng: random.Random, value: Any) -> Any:
    container, key = _place(rng, value)
    container[key] = odd_value(rng)
    return value


def json_delete(rng: random.Random, value: Any) -> Any:
    container, key = _place(rng, value)
    del container[key]
    return value


def json_swap(rng: random.Random, value: Any) -> Any:
    (one, first), (two, second) = _place(rng, value), _place(rng, value)
    one[first], two[second] = deepcopy(two[second]), deepcopy(one[first])
    return value


def json_number(rng: random.Random, value: Any) -> Any:
    numbers = [(c, k) for c, k in _places(value) if isinstance(c[k], int | float) and not isinstance(c[k], bool)]
    if numbers:
        container, key = rng.choice(numbers)
        container[key] = rng.choice([container[key] + 1, -container[key] - 1, container[key] * 1000, 2**40, 2**32 - 1])
    return value


def json_component(rng: random.Random, value: Any) -> Any:
    """Another type of component under the same settings, or one in a sequence of many."""
    kinds = ["BPE", "Unigram", "WordLevel", "WordPiece", "Replace", "Precompiled", "Split", "Prepend", "Metaspace",
             "ByteLevel", "Nmt", "NFKC", "Digits", "Strip", "TemplateProcessing", "RobertaProcessing", "FixedLength",
             "UnicodeScripts", "Punctuation", "Sequence", "CTC", "Fuse"]  # fmt: skip
    part = rng.choice(["normalizer", "pre_tokenizer", "post_processor", "model", "decoder"])
    extra = {
        "pattern": rng.choice([{"Regex": "(a*)*b"}, {"Regex": "("}, {"String": ""}, {"Regex": ""}, {"Regex": "(?=a)"}]),
        "content": rng.choice(["", "a", "a" * 10**4]),
        "behavior": rng.choice(["Isolated", "Removed", "MergedWithNext", "Contiguous"]),
        "precompiled_charsmap": rng.choice(["", "AAAA", "/////w==", "QQAAAAAAAAA="]),
        "prepend": "a", "replacement": "_", "vocab": [["a", 0.0]], "merges": [["a", "b"]], "unk_id": rng.choice([0, 9]),
        "invert": False, "sep": ["a", 1], "cls": ["b", 2], "length": 0,
    }  # fmt: skip
    if isinstance(value, dict):
        found = value.get(part)
        kept = found if isinstance(found, dict) else {}
        chosen = {key: extra[key] for key in rng.sample(sorted(extra), rng.randint(1, len(extra)))}
        component = {**kept, **chosen, "type": rng.choice(kinds)}
        many = {"type": "Sequence", "normalizers": [component] * 50, "pretokenizers": [component] * 50}
        value[part] = component if rng.random() < 0.8 else many
    return value


JSON_MUTATIONS: tuple[JsonMutation, ...] = (json_replace, json_replace, json_delete, json_swap, json_number)


# --- protobuf


def onnx_operator(rng: random.Random, model: Any) -> None:
    node = rng.choice(model.graph.node)
    domain = rng.choice(sorted(OPERATORS))
    node.op_type = rng.choice([*sorted(OPERATORS[domain]), *HOSTILE])
    node.domain = domain if rng.random() < 0.9 else "custom"


def onnx_wires(rng: random.Random, model: Any) -> None:
    """An operator reads another value, or has one input fewer or more; its own output makes a circle."""
    node, other = rng.choice(model.graph.node), rng.choice(model.graph.node)
    name = rng.choice([other.output[0], rng.choice(model.graph.initializer).name, "", "nothing", node.output[0]])
    if node.input and rng.random() < 0.7:
        node.input[rng.randrange(len(node.input))] = name
    elif node.input and rng.random() < 0.5:
        node.input.pop()
    else:
        node.input.append(name)


def onnx_dims(rng: random.Random, model: Any) -> None:
    tensor = rng.choice(model.graph.initializer)
    values = [0, 1, 3, 2**16, 2**31 - 1, 2**40, 2**62, -1]
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(values)
    else:
        tensor.dims.append(rng.choice(values))


def onnx_type(rng: random.Random, model: Any) -> None:
    rng.choice(model.graph.initializer).data_type = rng.randrange(28)


def onnx_values(rng: random.Random, model: Any) -> None:
    """A shape, an axis or another whole number becomes absurd, weights become NaN."""
    tensors = [tensor for tensor in model.graph.initializer if tensor.data_type != onnx.TensorProto.INT8]
    tensor = rng.choice(tensors)
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        odd = [np.nan, np.inf, 1e30] if array.dtype.kind == "f" else [0, 1, -1, 7, 2**20, 2**31, 2**40, 2**62]
        with np.errstate(all="ignore"):
            array.flat[rng.randrange(array.size)] = np.array(rng.choice(odd)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def onnx_attribute(rng: random.Random, model: Any) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    node = rng.choice(nodes)
    attribute = rng.choice(node.attribute)
    value = rng.choice([0, -1, 1, 2, 99, 2**31, 2**63 - 1])
    attribute.CopyFrom(helper.make_attribute(attribute.name, rng.choice([value, [value], float(value), "a"])))


def onnx_nodes(rng: random.Random, model: Any) -> None:
    """An operator is missing, comes twice, or in another place."""
    nodes = list(model.graph.node)
    node = nodes.pop(rng.randrange(len(nodes)))
    if rng.random() < 0.6:
        nodes[(place := rng.randrange(len(nodes))) : place] = [node] * rng.choice([1, 2])
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def onnx_blow_up(rng: random.Random, model: Any) -> None:
    """Values that double again and again, or get an absurd shape, before the output."""
    last = model.graph.node[-1]
    value = last.input[0]
    if rng.random() < 0.5:
        for i in range(rng.choice([20, 40])):
            model.graph.node.append(helper.make_node("Concat", [value, value], [f"double{i}"], axis=0))
            value = f"double{i}"
    else:
        shape = numpy_helper.from_array(
            np.array(rng.choice([[2**40, 1, 1], [2**16, 1, 32], [2**31, 2**31, 1]])), "huge"
        )
        model.graph.initializer.append(shape)
        model.graph.node.append(helper.make_node("Expand", [value, "huge"], ["expanded"]))
        value = "expanded"
    model.graph.node.append(helper.make_node("ReduceSum", [value], ["total"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", [last.input[0], "total"], ["sum"]))
    nodes = [node for node in model.graph.node if node.output != last.output]
    ended = helper.make_node(last.op_type, ["sum"], list(last.output))
    del model.graph.node[:]
    model.graph.node.extend([*nodes, ended])


def onnx_outside(rng: random.Random, model: Any) -> None:
    """What no bundle has: weights elsewhere, graphs in operators, functions."""
    kind = rng.randrange(3)
    if kind == 0:
        tensor = rng.choice(model.graph.initializer)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(["/etc/passwd", "tokenizer.json", "../x"]))
    elif kind == 1:
        graph = helper.make_graph([], "inner", [], [])
        rng.choice(model.graph.node).attribute.append(helper.make_attribute("body", graph))
    else:
        node = rng.choice(model.graph.node)
        model.functions.append(helper.make_function("", node.op_type, ["x"], ["x"], [], model.opset_import))


ONNX_MUTATIONS = (
    onnx_operator, onnx_wires, onnx_dims, onnx_type, onnx_values, onnx_attribute, onnx_nodes, onnx_blow_up,
    onnx_outside,
)  # fmt: skip


# --- cases


@cache
def _parsed(model: bytes) -> Any:
    return onnx.load_from_string(model)


def seal(files: dict[str, bytes], content: Any) -> dict[str, bytes]:
    """The files with a manifest that fits them: its content, and its hashes where they are there to be replaced."""
    if isinstance(content, dict):
        records = content.get("files")
        for name in (MODEL, TOKENIZER):
            record = records.get(name) if isinstance(records, dict) else None
            if isinstance(record, dict) and record.keys() == {"sha256", "size"} and isinstance(record["sha256"], str):
                record["sha256"] = hashlib.sha256(files[name]).hexdigest()
        try:
            hashes = {name: record["sha256"] for name, record in content["files"].items()}
            parts = [hashes, content["dim"], content["max_tokens"], content["prompts"]]
            content["fingerprint"] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        except (KeyError, TypeError, AttributeError):
            pass
        content.pop("manifest_sha256", None)
        content["manifest_sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return {**files, MANIFEST: text.encode(errors="surrogatepass")}


def mutate_bytes(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    mutation, changed = rng.choice(BYTE_MUTATIONS), bytearray(data)
    mutation(rng, changed)
    return mutation.__name__, bytes(changed)


def mutate_part(rng: random.Random, part: str, data: bytes) -> tuple[str, bytes]:
    """One file changed: its bytes, or what they mean."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, data)
    if part == MODEL:
        mutation = rng.choice(ONNX_MUTATIONS)
        model = deepcopy(_parsed(data))
        mutation(rng, model)
        return mutation.__name__, model.SerializeToString()
    chosen = rng.choice([*JSON_MUTATIONS, json_component, json_component] if part == TOKENIZER else JSON_MUTATIONS)
    value = chosen(rng, json.loads(data))
    return chosen.__name__, json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def make_case(rng: random.Random, number: int, whole: dict[str, bytes]) -> Case:
    """The parts take turns, each without and with hashes that fit; half of those have no golden texts to fail at."""
    part, fits = PARTS[number % 3], number // 3 % 2 == 1
    if not fits:
        name, data = mutate_part(rng, part, whole[part])
        return Case(f"{part}, {name}", fits, {**whole, part: data})
    content = json.loads(whole[MANIFEST])
    if part == MANIFEST:
        mutation = rng.choice(JSON_MUTATIONS)
        return Case(f"{part}, {mutation.__name__}", fits, seal(whole, mutation(rng, content)))
    name, data = mutate_part(rng, part, whole[part])
    content["files"][part]["size"] = len(data)
    if rng.random() < 0.5:
        content["golden"] = []
    return Case(f"{part}, {name}", fits, seal({**whole, part: data}, content))


def examine(folder: Path, case: Case, whole: dict[str, bytes]) -> tuple[str, list[str]]:
    """How loading and using a bundle ended, and what is wrong with that."""
    try:
        embedder = Embedder(folder, threads=1)
        vectors = embedder.encode(TEXTS)
        embedder.frame  # noqa: B018 - reads it from the manifest
    except BundleError as error:
        return type(error).__name__, []
    except EdgeEmbedError as error:
        return type(error).__name__, [] if case.fits else [f"hash check: {error!r}"]
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return "wrong", [f"{type(error).__name__}: {error}"[:300]]
    if vectors.shape != (len(TEXTS), embedder.dim) or vectors.dtype != np.float32:
        return "wrong", [f"vectors {vectors.shape} {vectors.dtype}"]
    if case.files == whole:
        return "nothing changed", []
    return "used" if case.fits else "wrong", [] if case.fits else ["the hash check let it through"]


def limit_memory() -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():
        size = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, resource.RLIM_INFINITY))


def mutate_bundles(bench: Bench, row: Row, count: int) -> None:
    """Mutated bundles one after the other in a child; a new one goes on where that dies or hangs."""
    whole, said = read_files(bench.bundle), bench.folder / "said"
    cases, ends, deaths = bench.cases(count), Counter[str](), Counter[str]()
    fitting = 0

    def work(send: Send) -> None:
        for stream in (1, 2):  # older releases of onnxruntime print what went wrong
            os.dup2(os.open(said, os.O_CREAT | os.O_APPEND | os.O_WRONLY), stream)
        deadline.WATCHDOG.seconds = DEADLINE
        limit_memory()
        for number in cases:
            case = make_case(bench.rng(row.fault, number), number, whole)
            folder = write_files(bench.folder / "run", case.files)
            send(case[:2])
            send((*examine(folder, case, whole), ""))

    while cases:
        said.unlink(missing_ok=True)
        child, name, fits = Child(work), "not begun", False
        try:
            for message in child.messages(LIMIT):
                if len(message) == 2:
                    name, fits = message
                    continue
                row.runs, fitting = row.runs + 1, fitting + fits
                ends[f"{message[0]} ({'fitting' if fits else 'other'} hashes)"] += 1
                for wrong in message[1]:
                    row.fail("wrong", f"case {cases[0]} ({name})", wrong)
                cases = cases[1:]
            problem = child.crashed
        except HangError:
            row.fail("hangs", f"case {cases[0]} ({name})", f"no answer for {LIMIT:.0f} s")
            cases = cases[1:]
            continue
        if problem and fits and child.status is not None and child.status < 0:
            row.runs, fitting = row.runs + 1, fitting + 1
            deaths[f"{name}: {problem}"] += 1
            cases = cases[1:]
        elif problem:
            told = f"{problem.strip()[-300:]} {said.read_text(errors='replace')[-300:]}"
            row.fail("crashes", f"case {cases[0]} (after {name})", told)
            cases = cases[1:]
    row.notes.append(", ".join(f"{count} {end}" for end, count in ends.most_common()))
    row.notes.append(f"{deaths.total()} of {fitting} with fitting hashes ended their child: {dict(deaths)}")
