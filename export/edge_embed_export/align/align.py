"""`edge-embed align`: a tower brought into a text model's space by pairs of files and captions."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.align.backbone import FEATURES, Backbone, Features, open_backbone
from edge_embed_export.align.graph import with_head
from edge_embed_export.align.head import Head, fit_head
from edge_embed_export.align.measure import measured
from edge_embed_export.align.pairs import Pair, Parts, read_pairs, split_pairs
from edge_embed_export.calibration.pictures import calibration_pictures
from edge_embed_export.calibration.sounds import calibration_sounds
from edge_embed_export.towers.graph import FLOOR, with_int8_weights
from edge_embed_export.towers.made import FLOATS, Made, Sample, bundle_of, finished
from edge_embed_export.towers.memory import activation_bytes
from edge_embed_runtime.bundle.bundle import Bundle, check_replaceable, read_bundle, write_bundle
from edge_embed_runtime.bundle.join import join_bundles, space_of
from edge_embed_runtime.bundle.manifest import TOWER_FILES, Manifest
from edge_embed_runtime.checks import check_count, unusable
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import FidelityError, InputError, MediaError
from edge_embed_runtime.extras import require
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.vectors.normalize import normalize

Array = NDArray[np.float32]

# How much a file's other captions count beside its first one.
OTHERS = 0.5
MOST_SHARE = 0.4


@dataclass(frozen=True)
class AlignOptions:
    """modality:  of the tower, "image" or "audio"
    held_out:  share of the captions that figures are measured on
    seed:      of the split
    views:     of each picture that are learnt from, 1 to 5 (see views.py)
    precision: "int8" stores weights in int8, "fp32" does not
    cache:     a folder that keeps features, for another run or after an interruption
    """

    modality: str
    held_out: float = 0.1
    seed: int = 0
    views: int = 3
    precision: str = "int8"
    cache: Path | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.modality not in TOWER_FILES:
            raise unusable("modality", self.modality, f"one of {tuple(TOWER_FILES)}")
        if self.precision not in ("int8", "fp32"):
            raise unusable("precision", self.precision, "int8 or fp32")
        if not 0 < self.held_out <= MOST_SHARE:
            raise unusable("held_out", self.held_out, f"a number over 0, at most {MOST_SHARE}")
        check_count(self.views, "views", 1, 5)


class Aligned(NamedTuple):
    """What `align_tower` wrote, its figures, and the files that could not be read."""

    manifest: Manifest
    figures: dict[str, Any]
    unreadable: list[MediaError]


def align_tower(
    pairs: str | os.PathLike[str],
    out: str | os.PathLike[str],
    tower: str | os.PathLike[str],
    text: str | os.PathLike[str],
    options: AlignOptions,
    *,
    tower_only: bool = False,
    name: str | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Aligned:
    """Train a projection from a tower into a text bundle's space, and write the text bundle with that tower.

    pairs: see `read_pairs`
    tower: a bundle with a tower of the modality; where its `space` is the texts' already, its own vector is added
    text:  the text bundle, of kind dense
    tower_only: write a bundle of the tower alone, without a model for texts; `edge-embed join` puts both together

    Raises SourceError for pairs that cannot be read or are too few, InputError for bundles that do not fit,
    FidelityError where int8 weights lose too much, MissingExtraError without onnx.
    """
    require("onnx", "train")
    target = Path(out).absolute()
    check_replaceable(target, overwrite)
    given = read_pairs(Path(pairs))
    texts = read_bundle(text)
    space = space_of(texts.manifest)
    backbone = open_backbone(read_bundle(tower), options.modality, space)
    progress(f"{len(given)} pairs, {len({pair.group for pair in given})} captions")
    course = _Course(given, split_pairs(given, options.held_out, options.seed), _embedder(texts, options), options)
    features, unreadable = _features(backbone, given, options, show_progress)
    head, figures = course.run(features, show_progress, progress)
    progress("measuring" if options.precision == "fp32" else "storing weights in int8, and measuring")
    notes = {"pairs": len(given), "pairs_sha256": _sha256(Path(pairs)), "unreadable": len(unreadable), **figures}
    made = _made(backbone, head, texts, {"aligned": notes}, options, target)
    manifest = bundle_of(name or target.name, made.dim, space, [made])
    progress(f"writing {target}")
    if tower_only:
        write_bundle(target, manifest, made.contents, overwrite=overwrite)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_bundle(Path(folder) / target.name, manifest, made.contents)
            manifest = join_bundles(texts.path, [Path(folder) / target.name], target, name=name, overwrite=overwrite)
    return Aligned(manifest, {**figures, "receipt": made.tower.receipt}, unreadable)


def _embedder(texts: Bundle, options: AlignOptions) -> Embedder:
    manifest = texts.manifest
    if not manifest.has_text or manifest.kind != "dense":
        raise InputError(f"{texts.path} gives no dense vectors of texts: its kind is {manifest.kind}", path=texts.path)
    return Embedder(texts, threads=options.threads)


def _features(
    backbone: Backbone, pairs: Sequence[Pair], options: AlignOptions, show: bool
) -> tuple[Features, list[MediaError]]:
    unreadable: list[MediaError] = []
    with progress_bar(len(pairs), show, "reading files") as advance:
        features = backbone.features(
            [pair.path for pair in pairs],
            options.views,
            cache=options.cache,
            threads=options.threads or default_threads(),
            refused=unreadable.append,
            advance=advance,
        )
    return features, unreadable


@dataclass(frozen=True)
class _Course:
    """Pairs on their way to a head: fitted to a part, measured on the others, then fitted to all."""

    pairs: Sequence[Pair]
    parts: Parts
    embedder: Embedder
    options: AlignOptions

    def run(self, features: Features, show: bool, progress: Callable[[str], None]) -> tuple[Head, dict[str, Any]]:
        """The head of all pairs, and the figures of one that knew nothing of those that are held out."""
        read = set(map(int, features.owners))
        train, held_out = ([place for place in part if place in read] for part in self.parts)
        if not (train and held_out):
            raise InputError(f"of {len(self.pairs)} pairs only {len(read)} could be read: too few to learn from")
        progress(f"embedding captions with {self.embedder.manifest.name}")
        targets = self._targets(features, show)
        progress(f"training on {len(train)} files; {len(held_out)} are held out")
        last = measured(features, held_out, [self.pairs[i].captions[0] for i in held_out], self._asked(show))
        first = self._fitted(features, targets, train)
        figures = {
            "held_out": {"files": len(held_out), **last.recall(first)},
            "cosine": round(last.cosine(first), 4),
            "seed": self.options.seed,
        }
        progress(f"training on all {len(read)} files")
        return self._fitted(features, targets, sorted(read)), figures

    def _fitted(self, features: Features, targets: Array, files: list[int]) -> Head:
        kept = np.isin(features.owners, files)
        part = Features(features.rows[kept], features.own[kept], features.owners[kept], features.plain[kept])
        return fit_head(part, targets[kept], self.options.seed)

    def _targets(self, features: Features, show: bool) -> Array:
        """[rows, dim]: the vector of the first caption, and OTHERS times the mean of the others."""
        texts = list(dict.fromkeys(text for pair in self.pairs for text in pair.captions))
        vectors = self.embedder.encode_document(texts, show_progress=show)
        place = {text: vectors[i] for i, text in enumerate(texts)}
        wanted = np.stack([_target(pair, place) for pair in self.pairs])
        return normalize(wanted)[features.owners]

    def _asked(self, show: bool) -> dict[str, Array]:
        """What the first captions are as questions, by caption."""
        texts = list(dict.fromkeys(self.pairs[place].captions[0] for place in self.parts.held_out))
        return dict(zip(texts, self.embedder.encode_query(texts, show_progress=show), strict=True))


def _target(pair: Pair, vectors: dict[str, Array]) -> Array:
    first, *others = (vectors[text] for text in pair.captions)
    return first if not others else first + np.float32(OTHERS) * np.mean(others, axis=0)


def _made(
    backbone: Backbone, head: Head, texts: Bundle, notes: dict[str, Any], options: AlignOptions, target: Path
) -> Made:
    """The tower with its head, measured."""
    old = backbone.tower
    model = with_head(backbone.model, backbone.start, backbone.vector, head)
    shape = [dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    facts = {key: value for key, value in old.architecture.items() if key != FEATURES}
    facts["activation_bytes"] = activation_bytes(model, tuple(shape))
    provenance = {
        **old.provenance,
        **notes,
        "text_model": f"{texts.manifest.name}, {texts.manifest.fingerprint}",
        # the receipt's cosine counts from the tower as it was given: what that had lost before stands here
        "tower": {
            "fingerprint": backbone.bundle.manifest.fingerprint,
            "cosine_to_fp32": old.receipt.get("cosine_to_fp32"),
        },
    }
    file = TOWER_FILES[options.modality][0]
    whole = replace(old, architecture=facts, quantization=dict(FLOATS), golden=[], receipt={}, provenance=provenance)
    made = Made(options.modality, head.second.shape[1], {file: model.SerializeToString()}, whole)
    reference = None
    if options.precision == "int8":
        reference, made = made, with_int8_weights(made)
    try:
        return finished(made, reference, _sample(options.modality), target, FLOOR)
    except FidelityError as error:
        raise FidelityError(
            f"weights in int8 give vectors with a mean cosine of {error.cosine} to those of float32, the floor is "
            f"{FLOOR}; nothing was written. Store them in float32: --precision fp32",
            cosine=error.cosine,
            floor=FLOOR,
        ) from error


def _sample(modality: str) -> Sample:
    """What the receipt is measured on: pictures drawn, or sounds made, by code."""
    if modality == "image":
        return Sample("pictures drawn by code", calibration_pictures("receipt"))
    return Sample("sounds made by code", calibration_sounds("receipt"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
