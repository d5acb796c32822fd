"""The models as torch has them: random weights where no checkpoint is given, and their ONNX graph."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require

EXTRA = "bench-peers"
CLIP = {
    "do_resize": True, "size": {"shortest_edge": 224}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    "do_rescale": True, "rescale_factor": 1 / 255, "do_convert_rgb": True,
    "do_normalize": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "CLIPImageProcessor",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A kind of model. model: its class in transformers; feed: the name of its input; output: of its vectors."""

    model: str
    feed: str
    output: str


# By model_type of config.json.
FAMILIES = {
    "clip": Family("CLIPVisionModelWithProjection", "pixel_values", "image_embeds"),
    "clip_vision_model": Family("CLIPVisionModelWithProjection", "pixel_values", "image_embeds"),
    "clap": Family("ClapAudioModelWithProjection", "input_features", "audio_embeds"),
    "clap_audio_model": Family("ClapAudioModelWithProjection", "input_features", "audio_embeds"),
}


def family_of(checkpoint: Path) -> Family:
    """Raises InputError for a model that is not in the list."""
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise InputError(f"{checkpoint} is a model of type {kind!r}; what is compared here: {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def write_random(modality: str, folder: Path) -> None:
    """A checkpoint with random weights: CLIP's ViT-B/32 for pictures, CLAP's HTSAT-tiny for sounds."""
    torch, transformers = require("torch", EXTRA), require("transformers", EXTRA)
    torch.manual_seed(0)
    RANDOM[modality](transformers, folder)


def _random_clip(transformers: Any, folder: Path) -> None:
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig())
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP), "utf-8")


def _random_clap(transformers: Any, folder: Path) -> None:
    model = transformers.ClapAudioModelWithProjection(transformers.ClapAudioConfig())
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor().save_pretrained(folder)


RANDOM: dict[str, Callable[[Any, Path], None]] = {"image": _random_clip, "audio": _random_clap}


def load_torch(checkpoint: Path, threads: int) -> Any:
    """The model of a checkpoint in float32."""
    torch, transformers = require("torch", EXTRA), require("transformers", EXTRA)
    torch.set_num_threads(threads)
    return getattr(transformers, family_of(checkpoint).model).from_pretrained(checkpoint, dtype=torch.float32).eval()


def write_onnx(checkpoint: Path, feed: Any, target: Path) -> None:
    """The float32 graph as torch exports it, the number of inputs in a batch left open. feed: one, [1, ...]"""
    torch = require("torch", EXTRA)
    family, model = family_of(checkpoint), load_torch(checkpoint, 1)

    class Vectors(torch.nn.Module):  # type: ignore[misc, name-defined]  # the output of transformers is a dict
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, given: Any) -> Any:
            return getattr(self.model(**{family.feed: given}), family.output)

    with torch.inference_mode():
        torch.onnx.export(
            Vectors(), (torch.from_numpy(feed),), str(target), input_names=[family.feed], output_names=[family.output],
            dynamic_axes={family.feed: {0: "batch"}, family.output: {0: "batch"}}, opset_version=17, dynamo=False,
        )  # fmt: skip
