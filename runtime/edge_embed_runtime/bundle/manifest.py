"""manifest.json: what a bundle says of itself.

Weights for which the model's file is too small lie in a second one, WEIGHTS. Such a bundle has a schema of its own, so
that releases which know nothing of the second file say so; so has one for the native engine, and one with towers for
other inputs than texts (see towers.py), which may have no model for texts at all. All others have the first.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.bundle.adapters import Adapter, parse_adapters
from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.errors import BundleDamagedError, BundleFormatError
from edge_embed_runtime.system.files import read_regular
from edge_embed_runtime.vectors.kinds import DENSE, KINDS, RERANK, Kind

if TYPE_CHECKING:
    from edge_embed_runtime.bundle.native import Native
    from edge_embed_runtime.bundle.towers import Tower

# Every release reads the first; an older one would ignore what the second adds, and compute other vectors.
SCHEMA, NEWER_SCHEMA = 1, 2
NATIVE_SCHEMA = 3  # of bundles whose engine is the native one
TOWERS_SCHEMA = 4  # of bundles with towers, or that name the space of their vectors
MANIFEST = "manifest.json"
MODEL = "model.onnx"
WEIGHTS = "model.weights"
TABLE = "table.safetensors"
TOKENIZER = "tokenizer.json"
# What a bundle holds besides its manifest: a model for onnxruntime, or a static model's table of token vectors.
PAYLOAD = (MODEL, TOKENIZER)
LARGE_PAYLOAD = (MODEL, WEIGHTS, TOKENIZER)
STATIC_PAYLOAD = (TABLE, TOKENIZER)
PAYLOADS = (PAYLOAD, LARGE_PAYLOAD, STATIC_PAYLOAD)
# The files of towers, by modality; the second one where the first is too small for the weights.
TOWER_FILES = {"image": ("image.onnx", "image.weights"), "audio": ("audio.onnx", "audio.weights")}
TEXT = "text"
MODALITIES = (TEXT, *TOWER_FILES)
ROLES = ("query", "document")
# What runs a model: onnxruntime runs all, the native engine those that say what it needs (see native.py).
NATIVE, ONNXRUNTIME = "native", "onnxruntime"
ENGINES = (NATIVE, ONNXRUNTIME)

# A manifest is a few kilobytes; protobuf, and so ONNX, ends at 2 GiB.
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_FILE_BYTES = 2**31 - 1
MAX_WEIGHTS_BYTES = 2**42


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and hash of one file of the bundle."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Golden:
    """A text and the vector that the exporter's machine got for it."""

    text: str
    vector: list[float]


@dataclass(frozen=True)
class GoldenPair(Golden):
    """A pair of texts, of a cross-encoder, and the scores that the exporter's machine got for it, before the
    activation."""

    second: str


@dataclass(frozen=True)
class Layer:
    """Where a model has the states of its tokens behind a layer.

    value:  the name of a value of the graph, [tokens, hidden], where token t of text i is row t * batch + i
    offset: what to add to each number: base64 of float32 [hidden], or "" for nothing (int8 models move channels to the
            middle of their range)
    """

    value: str
    offset: str = ""


# Fields that came later are left out where they have these values, so that manifests stay what earlier releases wrote.
# Those of NEWER decide which vector a text gets: a manifest that has one is of the second schema.
NEWER: dict[str, Any] = {"truncation": "", "default_role": "", "left_out": "", "side": ""}
LATER: dict[str, Any] = {
    **{"layers": [], "inputs": "", "kind": DENSE.name, "head": {}, "adapters": [], **NEWER},
    **{"engine": ONNXRUNTIME, "native": None, "towers": {}, "space": ""},
}
LEFT_OUT = ("", "prompt", "instruction")
# The input of a model that leaves prompts out: int64 [1], how many tokens at the beginning of every text pooling leaves
# out. Where nothing would be left of a text, none of its tokens is.
LEFT_OUT_INPUT = "left_out"
# What `head` may hold. The first releases with other kinds would ignore NEWER_HEAD, and compute other vectors.
HEAD = frozenset(
    {"saturations", "query_weights", "query_marker", "document_marker", "query_length", "expansion", "skip"}
)
NEWER_HEAD = frozenset({"filled", "query_skip", "first", "most", "query_tokens"})
# That of a cross-encoder (see embed/reranker.py), whose kind earlier releases refuse by its name.
PAIR_HEAD = frozenset({"activation", "types", "labels"})
# Its input for the type of each token, 0 in the first text of a pair and 1 in the second: int64 [batch, sequence].
TYPES_INPUT = "token_type_ids"
TRUNCATIONS = ("", "layer_norm")
# What `quantization.pairs` says where the codes of each pair of neighbouring inputs add up to 128 at most, so that no
# CPU's products of uint8 by int8 saturate (the exporter rounds weights so).
WITHIN_LIMIT = "within 128"
# The pooling of a bundle whose graph was published with one inside it.
OWN_POOLING = "the graph's own"


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    prompts:       text put before the input, by role ("query", "document", ...)
    truncate_dims: dimensions the model was trained to be cut to (Matryoshka), besides `dim`
    layers:        the states of tokens, of the embeddings first, then behind each layer; empty where none can be read
    inputs:        what a text becomes: "" for token ids, "characters" (see inputs/characters.py), "words" (see
    inputs/whitespace.py)
    kind:          what a text becomes: a name of vectors/kinds.py
    head:          what the other kinds need: see embed/sparse.py, embed/multi.py and embed/reranker.py
    adapters:      what the model has besides its base, in the order of their numbers: see adapters.py
    truncation:    what is done to a whole vector before it is cut: "" or "layer_norm" (see vectors/normalize.py)
    default_role:  whose prompt is put before a text where the caller names no role; "" for none
    left_out:      which tokens at a text's beginning its vector is not made of, where there is a prompt: "prompt" or
                   "instruction" (see `prompts.left_out`); "" for none
    side:          the one role that the model is for, "query" or "document", where the other has another network; ""
                   for a model that is for all
    engine:        what runs the model, and made the golden vectors: "native" or "onnxruntime" (which runs all)
    native:        what the native engine needs to know; None where it cannot run the model
    towers:        models for other inputs than texts, by modality ("image", "audio")
    space:         names the space that its vectors lie in: those of bundles that share it can be compared; "" for the
                   bundle's own, whose name is its fingerprint

    Without a model for texts `max_tokens` is 0 and `pooling` "", and nothing else is said of texts.
    """

    name: str
    files: dict[str, FileRecord]
    dim: int
    max_tokens: int
    pooling: str
    architecture: dict[str, Any]
    prompts: dict[str, str] = field(default_factory=dict)
    truncate_dims: list[int] = field(default_factory=list)
    quantization: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    golden: list[Golden] = field(default_factory=list)
    receipt: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    inputs: str = ""
    kind: str = DENSE.name
    head: dict[str, Any] = field(default_factory=dict)
    adapters: list[Adapter] = field(default_factory=list)
    truncation: str = ""
    default_role: str = ""
    left_out: str = ""
    side: str = ""
    engine: str = ONNXRUNTIME
    native: "Native | None" = None
    towers: "dict[str, Tower]" = field(default_factory=dict)
    space: str = ""

    @property
    def never_saturates(self) -> bool:
        """Whether int8 products with the weights come out right on every CPU (see `session.products_saturate`)."""
        return self.quantization.get("pairs") == WITHIN_LIMIT

    @property
    def newer(self) -> dict[str, Any]:
        """Its fields that releases which read only the first schema do not know."""
        found = {name: getattr(self, name) for name, nothing in NEWER.items() if getattr(self, name) != nothing}
        # static bundles of the first schema all read texts alike
        return {**found, "inputs": self.inputs} if self.is_static and self.inputs else found

    @property
    def model_file(self) -> str:
        """The name of the file with the graph, MODEL, or of a static bundle the TABLE."""
        return TABLE if TABLE in self.files else MODEL

    @property
    def has_text(self) -> bool:
        """Whether there is a model for texts."""
        return TOKENIZER in self.files

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it has models for: "text", "image", "audio"."""
        return (*([TEXT] if self.has_text else []), *self.towers)

    def large_files(self, modality: str = TEXT) -> tuple[str, ...]:
        """The names of the files with the weights of one model."""
        return tuple(name for name in by_modality(self.files)[modality] if name != TOKENIZER)

    @property
    def schema(self) -> int:
        if self.towers or self.space:
            return TOWERS_SCHEMA
        if self.native is not None:
            return NATIVE_SCHEMA
        return NEWER_SCHEMA if self.newer or WEIGHTS in self.files or self.head.keys() & NEWER_HEAD else SCHEMA

    @property
    def is_static(self) -> bool:
        """Whether a text's vector is the sum of its tokens' rows in a table (see model/static.py)."""
        return self.model_file == TABLE

    @property
    def output(self) -> Kind:
        """What it gives for a text: `kind`, as the object that knows about it."""
        return KINDS[self.kind]

    @property
    def fingerprint(self) -> str:
        """A name (32 hex digits) for everything that decides which vector a text gets."""
        hashes = {name: record.sha256 for name, record in self.files.items()}
        parts = [hashes, self.dim, self.max_tokens, self.prompts, *([self.head] if self.head else [])]
        parts += [asdict(adapter) for adapter in self.adapters]
        parts += [self.newer] if self.newer else []
        parts += [] if self.native is None else [self.engine, asdict(self.native)]
        if self.towers or self.space:
            from edge_embed_runtime.bundle.towers import deciding  # most bundles have none

            parts += [self.space, deciding(self.towers)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> bytes:
        """The bytes of manifest.json: the same for the same content, with a hash over themselves at the end."""
        said = {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}
        content = {"schema": self.schema, "fingerprint": self.fingerprint, **said}
        content["manifest_sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def read_manifest(path: Path) -> Manifest:
    """Raises BundleFormatError for what is no manifest, BundleDamagedError for one that was changed."""
    raw = read_regular(path, MAX_MANIFEST_BYTES, follow=False, error=BundleDamagedError)
    try:
        content = json.loads(raw)
        schema = content["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleFormatError(f"{path} is not a manifest: {shown(error, 200)}") from error
    if schema not in (SCHEMA, NEWER_SCHEMA, NATIVE_SCHEMA, TOWERS_SCHEMA):
        raise BundleFormatError(f"{path} has schema version {shown(schema)}; this release reads up to {TOWERS_SCHEMA}")
    try:
        manifest = manifest_of(content)
        unchanged = raw == manifest.to_json()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise BundleFormatError(f"{path} is not a valid manifest: {shown(error, 200)}") from error
    if not unchanged:
        raise BundleDamagedError(f"{path} was changed after the export: its hash does not fit. Copy or export it again")
    return manifest


def manifest_of(content: Mapping[str, Any]) -> Manifest:
    """Raises KeyError, TypeError, ValueError or AttributeError for what is no manifest."""
    files = _file_records(content["files"])
    dim, max_tokens, name = int(content["dim"]), int(content["max_tokens"]), str(content.get("kind", DENSE.name))
    if name not in KINDS:
        raise ValueError(f"kind is {name!r:.40}, expected one of {tuple(KINDS)}")
    kind = KINDS[name]
    if not 0 < dim <= kind.most_dims or (max_tokens != 0 if TOKENIZER not in files else not 2 < max_tokens <= 2**20):
        raise ValueError(f"dim {dim} or max_tokens {max_tokens} is out of range")
    newer = _newer(content, cut=kind is DENSE and TABLE not in files)
    head = dict(content.get("head", {}))
    if odd := head.keys() - (PAIR_HEAD if kind is RERANK else HEAD | NEWER_HEAD):
        raise ValueError(f"head says {min(odd)!r:.40}, which this release does not know")
    golden = [_golden(entry, kind) for entry in content["golden"]]
    if not all(kind.has_length(len(g.vector), dim) for g in golden):
        raise ValueError(f"a golden vector has not the numbers that one of kind {name!r} and dim {dim} has")
    manifest = Manifest(
        name=str(content["name"]),
        files=files,
        dim=dim,
        max_tokens=max_tokens,
        pooling=str(content["pooling"]),
        architecture=dict(content["architecture"]),
        prompts=dict(content["prompts"]),
        truncate_dims=[int(n) for n in content["truncate_dims"]],
        quantization=dict(content["quantization"]),
        codes=dict(content["codes"]),
        golden=golden,
        receipt=dict(content["receipt"]),
        provenance=dict(content["provenance"]),
        layers=[Layer(str(layer["value"]), str(layer["offset"])) for layer in content.get("layers", [])],
        inputs=str(content.get("inputs", "")),
        kind=name,
        head=head,
        adapters=parse_adapters(content.get("adapters", [])),
        engine=str(content.get("engine", ONNXRUNTIME)),
        native=_native(content["native"]) if "native" in content else None,
        space=str(content.get("space", "")),
        towers=_towers(content.get("towers", {}), files, dim),
        **newer,
    )
    _check_engine(manifest)
    if manifest.schema == TOWERS_SCHEMA:
        from edge_embed_runtime.bundle.towers import check_space  # most bundles have none

        check_space(manifest.space, kind, manifest.towers, None if manifest.has_text else _of_texts(manifest))
    return manifest


def _of_texts(manifest: Manifest) -> list[str]:
    """What a manifest says of texts."""
    kept = ("kind", "towers", "space")
    nothing: dict[str, Any] = {name: value for name, value in LATER.items() if name not in kept}
    nothing |= {"max_tokens": 0, "pooling": "", "prompts": {}, "golden": [], "quantization": {}}
    return [name for name, value in nothing.items() if getattr(manifest, name) != value]


def _towers(content: object, files: Collection[str], dim: int) -> "dict[str, Tower]":
    modalities = [name for name, own in by_modality(files).items() if own and name != TEXT]
    if content == {} and not modalities:
        return {}
    from edge_embed_runtime.bundle.towers import parse_towers

    return parse_towers(content, modalities, dim)


def _native(content: object) -> "Native":
    from edge_embed_runtime.bundle.native import parse_native  # many bundles have none

    return parse_native(content)


def _check_engine(manifest: Manifest) -> None:
    """Raises ValueError for an engine that does not exist, or that cannot be the one of such a bundle."""
    engine, native = manifest.engine, manifest.native
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r:.40}, expected one of {ENGINES}")
    if (engine == NATIVE) != (native is not None):
        raise ValueError(f"engine is {engine!r}, and `native` is {'missing' if native is None else 'there'}")
    if native is None:
        return
    others = manifest.kind != DENSE.name or manifest.inputs or manifest.adapters or manifest.left_out
    files = by_modality(manifest.files)[TEXT]
    if others or sorted(files) != sorted(PAYLOAD) or native.pooling != manifest.pooling:
        raise ValueError("engine is 'native', which is for dense models of one file, without adapters")


def _golden(entry: Mapping[str, Any], kind: Kind) -> Golden:
    text, vector = str(entry["text"]), [float(x) for x in entry["vector"]]
    return GoldenPair(text, vector, str(entry["second"])) if kind is RERANK else Golden(text, vector)


def by_modality(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The names of a bundle's files, by what they are the model of; `()` where it has none.

    ["model.onnx", "tokenizer.json", "image.onnx"] -> {"text": ("model.onnx", "tokenizer.json"), "image":
    ("image.onnx",), "audio": ()}

    Raises ValueError where no bundle has just these.
    """
    found = {modality: tuple(name for name in names if name in own) for modality, own in TOWER_FILES.items()}
    text = tuple(name for name in names if not any(name in own for own in found.values()))
    lone = [own for modality, own in found.items() if own and TOWER_FILES[modality][0] not in own]
    if lone or not (sorted(text) in map(sorted, PAYLOADS) or (not text and any(found.values()))):
        raise ValueError(
            f"files must be {' or '.join(map(str, PAYLOADS))}, with or in place of them those of towers, "
            f"{' and '.join(map(str, TOWER_FILES.values()))}, got {listed(sorted(names))}"
        )
    return {TEXT: text, **found}


def _file_records(content: Mapping[str, Any]) -> dict[str, FileRecord]:
    files = {name: FileRecord(str(entry["sha256"]), int(entry["size"])) for name, entry in content.items()}
    by_modality(files)
    largest = dict.fromkeys([WEIGHTS, *(weights for _, weights in TOWER_FILES.values())], MAX_WEIGHTS_BYTES)
    if any(not 0 < record.size <= largest.get(name, MAX_FILE_BYTES) for name, record in files.items()):
        raise ValueError("a file size is out of range")
    return files


def _newer(content: Mapping[str, Any], *, cut: bool) -> dict[str, str]:
    """The fields of NEWER, checked with the prompts that they name. cut: whether vectors can have a `truncation`"""
    newer = {name: str(content.get(name, nothing)) for name, nothing in NEWER.items()}
    if newer["truncation"] not in TRUNCATIONS or (newer["truncation"] and not cut):
        raise ValueError(
            f"truncation is {newer['truncation']!r:.40}, expected one of {TRUNCATIONS}, of a network's dense vectors"
        )
    prompts = content["prompts"]
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in prompts.items()):
        raise TypeError("prompts must map a role to a text")
    if newer["default_role"] and newer["default_role"] not in prompts:
        raise ValueError(f"default_role is {newer['default_role']!r:.40}, which is none of the prompts")
    if newer["left_out"] not in LEFT_OUT or newer["side"] not in ("", *ROLES):
        raise ValueError(f"left_out is {newer['left_out']!r:.40} and side is {newer['side']!r:.40}")
    return newer
