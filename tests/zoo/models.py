"""The table: public models as their folders are, with hidden sizes, layers and vocabularies shrunk.

Keys of config.json, modules, poolings, prompts, limits and classes of tokenizers are the models' own.
"""

from dataclasses import dataclass, field
from typing import Any

# What every config is shrunk to.
SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}


@dataclass(frozen=True)
class Row:
    """One public model.

    network, vocabulary: names in networks.py and vocabularies.py
    config:     config.json besides what the vocabulary says
    tokenizer:  tokenizer_config.json besides what the vocabulary says
    modules:    after the transformer, in their order: ("Pooling", {...}), ("Dense", {...}), ("Normalize", {}); None is a
                folder of transformers alone
    limit:      sentence_bert_config.json's max_seq_length
    settings:   config_sentence_transformers.json
    bert:       sentence_bert_config.json besides the limit
    kind:       of vectors: "dense", "sparse" or "multi"
    options:    what `export_model` is told
    reference:  of models that are code of their own: its name in tests/reference.py
    since:      the major release of transformers that has the architecture
    """

    name: str
    network: str
    vocabulary: str
    config: dict[str, Any]
    modules: tuple[tuple[str, dict[str, Any]], ...] | None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    settings: dict[str, Any] | None = None
    bert: dict[str, Any] = field(default_factory=dict)
    kind: str = "dense"
    options: dict[str, Any] = field(default_factory=dict)
    reference: str = ""
    since: int = 4

    @property
    def folder(self) -> str:
        return self.name.rsplit("/", 1)[-1]


ROWS: dict[str, Row] = {}


def add(
    name: str, network: str, vocabulary: str, config: dict[str, Any], *modules: tuple[str, dict[str, Any]], **said: Any
) -> None:
    plain = said.pop("plain", False)
    ROWS[name] = Row(name, network, vocabulary, config, None if plain else modules, **said)


def pooling(mode: str, *, prompt: bool | None = None, new: bool = False) -> tuple[str, dict[str, Any]]:
    """A Pooling module: of older releases, which list every mode, or of current ones."""
    if new:
        return "Pooling", {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": prompt is not False}
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    said = {f"pooling_mode_{one}": one == mode for one in (modes if prompt is not None else modes[:4])}
    if mode not in modes[:4]:
        said = {f"pooling_mode_{one}": one == mode for one in modes}
    told = {} if prompt is None else {"include_prompt": prompt}
    return "Pooling", {"word_embedding_dimension": 32, **said, **told}


def dense(
    outputs: int, activation: str = "torch.nn.modules.linear.Identity", *, bias: bool = False, inputs: int = 32
) -> tuple[str, dict[str, Any]]:
    return "Dense", {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": activation}


UNIT = ("Normalize", {})
MEAN, CLS, LAST = pooling("mean_tokens"), pooling("cls_token"), pooling("lasttoken", prompt=True)


def versions(library: str, transformers: str, torch: str = "1.9.0+cu102", **said: Any) -> dict[str, Any]:
    """config_sentence_transformers.json."""
    own = {"sentence_transformers": library, "transformers": transformers, "pytorch": torch}
    return {"__version__": own, **said}


OLD = versions("2.0.0", "4.6.1", "1.8.1")
BERT = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.30.0",
    "type_vocab_size": 2,
    "use_cache": True,
    **SMALL,
}
XLMR = {
    **BERT,
    "architectures": ["XLMRobertaModel"],
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "xlm-roberta",
    "output_past": True,
    "type_vocab_size": 1,
}
ROBERTA = {**XLMR, "architectures": ["RobertaModel"], "model_type": "roberta"}
MPNET = {
    "_name_or_path": "microsoft/mpnet-base",
    "architectures": ["MPNetModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "mpnet",
    "relative_attention_num_buckets": 32,
    "transformers_version": "4.8.2",
    **SMALL,
}
DISTILBERT = {
    "activation": "gelu",
    "architectures": ["DistilBertModel"],
    "attention_dropout": 0.1,
    "dim": 32,
    "dropout": 0.1,
    "hidden_dim": 48,
    "initializer_range": 0.02,
    "max_position_embeddings": 512,
    "model_type": "distilbert",
    "n_heads": 4,
    "n_layers": 2,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "transformers_version": "4.8.2",
}

# sentence-transformers' own
for _name, _limit in (
    ("all-MiniLM-L6-v2", 256),
    ("all-MiniLM-L12-v2", 128),
    ("multi-qa-MiniLM-L6-cos-v1", 512),
    ("paraphrase-MiniLM-L6-v2", 128),
    ("all-MiniLM-L6-v1", 128),
    ("msmarco-MiniLM-L6-cos-v5", 512),
):
    add(
        f"sentence-transformers/{_name}",
        "bert",
        "wordpiece",
        {**BERT, "_name_or_path": "nreimers/MiniLM-L6-H384-uncased"},
        MEAN,
        *([] if _name.startswith("para") else [UNIT]),
        limit=_limit,
        bert={"do_lower_case": False},
        settings=OLD,
    )
for _name, _limit in (
    ("all-mpnet-base-v2", 384),
    ("multi-qa-mpnet-base-cos-v1", 512),
    ("paraphrase-mpnet-base-v2", 512),
):
    add(
        f"sentence-transformers/{_name}",
        "mpnet",
        "mpnet",
        MPNET,
        MEAN,
        *([] if _name.startswith("para") else [UNIT]),
        limit=_limit,
        bert={"do_lower_case": False},
        settings=OLD,
    )
add(
    "sentence-transformers/all-distilroberta-v1",
    "bert",
    "roberta",
    {**ROBERTA, "_name_or_path": "distilroberta-base", "bos_token_id": 0, "eos_token_id": 2},
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=OLD,
)
add(
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    "bert",
    "xlm_roberta",
    {**BERT, "_name_or_path": "old_models/paraphrase-multilingual-MiniLM-L12-v2/0_Transformer"},
    MEAN,
    limit=128,
    bert={"do_lower_case": False},
    settings=OLD,
)
add(
    "sentence-transformers/paraphrase-multilingual-mpnet-base-v2",
    "bert",
    "xlm_roberta",
    XLMR,
    MEAN,
    limit=128,
    bert={"do_lower_case": False},
    settings=OLD,
)
add(
    "sentence-transformers/distiluse-base-multilingual-cased-v2",
    "distilbert",
    "wordpiece",
    DISTILBERT,
    MEAN,
    dense(16, "torch.nn.modules.activation.Tanh", bias=True),
    limit=128,
    bert={"do_lower_case": False},
    tokenizer={"lower": False},
    settings=OLD,
)
add(
    "sentence-transformers/LaBSE",
    "bert",
    "wordpiece",
    {
        **BERT,
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
    },
    CLS,
    dense(32, "torch.nn.modules.activation.Tanh", bias=True),
    UNIT,
    limit=256,
    bert={"do_lower_case": False},
    tokenizer={"lower": False},
    settings=OLD,
)
add(
    "sentence-transformers/paraphrase-albert-small-v2",
    "albert",
    "albert",
    {
        "architectures": ["AlbertModel"],
        "attention_probs_dropout_prob": 0,
        "classifier_dropout_prob": 0.1,
        "down_scale_factor": 1,
        "embedding_size": 16,
        "gap_size": 0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0,
        "initializer_range": 0.02,
        "inner_group_num": 1,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "albert",
        "net_structure_type": 0,
        "num_hidden_groups": 1,
        "num_memory_blocks": 0,
        "position_embedding_type": "absolute",
        "transformers_version": "4.7.0",
        "type_vocab_size": 2,
        **SMALL,
        "num_hidden_layers": 4,
    },
    MEAN,
    limit=100,
    bert={"do_lower_case": False},
    settings=OLD,
)
add(
    "sentence-transformers/msmarco-distilbert-cos-v5",
    "distilbert",
    "wordpiece",
    DISTILBERT,
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=OLD,
)

# E5
add(
    "intfloat/e5-small-v2",
    "bert",
    "wordpiece",
    {**BERT, "_name_or_path": "tmp/"},
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
)
add("intfloat/e5-base-v2", "bert", "wordpiece", BERT, MEAN, UNIT, limit=512, bert={"do_lower_case": False})
add("intfloat/e5-large-v2", "bert", "wordpiece", BERT, MEAN, UNIT, limit=512, bert={"do_lower_case": False})
add(
    "intfloat/multilingual-e5-small",
    "bert",
    "xlm_roberta",
    {**BERT, "tokenizer_class": "XLMRobertaTokenizer"},
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
)
add("intfloat/multilingual-e5-base", "bert", "xlm_roberta", XLMR, MEAN, UNIT, limit=512, bert={"do_lower_case": False})
add(
    "intfloat/multilingual-e5-large-instruct",
    "bert",
    "xlm_roberta",
    {**XLMR, "torch_dtype": "float16"},
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions(
        "2.4.0.dev0",
        "4.37.0",
        "2.1.0+cu121",
        prompts={"query": "Instruct: Given a web search query\nQuery: ", "document": ""},
        default_prompt_name=None,
    ),
)

# BGE, GTE and others on BERT
BGE = versions("2.2.2", "4.28.1", "1.13.0+cu117")
for _name in ("bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5", "bge-small-zh-v1.5"):
    add(
        f"BAAI/{_name}",
        "bert",
        "wordpiece",
        {**BERT, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
        CLS,
        UNIT,
        limit=512,
        bert={"do_lower_case": True},
        settings=BGE,
    )
add(
    "BAAI/bge-m3",
    "bert",
    "xlm_roberta",
    {**XLMR, "max_position_embeddings": 8194, "torch_dtype": "float32"},
    CLS,
    UNIT,
    limit=8192,
    bert={"do_lower_case": False},
    tokenizer={"model_max_length": 8192},
    settings=versions("2.2.2", "4.33.0", "2.1.2+cu121"),
)
add(
    "thenlper/gte-small",
    "bert",
    "wordpiece",
    {**BERT, "torch_dtype": "float16"},
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
)
add(
    "thenlper/gte-large",
    "bert",
    "wordpiece",
    {**BERT, "torch_dtype": "float16"},
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
)
add(
    "mixedbread-ai/mxbai-embed-large-v1",
    "bert",
    "wordpiece",
    {**BERT, "torch_dtype": "float16", "use_cache": False},
    CLS,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions(
        "2.5.1",
        "4.37.0",
        "2.1.0+cu121",
        prompts={"query": "Represent this sentence for searching relevant passages: ", "passage": ""},
        default_prompt_name=None,
    ),
)
add(
    "WhereIsAI/UAE-Large-V1",
    "bert",
    "wordpiece",
    BERT,
    CLS,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions("2.2.2", "4.33.3", "2.0.1"),
)
ARCTIC = {"query": "Represent this sentence for searching relevant passages: "}
for _name in (
    "snowflake-arctic-embed-xs",
    "snowflake-arctic-embed-s",
    "snowflake-arctic-embed-m",
    "snowflake-arctic-embed-m-v1.5",
):
    add(
        f"Snowflake/{_name}",
        "bert",
        "wordpiece",
        BERT,
        CLS,
        UNIT,
        limit=512,
        bert={"do_lower_case": False},
        settings=versions("2.7.0.dev0", "4.39.3", "2.1.0+cu121", prompts=ARCTIC, default_prompt_name=None),
    )
add(
    "Snowflake/snowflake-arctic-embed-l-v2.0",
    "bert",
    "xlm_roberta",
    {**XLMR, "max_position_embeddings": 8194},
    CLS,
    UNIT,
    limit=8192,
    bert={"do_lower_case": False},
    tokenizer={"model_max_length": 8192},
    settings=versions(
        "3.3.1",
        "4.47.0.dev0",
        "2.5.1+cu124",
        prompts={"query": "query: "},
        default_prompt_name=None,
        similarity_fn_name="cosine",
    ),
)
add(
    "ibm-granite/granite-embedding-30m-english",
    "bert",
    "roberta",
    {**ROBERTA, "bos_token_id": 0, "eos_token_id": 2},
    CLS,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions("3.3.0", "4.46.3", "2.3.0", prompts={}, default_prompt_name=None, similarity_fn_name="cosine"),
)
add(
    "ibm-granite/granite-embedding-278m-multilingual",
    "bert",
    "xlm_roberta",
    {**XLMR, "bos_token_id": 0, "eos_token_id": 2},
    CLS,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions("3.3.0", "4.46.3", "2.3.0", prompts={}, default_prompt_name=None, similarity_fn_name="cosine"),
)
add("princeton-nlp/sup-simcse-bert-base-uncased", "bert", "wordpiece", BERT, plain=True)
add(
    "google/electra-small-discriminator",
    "electra",
    "wordpiece",
    {
        **BERT,
        "architectures": ["ElectraForPreTraining"],
        "embedding_size": 16,
        "model_type": "electra",
        "summary_activation": "gelu",
        "summary_last_dropout": 0.1,
        "summary_type": "first",
        "summary_use_proj": True,
    },
    plain=True,
)
add(
    "dangvantuan/sentence-camembert-base",
    "bert",
    "xlm_roberta",
    {**XLMR, "architectures": ["CamembertModel"], "model_type": "camembert", "bos_token_id": 0, "eos_token_id": 2},
    MEAN,
    limit=128,
    bert={"do_lower_case": False},
    settings=OLD,
    tokenizer={"tokenizer_class": "PreTrainedTokenizerFast"},
)
add(
    "microsoft/unixcoder-base",
    "bert",
    "roberta",
    {**ROBERTA, "max_position_embeddings": 1026, "type_vocab_size": 10, "bos_token_id": 0, "eos_token_id": 2},
    plain=True,
)
add(
    "microsoft/deberta-v3-small",
    "deberta v2",
    "deberta_v2",
    {
        "model_type": "deberta-v2",
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "max_position_embeddings": 512,
        "relative_attention": True,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "layer_norm_eps": 1e-7,
        "max_relative_positions": -1,
        "position_biased_input": False,
        "type_vocab_size": 0,
        **SMALL,
    },
    plain=True,
)
add(
    "microsoft/deberta-base",
    "deberta",
    "roberta",
    {
        "model_type": "deberta",
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "max_position_embeddings": 512,
        "relative_attention": True,
        "pos_att_type": "c2p|p2c",
        "layer_norm_eps": 1e-7,
        "padding_idx": 0,
        "max_relative_positions": -1,
        "position_biased_input": False,
        "type_vocab_size": 0,
        **SMALL,
    },
    plain=True,
)

# ModernBERT
MODERNBERT = {
    "architectures": ["ModernBertModel"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean",
    "decoder_bias": True,
    "deterministic_flash_attn": False,
    "embedding_dropout": 0.0,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "gradient_checkpointing": False,
    "hidden_activation": "gelu",
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "local_attention": 16,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "position_embedding_type": "absolute",
    "reference_compile": False,
    "repad_logits_with_grad": False,
    "sparse_pred_ignore_index": -100,
    "sparse_prediction": False,
    "torch_dtype": "float32",
    "transformers_version": "4.48.0",
    **SMALL,
    "num_hidden_layers": 4,
}
for _name, _pooling, _prompts in (
    ("Alibaba-NLP/gte-modernbert-base", CLS, {}),
    ("nomic-ai/modernbert-embed-base", MEAN, {}),
    ("ibm-granite/granite-embedding-english-r2", CLS, {}),
    ("lightonai/modernbert-embed-large", MEAN, {"query": "search_query: ", "document": "search_document: "}),
):
    add(
        _name,
        "modernbert",
        "modernbert",
        MODERNBERT,
        _pooling,
        *([UNIT] if "granite" not in _name else []),
        limit=8192,
        bert={"do_lower_case": False},
        settings=versions(
            "3.3.1",
            "4.48.0.dev0",
            "2.5.1+cu121",
            prompts=_prompts,
            default_prompt_name=None,
            similarity_fn_name="cosine",
        ),
    )

# models with code of their own
NOMIC = {
    "activation_function": "swiglu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0,
    "auto_map": {"AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig", "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "bos_token_id": None, "causal": False, "dense_seq_output": True, "embd_pdrop": 0.0, "eos_token_id": None, "fused_bias_fc": True, "fused_dropout_add_ln": True,
    "initializer_range": 0.02, "layer_norm_epsilon": 1e-12, "max_trained_positions": 2048, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "model_type": "nomic_bert",
    "n_embd": 32, "n_head": 4, "n_inner": 48, "n_layer": 2, "n_positions": 8192, "pad_vocab_size_multiple": 64, "parallel_block": False, "parallel_block_tied_norm": False,
    "prenorm": False, "qkv_proj_bias": False, "reorder_and_upcast_attn": False, "resid_pdrop": 0.0, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "summary_activation": None, "summary_first_dropout": 0.0,
    "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True, "torch_dtype": "float32", "transformers_version": "4.37.2", "type_vocab_size": 2,
    "use_cache": True, "use_flash_attn": True, "use_rms_norm": False, "use_xentropy": True,
}  # fmt: skip
CARD = {"query": "search_query: ", "document": "search_document: "}
add(
    "nomic-ai/nomic-embed-text-v1.5",
    "nomic",
    "wordpiece",
    NOMIC,
    MEAN,
    limit=8192,
    bert={"do_lower_case": False},
    tokenizer={"model_max_length": 8192},
    settings=versions("2.4.0.dev0", "4.37.2", "2.1.0+cu121"),
    reference="nomic",
)
add(
    "nomic-ai/nomic-embed-text-v2-moe",
    "nomic moe",
    "xlm_roberta",
    {
        **NOMIC,
        "activation_function": "gelu",
        "expert_choice_router": False,
        "ffn_div": 1.0,
        "layer_norm_epsilon": 1e-05,
        "mlp_fc1_bias": True,
        "mlp_fc2_bias": True,
        "moe_every_n_layers": 2,
        "moe_impl": "megablocks",
        "moe_normalize_expert_weights": False,
        "moe_resid_pdrop": 0.0,
        "moe_top_k": 2,
        "n_positions": 2048,
        "num_experts": 8,
        "num_shared_experts": 0,
        "qkv_proj_bias": True,
        "rotary_emb_base": 10000,
        "router_aux_loss_coef": 0.1,
        "type_vocab_size": 1,
        "use_rms_norm": None,
    },
    MEAN,
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions(
        "3.3.0",
        "4.44.2",
        "2.4.1+cu121",
        prompts={**CARD, "passage": "search_document: "},
        default_prompt_name=None,
        similarity_fn_name="cosine",
    ),
    reference="nomic_moe",
)
JINA = {
    **BERT,
    "architectures": ["JinaBertForMaskedLM"],
    "attn_implementation": None,
    "auto_map": {
        "AutoConfig": "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig",
        "AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel",
    },
    "emb_pooler": "mean",
    "feed_forward_type": "geglu",
    "hidden_size": 36,
    "num_attention_heads": 6,
    "max_position_embeddings": 8192,
    "model_max_length": 8192,
    "position_embedding_type": "alibi",
    "torch_dtype": "float16",
}
MEAN36 = ("Pooling", {**MEAN[1], "word_embedding_dimension": 36})
for _name in ("jina-embeddings-v2-small-en", "jina-embeddings-v2-base-en"):
    add(
        f"jinaai/{_name}",
        "jina v2",
        "wordpiece",
        JINA,
        MEAN36,
        limit=8192,
        bert={"do_lower_case": False},
        tokenizer={"model_max_length": 8192},
        settings=versions("2.2.2", "4.31.0", "2.0.1"),
        reference="jina_v2",
    )
TASKS = ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"]
add(
    "jinaai/jina-embeddings-v3",
    "jina v3",
    "xlm_roberta",
    {
        **XLMR,
        "architectures": ["XLMRobertaModel"],
        "auto_map": {
            "AutoConfig": "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig",
            "AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA",
        },
        "emb_pooler": None,
        "load_trained_adapters": True,
        "lora_adaptations": TASKS,
        "lora_alpha": 1,
        "lora_dropout_p": 0.0,
        "lora_main_params_trainable": False,
        "lora_rank": 2,
        "matryoshka_dimensions": [8, 16, 32],
        "max_position_embeddings": 8194,
        "position_embedding_type": "rotary",
        "rotary_emb_base": 20000.0,
        "task_instructions": dict(
            zip(
                TASKS,
                [
                    "Represent the query for retrieving evidence documents: ",
                    "Represent the document for retrieval: ",
                    "",
                    "",
                    "",
                ],
                strict=True,
            )
        ),
        "torch_dtype": "bfloat16",
        "truncate_dim": None,
        "use_flash_attn": True,
        "use_reg_tokens": False,
    },
    MEAN,
    UNIT,
    tokenizer={"model_max_length": 8194},
    options={"task": "retrieval.passage"},
    settings=versions("3.1.0", "4.41.2", "2.3.1", prompts={}, default_prompt_name=None),
    reference="jina_v3",
)
GTE = {
    **BERT,
    "architectures": ["NewModel"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"},
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "max_position_embeddings": 8192,
    "model_type": "new",
    "pack_qkv": True,
    "position_embedding_type": "rope",
    "rope_scaling": {"factor": 2.0, "type": "ntk"},
    "rope_theta": 500000,
    "type_vocab_size": 0,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
}
for _name, _vocabulary, _more in (
    ("Alibaba-NLP/gte-base-en-v1.5", "wordpiece", {}),
    (
        "Alibaba-NLP/gte-multilingual-base",
        "xlm_roberta",
        {"rope_scaling": {"factor": 8.0, "type": "ntk"}, "rope_theta": 20000, "type_vocab_size": 1},
    ),
    (
        "Snowflake/snowflake-arctic-embed-m-v2.0",
        "xlm_roberta",
        {
            "rope_scaling": {"factor": 8.0, "type": "ntk"},
            "rope_theta": 20000,
            "type_vocab_size": 1,
            "matryoshka_dimensions": [16],
            "architectures": ["GteModel"],
            "model_type": "gte",
        },
    ),
    ("dunzhang/stella_en_400M_v5", "wordpiece", {"rope_theta": 160000, "type_vocab_size": 2}),
):
    _after = {"A": (CLS, UNIT) if "multi" in _name else (CLS,), "S": (CLS, UNIT), "d": (MEAN, dense(16, bias=True))}[
        _name[0]
    ]
    _prompts = {
        "A": {},
        "S": {"query": "query: "},
        "d": {
            "s2p_query": "Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: ",
            "s2s_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
        },
    }[_name[0]]
    add(
        _name,
        "gte",
        _vocabulary,
        {**GTE, **_more},
        *_after,
        limit=512 if "stella" in _name else 8192,
        bert={"do_lower_case": False},
        tokenizer={"model_max_length": 8192},
        settings=versions("2.7.0", "4.39.1", "2.1.0+cu121", prompts=_prompts, default_prompt_name=None),
        reference="gte",
    )

# T5
T5 = {
    "architectures": ["T5EncoderModel"],
    "d_ff": 48,
    "d_kv": 12,
    "d_model": 32,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "relu",
    "gradient_checkpointing": False,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "num_layers": 2,
    "output_past": True,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "torch_dtype": "float16",
    "transformers_version": "4.11.3",
    "use_cache": True,
}
for _name in ("sentence-t5-base", "gtr-t5-base"):
    add(
        f"sentence-transformers/{_name}",
        "t5",
        "t5",
        T5,
        MEAN,
        dense(24),
        UNIT,
        limit=256 if _name[0] == "s" else 512,
        bert={"do_lower_case": False},
        settings=versions("2.2.0", "4.7.0", "1.9.0+cu102"),
    )
add(
    "hkunlp/instructor-base",
    "t5",
    "t5",
    T5,
    pooling("mean_tokens", prompt=True),
    dense(24),
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions("2.2.2", "4.7.0"),
)
add(
    "Salesforce/codet5p-110m-embedding",
    "codet5p",
    "roberta",
    {
        **T5,
        "architectures": ["CodeT5p_Embedding"],
        "auto_map": {
            "AutoConfig": "configuration_codet5p_embedding.CodeT5pEmbeddingConfig",
            "AutoModel": "modeling_codet5p_embedding.CodeT5pEmbeddingModel",
        },
        "embed_dim": 16,
        "is_encoder_decoder": False,
        "model_type": "codet5p_embedding",
        "relative_attention_max_distance": 16,
        "relative_attention_num_buckets": 8,
    },
    plain=True,
    reference="codet5p",
)

# decoders
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "is_causal": True,
    "max_position_embeddings": 32768,
    "max_window_layers": 2,
    "model_type": "qwen2",
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.41.2",
    "use_cache": True,
    "use_sliding_window": False,
    **SMALL,
}
QWEN3 = {
    **QWEN2,
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 12,
    "model_type": "qwen3",
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.3",
}
del QWEN3["is_causal"]
MISTRAL = {
    "architectures": ["MistralModel"],
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.34.0",
    "use_cache": False,
    **SMALL,
}
INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
for _size in ("0.6B", "4B"):
    add(
        f"Qwen/Qwen3-Embedding-{_size}",
        "qwen3",
        "qwen",
        QWEN3,
        LAST,
        UNIT,
        settings=versions(
            "2.7.0.dev0",
            "4.41.2",
            "2.3.0+cu121",
            prompts={
                "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
                "document": "",
            },
            default_prompt_name=None,
            similarity_fn_name="cosine",
        ),
        tokenizer={"model_max_length": 131072},
    )
add(
    "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
    "decoder biased",
    "qwen",
    {
        **QWEN2,
        "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM"},
        "is_causal": False,
    },
    LAST,
    UNIT,
    limit=32768,
    bert={"do_lower_case": False},
    tokenizer={"add_eos_token": True},
    settings=versions("2.7.0.dev0", "4.41.2", "2.3.0+cu121", prompts={"query": INSTRUCT}, default_prompt_name=None),
    reference="qwen2_both",
)
add(
    "intfloat/e5-mistral-7b-instruct",
    "decoder",
    "mistral",
    MISTRAL,
    LAST,
    UNIT,
    limit=4096,
    bert={"do_lower_case": False},
    settings=versions(
        "2.4.0.dev0",
        "4.37.0",
        "2.1.0+cu121",
        prompts={"web_search_query": INSTRUCT, "sts_query": "Instruct: Retrieve semantically similar text\nQuery: "},
        default_prompt_name=None,
    ),
)
add(
    "Salesforce/SFR-Embedding-Mistral",
    "decoder",
    "mistral",
    MISTRAL,
    LAST,
    UNIT,
    limit=4096,
    bert={"do_lower_case": False},
    settings=versions("2.4.0.dev0", "4.37.0", "2.1.0+cu121"),
)
add(
    "Linq-AI-Research/Linq-Embed-Mistral",
    "decoder",
    "mistral",
    {**MISTRAL, "torch_dtype": "bfloat16", "sliding_window": None},
    LAST,
    UNIT,
    limit=4096,
    bert={"do_lower_case": False},
    settings=versions("2.7.0", "4.40.1", "2.3.0+cu121"),
)
add(
    "HIT-TMG/KaLM-embedding-multilingual-mini-instruct-v1.5",
    "decoder biased",
    "qwen",
    {
        **{k: v for k, v in QWEN2.items() if k != "is_causal"},
        "architectures": ["Qwen2Model"],
        "torch_dtype": "bfloat16",
        "sliding_window": None,
    },
    pooling("mean_tokens", prompt=True),
    UNIT,
    limit=512,
    bert={"do_lower_case": False},
    settings=versions("3.0.1", "4.44.2", "2.3.0", prompts={}, default_prompt_name=None),
)
add(
    "GritLM/GritLM-7B",
    "decoder",
    "mistral_without_end",
    {
        **MISTRAL,
        "architectures": ["MistralForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_gritlm7b.MistralForCausalLM"},
        "sliding_window": None,
        "torch_dtype": "bfloat16",
        "head_dim": 8,
    },
    plain=True,
    reference="gritlm",
)
add(
    "nvidia/NV-Embed-v2",
    "nvembed",
    "mistral",
    {
        "add_eos": True,
        "add_pad_token": True,
        "architectures": ["NVEmbedModel"],
        "auto_map": {"AutoConfig": "configuration_nvembed.NVEmbedConfig", "AutoModel": "modeling_nvembed.NVEmbedModel"},
        "hidden_size": 32,
        "is_mask_instruction": True,
        "latent_attention_config": {
            "model_type": "latent_attention",
            "num_latents_value": 6,
            "num_cross_heads": 2,
            "cross_dim_head": 10,
            "hidden_dim": 32,
            "latent_dim": 32,
            "mult": 4,
            "output_normalize": True,
        },
        "mask_type": "b",
        "model_type": "nvembed",
        "padding_side": "right",
        "text_config": {
            **{k: v for k, v in MISTRAL.items() if k not in ("torch_dtype", "transformers_version", "use_cache")},
            "model_type": "bidir_mistral",
            "sliding_window": None,
            "head_dim": 8,
        },
        "torch_dtype": "float16",
    },
    plain=True,
    reference="nvembed",
)
GEMMA = {
    "architectures": ["Gemma3TextModel"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 12,
    "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "max_position_embeddings": 2048,
    "model_type": "gemma3_text",
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 12,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 16,
    "torch_dtype": "float32",
    "transformers_version": "4.57.0.dev0",
    "use_bidirectional_attention": True,
    "use_cache": True,
    **SMALL,
    "num_hidden_layers": 3,
}
add(
    "google/embeddinggemma-300m",
    "gemma3",
    "gemma",
    GEMMA,
    pooling("mean_tokens", prompt=True),
    dense(48),
    dense(32, inputs=48),
    UNIT,
    limit=2048,
    bert={"do_lower_case": False},
    settings=versions(
        "5.1.0",
        "4.57.0.dev0",
        "2.8.0+cu128",
        prompts={
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
            "BitextMining": "task: search result | query: ",
        },
        default_prompt_name=None,
        model_type="SentenceTransformer",
        similarity_fn_name="cosine",
    ),
)
add(
    "BAAI/bge-multilingual-gemma2",
    "gemma2",
    "gemma",
    {
        "architectures": ["Gemma2Model"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "cache_implementation": "hybrid",
        "head_dim": 12,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "initializer_range": 0.02,
        "max_position_embeddings": 8192,
        "model_type": "gemma2",
        "num_key_value_heads": 2,
        "query_pre_attn_scalar": 12,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 16,
        "sliding_window_size": 16,
        "torch_dtype": "float32",
        "transformers_version": "4.41.2",
        "use_cache": False,
        **SMALL,
    },
    LAST,
    UNIT,
    limit=8192,
    bert={"do_lower_case": False},
    settings=versions(
        "2.7.0.dev0",
        "4.41.2",
        "2.3.0",
        prompts={"web_search_query": f"<instruct>{INSTRUCT[10:-8]}\n<query>"},
        default_prompt_name=None,
    ),
)
add(
    "EuroBERT/EuroBERT-210m",
    "eurobert",
    "eurobert",
    {
        "architectures": ["EuroBertForMaskedLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "auto_map": {
            "AutoConfig": "configuration_eurobert.EuroBertConfig",
            "AutoModel": "modeling_eurobert.EuroBertModel",
        },
        "clf_pooling": "late",
        "head_dim": 8,
        "hidden_act": "silu",
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "mask_token": "<|mask|>",
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "model_type": "eurobert",
        "num_key_value_heads": 4,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 250000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.0.dev0",
        "use_cache": False,
        **SMALL,
    },
    plain=True,
    since=5,
)
add(
    "jinaai/jina-embeddings-v2-base-code",
    "jina v2 code",
    "roberta",
    {
        **JINA,
        "architectures": ["JinaBertForMaskedLM"],
        "auto_map": {
            "AutoConfig": "jinaai/jina-bert-v2-qk-post-norm--configuration_bert.JinaBertConfig",
            "AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel",
        },
    },
    MEAN36,
    limit=8192,
    bert={"do_lower_case": False},
    settings=versions("2.2.2", "4.31.0", "2.0.1"),
    reference="jina_v2_code",
)

# other kinds of vectors
MLM = {**BERT, "architectures": ["BertForMaskedLM"]}
SPARSE = "sentence_transformers.sparse_encoder.models."
SPLADE = ("SpladePooling", {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": None})
for _name in ("naver/splade-v3", "prithivida/Splade_PP_en_v1"):
    add(
        _name,
        "bert mlm",
        "wordpiece",
        MLM,
        SPLADE,
        limit=512,
        bert={"do_lower_case": False},
        settings=versions(
            "5.0.0",
            "4.52.4",
            "2.6.0",
            model_type="SparseEncoder",
            prompts={"query": "", "document": ""},
            default_prompt_name=None,
            similarity_fn_name="dot",
        ),
        kind="sparse",
    )
add(
    "minishlab/potion-base-8M",
    "static",
    "wordpiece",
    {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": "baai/bge-base-en-v1.5",
        "apply_pca": 32,
        "apply_zipf": True,
        "hidden_dim": 32,
        "seq_length": 1000000,
        "normalize": True,
    },
    ("StaticEmbedding", {}),
    UNIT,
)
add(
    "sentence-transformers/static-retrieval-mrl-en-v1",
    "static",
    "wordpiece",
    {},
    ("StaticEmbedding", {"folder": "0_StaticEmbedding"}),
    settings=versions(
        "3.3.0.dev0", "4.48.0.dev0", "2.5.0+cu121", prompts={}, default_prompt_name=None, similarity_fn_name="cosine"
    ),
)
