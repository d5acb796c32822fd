"""What quantization lost, in figures that go into the manifest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def cosine_receipt(reference: Vectors, vectors: Vectors) -> dict[str, Any]:
    """Cosine of each vector [n, d] to its reference: mean, 5th percentile and minimum, to four places."""
    cosines = (reference * vectors).sum(axis=1)
    figures = {"mean": cosines.mean(), "p5": np.percentile(cosines, 5), "min": cosines.min()}
    return {
        "texts": len(cosines),
        "cosine_to_fp32": {key: round(float(value), 4) for key, value in figures.items()},
    }
