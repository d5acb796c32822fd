"""Folders of OpenCLIP: its own names of settings and weights, for vision transformers, CoCa's pooler and EVA-CLIP.

open_clip_config.json holds `model_cfg` and `preprocess_cfg`. The image model's weights begin in "visual."; those of a
text model in "text.", or in nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edge_embed_export.families import eva, timmsiglip
from edge_embed_export.families.pictures import ImageTower, PictureReader, check_dim
from edge_embed_export.families.poolers import read_coca_pooler
from edge_embed_export.files.accounting import Keys
from edge_embed_export.files.openclip import OPEN_CLIP
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.spec import Array, Step
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import UnsupportedModelError

LAYER = {
    "out": "attn.out_proj",
    "attention_norm": "ln_1",
    "output_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
# What OpenCLIP takes where the config does not say it: settings of an image model that are read.
USUAL: dict[str, Any] = {
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "patch_size": 16,
    "image_size": 224,
    "attentional_pool": False,
    "attn_pooler_heads": 8,
    "pool_type": "tok",
}
# Kinds of layers that no published model has.
CUSTOM = ("block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
TIMM = ("timm_model_name", "timm_pool", "timm_proj", "timm_proj_bias")
# What the text model's parts are called there and in transformers.
TEXT = {
    "token_embedding.": "text_model.embeddings.token_embedding.",
    "ln_final.": "text_model.final_layer_norm.",
}
BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}


def read(checkpoint: Checkpoint, front: dict[str, Any]) -> ImageTower:
    """The image model of an OpenCLIP folder, whose config.json is open_clip_config.json."""
    model = _part(checkpoint.config, "model_cfg")
    vision = _part(model, "vision_cfg")
    made = _of_timm if vision.get("timm_model_name") else _own
    tower = made(checkpoint, vision, front)
    check_dim(checkpoint, tower, model.get("embed_dim"))
    return tower


def _own(checkpoint: Checkpoint, vision: Mapping[str, Any], front: dict[str, Any]) -> ImageTower:
    """OpenCLIP's VisionTransformer."""
    read = PictureReader(checkpoint, "visual.conv1.weight", vision, front, USUAL)
    read.fixed()
    for name in CUSTOM:
        if vision.get(name):
            raise read.error(f"vision_cfg.{name} is {vision[name]!r:.40}, which is not supported")
    if isinstance(vision.get("layers"), list):
        raise UnsupportedModelError(
            f"{checkpoint.folder}: its image model is a convolutional network (ResNet), which is read as an ONNX file"
        )
    read.patches("visual.conv1")
    table = read.tensor("visual.positional_embedding", 2)
    first = read.tensor("visual.class_embedding", 1)
    read.weights |= {"positions": table[1:], "prefix": np.asarray(first)[None] + np.asarray(table[:1])}
    if vision.get("no_ln_pre") is not True:
        read.norm("embedding.norm", "visual.ln_pre")
    layers = _layers(read)
    heads, left = divmod(read.count("width"), read.count("head_width"))
    if left:
        raise read.error(f"width {read.count('width')} cannot be split into heads of {read.count('head_width')}")
    ending = _ending(read, vision)
    return read.tower(
        OPEN_CLIP,
        **ending,
        layers=layers,
        hidden=read.count("width"),
        heads=heads,
        intermediate=read.weights["layers.0.up.weight"].shape[1],
        activation=activation(_part(checkpoint.config, "model_cfg"), vision),
        norm_eps=epsilon(vision),
    )


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else Keys({})


def activation(model: Mapping[str, Any], part: Mapping[str, Any]) -> Activation:
    """Of a model's layers. part: `vision_cfg` or `text_cfg`"""
    given = part.get("act_kwargs")
    tanh = isinstance(given, dict) and given.get("approximate") == "tanh"
    if model.get("quick_gelu") is True:
        return "quick_gelu"
    return "gelu_tanh" if tanh else "gelu"


def epsilon(part: Mapping[str, Any]) -> float:
    given = part.get("norm_kwargs")
    return float(given.get("eps", 1e-5)) if isinstance(given, dict) else 1e-5


def _layers(read: PictureReader) -> int:
    count = read.count("layers")
    for i in range(count):
        theirs = f"visual.transformer.resblocks.{i}"
        for ours, name in LAYER.items():
            take = read.norm if ours.endswith("norm") else read.linear
            take(f"layers.{i}.{ours}", f"{theirs}.{name}")
        whole = {"weight": read.tensor(f"{theirs}.attn.in_proj_weight", 2)}
        whole["bias"] = read.tensor(f"{theirs}.attn.in_proj_bias", 1)
        for part, array in whole.items():
            for name, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                read.weights[f"layers.{i}.{name}.{part}"] = rows.T
        for name, scale in (("out", "ls_1"), ("down", "ls_2")):
            if read.has(f"{theirs}.{scale}.gamma"):
                read.scaled(f"layers.{i}.{name}", read.tensor(f"{theirs}.{scale}.gamma", 1))
    return count


def _ending(read: PictureReader, vision: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a vector of the final tokens: arguments of `PictureReader.tower`."""
    pool = read.config["pool_type"]
    if pool not in ("tok", "avg"):
        raise read.error(f"vision_cfg.pool_type {pool!r:.40} is not supported ('tok' and 'avg' are)")
    attentional, projection = read.config["attentional_pool"], read.tensor("visual.proj", 2)
    if not attentional:
        read.norm("final_norm", "visual.ln_post")
        read.weights["projection.0.weight"] = projection
        late = vision.get("final_ln_after_pool") is True
        return {"pooling": "class" if pool == "tok" else "patches", "early": not late, "steps": (Step("linear"),)}
    if attentional is not True or pool != "tok":
        raise read.error(f"vision_cfg.attentional_pool {attentional!r:.40} with pool_type {pool!r} is not supported")
    if epsilon(vision) != 1e-5:
        raise read.error("vision_cfg.norm_kwargs is not supported beside attentional_pool")
    pooler = read_coca_pooler(read, read.count("attn_pooler_heads"), "visual.attn_pool")
    read.norm("projection.0", "visual.ln_post")
    read.weights["projection.1.weight"] = projection
    return {"pooler": pooler, "early": False, "steps": (Step("norm"), Step("linear"))}


def _of_timm(checkpoint: Checkpoint, vision: Mapping[str, Any], front: dict[str, Any]) -> ImageTower:
    """An image model of timm, by its name there."""
    settings = {name: vision.get(name) for name in TIMM}
    name, ending = str(settings["timm_model_name"]), (settings["timm_pool"], settings["timm_proj"] or "")
    reads, expected = (eva.read, ("token", "")) if name in eva.MODELS else (timmsiglip.read, ("map", "none"))
    if name not in eva.MODELS and name not in timmsiglip.MODELS:
        known = listed([*eva.MODELS, *timmsiglip.MODELS])
        raise UnsupportedModelError(
            f"{checkpoint.folder}: the image model {name!r:.60} of timm is not supported ({known} are)"
        )
    if ending != expected:
        raise UnsupportedModelError(
            f"{checkpoint.folder}: timm_pool {ending[0]!r:.40} with timm_proj {ending[1]!r:.40} is not supported for "
            f"{name} ({expected[0]!r} with {expected[1]!r} is)"
        )
    size = vision.get("image_size")
    if size is not None and size != front["size"][0]:
        raise UnsupportedModelError(f"{checkpoint.folder}: image_size is {size!r:.40}, the front end's {front['size']}")
    return reads(checkpoint, name, front)


def text_as_transformers(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> tuple[Keys, dict[str, Array]]:
    """The text model of an OpenCLIP folder under transformers' names of CLIP: config.json and weights.

    `text_config` has the settings that CLIP's has, and under their own names those of OpenCLIP that it has not
    (pool_type, no_causal_mask, embed_cls, pad_id, proj_type). Tensors that are not a layer's keep their names behind
    "text_model.": "text_model.cls_emb".
    """
    model = _part(config, "model_cfg")
    text = _part(model, "text_cfg")
    width = int(text.get("width", 512))
    own = {name: text.get(name) for name in OWN_TEXT if text.get(name) is not None}
    settings = {
        **own,
        "hidden_size": width,
        "num_hidden_layers": text.get("layers", 12),
        "num_attention_heads": text.get("heads", 8),
        "intermediate_size": int(width * float(text.get("mlp_ratio", 4.0))),
        "vocab_size": text.get("vocab_size", 49408),
        "max_position_embeddings": text.get("context_length", 77),
        "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh"}.get(activation(model, text), activation(model, text)),
        "layer_norm_eps": epsilon(text),
        # the token with the largest id, as the library has it for this number
        "eos_token_id": text.get("eos_id", 2) if own.get("pool_type") == "eos" else 2,
    }
    found = dict(_text_tensors(tensors))
    return Keys({"model_type": "clip", "projection_dim": model.get("embed_dim"), "text_config": settings}), found


OWN_TEXT = ("pool_type", "no_causal_mask", "embed_cls", "pad_id", "proj_type", "proj_bias", "hf_model_name")


def _text_tensors(tensors: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    prefix = "text." if any(name.startswith("text.") for name in tensors) else ""
    for name in tensors:
        own = name.removeprefix(prefix)
        if not name.startswith(prefix) or own.startswith(("visual.", "logit_", "text_decoder.")):
            continue
        if own == "positional_embedding":
            yield "text_model.embeddings.position_embedding.weight", tensors[name]
        elif own == "text_projection":
            yield "text_projection.weight", tensors[name].T
        elif own.startswith("text_projection."):
            yield own, tensors[name]
        elif own.startswith("transformer.resblocks."):
            yield from _text_block(own.removeprefix("transformer.resblocks."), tensors[name])
        else:
            start = next((theirs for theirs in TEXT if own.startswith(theirs)), "")
            yield (TEXT[start] + own.removeprefix(start) if start else f"text_model.{own}"), tensors[name]


def _text_block(name: str, array: Array) -> Iterator[tuple[str, Array]]:
    """name: "3.attn.in_proj_weight" """
    number, _, part = name.partition(".")
    layer = f"text_model.encoder.layers.{number}."
    if part.startswith("attn.in_proj_"):
        for own, rows in zip("qkv", np.split(array, 3), strict=True):
            yield f"{layer}self_attn.{own}_proj.{part.removeprefix('attn.in_proj_')}", rows
        return
    start = next((theirs for theirs in BLOCK if part.startswith(theirs)), "")
    yield layer + (BLOCK[start] + part.removeprefix(start) if start else part), array
