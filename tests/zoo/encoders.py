"""BERT and its relations."""

from zoo.rows import BERT, CLS, MEAN, OLD, ROBERTA, SMALL, UNIT, XLMR, add, dense, versions

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
    tokenizer={"lower": False, "kind": "DistilBertTokenizer"},
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
    tokenizer={"kind": "DistilBertTokenizer"},
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
