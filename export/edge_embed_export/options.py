"""What is asked of one export, checked once. What each option means stands at `exporter.export_model`."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from edge_embed_quantize.table import TABLE_BITS
from edge_embed_runtime.bundle.manifest import ENGINES, MODALITIES, NATIVE, TOWER_FILES
from edge_embed_runtime.checks import check_count, check_text, unusable
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.vectors.kinds import KINDS, Kind

# What a model gives for a text: a vector, weights of tokens, a vector for each token, or scores of a pair of texts.
KindName = Literal["dense", "sparse", "multi", "rerank"]
# The sides of a search, which some models have networks of their own for.
Side = Literal["query", "document"]
SIDES: tuple[Side, ...] = get_args(Side)
# Whether the tokens of a decoder see those behind them.
Attention = Literal["causal", "bidirectional"]
Verify = Literal["auto", "require", "skip"]
# What runs a bundle.
Engine = Literal["native", "onnxruntime"]
# One of "mean", "mean_sqrt_len", "weighted_mean", "cls", "max", "last", "sum", "tokens", or several whose vectors stand
# one behind the other, as "cls+mean".
Pooling = str

# The lowest mean cosine to float32 over the receipt texts that is written where the caller names no other.
FLOORS = {"int8": 0.995, "int4": 0.95, "fp32": 0.0}
# Of a model that scores pairs, the lowest rank correlation (Spearman's) with its float32 form.
RANK_FLOORS = {"int8": 0.99, "int4": 0.95, "fp32": 0.0}
# What runs a bundle where the caller says nothing: the native engine, where it knows the model.
DEFAULT_ENGINE = NATIVE
# Each option with values of its own, and these.
CHOICES: dict[str, tuple[str, ...]] = {
    "precision": tuple(FLOORS),
    "table": tuple(TABLE_BITS),
    "side": SIDES,
    "attention": get_args(Attention),
    "kind": tuple(KINDS),
    "verify": get_args(Verify),
    "engine": ENGINES,
}


@dataclass(frozen=True)
class GraphOptions:
    """What a caller says about a model that comes as a graph.

    convert:   convert a checkpoint of any architecture through torch
    file:      which ONNX file of a folder
    tokenizer: a tokenizer.json, or its folder, that is not next to the model
    pooling:   how vectors of tokens become one of the text; None means what the folder says
    output:    which of the graph's outputs; None means what names and shapes say
    """

    convert: bool = False
    file: str | None = None
    tokenizer: str | None = None
    pooling: Pooling | None = None
    output: str | None = None


DECODES = ("full", "scaled")


@dataclass(frozen=True)
class TowerOptions:
    """What a caller says about models of pictures and sounds.

    only:        of a source with several models, those for these modalities; None means all
    modality:    of an ONNX graph, what it reads: "image" or "audio"; None means texts
    front:       a file that says how an input becomes an ONNX graph's numbers: preprocessor_config.json of
                 transformers, open_clip_config.json, timm's config.json, or a front end as manifests have it
    calibration: a folder of pictures that int8 scales are found on; None means pictures that are drawn by code
    space:       a bundle whose vectors those of an ONNX graph were trained to be compared with, or a name
    decode:      of pictures: "scaled" decodes a large JPEG at a fraction of its size, which is faster, and measures
                 what that changes; "full" decodes it whole. None means what the source says, as a rule "full"
    """

    only: Sequence[str] | None = None
    modality: str | None = None
    front: str | os.PathLike[str] | None = None
    calibration: str | os.PathLike[str] | None = None
    space: str | os.PathLike[str] | None = None
    decode: str | None = None

    def __post_init__(self) -> None:
        if self.only is not None and (isinstance(self.only, str) or not set(self.only) <= set(MODALITIES)):
            raise unusable("towers", self.only, f"some of {MODALITIES}")
        if self.only is not None and not self.only:
            raise unusable("towers", self.only, f"some of {MODALITIES}")
        if self.modality is not None and self.modality not in TOWER_FILES:
            raise unusable("modality", self.modality, f"one of {tuple(TOWER_FILES)}")
        if self.decode not in (None, *DECODES):
            raise unusable("decode", self.decode, f"one of {DECODES}")
        if (self.modality is None) != (self.front is None):
            raise InputError("modality and front belong together: what an ONNX graph reads, and how it gets that")

    def wants(self, modality: str) -> bool:
        return self.only is None or modality in self.only


@dataclass(frozen=True)
class ExportOptions:
    """The options of `export_model`, under its names. Raises InputError for values that cannot be meant."""

    name: str | None = None
    source_name: str | None = None
    ignore: Sequence[str] = ()
    precision: str = "int8"
    table: str = "int8"
    search: bool = False
    recipes: str | os.PathLike[str] | None = None
    floor: float | None = None
    max_tokens: int | None = None
    prompts: Mapping[str, str] | None = None
    adapter: str | os.PathLike[str] | None = None
    adapters: Mapping[str, str | os.PathLike[str]] | None = None
    task: str | None = None
    truncate_dims: Sequence[int] | None = None
    truncate_norm: bool | None = None
    kind: KindName | None = None
    similarity: str | None = None
    attention: Attention | None = None
    side: Side | None = None
    words: int | None = None
    sif: float | None = None
    graph: GraphOptions = field(default_factory=GraphOptions)
    towers: TowerOptions = field(default_factory=TowerOptions)
    engine: Engine | None = None
    portable: bool = False
    verify: Verify = "auto"
    revision: str | None = None
    overwrite: bool = False
    progress: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise unusable(name, value, f"one of {choices}")
        if self.precision == "fp32" and self.given("table", "search", "recipes"):
            raise InputError("precision fp32 quantizes nothing: table, search and recipes have no use with it")
        if self.portable:
            self._check_portable()
        for name in ("precision", "table") if self.engine == NATIVE else ():
            if (value := getattr(self, name)) != "int8":
                raise InputError(f"the native engine runs int8 models: there is no use for it with {name} {value}")
        if self.search and self.recipes is not None:
            raise InputError("search finds recipes and recipes gives them: choose one")
        if self.graph.convert and self.graph.file is not None:
            raise InputError("--general converts a checkpoint and --onnx names an ONNX file: choose one")
        if self.similarity not in (None, "cosine"):
            raise unusable("similarity", self.similarity, "'cosine': an index compares by nothing else")
        for ignored in self.ignore:
            check_text(ignored, "a name to ignore")
        for role, text in (self.prompts or {}).items():
            check_text(text, f"the prompt of {role!r}")
        if self.max_tokens is not None:
            check_count(self.max_tokens, "max_tokens", 3, 2**20)

    def _check_portable(self) -> None:
        if self.engine == NATIVE:
            raise InputError("a portable bundle is for other engines than ours: there is no use for --engine native")
        if self.precision == "int4" or self.table != "int8":
            raise InputError(
                "a portable bundle has no weights in four or three bits: the operators that unpack them are missing in "
                "other engines. Leave --precision int4 and --table out"
            )

    @property
    def output(self) -> Kind | None:
        """`kind`, as the object that knows about it."""
        return None if self.kind is None else KINDS[self.kind]

    @property
    def int4(self) -> bool:
        """Whether weights are stored in four bits."""
        return self.precision == "int4"

    @property
    def names(self) -> tuple[str, ...]:
        """What the caller calls the source."""
        return () if self.source_name is None else (self.source_name,)

    def given(self, *names: str) -> list[str]:
        """Those of some options that say something."""
        return [name for name in names if getattr(self, name) and getattr(self, name) != USUAL.get(name)]


USUAL: dict[str, Any] = {field.name: field.default for field in fields(ExportOptions)} | {
    "graph": GraphOptions(),
    "towers": TowerOptions(),
}
