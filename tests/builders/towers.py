"""Small random models of pictures in the layouts of the published ones: config and tensors, made without torch."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from builders.architectures import Tensors
from builders.pictures import CLIP_MEAN, CLIP_STD

HIDDEN, HEADS, INNER, LAYERS, DIM = 64, 4, 96, 3, 40
PATCH, SIDE = 8, 32
GRID = SIDE // PATCH
Config = dict[str, Any]

VISION: Config = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_channels": 3,
    "image_size": SIDE,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-5,
    "attention_dropout": 0.0,
}
DINO: Config = {
    "model_type": "dinov2",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "mlp_ratio": 2,
    "hidden_act": "gelu",
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_channels": 3,
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "layerscale_value": 1.0,
    "use_swiglu_ffn": False,
    "hidden_dropout_prob": 0.0,
}


@dataclass(frozen=True)
class Family:
    """fill: adds tensors; side: of its pictures; space: what a vector has"""

    config: Config
    fill: Callable[[Tensors], None]
    side: int = SIDE
    dim: int = DIM


def front(side: int = SIDE) -> Config:
    """CLIP's preprocessor_config.json for pictures of this side."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
    }


def linear(t: Tensors, name: str, outer: int, inner: int, *, bias: bool = True) -> None:
    """A layer whose outputs are as large as its inputs, so that many layers neither grow nor fade."""
    t.add(f"{name}.weight", outer, inner, scale=0.7 * inner**-0.5)
    if bias:
        t.add(f"{name}.bias", outer)


def norms(t: Tensors, *names: str, width: int = HIDDEN) -> None:
    for name in names:
        t.add(f"{name}.weight", width, centre=1.0)
        t.add(f"{name}.bias", width)


def conv(t: Tensors, name: str, hidden: int = HIDDEN, *, bias: bool) -> None:
    t.add(f"{name}.weight", hidden, 3, PATCH, PATCH, scale=0.7 * (3 * PATCH * PATCH) ** -0.5)
    if bias:
        t.add(f"{name}.bias", hidden)


def clip_layers(t: Tensors, prefix: str) -> None:
    for i in range(LAYERS):
        layer = f"{prefix}encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(t, f"{layer}.self_attn.{part}", HIDDEN, HIDDEN)
        linear(t, f"{layer}.mlp.fc1", INNER, HIDDEN)
        linear(t, f"{layer}.mlp.fc2", HIDDEN, INNER)
        norms(t, f"{layer}.layer_norm1", f"{layer}.layer_norm2")


def clip(t: Tensors, prefix: str = "vision_model.", *, projection: bool = True) -> None:
    t.add(f"{prefix}embeddings.class_embedding", HIDDEN, scale=1.0)
    conv(t, f"{prefix}embeddings.patch_embedding", bias=False)
    t.add(f"{prefix}embeddings.position_embedding.weight", GRID * GRID + 1, HIDDEN, scale=0.5)
    norms(t, f"{prefix}pre_layrnorm", f"{prefix}post_layernorm")
    clip_layers(t, prefix)
    if projection:
        linear(t, "visual_projection", DIM, HIDDEN, bias=False)


def siglip(t: Tensors, prefix: str = "vision_model.") -> None:
    conv(t, f"{prefix}embeddings.patch_embedding", bias=True)
    t.add(f"{prefix}embeddings.position_embedding.weight", GRID * GRID, HIDDEN, scale=0.5)
    norms(t, f"{prefix}post_layernorm", f"{prefix}head.layernorm")
    clip_layers(t, prefix)
    t.add(f"{prefix}head.probe", 1, 1, HIDDEN, scale=1.0)
    t.add(f"{prefix}head.attention.in_proj_weight", 3 * HIDDEN, HIDDEN, scale=0.7 * HIDDEN**-0.5)
    t.add(f"{prefix}head.attention.in_proj_bias", 3 * HIDDEN)
    linear(t, f"{prefix}head.attention.out_proj", HIDDEN, HIDDEN)
    linear(t, f"{prefix}head.mlp.fc1", INNER, HIDDEN)
    linear(t, f"{prefix}head.mlp.fc2", HIDDEN, INNER)


def dino(t: Tensors, *, registers: int = 0, gated: bool = False) -> None:
    t.add("embeddings.cls_token", 1, 1, HIDDEN, scale=1.0)
    t.add("embeddings.mask_token", 1, HIDDEN)
    t.add("embeddings.position_embeddings", 1, GRID * GRID + 1, HIDDEN, scale=0.5)
    if registers:
        t.add("embeddings.register_tokens", 1, registers, HIDDEN, scale=1.0)
    conv(t, "embeddings.patch_embeddings.projection", bias=True)
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            linear(t, f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        inner = 2 * HIDDEN
        if gated:
            inner = (int(inner * 2 / 3) + 7) // 8 * 8
            linear(t, f"{layer}.mlp.weights_in", 2 * inner, HIDDEN)
            linear(t, f"{layer}.mlp.weights_out", HIDDEN, inner)
        else:
            linear(t, f"{layer}.mlp.fc1", inner, HIDDEN)
            linear(t, f"{layer}.mlp.fc2", HIDDEN, inner)
        norms(t, f"{layer}.norm1", f"{layer}.norm2")
        for scale in ("layer_scale1", "layer_scale2"):
            t.add(f"{layer}.{scale}.lambda1", HIDDEN, centre=1.0)
    norms(t, "layernorm")


def open_clip(t: Tensors, *, coca: bool = False) -> None:
    """OpenCLIP's names, the image side."""
    t.add("visual.class_embedding", HIDDEN, scale=1.0)
    t.add("visual.positional_embedding", GRID * GRID + 1, HIDDEN, scale=0.5)
    conv(t, "visual.conv1", bias=False)
    norms(t, "visual.ln_pre")
    for i in range(LAYERS):
        layer = f"visual.transformer.resblocks.{i}"
        t.add(f"{layer}.attn.in_proj_weight", 3 * HIDDEN, HIDDEN, scale=0.7 * HIDDEN**-0.5)
        t.add(f"{layer}.attn.in_proj_bias", 3 * HIDDEN)
        linear(t, f"{layer}.attn.out_proj", HIDDEN, HIDDEN)
        linear(t, f"{layer}.mlp.c_fc", 4 * HIDDEN, HIDDEN)
        linear(t, f"{layer}.mlp.c_proj", HIDDEN, 4 * HIDDEN)
        norms(t, f"{layer}.ln_1", f"{layer}.ln_2")
    width = DIM if coca else HIDDEN
    if coca:
        t.add("visual.attn_pool.query", 6, DIM, scale=1.0)
        for part, inner in (("q", DIM), ("k", HIDDEN), ("v", HIDDEN)):
            t.add(f"visual.attn_pool.attn.{part}_proj_weight", DIM, inner, scale=0.7 * inner**-0.5)
        t.add("visual.attn_pool.attn.in_proj_bias", 3 * DIM)
        linear(t, "visual.attn_pool.attn.out_proj", DIM, DIM)
        norms(t, "visual.attn_pool.ln_q", width=DIM)
        norms(t, "visual.attn_pool.ln_k")
    norms(t, "visual.ln_post", width=width)
    t.add("visual.proj", width, DIM, scale=0.7 * width**-0.5)


EVA_HEADS, EVA_HIDDEN, EVA_INNER = 12, 96, 128


def eva(t: Tensors) -> None:
    """EVA-02-CLIP's base model, under timm's names in OpenCLIP's folder."""
    h, trunk = EVA_HIDDEN, "visual.trunk."
    t.add(f"{trunk}cls_token", 1, 1, h, scale=1.0)
    t.add(f"{trunk}pos_embed", 1, GRID * GRID + 1, h, scale=0.5)
    conv(t, f"{trunk}patch_embed.proj", h, bias=True)
    for i in range(LAYERS):
        block = f"{trunk}blocks.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "proj"):
            linear(t, f"{block}.attn.{part}", h, h, bias=part != "k_proj")
        for part in ("fc1_g", "fc1_x"):
            linear(t, f"{block}.mlp.{part}", EVA_INNER, h)
        linear(t, f"{block}.mlp.fc2", h, EVA_INNER)
        norms(t, f"{block}.norm1", f"{block}.norm2", f"{block}.attn.norm", width=h)
        norms(t, f"{block}.mlp.norm", width=EVA_INNER)
    norms(t, f"{trunk}norm", width=h)
    linear(t, f"{trunk}head", DIM, h)


def timm_siglip(t: Tensors) -> None:
    """SigLIP's model under timm's names in OpenCLIP's folder."""
    h, trunk = EVA_HIDDEN, "visual.trunk."
    conv(t, f"{trunk}patch_embed.proj", h, bias=True)
    t.add(f"{trunk}pos_embed", 1, GRID * GRID, h, scale=0.5)
    for i in range(LAYERS):
        block = f"{trunk}blocks.{i}"
        linear(t, f"{block}.attn.qkv", 3 * h, h)
        linear(t, f"{block}.attn.proj", h, h)
        linear(t, f"{block}.mlp.fc1", EVA_INNER, h)
        linear(t, f"{block}.mlp.fc2", h, EVA_INNER)
        norms(t, f"{block}.norm1", f"{block}.norm2", width=h)
    norms(t, f"{trunk}norm", f"{trunk}attn_pool.norm", width=h)
    t.add(f"{trunk}attn_pool.latent", 1, 1, h, scale=1.0)
    for name, outer, inner in (("q", h, h), ("kv", 2 * h, h), ("proj", h, h), ("mlp.fc1", 80, h), ("mlp.fc2", h, 80)):
        linear(t, f"{trunk}attn_pool.{name}", outer, inner)


def blip2(t: Tensors, layers: int = 2, queries: int = 5, width: int = 48) -> None:
    """BLIP-2's image side: vision_model, and the half of its Q-Former that looks at pictures."""
    prefix = "vision_model."
    t.add(f"{prefix}embeddings.class_embedding", 1, 1, HIDDEN, scale=1.0)
    conv(t, f"{prefix}embeddings.patch_embedding", bias=True)
    t.add(f"{prefix}embeddings.position_embedding", 1, GRID * GRID + 1, HIDDEN, scale=0.5)
    for i in range(LAYERS):
        layer = f"{prefix}encoder.layers.{i}"
        linear(t, f"{layer}.self_attn.qkv", 3 * HIDDEN, HIDDEN)
        linear(t, f"{layer}.self_attn.projection", HIDDEN, HIDDEN)
        linear(t, f"{layer}.mlp.fc1", INNER, HIDDEN)
        linear(t, f"{layer}.mlp.fc2", HIDDEN, INNER)
        norms(t, f"{layer}.layer_norm1", f"{layer}.layer_norm2")
    norms(t, f"{prefix}post_layernorm")
    t.add("query_tokens", 1, queries, width, scale=1.0)
    norms(t, "qformer.layernorm", width=width)
    for i in range(layers):
        layer = f"qformer.encoder.layer.{i}"
        looks = [("crossattention", HIDDEN)] if i % 2 == 0 else []
        for name, seen in [("attention", width), *looks]:
            linear(t, f"{layer}.{name}.attention.query", width, width)
            for part in ("key", "value"):
                linear(t, f"{layer}.{name}.attention.{part}", width, seen)
            linear(t, f"{layer}.{name}.output.dense", width, width)
            norms(t, f"{layer}.{name}.output.LayerNorm", width=width)
        linear(t, f"{layer}.intermediate_query.dense", INNER, width)
        linear(t, f"{layer}.output_query.dense", width, INNER)
        norms(t, f"{layer}.output_query.LayerNorm", width=width)
    linear(t, "vision_projection", DIM, width)


def _open_clip_config(model: Config, **vision: Any) -> Config:
    sizes = {"image_size": SIDE, "layers": LAYERS, "width": HIDDEN, "head_width": HIDDEN // HEADS, "patch_size": PATCH}
    return {"model_type": "open_clip", "model_cfg": {"embed_dim": DIM, "vision_cfg": {**sizes, **vision}, **model}}


TIMM_SIGLIP = {
    "image_size": 36,
    "timm_model_name": "vit_base_patch16_siglip_224",
    "timm_pool": "map",
    "timm_proj": "none",
}
EVA_CFG = {
    "image_size": SIDE,
    "timm_model_name": "eva02_base_patch16_clip_224",
    "timm_pool": "token",
    "timm_proj": None,
}
BLIP_QFORMER = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": INNER}
ALONE = {**VISION, "model_type": "clip_vision_model", "hidden_act": "quick_gelu", "projection_dim": DIM}

FAMILIES: dict[str, Family] = {
    "clip": Family({"model_type": "clip", "vision_config": {**VISION, "hidden_act": "quick_gelu"}}, clip),
    "clip alone": Family(ALONE, clip),
    "clip without projection": Family(ALONE, lambda t: clip(t, projection=False), dim=HIDDEN),
    "clip as transformers 5 saves it alone": Family(ALONE, lambda t: clip(t, "", projection=False), dim=HIDDEN),
    "metaclip 2": Family({"model_type": "metaclip_2", "vision_config": {**VISION, "hidden_act": "gelu"}}, clip),
    "siglip": Family(
        {"model_type": "siglip", "vision_config": {**VISION, "hidden_act": "gelu_pytorch_tanh"}}, siglip, dim=HIDDEN
    ),
    "blip-2": Family({"model_type": "blip-2", "vision_config": VISION, "qformer_config": BLIP_QFORMER}, blip2),
    "dinov2": Family(DINO, dino, dim=HIDDEN),
    "dinov2 of another size": Family(DINO, dino, side=24, dim=HIDDEN),
    "dinov2 giant": Family({**DINO, "use_swiglu_ffn": True}, lambda t: dino(t, gated=True), dim=HIDDEN),
    "dinov2 with registers": Family(
        {**DINO, "model_type": "dinov2_with_registers", "num_register_tokens": 3},
        lambda t: dino(t, registers=3),
        side=24,
        dim=HIDDEN,
    ),
    "open_clip": Family(_open_clip_config({}), open_clip),
    "open_clip quick": Family(_open_clip_config({"quick_gelu": True}), open_clip),
    "open_clip mean": Family(
        _open_clip_config({}, pool_type="avg", final_ln_after_pool=True, act_kwargs={"approximate": "tanh"}), open_clip
    ),
    "coca": Family(
        _open_clip_config({}, attentional_pool=True, attn_pooler_heads=4), lambda t: open_clip(t, coca=True)
    ),
    "open_clip siglip": Family(
        {"model_type": "open_clip", "model_cfg": {"embed_dim": EVA_HIDDEN, "vision_cfg": TIMM_SIGLIP}},
        timm_siglip,
        side=36,
        dim=EVA_HIDDEN,
    ),
    "eva02": Family({"model_type": "open_clip", "model_cfg": {"embed_dim": DIM, "vision_cfg": EVA_CFG}}, eva),
}


def tensors_of(name: str, seed: int = 0) -> Tensors:
    made = Tensors(seed)
    FAMILIES[name].fill(made)
    return made


def write_tower(folder: Path, name: str, **changed: Any) -> Path:
    """A folder of transformers with an image model. changed: keys of config.json"""
    folder.mkdir(parents=True, exist_ok=True)
    family = FAMILIES[name]
    (folder / "config.json").write_text(json.dumps({**family.config, **changed}))
    (folder / "preprocessor_config.json").write_text(json.dumps(front(family.side)))
    save_file(dict(tensors_of(name)), folder / "model.safetensors")
    return folder
