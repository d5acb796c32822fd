"""Small random checkpoints of every family: config.json and tensors under the names that the families' files have."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from builders.bert import WORDS, word_tokenizer

VOCAB, HIDDEN, HEADS, INNER, LAYERS = 5 + len(WORDS), 32, 4, 48, 2
SIZE = HIDDEN // HEADS
BERT = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "hidden_act": "gelu",
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": INNER,
    "hidden_act": "silu",
    "max_position_embeddings": 40,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "tie_word_embeddings": False,
}


class Tensors(dict[str, np.ndarray]):
    """Random tensors, in the shapes in which torch stores layers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)

    def add(self, name: str, *shape: int, scale: float = 0.2, centre: float = 0.0) -> None:
        self[name] = (centre + self.random.standard_normal(shape) * scale).astype(np.float32)

    def linear(self, name: str, outer: int, inner: int, *, bias: bool = True) -> None:
        self.add(f"{name}.weight", outer, inner)
        if bias:
            self.add(f"{name}.bias", outer)

    def norm(self, name: str, width: int = HIDDEN, *, bias: bool = True, centre: float = 1.0) -> None:
        self.add(f"{name}.weight", width, centre=centre)
        if bias:
            self.add(f"{name}.bias", width)


@dataclass(frozen=True)
class Model:
    """A checkpoint: what its folder holds.

    pooling: sentence-transformers' mode; None means a folder of transformers alone
    missing: a tensor whose absence is to be named
    wrong:   a field of the config, and a value that does not fit the tensors
    known:   transformers has the architecture
    """

    config: dict[str, Any]
    tensors: Tensors
    pooling: str | None = "mean_tokens"
    missing: str = ""
    wrong: tuple[str, Any] = ("intermediate_size", INNER + 1)
    known: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def bert_like(
    kind: str, *, embedding: int = HIDDEN, prefix: str = "", types: int = 2, positions: int = 40, **config: Any
) -> tuple[dict[str, Any], Tensors]:
    t = Tensors()
    t.add(f"{prefix}embeddings.word_embeddings.weight", VOCAB, embedding)
    t.add(f"{prefix}embeddings.position_embeddings.weight", positions, embedding)
    t.add(f"{prefix}embeddings.token_type_embeddings.weight", types, embedding)
    t.norm(f"{prefix}embeddings.LayerNorm", embedding)
    for i in range(LAYERS):
        layer = f"{prefix}encoder.layer.{i}"
        for part in ("query", "key", "value"):
            t.linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        t.linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        t.linear(f"{layer}.intermediate.dense", INNER, HIDDEN)
        t.linear(f"{layer}.output.dense", HIDDEN, INNER)
        t.norm(f"{layer}.attention.output.LayerNorm")
        t.norm(f"{layer}.output.LayerNorm")
    return {**BERT, "model_type": kind, "type_vocab_size": types, **config}, t


def bert() -> Model:
    return Model(*bert_like("bert"), missing="encoder.layer.1.output.dense.bias")


def roberta() -> Model:
    config, tensors = bert_like(
        "roberta", types=1, pad_token_id=1, layer_norm_eps=1e-5, max_position_embeddings=42, positions=42
    )
    return Model(config, tensors, missing="encoder.layer.0.attention.self.key.weight")


def xlm_roberta() -> Model:
    config, tensors = bert_like(
        "xlm-roberta",
        types=1,
        pad_token_id=1,
        layer_norm_eps=1e-5,
        prefix="roberta.",
        max_position_embeddings=42,
        positions=42,
    )
    return Model(config, tensors, "cls_token", missing="embeddings.LayerNorm.weight")


def ernie() -> Model:
    """Every text is of task 0."""
    config, tensors = bert_like("ernie", use_task_id=True, task_type_vocab_size=3)
    tensors.add("embeddings.task_type_embeddings.weight", 3, HIDDEN)
    return Model(config, tensors, missing="embeddings.task_type_embeddings.weight")


def data2vec() -> Model:
    model = roberta()
    return dataclasses.replace(model, config={**model.config, "model_type": "data2vec-text"})


def pre_norm(kind: str, attention: str, output: str, final: str, *, embedded: bool, first: int = 2) -> Model:
    config, tensors = bert_like(
        kind, types=1, pad_token_id=first - 1, layer_norm_eps=1e-5, max_position_embeddings=42, positions=42
    )
    t = Tensors()
    for name, array in tensors.items():
        if "LayerNorm" not in name or (embedded and name.startswith("embeddings.")):
            t[name] = array
    for i in range(LAYERS):
        t.norm(f"encoder.layer.{i}.{attention}")
        t.norm(f"encoder.layer.{i}.{output}")
    t.norm(final)
    return Model(config, t, missing=f"encoder.layer.1.{attention}.bias")


def roberta_prelayernorm() -> Model:
    places = ("attention.LayerNorm", "intermediate.LayerNorm", "LayerNorm")
    return pre_norm("roberta-prelayernorm", *places, embedded=True)


def xlm_roberta_xl() -> Model:
    places = ("attention.self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm")
    return pre_norm("xlm-roberta-xl", *places, embedded=False)


def megatron_bert() -> Model:
    return pre_norm("megatron-bert", "attention.ln", "ln", "encoder.ln", embedded=False, first=1)


def electra() -> Model:
    config, tensors = bert_like("electra", embedding=16, embedding_size=16)
    tensors.linear("embeddings_project", HIDDEN, 16)
    return Model(config, tensors, missing="embeddings_project.bias")


def distilbert() -> Model:
    t = Tensors()
    t.add("embeddings.word_embeddings.weight", VOCAB, HIDDEN)
    t.add("embeddings.position_embeddings.weight", 40, HIDDEN)
    t.norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"transformer.layer.{i}"
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            t.linear(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        t.linear(f"{layer}.ffn.lin1", INNER, HIDDEN)
        t.linear(f"{layer}.ffn.lin2", HIDDEN, INNER)
        t.norm(f"{layer}.sa_layer_norm")
        t.norm(f"{layer}.output_layer_norm")
    config = {
        "model_type": "distilbert",
        "vocab_size": VOCAB,
        "dim": HIDDEN,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "hidden_dim": INNER,
        "activation": "gelu",
        "max_position_embeddings": 40,
    }
    return Model(config, t, missing="transformer.layer.1.ffn.lin2.bias", wrong=("hidden_dim", 47))


def albert() -> Model:
    t = Tensors()
    for table, rows in (("word", VOCAB), ("position", 40), ("token_type", 2)):
        t.add(f"embeddings.{table}_embeddings.weight", rows, 16)
    t.norm("embeddings.LayerNorm", 16)
    t.linear("encoder.embedding_hidden_mapping_in", HIDDEN, 16)
    for group in range(2):
        layer = f"encoder.albert_layer_groups.{group}.albert_layers.0"
        for part in ("query", "key", "value", "dense"):
            t.linear(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        t.linear(f"{layer}.ffn", INNER, HIDDEN)
        t.linear(f"{layer}.ffn_output", HIDDEN, INNER)
        t.norm(f"{layer}.attention.LayerNorm")
        t.norm(f"{layer}.full_layer_layer_norm")
    config = {
        **BERT,
        "model_type": "albert",
        "embedding_size": 16,
        "hidden_act": "gelu_new",
        "num_hidden_layers": 4,
        "num_hidden_groups": 2,
        "inner_group_num": 1,
    }
    return Model(config, t, missing="encoder.albert_layer_groups.1.albert_layers.0.ffn.weight")


def mpnet() -> Model:
    t = Tensors()
    t.add("embeddings.word_embeddings.weight", VOCAB, HIDDEN)
    t.add("embeddings.position_embeddings.weight", 42, HIDDEN)
    t.norm("embeddings.LayerNorm")
    t.add("encoder.relative_attention_bias.weight", 32, HEADS, scale=1)
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for part in "qkvo":
            t.linear(f"{layer}.attention.attn.{part}", HIDDEN, HIDDEN)
        t.linear(f"{layer}.intermediate.dense", INNER, HIDDEN)
        t.linear(f"{layer}.output.dense", HIDDEN, INNER)
        t.norm(f"{layer}.attention.LayerNorm")
        t.norm(f"{layer}.output.LayerNorm")
    config = {
        **BERT,
        "model_type": "mpnet",
        "max_position_embeddings": 42,
        "relative_attention_num_buckets": 32,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
    }
    return Model(config, t, missing="encoder.relative_attention_bias.weight")


def deberta(*, shared: bool = True) -> Model:
    t = Tensors()
    t.add("deberta.embeddings.word_embeddings.weight", VOCAB, HIDDEN)
    t.norm("deberta.embeddings.LayerNorm")
    span = 8 if shared else 40
    t.add("deberta.encoder.rel_embeddings.weight", 2 * span, HIDDEN, scale=1)
    if shared:
        t.norm("deberta.encoder.LayerNorm")
    for i in range(LAYERS):
        layer = f"deberta.encoder.layer.{i}"
        parts = ("query_proj", "key_proj", "value_proj")
        for part in parts if shared else (*parts, "pos_key_proj", "pos_query_proj"):
            t.linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        t.linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        t.linear(f"{layer}.intermediate.dense", INNER, HIDDEN)
        t.linear(f"{layer}.output.dense", HIDDEN, INNER)
        t.norm(f"{layer}.attention.output.LayerNorm")
        t.norm(f"{layer}.output.LayerNorm")
    config = {
        **BERT,
        "model_type": "deberta-v2",
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": span if shared else -1,
        "max_relative_positions": -1,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": shared,
        "norm_rel_ebd": "layer_norm" if shared else "none",
        "position_biased_input": False,
        "layer_norm_eps": 1e-7,
    }
    missing = "encoder.rel_embeddings.weight" if shared else "encoder.layer.0.attention.self.pos_key_proj.weight"
    return Model(config, t, missing=missing, wrong=("num_attention_heads", 5))


def deberta_without_buckets() -> Model:
    return deberta(shared=False)


def deberta_v1() -> Model:
    model = deberta()
    t = Tensors()
    for name, array in model.tensors.items():
        if "_proj." not in name and not name.startswith("deberta.encoder.LayerNorm"):
            t[name] = array
    t.add("deberta.encoder.rel_embeddings.weight", 2 * 40, HIDDEN, scale=1)
    for i in range(LAYERS):
        layer = f"deberta.encoder.layer.{i}.attention.self"
        t.linear(f"{layer}.in_proj", 3 * HIDDEN, HIDDEN, bias=False)
        t.add(f"{layer}.q_bias", HIDDEN)
        t.add(f"{layer}.v_bias", HIDDEN)
        t.linear(f"{layer}.pos_proj", HIDDEN, HIDDEN, bias=False)
        t.linear(f"{layer}.pos_q_proj", HIDDEN, HIDDEN)
    unused = ("position_buckets", "share_att_key", "norm_rel_ebd")
    config = {name: value for name, value in model.config.items() if name not in unused}
    config |= {"model_type": "deberta", "pos_att_type": "c2p|p2c"}
    missing = "encoder.layer.1.attention.self.pos_q_proj.bias"
    return Model(config, t, missing=missing, wrong=("num_attention_heads", 5))


def modernbert() -> Model:
    t = Tensors()
    t.add("model.embeddings.tok_embeddings.weight", VOCAB, HIDDEN)
    t.norm("model.embeddings.norm", bias=False)
    for i in range(3):
        layer = f"model.layers.{i}"
        t.linear(f"{layer}.attn.Wqkv", 3 * HIDDEN, HIDDEN, bias=False)
        t.linear(f"{layer}.attn.Wo", HIDDEN, HIDDEN, bias=False)
        t.linear(f"{layer}.mlp.Wi", 2 * INNER, HIDDEN, bias=False)
        t.linear(f"{layer}.mlp.Wo", HIDDEN, INNER, bias=False)
        if i:
            t.norm(f"{layer}.attn_norm", bias=False)
        t.norm(f"{layer}.mlp_norm", bias=False)
    t.norm("model.final_norm", bias=False)
    config = {
        "model_type": "modernbert",
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "hidden_activation": "gelu",
        "max_position_embeddings": 40,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "global_attn_every_n_layers": 2,
        "local_attention": 6,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "reference_compile": False,
    }
    return Model(config, t, "cls_token", missing="layers.2.attn_norm.weight")


def nomic(*, experts: bool = False) -> Model:
    t = Tensors()
    t.add("embeddings.word_embeddings.weight", VOCAB, HIDDEN)
    t.add("embeddings.token_type_embeddings.weight", 2, HIDDEN)
    t.norm("emb_ln")
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        t.linear(f"{layer}.attn.Wqkv", 3 * HIDDEN, HIDDEN, bias=experts)
        t.linear(f"{layer}.attn.out_proj", HIDDEN, HIDDEN, bias=experts)
        t.norm(f"{layer}.norm1")
        t.norm(f"{layer}.norm2")
        if experts and i % 2 == 1:
            t.linear(f"{layer}.mlp.router.layer", 4, HIDDEN, bias=False)
            t.add(f"{layer}.mlp.experts.mlp.w1", 4 * INNER, HIDDEN)
            t.add(f"{layer}.mlp.experts.mlp.w2", 4 * INNER, HIDDEN)
            t.add(f"{layer}.mlp.experts.bias", HIDDEN)
        else:
            for part in ("fc1",) if experts else ("fc11", "fc12"):
                t.linear(f"{layer}.mlp.{part}", INNER, HIDDEN, bias=experts)
            t.linear(f"{layer}.mlp.fc2", HIDDEN, INNER, bias=experts)
    config = {
        "model_type": "nomic_bert",
        "vocab_size": VOCAB,
        "n_embd": HIDDEN,
        "n_head": HEADS,
        "n_inner": INNER,
        "n_layer": LAYERS,
        "n_positions": 40,
        "type_vocab_size": 2,
        "activation_function": "gelu" if experts else "swiglu",
        "layer_norm_epsilon": 1e-5 if experts else 1e-12,
        "rotary_emb_base": 10000 if experts else 1000,
        "rotary_emb_fraction": 1.0,
        "qkv_proj_bias": experts,
        "mlp_fc1_bias": experts,
        "mlp_fc2_bias": experts,
        "prenorm": False,
        "use_rms_norm": None,
        **({"num_experts": 4, "moe_top_k": 2, "moe_every_n_layers": 2} if experts else {}),
    }
    missing = "encoder.layers.1.mlp.router.layer.weight" if experts else "encoder.layers.0.mlp.fc12.weight"
    return Model(config, t, missing=missing, wrong=("n_inner", 47), known=False)


def nomic_moe() -> Model:
    return nomic(experts=True)


def jina_v2() -> Model:
    t = Tensors()
    t.add("bert.embeddings.word_embeddings.weight", VOCAB, 36)
    t.add("bert.embeddings.token_type_embeddings.weight", 2, 36)
    t.norm("bert.embeddings.LayerNorm", 36)
    for i in range(LAYERS):
        layer = f"bert.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            t.linear(f"{layer}.attention.{part}", 36, 36)
        t.norm(f"{layer}.attention.output.LayerNorm", 36)
        t.linear(f"{layer}.mlp.gated_layers", 2 * INNER, 36, bias=False)
        t.linear(f"{layer}.mlp.wo", 36, INNER)
        t.norm(f"{layer}.mlp.layernorm", 36)
    config = {
        **BERT,
        "model_type": "bert",
        "hidden_size": 36,
        "num_attention_heads": 6,  # no power of two
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
    }
    return Model(config, t, missing="encoder.layer.0.mlp.gated_layers.weight", known=False)


def jina_v2_code() -> Model:
    """Norms of queries and keys over all heads, two norms behind attention."""
    model = jina_v2()
    t = Tensors()
    for name, array in model.tensors.items():
        t[name.replace("bert.", "").replace("mlp.wo", "mlp.down_layer").replace("mlp.layernorm", "layer_norm_2")] = (
            array
        )
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        t[f"{layer}.mlp.up_gated_layer.weight"] = t.pop(f"{layer}.mlp.gated_layers.weight")
        for norm in ("attention.self.layer_norm_q", "attention.self.layer_norm_k", "layer_norm_1"):
            t.norm(f"{layer}.{norm}", 36)
    config = {**model.config, "emb_pooler": "mean"}
    return Model(config, t, missing="encoder.layer.1.attention.self.layer_norm_q.bias", known=False)


def jina_v2_original() -> Model:
    config, tensors = bert_like("bert", position_embedding_type="alibi", feed_forward_type="original")
    del tensors["embeddings.position_embeddings.weight"]
    return Model(config, tensors, missing="encoder.layer.0.output.dense.bias", known=False)


TASKS = ["retrieval.query", "retrieval.passage", "text-matching"]


def jina_v3() -> Model:
    t = Tensors()

    def adapted(name: str, outer: int, inner: int, *, table: bool = False) -> None:
        t.add(f"{name}.parametrizations.weight.original", outer, inner)
        first, second = ((outer, 2), (2, inner)) if table else ((2, inner), (outer, 2))
        t.add(f"{name}.parametrizations.weight.0.lora_A", 3, *first)
        t.add(f"{name}.parametrizations.weight.0.lora_B", 3, *second)

    adapted("roberta.embeddings.word_embeddings", VOCAB, HIDDEN, table=True)
    adapted("roberta.embeddings.token_type_embeddings", 1, HIDDEN, table=True)
    t.norm("roberta.emb_ln")
    for i in range(LAYERS):
        layer = f"roberta.encoder.layers.{i}"
        for name, outer, inner in (
            ("mixer.Wqkv", 3 * HIDDEN, HIDDEN),
            ("mixer.out_proj", HIDDEN, HIDDEN),
            ("mlp.fc1", INNER, HIDDEN),
            ("mlp.fc2", HIDDEN, INNER),
        ):
            adapted(f"{layer}.{name}", outer, inner)
            t.add(f"{layer}.{name}.bias", outer)
        t.norm(f"{layer}.norm1")
        t.norm(f"{layer}.norm2")
    config = {
        **BERT,
        "model_type": "xlm-roberta",
        "type_vocab_size": 1,
        "position_embedding_type": "rotary",
        "rotary_emb_base": 20000.0,
        "layer_norm_eps": 1e-5,
        "lora_adaptations": TASKS,
        "lora_alpha": 1,
        "lora_rank": 2,
        "task_instructions": dict.fromkeys(TASKS, "the river "),
    }
    options = {"task": "retrieval.passage"}
    return Model(config, t, missing="encoder.layers.1.norm2.bias", known=False, options=options)


def gte() -> Model:
    t = Tensors()
    t.add("new.embeddings.word_embeddings.weight", VOCAB, HIDDEN)
    t.add("new.embeddings.token_type_embeddings.weight", 2, HIDDEN)
    t.norm("new.embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"new.encoder.layer.{i}"
        t.linear(f"{layer}.attention.qkv_proj", 3 * HIDDEN, HIDDEN)
        t.linear(f"{layer}.attention.o_proj", HIDDEN, HIDDEN)
        t.linear(f"{layer}.mlp.up_gate_proj", 2 * INNER, HIDDEN, bias=False)
        t.linear(f"{layer}.mlp.down_proj", HIDDEN, INNER)
        t.norm(f"{layer}.attn_ln")
        t.norm(f"{layer}.mlp_ln")
    config = {
        **BERT,
        "model_type": "new",
        "position_embedding_type": "rope",
        "rope_theta": 10000,
        "rope_scaling": {"type": "ntk", "factor": 2.0},
        "pack_qkv": True,
        "layer_norm_type": "layer_norm",
    }
    return Model(config, t, None, missing="encoder.layer.1.attention.qkv_proj.bias", known=False)


def t5(*, gated: bool = True) -> Model:
    t = Tensors()
    t.add("shared.weight", VOCAB, HIDDEN, scale=1)
    for i in range(LAYERS):
        layer = f"encoder.block.{i}.layer"
        for part in "qkv":
            t.linear(f"{layer}.0.SelfAttention.{part}", HEADS * 12, HIDDEN, bias=False)
        t.linear(f"{layer}.0.SelfAttention.o", HIDDEN, HEADS * 12, bias=False)
        t.norm(f"{layer}.0.layer_norm", bias=False)
        for part in ("wi_0", "wi_1") if gated else ("wi",):
            t.linear(f"{layer}.1.DenseReluDense.{part}", INNER, HIDDEN, bias=False)
        t.linear(f"{layer}.1.DenseReluDense.wo", HIDDEN, INNER, bias=False)
        t.norm(f"{layer}.1.layer_norm", bias=False)
    t.add("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 8, HEADS, scale=1)
    t.norm("encoder.final_layer_norm", bias=False)
    config = {
        "model_type": "t5",
        "vocab_size": VOCAB,
        "d_model": HIDDEN,
        "d_kv": 12,
        "d_ff": INNER,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "layer_norm_epsilon": 1e-6,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
    }
    return Model(config, t, missing="encoder.final_layer_norm.weight", wrong=("d_ff", 47))


def t5_plain() -> Model:
    return t5(gated=False)


def mt5() -> Model:
    model = t5()
    return dataclasses.replace(model, config={**model.config, "model_type": "mt5"})


def umt5() -> Model:
    """Every layer has a table of relative positions."""
    model = t5()
    for i in range(1, LAYERS):
        name = f"encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
        model.tensors.add(name, 8, HEADS, scale=1)
    return dataclasses.replace(model, config={**model.config, "model_type": "umt5"}, missing=name)


def codet5p() -> Model:
    model = t5(gated=False)
    model.tensors.linear("proj", 16, HIDDEN)
    config = {**model.config, "model_type": "codet5p_embedding", "embed_dim": 16}
    return Model(config, model.tensors, None, missing="proj.bias", wrong=("d_ff", 47), known=False)


def decoder(
    kind: str, *, prefix: str = "", normed: bool = False, bias: bool = False, gemma: bool = False, **config: Any
) -> tuple[dict[str, Any], Tensors]:
    t = Tensors()
    merged = {**DECODER, "model_type": kind, **config}
    size, queries, keys = merged["head_dim"], merged["num_attention_heads"], merged["num_key_value_heads"]
    centre = 0.0 if gemma else 1.0
    t.add(f"{prefix}embed_tokens.weight", VOCAB, HIDDEN)
    for i in range(merged["num_hidden_layers"]):
        layer = f"{prefix}layers.{i}"
        for part, heads in (("q", queries), ("k", keys), ("v", keys)):
            t.linear(f"{layer}.self_attn.{part}_proj", heads * size, HIDDEN, bias=bias)
        t.linear(f"{layer}.self_attn.o_proj", HIDDEN, queries * size, bias=False)
        t.linear(f"{layer}.mlp.up_proj", INNER, HIDDEN, bias=False)
        t.linear(f"{layer}.mlp.gate_proj", INNER, HIDDEN, bias=False)
        t.linear(f"{layer}.mlp.down_proj", HIDDEN, INNER, bias=False)
        norms = ["input_layernorm", "post_attention_layernorm"]
        for name in norms + ["pre_feedforward_layernorm", "post_feedforward_layernorm"] * gemma:
            t.norm(f"{layer}.{name}", bias=False, centre=centre)
        for part in "qk" * normed:
            t.norm(f"{layer}.self_attn.{part}_norm", size, bias=False, centre=centre)
    t.norm(f"{prefix}norm", bias=False, centre=centre)
    return merged, t


def qwen3() -> Model:
    config, tensors = decoder("qwen3", normed=True, rope_theta=1000000.0)
    return Model(config, tensors, "lasttoken", missing="layers.1.self_attn.q_norm.weight")


def qwen2() -> Model:
    config, tensors = decoder("qwen2", bias=True, head_dim=SIZE, prefix="model.")
    return Model(config, tensors, None, missing="layers.0.self_attn.v_proj.bias")


def llama() -> Model:
    scaling = {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    config, tensors = decoder("llama", rope_scaling=scaling)
    return Model(config, tensors, "weightedmean_tokens", missing="norm.weight")


def mistral() -> Model:
    config, tensors = decoder("mistral", sliding_window=5)
    return Model(config, tensors, "lasttoken", missing="layers.0.mlp.gate_proj.weight")


def gritlm() -> Model:
    remote = {"AutoModelForCausalLM": "modeling_gritlm7b.MistralForCausalLM"}
    config, tensors = decoder("mistral", prefix="model.", sliding_window=None, auto_map=remote)
    return Model(config, tensors, missing="layers.0.input_layernorm.weight", known=False)


def nvembed() -> Model:
    text, t = decoder("bidir_mistral", prefix="embedding_model.", sliding_window=None)
    latent = "latent_attention_model"
    t.add(f"{latent}.latents", 6, HIDDEN, scale=1)
    t.linear(f"{latent}.cross_attend_blocks.0.fn.to_q", 2 * 10, HIDDEN, bias=False)
    t.linear(f"{latent}.cross_attend_blocks.0.fn.to_kv", 2 * 2 * 10, HIDDEN, bias=False)
    t.linear(f"{latent}.cross_attend_blocks.0.fn.to_out", HIDDEN, 2 * 10, bias=False)
    t.linear(f"{latent}.cross_attend_blocks.1.fn.net.0", 2 * 64, HIDDEN)
    t.linear(f"{latent}.cross_attend_blocks.1.fn.net.2", HIDDEN, 64)
    for name in ("0.norm", "0.norm_context", "1.norm"):
        t.norm(f"{latent}.cross_attend_blocks.{name}")
    config = {
        "model_type": "nvembed",
        "text_config": text,
        "latent_attention_config": {"num_cross_heads": 2, "cross_dim_head": 10, "num_latents_value": 6},
    }
    missing = "cross_attend_blocks.1.fn.net.2.bias"
    return Model(config, t, missing=missing, wrong=("latent_attention_config", {"num_cross_heads": 3}), known=False)


def gemma3() -> Model:
    config, tensors = decoder(
        "gemma3_text",
        normed=True,
        gemma=True,
        num_hidden_layers=3,
        num_key_value_heads=1,
        hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=16,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_theta=1000000.0,
        rope_local_base_freq=10000.0,
        use_bidirectional_attention=True,
        attn_logit_softcapping=None,
    )
    return Model(config, tensors, missing="layers.2.post_feedforward_layernorm.weight")


def gemma2() -> Model:
    """Scores that their cap bends."""
    config, tensors = decoder(
        "gemma2",
        gemma=True,
        num_hidden_layers=3,
        hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=6,
        sliding_window=5,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=30.0,
    )
    return Model(config, tensors, "lasttoken", missing="layers.2.pre_feedforward_layernorm.weight")


def eurobert() -> Model:
    own = {"AutoConfig": "configuration_eurobert.EuroBertConfig", "AutoModel": "modeling_eurobert.EuroBertModel"}
    config, tensors = decoder("eurobert", head_dim=SIZE, prefix="model.", rope_theta=250000, auto_map=own)
    return Model(config, tensors, missing="layers.1.mlp.up_proj.weight", known=False)


def ultrabert() -> Model:
    kinds = {"full_attention": 2560000.0, "sliding_attention": 10000.0}
    config, tensors = decoder("ultrabert", head_dim=SIZE, num_hidden_layers=3, sliding_window=4)
    del config["rope_theta"]
    config["rope_parameters"] = {name: {"rope_type": "default", "rope_theta": theta} for name, theta in kinds.items()}
    return Model(config, tensors, missing="layers.2.mlp.up_proj.weight", known=False)


def gemma3_causal() -> Model:
    config, tensors = decoder(
        "gemma3_text",
        normed=True,
        gemma=True,
        hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=12,
        sliding_window=4,
        sliding_window_pattern=2,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    )
    return Model(config, tensors, None, missing="layers.1.self_attn.k_norm.weight")


MODELS: dict[str, Callable[[], Model]] = {
    make.__name__: make
    for make in (
        bert, roberta, xlm_roberta, distilbert, albert, electra, mpnet, deberta, deberta_without_buckets, modernbert,
        nomic, nomic_moe, jina_v2, jina_v3, gte, t5, t5_plain, codet5p, qwen3, qwen2, llama, mistral, gritlm, nvembed,
        gemma2, gemma3, gemma3_causal, deberta_v1, jina_v2_code, jina_v2_original, mt5, umt5,
        ernie, data2vec, roberta_prelayernorm, xlm_roberta_xl, megatron_bert, eurobert, ultrabert,
    )
}  # fmt: skip


def write(model: Model, folder: Path) -> Path:
    """The folder of a checkpoint, as sentence-transformers writes it or as transformers alone does."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(model.config))
    (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    save_file(dict(model.tensors), folder / "model.safetensors")
    if model.pooling is not None:
        (folder / "1_Pooling").mkdir()
        flags = {"pooling_mode_mean_tokens": False, f"pooling_mode_{model.pooling}": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
        kinds = (("Transformer", ""), ("Pooling", "1_Pooling"))
        listed = [
            {"idx": i, "path": path, "type": f"sentence_transformers.models.{k}"} for i, (k, path) in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(listed))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    return folder
