"""The states of a text's tokens, from any layer of a model or a weighted mix of layers.

A token's vector depends on the text around it: that of "bank" in "the bank of the river" is another than in "money at
the bank" (https://arxiv.org/abs/1802.05365). They are the states of tokens before pooling, which transformers calls
`hidden_states`: 0 are the embeddings, the last is what pooling reads (behind a final norm, where a model has one).

The model that gives them ends where they are, so it is another session than that of text vectors, which stays as it is:
made when it is first asked for, and again for other layers. Weights are mapped, so both share them.
"""

import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import onnxruntime

from edge_embed_runtime.bundle.manifest import OWN_POOLING
from edge_embed_runtime.checks import check_count
from edge_embed_runtime.errors import BundleFormatError, EdgeEmbedError, InputError
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokens
from edge_embed_runtime.model.batching import BATCH_TOKENS
from edge_embed_runtime.model.budget import choose_profile
from edge_embed_runtime.model.network import Network
from edge_embed_runtime.model.session import load_session
from edge_embed_runtime.onnxfile.mapped import weights_of, without_weights
from edge_embed_runtime.onnxfile.outputs import pooled_value
from edge_embed_runtime.vectors.int8 import Vectors

# Texts that are tokenized and sorted together.
WINDOW = 256

Mix = Mapping[int, float]


class _Read(NamedTuple):
    """What a session that was made of the model gives: the layers in order, and what to add to each."""

    layers: tuple[int, ...]
    session: onnxruntime.InferenceSession
    offsets: list[Vectors | None]


class TokenModel:
    """The layers of a network. Threads may share one object.

    limit: bytes that the process is to keep to, or None
    """

    def __init__(self, network: Network, limit: int | None) -> None:
        self._network, self._bundle, self._limit = network, network.bundle, limit
        self._loading = threading.Lock()
        self._read: _Read | None = None

    @property
    def layers(self) -> int:
        """The number of the last layer."""
        manifest = self._bundle.manifest
        return len(manifest.layers) - 1 if manifest.layers else int(manifest.architecture.get("layers") or 1)

    def mix(self, layer: object, weights: object) -> dict[int, float]:
        """Layers from 0 on and what each counts. Raises InputError."""
        if weights is None:
            return {self._layer(-1 if layer is None else layer, "layer"): 1.0}
        if layer is not None:
            raise InputError("layer names one layer and weights mix several: give one of them", option="layer")
        if isinstance(weights, Mapping):
            pairs = list(weights.items())
        elif isinstance(weights, Sequence | np.ndarray) and not isinstance(weights, str | bytes):
            if len(weights) != self.layers + 1:
                raise InputError(
                    f"weights has {len(weights)} numbers, expected {self.layers + 1}: one for the embeddings and one "
                    "for each layer, or {layer: weight}",
                    option="weights",
                )
            pairs = list(enumerate(weights))
        else:
            raise InputError(
                f"weights is {type(weights).__name__}, expected numbers or {{layer: weight}}", option="weights"
            )
        found: dict[int, float] = {}
        for key, weight in pairs:
            number = self._layer(key, "weights: layer")
            real = isinstance(weight, int | float | np.floating | np.integer) and not isinstance(weight, bool)
            if not real or not np.isfinite(np.float32(weight)) or number in found:
                raise InputError(
                    f"weights: layer {number} has {weight!r:.40}, expected one finite number a layer", option="weights"
                )
            if weight:
                found[number] = float(weight)
        if not found:
            raise InputError("weights are all 0", option="weights")
        return dict(sorted(found.items()))

    def _layer(self, given: object, what: str) -> int:
        last = self.layers
        try:
            number = check_count(given, what, -(last + 1))
        except InputError:
            number = last + 1
        if number > last:
            raise InputError(
                f"{what} is {given!r:.40}, expected 0 (the embeddings) to {last} (the last layer), or -1 (the last) to "
                f"{-(last + 1)}"
            )
        return number % (last + 1)

    def each(
        self, texts: Sequence[str], mix: Mix, batch_tokens: int, adapter: int = 0
    ) -> Iterator[tuple[int, Tokens, Vectors]]:
        """Position, tokens and vectors [n, hidden] of each text, batch by batch: many texts need not be held at once.

        mix:     as the method of this name gives it
        adapter: counted from 1; 0 is none
        """
        if not texts:
            return
        run = partial(self._run, self._session(mix), mix, adapter)
        for start in range(0, len(texts), WINDOW):
            tokens = [self._network.tokenizer.tokens(text) for text in texts[start : start + WINDOW]]
            for batch, found in self._network.run_all([text.ids for text in tokens], batch_tokens, run):
                for i, vectors in zip(batch, found, strict=True):
                    yield start + i, tokens[i], vectors

    def _run(self, read: _Read, mix: Mix, adapter: int, rows: list[TokenIds]) -> list[Vectors]:
        """Vectors [n, hidden] of each row's tokens."""
        longest = max(map(len, rows))
        total: Vectors | None = None
        outputs = self._network.outputs(read.session, rows, adapter)
        for layer, offset, output in zip(read.layers, read.offsets, outputs, strict=True):
            by_text = output.ndim == 3 and output.shape[:2] == (len(rows), longest)
            values = output.transpose(1, 0, 2).reshape(longest * len(rows), -1) if by_text else output
            good = values.dtype == np.float32 and values.ndim == 2 and len(values) == longest * len(rows)
            if not good or (offset is not None and len(offset) != values.shape[1]):
                raise BundleFormatError(
                    f"bundle {self._bundle.path}: layer {layer} gave {values.dtype} numbers {values.shape} for "
                    f"{longest} x {len(rows)} tokens. Export it again",
                    path=self._bundle.path,
                )
            state = values if offset is None else values + offset
            state = state if mix == {layer: 1.0} else state * np.float32(mix[layer])
            total = state if total is None else total + state
        assert total is not None  # noqa: S101 - a mix has at least one layer
        total = total.reshape(longest, len(rows), -1)
        found = [np.ascontiguousarray(total[: len(row), i]) for i, row in enumerate(rows)]
        if not all(np.isfinite(vectors).all() for vectors in found):
            raise EdgeEmbedError(
                f"bundle {self._bundle.path}: the model gave numbers that are not finite. Export it again",
                path=self._bundle.path,
            )
        return found

    def _session(self, mix: Mix) -> _Read:
        layers = tuple(mix)
        with self._loading:
            read = self._read
            if read is None or read.layers != layers:
                self._read = None  # one at a time
                read = self._read = self._load(layers)
        return read

    def _load(self, layers: tuple[int, ...]) -> _Read:
        bundle, manifest, prepacked = self._bundle, self._bundle.manifest, True
        if manifest.layers:
            values = [manifest.layers[layer].value for layer in layers]
            offsets = [self._offset(layer) for layer in layers]
        else:
            values, offsets = [self._pooled(layers)], [None]
        loaded, threads = self._network.loaded, self._network.threads
        if self._limit is not None:
            hidden = int(manifest.architecture.get("hidden") or manifest.dim)
            states = 4 * (len(layers) + 2) * threads * max(loaded.batch_tokens, manifest.max_tokens) * hidden
            left, weights = self._limit - states, weights_of(bundle.model)
            prepacked = choose_profile(left, weights, manifest, loaded.exact, threads, BATCH_TOKENS).profile.prepacked
        session = load_session(bundle, exact=loaded.exact, prepacked=prepacked, values=values)
        return _Read(layers, session, offsets)

    def _pooled(self, layers: tuple[int, ...]) -> str:
        """The last layer of a bundle that does not name its layers."""
        bundle = self._bundle
        if layers != (self.layers,):
            raise InputError(
                f"bundle {bundle.path} says nothing of its inner layers: only the last (layer=-1) can be read. Bundles "
                "that edge-embed export makes of a model's own weights name the others",
                path=bundle.path,
            )
        model = bundle.model
        found = None
        if bundle.manifest.pooling != OWN_POOLING:
            found = pooled_value(model if isinstance(model, bytes) else without_weights(model))
        if found is None:
            raise InputError(
                f"bundle {bundle.path} does not say where its model has vectors of tokens", path=bundle.path
            )
        return found

    def _offset(self, layer: int) -> Vectors | None:
        encoded = self._bundle.manifest.layers[layer].offset
        if not encoded:
            return None
        try:
            offset = np.frombuffer(b64decode(encoded, validate=True), "<f4").astype(np.float32)
        except ValueError as error:
            raise BundleFormatError(
                f"bundle {self._bundle.path}: the offset of layer {layer}: {error}", path=self._bundle.path
            ) from error
        if not np.isfinite(offset).all():
            raise BundleFormatError(
                f"bundle {self._bundle.path}: the offset of layer {layer} is not finite", path=self._bundle.path
            )
        return offset
