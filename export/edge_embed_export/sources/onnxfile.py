"""Reading published ONNX models: the file, its external data, and what lies next to it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_embed_export.files.formats import other_tokenizers
from edge_embed_export.files.reading import is_there
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.listed import Module, read_modules
from edge_embed_export.modules.pooling import read_pooling
from edge_embed_export.options import Pooling
from edge_embed_export.sources.checkpoint import licence_of
from edge_embed_export.sources.prompts import default_role, left_out, read_prompts
from edge_embed_export.tokenizer.files import read_text
from edge_embed_export.transformer.builder import LARGEST
from edge_embed_runtime.errors import ExportError, InputError, SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.onnxfile.allowed import OPERATORS
from edge_embed_runtime.system.files import check_regular, open_regular, read_regular

if TYPE_CHECKING:
    import onnx

# Where a folder has several models, the ones that were not quantized come first, as our own passes lose less.
USUAL = ("model.onnx", "onnx/model.onnx")
# Tokens of a text where nothing says: what nearly every encoder takes.
USUAL_TOKENS = 512
# Operators that no bundle may hold but that exporters leave behind and constant folding takes out.
FOLDED_AWAY = frozenset({"Dropout", "If", "Size"})


@dataclass(frozen=True)
class Published:
    """A model as it was published.

    path:       of the file, or of the folder that it was converted from
    folder:     where its configs lie
    pooling:    None where nothing says
    conversion: how a checkpoint became this graph, in words
    """

    path: Path
    folder: Folder
    model: "onnx.ModelProto"
    tokenizer: dict[str, Any]
    sha256: str
    config: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    pooling: Pooling | None = None
    of_tokens: tuple[Module, ...] = ()
    after: tuple[Module, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)
    licence: str | None = None
    notes: tuple[str, ...] = ()
    conversion: tuple[str, ...] = ()
    default_role: str = ""
    left_out: str = ""

    @property
    def architecture(self) -> str:
        return str(self.config.get("model_type", "unknown"))


def find_onnx(source: Path, onnx_file: str | None = None) -> Path | None:
    """The ONNX file that a source is, or that its folder holds; None where there is none.

    onnx_file: which of a folder's files. Raises InputError where there are several and none has a usual name.
    """
    if source.is_file():
        if onnx_file is not None:
            raise InputError(f"{source} is a file already: --onnx says which file of a folder")
        return source if source.suffix.lower() == ".onnx" else None
    if onnx_file is not None:
        found = [place / onnx_file for place in (source, source / "onnx") if is_there(place / onnx_file)]
        if not found:
            raise SourceError(f"{source} holds no file {onnx_file}")
        return found[0]
    files = sorted([*source.glob("*.onnx"), *source.glob("onnx/*.onnx")])
    usual = [source / name for name in USUAL if is_there(source / name)]
    if len(files) > 1 and not usual:
        names = ", ".join(str(file.relative_to(source)) for file in files)
        raise InputError(f"{source} holds several models: say which with --onnx: {names}", option="onnx")
    return next(iter([*usual, *files]), None)


def read_published(
    source: Path, file: Path, *, tokenizer: Path | None = None, names: tuple[str, ...] = ()
) -> Published:
    """Read an ONNX file with what is published next to it, or one folder up: tokenizer, configs, pooling, prompts.

    tokenizer: a tokenizer.json, or its folder, where there is none next to the model
    names:     what else the model is known by (see prompts.CARDS)
    """
    homes = (file.parent, source if source.is_dir() else file.parent.parent)
    if tokenizer is not None:
        definition = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    else:
        found = next((home for home in homes if is_there(home / "tokenizer.json")), None)
        found = found or next((home for home in homes if other_tokenizers(home)), None)
        if found is None:
            raise SourceError(
                f"{file}: no tokenizer.json next to it or one folder up; say where it is with --tokenizer FILE",
                path=file,
            )
        definition = found / "tokenizer.json"
    home = Folder(definition.parent)
    model, sha256 = load_onnx(file)
    return Published(file, home, model, sha256=sha256, **what_lies_near(home, names, definition))


def what_lies_near(home: Folder, names: tuple[str, ...], definition: Path | None = None) -> dict[str, Any]:
    """What a model's folder says, as fields of Published. definition: a tokenizer.json that is not in the folder."""
    place, modules = home.path, read_modules(home)
    if modules.mixed is not None:
        raise ExportError(f"{modules.mixed.path} weights the states of all layers, which a graph does not give")
    pooling = modules.pooling
    if pooling is None and is_there(place / "1_Pooling" / "config.json"):
        pooling = read_pooling(place / "1_Pooling")
    text = read_text(modules.model, home, home.config, definition)
    known = home.known_as(names)
    prompts = read_prompts(home, known)
    return {
        "config": home.config,
        "tokenizer": text.tokenizer,
        "max_tokens": text.limit,
        "notes": text.notes,
        "pooling": pooling,
        "of_tokens": modules.of_tokens,
        "after": modules.after,
        "prompts": prompts,
        "default_role": default_role(home, prompts),
        "left_out": left_out(home, home.config, known),
        "licence": licence_of(place),
    }


def load_onnx(path: Path) -> tuple["onnx.ModelProto", str]:
    """The model of a file, its external data merged, and the sha256 of the file.

    Raises ExportError for what is no ONNX model, is cut off, needs operators that no bundle may hold, or is too large.
    """
    onnx = require("onnx", "export")
    if check_regular(path).st_size > LARGEST:
        raise ExportError(f"{path} is larger than 2 GiB, which no bundle can hold")
    content = read_regular(path, LARGEST)
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's, which has no stubs
        raise ExportError(f"{path} is not an ONNX model, or was cut off: {error}") from error
    if not model.graph.node or not model.opset_import:
        raise ExportError(f"{path} is not an ONNX model, or was cut off: it has no operators")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    check_operators(model, path, FOLDED_AWAY)
    sha256 = hashlib.sha256(content)
    _merge(model, path, sha256)
    check_numbers(model, path)
    return model, sha256.hexdigest()


def check_operators(model: "onnx.ModelProto", path: Path, also: frozenset[str] = frozenset()) -> None:
    """Raise ExportError that names an operator which no bundle may hold; `also` are allowed here."""
    for node in model.graph.node:
        if node.domain not in OPERATORS:
            raise ExportError(
                f"{path} needs the operator {node.op_type!r} of the domain {node.domain!r}, which onnxruntime has "
                "only with a library of its own; export the model without custom operators"
            )
        inside = any(attribute.HasField("g") for attribute in node.attribute)
        if node.op_type not in (frozenset() if inside else OPERATORS[node.domain]) | also:
            raise ExportError(
                f"{path} needs the operator {node.op_type!r}, which no bundle may hold (see allowed.py): a bundle "
                "computes its vectors without control flow, files, texts and random numbers"
            )


def _merge(model: "onnx.ModelProto", path: Path, sha256: Any) -> None:
    """Put the numbers of tensors that lie in other files into the model. Only files next to it are opened."""
    onnx = require("onnx", "export")
    total = 0
    # the model's own folder, and where its file really lies: download caches are made of links
    allowed = {path.parent.resolve(), path.resolve().parent}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        data = path.parent / location
        parts = Path(location).parts
        inside = data.resolve().parent in allowed or data.resolve().is_relative_to(path.parent.resolve())
        if not parts or ".." in parts or Path(location).is_absolute() or "\\" in location or not inside:
            raise ExportError(f"{path}: the tensor {tensor.name!r} lies in {location!r}, outside the model's folder")
        if not is_there(data):
            raise SourceError(
                f"{data} is missing: the model's tensor {tensor.name!r} lies in it", path=data, code="source_missing"
            )
        size = _bytes(tensor)
        total += size
        if total > LARGEST:
            raise ExportError(f"{path} has more than 2 GiB of weights, which no bundle can hold")
        try:
            offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size)
        except ValueError:
            offset, length = -1, -1
        if offset < 0 or length != size or offset + size > check_regular(data).st_size:
            raise ExportError(f"{data} was cut off or belongs to another model: it does not hold {tensor.name!r}")
        with open_regular(data) as file:
            file.seek(offset)
            tensor.raw_data = file.read(size)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
        sha256.update(tensor.raw_data)


def _bytes(tensor: "onnx.TensorProto") -> int:
    onnx = require("onnx", "export")
    count = int(np.prod([int(dim) for dim in tensor.dims], dtype=object)) if tensor.dims else 1
    if tensor.data_type in (onnx.TensorProto.UINT4, onnx.TensorProto.INT4):
        return -(-count // 2)
    try:
        return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, ValueError, TypeError):
        raise ExportError(f"the tensor {tensor.name!r} has the unknown data type {tensor.data_type}") from None


def _tensors(model: "onnx.ModelProto") -> list[Any]:
    inside = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    return [*model.graph.initializer, *inside]


def check_numbers(model: "onnx.ModelProto", path: Path) -> None:
    """Raise ExportError for NaN. Infinity is what some models hide tokens with."""
    onnx = require("onnx", "export")
    for tensor in _tensors(model):
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            try:
                array = onnx.numpy_helper.to_array(tensor)
            except ValueError as error:
                raise ExportError(f"{path}: the tensor {tensor.name!r} was cut off: {error}") from error
            if np.isnan(array).any():
                raise ExportError(f"{path}: the tensor {tensor.name!r} holds NaN")
