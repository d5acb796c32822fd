"""Texts that a bundle comes with, and the vectors that any machine must make of them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import TEXT, Golden, Manifest
from edge_embed_runtime.system.cpu import cpu_features, cpu_identity

# Golden vectors of another CPU agree to about 0.9997; a kernel that saturates gives 0.995.
GOLDEN_COSINE = 0.999
# Those of another engine lie 0.0005 lower: one more rounding, and then another CPU's.
OTHER_ENGINE_COSINE = 0.998
# Digits behind the point that exporters give the numbers of dense golden vectors.
GOLDEN_DIGITS = 6
# Of this release: to install another replaces it.
OWN_FILE = Path(__file__)


def golden_cosine(manifest: Manifest, dim: int, encode: Callable[[Golden], NDArray[np.float32]]) -> float:
    """The lowest cosine of a golden text's vector to the exporter's (of a cross-encoder see `Rerank.agreement`); 1
    where the bundle has no golden texts.

    encode: gives one text's vector [1, dim or more], or [1, tokens, dim] where each token has one. Together the texts
            would need more memory than the query that most processes start with
    """
    if not manifest.golden:
        return 1.0
    kind = manifest.output
    expected = [kind.golden(np.array([golden.vector], np.float32), dim) for golden in manifest.golden]
    found = [encode(golden)[..., :dim].reshape(1, -1) for golden in manifest.golden]
    if any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
        return 0.0
    return kind.agreement(expected, found)


def golden_stamp(
    bundle: Bundle,
    engine: str,
    library: Path | str | None,
    dim: int,
    modality: str = TEXT,
    readers: Sequence[object] = (),
) -> str:
    """The hash of everything that decides whether golden inputs pass here (see stamps.py); "" where that can't be said.

    engine:  name and version of what runs the model
    library: its file; another one may lie there under the same version
    readers: of a tower, what tells releases of the packages apart that read its inputs
    """
    manifest = bundle.manifest
    inputs = manifest.golden if modality == TEXT else manifest.towers[modality].golden
    if not (inputs and isinstance(bundle.model_of(modality), Path) and library):
        return ""
    try:
        file, own = Path(library).stat(), OWN_FILE.stat()
    except OSError:
        return ""
    decide = {
        "bundle": [manifest.fingerprint, repr(manifest.native), [vars(golden) for golden in inputs], dim],
        "engine": [engine, str(library), file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns],
        "packages": [np.__version__, tokenizers.__version__, own.st_ino, own.st_size, own.st_mtime_ns],
        "machine": [cpu_identity(), *cpu_features()],
    }
    if modality != TEXT:
        decide["tower"] = [modality, *readers]
    return hashlib.sha256(json.dumps(decide, sort_keys=True).encode()).hexdigest()
