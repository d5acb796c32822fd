"""Text towers of models of pictures and of sounds, one module each. What reads their pictures is in vision.py."""

from edge_embed_export.families import (
    berttext,
    claptext,
    cliptext,
    opencliptext,
    qformertext,
    sigliptext,
)
from edge_embed_export.families.family import Family

TEXT_TOWERS: tuple[Family, ...] = (
    Family(
        "CLIP, MetaCLIP: text",
        ("clip", "clip_text_model"),
        "pre-norm, causal, absolute positions, end token through a layer",
        ("clip-vit-base-patch32, -large-patch14", "metaclip-b32-400m"),
        cliptext.read,
    ),
    Family(
        "MetaCLIP 2: text",
        ("metaclip_2", "metaclip_2_text_model"),
        "as CLIP's, with XLM-R's tokens",
        ("metaclip-2-worldwide-huge-quickgelu",),
        cliptext.read,
    ),
    Family(
        "CLAP: text",
        ("clap", "clap_text_model"),
        "RoBERTa, first token through a pooler and two layers",
        ("clap-htsat-unfused, -fused", "larger_clap_general"),
        claptext.read,
    ),
    Family(
        "SigLIP, SigLIP 2 of fixed size: text",
        ("siglip", "siglip_text_model"),
        "pre-norm, absolute positions, texts filled up to one length, last token through a layer",
        ("siglip-base-patch16-224, siglip-so400m-patch14-384", "siglip2-base-patch16-224"),
        sigliptext.read,
    ),
    Family(
        "BLIP-2: text",
        ("blip-2",),
        "post-norm, absolute positions, first token through a layer",
        ("blip2-itm-vit-g",),
        qformertext.read,
    ),
    Family(
        "Chinese-CLIP: text",
        ("chinese_clip",),
        "BERT, first token through a layer",
        ("chinese-clip-vit-base-patch16",),
        berttext.read_chinese_clip,
    ),
    Family(
        "AltCLIP: text",
        ("altclip",),
        "XLM-R, first token through a norm and two layers",
        ("AltCLIP", "AltCLIP-m18"),
        berttext.read_altclip,
    ),
    Family(
        "OpenCLIP: text",
        ("open_clip",),
        "CLIP's, SigLIP's, CoCa's with its class token, or RoBERTa or XLM-R with a projection",
        ("CLIP-ViT-B-32-laion2B-s34B-b79K", "CoCa-ViT-B-32-laion2B-s13B-b90k", "CLIP-ViT-B-32-xlm-roberta-base"),
        opencliptext.read,
    ),
)
