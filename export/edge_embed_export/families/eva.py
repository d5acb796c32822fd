"""EVA-CLIP (arXiv:2303.15389): image models of timm's `Eva`, as OpenCLIP's folders hold them.

EVA-02 turns queries and keys of patches by their row and column, has SwiGLU with a norm inside, and a norm of
attention's context; the largest has its norms behind each half of a layer, and the first EVA has none of these.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.families.pictures import ImageTower, PictureReader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.positions import frequencies
from edge_embed_export.transformer.spec import Array, Layer, Step

# Rows and columns of patches that positions are counted in, whatever the picture's size.
REFERENCE = 16
THETA = 10000.0
NORM_EPS = 1e-6
PATCHES = "patches"


@dataclass(frozen=True)
class _Model:
    """What the weights do not say. behind: the norms are behind each half of a layer"""

    heads: int
    rotary: bool = False
    behind: bool = False


# By timm's names.
MODELS = {
    "eva_giant_patch14_224": _Model(16),
    "eva_giant_patch14_clip_224": _Model(16),
    "eva02_base_patch16_clip_224": _Model(12, rotary=True),
    "eva02_large_patch14_clip_224": _Model(16, rotary=True),
    "eva02_large_patch14_clip_336": _Model(16, rotary=True),
    "eva02_enormous_patch14_clip_224": _Model(16, behind=True),
}


def read(checkpoint: Checkpoint, name: str, front: dict[str, Any]) -> ImageTower:
    """The image model of this name, whose weights begin in "visual.trunk."."""
    model = MODELS[name]
    read = PictureReader.of_timm(checkpoint, front)
    read.patches("patch_embed.proj", bias=True)
    table = read.tensor("pos_embed", 3)[0]
    first = np.asarray(read.tensor("cls_token", 3)[0]) + np.asarray(table[:1])
    read.weights |= {"positions": table[1:], "prefix": first}
    layers = _layers(read, model)
    read.norm("final_norm", "norm")
    read.linear("projection.0", "head")
    gated = "layers.0.gate.weight" in read.weights
    plan = tuple(Layer(i, rotary=PATCHES) for i in range(layers)) if model.rotary else ()
    if plan:
        size = table.shape[1] // model.heads
        cos, sin = turns(size, (read.size[0] // read.patch, read.size[1] // read.patch))
        read.weights |= {f"rotary.{PATCHES}.cos": cos, f"rotary.{PATCHES}.sin": sin}
    return read.tower(
        name,
        steps=(Step("linear"),),
        plan=plan,
        layers=layers,
        hidden=table.shape[1],
        heads=model.heads,
        intermediate=read.weights["layers.0.up.weight"].shape[1],
        activation="silu" if gated else "gelu",
        norm_eps=NORM_EPS,
    )


def turns(size: int, grid: tuple[int, int]) -> tuple[Array, Array]:
    """Cosines and sines [1 + patches, size / 2] of the class token, which is not turned, and of the patches: the first
    half of a head's pairs turns by the row, the second by the column."""
    bands = frequencies(size // 2, THETA).astype(np.float32)
    places = [np.arange(count, dtype=np.float32) / np.float32(count) * np.float32(REFERENCE) for count in grid]
    rows, columns = np.meshgrid(*places, indexing="ij")
    both = [(place[..., None] * bands).reshape(-1, len(bands)) for place in (rows, columns)]
    angles = np.concatenate([np.zeros((1, size // 2), np.float32), np.concatenate(both, axis=1)])
    return np.cos(angles), np.sin(angles)


def _layers(read: PictureReader, model: _Model) -> int:
    norms = ("attention_post_norm", "output_post_norm") if model.behind else ("attention_norm", "output_norm")
    count = read.blocks("attn.proj")
    for i in range(count):
        ours, theirs = f"layers.{i}", f"blocks.{i}"
        for name, own in zip(norms, ("norm1", "norm2"), strict=True):
            read.norm(f"{ours}.{name}", f"{theirs}.{own}")
        _attention(read, ours, f"{theirs}.attn", model)
        up = {"gate": "fc1_g", "up": "fc1_x"} if read.has(f"{theirs}.mlp.fc1_g.weight") else {"up": "fc1"}
        for name, own in {**up, "down": "fc2"}.items():
            read.linear(f"{ours}.{name}", f"{theirs}.mlp.{own}")
        for name, own in (("inner_norm", "mlp.norm"), ("context_norm", "attn.norm")):
            if read.has(f"{theirs}.{own}.weight"):
                read.norm(f"{ours}.{name}", f"{theirs}.{own}")
    return count


def _attention(read: PictureReader, ours: str, theirs: str, model: _Model) -> None:
    """Queries, keys and values, in one or apart; keys have no bias, which would change nothing."""
    if read.has(f"{theirs}.qkv.weight"):
        read.split([f"{ours}.{part}" for part in ("query", "key", "value")], f"{theirs}.qkv", bias=False)
        for part in "qv":
            name = "query" if part == "q" else "value"
            read.weights[f"{ours}.{name}.bias"] = read.tensor(f"{theirs}.{part}_bias", 1)
    else:
        for name in ("query", "key", "value"):
            read.linear(f"{ours}.{name}", f"{theirs}.{name[0]}_proj", bias=name != "key")
    read.linear(f"{ours}.out", f"{theirs}.proj")
    width = read.weights[f"{ours}.key.weight"].shape[1]
    read.weights[f"{ours}.key.bias"] = np.zeros(width, np.float32)  # an int8 model takes an offset out with it
    if model.rotary:
        order = halves(width // model.heads, model.heads)
        for name in ("query", "key"):
            for part in ("weight", "bias"):
                read.weights[f"{ours}.{name}.{part}"] = np.asarray(read.weights[f"{ours}.{name}.{part}"])[..., order]


def halves(size: int, heads: int) -> NDArray[np.intp]:
    """Where each number of all heads comes from, when pairs that stand side by side come to stand half a head apart:
    halves(4, 2) -> [0, 2, 1, 3, 4, 6, 5, 7]."""
    one = np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)])
    return np.asarray((np.arange(heads)[:, None] * size + one).ravel(), np.intp)
