"""Image models beside transformers: the same pixels, vectors that differ by less than PARITY."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.towers import FAMILIES, tensors_of, write_tower

from edge_embed_export.families.vision import read_image_tower
from edge_embed_export.files.accounting import Accounted, Keys
from edge_embed_export.files.tensors import read_weights
from edge_embed_export.transformer.spec import prepare
from edge_embed_export.transformer.vision import build_image
from edge_embed_runtime.model.session import make_session

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not find_spec("transformers"), reason="needs transformers (extra parity)"),
    pytest.mark.filterwarnings("ignore"),
]
PARITY = 1e-5

# A family -> the library's class, and what of its output is the vector.
CLASSES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "clip alone": ("CLIPVisionModelWithProjection", lambda found: found.image_embeds),
    "clip without projection": ("CLIPVisionModel", lambda found: found.pooler_output),
    "dinov2": ("Dinov2Model", lambda found: found.pooler_output),
    "dinov2 of another size": ("Dinov2Model", lambda found: found.pooler_output),
    "dinov2 giant": ("Dinov2Model", lambda found: found.pooler_output),
    "dinov2 with registers": ("Dinov2WithRegistersModel", lambda found: found.pooler_output),
}
# Families of folders with both models -> the class of the image model, and the name of its config in the folder's.
PARTS: dict[str, tuple[str, str]] = {
    "clip": ("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
    "metaclip 2": ("MetaClip2VisionModelWithProjection", "MetaClip2VisionConfig"),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig"),
}


def pixels(name: str) -> np.ndarray:
    side = FAMILIES[name].side
    return np.random.default_rng(2).uniform(-1.8, 2.1, (3, 3, side, side)).astype(np.float32)


def ours(folder: Path, given: np.ndarray) -> np.ndarray:
    config = Keys(json.loads((folder / "config.json").read_text()))
    tower = read_image_tower(config, Accounted(read_weights(folder)[0]), folder, {"size": list(given.shape[2:])})
    model = build_image(tower.spec, prepare(tower.spec.body, tower.weights))
    return np.asarray(make_session(model.SerializeToString(), 1).run(None, {"pixel_values": given})[0])


def check(found: np.ndarray, expected: Any) -> None:
    vectors = np.asarray(expected.detach())
    assert np.abs(found - vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).max() < PARITY


def loaded(model: Any) -> Any:
    """model: what `from_pretrained` gives with output_loading_info. Raises AssertionError for a tensor left over"""
    made, info = model
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return made.eval()


@pytest.mark.parametrize("name", CLASSES)
def test_a_folder_of_one_model(name: str, tmp_path: Path) -> None:
    """CLIP's image model and DINOv2, also of pictures of another size than their positions."""
    import torch
    import transformers

    kind, vector = CLASSES[name]
    folder, given = write_tower(tmp_path / "model", name), pixels(name)
    model = loaded(getattr(transformers, kind).from_pretrained(folder, output_loading_info=True))
    with torch.no_grad():
        check(ours(folder, given), vector(model(pixel_values=torch.from_numpy(given))))


@pytest.mark.parametrize("name", PARTS)
def test_a_folder_of_two_models(name: str, tmp_path: Path) -> None:
    """CLIP, MetaCLIP 2 and SigLIP: the config of the image model is within that of both."""
    import torch
    import transformers

    kind, config = PARTS[name]
    folder, given = write_tower(tmp_path / "model", name), pixels(name)
    inner = FAMILIES[name].config["vision_config"]
    dim = FAMILIES[name].dim
    settings = getattr(transformers, config)(**inner, projection_dim=dim)
    model = loaded(getattr(transformers, kind).from_pretrained(folder, config=settings, output_loading_info=True))
    with torch.no_grad():
        found = model(pixel_values=torch.from_numpy(given))
    check(ours(folder, given), found.pooler_output if name == "siglip" else found.image_embeds)


def test_blip2(tmp_path: Path) -> None:
    """A vector for each query, of the model that compares pictures with texts."""
    import torch
    import transformers

    family, given = FAMILIES["blip-2"], pixels("blip-2")
    folder = write_tower(tmp_path / "model", "blip-2")
    qformer = {**family.config["qformer_config"], "encoder_hidden_size": 64, "vocab_size": 30}
    model = transformers.Blip2ForImageTextRetrieval(
        transformers.Blip2Config(
            vision_config=family.config["vision_config"],
            qformer_config={**qformer, "use_qformer_text_input": True},
            num_query_tokens=5,
            image_text_hidden_size=family.dim,
        )
    ).eval()
    held = {key: torch.from_numpy(array) for key, array in tensors_of("blip-2").items()}
    missing, unexpected = model.load_state_dict(held, strict=False)
    assert not unexpected
    of_texts = ("embeddings.", "itm_head.", "text_projection.", "qformer.encoder.layer.")
    assert all(key.startswith(of_texts) for key in missing)
    ids = torch.tensor([[2, 3]] * len(given))
    with torch.no_grad():
        found = model(
            pixel_values=torch.from_numpy(given),
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            use_image_text_matching_head=False,
        )
    check(ours(folder, given), found.image_embeds)


def test_quick_gelu_is_the_librarys() -> None:
    """The operator that the graph has for it."""
    import torch
    from transformers.activations import ACT2FN

    from edge_embed_export.transformer.activations import apply
    from edge_embed_export.transformer.builder import Graph

    g, x = Graph(), np.linspace(-12, 12, 4097, dtype=np.float32)[None]
    g.feed("x", [1, 4097])
    model = g.model({g.op("Identity", apply(g, "x", "quick_gelu"), name="y"): [1, 4097]}, "edge_embed")
    found = make_session(model.SerializeToString(), 1).run(None, {"x": x})[0]
    assert np.abs(found - ACT2FN["quick_gelu"](torch.from_numpy(x)).numpy()).max() < PARITY
