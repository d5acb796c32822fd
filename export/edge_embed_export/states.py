"""Where a bundle's model has the states of tokens behind each layer, for `Embedder.encode_tokens`."""

from base64 import b64encode
from collections.abc import Mapping, Sequence

from edge_embed_export.spec import Array, Spec, Weights
from edge_embed_runtime.bundle import Layer


def layer_states(states: Sequence[str], spec: Spec, weights: Weights, moved: Mapping[str, Array]) -> list[Layer]:
    """The manifest's `layers`.

    states: values of the graph, as `build` names them
    moved:  what an int8 model has taken from the channels of the values that norms and linear layers give
    """
    first = "embedding.project" if "embedding.project.weight" in weights else "embedding.norm"
    # between pre-norm layers states are sums, which nothing was taken from
    behind = [f"layers.{block.weights}.output_norm" if spec.norm == "post" else "" for block in spec.blocks]
    found = []
    for state, producer in zip(states, [first, *behind], strict=True):
        offset = moved.get(producer)
        shifted = b"" if offset is None or not offset.any() else offset.astype("<f4").tobytes()
        found.append(Layer(state, b64encode(shifted).decode()))
    return found
