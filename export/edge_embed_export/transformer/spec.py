"""What one transformer looks like, the names of its weights, and what its linear layers read.

    embedding.word [v, e]  embedding.position [p, e]  embedding.norm [e]  embedding.project [e, h]
    layers.I.{query,key,value,out}                    [h, heads * size], [h, kv_heads * size] twice, [heads * size, h]
    layers.I.{up,gate,down}                           [h, f], [h, f], [f, h]
    layers.I.{attention_norm,output_norm} [h]         layers.I.{attention_post_norm,output_post_norm} [h]
    layers.I.{query_norm,key_norm} [size], or [heads * size] and [kv_heads * size]: of each head, or of all together
    layers.I.context_norm [heads * size], of attention's context           layers.I.inner_norm [f], before `down`
    layers.I.attention_inner_norm [h]                 layers.I.position_{key,query} [heads, buckets, size]
    layers.I.router [h, experts]                      layers.I.experts.E.{up,gate,down}, layers.I.experts.bias [h]
    embedding.appended [1, e]: a token behind those of every text (see filled.py)
    final_norm [h]  projection.I (see `Step`)         latent.{keys,values} [heads, latents, size], else as layers.I
    positions.NAME [heads or 1, 2 * max_tokens]       rotary.NAME.{cos,sin} [max_tokens, size / 2]
    rotary.NAME.{angles,long,powers} [size / 2], rotary.NAME.numbers [3] (see rope.Stretch; then there are no tables)
    projection.I.sides [numbers]: the side that each number of an adapter chooses (see `layers.Parts.side`)
    head.dense [h, h]  head.norm [h]                  head.bias [v], head.decoder [v, h] where it is not embedding.word
    projection.I [n, m]  projection.I.residual [n, m]  of a norm projection.I [n]
    head.token [h, 1]
    embedding.type [types, e]: what is added to tokens of each type, of models that read pairs
    head.classifier [h, labels]: of those, behind the steps behind pooling
    mix.offset [h]     what int8 models took from the states that `Spec.mix` adds up

Linear layers, stored [in, out], have `.weight` and may have `.bias`; so do norms. What is not there is not computed:
a family says which parts its models have by the weights that it gives.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.stored import as_stored
from edge_embed_export.options import Pooling
from edge_embed_export.transformer.activations import SPLITTABLE, Activation
from edge_embed_quantize.calibrate import Site
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, RERANK, SPARSE, Kind

Array = NDArray[np.float32]
Weights = Mapping[str, Array]

LATENT = "latent"
# Tokens of a text up to which attention computes all scores at a time (see blockwise.py).
WHOLE = 1024
# The context of attention is a mean of many values, but in some short texts that of one token alone, which goes further
# than any mean of the calibration texts. Half as far again costs 0.00003 of MiniLM's mean cosine.
CONTEXT_MARGIN = 1.5
# What torch's LayerNorm adds to a variance.
NORM_EPS = 1e-5


@dataclass(frozen=True)
class Layer:
    """What tells one layer from the others.

    weights: I of its weights' names `layers.I`; layers may share them (ALBERT)
    bias:    NAME of the table `positions.NAME`, by the offset of key from query, that is added to scores
    rotary:  NAME of the tables that turn queries and keys
    """

    weights: int
    bias: str | None = None
    rotary: str | None = None


@dataclass(frozen=True)
class Step:
    """What a module does to a vector of a token before pooling, or of a text behind it; its weights are `projection.I`.

    kind:     "linear": a linear layer, then the activation; "norm": a layer norm; "unit": brings it to length 1; "cut":
              keeps the first `width` numbers
    residual: of "linear": adds what was read, through `projection.I.residual` where there is such a layer
    """

    kind: Literal["linear", "norm", "unit", "cut"]
    activation: Activation = "identity"
    residual: bool = False
    width: int = 0


@dataclass(frozen=True)
class Filled:
    """Texts of a model that was trained without a mask: the graph fills each up to one length, and every token counts.

    tokens:   of every text
    token:    the id that it is filled up with
    appended: whether one more token, `embedding.appended`, stands behind all, and the key behind each token that fills
              is hidden (OpenCLIP's CoCa, see filled.py)
    """

    tokens: int
    token: int
    appended: bool = False


@dataclass(frozen=True)
class Spec:
    """What one model looks like.

    head_size:  numbers in a head; 0 means hidden / heads
    kv_heads:   heads of keys and values, shared by groups of query heads; 0 means as many as `heads`
    scale:      what scores are multiplied by; None means 1 / sqrt(head size)
    softcap:    scores become softcap * tanh(score / softcap) before anything is added to them; 0 means that they do not
    rms:        norms without a bias divide by the root mean square (else they are layer norms)
    plan:       the layers; () means one after the other, full attention, without positions of their own
    causal:     every table of `plan` hides keys after the query, so padding needs no mask of its own
    buckets:    of disentangled attention: (buckets, furthest distance); see positions.log_bucket
    active:     experts that a token uses
    kind:       what the graph gives: see heads.py
    saturations, head_activation: of a sparse head, whose weights are `head.*` (see families/reader.py)
    unattended: a token that no other sees
    weightless: of a sparse head whose pooling is "token": ids that weigh nothing
    projections: the steps from the last layer on; of_tokens: how many of them are done to tokens, before pooling
    pooled:     numbers in a token's vector that is pooled; 0 means hidden
    mix:        what the states of tokens count, of the embeddings and behind each layer, where what is pooled is their
                sum; () means the last alone
    types:      of a model that reads pairs of texts: whether the types of tokens are an input
    left_out:   which tokens at the beginning pooling leaves out (see bundle.Manifest)
    filled:     of a model whose texts all have one length: how they get it
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocab: int
    max_tokens: int
    dim: int
    norm_eps: float = 1e-12
    norm: Literal["post", "pre"] = "post"
    activation: Activation = "gelu"
    pooling: Pooling = "mean"
    projections: tuple[Step, ...] = ()
    of_tokens: int = 0
    pooled: int = 0
    mix: tuple[float, ...] = ()
    head_size: int = 0
    kv_heads: int = 0
    scale: float | None = None
    softcap: float = 0.0
    rms: bool = False
    plan: tuple[Layer, ...] = ()
    causal: bool = False
    buckets: tuple[int, int] | None = None
    active: int = 0
    latent_heads: int = 0
    latent_size: int = 0
    latent_activation: Activation = "gelu"
    kind: Kind = DENSE
    saturations: int = 1
    head_activation: Activation = "gelu"
    unattended: int | None = None
    left_out: str = ""
    types: bool = False
    weightless: tuple[int, ...] = ()
    filled: Filled | None = None

    @property
    def reach(self) -> int:
        """The most tokens that the graph has of a text: those of the tokenizer, and what is put behind them."""
        return self.max_tokens if self.filled is None else self.filled.tokens + self.filled.appended

    @property
    def size(self) -> int:
        """Numbers in a head."""
        return self.head_size or self.hidden // self.heads

    @property
    def sharing(self) -> int:
        """Query heads that share a head of keys and values."""
        return self.heads // (self.kv_heads or self.heads)

    @property
    def sizes(self) -> dict[str, int]:
        """What a manifest says of them."""
        return {name: getattr(self, name) for name in ("hidden", "intermediate", "heads", "vocab")}

    @property
    def blocks(self) -> tuple[Layer, ...]:
        return self.plan or tuple(Layer(i) for i in range(self.layers))

    @property
    def blockwise(self) -> bool:
        """Whether attention runs over blocks of queries: in models of texts so long that all scores take gigabytes."""
        return self.max_tokens > WHOLE and self.buckets is None

    @property
    def stored(self) -> list[int]:
        """I of the layers that weights are stored for, in the order of their first use."""
        return list(dict.fromkeys(block.weights for block in self.blocks))

    @property
    def latent(self) -> "Spec":
        """The cross attention to stored keys and values that follows the last layer (NV-Embed)."""
        return replace(
            self,
            heads=self.latent_heads,
            kv_heads=0,
            head_size=self.latent_size,
            softcap=0.0,
            norm="pre",
            activation=self.latent_activation,
        )


def input_name(linear: str) -> str:
    """The value that a linear layer reads: input_name("layers.0.key") -> "layers.0.query.input".

    Layers that read the same value are quantized from one set of codes.
    """
    for part, first in ((".key", ".query"), (".value", ".query"), (".gate", ".up"), (".residual", "")):
        linear = linear.replace(part, first)
    return re.sub(r"experts\.\d+\.up", "experts.0.up", linear) + ".input"


def side_count(linear: str, weights: Weights) -> int:
    """How many sides a layer has: the columns of its weight are those of one side after the other's, of one width."""
    chosen = weights.get(f"{linear}.sides")
    return 1 if chosen is None else int(chosen.max()) + 1


def expert_count(layer: str, weights: Weights) -> int:
    """How many experts a layer has; 0 where it has a feed-forward of its own."""
    router = weights.get(f"{layer}.router.weight")
    return 0 if router is None else router.shape[1]


def sites(spec: Spec, weights: Weights) -> list[Site]:
    """Every value that linear layers read, in the order in which the graph computes them."""
    found = []
    before = "embedding.norm" if "embedding.norm.weight" in weights else None
    if "embedding.project.weight" in weights:
        found.append(Site(input_name("embedding.project"), ("embedding.project",), producer=before, scalable=True))
        before = "embedding.project"
    uses = [block.weights for block in spec.blocks]
    for i in spec.stored:
        layer = f"layers.{i}"
        # what a layer that is used twice reads comes from two places, and only one of them could take an offset
        found += _layer_sites(spec, weights, layer, before if uses.count(i) == 1 else None)
        # what comes behind the last use of a layer comes behind the others too
        before = f"{layer}.output_norm" if uses.count(i) == 1 else None
    if f"{LATENT}.query.weight" in weights:
        found += _layer_sites(spec.latent, weights, LATENT, None)
    if "head.dense.weight" in weights:
        found.append(Site(input_name("head.dense"), ("head.dense",)))
    # what scores pairs works on one vector of a pair: it costs nothing in float32, and ranks are closer then
    return found if spec.kind is RERANK else found + step_sites(spec, weights)


def step_sites(spec: Spec, weights: Weights) -> list[Site]:
    """What the linear layers of `projections` read."""
    names = [f"projection.{i}" for i, step in enumerate(spec.projections) if step.kind == "linear"]
    return [
        Site(input_name(name), tuple(n for n in (name, f"{name}.residual") if f"{n}.weight" in weights))
        for name in names
    ]


def _layer_sites(spec: Spec, weights: Weights, layer: str, before: str | None) -> list[Site]:
    def readers(*parts: str) -> tuple[str, ...]:
        return tuple(f"{layer}.{part}" for part in parts if f"{layer}.{part}.weight" in weights)

    def normed(norm: str, residual: str, before: str | None, *parts: str) -> Site:
        """What a norm gives, or where it stands before or is missing, what the residual adds to as well."""
        alone = spec.norm == "pre" and f"{layer}.{norm}.weight" in weights
        producer, behind = (f"{layer}.{norm}", None) if alone else (before, before and f"{layer}.{residual}")
        return Site(input_name(f"{layer}.{parts[0]}"), readers(*parts), producer, scalable=alone, residual=behind)

    if f"{layer}.attention_inner_norm.weight" in weights:  # what it reads is added in two places
        before = None
    grouped = spec.sharing > 1 or f"{layer}.value.weight" not in weights
    attention = normed("attention_norm", "out", before, "query", "key", "value")
    # the weights of attention add up to 1, so an offset of the values is the same offset of the context
    value = None if grouped else f"{layer}.value"
    out = f"{layer}.out"
    context = Site(input_name(out), (out,), value, scalable=not grouped, margin=CONTEXT_MARGIN)
    if f"{layer}.context_norm.weight" in weights:
        context = Site(input_name(out), (out,), f"{layer}.context_norm", scalable=True)
    after = f"{layer}.attention_norm"
    if experts := expert_count(layer, weights):
        return [attention, context, *_expert_sites(spec, weights, layer, experts)]
    up = normed("output_norm", "down", after, "up", "gate")
    return [attention, context, up, _down_site(spec, weights, layer)]


def _down_site(spec: Spec, weights: Weights, layer: str) -> Site:
    name, readers, norm = input_name(f"{layer}.down"), (f"{layer}.down",), f"{layer}.inner_norm"
    if f"{norm}.weight" in weights:
        inner = tuple(f"{layer}.{part}" for part in ("up", "gate") if f"{layer}.{part}.weight" in weights)
        return Site(name, readers, producer=norm, scalable=True, inner=(*inner, norm))
    if f"{layer}.gate.weight" in weights:  # a product: the factor of `up` is the factor of the whole
        inner = (f"{layer}.up", f"{layer}.gate")
        return Site(name, readers, producer=f"{layer}.up", scalable=True, shiftable=False, inner=inner)
    up = f"{layer}.up"
    return Site(name, readers, split=up if spec.activation in SPLITTABLE else None, inner=(up,))


def _expert_sites(spec: Spec, weights: Weights, layer: str, experts: int) -> list[Site]:
    """The router reads what the experts read, in float32, so nothing can be folded into what comes before."""
    names = [f"{layer}.experts.{e}" for e in range(experts)]
    parts = ("up", "gate") if f"{names[0]}.gate.weight" in weights else ("up",)
    read = Site(input_name(f"{names[0]}.up"), tuple(f"{name}.{part}" for name in names for part in parts))
    return [read, *(replace(_down_site(spec, weights, name), split=None) for name in names)]


def check(spec: Spec, weights: Weights) -> None:
    """Raise ExportError for a shape that does not fit the spec."""
    h, inner, kv = spec.hidden, spec.heads * spec.size, spec.heads // spec.sharing * spec.size
    if not spec.head_size and h % spec.heads:
        raise ExportError(f"hidden size {h} cannot be split over {spec.heads} heads")
    if spec.heads % (spec.kv_heads or spec.heads):
        raise ExportError(f"{spec.heads} heads cannot be split over {spec.kv_heads} heads of keys and values")
    if any(layer.rotary for layer in spec.plan) and spec.size % 2:
        raise ExportError(f"heads of {spec.size} numbers cannot be rotated in pairs")
    width = weights["embedding.word"].shape[-1] if "embedding.project.weight" in weights else h
    expected: dict[str, tuple[int, ...]] = {"embedding.word": (spec.vocab, width)}
    linears: dict[str, tuple[int, int]] = {"embedding.project": (width, h)}
    norms = {"embedding.norm": width, "final_norm": h, "head.norm": h}
    if spec.kind is SPARSE:
        expected |= {"head.bias": (spec.vocab,), "head.decoder": (spec.vocab, h)}
        linears |= {"head.dense": (h, h), "head.token": (h, 1)}
    if "embedding.position" in weights:
        expected["embedding.position"] = (len(weights["embedding.position"]), width)
    if spec.kind is RERANK:
        linears |= {"projection.0": (h, h), "head.classifier": (h, spec.dim)}
    if "embedding.type" in weights:
        expected["embedding.type"] = (len(weights["embedding.type"]), width)
    for i in spec.stored:
        layer = f"layers.{i}"
        linears |= {f"{layer}.query": (h, inner), f"{layer}.key": (h, kv), f"{layer}.value": (h, kv)}
        linears |= {f"{layer}.out": (inner, h), f"{layer}.router": (h, expert_count(layer, weights))}
        for part in (layer, *(f"{layer}.experts.{e}" for e in range(expert_count(layer, weights)))):
            linears |= {f"{part}.{name}": (h, spec.intermediate) for name in ("up", "gate")}
            linears[f"{part}.down"] = (spec.intermediate, h)
            norms[f"{part}.inner_norm"] = spec.intermediate
        for name, width in ((f"{layer}.query_norm", inner), (f"{layer}.key_norm", kv)):
            norms[name] = width if weights.get(f"{name}.weight", np.empty(0)).shape == (width,) else spec.size
        post = ("attention_norm", "output_norm", "attention_post_norm", "output_post_norm", "attention_inner_norm")
        norms |= {f"{layer}.{part}": h for part in post} | {f"{layer}.context_norm": inner}
    expected |= {f"{name}.weight": shape for name, shape in linears.items()}
    expected |= {f"{name}.bias": shape[-1:] for name, shape in linears.items()}
    expected |= {f"{name}.{part}": (n,) for name, n in norms.items() for part in ("weight", "bias")}
    check_shapes(weights, {name: shape for name, shape in expected.items() if name in weights})


def check_shapes(weights: Weights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ExportError for a weight of another shape than expected; all of them are there."""
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ExportError(f"{name} has shape {weights[name].shape}, the config says {shape}")


def prepare(spec: Spec, weights: Weights) -> dict[str, Array]:
    """Fold what scores are multiplied by into the query weights, or into the norm behind them.

    Weights that lie in a file stay there; all others are contiguous.
    """
    folded = {
        name: w if as_stored(w) is not None else np.ascontiguousarray(w, np.float32) for name, w in weights.items()
    }
    scaled = [(f"layers.{i}", spec) for i in spec.stored]
    if f"{LATENT}.query.weight" in weights:
        scaled.append((LATENT, spec.latent))
    for layer, its in scaled:
        scale = its.size**-0.5 if its.scale is None or layer == LATENT else its.scale
        factor = np.float32(scale / (its.softcap or 1.0))  # the rest of a softcap is Attention.capped
        linear = "query_norm" if f"{layer}.query_norm.weight" in weights else "query"
        for part in ("weight", "bias", "lora_b.weight"):
            if (name := f"{layer}.{linear}.{part}") in weights:
                folded[name] = folded[name] * factor
    return folded
