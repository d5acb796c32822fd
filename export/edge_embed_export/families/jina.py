"""Jina embeddings v2 (arXiv:2310.19923), BERT with ALiBi and gated layers, and v3 (arXiv:2409.10173), a rotary XLM-R
with a LoRA adapter for each task."""

from dataclasses import replace

import numpy as np

from edge_embed_export.families import bert
from edge_embed_export.families.reader import WORDS, Reader
from edge_embed_export.families.rope import add_tables, read_rope
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.sources.prompts import ALIASES
from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.positions import alibi
from edge_embed_export.transformer.spec import Array, Layer, Spec, Weights

V2_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "down": "mlp.wo",
    "output_norm": "mlp.layernorm",
}
V2_GATES: dict[str, Activation] = {"geglu": "gelu", "reglu": "relu"}
# jina-embeddings-v2-base-code (jina-bert-v2-qk-post-norm): queries and keys have norms over all heads, and what
# attention gives goes through a norm of its own sum before it is added once more
V2_CODE_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "query_norm": "attention.self.layer_norm_q",
    "key_norm": "attention.self.layer_norm_k",
    "out": "attention.output.dense",
    "attention_inner_norm": "attention.output.LayerNorm",
    "attention_norm": "layer_norm_1",
    "down": "mlp.down_layer",
    "output_norm": "layer_norm_2",
}
V3_LAYER = {
    "out": "mixer.out_proj",
    "attention_norm": "norm1",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "output_norm": "norm2",
}
# the library's names, of the type "jina_embeddings_v3"
V3_LIBRARY_LAYER = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "attention_norm": "post_attention_layernorm",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "output_norm": "post_mlp_layernorm",
}


def is_v2(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get("position_embedding_type") == "alibi"


def is_v3(checkpoint: Checkpoint) -> bool:
    own = checkpoint.config.get("position_embedding_type") == "rotary"
    return own or checkpoint.architecture == "jina_embeddings_v3"


def read_v2(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, WORDS)
    read.refuse(emb_pooler="mean")
    heads, layers = read.count("num_attention_heads"), read.depth()
    max_tokens = read.limit(read.count("max_position_embeddings"))
    read.embed(types=True)
    activation = _v2_layers(read, layers)
    read.weights["positions.all"] = alibi(heads, max_tokens)
    return read.finish(
        layers=layers,
        max_tokens=max_tokens,
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=activation,
        plan=tuple(Layer(i, bias="all") for i in range(layers)),
    )


def _v2_layers(read: Reader, layers: int) -> Activation:
    """The weights of the layers, and their activation function."""
    kind = str(read.config.get("feed_forward_type", "original"))
    if kind == "original":
        read.layers(bert.LAYER, "encoder.layer.{}")
        return read.activation("hidden_act", "gelu")
    of_code = read.either("encoder.layer.0.mlp.wo", "encoder.layer.0.mlp.down_layer").endswith("down_layer")
    read.layers(V2_CODE_LAYER if of_code else V2_LAYER, "encoder.layer.{}")
    for i in range(layers):
        ours, theirs = f"layers.{i}", f"encoder.layer.{i}.mlp"
        if of_code:
            read.split([f"{ours}.up", f"{ours}.gate"], f"{theirs}.up_gated_layer", bias=False)
        else:
            read.split([f"{ours}.gate", f"{ours}.up"], f"{theirs}.gated_layers", bias=False)
    return read.known(V2_GATES, kind)


def read_v3(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, WORDS)
    read.refuse(rotary_emb_interleaved=False, rotary_emb_fraction=1.0)
    hidden, heads = read.count("hidden_size"), read.count("num_attention_heads")
    max_tokens = read.reach(read.count("max_position_embeddings"))
    read.embed("embeddings.LayerNorm" if read.of_library else "emb_ln", types=True)
    if read.of_library:
        layers = read.layers(V3_LIBRARY_LAYER, "layers.{}")
    else:
        layers = read.layers(V3_LAYER, "encoder.layers.{}")
        for i in range(layers):
            read.split([f"layers.{i}.{part}" for part in ("query", "key", "value")], f"encoder.layers.{i}.mixer.Wqkv")
    theta = 20000.0 if checkpoint.architecture == "jina_embeddings_v3" else 10000.0
    add_tables(read, "all", read_rope(read, hidden // heads, theta=theta, key="rotary_emb_base"), max_tokens)
    return read.finish(
        layers=layers,
        max_tokens=max_tokens,
        norm_eps=read.epsilon("layer_norm_eps", 1e-5),
        activation=read.activation("hidden_act", "gelu"),
        plan=tuple(Layer(i, rotary="all") for i in range(layers)),
    )


def tasks(checkpoint: Checkpoint) -> list[str]:
    found = checkpoint.config.get("lora_adaptations")
    return [str(task) for task in found] if isinstance(found, list) else []


def task_prompts(checkpoint: Checkpoint) -> dict[str, str]:
    """The instruction of the task whose adapter is folded in, for both roles."""
    text = instructions(checkpoint).get(checkpoint.task or "")
    return {} if text is None else dict.fromkeys(ALIASES, text)


def instructions(checkpoint: Checkpoint) -> dict[str, str]:
    """What the model's authors put before a text, by task."""
    found = checkpoint.config.get("task_instructions")
    return {str(k): v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def with_task(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint under plain names; a task's adapter, where one is chosen, is added to the weights."""
    marks = (
        ".parametrizations.weight.original",
        ".parametrizations.weight.0.lora_A",
        ".parametrizations.weight.0.lora_B",
    )
    read = Reader(checkpoint, "")
    known = tasks(checkpoint)
    number = known.index(checkpoint.task) if checkpoint.task in known else None
    adapted = {name.removesuffix(mark) for mark in marks for name in checkpoint.tensors if name.endswith(mark)}
    for module in sorted(adapted):
        for mark in marks:
            read.tensor(module + mark)
    plain: dict[str, Array] = {}
    for name, array in checkpoint.tensors.items():
        module = name.removesuffix(marks[0])
        if module != name:
            plain[f"{module}.weight"] = array
            if number is not None:
                first, second = (read.tensor(module + mark, 3) for mark in marks[1:])
                plain[f"{module}.weight"] = array + _change(read, array, first, second, number, module)
        elif not name.endswith(marks[1:]):
            plain[name] = array
    return replace(checkpoint, tensors=plain)


def _change(read: Reader, weight: Array, first: Array, second: Array, task: int, module: str) -> Array:
    """B A alpha / rank; of embeddings, which are stored [in, out], A B."""
    if min(len(first), len(second)) <= task:
        raise read.error(f"{module} has no adapter for task {task}")
    a, b = first[task], second[task]
    a, b = (b, a) if a.shape[1:] == weight.shape[1:] else (a, b)
    if a.shape[1:] != b.shape[:1] or (a.shape[0], b.shape[1]) != weight.shape:
        raise read.error(f"{module} has adapters of shape {first.shape} and {second.shape}, the weight {weight.shape}")
    rank = a.shape[1]
    return np.asarray(a @ b * np.float32(read.real("lora_alpha", 1.0) / rank), np.float32)
