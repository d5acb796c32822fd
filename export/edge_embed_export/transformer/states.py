"""Where a bundle's model has the states of tokens behind each layer, for `Embedder.encode_tokens`."""

from base64 import b64encode
from collections.abc import Mapping, Sequence

import numpy as np

from edge_embed_export.transformer.spec import Array, Spec, Weights
from edge_embed_runtime.bundle.manifest import Layer


def producers(spec: Spec, weights: Weights) -> list[str]:
    """What gives the states of tokens, of the embeddings and behind each layer: norms and layers that int8 may move."""
    first = "embedding.project" if "embedding.project.weight" in weights else "embedding.norm"
    # between pre-norm layers states are sums, which nothing was taken from
    return [first, *(f"layers.{block.weights}.output_norm" if spec.norm == "post" else "" for block in spec.blocks)]


def mix_offset(spec: Spec, weights: Weights, moved: Mapping[str, Array]) -> dict[str, Array]:
    """The weight `mix.offset`, where the model mixes states that something was taken from."""
    shares = zip(spec.mix, producers(spec, weights), strict=True) if spec.mix else ()
    taken = [np.float32(share) * moved[name] for share, name in shares if name in moved]
    return {"mix.offset": np.sum(taken, axis=0, dtype=np.float32)} if taken else {}


def layer_states(states: Sequence[str], spec: Spec, weights: Weights, moved: Mapping[str, Array]) -> list[Layer]:
    """The manifest's `layers`.

    states: values of the graph, as `build` names them
    moved:  what an int8 model has taken from the channels of the values that norms and linear layers give
    """
    found = []
    for state, producer in zip(states, producers(spec, weights), strict=True):
        offset = moved.get(producer)
        shifted = b"" if offset is None or not offset.any() else offset.astype("<f4").tobytes()
        found.append(Layer(state, b64encode(shifted).decode()))
    return found
