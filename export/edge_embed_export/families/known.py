"""The families that are known, one module each, and which of them a checkpoint is of."""

from typing import Any

from edge_embed_export.families import (
    albert,
    bert,
    deberta,
    decoder,
    distilbert,
    gemma2,
    gte,
    jina,
    modernbert,
    mpnet,
    nomic,
    t5,
    vision,
)
from edge_embed_export.families.classifiers import check_classifier, with_classifier
from edge_embed_export.families.family import Family
from edge_embed_export.families.leftovers import account
from edge_embed_export.families.texttowers import TEXT_TOWERS
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.sources.owncode import check_known_code
from edge_embed_export.transformer.spec import Spec, Weights, check
from edge_embed_runtime.errors import ExportError, UnsupportedModelError
from edge_embed_runtime.vectors.kinds import RERANK

DECODERS = (decoder.read, decoder.read_gemma, gemma2.read)

# The first that fits is taken.
FAMILIES: tuple[Family, ...] = (
    Family(
        "Jina v2",
        ("bert", "jina_bert"),
        "post-norm, ALiBi, gated",
        ("jina-embeddings-v2-small-en", "jina-embeddings-v2-base-en, -de, -es, -zh, -code"),
        jina.read_v2,
        jina.is_v2,
    ),
    Family(
        "Jina v3",
        ("xlm-roberta", "jina_embeddings_v3"),
        "post-norm, rotary, task LoRA",
        ("jina-embeddings-v3",),
        jina.read_v3,
        jina.is_v3,
        jina.with_task,
    ),
    Family(
        "BERT, ERNIE",
        ("bert", "ernie"),
        "post-norm, absolute positions",
        (
            "all-MiniLM-L6-v2, -L12-v2",
            "bge-small, -base, -large",
            "e5-small, -base, -large",
            "gte-small, -base, -large",
            "snowflake-arctic-embed-xs, -s, -m, -l",
            "mxbai-embed-large-v1",
            "LaBSE",
            "ernie-3.0-base-zh",
        ),
        bert.read,
    ),
    Family(
        "RoBERTa, XLM-R",
        ("roberta", "xlm-roberta", "camembert", "data2vec-text"),
        "post-norm, absolute positions behind the padding index",
        (
            "all-distilroberta-v1",
            "multilingual-e5-small (bert), -base, -large, -large-instruct",
            "bge-m3",
            "snowflake-arctic-embed-l-v2.0",
            "paraphrase-multilingual-mpnet-base-v2",
            "unixcoder-base",
        ),
        bert.read_roberta,
    ),
    Family(
        "RoBERTa, XLM-R, pre-norm",
        ("roberta-prelayernorm", "xlm-roberta-xl"),
        "pre-norm, absolute positions behind the padding index",
        ("xlm-roberta-xl", "efficient_mlm_m0.40"),
        bert.read_roberta,
    ),
    Family(
        "Megatron-BERT",
        ("megatron-bert",),
        "pre-norm, absolute positions",
        ("megatron-bert-uncased-345m",),
        bert.read,
    ),
    Family(
        "DistilBERT",
        ("distilbert",),
        "post-norm, absolute positions",
        ("msmarco-distilbert-base-v4", "distiluse-base-multilingual-cased-v2"),
        distilbert.read,
    ),
    Family(
        "ALBERT",
        ("albert",),
        "post-norm, narrow embeddings, shared layers",
        ("paraphrase-albert-small-v2",),
        albert.read,
    ),
    Family("ELECTRA", ("electra",), "post-norm, narrow embeddings", ("electra-small-discriminator",), bert.read),
    Family(
        "MPNet",
        ("mpnet",),
        "post-norm, absolute and relative positions",
        ("all-mpnet-base-v2", "multi-qa-mpnet-base-cos-v1"),
        mpnet.read,
    ),
    Family(
        "DeBERTa",
        ("deberta",),
        "post-norm, disentangled positions",
        ("deberta-base, -large",),
        deberta.read_v1,
    ),
    Family(
        "DeBERTa v2, v3",
        ("deberta-v2",),
        "post-norm, disentangled positions",
        ("deberta-v3-small, -base, -large", "mdeberta-v3-base"),
        deberta.read,
    ),
    Family(
        "ModernBERT",
        ("modernbert",),
        "pre-norm, rotary, windows, gated",
        ("gte-modernbert-base", "granite-embedding-english-r2, -small-english-r2", "modernbert-embed-base"),
        modernbert.read,
    ),
    Family(
        "NomicBERT",
        ("nomic_bert",),
        "post-norm, rotary, gated or a mixture of experts",
        ("nomic-embed-text-v1, -v1.5", "nomic-embed-text-v2-moe", "snowflake-arctic-embed-m-long"),
        nomic.read,
    ),
    Family(
        "GTE",
        ("new", "gte"),
        "post-norm, rotary with NTK scaling, gated",
        ("gte-base-en-v1.5, -large-en-v1.5", "gte-multilingual-base", "snowflake-arctic-embed-m-v2.0"),
        gte.read,
    ),
    Family(
        "T5 encoder",
        ("t5", "mt5", "umt5"),
        "pre-norm (RMS), relative positions, plain or gated",
        ("sentence-t5-base, -large", "gtr-t5-base, -large", "mt5-small, -base", "umt5-small, -base"),
        t5.read,
    ),
    Family(
        "CodeT5+ embedding",
        ("codet5p_embedding",),
        "T5 encoder, first token through a layer",
        ("codet5p-110m-embedding",),
        t5.read_codet5p,
    ),
    Family(
        "Llama, Mistral, Qwen",
        ("mistral", "ministral", "qwen2", "qwen3", "llama", "llama_bidirec"),
        "pre-norm (RMS), rotary, causal or not, grouped queries, gated",
        ("Qwen3-Embedding-0.6B", "e5-mistral-7b-instruct", "GritLM-7B", "gte-Qwen2-1.5B-instruct"),
        decoder.read,
    ),
    Family(
        "EuroBERT",
        ("eurobert",),
        "pre-norm (RMS), rotary, grouped queries, gated",
        ("EuroBERT-210m, -610m",),
        decoder.read_encoder,
    ),
    Family(
        "UltraBERT",
        ("ultrabert",),
        "pre-norm (RMS), rotary, windows, grouped queries, gated",
        (),
        decoder.read_ultrabert,
    ),
    Family(
        "NV-Embed",
        ("nvembed",),
        "Mistral seeing both sides, latent attention",
        ("NV-Embed-v1, -v2",),
        decoder.read_nvembed,
    ),
    Family(
        "Gemma 2",
        ("gemma2",),
        "norms on both sides (RMS), rotary, windows, capped scores, grouped queries, gated",
        ("bge-multilingual-gemma2",),
        gemma2.read,
    ),
    Family(
        "Gemma 3",
        ("gemma3_text",),
        "norms on both sides (RMS), rotary, windows, grouped queries, gated",
        ("embeddinggemma-300m",),
        decoder.read_gemma,
    ),
)


# All of them: the first that fits is taken.
EVERY = (*FAMILIES, *TEXT_TOWERS)

# What else can be exported, in the form of `describe`: no families of this graph.
OTHERS: tuple[dict[str, Any], ...] = (
    {
        "family": "SPLADE, ColBERT",
        "model_types": [],
        "parts": "a sparse head, or a vector for each token, on BERT, DistilBERT, RoBERTa, MPNet or ModernBERT",
        "checkpoints": ["splade-v3", "splade-tiny", "colbertv2.0"],
    },
    {
        "family": "cross-encoders",
        "model_types": [],
        "parts": "a sequence classification head, which scores pairs of texts, on BERT, RoBERTa, XLM-R, DistilBERT, "
        "ALBERT, ELECTRA, MPNet, DeBERTa or ModernBERT",
        "checkpoints": [
            "ms-marco-MiniLM-L6-v2",
            "bge-reranker-base, -large",
            "bge-reranker-v2-m3",
            "nli-deberta-v3-base",
        ],
    },
    {
        "family": "ELMo",
        "model_types": [],
        "parts": "characters, CNN, two-directional LSTM; options.json and model.safetensors",
        "checkpoints": [],
    },
    {
        "family": "static",
        "model_types": [],
        "parts": "a table of token vectors: model2vec, StaticEmbedding, WordLlama; GloVe and word2vec files",
        "checkpoints": ["potion-base-8M", "static-retrieval-mrl-en-v1"],
    },
    {
        "family": "any other",
        "model_types": [],
        "parts": "ONNX files and folders, float or quantized; with --general whatever transformers has, through torch",
        "checkpoints": [],
    },
)


def describe() -> list[dict[str, Any]]:
    """The families for people and programs: family, model_types (of config.json), parts, checkpoints; then others."""
    return [
        {
            "family": family.title,
            "model_types": list(family.types),
            "parts": family.parts,
            "checkpoints": list(family.checkpoints),
        }
        for family in EVERY
    ] + [*vision.ROWS, *OTHERS]


def is_known(kind: object) -> bool:
    """Whether a family has this `model_type`."""
    return any(kind in family.types for family in EVERY)


def read_family(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Spec and weights of a checkpoint, by its `model_type`."""
    kind = checkpoint.architecture
    family = next((family for family in EVERY if kind in family.types and family.when(checkpoint)), None)
    if family is None:
        code = ", and code in the folder is never run" if checkpoint.config.get("auto_map") else ""
        raise UnsupportedModelError(
            f"{checkpoint.folder}: the architecture {kind!r} is not known to this exporter "
            f"(known: {', '.join(sorted({kind for family in EVERY for kind in family.types}))}){code}. The general "
            "path converts it through torch where transformers knows it: pip install 'edge-embed[general]', then "
            "edge-embed export --general. An ONNX file of it is taken as well",
            architecture=kind,
        )
    _check_task(checkpoint, family)
    checkpoint = family.prepare(checkpoint)
    if checkpoint.attention is not None and family.read not in DECODERS:
        raise ExportError(f"{checkpoint.folder}: --attention is for decoders; a {family.title} model sees both sides")
    pairs = checkpoint.head.kind is RERANK
    if pairs:
        check_classifier(checkpoint, known=family.read not in (jina.read_v2, jina.read_v3))
    try:
        spec, weights = family.read(checkpoint)
        if pairs:
            spec, weights = with_classifier(checkpoint, spec, weights)
    except (ValueError, IndexError) as error:  # numpy's, of tensors whose shapes do not fit each other
        raise ExportError(f"{checkpoint.folder}: tensors do not fit each other: {error}") from error
    try:
        check(spec, weights)
    except ExportError as error:
        raise ExportError(f"{checkpoint.folder}: {error}; the weights and config.json do not belong together") from None
    check_known_code(checkpoint.folder, checkpoint.config)
    account(checkpoint)
    return spec, weights


def _check_task(checkpoint: Checkpoint, family: Family) -> None:
    known = jina.tasks(checkpoint) if family.read is jina.read_v3 else []
    if checkpoint.task is not None and checkpoint.task not in known:
        raise ExportError(
            f"{checkpoint.folder}: task {checkpoint.task!r} is none of the model's: {known or 'it has none'}"
        )
