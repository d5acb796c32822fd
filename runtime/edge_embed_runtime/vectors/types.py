"""Arrays of vectors, codes and places, by the names that all rooms use."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

Int8Codes = NDArray[np.int8]

Words = NDArray[np.uint64]

Ids = NDArray[np.int64]

Places = NDArray[np.intp]

Distances = NDArray[np.uint16]
