"""Models whose code transformers does not have, computed by hand for one text in float64, from what their papers and
cards describe: a second way to the same numbers, which shares nothing with the exporter's graph."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from builders.architectures import Model

Array = np.ndarray[Any, Any]


def gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def split(x: Array, heads: int) -> Array:
    """[n, heads * size] -> [heads, n, size]."""
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)


def attend(q: Array, k: Array, v: Array, bias: Any = 0.0) -> Array:
    """Heads [heads, n, size] to rows [n, heads * size]; scores are divided by the root of the head size."""
    weights = softmax(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]) + bias)
    return (weights @ v).swapaxes(0, 1).reshape(q.shape[1], -1)


def rotate(x: Array, angles: Array) -> Array:
    """Numbers i and i + size / 2 of a head as a point in the plane, turned by the position times its angle."""
    first, second = np.split(x, 2, axis=-1)
    turn = np.arange(x.shape[1])[:, None] * angles
    return np.concatenate(
        [first * np.cos(turn) - second * np.sin(turn), second * np.cos(turn) + first * np.sin(turn)], axis=-1
    )


def base_angles(size: int, base: float) -> Array:
    return np.array([base ** (-2 * i / size) for i in range(size // 2)])


class Reference:
    """One model: tensors by their names behind `prefix`."""

    def __init__(self, model: Model, prefix: str = "", eps: float = 1e-12) -> None:
        self.config, self.eps = model.config, eps
        self.tensors = {n.removeprefix(prefix): a.astype(np.float64) for n, a in model.tensors.items()}

    def __getitem__(self, name: str) -> Array:
        return self.tensors[name]

    def linear(self, x: Array, name: str) -> Array:
        return x @ self[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0)

    def norm(self, x: Array, name: str, eps: float | None = None) -> Array:
        x = x - x.mean(-1, keepdims=True)
        scaled = x / np.sqrt((x**2).mean(-1, keepdims=True) + (self.eps if eps is None else eps))
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]

    def rms(self, x: Array, name: str) -> Array:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.eps) * self[f"{name}.weight"]


def nomic(model: Model, ids: list[int]) -> Array:
    c = model.config
    t = Reference(model, eps=c["layer_norm_epsilon"])
    x = t.norm(t["embeddings.word_embeddings.weight"][ids] + t["embeddings.token_type_embeddings.weight"][0], "emb_ln")
    angles = base_angles(c["n_embd"] // c["n_head"], c["rotary_emb_base"])
    for i in range(c["n_layer"]):
        layer = f"encoder.layers.{i}"
        q, k, v = (split(part, c["n_head"]) for part in np.split(t.linear(x, f"{layer}.attn.Wqkv"), 3, axis=1))
        attended = t.linear(attend(rotate(q, angles), rotate(k, angles), v), f"{layer}.attn.out_proj")
        x = t.norm(x + attended, f"{layer}.norm1")
        if f"{layer}.mlp.router.layer.weight" in t.tensors:
            found = nomic_experts(t, x, f"{layer}.mlp", c)
        elif c["activation_function"] == "swiglu":
            inner = t.linear(x, f"{layer}.mlp.fc11") * silu(t.linear(x, f"{layer}.mlp.fc12"))
            found = t.linear(inner, f"{layer}.mlp.fc2")
        else:
            found = t.linear(gelu(t.linear(x, f"{layer}.mlp.fc1")), f"{layer}.mlp.fc2")
        x = t.norm(x + found, f"{layer}.norm2")
    return x


def nomic_experts(t: Reference, x: Array, layer: str, config: dict[str, Any]) -> Array:
    """Each token goes to the experts of its highest probabilities, and nowhere else."""
    inner = config["n_inner"]
    probabilities = softmax(t.linear(x, f"{layer}.router.layer"))
    rows = []
    for token, probability in zip(x, probabilities, strict=True):
        row = t[f"{layer}.experts.bias"].copy()
        for e in np.argsort(-probability)[: config["moe_top_k"]]:
            part = slice(e * inner, (e + 1) * inner)
            hidden = gelu(t[f"{layer}.experts.mlp.w1"][part] @ token)
            row += probability[e] * (hidden @ t[f"{layer}.experts.mlp.w2"][part])
        rows.append(row)
    return np.array(rows)


def jina_v2(model: Model, ids: list[int]) -> Array:
    c = model.config
    t = Reference(model, "bert.", c["layer_norm_eps"])
    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.token_type_embeddings.weight"][0]
    x = t.norm(x, "embeddings.LayerNorm")
    # six heads: the slopes of four, then the first two odd ones of eight
    slopes = np.array([2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3])
    distance = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        q, k, v = (split(t.linear(x, f"{layer}.attention.self.{part}"), 6) for part in ("query", "key", "value"))
        attended = t.linear(attend(q, k, v, -slopes[:, None, None] * distance), f"{layer}.attention.output.dense")
        x = t.norm(x + attended, f"{layer}.attention.output.LayerNorm")
        gate, up = np.split(t.linear(x, f"{layer}.mlp.gated_layers"), 2, axis=1)
        x = t.norm(x + t.linear(gelu(gate) * up, f"{layer}.mlp.wo"), f"{layer}.mlp.layernorm")
    return x


def jina_v2_code(model: Model, ids: list[int]) -> Array:
    """Queries and keys are normed before they are split; what attention adds is normed, added and normed again."""
    c = model.config
    t = Reference(model, eps=c["layer_norm_eps"])
    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.token_type_embeddings.weight"][0]
    x = t.norm(x, "embeddings.LayerNorm")
    slopes = np.array([2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3])
    distance = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        own = f"{layer}.attention.self"
        q, k = (t.norm(t.linear(x, f"{own}.{part}"), f"{own}.layer_norm_{part[0]}") for part in ("query", "key"))
        q, k, v = (split(part, 6) for part in (q, k, t.linear(x, f"{own}.value")))
        attended = t.linear(attend(q, k, v, -slopes[:, None, None] * distance), f"{layer}.attention.output.dense")
        inner = t.norm(x + attended, f"{layer}.attention.output.LayerNorm")
        x = t.norm(x + inner, f"{layer}.layer_norm_1")
        up, gate = np.split(t.linear(x, f"{layer}.mlp.up_gated_layer"), 2, axis=1)
        x = t.norm(x + t.linear(up * gelu(gate), f"{layer}.mlp.down_layer"), f"{layer}.layer_norm_2")
    return x


def jina_v2_original(model: Model, ids: list[int]) -> Array:
    """BERT's layers with ALiBi: four heads, slopes of a power of two."""
    t = Reference(model, eps=model.config["layer_norm_eps"])
    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.token_type_embeddings.weight"][0]
    x = t.norm(x, "embeddings.LayerNorm")
    slopes = np.array([2**-2, 2**-4, 2**-6, 2**-8])
    distance = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    for i in range(model.config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        q, k, v = (split(t.linear(x, f"{layer}.attention.self.{part}"), 4) for part in ("query", "key", "value"))
        attended = t.linear(attend(q, k, v, -slopes[:, None, None] * distance), f"{layer}.attention.output.dense")
        x = t.norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = gelu(t.linear(x, f"{layer}.intermediate.dense"))
        x = t.norm(x + t.linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


def jina_v3(model: Model, ids: list[int]) -> Array:
    c = model.config
    t = Reference(model, "roberta.", c["layer_norm_eps"])
    task = c["lora_adaptations"].index(model.options["task"]) if model.options else None

    def weight(name: str, *, table: bool = False) -> Array:
        whole = t[f"{name}.parametrizations.weight.original"]
        if task is None:
            return whole
        a, b = (t[f"{name}.parametrizations.weight.0.lora_{part}"][task] for part in "AB")
        return whole + (a @ b if table else b @ a) * c["lora_alpha"] / c["lora_rank"]

    x = weight("embeddings.word_embeddings", table=True)[ids]
    x = t.norm(x + weight("embeddings.token_type_embeddings", table=True)[0], "emb_ln")
    angles = base_angles(c["hidden_size"] // c["num_attention_heads"], c["rotary_emb_base"])
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layers.{i}"

        def linear(x: Array, name: str, layer: str = layer) -> Array:
            return x @ weight(f"{layer}.{name}").T + t[f"{layer}.{name}.bias"]

        q, k, v = (split(part, c["num_attention_heads"]) for part in np.split(linear(x, "mixer.Wqkv"), 3, axis=1))
        x = t.norm(x + linear(attend(rotate(q, angles), rotate(k, angles), v), "mixer.out_proj"), f"{layer}.norm1")
        x = t.norm(x + linear(gelu(linear(x, "mlp.fc1")), "mlp.fc2"), f"{layer}.norm2")
    return x


def gte(model: Model, ids: list[int]) -> Array:
    c = model.config
    t = Reference(model, "new.", c["layer_norm_eps"])
    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.token_type_embeddings.weight"][0]
    x = t.norm(x, "embeddings.LayerNorm")
    size, factor = c["hidden_size"] // c["num_attention_heads"], c["rope_scaling"]["factor"]
    angles = base_angles(size, c["rope_theta"] * factor) / factor ** (2 / size)
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        parts = np.split(t.linear(x, f"{layer}.attention.qkv_proj"), 3, axis=1)
        q, k, v = (split(part, c["num_attention_heads"]) for part in parts)
        attended = t.linear(attend(rotate(q, angles), rotate(k, angles), v), f"{layer}.attention.o_proj")
        x = t.norm(x + attended, f"{layer}.attn_ln")
        up, gate = np.split(t.linear(x, f"{layer}.mlp.up_gate_proj"), 2, axis=1)
        x = t.norm(x + t.linear(up * gelu(gate), f"{layer}.mlp.down_proj"), f"{layer}.mlp_ln")
    return x


def both_sided_mistral(t: Reference, config: dict[str, Any], ids: list[int]) -> Array:
    """Mistral whose tokens see all others."""
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    angles = base_angles(config["head_dim"], config["rope_theta"])
    x = t["embed_tokens.weight"][ids]
    for i in range(config["num_hidden_layers"]):
        layer = f"layers.{i}"
        y = t.rms(x, f"{layer}.input_layernorm")
        q = rotate(split(t.linear(y, f"{layer}.self_attn.q_proj"), heads), angles)
        k = rotate(split(t.linear(y, f"{layer}.self_attn.k_proj"), shared), angles)
        v = split(t.linear(y, f"{layer}.self_attn.v_proj"), shared)
        k, v = (np.stack([part[h * shared // heads] for h in range(heads)]) for part in (k, v))
        x = x + t.linear(attend(q, k, v), f"{layer}.self_attn.o_proj")
        y = t.rms(x, f"{layer}.post_attention_layernorm")
        inner = silu(t.linear(y, f"{layer}.mlp.gate_proj")) * t.linear(y, f"{layer}.mlp.up_proj")
        x = x + t.linear(inner, f"{layer}.mlp.down_proj")
    return t.rms(x, "norm")


def gritlm(model: Model, ids: list[int]) -> Array:
    return both_sided_mistral(Reference(model, "model.", model.config["rms_norm_eps"]), model.config, ids)


def nvembed(model: Model, ids: list[int]) -> Array:
    text, heads = model.config["text_config"], model.config["latent_attention_config"]["num_cross_heads"]
    x = both_sided_mistral(Reference(model, "embedding_model.", text["rms_norm_eps"]), text, ids)
    t = Reference(model, "latent_attention_model.", 1e-5)
    blocks = "cross_attend_blocks"
    context = t.norm(t["latents"], f"{blocks}.0.norm_context")
    k, v = (split(part, heads) for part in np.split(t.linear(context, f"{blocks}.0.fn.to_kv"), 2, axis=1))
    q = split(t.linear(t.norm(x, f"{blocks}.0.norm"), f"{blocks}.0.fn.to_q"), heads)
    x = x + t.linear(attend(q, k, v), f"{blocks}.0.fn.to_out")
    inner, gate = np.split(t.linear(t.norm(x, f"{blocks}.1.norm"), f"{blocks}.1.fn.net.0"), 2, axis=1)
    return x + t.linear(inner * gelu(gate), f"{blocks}.1.fn.net.2")


def codet5p(model: Model, ids: list[int]) -> Array:
    """T5's encoder; of 8 buckets to 16 tokens those of each side begin at 0, 1, 2 and 6 (2 * 8^(1/2) = 5.7)."""
    c = model.config
    t = Reference(model, eps=c["layer_norm_epsilon"])
    offset = np.subtract.outer(np.arange(len(ids)), np.arange(len(ids)))  # query minus key
    bucket = np.searchsorted([1, 2, 6], np.abs(offset), side="right") + 4 * (offset < 0)
    bias = t["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"][bucket].transpose(2, 0, 1)
    x = t["shared.weight"][ids]
    for i in range(c["num_layers"]):
        layer = f"encoder.block.{i}.layer"
        y = t.rms(x, f"{layer}.0.layer_norm")
        q, k, v = (split(t.linear(y, f"{layer}.0.SelfAttention.{part}"), c["num_heads"]) for part in "qkv")
        # this model does not divide scores
        x = x + t.linear(attend(q * math.sqrt(c["d_kv"]), k, v, bias), f"{layer}.0.SelfAttention.o")
        y = t.rms(x, f"{layer}.1.layer_norm")
        inner = np.maximum(t.linear(y, f"{layer}.1.DenseReluDense.wi"), 0)
        x = x + t.linear(inner, f"{layer}.1.DenseReluDense.wo")
    x = t.rms(x, "encoder.final_layer_norm")
    return t.linear(x[:1], "proj")


REFERENCES: dict[str, Callable[[Model, list[int]], Array]] = {
    "nomic": nomic,
    "nomic_moe": nomic,
    "jina_v2": jina_v2,
    "jina_v2_code": jina_v2_code,
    "jina_v2_original": jina_v2_original,
    "jina_v3": jina_v3,
    "gte": gte,
    "gritlm": gritlm,
    "nvembed": nvembed,
    "codet5p": codet5p,
}


def vector(name: str, model: Model, ids: list[int]) -> Array:
    """The normalised vector of one text: the mean of its tokens, or the first of them where the model says so."""
    x = REFERENCES[name](model, ids)
    pooled = x[0] if name in ("gte", "codet5p") else x.mean(0)
    return np.asarray(pooled / np.linalg.norm(pooled))
