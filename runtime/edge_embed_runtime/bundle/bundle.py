"""The bundle: a folder with files of fixed names, written atomically and verified before any parser sees it.

Weights for which the model's file is too small lie in a second one, WEIGHTS. Such a bundle has a schema of its own, so
that releases which know nothing of the second file say so; all others have the first.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.bundle.adapters import Adapter, parse_adapters
from edge_embed_runtime.checks import check_path, listed, shown
from edge_embed_runtime.errors import BundleDamagedError, BundleFormatError, InputError, StorageError, about
from edge_embed_runtime.system.files import open_regular, read_regular
from edge_embed_runtime.system.writing import sync_folder

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.tokenizer import Tokenizer

# Every release reads the first; the second says something that an older one would pass over, and give other vectors.
SCHEMA, NEWER_SCHEMA = 1, 2
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
ROLES = ("query", "document")

# A manifest is a few kilobytes; protobuf, and so ONNX, ends at 2 GiB.
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_FILE_BYTES = 2**31 - 1
MAX_WEIGHTS_BYTES = 2**42
# What a file of a bundle not yet written holds: bytes, or a file of a temporary folder, which is moved.
Content = bytes | Path


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
class Layer:
    """Where a model has the states of its tokens behind a layer.

    value:  the name of a value of the graph, [tokens, hidden], where token t of text i is row t * batch + i
    offset: what to add to each number: base64 of float32 [hidden], or "" for nothing (int8 models move channels to the
            middle of their range)
    """

    value: str
    offset: str = ""


# Fields that came later: they are left out where they say nothing, so that older manifests are still what is written.
# Those of NEWER decide which vector a text gets: a manifest that has one is of the second schema.
NEWER: dict[str, Any] = {"truncation": "", "default_role": "", "left_out": "", "side": ""}
LATER: dict[str, Any] = {"layers": [], "inputs": "", "kind": "dense", "head": {}, "adapters": [], **NEWER}
LEFT_OUT = ("", "prompt", "instruction")
# The input of a model that leaves prompts out: int64 [1], how many tokens at the beginning of every text pooling leaves
# out. Where nothing would be left of a text, none of its tokens is.
LEFT_OUT_INPUT = "left_out"
KINDS = ("dense", "sparse", "multi")
# What `head` may say; the first releases with other kinds do not know the second part, by which vectors are others.
HEAD = frozenset(
    {"saturations", "query_weights", "query_marker", "document_marker", "query_length", "expansion", "skip"}
)
NEWER_HEAD = frozenset({"filled", "query_skip", "first", "most", "query_tokens"})
TRUNCATIONS = ("", "layer_norm")


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    prompts:       text put before the input, by role ("query", "document", ...)
    truncate_dims: dimensions the model was trained to be cut to (Matryoshka), besides `dim`
    layers:        the states of tokens, of the embeddings first, then behind each layer; empty where none can be read
    inputs:        what a text becomes: "" for token ids, "characters" (see inputs/characters.py), "words" (see
    inputs/whitespace.py)
    kind:          "dense": a vector for each text; "sparse": a weight for each token of the vocabulary; "multi": a
                   vector for each token of the text
    head:          what the other kinds need: see embed/sparse.py and embed/multi.py
    adapters:      what the model has besides its base, in the order of their numbers: see adapters.py
    truncation:    what is done to a whole vector before it is cut: "" or "layer_norm" (see vectors.cut)
    default_role:  whose prompt is put before a text where the caller names no role; "" for none
    left_out:      which tokens at a text's beginning its vector is not made of, where there is a prompt: "prompt" or
                   "instruction" (see `prompts.left_out`); "" for none
    side:          the one role that the model is for, "query" or "document", where the other has another network; ""
                   for a model that is for all
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
    kind: str = "dense"
    head: dict[str, Any] = field(default_factory=dict)
    adapters: list[Adapter] = field(default_factory=list)
    truncation: str = ""
    default_role: str = ""
    left_out: str = ""
    side: str = ""

    @property
    def newer(self) -> dict[str, Any]:
        """What it says that releases which read the first schema alone do not know."""
        found = {name: getattr(self, name) for name, nothing in NEWER.items() if getattr(self, name) != nothing}
        # static bundles of the first schema all read texts alike
        return {**found, "inputs": self.inputs} if self.is_static and self.inputs else found

    @property
    def model_file(self) -> str:
        """The name of the file that says how vectors are made: MODEL, or TABLE of a static bundle."""
        return TABLE if TABLE in self.files else MODEL

    @property
    def large_files(self) -> tuple[str, ...]:
        """The names of the files with weights."""
        return tuple(name for name in self.files if name != TOKENIZER)

    @property
    def schema(self) -> int:
        return NEWER_SCHEMA if self.newer or WEIGHTS in self.files or self.head.keys() & NEWER_HEAD else SCHEMA

    @property
    def is_static(self) -> bool:
        """Whether a text's vector is the sum of its tokens' rows in a table (see model/static.py)."""
        return self.model_file == TABLE

    @property
    def fingerprint(self) -> str:
        """A name (32 hex digits) for everything that decides which vector a text gets."""
        hashes = {name: record.sha256 for name, record in self.files.items()}
        parts = [hashes, self.dim, self.max_tokens, self.prompts, *([self.head] if self.head else [])]
        parts += [asdict(adapter) for adapter in self.adapters]
        parts += [self.newer] if self.newer else []
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> bytes:
        """The bytes of manifest.json: the same for the same content, with a hash over themselves at the end."""
        said = {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}
        content = {"schema": self.schema, "fingerprint": self.fingerprint, **said}
        content["manifest_sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Bundle:
    """A bundle. `model` is the file whose hash `verify` checks, or the bytes of a bundle not yet written.

    onnxruntime needs less memory at its peak for a file than for bytes: 27 MB less for MiniLM-L6.

    parsed: the Tokenizer of `tokenizer`, where there is one already: of 250,000 tokens it takes 300 MB
    """

    path: Path
    manifest: Manifest
    model: Path | bytes
    tokenizer: bytes
    stamp: tuple[int, ...] = ()
    parsed: "Tokenizer | None" = None

    def verify(self) -> None:
        """Raise BundleDamagedError where the model, or its weights, is not what the manifest says."""
        with about(self.path, BundleDamagedError):
            for name in self.manifest.large_files if isinstance(self.model, Path) else ():
                _verify(self.path, name, self.manifest.files[name])

    def check_unchanged(self) -> None:
        """Raise BundleDamagedError when such a file was replaced or written to since it was verified."""
        if isinstance(self.model, Path) and stamp_of(self.model.parent, self.manifest) != self.stamp:
            names = listed(self.manifest.large_files)
            raise BundleDamagedError(
                f"bundle {self.path}: {names} was changed while it was being loaded", path=self.path
            )


def stamp_of(folder: Path, manifest: Manifest) -> tuple[int, ...]:
    """What changes where a file with weights is replaced or written to."""
    try:
        found = [(folder / name).lstat() for name in manifest.large_files]
    except OSError as error:
        raise BundleDamagedError(f"bundle {folder}: {error.strerror}: {error.filename}") from error
    return tuple(x for s in found for x in (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns))


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and verify a bundle folder. Raises what `open_bundle` and `Bundle.verify` raise."""
    bundle = open_bundle(path)
    bundle.verify()
    return bundle


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle folder and verify everything but the model, which the caller does with `Bundle.verify`.

    Raises BundleFormatError when the folder is no bundle, BundleDamagedError when a file is missing, extra, a link,
    or not what the manifest says.
    """
    folder = check_path(path, "the bundle")
    with about(folder, BundleFormatError, BundleDamagedError):
        return _opened(folder)


def _opened(folder: Path) -> Bundle:
    if not folder.is_dir():
        what = "does not exist" if not folder.exists() else "is a file"
        raise BundleFormatError(f"{folder} {what}; a bundle is a folder with {MANIFEST}, made by edge-embed export")
    found = sorted(entry.name for entry in os.scandir(folder))
    if MANIFEST not in found:
        raise BundleFormatError(f"{folder} is not a bundle: it has no {MANIFEST}; make one with edge-embed export")
    manifest = _parse_manifest(folder / MANIFEST)
    expected = sorted([MANIFEST, *manifest.files])
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        raise BundleDamagedError(f"bundle {folder}: {listed(missing)} missing. Copy or export it again", files=missing)
    if extra:
        raise BundleDamagedError(
            f"bundle {folder}: {listed(extra)} not part of it. Remove what is not part of it", files=extra
        )
    model = folder / manifest.model_file
    stamp = stamp_of(folder, manifest)
    with open_regular(folder / TOKENIZER, follow=False, error=BundleDamagedError) as file:
        tokenizer = file.read(manifest.files[TOKENIZER].size + 1)
    _verify(folder, TOKENIZER, manifest.files[TOKENIZER], tokenizer)
    return Bundle(folder, manifest, model, tokenizer, stamp)


def _verify(folder: Path, name: str, record: FileRecord, content: bytes | None = None) -> None:
    """Compare a file, or its content where that was read already, with what the manifest says."""
    if content is None:
        with open_regular(folder / name, follow=False, error=BundleDamagedError) as file:
            size = os.fstat(file.fileno()).st_size
            sha256 = hashlib.file_digest(file, "sha256").hexdigest() if size == record.size else ""
    else:
        size, sha256 = len(content), hashlib.sha256(content).hexdigest()
    if size != record.size:
        raise BundleDamagedError(
            f"bundle {folder}: {name} is not what the manifest describes ({size} bytes, expected {record.size}). "
            "Copy or export the bundle again",
            files=[name],
        )
    if sha256 != record.sha256:
        raise BundleDamagedError(
            f"bundle {folder}: {name} is not what the manifest describes (its sha256 differs). "
            "Copy or export the bundle again",
            files=[name],
        )


def _parse_manifest(path: Path) -> Manifest:
    raw = read_regular(path, MAX_MANIFEST_BYTES, follow=False, error=BundleDamagedError)
    try:
        content = json.loads(raw)
        schema = content["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleFormatError(f"{path} is not a manifest: {shown(error, 200)}") from error
    if schema not in (SCHEMA, NEWER_SCHEMA):
        raise BundleFormatError(f"{path} has schema version {shown(schema)}; this release reads up to {NEWER_SCHEMA}")
    try:
        manifest = _manifest(content)
        unchanged = raw == manifest.to_json()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise BundleFormatError(f"{path} is not a valid manifest: {shown(error, 200)}") from error
    if not unchanged:
        raise BundleDamagedError(f"{path} was changed after the export: its hash does not fit. Copy or export it again")
    return manifest


def _manifest(content: Mapping[str, Any]) -> Manifest:
    files = {name: FileRecord(str(entry["sha256"]), int(entry["size"])) for name, entry in content["files"].items()}
    if sorted(files) not in (sorted(payload) for payload in PAYLOADS):
        raise ValueError(f"files must be {' or '.join(map(str, PAYLOADS))}, got {listed(sorted(files))}")
    largest = {WEIGHTS: MAX_WEIGHTS_BYTES}
    if any(not 0 < record.size <= largest.get(name, MAX_FILE_BYTES) for name, record in files.items()):
        raise ValueError("a file size is out of range")
    dim, max_tokens = int(content["dim"]), int(content["max_tokens"])
    kind = str(content.get("kind", "dense"))
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r:.40}, expected one of {KINDS}")
    if not (0 < dim <= (2**20 if kind == "sparse" else 2**16) and 2 < max_tokens <= 2**20):
        raise ValueError(f"dim {dim} or max_tokens {max_tokens} is out of range")
    newer = {name: str(content.get(name, nothing)) for name, nothing in NEWER.items()}
    truncation = newer["truncation"]
    if truncation not in TRUNCATIONS or (truncation and (kind != "dense" or TABLE in files)):
        raise ValueError(
            f"truncation is {truncation!r:.40}, expected one of {TRUNCATIONS}, of a network's dense vectors"
        )
    head = dict(content.get("head", {}))
    if odd := head.keys() - HEAD - NEWER_HEAD:
        raise ValueError(f"head says {min(odd)!r:.40}, which this release does not know")
    golden = [Golden(str(g["text"]), [float(x) for x in g["vector"]]) for g in content["golden"]]
    if not all(_has_length(len(g.vector), kind, dim) for g in golden):
        raise ValueError(f"a golden vector has not the numbers that one of kind {kind!r} and dim {dim} has")
    prompts = content["prompts"]
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in prompts.items()):
        raise TypeError("prompts must map a role to a text")
    if newer["default_role"] and newer["default_role"] not in prompts:
        raise ValueError(f"default_role is {newer['default_role']!r:.40}, which is none of the prompts")
    if newer["left_out"] not in LEFT_OUT or newer["side"] not in ("", *ROLES):
        raise ValueError(f"left_out is {newer['left_out']!r:.40} and side is {newer['side']!r:.40}")
    return Manifest(
        name=str(content["name"]),
        files=files,
        dim=dim,
        max_tokens=max_tokens,
        pooling=str(content["pooling"]),
        architecture=dict(content["architecture"]),
        prompts=dict(prompts),
        truncate_dims=[int(n) for n in content["truncate_dims"]],
        quantization=dict(content["quantization"]),
        codes=dict(content["codes"]),
        golden=golden,
        receipt=dict(content["receipt"]),
        provenance=dict(content["provenance"]),
        layers=[Layer(str(layer["value"]), str(layer["offset"])) for layer in content.get("layers", [])],
        inputs=str(content.get("inputs", "")),
        kind=kind,
        head=head,
        adapters=parse_adapters(content.get("adapters", [])),
        **newer,
    )


def _has_length(numbers: int, kind: str, dim: int) -> bool:
    """Whether a golden vector can have so many: of a sparse one tokens and weights are given in turn."""
    return {"dense": numbers == dim, "sparse": numbers % 2 == 0, "multi": numbers % dim == 0}[kind]


def file_records(contents: Mapping[str, Content]) -> dict[str, FileRecord]:
    return {name: _record(data) for name, data in contents.items()}


def _record(data: Content) -> FileRecord:
    if isinstance(data, bytes):
        return FileRecord(hashlib.sha256(data).hexdigest(), len(data))
    with open_regular(data, follow=False) as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), file.seek(0, 2))


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Manifest,
    contents: Mapping[str, Content],
    *,
    overwrite: bool = False,
) -> None:
    """Write a bundle that appears at `path` whole or not at all.

    contents:  files that are given as a path are moved into the bundle
    overwrite: replace a bundle that is there. A hard kill in the moment between the two renames leaves the old bundle
               in a hidden folder beside `path`; any other failure leaves it where it was.

    Raises InputError when something is there already that may not be replaced, StorageError when the disk fails.
    """
    import shutil
    import tempfile

    target = Path(path).absolute()
    check_replaceable(target, overwrite)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        for name, data in {**contents, MANIFEST: manifest.to_json()}.items():
            if isinstance(data, Path):
                shutil.move(data, new / name)  # where it lies on another disk it is copied
            with (new / name).open("r+b" if isinstance(data, Path) else "wb") as file:
                file.write(data if isinstance(data, bytes) else b"")
                file.flush()
                os.fsync(file.fileno())
        sync_folder(new)
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise StorageError(
            f"{target} could not be written: {error.strerror}; nothing was changed", path=target, cause=error
        ) from error
    finally:
        if temporary is not None and (target.exists() or not (temporary / "old").exists()):
            shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(target: Path, overwrite: bool) -> None:
    """Only a folder that holds a bundle and nothing else is ever replaced. Raises InputError for everything else."""
    if not target.exists() and not target.is_symlink():
        return
    is_bundle = (
        not target.is_symlink()
        and target.is_dir()
        and sorted(entry.name for entry in os.scandir(target)) in (sorted([MANIFEST, *payload]) for payload in PAYLOADS)
    )
    if not is_bundle:
        raise InputError(f"{target} exists and is not a bundle; choose another path", path=target)
    if not overwrite:
        raise InputError(
            f"{target} exists; choose another path, or replace it with --force (overwrite=True)",
            code="output_exists",
            path=target,
        )
