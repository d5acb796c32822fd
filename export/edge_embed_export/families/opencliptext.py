"""Text towers of OpenCLIP folders: CLIP's layout, SigLIP's, CoCa's class token, and RoBERTa or XLM-R as the library's.

open_clip_config.json says which: `model_cfg.text_cfg`. Weights begin in "text." or in nothing (see openclip.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_embed_export.families.bert import read_roberta
from edge_embed_export.families.cliptext import CAUSAL, LAYER, check_end
from edge_embed_export.families.openclip import CUSTOM, text_as_transformers
from edge_embed_export.families.reader import Reader
from edge_embed_export.families.sigliptext import padding_token
from edge_embed_export.files.accounting import Accounted, Keys, refuse_tensors
from edge_embed_export.modules.listed import Module, linear
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.tokenizer.openclip import KEPT, KINDS
from edge_embed_export.transformer.positions import visible
from edge_embed_export.transformer.spec import Filled, Layer, Spec, Step, Weights
from edge_embed_runtime.errors import ExportError, UnsupportedModelError

# The library's models that a text tower may be, by their names on a hub: their type, layers and heads.
NAMED = {
    "roberta-base": ("roberta", 12, 12),
    "xlm-roberta-base": ("xlm-roberta", 12, 12),
    "xlm-roberta-large": ("xlm-roberta", 24, 16),
}
POOLERS = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls"}
POOL_TYPES = ("argmax", "eos", "last", "first")


@dataclass(frozen=True)
class _Form:
    """What text_cfg says. length: tokens of a text; pool: one of POOL_TYPES; padding: the id that fills texts up"""

    length: int
    pool: str
    causal: bool
    appended: bool
    padding: int

    @property
    def filled(self) -> Filled | None:
        """How texts get one length, where what stands behind them counts."""
        counts = not self.causal or self.appended or self.pool == "last"
        return Filled(self.length, self.padding, self.appended) if counts else None


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    text = _text_cfg(checkpoint)
    if text.get("hf_model_name"):
        return _of_library(checkpoint, text)
    config, named = text_as_transformers(checkpoint.config, checkpoint.tensors)
    tensors = Accounted(named)
    renamed = replace(checkpoint, config=config, tensors=tensors)
    form = _form(checkpoint, text, config["text_config"])
    after = _projection(renamed, text)
    read = Reader(
        replace(renamed, after=(*after, *checkpoint.after)),
        "embeddings.token_embedding.weight",
        config["text_config"],
    )
    found = _read(read, form)
    refuse_tensors(checkpoint.folder, tensors, tensors.unread(), "OpenCLIP's text tower")
    return found


def _text_cfg(checkpoint: Checkpoint) -> Mapping[str, Any]:
    model = checkpoint.config.get("model_cfg")
    text = model.get("text_cfg") if isinstance(model, dict) else None
    if not isinstance(text, dict):
        raise ExportError(f"{checkpoint.folder}: open_clip_config.json has no model_cfg.text_cfg")
    for name in (*CUSTOM, "tokenizer_mode"):
        if text.get(name):
            raise ExportError(f"{checkpoint.folder}: text_cfg.{name} is {text[name]!r:.40}, which is not supported")
    asked = text.get("tokenizer_kwargs")
    for name, value in (asked if isinstance(asked, dict) else {}).items():
        if (name != "clean" or value not in KINDS) and (name, value) not in KEPT:
            raise ExportError(
                f"{checkpoint.folder}: text_cfg.tokenizer_kwargs.{name} is {value!r:.40}, which is not supported"
            )
    for name in ("hf_tokenizer_name", "hf_model_pretrained", "vocab_size"):  # the folder's own files show them
        _ = text.get(name)
    return text


def _form(checkpoint: Checkpoint, text: Mapping[str, Any], config: Mapping[str, Any]) -> _Form:
    folder, pool = checkpoint.folder, text.get("pool_type") or "argmax"
    length, appended = int(text.get("context_length", 77)), bool(text.get("embed_cls"))
    causal = not text.get("no_causal_mask")
    if pool not in POOL_TYPES or (not causal and pool in ("argmax", "eos") and not appended):
        raise ExportError(
            f"{folder}: text_cfg.pool_type {pool!r:.40}{'' if causal else ' without a causal mask'} is not supported"
        )
    if appended and not causal:
        raise ExportError(f"{folder}: text_cfg.embed_cls without a causal mask is not supported")
    # its own tokenizer fills up with 0, those of transformers with their padding token
    padding = padding_token(checkpoint) if text.get("hf_tokenizer_name") else 0
    if appended and padding != (said := text.get("pad_id") or 0):
        raise ExportError(f"{folder}: text_cfg.pad_id is {said!r:.40}, the tokenizer fills texts up with {padding}")
    if pool in ("argmax", "eos") and not appended:
        # this library knows no default end: 2 is what it takes where pool_type is "eos" and nothing is said
        end = text.get("eos_id", 2) if pool == "eos" else config["eos_token_id"]
        check_end(checkpoint, end, oldest=pool == "argmax")
    return _Form(length, pool, causal, appended, padding)


def _projection(checkpoint: Checkpoint, text: Mapping[str, Any]) -> tuple[Module, ...]:
    kind = text.get("proj_type") or "linear"
    if kind == "none":
        return ()
    if kind != "linear":
        raise ExportError(f"{checkpoint.folder}: text_cfg.proj_type {kind!r:.40} is not supported ('linear' is)")
    read = Reader(checkpoint, "text_projection.weight")
    bias = read.tensor("text_projection.bias", 1) if text.get("proj_bias") else None
    return (linear(read.tensor("text_projection.weight", 2), bias),)


def _read(read: Reader, form: _Form) -> tuple[Spec, Weights]:
    positions = read.tensor("embeddings.position_embedding.weight", 2)
    if len(positions) != form.length + form.appended:
        raise read.error(f"text_cfg.context_length is {form.length}, and there are {len(positions)} positions")
    max_tokens = min(read.checkpoint.max_tokens or form.length, form.length)
    read.weights["embedding.word"] = read.words("embeddings.token_embedding.weight")
    read.weights["embedding.position"] = positions
    if form.appended:
        read.weights["embedding.appended"] = read.tensor("cls_emb", 1)[None]
    if form.causal:
        read.weights[f"positions.{CAUSAL}"] = visible(max_tokens if form.filled is None else len(positions), after=0)
    read.norm("final_norm", "final_layer_norm")
    layers = read.layers(LAYER, "encoder.layers.{}")
    for i in range(layers):
        for ours, theirs in (("out", "ls_1"), ("down", "ls_2")):  # layer scale
            name = f"encoder.layers.{i}.{theirs}.gamma"
            if read.has(name):
                read.scaled(f"layers.{i}.{ours}", read.tensor(name, 1))
    return read.finish(
        layers=layers,
        norm="pre",
        max_tokens=max_tokens,
        norm_eps=read.epsilon("layer_norm_eps", 1e-5),
        activation=read.activation("hidden_act", "gelu"),
        # the token behind all hides padding, which the table alone does not
        causal=form.causal and not form.appended,
        plan=tuple(Layer(i, bias=CAUSAL if form.causal else None) for i in range(layers)),
        pooling="cls" if form.pool == "first" and not form.appended else "last",
        filled=form.filled,
    )


def _of_library(checkpoint: Checkpoint, text: Mapping[str, Any]) -> tuple[Spec, Weights]:
    """A RoBERTa of transformers, whose config is a name on a hub, with a pooling and a projection of OpenCLIP's."""
    folder, name = checkpoint.folder, str(text["hf_model_name"])
    known = NAMED.get(name.rpartition("/")[2])
    pooler = text.get("hf_pooler_type") or "mean_pooler"
    if known is None or pooler not in POOLERS:
        raise UnsupportedModelError(
            f"{folder}: the text tower {name!r:.60} of transformers with {pooler!r:.40} is not supported "
            f"({', '.join(NAMED)} with {' or '.join(POOLERS)} are)",
            architecture=name,
        )
    kind, layers, heads = known
    words = Reader(checkpoint, "transformer.embeddings.word_embeddings.weight")
    first = words.tensor("transformer.encoder.layer.0.intermediate.dense.weight", 2)
    config = {
        "model_type": kind,
        "hidden_size": first.shape[1],
        "intermediate_size": first.shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "pad_token_id": 1,
    }
    if words.has(f"transformer.encoder.layer.{layers}.output.dense.weight"):
        raise words.error(f"{name} has {layers} layers, and the weights have more")
    limit = int(text.get("context_length", 77))
    # of the image tower the same names may be in the file
    named = [n for n in checkpoint.tensors if n.startswith(f"{words.prefix}transformer.")]
    own = Accounted({n: checkpoint.tensors[n] for n in named})
    inner = replace(
        checkpoint,
        config=Keys(config),
        tensors=own,
        max_tokens=min(checkpoint.max_tokens or limit, limit),
        pooling=POOLERS[pooler],
        after=(*_library_projection(words, text, first.shape[1]), *checkpoint.after),
    )
    found = read_roberta(inner)
    unread = [n for n in own.unread() if ".pooler." not in n and not n.endswith("position_ids")]
    refuse_tensors(folder, own, unread, f"{name} as OpenCLIP's text tower")
    return found


def _library_projection(read: Reader, text: Mapping[str, Any], width: int) -> tuple[Module, ...]:
    """OpenCLIP's `proj`: none, a layer, or two with GELU between them."""
    kind = text.get("hf_proj_type", "mlp")
    model = read.checkpoint.config["model_cfg"]
    if kind is None and model.get("embed_dim") == width:
        return ()
    if kind == "linear":
        return (linear(read.tensor("proj.weight", 2)),)
    if kind != "mlp":
        raise read.error(f"text_cfg.hf_proj_type {kind!r:.40} is not supported ('mlp' and 'linear' are)")
    inner = {"weight": np.ascontiguousarray(read.tensor("proj.0.weight", 2).T)}
    return (Module(Step("linear", "gelu"), inner), linear(read.tensor("proj.2.weight", 2)))
