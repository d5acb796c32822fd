"""Code of its own that a folder names (`auto_map` of config.json). It is never run: the model is one of a known family
where its classes are those that the family was written after, else nobody here knows what it computes.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import is_ignored
from edge_embed_runtime.errors import UnsupportedModelError

# Names of classes that are known, by `model_type`, or by `position_embedding_type` where that makes another model of
# it. Whether the tokens of a decoder see both ways is asked for besides, see `purpose.check_own_code`.
KNOWN: dict[str, str] = {
    "alibi": r"JinaBert\w+",
    "rotary": r"XLMRoberta\w+",
    "jina_bert": r"JinaBert\w+",
    "jina_embeddings_v3": r"XLMRoberta\w+|JinaEmbeddingsV3\w+",
    "nomic_bert": r"NomicBert\w+",
    "new": r"New\w+",
    "gte": r"(Gte|New)\w+",
    "codet5p_embedding": r"CodeT5pEmbedding\w+",
    "eurobert": r"EuroBert\w+",
    "ultrabert": r"UltraBert\w+",
    "llama_bidirec": r"LlamaBidirectional\w+",
    "nvembed": r"(NVEmbed|LatentAttention|BidirectionalMistral)\w+",
    **{
        kind: rf"{name}(Bi|Encoder|Bidirectional)?(Model|Config|For(CausalLM|SequenceClassification))"
        for kind, name in {
            "gemma": "Gemma",
            "gemma2": "Gemma2",
            "gemma3_text": "Gemma3(Text)?",
            "llama": "Llama",
            "ministral": "Ministral",
            "mistral": "Mistral",
            "qwen2": "Qwen2",
            "qwen3": "Qwen3",
        }.items()
    },
}


def own_classes(config: Mapping[str, Any], *parts: str) -> Iterator[str]:
    """What auto_map names for those of its parts that begin as is said: "owner/repo--module.Class"."""
    named = config.get("auto_map")
    for part, name in named.items() if isinstance(named, dict) else ():
        if part.startswith(parts):
            yield str(name)


def check_known_code(folder: Path, config: dict[str, Any]) -> None:
    """Raise UnsupportedModelError for code that may make another model of one whose `model_type` is known.

    Code of tokenizers is not asked for here.
    """
    kinds = tuple(str(dict.get(config, name)) for name in ("position_embedding_type", "model_type"))  # not asked for
    known = next((KNOWN[kind] for kind in kinds if kind in KNOWN), r"(?!)")
    for name in own_classes(config, "AutoModel", "AutoConfig"):
        if not re.fullmatch(known, name.rsplit(".", 1)[-1]) and not is_ignored("auto_map"):
            raise UnsupportedModelError(
                f"{folder / 'config.json'}: auto_map names code of its own ({name:.100}), which is never run, and it "
                f"is not known here what it makes of a {kinds[1]} model. If it computes what transformers does for "
                f"{kinds[1]}: --ignore auto_map",
                architecture=kinds[1],
            )
