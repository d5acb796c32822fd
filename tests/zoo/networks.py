"""Names and shapes of tensors as public checkpoints have them, one text for each architecture.

A line is a name, what it is, and its dimensions; `#` stands for the number of a layer and {a,b} for one name after the
other. linear: weight and bias; matrix: weight alone; norm: weight about 1 and bias; rms: weight alone; rms0: weight
about 0, to which the network adds 1; table: weight; raw: the name as it stands.

Dimensions: h hidden, f intermediate, v vocabulary, p positions, t types, e of embeddings, n of a head, q of all heads,
k of the heads of keys, b buckets, a heads; a number before a letter multiplies it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]

BERT = """
    embeddings.word_embeddings                  table   v,h
    embeddings.position_embeddings              table   p,h
    embeddings.token_type_embeddings            table   t,h
    embeddings.LayerNorm                        norm    h
    encoder.layer.#.attention.self.{query,key,value}  linear  h,h
    encoder.layer.#.attention.output.dense      linear  h,h
    encoder.layer.#.attention.output.LayerNorm  norm    h
    encoder.layer.#.intermediate.dense          linear  f,h
    encoder.layer.#.output.dense                linear  h,f
    encoder.layer.#.output.LayerNorm            norm    h
"""
POOLER = """
    pooler.dense                                linear  h,h
"""
MLM = """
    cls.predictions.bias                        raw     v
    cls.predictions.transform.dense             linear  h,h
    cls.predictions.transform.LayerNorm         norm    h
"""
DECODER = """
    embed_tokens                                table   v,h
    layers.#.self_attn.q_proj                   matrix  q,h
    layers.#.self_attn.{k_proj,v_proj}          matrix  k,h
    layers.#.self_attn.o_proj                   matrix  h,q
    layers.#.mlp.{gate_proj,up_proj}            matrix  f,h
    layers.#.mlp.down_proj                      matrix  h,f
    layers.#.{input_layernorm,post_attention_layernorm}  rms  h
    norm                                        rms     h
"""
T5 = """
    shared                                      table   v,h
    encoder.block.#.layer.0.SelfAttention.{q,k,v}  matrix  q,h
    encoder.block.#.layer.0.SelfAttention.o     matrix  h,q
    encoder.block.#.layer.0.layer_norm          rms     h
    encoder.block.#.layer.1.DenseReluDense.wo   matrix  h,f
    encoder.block.#.layer.1.layer_norm          rms     h
    encoder.block.0.layer.0.SelfAttention.relative_attention_bias  table  b,a
    encoder.final_layer_norm                    rms     h
"""
GEMMA = (
    DECODER.replace("rms ", "rms0 ")
    + """
    layers.#.{pre_feedforward_layernorm,post_feedforward_layernorm}  rms0  h
"""
)
NETWORKS = {
    "bert": BERT + POOLER,
    "bert without pooler": BERT,
    "bert mlm": "".join(re.sub(r"^( +)(?=\S)", r"\1bert.", line) + "\n" for line in BERT.splitlines()) + MLM,
    "electra": BERT.replace("v,h", "v,e")
    .replace("p,h", "p,e")
    .replace("t,h", "t,e")
    .replace("norm    h\n    encoder", "norm    e\n    encoder", 1)
    + """
    embeddings_project                          linear  h,e
""",
    "distilbert": """
    embeddings.word_embeddings                  table   v,h
    embeddings.position_embeddings              table   p,h
    embeddings.LayerNorm                        norm    h
    transformer.layer.#.attention.{q_lin,k_lin,v_lin,out_lin}  linear  h,h
    transformer.layer.#.sa_layer_norm           norm    h
    transformer.layer.#.ffn.lin1                linear  f,h
    transformer.layer.#.ffn.lin2                linear  h,f
    transformer.layer.#.output_layer_norm       norm    h
""",
    "albert": """
    embeddings.word_embeddings                  table   v,e
    embeddings.position_embeddings              table   p,e
    embeddings.token_type_embeddings            table   t,e
    embeddings.LayerNorm                        norm    e
    encoder.embedding_hidden_mapping_in         linear  h,e
    encoder.albert_layer_groups.0.albert_layers.0.attention.{query,key,value,dense}  linear  h,h
    encoder.albert_layer_groups.0.albert_layers.0.attention.LayerNorm  norm  h
    encoder.albert_layer_groups.0.albert_layers.0.ffn         linear  f,h
    encoder.albert_layer_groups.0.albert_layers.0.ffn_output  linear  h,f
    encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm  norm  h
    pooler                                      linear  h,h
""",
    "mpnet": """
    embeddings.word_embeddings                  table   v,h
    embeddings.position_embeddings              table   p,h
    embeddings.LayerNorm                        norm    h
    encoder.layer.#.attention.attn.{q,k,v,o}    linear  h,h
    encoder.layer.#.attention.LayerNorm         norm    h
    encoder.layer.#.intermediate.dense          linear  f,h
    encoder.layer.#.output.dense                linear  h,f
    encoder.layer.#.output.LayerNorm            norm    h
    encoder.relative_attention_bias             table   b,a
"""
    + POOLER,
    "deberta v2": """
    embeddings.word_embeddings                  table   v,h
    embeddings.LayerNorm                        norm    h
    encoder.layer.#.attention.self.{query_proj,key_proj,value_proj}  linear  h,h
    encoder.layer.#.attention.output.dense      linear  h,h
    encoder.layer.#.attention.output.LayerNorm  norm    h
    encoder.layer.#.intermediate.dense          linear  f,h
    encoder.layer.#.output.dense                linear  h,f
    encoder.layer.#.output.LayerNorm            norm    h
    encoder.rel_embeddings                      table   2b,h
    encoder.LayerNorm                           norm    h
""",
    "deberta": """
    embeddings.word_embeddings                  table   v,h
    embeddings.LayerNorm                        norm    h
    encoder.layer.#.attention.self.in_proj      matrix  3h,h
    encoder.layer.#.attention.self.{q_bias,v_bias}  raw  h
    encoder.layer.#.attention.self.pos_proj     matrix  h,h
    encoder.layer.#.attention.self.pos_q_proj   linear  h,h
    encoder.layer.#.attention.output.dense      linear  h,h
    encoder.layer.#.attention.output.LayerNorm  norm    h
    encoder.layer.#.intermediate.dense          linear  f,h
    encoder.layer.#.output.dense                linear  h,f
    encoder.layer.#.output.LayerNorm            norm    h
    encoder.rel_embeddings                      table   2p,h
""",
    "modernbert": """
    embeddings.tok_embeddings                   table   v,h
    embeddings.norm                             rms     h
    layers.#.attn.Wqkv                          matrix  3h,h
    layers.#.attn.Wo                            matrix  h,h
    layers.#.attn_norm                          rms     h
    layers.#.mlp.Wi                             matrix  2f,h
    layers.#.mlp.Wo                             matrix  h,f
    layers.#.mlp_norm                           rms     h
    final_norm                                  rms     h
""",
    "nomic": """
    embeddings.word_embeddings                  table   v,h
    embeddings.token_type_embeddings            table   t,h
    emb_ln                                      norm    h
    encoder.layers.#.attn.Wqkv                  matrix  3h,h
    encoder.layers.#.attn.out_proj              matrix  h,h
    encoder.layers.#.{norm1,norm2}              norm    h
    encoder.layers.#.mlp.{fc11,fc12}            matrix  f,h
    encoder.layers.#.mlp.fc2                    matrix  h,f
""",
    "nomic moe": """
    embeddings.word_embeddings                  table   v,h
    embeddings.token_type_embeddings            table   t,h
    emb_ln                                      norm    h
    encoder.layers.#.attn.Wqkv                  linear  3h,h
    encoder.layers.#.attn.out_proj              linear  h,h
    encoder.layers.#.{norm1,norm2}              norm    h
    encoder.layers.0.mlp.fc1                    linear  f,h
    encoder.layers.0.mlp.fc2                    linear  h,f
    encoder.layers.1.mlp.router.layer           matrix  8,h
    encoder.layers.1.mlp.experts.mlp.{w1,w2}    raw     8f,h
    encoder.layers.1.mlp.experts.bias           raw     h
""",
    "jina v2": """
    embeddings.word_embeddings                  table   v,h
    embeddings.token_type_embeddings            table   t,h
    embeddings.LayerNorm                        norm    h
    encoder.layer.#.attention.self.{query,key,value}  linear  h,h
    encoder.layer.#.attention.output.dense      linear  h,h
    encoder.layer.#.attention.output.LayerNorm  norm    h
    encoder.layer.#.mlp.gated_layers            matrix  2f,h
    encoder.layer.#.mlp.wo                      linear  h,f
    encoder.layer.#.mlp.layernorm               norm    h
"""
    + POOLER,
    "jina v2 code": """
    embeddings.word_embeddings                  table   v,h
    embeddings.token_type_embeddings            table   t,h
    embeddings.LayerNorm                        norm    h
    encoder.layer.#.attention.self.{query,key,value}  linear  h,h
    encoder.layer.#.attention.self.{layer_norm_q,layer_norm_k}  norm  h
    encoder.layer.#.attention.output.dense      linear  h,h
    encoder.layer.#.attention.output.LayerNorm  norm    h
    encoder.layer.#.{layer_norm_1,layer_norm_2} norm    h
    encoder.layer.#.mlp.up_gated_layer          matrix  2f,h
    encoder.layer.#.mlp.down_layer              linear  h,f
"""
    + POOLER,
    "jina v3": """
    roberta.embeddings.word_embeddings.parametrizations.weight.original        raw  v,h
    roberta.embeddings.word_embeddings.parametrizations.weight.0.lora_A        raw  5,v,2
    roberta.embeddings.word_embeddings.parametrizations.weight.0.lora_B        raw  5,2,h
    roberta.embeddings.token_type_embeddings.parametrizations.weight.original  raw  1,h
    roberta.embeddings.token_type_embeddings.parametrizations.weight.0.lora_A  raw  5,1,2
    roberta.embeddings.token_type_embeddings.parametrizations.weight.0.lora_B  raw  5,2,h
    roberta.emb_ln                                                             norm h
    roberta.encoder.layers.#.mixer.Wqkv.parametrizations.weight.original       raw  3h,h
    roberta.encoder.layers.#.mixer.Wqkv.parametrizations.weight.0.lora_A       raw  5,2,h
    roberta.encoder.layers.#.mixer.Wqkv.parametrizations.weight.0.lora_B       raw  5,3h,2
    roberta.encoder.layers.#.mixer.Wqkv.bias                                   raw  3h
    roberta.encoder.layers.#.mixer.out_proj.parametrizations.weight.original   raw  h,h
    roberta.encoder.layers.#.mixer.out_proj.parametrizations.weight.0.lora_A   raw  5,2,h
    roberta.encoder.layers.#.mixer.out_proj.parametrizations.weight.0.lora_B   raw  5,h,2
    roberta.encoder.layers.#.mixer.out_proj.bias                               raw  h
    roberta.encoder.layers.#.mlp.fc1.parametrizations.weight.original          raw  f,h
    roberta.encoder.layers.#.mlp.fc1.parametrizations.weight.0.lora_A          raw  5,2,h
    roberta.encoder.layers.#.mlp.fc1.parametrizations.weight.0.lora_B          raw  5,f,2
    roberta.encoder.layers.#.mlp.fc1.bias                                      raw  f
    roberta.encoder.layers.#.mlp.fc2.parametrizations.weight.original          raw  h,f
    roberta.encoder.layers.#.mlp.fc2.parametrizations.weight.0.lora_A          raw  5,2,f
    roberta.encoder.layers.#.mlp.fc2.parametrizations.weight.0.lora_B          raw  5,h,2
    roberta.encoder.layers.#.mlp.fc2.bias                                      raw  h
    roberta.encoder.layers.#.{norm1,norm2}                                     norm h
    roberta.pooler.dense.parametrizations.weight.original                      raw  h,h
    roberta.pooler.dense.parametrizations.weight.0.lora_A                      raw  5,2,h
    roberta.pooler.dense.parametrizations.weight.0.lora_B                      raw  5,h,2
    roberta.pooler.dense.bias                                                  raw  h
""",
    "gte": """
    new.embeddings.word_embeddings              table   v,h
    new.embeddings.token_type_embeddings        table   t,h
    new.embeddings.LayerNorm                    norm    h
    new.encoder.layer.#.attention.qkv_proj      linear  3h,h
    new.encoder.layer.#.attention.o_proj        linear  h,h
    new.encoder.layer.#.attn_ln                 norm    h
    new.encoder.layer.#.mlp.up_gate_proj        matrix  2f,h
    new.encoder.layer.#.mlp.down_proj           linear  h,f
    new.encoder.layer.#.mlp_ln                  norm    h
""",
    "t5": T5
    + """
    encoder.block.#.layer.1.DenseReluDense.wi   matrix  f,h
""",
    "t5 gated": T5
    + """
    encoder.block.#.layer.1.DenseReluDense.{wi_0,wi_1}  matrix  f,h
""",
    "codet5p": T5
    + """
    encoder.block.#.layer.1.DenseReluDense.wi   matrix  f,h
    proj                                        linear  16,h
""",
    "decoder": DECODER,
    "decoder biased": DECODER.replace("q_proj                   matrix", "q_proj                   linear").replace(
        "{k_proj,v_proj}          matrix", "{k_proj,v_proj}          linear"
    ),
    "qwen3": DECODER
    + """
    layers.#.self_attn.{q_norm,k_norm}          rms     n
""",
    "eurobert": DECODER,
    "gemma2": GEMMA,
    "gemma3": GEMMA
    + """
    layers.#.self_attn.{q_norm,k_norm}          rms0    n
""",
    "nvembed": "".join(re.sub(r"^( +)(?=\S)", r"\1embedding_model.", line) + "\n" for line in DECODER.splitlines())
    + """
    latent_attention_model.latents                            raw     6,h
    latent_attention_model.cross_attend_blocks.0.norm         norm    h
    latent_attention_model.cross_attend_blocks.0.norm_context norm    h
    latent_attention_model.cross_attend_blocks.0.fn.to_q      matrix  20,h
    latent_attention_model.cross_attend_blocks.0.fn.to_kv     matrix  40,h
    latent_attention_model.cross_attend_blocks.0.fn.to_out    matrix  h,20
    latent_attention_model.cross_attend_blocks.1.norm         norm    h
    latent_attention_model.cross_attend_blocks.1.fn.net.0     linear  128,h
    latent_attention_model.cross_attend_blocks.1.fn.net.2     linear  h,64
""",
}


def tensors(network: str, config: Mapping[str, Any], seed: int) -> Arrays:
    """Random weights of a network of so many layers as its config says, large enough that each of them counts."""
    random = np.random.default_rng(seed)
    sizes = dimensions(config)
    arrays: Arrays = {}
    for name, kind, dims in lines(NETWORKS[network], layers(config)):
        shape = [_size(dim, sizes) for dim in dims.split(",")]
        if 0 in shape:  # a table of nothing is not stored
            continue
        centre = 1.0 if kind in ("norm", "rms") else 0.0
        key = name if kind == "raw" else f"{name}.weight"
        arrays[key] = (centre + 0.2 * random.standard_normal(shape)).astype(np.float32)
        if kind in ("linear", "norm"):
            arrays[f"{name}.bias"] = (0.2 * random.standard_normal(shape[:1])).astype(np.float32)
    return arrays


def lines(text: str, count: int) -> Iterator[tuple[str, str, str]]:
    """Name, kind and dimensions of every tensor, or pair of tensors, of a network of so many layers."""
    for line in text.split("\n"):
        if not line.strip():
            continue
        name, kind, dims = line.split()
        for i in range(count if "#" in name else 1):
            numbered = name.replace("#", str(i))
            braces = re.search(r"\{(.*)\}", numbered)
            for one in braces[1].split(",") if braces else [""]:
                yield (numbered.replace(braces[0], one) if braces else numbered), kind, dims


def layers(config: Mapping[str, Any]) -> int:
    config = config.get("text_config", config)
    return int(next(config[key] for key in ("num_hidden_layers", "n_layers", "n_layer", "num_layers") if key in config))


def dimensions(config: Mapping[str, Any]) -> dict[str, int]:
    """The letters of the texts above, from config.json."""
    config = config.get("text_config", config)

    def first(*names: str, otherwise: int = 0) -> int:
        return int(next((config[name] for name in names if config.get(name) is not None), otherwise))

    hidden = first("hidden_size", "dim", "d_model", "n_embd")
    heads = first("num_attention_heads", "n_heads", "num_heads", "n_head")
    size = first("head_dim", "d_kv", otherwise=hidden // heads)
    return {
        "h": hidden,
        "f": first("intermediate_size", "hidden_dim", "d_ff", "n_inner"),
        "v": first("vocab_size"),
        "p": first("max_position_embeddings", "n_positions"),
        "t": first("type_vocab_size"),
        "e": first("embedding_size", otherwise=hidden),
        "n": size,
        "q": heads * size,
        "k": first("num_key_value_heads", otherwise=heads) * size,
        "b": first("relative_attention_num_buckets", "position_buckets"),
        "a": heads,
    }


def _size(dim: str, sizes: Mapping[str, int]) -> int:
    """ "3h" -> 96 where h is 32."""
    if dim.isdigit():
        return int(dim)
    return int(dim[:-1] or 1) * sizes[dim[-1]]
