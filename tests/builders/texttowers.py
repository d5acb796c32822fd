"""Small random text towers of picture models in the layout of the published ones, and their tokenizers."""

import json
from pathlib import Path
from typing import Any

from builders.architectures import Tensors
from builders.bert import WORDS
from tokenizers.pre_tokenizers import ByteLevel

HIDDEN, HEADS, INNER, LAYERS, DIM = 32, 4, 48, 2, 24
PLAIN = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def added(token: str, number: int) -> dict[str, Any]:
    return {"id": number, "content": token, **PLAIN, "special": True}


def clip_tokenizer() -> dict[str, Any]:
    """CLIP's tokenizer.json over the words of WORDS: bytes, bytes at the end of a word, what is merged, two ends."""
    signs = sorted(ByteLevel.alphabet())
    vocab = [*signs, *(f"{sign}</w>" for sign in signs)]
    merges: list[list[str]] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = parts[:2]
            if pair not in merges:
                merges.append(pair)
            if "".join(pair) not in vocab:
                vocab.append("".join(pair))
            parts = ["".join(pair), *parts[2:]]
    start, end = "<|startoftext|>", "<|endoftext|>"
    vocab += [start, end]
    words = {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": True}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    spaces = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
    ids = {token: number for number, token in enumerate(vocab)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(token, ids[token]) for token in (start, end)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, as_bytes]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [end, ids[end]],
            "cls": [start, ids[start]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": end,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "vocab": ids,
            "merges": merges,
        },
    }


def encoder_layers(t: Tensors, prefix: str, hidden: int = HIDDEN, inner: int = INNER) -> None:
    """Layers under the names of CLIP's and SigLIP's towers."""
    for i in range(LAYERS):
        layer = f"{prefix}encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            t.linear(f"{layer}.self_attn.{part}", hidden, hidden)
        t.linear(f"{layer}.mlp.fc1", inner, hidden)
        t.linear(f"{layer}.mlp.fc2", hidden, inner)
        for norm in ("layer_norm1", "layer_norm2"):
            t.norm(f"{layer}.{norm}", hidden)


def add_clip_text(t: Tensors, vocab: int, positions: int = 20) -> None:
    """The tensors of CLIP's text tower with its projection."""
    t.add("text_model.embeddings.token_embedding.weight", vocab, HIDDEN)
    t.add("text_model.embeddings.position_embedding.weight", positions, HIDDEN)
    encoder_layers(t, "text_model.")
    t.norm("text_model.final_layer_norm")
    t.linear("text_projection", DIM, HIDDEN, bias=False)


def clip_text_config(vocab: int, positions: int = 20, **changed: Any) -> dict[str, Any]:
    """`text_config` of a CLIP's config.json, or the whole of a text tower alone."""
    return {
        "model_type": "clip_text_model",
        "vocab_size": vocab,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "projection_dim": DIM,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": positions,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": vocab - 2,
        "eos_token_id": vocab - 1,
        "pad_token_id": 1,
        **changed,
    }


def write(folder: Path, config: dict[str, Any], tensors: Tensors, tokenizer: dict[str, Any], **settings: Any) -> Path:
    """A folder as transformers saves one. settings: of tokenizer_config.json"""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


def clip_text(folder: Path, **changed: Any) -> Path:
    """A CLIPTextModelWithProjection. changed: keys of config.json"""
    tokenizer = clip_tokenizer()
    vocab = len(tokenizer["model"]["vocab"])
    t = Tensors()
    add_clip_text(t, vocab)
    config = {**clip_text_config(vocab), "architectures": ["CLIPTextModelWithProjection"], **changed}
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    return write(
        folder,
        config,
        t,
        tokenizer,
        tokenizer_class="CLIPTokenizer",
        model_max_length=77,
        pad_token="<|endoftext|>",
        **ends,
    )
