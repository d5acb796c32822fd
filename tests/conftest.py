"""Models for the tests: the embedded default bundle, and small random checkpoints in the shape of real ones."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.bert import Checkpoints, bert_folder
from builders.olderbundles import saturating

from edge_embed import Embedder
from edge_embed.embedder import default_bundle
from edge_embed_export import export_model
from edge_embed_export.calibration import pairs as calibration_pairs
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.receipt import dense, finish
from edge_embed_export.receipt import pairs as receipt_pairs
from edge_embed_export.verify import compare as verifying

# the checkout, for tests of bench/: behind what is installed, so that its packages are what is tested
sys.path.append(str(Path(__file__).resolve().parents[1]))

# a shell's background job ignores SIGINT, and so would the commands that tests interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoints:
    """Writes a sentence-transformers folder with a small random BERT: checkpoint(hidden_act="relu", pooling="cls")."""

    def write(name: str = "checkpoint", **options: Any) -> Path:
        return bert_folder(tmp_path / name, **options)

    return write


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker runs one alone at the end."""
    items.sort(key=lambda item: item.path.parent.name != "faults")


@pytest.fixture
def whole_receipt() -> None:
    """Exports of this test measure what they measure for users, `short_receipt` or not."""


@pytest.fixture
def short_receipt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports measure themselves on a few texts."""
    if "whole_receipt" not in request.fixturenames:
        judged, texts = shipped.records("judged"), shipped.calibration_texts
        monkeypatch.setattr(finish, "calibration_texts", lambda part: texts(part)[::32])
        monkeypatch.setattr(finish, "records", lambda _: [judged[0], {**judged[-1], "relevant": ["p000"]}])
        monkeypatch.setattr(dense, "SPEED_ROUNDS", 1)
        for module in (calibration_pairs, receipt_pairs):
            monkeypatch.setattr(module, "QUESTIONS", 4)
        monkeypatch.setattr(calibration_pairs, "CUT_TEXTS", 32)
        monkeypatch.setattr(receipt_pairs, "SPEED_PAIRS", 4)
        monkeypatch.setattr(receipt_pairs, "SPEED_ROUNDS", 1)


@pytest.fixture
def with_reference() -> None:
    """Exports of this test are compared with the reference where it is installed."""


@pytest.fixture(autouse=True)
def no_reference(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are compared with no reference, which takes seconds each time, unless a test wants it."""
    if "with_reference" not in request.fixturenames:
        monkeypatch.setattr(verifying, "installed", lambda: False)


@pytest.fixture(scope="session", autouse=True)
def no_verdict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `doctor --tune` stored for whoever runs the tests counts in no test."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs that tests start compile each module once, also where nothing is to be written beside the sources."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            patch.delenv("PYTHONDONTWRITEBYTECODE")
            patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.getbasetemp().parent / "pycache"))
        yield


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The embedded default bundle."""
    return default_bundle()


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(threads=1)


@pytest.fixture(scope="session")
def exported_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "installed", lambda: False)
        export_model(bert_folder(folder / "checkpoint"), folder / "tiny")
    return folder / "tiny"


@pytest.fixture
def tiny_bundle(exported_tiny: Path, tmp_path: Path) -> Path:
    """An int8 bundle of the small random BERT, for the test to change."""
    return Path(shutil.copytree(exported_tiny, tmp_path / "tiny"))


@pytest.fixture
def older_bundle(tiny_bundle: Path) -> Path:
    """The same as earlier releases made it: its products may saturate on some CPUs."""
    return saturating(tiny_bundle)
