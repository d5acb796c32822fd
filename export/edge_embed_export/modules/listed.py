"""What modules.json lists: the modules of a sentence-transformers folder, in their order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown
from edge_embed_export.files.reading import check_size, optional_json, read_json
from edge_embed_export.files.stored import Array
from edge_embed_export.files.tensors import read_tensors
from edge_embed_export.modules.classes import module_class
from edge_embed_export.modules.folder import SETTINGS, Folder
from edge_embed_export.modules.pooling import read_pooling
from edge_embed_export.modules.task import read_task
from edge_embed_export.options import Pooling
from edge_embed_export.transformer.activations import DENSE_ACTIVATIONS
from edge_embed_export.transformer.spec import Step
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, SPARSE, Kind

# What modules call the vectors of tokens, and that of a text.
TOKENS, TEXT = "token_embeddings", "sentence_embedding"


@dataclass(frozen=True)
class Module:
    """A module that is one step of the graph.

    tensors: by what follows `projection.I.` in our names; `sides` where it is a Dense for each side of a Router, whose
             weights then have the columns of one side behind those of the other
    """

    step: Step
    tensors: Mapping[str, Array] = field(default_factory=dict)
    path: Path = Path()

    @property
    def width(self) -> int | None:
        """Numbers of its vectors; None where they are as many as it reads."""
        return self.tensors["weight"].shape[-1] // self.sides if self.step.kind == "linear" else None

    @property
    def sides(self) -> int:
        """How many sides have a layer of their own in it."""
        return int(self.tensors["sides"].max()) + 1 if "sides" in self.tensors else 1


def linear(weight: Array, bias: Array | None = None) -> Module:
    """A linear layer without an activation; weight [m, n] is stored as torch does."""
    tensors = {"weight": np.ascontiguousarray(weight.T)}
    return Module(Step("linear"), tensors if bias is None else {**tensors, "bias": bias})


def sided(parts: Mapping[str, Module], default: str) -> Module:
    """The Dense modules of a Router's routes as one layer. default: the role whose layer texts without a role take"""
    modules = list(parts.values())
    shapes = {(m.step, *((name, array.shape) for name, array in m.tensors.items())) for m in modules}
    if len(shapes) > 1 or modules[0].step.residual:
        raise ExportError(
            f"{' and '.join(str(m.path) for m in modules)} have other shapes or activation functions, or residuals, so "
            "that one bundle cannot hold both: export each side to a bundle of its own, with --side query and --side "
            "document"
        )
    tensors = {name: np.concatenate([m.tensors[name] for m in modules], axis=-1) for name in modules[0].tensors}
    names = list(parts)  # the first number is for texts without a role
    chosen = np.array([names.index(side) for side in (default, *names)], np.float32)
    return Module(modules[0].step, {**tensors, "sides": chosen}, modules[0].path)


@dataclass(frozen=True)
class Mixed:
    """A WeightedLayerPooling: states of tokens from the `start`-th on (0 are the embeddings), by these weights."""

    start: int
    weights: Array
    path: Path


@dataclass
class Modules:
    """What modules.json lists.

    model:       the folder of the transformer itself
    pooling:     None where there is no such module
    mixed:       what tokens' vectors are made of besides the last layer
    of_tokens:   steps between the last layer and pooling
    after:       steps behind pooling
    splade:      the folder of a sparse head's pooling
    query_table: that of a table for queries
    mask:        that of a MultiVectorMask
    kind:        what they make, where they say so
    """

    model: Path
    pooling: Pooling | None = None
    mixed: Mixed | None = None
    of_tokens: tuple[Module, ...] = ()
    after: tuple[Module, ...] = ()
    splade: Path | None = None
    query_table: Path | None = None
    mask: Path | None = None
    kind: Kind | None = None


def read_modules(folder: Folder) -> Modules:
    """The modules of a folder, of any kind of model that an export has a form for.

    Raises ExportError that names file, module and place for one that is not known, or not where it can stand.
    """
    walk = _Walk(folder)
    for number, entry in enumerate(folder.modules):
        walk.sides = entry.get("sides", {})
        walk.default = str(entry.get("default"))
        walk.add(number, str(entry["type"]), str(entry["path"]))
    return walk.finish()


def read_dense(folder: Path) -> tuple[dict[str, Any], Module]:
    """A Dense module, and its config, which says what it reads and gives."""
    config = _config(
        folder,
        *("in_features", "out_features", "bias", "activation_function"),
        *("module_input_name", "module_output_name", "use_residual"),
    )
    n, m, residual = config.get("in_features"), config.get("out_features"), bool(config.get("use_residual"))
    bias, projected = bool(config.get("bias", True)), residual and n != m
    stored = _tensors(folder, "linear.weight", *["linear.bias"] * bias, *["residual.weight"] * projected)
    expected = {"linear.weight": (m, n), "linear.bias": (m,), "residual.weight": (m, n)}
    for name, array in stored.items():
        if array.shape != expected[name]:
            raise ExportError(f"{folder}: {name} has the shape {array.shape}, config.json says {expected[name]}")
    tensors = {"weight": np.ascontiguousarray(stored["linear.weight"].T)}
    if bias:
        tensors["bias"] = stored["linear.bias"]
    if projected:
        tensors["residual.weight"] = np.ascontiguousarray(stored["residual.weight"].T)
    path = str(config.get("activation_function", "torch.nn.Tanh"))
    name = path.rsplit(".", 1)[-1]
    if not path.startswith("torch.nn.") or name not in DENSE_ACTIVATIONS:
        raise ExportError(
            f"{folder / 'config.json'}: activation_function {path!r:.80} is not supported "
            f"({', '.join(f'torch.nn.{known}' for known in DENSE_ACTIVATIONS)} are)"
        )
    return config, Module(Step("linear", DENSE_ACTIVATIONS[name], residual), tensors, folder)


def _config(folder: Path, *known: str, needed: bool = True) -> dict[str, Any]:
    """What a module's config.json says; `known` are the keys that it may have."""
    path = folder / "config.json"
    config: dict[str, Any] = read_json(path) if needed else optional_json(path)
    refuse_unknown(path, config, known)
    return config


def _tensors(folder: Path, *names: str) -> dict[str, Array]:
    """A module's weights, which must be these."""
    path = folder / "model.safetensors"
    found = read_tensors(path)
    if found.keys() != set(names):
        raise ExportError(f"{path} holds {sorted(found)}, a module of its config has {sorted(names)}")
    return found


class _Walk:
    """Reads modules one after the other, and knows what the last one gives: None, TOKENS or TEXT."""

    def __init__(self, folder: Folder) -> None:
        self.file = folder.path / "modules.json"
        self.folder, self.settings = folder.path, folder.settings
        self.found, self.any = Modules(folder.path), bool(folder.modules)
        self.gives: str | None = None
        self.task = ""
        self.sides: Mapping[str, str] = {}
        self.default = ""
        self.path, self.what = folder.path, ""
        kinds = [str(entry["type"]) for entry in folder.modules]
        if folder.is_multi or any(k.startswith("pylate.") or k.endswith(".MultiVectorMask") for k in kinds):
            self.found.kind = MULTI
        self.readers: dict[str, Callable[[], None]] = {
            "Transformer": self.transformer,
            "MLMTransformer": self.masked,
            "JinaTransformer": self.jina,
            "WeightedLayerPooling": self.layers,
            "Pooling": self.pooling,
            "SpladePooling": self.splade,
            "SparseStaticEmbedding": self.table,
            "MultiVectorMask": self.multi_mask,
            "Dense": self.dense,
            "Normalize": self.normalize,
            "LayerNorm": self.norm,
            "Dropout": self.dropout,
            "Identity": lambda: None,
        }

    def error(self, message: str) -> ExportError:
        return ExportError(f"{self.file}: {self.what} {message}")

    def add(self, number: int, kind: str, path: str) -> None:
        name = module_class(kind)
        self.what, self.path = f"module {number}, {kind!r},", self.folder / path
        if not self.path.resolve().is_relative_to(self.folder.resolve()):
            raise self.error(f"has the path {path!r}, which is not in the folder")
        if name is None:
            raise self.error("is no module of sentence-transformers that is known; code of others is never run")
        if name == "CLIPModel":
            raise self.error(f"is not supported: it is a CLIP, whose own folder is exported: {self.path}")
        if name not in self.readers:
            raise self.error(f"is not supported ({', '.join(sorted(self.readers.keys() - {'JinaTransformer'}))} are)")
        self.readers[name]()

    def expect(self, given: str | None) -> None:
        """Refuse a module that does not stand behind one that gives what it reads."""
        if self.gives != given:
            words = {None: "first", TOKENS: "between the transformer and the pooling", TEXT: "behind the pooling"}
            raise self.error(f"can only stand {words[given]}")

    # the modules

    def transformer(self, usual: str = "feature-extraction") -> None:
        self.expect(None)
        self.found.model, self.gives = self.path, TOKENS
        self.task = read_task(self.path, usual)

    def masked(self) -> None:
        self.transformer("fill-mask")

    def jina(self) -> None:
        if "lora_adaptations" not in optional_json(self.path / "config.json"):
            raise self.error("is known as the code of jina-embeddings-v3, which this folder does not hold")
        self.transformer()

    def layers(self) -> None:
        self.expect(TOKENS)
        config = _config(self.path, *HARMLESS["a pooling"], "layer_start", "num_hidden_layers")
        weights = _tensors(self.path, "layer_weights")["layer_weights"]
        start = config.get("layer_start", 4)
        if self.found.mixed is not None or self.found.of_tokens:
            raise self.error("can only stand right behind the transformer")
        if type(start) is not int or start < 0 or weights.ndim != 1 or not abs(weights.sum()) > 0:
            raise self.error(f"has {weights.size} weights from layer {start!r:.40} on, which do not add up to a mean")
        self.found.mixed = Mixed(start, weights, self.path)

    def pooling(self) -> None:
        self.expect(TOKENS)
        if self.found.kind is MULTI:
            raise self.error("is none of a model that gives a vector for each token")
        self.found.pooling = read_pooling(self.path)
        self.found.kind, self.gives = DENSE, TEXT

    def splade(self) -> None:
        self.expect(TOKENS)
        if self.found.of_tokens or self.found.mixed:
            raise self.error("can only stand right behind the transformer")
        _config(self.path, "pooling_strategy", "activation_function", "chunk_size", *HARMLESS["a pooling"])
        self.found.splade, self.found.kind, self.gives = self.path, SPARSE, TEXT

    def table(self) -> None:
        self.found.query_table = self.path

    def multi_mask(self) -> None:
        self.expect(TOKENS)
        self.found.mask = self.path

    def dense(self) -> None:
        config, module = read_dense(self.path)
        if self.sides:
            parts = {side: read_dense(self.folder / path) for side, path in self.sides.items()}
            module = sided({side: part for side, (_, part) in parts.items()}, self.default)
            if any({**other, "bias": None} != {**config, "bias": None} for other, _ in parts.values()):
                raise self.error("has another config for each side: export each with --side query and --side document")
        self.step(config, module)

    def normalize(self) -> None:
        config = _config(self.path, "module_input_name", "module_output_name", needed=False)
        self.step(config, Module(Step("unit"), path=self.path))

    def norm(self) -> None:
        self.expect(TEXT)
        dimension = _config(self.path, "dimension").get("dimension")
        stored = _tensors(self.path, "norm.weight", "norm.bias")
        if any(array.shape != (dimension,) for array in stored.values()):
            raise self.error(f"has weights of other shapes than its dimension {dimension!r:.40}")
        tensors = {name.removeprefix("norm."): array for name, array in stored.items()}
        self.step({}, Module(Step("norm"), tensors, self.path))

    def dropout(self) -> None:
        self.expect(TEXT)
        _config(self.path, "dropout", needed=False)

    def step(self, config: Mapping[str, Any], module: Module) -> None:
        """Put a step where it stands. Raises ExportError for one that reads or gives something else than is there."""
        usual = TOKENS if self.found.kind is MULTI else TEXT
        read = config.get("module_input_name") or usual
        if read != self.gives or (config.get("module_output_name") or read) != read:
            raise self.error(
                f"reads {read!r:.40} and gives {config.get('module_output_name') or read!r:.40}; here it could only "
                f"read and give {self.gives!r}"
            )
        if self.found.splade is not None:
            raise self.error("stands behind a SpladePooling: the weights of a sparse model are what that gives")
        if read == TOKENS:
            self.found.of_tokens = (*self.found.of_tokens, module)
        else:
            self.found.after = (*self.found.after, module)

    def finish(self) -> Modules:
        found = self.found
        wanted = "fill-mask" if found.kind is SPARSE else "feature-extraction"
        if self.gives is not None and self.task != wanted and (found.splade or found.pooling or found.mixed):
            raise ExportError(
                f"{self.file}: the model is loaded for {self.task!r}; the modules behind it need vectors of {wanted!r}"
            )
        if self.any and self.gives is None:
            raise ExportError(f"{self.file} lists no Transformer")
        if self.gives == TOKENS and found.kind is None:
            raise ExportError(f"{self.file} lists no module that pools: a text would have no vector")
        native = found.mask is not None or self.settings.get("model_type") == "MultiVectorEncoder"
        if native and not (found.of_tokens and found.of_tokens[-1].step.kind == "unit"):
            raise ExportError(
                f"{self.file}: its vectors of tokens have other lengths than 1 without a Normalize module at the end, "
                "and a bundle's have length 1"
            )
        width = self.settings.get("truncate_dim")
        if found.kind is DENSE and width is not None:
            width = check_size(width, "truncate_dim", self.folder / SETTINGS)
            found.after = (*found.after, Module(Step("cut", width=width), path=self.folder / SETTINGS))
        return found


def as_steps(
    of_tokens: Sequence[Module], after: Sequence[Module], hidden: int, pooling: Pooling
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Modules as fields of `Spec` (projections, of_tokens, pooled, dim), and their weights by our names.

    hidden: numbers of a token's vector behind the last layer

    What changes no direction is left out: a Normalize behind another, before a cut, and at the end (vectors are
    normalised in any case); a cut that cuts nothing. Raises ExportError for a module that reads other vectors than it
    gets.
    """
    tokens, width = _steps(of_tokens, hidden, 0)
    pooled = width
    rest, width = _steps(after, width * len(pooling.split("+")), len(tokens))
    last = rest if pooling != "tokens" else tokens
    while last and last[-1][0].kind == "unit":
        last.pop()
    weights = {name: array for _, named in tokens + rest for name, array in named.items()}
    steps = tuple(step for step, _ in tokens + rest)
    fields = {"of_tokens": len(tokens), "pooled": 0 if pooled == hidden else pooled, "dim": width}
    return {"projections": steps, **fields}, weights


def _steps(modules: Sequence[Module], width: int, first: int) -> tuple[list[tuple[Step, dict[str, Array]]], int]:
    """Steps numbered from `first` on with their weights, and the numbers that the last one gives."""
    found: list[tuple[Step, dict[str, Array]]] = []
    for module in modules:
        step, tensors = module.step, module.tensors
        if tensors and tensors["weight"].shape[0] != width:
            raise ExportError(f"{module.path} takes {tensors['weight'].shape[0]} numbers, a vector has {width} there")
        if step.kind == "cut" and step.width >= width:
            continue
        if step.kind in ("unit", "cut") and found and found[-1][0].kind == "unit":
            found.pop()
        name = f"projection.{first + len(found)}"
        found.append((step, {f"{name}.{part}": array for part, array in tensors.items()}))
        width = step.width or module.width or width
    return found, width
