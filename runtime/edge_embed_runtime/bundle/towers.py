"""Towers: models in a bundle for other inputs than texts, whose vectors lie in one space with those of its texts.

What turns a picture or a sound into numbers is data, `front`: inputs/ reads it (see `inputs.base.read_front`).
"""

import base64
import binascii
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.vectors.kinds import DENSE, KINDS, MULTI, Kind

# What a tower may give for one input: a vector, or several.
TOWER_KINDS = (DENSE, MULTI)
MAX_GOLDEN = 64
MAX_NAME = 200  # characters of a space's name, or a golden input's
GOLDEN_BYTES = 2**18  # of a golden input's file


@dataclass(frozen=True)
class GoldenInput:
    """An encoded file, and the vector that the exporter's machine got for it: decoders and resamplers count too.

    name: tells people what it is, and by its suffix the format: "photo.jpg"
    data: base64 of the file, at most GOLDEN_BYTES
    vector: [dim], or of kind "multi" those of all places, one after the other
    """

    name: str
    data: str
    vector: list[float]

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        return base64.b64decode(self.data, validate=True)


@dataclass(frozen=True)
class Tower:
    """A model of one modality; its files are TOWER_FILES, its dim the manifest's.

    front:        how an input becomes the model's numbers, for `inputs.base.read_front`, which refuses by name what it
                  does not know
    kind:         "dense" for one vector, "multi" for several
    architecture: what the budget needs: "layers", "hidden", "heads", "intermediate", "tokens" of a transformer;
                  "activation_bytes" of any model, measured at the export
    """

    front: dict[str, Any]
    kind: str = DENSE.name
    architecture: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    golden: list[GoldenInput] = field(default_factory=list)
    receipt: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Kind:
        """What it gives for an input: `kind`, as the object that knows about it."""
        return KINDS[self.kind]


def deciding(towers: Mapping[str, Tower]) -> dict[str, Any]:
    """What decides an input's vector besides the files."""
    return {name: [tower.front, tower.kind] for name, tower in towers.items()}


def parse_towers(content: object, expected: Sequence[str], dim: int) -> dict[str, Tower]:
    """The towers of a manifest.

    expected: the modalities of which the bundle has files, in their order
    dim:      numbers in a vector

    Raises ValueError, TypeError or KeyError for what this release does not understand.
    """
    given = _object(content, "towers")
    if list(given) != list(expected):
        raise ValueError(f"towers are {listed(given)}, and the files are of {listed(expected)}")
    return {name: _tower(entry, f"tower {name}", dim) for name, entry in given.items()}


def check_space(space: str, kind: Kind, towers: Mapping[str, Tower], of_texts: Sequence[str] | None) -> None:
    """Raises ValueError where a bundle with towers, or with a name for its space, says what cannot be.

    kind:     of its vectors
    of_texts: what it says of texts, where it has no model for them; None where it has
    """
    kinds = [tower.kind for tower in towers.values()]
    if len(space) > MAX_NAME or not space.isprintable():
        raise ValueError(f"space is {shown(space)}, expected at most {MAX_NAME} characters")
    if of_texts is None and towers and kind not in TOWER_KINDS:
        raise ValueError(f"a model of kind {kind.name!r} for texts shares its space with no tower")
    if of_texts:
        raise ValueError(f"{of_texts[0]} is said of texts, for which there is no model")
    if of_texts is not None and kind.name not in kinds:
        raise ValueError(f"kind is {kind.name!r}, and its towers give {listed(kinds)}")


def _tower(content: object, what: str, dim: int) -> Tower:
    entry = _exact(content, {one.name for one in fields(Tower)}, what)
    known = [kind.name for kind in TOWER_KINDS]
    if entry["kind"] not in known:
        raise ValueError(f"{what}: kind is {shown(entry['kind'])}, expected one of {known}")
    golden = entry["golden"]
    if not isinstance(golden, list) or len(golden) > MAX_GOLDEN:
        raise TypeError(f"{what}: golden must be a list of at most {MAX_GOLDEN}")
    facts = {name: _object(entry[name], f"{what}: {name}") for name in entry.keys() - {"kind", "golden"}}
    if not facts["front"]:
        raise ValueError(f"{what}: front says nothing")
    return Tower(kind=entry["kind"], golden=[_golden(one, what, KINDS[entry["kind"]], dim) for one in golden], **facts)


def _golden(content: object, what: str, kind: Kind, dim: int) -> GoldenInput:
    entry = _exact(content, {one.name for one in fields(GoldenInput)}, f"{what}: golden")
    name, data, vector = entry["name"], entry["data"], entry["vector"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not isinstance(data, str):
        raise TypeError(f"{what}: golden must have a short name and base64 data")
    if len(data) > 4 * GOLDEN_BYTES // 3 + 4:
        raise ValueError(f"{what}: golden {shown(name)} has more than {GOLDEN_BYTES} bytes")
    golden = GoldenInput(name, data, _numbers(vector, f"{what}: golden {shown(name)}"))
    try:
        empty = not golden.content
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{what}: golden {shown(name)} is not base64: {error}") from error
    if empty or not vector or not kind.has_length(len(vector), dim):
        raise ValueError(f"{what}: golden {shown(name)} has not the bytes or numbers that dim {dim} asks for")
    return golden


def _numbers(content: object, what: str) -> list[float]:
    if not isinstance(content, list) or not all(type(x) is float and math.isfinite(x) for x in content):
        raise TypeError(f"{what}: the vector must be a list of finite numbers")
    return content


def _exact(content: object, names: set[str], what: str) -> dict[str, Any]:
    entry = _object(content, what)
    if odd := entry.keys() - names:
        raise ValueError(f"{what} says {min(odd)!r:.60}, which this release does not know")
    if missing := names - entry.keys():
        raise ValueError(f"{what} does not say {min(missing)!r}")
    return entry


def _object(content: object, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError(f"{what} is {type(content).__name__}, expected an object")
    return content


def golden_input(name: str, content: bytes, vector: Iterable[float]) -> GoldenInput:
    """A golden input of a file's bytes."""
    return GoldenInput(name, base64.b64encode(content).decode(), [float(x) for x in vector])
