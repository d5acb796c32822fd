"""Models of pictures, films and texts that are known by name and not converted, and why: the one table of them.

What stands here is refused by `edge-embed export` with this reason, and docs/families.md has a row for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Declined:
    """Models that an export refuses.

    types: values of `model_type` in config.json
    why:   the end of a sentence that begins with the model's name
    """

    title: str
    types: tuple[str, ...]
    why: str


PAIRS = (
    "reads a picture and a text together and scores the two: a cross-encoder for pairs. It gives neither of them a "
    "vector of its own, so nothing can be indexed"
)
DECODER = (
    "is a language model that reads pictures among its words (of any size, with positions in several directions, and "
    "billions of weights): there is no form for that here, and nothing about it is proven"
)
DECLINED: tuple[Declined, ...] = (
    Declined("ViLT (also FLAN-ViLT)", ("vilt",), PAIRS),
    Declined("VisualBERT, LXMERT, BridgeTower, UNITER", ("visual_bert", "lxmert", "bridgetower", "uniter"), PAIRS),
    Declined(
        "SigLIP 2 NaFlex",
        ("siglip2", "siglip2_vision_model", "siglip2_text_model"),
        "reads pictures of every shape as lists of patches with a mask, cut by its processor: the towers here read "
        "pictures of one size. SigLIP 2 of fixed size (siglip2-*-patch16-224 and the like) is converted",
    ),
    Declined(
        "A decoder that reads pictures (VLM2Vec, GME, ColPali)",
        (
            *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "phi3_v", "llava", "llava_next", "llava_onevision", "paligemma"),
            *("mllama", "idefics2", "idefics3", "smolvlm", "internvl_chat", "internvl", "gemma3", "qwen2_5_omni"),
            *("colpali", "colqwen2", "colmodernvbert", "modernvbert", "llama_nemotron_vl", "jina_embeddings_v4"),
        ),
        DECODER,
    ),
    Declined(
        "A model of films",
        ("xclip", "videomae", "vivit", "timesformer", "vjepa2", "video_llava"),
        "reads a film's frames together: there is no tower for films. Pictures of its frames can be indexed with any "
        "model of pictures, each as a picture of its own; nothing about searching films so is proven",
    ),
    Declined(
        "UniCLIP",
        ("uniclip",),
        "has no published weights or config of its own that could be read. Weights in CLIP's layout are converted as "
        "CLIP's are",
    ),
    Declined(
        "BLIP (the first)",
        ("blip",),
        "has towers that could be compared and no reader here: nothing about it is proven. BLIP-2 for retrieval is "
        "converted",
    ),
    Declined(
        "ALIGN",
        ("align",),
        "has a convolutional picture tower, which is taken as an ONNX graph alone, with --modality image",
    ),
    Declined(
        "FLAVA, GroupViT, OWL-ViT, CLIPSeg",
        ("flava", "groupvit", "owlvit", "owlv2", "clipseg"),
        "has layers between CLIP's and its output that are not known here",
    ),
)


def declined(config: Mapping[str, Any]) -> str:
    """Why a model with this config.json is refused, as a sentence; "" where it is not."""
    kind = config.get("model_type")
    row = next((row for row in DECLINED if kind in row.types), None)
    return "" if row is None else f"{row.title} ({kind}) {row.why}"
