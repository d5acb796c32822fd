"""The peers: what each needs, what it is converted to, and where that is kept."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_embed.benchmark import adapters, machine
from edge_embed.benchmark.adapters import EXTRA, POOLINGS, Loaded, Source

OURS = "edge_embed"


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
    missing = [package for package in needed_packages(peer) if machine.installed_version(package) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (pip install 'edge-embed[{EXTRA}]')"
    if not peer.pools_itself and (source.dense or source.pooling not in POOLINGS):
        what = "a dense module" if source.dense else f"{source.pooling} pooling"
        return f"cannot do this model: it has {what}"
    return None


def artefact_folder(name: str, source: Source, work: Path) -> Path:
    """Where a converted model lies: another checkpoint or another version of a package is another folder."""
    versions = {package: machine.installed_version(package) for package in _packages(name)}
    key = [source.checkpoint_sha256, source.pooling, source.max_tokens, versions, machine.quantization_target()]
    return work / f"{name}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


ARTEFACTS: dict[str, Artefact] = {
    "onnx": Artefact(("torch", "transformers", "onnx", "optimum", "optimum-onnx"), adapters.export_onnx),
    "onnx-int8": Artefact(("optimum-onnx",), adapters.quantize_with_optimum, after="onnx"),
    "fastembed": Artefact(("fastembed",), adapters.write_fastembed_folder, after="onnx"),
    "sentence-transformers": Artefact(
        ("sentence-transformers",), adapters.quantize_with_sentence_transformers, after="onnx"
    ),
    "openvino": Artefact(("openvino",), adapters.convert_to_openvino, after="onnx"),
    "openvino-int8": Artefact(("openvino", "nncf"), adapters.quantize_with_nncf, after="openvino"),
    "ctranslate2": Artefact(("torch", "transformers", "ctranslate2"), adapters.convert_to_ctranslate2),
}
OWN = Peer(OURS, (), adapters.Ours, pools_itself=True)
# In the order in which they are shown.
PEERS: dict[str, Peer] = {
    "fastembed": Peer("fastembed fp32", ("fastembed",), adapters.FastEmbed, "fastembed"),
    "st-fp32": Peer(
        "sentence-transformers fp32",
        ("torch", "sentence-transformers"),
        adapters.load_sentence_transformers,
        pools_itself=True,
    ),
    "st-int8": Peer(
        "sentence-transformers int8",
        ("sentence-transformers",),
        adapters.load_sentence_transformers_int8,
        "sentence-transformers",
        pools_itself=True,
    ),
    "optimum-int8": Peer("onnxruntime int8 (optimum)", ("onnxruntime",), adapters.load_onnxruntime, "onnx-int8"),
    "openvino-fp32": Peer("OpenVINO fp32", ("openvino",), adapters.load_openvino("f32"), "openvino"),
    "openvino-bf16": Peer("OpenVINO bf16", ("openvino",), adapters.load_openvino("bf16"), "openvino"),
    "openvino-int8": Peer("OpenVINO int8", ("openvino",), adapters.load_openvino(None), "openvino-int8"),
    "ctranslate2-int8": Peer("CTranslate2 int8", ("ctranslate2",), adapters.load_ctranslate2, "ctranslate2"),
}
# Whose vectors cosines are measured against: the first that works, measured itself or not.
REFERENCES = ("st-fp32", "fastembed", "openvino-fp32")


def candidate(name: str) -> Peer:
    """Ours or a peer by name."""
    return OWN if name == OURS else PEERS[name]
