"""Encoders of sounds: CLAP's HTSAT (arXiv:2211.06687) and Whisper's encoder (arXiv:2212.04356).

What a sound is before, its rate and bands, is the front end's matter: see audiofront.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_embed_export.families.reader import Reader, with_usual
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.sound import REACH, FramesSpec, SoundSpec
from edge_embed_export.transformer.spec import NORM_EPS, Array, Spec, Step, prepare
from edge_embed_export.transformer.swin import Stage, SwinSpec
from edge_embed_runtime.errors import ExportError, UnsupportedModelError

HTSAT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "layernorm_before",
    "output_norm": "layernorm_after",
    "up": "intermediate.dense",
    "down": "output.dense",
}
WHISPER = {
    "query": "self_attn.q_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "output_norm": "final_layer_norm",
    "up": "fc1",
    "down": "fc2",
}
# Of a model with fusion, which adds crops of a long sound to its first layer: no window here is longer than the model
# hears, and for such the reference leaves them out.
FUSION = ("fusion_model.", "mel_conv2d.")
# Where config.json does not say it, as the library has it.
USUAL: dict[str, Any] = {
    "window_size": 8,
    "num_mel_bins": 64,
    "spec_size": 256,
    "hidden_act": "gelu",
    "patch_size": 4,
    "patch_stride": [4, 4],
    "hidden_size": 768,
    "depths": [2, 2, 6, 2],
    "num_attention_heads": [4, 8, 16, 32],
    "enable_fusion": False,
    "fusion_type": None,
    "patch_embed_input_channels": 1,
    "flatten_patch_embeds": True,
    "patch_embeds_hidden_size": 96,
    "enable_patch_layer_norm": True,
    "qkv_bias": True,
    "mlp_ratio": 4.0,
    "projection_hidden_act": "relu",
    "layer_norm_eps": NORM_EPS,
}


@dataclass(frozen=True)
class AudioTower:
    """An encoder of sounds as it was read.

    family:  its name, for the manifest
    weights: as `prepare` gives them
    front:   what turns a sound into what it reads, as the manifest has it
    facts:   its numbers, for the manifest
    notes:   what the manifest says of how it was read
    """

    family: str
    spec: SoundSpec
    weights: dict[str, Array]
    front: dict[str, Any]
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


def is_audio_model(config: Mapping[str, Any]) -> bool:
    """Whether the folder of this config.json has an encoder of sounds that is known."""
    return str(config.get("model_type")) in READERS


def read_audio_tower(checkpoint: Checkpoint, front: dict[str, Any]) -> AudioTower:
    """The encoder of sounds in a checkpoint, which may hold one of texts besides.

    front: as `audiofront.read_audio_front` gives it

    Raises UnsupportedModelError for other architectures, ExportError for what does not fit.
    """
    read = READERS.get(checkpoint.architecture)
    if read is None:
        raise UnsupportedModelError(
            f"{checkpoint.folder}: {checkpoint.architecture!r} is no encoder of sounds that is known here "
            f"({', '.join(READERS)})",
            architecture=checkpoint.architecture,
        )
    try:
        tower = read(checkpoint, front)
        tower.spec.check(tower.weights)
    except (ValueError, IndexError, KeyError) as error:  # numpy's, of tensors whose shapes do not fit each other
        raise ExportError(f"{checkpoint.folder}: tensors do not fit each other: {error}") from error
    return replace(tower, weights=prepare(tower.spec.body, tower.weights))


def _facts(spec: Spec, tokens: int, intermediate: int) -> dict[str, Any]:
    return {
        "layers": spec.layers,
        "hidden": spec.hidden,
        "heads": spec.heads,
        "intermediate": intermediate,
        "tokens": tokens,
    }


def _whisper(checkpoint: Checkpoint, front: dict[str, Any]) -> AudioTower:
    read = Reader(checkpoint, "conv1.weight")
    read.refuse(scale_embedding=False)
    bands, hidden = read.count("num_mel_bins", 80), read.count("d_model")
    for ours, theirs in (("conv.0", "conv1"), ("conv.1", "conv2")):
        weight = np.asarray(read.tensor(f"{theirs}.weight", 3))
        if weight.shape[2] != REACH:
            raise read.error(f"{theirs} reads {weight.shape[2]} frames; {REACH} are supported")
        read.weights[f"{ours}.weight"] = weight.transpose(2, 1, 0).reshape(-1, len(weight))
        read.weights[f"{ours}.bias"] = read.tensor(f"{theirs}.bias", 1)
    read.weights["positions"] = read.tensor("embed_positions.weight", 2)
    tokens = len(read.weights["positions"])
    if read.count("max_source_positions", tokens) != tokens:
        raise read.error(f"max_source_positions is not {tokens}, which the table of positions has rows")
    layers = read.depth("encoder_layers")
    for i in range(layers):
        for ours, theirs in WHISPER.items():
            get = read.norm if ours.endswith("norm") else read.linear
            get(f"layers.{i}.{ours}", f"layers.{i}.{theirs}")
        read.linear(f"layers.{i}.key", f"layers.{i}.self_attn.k_proj", bias=False)
    read.norm("final_norm", "layer_norm")
    body = Spec(
        layers=layers,
        hidden=hidden,
        heads=read.count("encoder_attention_heads"),
        intermediate=read.count("encoder_ffn_dim"),
        vocab=0,
        max_tokens=tokens,
        dim=hidden,
        norm="pre",
        norm_eps=NORM_EPS,
        activation=read.activation("activation_function", "gelu"),
        pooling="mean",
    )
    spec = FramesSpec(body, bands)
    _same(read, front, bands, spec.frames)
    notes = ("the mean over the frames that begin in the sound, of the encoder's last layer; texts have no place here",)
    return AudioTower("whisper", spec, read.weights, front, _facts(body, tokens, body.intermediate), notes)


def _same(read: Reader, front: Mapping[str, Any], bands: int, frames: int) -> None:
    """Raise ExportError where the front end gives another number of bands or frames than the model reads."""
    mel = front.get("mel") or {}
    if (mel.get("bands"), mel.get("frames")) != (bands, frames):
        raise read.error(
            f"the front end gives {mel.get('bands')} bands and {mel.get('frames')} frames, the model reads {bands} and "
            f"{frames}"
        )


def _clap(checkpoint: Checkpoint, front: dict[str, Any]) -> AudioTower:
    read = Reader(checkpoint, "patch_embed.proj.weight", _clap_config(checkpoint))
    read.refuse(
        patch_embed_input_channels=1,
        flatten_patch_embeds=True,
        enable_patch_layer_norm=True,
        layer_norm_eps=NORM_EPS,
        qkv_bias=True,
    )
    if read.config.get("enable_fusion") and read.config.get("fusion_type") == "channel_map":
        raise read.error("fusion_type 'channel_map' is not supported: its first layer reads four spectrograms")
    bands, patch = read.count("num_mel_bins"), _side(read, "patch_size")
    side, window = read.count("spec_size") // patch, read.count("window_size")
    if _side(read, "patch_stride") != patch or read.count("spec_size") % (patch * bands) or bands % patch:
        raise read.error("patches that overlap, or do not fill the square, are not supported")
    stages = _stages(read, side, window)
    frames = int((front.get("mel") or {}).get("frames") or 0)
    fold = read.count("spec_size") // bands
    if frames > side * patch * fold:
        raise read.error(f"the front end gives {frames} frames, the model reads at most {side * patch * fold}")
    _same(read, front, bands, frames)
    _clap_weights(read, stages, window)
    projection = _clap_projection(read)
    last = stages[-1]
    inner = read.weights[f"layers.{last.first}.up.weight"].shape[1]
    body = Spec(
        layers=last.first + last.depth,
        hidden=last.width,
        heads=last.heads,
        head_size=last.width // last.heads,
        intermediate=inner,
        vocab=0,
        max_tokens=side * side,
        dim=read.weights["projection.1.weight"].shape[1],
        norm="pre",
        norm_eps=NORM_EPS,
        activation=read.activation("hidden_act", "gelu"),
        projections=projection,
    )
    spec = SwinSpec(body, stages, bands, frames, patch, window, fold)
    return AudioTower("clap", spec, read.weights, front, _facts(body, last.side**2, inner), _fused(read))


def _clap_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The config of the encoder of sounds, which stands in that of the whole model."""
    if checkpoint.architecture == "clap_audio_model":
        given: Any = checkpoint.config
    else:
        given = checkpoint.config.get("audio_config")
    return with_usual(given if isinstance(given, dict) else {}, USUAL)


def _side(read: Reader, name: str) -> int:
    """The edge of a square, which the config has as one number or as two equal ones."""
    value = read.config.get(name)
    both: Any = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    if both[0] != both[1] or isinstance(both[0], bool) or not isinstance(both[0], int) or both[0] < 1:
        raise read.error(f"{name} is {value!r:.40}, expected a whole number, or two equal ones")
    return int(both[0])


def _stages(read: Reader, side: int, window: int) -> tuple[Stage, ...]:
    """Layers of one width, each stage with half of the tokens along an edge and twice the width of that before."""
    depths, heads = read.config["depths"], read.config["num_attention_heads"]
    width = read.count("patch_embeds_hidden_size")
    found: list[Stage] = []
    for name, value in (("depths", depths), ("num_attention_heads", heads)):
        whole = isinstance(value, list | tuple) and all(type(one) is int and 0 < one < 1000 for one in value)
        if not whole or len(value) != len(depths) or not 0 < len(value) < 16:
            raise read.error(f"{name} is {value!r:.60}, expected a whole number for each stage")
    for number, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        edge, wide = side >> number, width << number
        if edge << number != side or edge % window or wide % count or wide // count != width // heads[0]:
            raise read.error(
                f"stage {number} of {edge} x {edge} tokens and {wide} numbers in {count} heads is not supported: "
                f"whole windows of {window} and heads of one size are"
            )
        found.append(Stage(sum(depths[:number]), depth, edge, count, wide))
    return tuple(found)


def _clap_weights(read: Reader, stages: tuple[Stage, ...], window: int) -> None:
    weight, bias, mean, variance = (
        np.asarray(read.tensor(f"batch_norm.{part}", 1), np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + NORM_EPS)
    read.weights["bands.scale"] = scale.astype(np.float32)
    read.weights["bands.shift"] = (bias - mean * scale).astype(np.float32)
    conv = np.asarray(read.tensor("patch_embed.proj.weight", 4))
    read.weights["patch.weight"] = conv.reshape(len(conv), -1).T
    read.weights["patch.bias"] = read.tensor("patch_embed.proj.bias", 1)
    read.norm("embedding.norm", "patch_embed.norm")
    index = _offsets(window)
    for number, stage in enumerate(stages):
        for i in range(stage.depth):
            ours, theirs = f"layers.{stage.first + i}", f"layers.{number}.blocks.{i}"
            for part, name in HTSAT.items():
                get = read.norm if part.endswith("norm") else read.linear
                get(f"{ours}.{part}", f"{theirs}.{name}")
            table = np.asarray(read.tensor(f"{theirs}.attention.self.relative_position_bias_table", 2))
            if len(table) != (2 * window - 1) ** 2:
                raise read.error(f"{theirs} has {len(table)} offsets for windows of {window}")
            read.weights[f"positions.{stage.first + i}"] = np.ascontiguousarray(table[index].transpose(2, 0, 1))
        if number + 1 < len(stages):
            read.norm(f"merge.{number}.norm", f"layers.{number}.downsample.norm")
            read.linear(f"merge.{number}", f"layers.{number}.downsample.reduction", bias=False)
    read.norm("final_norm", "norm")


def _offsets(window: int) -> Any:
    """For two tokens of a window the row of the table that is for their offset: [window**2, window**2]."""
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    apart = places[:, :, None] - places[:, None, :] + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


def _clap_projection(read: Reader) -> tuple[Step, ...]:
    """The two layers into the space of texts, which stand beside the encoder."""
    tensors, name = read.checkpoint.tensors, "audio_projection"
    for i in (1, 2):
        weight, bias = (tensors.get(f"{name}.linear{i}.{part}") for part in ("weight", "bias"))
        if weight is None or bias is None:
            raise read.error(f"the weights have no tensor {name}.linear{i}.weight, or no bias of it")
        read.weights |= {f"projection.{i - 1}.weight": weight.T, f"projection.{i - 1}.bias": bias}
    return Step("linear", read.activation("projection_hidden_act", "relu")), Step("linear")


def _fused(read: Reader) -> tuple[str, ...]:
    """Reads what counts for nothing, so that nobody takes it for unknown; the note on it."""
    if not read.config.get("enable_fusion"):
        return ()
    for name in read.checkpoint.tensors:
        if name.startswith(tuple(f"{read.prefix}patch_embed.{part}" for part in FUSION)):
            _ = read.checkpoint.tensors[name]
    return ("fusion is left out, as the reference does for sounds that are not longer than a window",)


READERS: dict[str, Callable[[Checkpoint, dict[str, Any]], AudioTower]] = {
    **dict.fromkeys(("clap", "clap_audio_model"), _clap),
    "whisper": _whisper,
}
