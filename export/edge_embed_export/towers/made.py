"""A tower that was made, measured and given its golden inputs, and the bundle that it goes into."""

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.request import CODES
from edge_embed_export.towers.decoding import decode_receipt
from edge_embed_export.towers.golden import golden_files
from edge_embed_quantize.receipt import cosine_receipt
from edge_embed_runtime.bundle.bundle import Bundle, Content, file_records, stamp_of
from edge_embed_runtime.bundle.manifest import TOWER_FILES, Manifest
from edge_embed_runtime.bundle.towers import Tower, golden_input
from edge_embed_runtime.errors import ExportError, FidelityError, MediaError
from edge_embed_runtime.model.golden import GOLDEN_DIGITS
from edge_embed_runtime.model.options import RunOptions
from edge_embed_runtime.model.tower import TowerModel
from edge_embed_runtime.system.cpu import cpu_model
from edge_embed_runtime.vectors.types import Vectors

SPEED_ROUNDS = 3
# What a manifest says of a tower that was not quantized.
FLOATS = {"weights": "float32", "activations": "float32"}
# Vectors of different inputs that are nearer to each other say nothing of them.
SAME = 0.99999


@dataclass(frozen=True)
class Made:
    """One tower on its way into a bundle.

    contents: its files by their names in the bundle
    tower:    without golden inputs and receipt, which `finished` adds
    """

    modality: str
    dim: int
    contents: Mapping[str, Content]
    tower: Tower

    def load(self, target: Path) -> TowerModel:
        """The model, as the bundle runs it, on one thread."""
        model, modality = self.contents[TOWER_FILES[self.modality][0]], self.modality
        manifest = bundle_of(target.name, self.dim, "", [self])
        where, stamps = target, dict[str, tuple[int, ...]]()
        if isinstance(model, Path):
            where, stamps = model.parent, {modality: stamp_of(model.parent, manifest, modality)}
        bundle = Bundle(where, manifest, b"", b"", towers={modality: model}, stamps=stamps)
        return TowerModel(bundle, modality, RunOptions(threads=1))


def bundle_of(name: str, dim: int, space: str, made: Sequence[Made], **facts: Any) -> Manifest:
    """The manifest of a bundle with towers and no model for texts. facts: other fields of it"""
    contents = {file: content for one in made for file, content in one.contents.items()}
    kinds = [one.tower.kind for one in made]
    return Manifest(
        **{
            "name": name,
            "files": file_records(contents),
            "dim": dim,
            "max_tokens": 0,
            "pooling": "",
            "architecture": {},
            "codes": CODES,
            "kind": kinds[0],
            "space": space,
            "towers": {one.modality: one.tower for one in made},
            **facts,
        }
    )


@dataclass(frozen=True)
class Sample:
    """Inputs that calibration does not see, by which a tower is measured: encoded files, paths or samples."""

    title: str
    inputs: Sequence[object] = field(default_factory=tuple)


def finished(made: Made, reference: Made | None, sample: Sample, target: Path, floor: float) -> Made:
    """The tower with its golden inputs and its receipt.

    reference: its float form, where it is another
    floor:     the lowest mean cosine to it

    Raises ExportError for a model whose vectors cannot be used, FidelityError below the floor.
    """
    model = made.load(target)
    files = golden_files(made.modality)
    inputs = [content for _, content in files]
    vectors = [model.one(given) for given in inputs]
    _check_usable(made, vectors, target)
    golden = [
        golden_input(name, content, (round(float(x), GOLDEN_DIGITS) for x in vector.reshape(-1)))
        for (name, content), vector in zip(files, vectors, strict=True)
    ]
    measured = sample if sample.inputs else Sample("the golden inputs", inputs)
    receipt = _receipt(made, model, reference.load(target) if reference is not None else None, measured)
    reached = receipt["cosine_to_fp32"]["mean"] if reference is not None else 1.0
    if not reached >= floor:
        raise FidelityError(
            f"the {made.modality} tower has a mean cosine of {reached} to the float32 model, the floor is {floor}; "
            "nothing was written. A lower floor accepts it",
            cosine=reached,
            floor=floor,
        )
    return replace(made, tower=replace(made.tower, golden=golden, receipt=receipt))


def _check_usable(made: Made, vectors: Sequence[Vectors], target: Path) -> None:
    rows = [vector.reshape(-1, made.dim) for vector in vectors]
    lengths = np.concatenate([np.linalg.norm(row, axis=1) for row in rows])
    if np.abs(lengths - 1).max() > 1e-3:
        raise ExportError(f"{target.name}: the {made.modality} tower gives vectors that cannot be normalised")
    if all(row.shape == rows[0].shape and float((row * rows[0]).sum(axis=1).min()) > SAME for row in rows[1:]):
        raise ExportError(f"{target.name}: the {made.modality} tower gives the same vector for different inputs")


def _receipt(made: Made, model: TowerModel, reference: TowerModel | None, sample: Sample) -> dict[str, Any]:
    found, fast = _timed(model, sample.inputs)
    receipt: dict[str, Any] = {"inputs": f"{len(sample.inputs)} of {sample.title}"}
    speed: dict[str, Any] = {"inputs_per_cpu_second": fast}
    if reference is not None:
        expected, slow = _timed(reference, sample.inputs)
        cosines = cosine_receipt(np.concatenate(expected), np.concatenate(found))
        receipt["cosine_to_fp32"] = cosines["cosine_to_fp32"]
        speed["inputs_per_cpu_second_fp32"] = slow
    if made.tower.front.get("decode") == "scaled":
        receipt["decode"] = decode_receipt(model)
    size = sum(record.size for record in file_records(made.contents).values())
    return {**receipt, "bytes": size, "speed": {**speed, "threads": 1, "cpu": cpu_model()}}


def _timed(model: TowerModel, inputs: Sequence[object]) -> tuple[list[Vectors], float]:
    """Vectors of all places [n, dim] of each input, and inputs per CPU second, to three digits; reading them counts."""
    seconds = []
    vectors: list[Vectors] = []
    for _ in range(SPEED_ROUNDS):
        start = time.process_time()
        vectors = [vector.reshape(-1, vector.shape[-1]) for vector in _all(model, inputs)]
        seconds.append(time.process_time() - start)
    return vectors, float(f"{len(inputs) / max(statistics.median(seconds), 1e-9):.3g}")


def _all(model: TowerModel, inputs: Iterable[object]) -> list[Vectors]:
    found = []
    for _, vectors in model.encode(list(inputs)):
        if isinstance(vectors, MediaError):
            raise vectors
        found.append(vectors)
    return found
