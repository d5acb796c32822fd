"""What vision transformers compute, written by hand in numpy from the checkpoint's own names: for layouts that
transformers does not have."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]
Tensors = Mapping[str, np.ndarray]


def quick_gelu(x: Wide) -> Wide:
    return x / (1 + np.exp(-1.702 * x))


def gelu_tanh(x: Wide) -> Wide:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x: Wide) -> Wide:
    return x / (1 + np.exp(-x))


class Reference:
    """The parts of a model: every function takes names of the checkpoint."""

    def __init__(self, tensors: Tensors, heads: int, eps: float) -> None:
        self.t = {name: array.astype(np.float64) for name, array in tensors.items()}
        self.heads, self.eps = heads, eps

    def linear(self, x: Wide, name: str) -> Wide:
        bias = self.t.get(f"{name}.bias")
        return x @ self.t[f"{name}.weight"].T + (0 if bias is None else bias)

    def norm(self, x: Wide, name: str) -> Wide:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.eps)
        return scaled * self.t[f"{name}.weight"] + self.t[f"{name}.bias"]

    def patches(self, pixels: np.ndarray, conv: str) -> Wide:
        """[3, h, w] -> [patches, hidden], patch by patch."""
        weight, bias = self.t[f"{conv}.weight"], self.t.get(f"{conv}.bias")
        size = weight.shape[-1]
        rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
        found = []
        for row in range(rows):
            for column in range(columns):
                cut = pixels[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
                found.append(np.einsum("ocyx,cyx->o", weight, cut.astype(np.float64)))
        return np.array(found) + (0 if bias is None else bias)

    def attention(self, q: Wide, k: Wide, v: Wide, turn: Callable[[Wide], Wide] = lambda x: x) -> Wide:
        """[queries, width], [tokens, width] twice -> [queries, width]. turn: of one head's queries or keys"""
        size = q.shape[1] // self.heads
        found = []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            scores = turn(q[:, part]) @ turn(k[:, part]).T / np.sqrt(size)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            found.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
        return np.concatenate(found, axis=1)


def open_clip(tensors: Tensors, pixels: np.ndarray, layers: int, heads: int, ending: str, act: str) -> Wide:
    """A vector of OpenCLIP's VisionTransformer. ending: "tok", "avg late" or "coca" """
    m = Reference(tensors, heads, 1e-5)
    activation = {"quick": quick_gelu, "tanh": gelu_tanh}[act]
    x = np.vstack([m.t["visual.class_embedding"][None], m.patches(pixels, "visual.conv1")])
    x = m.norm(x + m.t["visual.positional_embedding"], "visual.ln_pre")
    for i in range(layers):
        block = f"visual.transformer.resblocks.{i}"
        y = m.norm(x, f"{block}.ln_1")
        q, k, v = np.split(y @ m.t[f"{block}.attn.in_proj_weight"].T + m.t[f"{block}.attn.in_proj_bias"], 3, axis=1)
        x = x + m.linear(m.attention(q, k, v), f"{block}.attn.out_proj")
        y = activation(m.linear(m.norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))
        x = x + m.linear(y, f"{block}.mlp.c_proj")
    if ending == "coca":
        pool = "visual.attn_pool"
        seen, asked = m.norm(x, f"{pool}.ln_k"), m.norm(m.t[f"{pool}.query"], f"{pool}.ln_q")
        bias = np.split(m.t[f"{pool}.attn.in_proj_bias"], 3)
        weights = [m.t[f"{pool}.attn.{part}_proj_weight"].T for part in "qkv"]
        q, k, v = (value @ w + b for value, w, b in zip((asked, seen, seen), weights, bias, strict=True))
        pooled = m.norm(m.linear(m.attention(q, k, v), f"{pool}.attn.out_proj"), "visual.ln_post")[0]
    elif ending == "avg late":
        pooled = m.norm(x[1:].mean(0), "visual.ln_post")
    else:
        pooled = m.norm(x, "visual.ln_post")[0]
    return pooled @ m.t["visual.proj"]


def eva02(tensors: Tensors, pixels: np.ndarray, layers: int, heads: int) -> Wide:
    """A vector of timm's Eva with rotary positions, SwiGLU and its norms."""
    m = Reference({name.removeprefix("visual.trunk."): array for name, array in tensors.items()}, heads, 1e-6)
    x = np.vstack([m.t["cls_token"][0], m.patches(pixels, "patch_embed.proj")]) + m.t["pos_embed"][0]
    grid = round((len(x) - 1) ** 0.5)
    size = x.shape[1] // heads
    bands = 10000.0 ** -(np.arange(size // 4) / (size // 4))

    def turn(values: Wide) -> Wide:
        """Neighbouring numbers of each patch as points in a plane, turned by its row, then its column."""
        turned = values.copy()
        for token in range(1, len(values)):
            row, column = divmod(token - 1, grid)
            angles = np.concatenate([row / grid * 16 * bands, column / grid * 16 * bands])
            points = (values[token, 0::2] + 1j * values[token, 1::2]) * np.exp(1j * angles)
            turned[token, 0::2], turned[token, 1::2] = points.real, points.imag
        return turned

    for i in range(layers):
        block = f"blocks.{i}"
        y = m.norm(x, f"{block}.norm1")
        q, k, v = (m.linear(y, f"{block}.attn.{part}_proj") for part in "qkv")
        x = x + m.linear(m.norm(m.attention(q, k, v, turn), f"{block}.attn.norm"), f"{block}.attn.proj")
        y = m.norm(x, f"{block}.norm2")
        inner = silu(m.linear(y, f"{block}.mlp.fc1_g")) * m.linear(y, f"{block}.mlp.fc1_x")
        x = x + m.linear(m.norm(inner, f"{block}.mlp.norm"), f"{block}.mlp.fc2")
    return m.linear(m.norm(x, "norm")[0], "head")
