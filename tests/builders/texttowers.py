"""Small random text towers of picture models in the layout of the published ones, and their tokenizers."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from builders import towers
from builders.architectures import Tensors, bert_like
from builders.bert import WORDS, word_tokenizer
from builders.checkpoints import read_checkpoint
from edge_embed_export.families.known import read_family
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.spec import prepare
from edge_embed_runtime.model.session import make_session

Array = np.ndarray[Any, Any]

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


ENDS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
CLIP_SETTINGS = {
    **ENDS,
    "tokenizer_class": "CLIPTokenizer",
    "model_max_length": 77,
    "pad_token": "<|endoftext|>",
}


def clip_text(folder: Path, **changed: Any) -> Path:
    """A CLIPTextModelWithProjection. changed: keys of config.json"""
    tokenizer = clip_tokenizer()
    vocab = len(tokenizer["model"]["vocab"])
    t = Tensors()
    add_clip_text(t, vocab)
    config = {**clip_text_config(vocab), "architectures": ["CLIPTextModelWithProjection"], **changed}
    return write(folder, config, t, tokenizer, **CLIP_SETTINGS)


def as_vocabulary(folder: Path) -> None:
    """vocab.json and merges.txt in the place of a CLIP's tokenizer.json."""
    definition = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(definition["model"]["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in definition["model"]["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


def varint(number: int) -> bytes:
    """A number as protobuf stores it."""
    low = bytes([number & 127 | (128 if number > 127 else 0)])
    return low + varint(number >> 7) if number > 127 else low


def field(number: int, value: bytes | int | float) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


# Pieces of the file of sentencepiece: what SigLIP's has for padding, the end and the unknown, words, and letters.
PIECES = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS), "▁", *"abcdefghijklmnopqrstuvwxyz0123456789"]
CONTROL, UNKNOWN = 3, 2


def spiece_model(pieces: list[str] = PIECES, **normalizer: bytes | int) -> bytes:
    """A unigram model of sentencepiece. normalizer: charsmap, spaces (whether extra ones are taken away)"""
    kinds = {0: CONTROL, 1: CONTROL, 2: UNKNOWN}
    raw = b""
    for number, piece in enumerate(pieces):
        score = -float(number) if number > 2 else 0.0
        kind = field(3, kinds[number]) if number in kinds else b""
        raw += field(1, field(1, piece.encode()) + field(2, score) + kind)
    steps = field(1, b"identity") + field(2, normalizer.get("charsmap", b""))
    steps += field(4, int(normalizer.get("spaces", 1)))  # type: ignore[arg-type]
    return raw + field(2, field(3, 1) + field(40, 2)) + field(3, steps)


def add_siglip_text(t: Tensors, vocab: int, positions: int = 12, dim: int = DIM) -> None:
    """The tensors of SigLIP's text tower."""
    prefix = "text_model."
    t.add(f"{prefix}embeddings.token_embedding.weight", vocab, HIDDEN)
    t.add(f"{prefix}embeddings.position_embedding.weight", positions, HIDDEN)
    encoder_layers(t, prefix)
    t.norm(f"{prefix}final_layer_norm")
    t.linear(f"{prefix}head", dim, HIDDEN)


def siglip_text_config(vocab: int, positions: int = 12, dim: int = DIM) -> dict[str, Any]:
    return {
        "model_type": "siglip_text_model",
        "vocab_size": vocab,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": positions,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "projection_size": dim,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }


def siglip_text(folder: Path, positions: int = 12, **settings: Any) -> Path:
    """A SiglipTextModel with its file of sentencepiece. settings: of tokenizer_config.json"""
    t = Tensors()
    add_siglip_text(t, len(PIECES), positions)
    config = {**siglip_text_config(len(PIECES), positions), "architectures": ["SiglipTextModel"]}
    usual = {"tokenizer_class": "SiglipTokenizer", "model_max_length": positions, "do_lower_case": True}
    write(folder, config, t, {}, pad_token="</s>", **{**usual, **settings})  # noqa: S106 - a token of texts
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(spiece_model())
    return folder


def gemma_tokenizer() -> dict[str, Any]:
    """Gemma's tokenizer.json over capitals and small letters, with an end behind each text: it lowers nothing."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    signs = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!,"
    pairs = [("t", "h"), ("th", "e"), ("▁", "c"), ("T", "h")]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *signs, *("".join(pair) for pair in pairs)]
    end = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<eos>", "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(token, number) for number, token in enumerate(special)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": end,
            "pair": [*end, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [list(pair) for pair in pairs],
        },
    }


def siglip2_text(folder: Path, name: str = "Siglip2Tokenizer", positions: int = 12, **settings: Any) -> Path:
    """A SigLIP 2 of fixed size. name: of the tokenizer's class; settings: of tokenizer_config.json"""
    tokenizer = gemma_tokenizer()
    vocab = len(tokenizer["model"]["vocab"])
    t = Tensors()
    add_siglip_text(t, vocab, positions)
    config = {**siglip_text_config(vocab, positions), "architectures": ["SiglipTextModel"]}
    usual = {"tokenizer_class": name, "model_max_length": positions, "padding_side": "right"}
    usual |= {"add_bos_token": False, "add_eos_token": True}
    tokens = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return write(folder, config, t, tokenizer, **{**usual, **tokens, **settings})


QFORMER = {
    "model_type": "blip_2_qformer",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "cross_attention_frequency": 2,
    "encoder_hidden_size": HIDDEN,
    "max_position_embeddings": 40,
    "use_qformer_text_input": True,
}


def add_qformer(t: Tensors, vocab: int, seen: int = HIDDEN, queries: int = 5) -> None:
    """BLIP-2's Q-Former, both of its halves, with the projection of texts. seen: numbers of a picture's token"""
    t.add("query_tokens", 1, queries, HIDDEN)
    t.add("embeddings.word_embeddings.weight", vocab, HIDDEN)
    t.add("embeddings.position_embeddings.weight", 40, HIDDEN)
    t.norm("qformer.layernorm")
    for i in range(LAYERS):
        layer = f"qformer.encoder.layer.{i}"
        for kind, width in (("attention", HIDDEN), *([("crossattention", seen)] if i % 2 == 0 else [])):
            t.linear(f"{layer}.{kind}.attention.query", HIDDEN, HIDDEN)
            for part in ("key", "value"):
                t.linear(f"{layer}.{kind}.attention.{part}", HIDDEN, width)
            t.linear(f"{layer}.{kind}.output.dense", HIDDEN, HIDDEN)
            t.norm(f"{layer}.{kind}.output.LayerNorm")
        for half in ("", "_query"):
            t.linear(f"{layer}.intermediate{half}.dense", INNER, HIDDEN)
            t.linear(f"{layer}.output{half}.dense", HIDDEN, INNER)
            t.norm(f"{layer}.output{half}.LayerNorm")
    t.linear("text_projection", DIM, HIDDEN)


def blip2_text(folder: Path, **changed: Any) -> Path:
    """A Blip2TextModelWithProjection. changed: keys of qformer_config"""
    tokenizer = {**word_tokenizer(), "truncation": None, "padding": None}
    t = Tensors()
    add_qformer(t, 5 + len(WORDS))
    inner = {**QFORMER, "vocab_size": 5 + len(WORDS), **changed}
    config = {"model_type": "blip-2", "qformer_config": inner, "image_text_hidden_size": DIM, "num_query_tokens": 5}
    config["vision_config"] = {"model_type": "blip_2_vision_model", "hidden_size": HIDDEN}
    return write(folder, config, t, tokenizer, tokenizer_class="BertTokenizer", model_max_length=40)


def openclip_text(text_cfg: dict[str, Any], vocab: int, dim: int = DIM) -> Tensors:
    """The tensors of OpenCLIP's own text tower."""
    prefix = "text."
    t = Tensors()
    length = text_cfg["context_length"]
    t.add(f"{prefix}token_embedding.weight", vocab, HIDDEN)
    t.add(f"{prefix}positional_embedding", length + bool(text_cfg.get("embed_cls")), HIDDEN)
    if text_cfg.get("embed_cls"):
        t.add(f"{prefix}cls_emb", HIDDEN)
    for i in range(LAYERS):
        block = f"{prefix}transformer.resblocks.{i}"
        t.add(f"{block}.attn.in_proj_weight", 3 * HIDDEN, HIDDEN)
        t.add(f"{block}.attn.in_proj_bias", 3 * HIDDEN)
        t.linear(f"{block}.attn.out_proj", HIDDEN, HIDDEN)
        t.linear(f"{block}.mlp.c_fc", 4 * HIDDEN, HIDDEN)
        t.linear(f"{block}.mlp.c_proj", HIDDEN, 4 * HIDDEN)
        for norm in ("ln_1", "ln_2"):
            t.norm(f"{block}.{norm}")
    t.norm(f"{prefix}ln_final")
    t.add(f"{prefix}text_projection", HIDDEN, dim)
    return t


def text_vectors(source: "Path | Checkpoint") -> Callable[[Array], Array]:
    """The float graph of a checkpoint's text tower: ids to their vector, which beside padding has to be the same."""
    checkpoint = read_checkpoint(source) if isinstance(source, Path) else source
    spec, weights = read_family(checkpoint)
    session = make_session(build(spec, prepare(spec, weights)).SerializeToString(), threads=1)

    def vector(ids: Array) -> Array:
        alone = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), np.int64)}
        room = ((0, 0), (0, spec.max_tokens - len(ids)))
        beside = {name: np.pad(np.repeat(value, 2, 0), room) for name, value in alone.items()}
        found, again = (session.run(None, feed)[0][0] for feed in (alone, beside))
        assert np.array_equal(found, again)
        return np.asarray(found)

    return vector


def states_of(checkpoint: Checkpoint) -> Callable[[Array], Array]:
    """Ids to the states of tokens [n, hidden] behind a checkpoint's last layer."""
    spec, weights = read_family(checkpoint)
    states: list[str] = []
    model = build(spec, prepare(spec, weights), states=states)
    model.graph.output.add().name = states[-1]
    session = make_session(model.SerializeToString(), threads=1)
    return lambda ids: np.asarray(
        session.run([states[-1]], {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), np.int64)})[0]
    )


def _front(folder: Path, side: int = towers.SIDE) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(towers.front(side)))
    return folder


def siglip_folder(folder: Path) -> Path:
    """A SiglipModel: both towers."""
    t = Tensors()
    add_siglip_text(t, len(PIECES), dim=towers.HIDDEN)
    towers.siglip(t)
    text = siglip_text_config(len(PIECES), dim=towers.HIDDEN)
    config = {**towers.FAMILIES["siglip"].config, "text_config": text}
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 12, "pad_token": "</s>"}
    write(folder, config, t, {}, **settings)
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(spiece_model())
    return _front(folder)


def blip2_folder(folder: Path) -> Path:
    """A Blip2ForImageTextRetrieval: its Q-Former is part of both towers."""
    t = Tensors()
    add_qformer(t, 5 + len(WORDS), seen=towers.HIDDEN)
    t |= {name: w for name, w in towers.tensors_of("blip-2").items() if name.startswith("vision_model.")}
    t.linear("vision_projection", DIM, HIDDEN)
    t.linear("itm_head", 2, HIDDEN)
    config = {
        **towers.FAMILIES["blip-2"].config,
        "qformer_config": {**QFORMER, "vocab_size": 5 + len(WORDS), "encoder_hidden_size": towers.HIDDEN},
        "image_text_hidden_size": DIM,
        "num_query_tokens": 5,
    }
    tokenizer = {**word_tokenizer(), "truncation": None, "padding": None}
    return _front(write(folder, config, t, tokenizer, tokenizer_class="BertTokenizer", model_max_length=40))


def coca_folder(folder: Path) -> Path:
    """A CoCa as OpenCLIP saves it, with a decoder that a bundle has no use for."""
    tokenizer, given = clip_tokenizer(), towers.FAMILIES["coca"].config
    text = {"context_length": 9, "width": HIDDEN, "heads": HEADS, "layers": LAYERS, "embed_cls": True}
    t = openclip_text(text, len(tokenizer["model"]["vocab"]), towers.DIM)
    t |= towers.tensors_of("coca")
    t.linear("text_decoder.head", HIDDEN, HIDDEN)
    model = {**given["model_cfg"], "text_cfg": text}
    write(folder, {}, t, tokenizer, **CLIP_SETTINGS)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    preprocess = {"size": towers.SIDE, "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}
    preprocess |= {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
    said = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    return folder


def chinese_clip_folder(folder: Path) -> Path:
    """A ChineseCLIPModel: BERT beside CLIP's image tower."""
    inner, t = bert_like("chinese_clip_text_model", prefix="text_model.")
    t.linear("text_projection", towers.DIM, HIDDEN, bias=False)
    t |= towers.tensors_of("clip")
    config = {**towers.FAMILIES["clip"].config, "model_type": "chinese_clip", "text_config": inner}
    tokenizer = {**word_tokenizer(), "truncation": None, "padding": None}
    config["projection_dim"] = towers.DIM
    return _front(write(folder, config, t, tokenizer, tokenizer_class="BertTokenizer", model_max_length=40))


def altclip_folder(folder: Path) -> Path:
    """An AltCLIPModel: XLM-R, a norm and a layer beside CLIP's image tower."""
    inner, t = bert_like("altclip_text_model", prefix="text_model.roberta.", types=1, pad_token_id=1)
    t.norm("text_model.pre_LN")
    t.linear("text_model.transformation", DIM, HIDDEN)
    t.linear("text_projection", towers.DIM, DIM, bias=False)
    t |= towers.tensors_of("clip")
    inner |= {"project_dim": DIM, "layer_norm_eps": 1e-5}
    config = {**towers.FAMILIES["clip"].config, "model_type": "altclip", "text_config": inner}
    config["projection_dim"] = towers.DIM
    tokenizer = {**word_tokenizer(), "truncation": None, "padding": None}
    return _front(write(folder, config, t, tokenizer, tokenizer_class="BertTokenizer", model_max_length=38))
