"""The peers: what each needs, what it is converted to, and where that is kept."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.common import OURS, not_installed
from bench.encode import runtimes
from bench.encode.runtimes import EXTRA, POOLINGS, Loaded, Source
from edge_embed.measuring import versions


@dataclass(frozen=True)
class Artefact:
    """Files that a peer loads. make(source, folder, folder of `after`) writes them; packages are distributions."""

    packages: tuple[str, ...]
    make: Callable[[Source, Path, Path], None]
    after: str | None = None


@dataclass(frozen=True)
class Peer:
    """load(source, folder of the artefact, threads)."""

    title: str
    packages: tuple[str, ...]
    load: Callable[[Source, Path, int], Loaded]
    artefact: str | None = None
    pools_itself: bool = False


def needed_packages(peer: Peer) -> tuple[str, ...]:
    """Distributions that a peer needs to be converted and run."""
    return tuple(dict.fromkeys([*peer.packages, *_packages(peer.artefact)]))


def _packages(name: str | None) -> list[str]:
    """Distributions that an artefact, and what it is made from, are made with."""
    if name is None:
        return []
    return [*ARTEFACTS[name].packages, *_packages(ARTEFACTS[name].after)]


def why_not(peer: Peer, source: Source) -> str | None:
    """Why a peer cannot be measured, in one line, or None."""
    if missing := not_installed(needed_packages(peer), EXTRA):
        return missing
    if not peer.pools_itself and (source.dense or source.pooling not in POOLINGS):
        what = "a dense module" if source.dense else f"{source.pooling} pooling"
        return f"cannot do this model: it has {what}"
    return None


def artefact_folder(name: str, source: Source, work: Path) -> Path:
    """Where a converted model lies: another checkpoint or another version of a package is another folder."""
    releases = {package: versions.installed_version(package) for package in _packages(name)}
    key = [source.checkpoint_sha256, source.pooling, source.max_tokens, releases, runtimes.quantization_target()]
    return work / f"{name}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


ARTEFACTS: dict[str, Artefact] = {
    "onnx": Artefact(("torch", "transformers", "onnx", "optimum", "optimum-onnx"), runtimes.export_onnx),
    "onnx-int8": Artefact(("optimum-onnx",), runtimes.quantize_with_optimum, after="onnx"),
    "fastembed": Artefact(("fastembed",), runtimes.write_fastembed_folder, after="onnx"),
    "sentence-transformers": Artefact(
        ("sentence-transformers",), runtimes.quantize_with_sentence_transformers, after="onnx"
    ),
    "openvino": Artefact(("openvino",), runtimes.convert_to_openvino, after="onnx"),
    "openvino-int8": Artefact(("openvino", "nncf"), runtimes.quantize_with_nncf, after="openvino"),
    "ctranslate2": Artefact(("torch", "transformers", "ctranslate2"), runtimes.convert_to_ctranslate2),
}
# Ours: the bundle as it is, the same in onnxruntime where another engine is its own, and a second bundle (--other).
IN_ONNXRUNTIME, OTHER = f"{OURS}-onnxruntime", f"{OURS}-other"
OWN = {
    OURS: Peer(OURS, (), runtimes.Ours, pools_itself=True),
    IN_ONNXRUNTIME: Peer(f"{OURS} in onnxruntime", (), runtimes.load_in_onnxruntime, pools_itself=True),
    OTHER: Peer(f"{OURS}, the other bundle", (), runtimes.load_other, pools_itself=True),
}
# In the order in which they are shown.
PEERS: dict[str, Peer] = {
    "fastembed": Peer("fastembed fp32", ("fastembed",), runtimes.FastEmbed, "fastembed"),
    "st-fp32": Peer(
        "sentence-transformers fp32",
        ("torch", "sentence-transformers"),
        runtimes.load_sentence_transformers,
        pools_itself=True,
    ),
    "st-int8": Peer(
        "sentence-transformers int8",
        ("sentence-transformers",),
        runtimes.load_sentence_transformers_int8,
        "sentence-transformers",
        pools_itself=True,
    ),
    "optimum-int8": Peer("onnxruntime int8 (optimum)", ("onnxruntime",), runtimes.load_onnxruntime, "onnx-int8"),
    "openvino-fp32": Peer("OpenVINO fp32", ("openvino",), runtimes.load_openvino("f32"), "openvino"),
    "openvino-bf16": Peer("OpenVINO bf16", ("openvino",), runtimes.load_openvino("bf16"), "openvino"),
    "openvino-int8": Peer("OpenVINO int8", ("openvino",), runtimes.load_openvino(None), "openvino-int8"),
    "ctranslate2-int8": Peer("CTranslate2 int8", ("ctranslate2",), runtimes.load_ctranslate2, "ctranslate2"),
}
# Whose vectors cosines are measured against: the first that works, measured itself or not.
REFERENCES = ("st-fp32", "fastembed", "openvino-fp32")


def candidate(name: str) -> Peer:
    """Ours or a peer by name."""
    return OWN.get(name) or PEERS[name]
