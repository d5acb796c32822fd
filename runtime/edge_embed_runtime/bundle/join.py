"""Bundles of one space as one: a model for texts with towers of other bundles, whose files are copied as they are."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_embed_runtime.bundle.bundle import Bundle, Copied, check_replaceable, read_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import TEXT, TOWER_FILES, Manifest, by_modality
from edge_embed_runtime.bundle.towers import TOWER_KINDS, Tower
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import InputError

AnyPath = str | os.PathLike[str]


def join_bundles(
    texts: AnyPath,
    towers: Sequence[AnyPath],
    target: AnyPath,
    *,
    same_space: bool = False,
    name: str | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write a bundle that has the model for texts of one bundle, and the towers of others.

    texts:      a bundle with a model for texts; towers that it has stay
    towers:     bundles with towers; a model for texts that one of them has is left out
    same_space: their vectors were trained to be compared, though the bundles name other spaces
    name:       the new bundle's; None means the name of the folder

    Nothing is quantized again: vectors, golden inputs and receipts stay what they are. Raises BundleError for a bundle
    that is damaged, InputError for bundles that do not belong together or an output that may not be replaced.
    """
    out = Path(target)
    check_replaceable(out, overwrite)
    first, others = read_bundle(texts), [read_bundle(path) for path in towers]
    _check_texts(first)
    found = {modality: (first, tower) for modality, tower in first.manifest.towers.items()}
    for bundle in others:
        _check_space(first, bundle, same_space=same_space)
        for modality, tower in bundle.manifest.towers.items():
            if modality in found:
                raise InputError(
                    f"{found[modality][0].path} and {bundle.path} both have a model for {modality}: a bundle has one",
                    path=bundle.path,
                )
            found[modality] = bundle, tower
    manifest, contents = _joined(first, found, name or out.absolute().name, same_space=same_space)
    write_bundle(out, manifest, contents, overwrite=overwrite)
    return manifest


def space_of(manifest: Manifest) -> str:
    """The name of the space that a bundle's vectors lie in."""
    return manifest.space or manifest.fingerprint


def _check_texts(bundle: Bundle) -> None:
    manifest = bundle.manifest
    if not manifest.has_text:
        raise InputError(
            f"bundle {bundle.path} has no model for texts: it has one for {listed(manifest.towers)}; name the bundle "
            "with the model for texts first",
            path=bundle.path,
        )
    if manifest.output not in TOWER_KINDS:
        raise InputError(
            f"bundle {bundle.path} gives {manifest.output.gives}, which vectors of pictures or sounds cannot be "
            "compared with",
            path=bundle.path,
        )


def _check_space(first: Bundle, bundle: Bundle, *, same_space: bool) -> None:
    """Raise InputError where a bundle has no tower, or vectors that cannot be compared with those of the first."""
    own, other = first.manifest, bundle.manifest
    if not other.towers:
        raise InputError(f"bundle {bundle.path} has no model for pictures or sounds", path=bundle.path)
    if own.dim != other.dim:
        raise InputError(
            f"{first.path} gives vectors of dim {own.dim}, {bundle.path} of dim {other.dim}: they cannot be compared",
            path=bundle.path,
        )
    if space_of(own) != space_of(other) and not same_space:
        raise InputError(
            f"{first.path} is of the space {space_of(own)!r:.80}, {bundle.path} of {space_of(other)!r:.80}: their "
            "vectors mean nothing to each other, unless both were trained to agree; if they were, say --same-space "
            "(same_space=True)",
            path=bundle.path,
            option="same_space",
        )


def _joined(
    first: Bundle, found: dict[str, tuple[Bundle, Tower]], name: str, *, same_space: bool
) -> tuple[Manifest, dict[str, Copied]]:
    own = first.manifest
    order = [modality for modality in TOWER_FILES if modality in found]
    files = {file: own.files[file] for file in by_modality(own.files)[TEXT]}
    contents: dict[str, Copied] = {file: Copied(first.path / file) for file in files}
    for modality in order:
        bundle, _ = found[modality]
        for file in by_modality(bundle.manifest.files)[modality]:
            files[file], contents[file] = bundle.manifest.files[file], Copied(bundle.path / file)
    joined = {modality: found[modality][0].manifest.name for modality in order}
    said = {"joined": joined, **({"same_space": "as the caller says"} if same_space else {})}
    manifest = replace(
        own,
        name=name,
        files=files,
        space=space_of(own),
        towers={modality: found[modality][1] for modality in order},
        provenance={**own.provenance, **said},
    )
    return manifest, contents
