"""Small random encoders of sounds in the layout of the published ones: CLAP with its texts, Whisper."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from builders.architectures import Tensors
from builders.pairfolders import pair_tokenizer, vocabulary_size

# CLAP: width of the first stage, layers and heads of each stage; width of texts, and what both are projected to.
WIDTH, DEPTHS, SOUND_HEADS = 8, (2, 2, 1), (1, 2, 4)
TEXT, INNER, DIM = 32, 48, 24
SQUARE, PATCH, WINDOW, BANDS = 64, 4, 4, 16
# Whisper
HIDDEN, HEADS, FRAMES, MELS = 32, 4, 100, 20
CLAP_EXTRACTOR: dict[str, Any] = {
    "feature_extractor_type": "ClapFeatureExtractor",
    "feature_size": BANDS,
    "fft_window_size": 1024,
    "frequency_max": 14000,
    "frequency_min": 50,
    "hop_length": 480,
    "max_length_s": 2,
    "nb_max_samples": 96_000,
    "padding": "repeatpad",
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 48_000,
    "top_db": None,
    "truncation": "rand_trunc",
}
WHISPER_EXTRACTOR: dict[str, Any] = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": MELS,
    "sampling_rate": 16_000,
    "hop_length": 160,
    "chunk_length": 1,
    "n_fft": 400,
    "padding_value": 0.0,
    "dither": 0.0,
    "return_attention_mask": False,
}


def clap(folder: Path, *, fusion: bool = False, extractor: dict[str, Any] | None = None, **audio: Any) -> Path:
    """A ClapModel. extractor: keys of preprocessor_config.json; audio: keys of `audio_config`"""
    t = Tensors()
    _clap_texts(t)
    _clap_sounds(t, fusion)
    sound_config = {
        "model_type": "clap_audio_model",
        "patch_embeds_hidden_size": WIDTH,
        "depths": list(DEPTHS),
        "num_attention_heads": list(SOUND_HEADS),
        "hidden_size": WIDTH * 4,
        "projection_dim": DIM,
        "enable_fusion": fusion,
        "num_mel_bins": BANDS,
        "spec_size": SQUARE,
        "window_size": WINDOW,
        **audio,
    }
    text_config = {
        "model_type": "clap_text_model",
        "vocab_size": vocabulary_size("Roberta"),
        "hidden_size": TEXT,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": INNER,
        "max_position_embeddings": 66,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "projection_dim": DIM,
        "layer_norm_eps": 1e-5,
    }
    config = {
        "model_type": "clap",
        "architectures": ["ClapModel"],
        "projection_dim": DIM,
        "hidden_size": TEXT,
        "logit_scale_init_value": 14.285714285714285,
        "num_hidden_layers": 6,
        "text_config": text_config,
        "audio_config": sound_config,
    }
    settings = {**CLAP_EXTRACTOR, "truncation": "fusion" if fusion else "rand_trunc", **(extractor or {})}
    _write(folder, config, t, settings)
    pair_tokenizer(folder, "Roberta")
    return folder


def whisper(folder: Path, *, extractor: dict[str, Any] | None = None, **changed: Any) -> Path:
    """A WhisperModel of one second. changed: keys of config.json"""
    t = Tensors()
    _conv(t, "model.encoder.conv1", HIDDEN, MELS, 3)
    _conv(t, "model.encoder.conv2", HIDDEN, HIDDEN, 3)
    t.add("model.encoder.embed_positions.weight", FRAMES // 2, HIDDEN)
    t.norm("model.encoder.layer_norm", HIDDEN)
    _whisper_layer(t, "model.encoder.layers.0")
    _whisper_layer(t, "model.encoder.layers.1")
    t.add("model.decoder.embed_tokens.weight", 60, HIDDEN)
    t.add("model.decoder.embed_positions.weight", 20, HIDDEN)
    t.norm("model.decoder.layer_norm", HIDDEN)
    _whisper_layer(t, "model.decoder.layers.0", "self_attn", "encoder_attn")
    config = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": 60,
        "d_model": HIDDEN,
        "num_mel_bins": MELS,
        "encoder_layers": 2,
        "encoder_attention_heads": HEADS,
        "encoder_ffn_dim": INNER,
        "decoder_layers": 1,
        "decoder_attention_heads": HEADS,
        "decoder_ffn_dim": INNER,
        "max_source_positions": FRAMES // 2,
        "max_target_positions": 20,
        "activation_function": "gelu",
        "scale_embedding": False,
        "activation_dropout": 0.0,
        "suppress_tokens": [],
        "is_encoder_decoder": True,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        **changed,
    }
    return _write(folder, config, t, {**WHISPER_EXTRACTOR, **(extractor or {})})


def _write(folder: Path, config: dict[str, Any], tensors: Tensors, extractor: dict[str, Any]) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


def _conv(t: Tensors, name: str, out: int, read: int, *sides: int) -> None:
    t.add(f"{name}.weight", out, read, *sides)
    t.add(f"{name}.bias", out)


def _clap_texts(t: Tensors) -> None:
    e = "text_model.embeddings"
    t.add(f"{e}.word_embeddings.weight", vocabulary_size("Roberta"), TEXT)
    t.add(f"{e}.position_embeddings.weight", 66, TEXT)
    t.add(f"{e}.token_type_embeddings.weight", 1, TEXT)
    t.norm(f"{e}.LayerNorm", TEXT)
    for i in range(2):
        layer = f"text_model.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            t.linear(f"{layer}.attention.{part}", TEXT, TEXT)
        t.linear(f"{layer}.intermediate.dense", INNER, TEXT)
        t.linear(f"{layer}.output.dense", TEXT, INNER)
        t.norm(f"{layer}.attention.output.LayerNorm", TEXT)
        t.norm(f"{layer}.output.LayerNorm", TEXT)
    t.linear("text_model.pooler.dense", TEXT, TEXT)
    t.linear("text_projection.linear1", DIM, TEXT)
    t.linear("text_projection.linear2", DIM, DIM)
    t |= {f"logit_scale_{side}": np.array(2.6, np.float32) for side in "at"}


def _clap_sounds(t: Tensors, fusion: bool) -> None:
    e = "audio_model.audio_encoder"
    t.norm(f"{e}.batch_norm", BANDS)
    levels = np.random.default_rng(5)
    t[f"{e}.batch_norm.running_mean"] = levels.normal(-40, 5, BANDS).astype(np.float32)
    t[f"{e}.batch_norm.running_var"] = levels.uniform(50, 400, BANDS).astype(np.float32)
    t[f"{e}.batch_norm.num_batches_tracked"] = np.array(7)
    _conv(t, f"{e}.patch_embed.proj", WIDTH, 1, PATCH, PATCH)
    t.norm(f"{e}.patch_embed.norm", WIDTH)
    if fusion:
        _conv(t, f"{e}.patch_embed.mel_conv2d", WIDTH, 1, PATCH, 3 * PATCH)
        for part, places in (("local_att", (0, 1, 3, 4)), ("global_att", (1, 2, 4, 5))):
            for place, (out, read) in zip(places, ((2, WIDTH), (2, 0), (WIDTH, 2), (WIDTH, 0)), strict=True):
                name = f"{e}.patch_embed.fusion_model.{part}.{place}"
                if read:
                    _conv(t, name, out, read, 1, 1)
                else:
                    t.norm(name, out)
                    t |= {
                        f"{name}.running_mean": np.zeros(out, np.float32),
                        f"{name}.running_var": np.ones(out, np.float32),
                    }
    width = WIDTH
    for stage, (depth, heads) in enumerate(zip(DEPTHS, SOUND_HEADS, strict=True)):
        for i in range(depth):
            layer = f"{e}.layers.{stage}.blocks.{i}"
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                t.linear(f"{layer}.attention.{part}", width, width)
            t.add(f"{layer}.attention.self.relative_position_bias_table", (2 * WINDOW - 1) ** 2, heads)
            t.linear(f"{layer}.intermediate.dense", 4 * width, width)
            t.linear(f"{layer}.output.dense", width, 4 * width)
            t.norm(f"{layer}.layernorm_before", width)
            t.norm(f"{layer}.layernorm_after", width)
        if stage + 1 < len(DEPTHS):
            t.norm(f"{e}.layers.{stage}.downsample.norm", 4 * width)
            t.linear(f"{e}.layers.{stage}.downsample.reduction", 2 * width, 4 * width, bias=False)
            width *= 2
    t.norm(f"{e}.norm", width)
    t.linear("audio_projection.linear1", DIM, width)
    t.linear("audio_projection.linear2", DIM, DIM)


def _whisper_layer(t: Tensors, layer: str, *attentions: str) -> None:
    for attention in attentions or ("self_attn",):
        for part in ("q_proj", "v_proj", "out_proj"):
            t.linear(f"{layer}.{attention}.{part}", HIDDEN, HIDDEN)
        t.linear(f"{layer}.{attention}.k_proj", HIDDEN, HIDDEN, bias=False)
        t.norm(f"{layer}.{attention}_layer_norm", HIDDEN)
    t.linear(f"{layer}.fc1", INNER, HIDDEN)
    t.linear(f"{layer}.fc2", HIDDEN, INNER)
    t.norm(f"{layer}.final_layer_norm", HIDDEN)
