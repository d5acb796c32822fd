"""The native encoder: the arithmetic of numpy, the same bits however it is called, and errors for what is wrong."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders.encoders import VOCABULARY, RandomModel, Reference, random_model
from numpy.typing import NDArray

from edge_embed_runtime.native import library
from edge_embed_runtime.native.encoder import Encoder, NativeError, Shape, Site, Stop, aligned_bytes
from edge_embed_runtime.native.library import Native

pytestmark = pytest.mark.skipif(bool(library.reason()), reason="needs the native library")

BERT = Shape(
    hidden=64, embedding=64, heads=2, head_size=32, vocabulary=VOCABULARY, positions=140, pooling="mean", epsilon=1e-12,
    intermediate=(144, 112),
)  # fmt: skip
# Strips of one, two and four heads, of which some are left over; panels left over; parts that only some families have.
SHAPES = {
    "bert": BERT,
    "cls": replace(BERT, pooling="cls", epsilon=1e-5),
    "one head": replace(BERT, heads=1, head_size=64),
    "heads of 16": replace(BERT, hidden=80, embedding=80, heads=5, head_size=16),
    "heads of 48": replace(BERT, hidden=96, embedding=96, heads=2, head_size=48),
    "heads of 80": replace(BERT, hidden=80, embedding=80, heads=1, head_size=80),
    "three of 32": replace(BERT, hidden=96, embedding=96, heads=3, head_size=32),
    "more than hidden": replace(BERT, hidden=48, embedding=48, heads=2, head_size=32),
    "electra": replace(BERT, embedding=32),
    "wide tables": replace(BERT, hidden=32, embedding=96, heads=1),
    "mpnet": replace(BERT, relative=True),
    "large": replace(BERT, hidden=128, embedding=128, heads=2, head_size=64, intermediate=(528,)),
}
# Around the blocks of queries and keys, the tiles of rows and the limit.
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 97, 139, 140)


def loaded() -> Native:
    found = library.native()
    assert found is not None
    return found


def instruction_sets() -> list[Native]:
    """The library with each of the encoders that this CPU can run."""
    found, sets = loaded(), {}
    for name in ("baseline", *found.facts["instruction_sets"]):
        isa = found.functions.edge_isa(name.encode())
        if isa >= 0:
            sets[isa] = replace(found, isa=isa, isa_name=found.functions.edge_isa_name(isa).decode())
    return list(sets.values())


def texts_of(lengths: tuple[int, ...], seed: int = 1) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY, length).tolist() for length in lengths]


def run(encoder: Encoder, texts: list[list[int]]) -> NDArray[np.float32]:
    ids = np.array([number for text in texts for number in text], np.int32)
    return encoder.run(ids, np.array([len(text) for text in texts], np.int32), Stop())


class TestArithmetic:
    @pytest.mark.parametrize("smooth", [True, False])
    @pytest.mark.parametrize("name", SHAPES)
    def test_is_that_of_numpy(self, name: str, smooth: bool) -> None:
        """Of every family and shape, at all lengths; what rounds to another code here and there is all that differs."""
        model = random_model(SHAPES[name], smooth=smooth)
        texts, reference = texts_of(LENGTHS), Reference(model)
        expected = np.array([reference.vector(text) for text in texts])
        found = run(model.encoder(loaded()), texts)
        assert (found * expected).sum(axis=1).min() > 0.9999
        assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)

    def test_every_part_counts(self) -> None:
        """Each tensor and site of a model changes its vectors, so the comparison above can fail."""
        model = random_model(replace(BERT, embedding=32, relative=True))
        texts = texts_of((12, 40))
        before = run(model.encoder(loaded()), texts)
        for name, array in model.tensors.items():
            if name.endswith("key.bias"):  # adds the same to all scores of a query
                continue
            tensors = {**model.tensors, name: array // 2 if array.dtype == np.int8 else array * np.float32(0.5)}
            assert not np.array_equal(run(replace(model, tensors=tensors).encoder(loaded()), texts), before), name
        for name, site in model.sites.items():
            sites = {**model.sites, name: Site(site.scale * 1.1, site.zero_point + 1)}
            assert not np.array_equal(run(replace(model, sites=sites).encoder(loaded()), texts), before), name


class TestTheSameBits:
    @pytest.mark.parametrize("name", SHAPES)
    def test_on_every_instruction_set(self, name: str) -> None:
        model, texts = random_model(SHAPES[name]), texts_of(LENGTHS)
        expected = run(model.encoder(loaded()), texts)
        for other in instruction_sets():
            assert np.array_equal(run(model.encoder(other), texts), expected), other.isa_name

    def test_in_any_batch_and_order(self) -> None:
        encoder = random_model(BERT).encoder(loaded())
        texts = texts_of(LENGTHS)
        alone = np.vstack([run(encoder, [text]) for text in texts])
        order = np.random.default_rng(2).permutation(len(texts))
        assert np.array_equal(run(encoder, texts), alone)
        assert np.array_equal(run(encoder, [texts[i] for i in order]), alone[order])
        assert np.array_equal(run(encoder, texts * 3), np.vstack([alone] * 3))

    def test_where_tensors_lie_anywhere(self) -> None:
        """Addresses that are no multiples of anything."""
        model, texts = random_model(BERT), texts_of((5, 33))
        moved = {name: _at_odd_address(array) for name, array in model.tensors.items()}
        assert np.array_equal(
            run(replace(model, tensors=moved).encoder(loaded()), texts), run(model.encoder(loaded()), texts)
        )

    def test_at_the_limits_of_products(self) -> None:
        """Codes of 0 and 255 with pairs of weights that add up to 128: nothing saturates."""
        model = random_model(BERT, smooth=False)
        sites = {name: Site(1e-4, site.zero_point) for name, site in model.sites.items()}
        extreme = replace(model, sites=sites)
        texts, reference = texts_of((7, 30)), Reference(extreme)
        expected = np.array([reference.vector(text) for text in texts])
        for other in instruction_sets():
            assert (run(extreme.encoder(other), texts) * expected).sum(axis=1).min() > 0.9999


def _at_odd_address(array: NDArray[Any]) -> NDArray[np.int8]:
    """Its bytes: `Encoder` would copy numbers that lie so."""
    place = np.empty(array.nbytes + 1, np.uint8)[1:]
    place[:] = np.frombuffer(array.tobytes(), np.uint8)
    return place.view(np.int8)


def refused(model: RandomModel) -> int:
    with pytest.raises(NativeError) as caught:
        model.encoder(loaded())
    return caught.value.number


class TestModelsThatAreWrong:
    @pytest.mark.parametrize(
        "change",
        [
            {"hidden": 60}, {"hidden": 0}, {"hidden": -64}, {"hidden": 1 << 30}, {"embedding": 2**31 - 16},
            {"heads": 0}, {"heads": 2**31 - 1}, {"head_size": 24}, {"head_size": 2**31 - 16}, {"vocabulary": 0},
            {"vocabulary": -1}, {"positions": 0}, {"positions": 32769}, {"intermediate": (144, 100)},
            {"intermediate": (144, 16400)}, {"intermediate": ()}, {"embedding": 32},
        ],
    )  # fmt: skip
    def test_sizes(self, change: dict[str, Any]) -> None:
        model = random_model(BERT)
        assert refused(replace(model, shape=replace(BERT, **change))) == -103

    @pytest.mark.parametrize("change", [{"vocabulary": 2**31 - 1}, {"positions": 141}, {"intermediate": (144, 128)}])
    def test_sizes_that_are_not_those_of_the_tensors(self, change: dict[str, Any]) -> None:
        model = random_model(BERT)
        assert refused(replace(model, shape=replace(BERT, **change))) == -104

    @pytest.mark.parametrize("name", ["embedding.word", "embedding.norm.bias", "layers.1.down.weight"])
    def test_tensors_that_are_missing_or_cut(self, name: str) -> None:
        model = random_model(BERT)
        without = {other: array for other, array in model.tensors.items() if other != name}
        cut = {**model.tensors, name: model.tensors[name].reshape(-1)[:-1]}
        assert refused(replace(model, tensors=without)) == -104
        assert refused(replace(model, tensors=cut)) == -104

    @pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 1e-45])
    @pytest.mark.parametrize("name", ["layers.0.up.scale", "embedding.scale", "layers.1.out.input"])
    def test_scales(self, name: str, value: float) -> None:
        """A scale so small that its reciprocal is infinite is one of a site alone."""
        model = random_model(BERT)
        if name in model.sites:
            assert refused(replace(model, sites={**model.sites, name: Site(value, 128)})) == -105
        elif value != 1e-45:
            changed = model.tensors[name].copy()
            changed[-1] = value
            assert refused(replace(model, tensors={**model.tensors, name: changed})) == -105

    @pytest.mark.parametrize("zero_point", [-1, 256, 2**31 - 1])
    def test_zero_points(self, zero_point: int) -> None:
        model = random_model(BERT)
        assert refused(replace(model, sites={**model.sites, "layers.0.up.input": Site(0.1, zero_point)})) == -105

    @pytest.mark.parametrize("name", ["embedding.norm.weight", "layers.1.query.bias", "layers.0.up.input.smooth"])
    def test_numbers_that_are_not_finite(self, name: str) -> None:
        model = random_model(BERT)
        changed = model.tensors[name].copy()
        changed[3] = np.nan
        assert refused(replace(model, tensors={**model.tensors, name: changed})) == -105

    @pytest.mark.parametrize("pair", [(127, 2), (-127, -2), (-128, 1), (1, -128)])
    def test_weights_that_could_overflow(self, pair: tuple[int, int]) -> None:
        model = random_model(BERT)
        changed = model.tensors["layers.1.down.weight"].copy()
        changed[-1, -1, -1, 2:] = pair
        assert refused(replace(model, tensors={**model.tensors, "layers.1.down.weight": changed})) == -106

    def test_numbers_that_grow_beyond_all_bounds(self) -> None:
        """Finite ones whose products are not: found in the vector."""
        model = random_model(BERT)
        tensors = {**model.tensors, "layers.1.output_norm.weight": np.full(64, 3e38, np.float32)}
        encoder = replace(model, tensors=tensors).encoder(loaded())
        with pytest.raises(NativeError) as caught:
            run(encoder, texts_of((9,)))
        assert caught.value.number == -111


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return random_model(BERT).encoder(loaded(), tokens=300)


class TestCallsThatAreWrong:
    @pytest.mark.parametrize("bad", [-1, VOCABULARY, 2**31 - 1, -(2**31)])
    def test_token_ids(self, encoder: Encoder, bad: int) -> None:
        with pytest.raises(NativeError) as caught:
            run(encoder, [[1, 2], [3, bad]])
        assert caught.value.number == -109

    @pytest.mark.parametrize("lengths", [(0, 5), (141,), (5, -5, 5)])
    def test_lengths(self, encoder: Encoder, lengths: tuple[int, ...]) -> None:
        ids = np.zeros(sum(lengths), np.int32)
        with pytest.raises(NativeError) as caught:
            encoder.run(ids, np.array(lengths, np.int32), Stop())
        assert caught.value.number == -108

    @pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32])
    def test_arrays_of_another_type(self, encoder: Encoder, dtype: type) -> None:
        """C would read beyond them, or other numbers; every second number too."""
        right = np.array([2], np.int32)
        for ids, lengths in ((np.ones(2, dtype), right), (np.ones(2, np.int32), right.astype(dtype))):
            with pytest.raises(ValueError, match="expected int32"):
                encoder.run(ids, lengths, Stop())
        with pytest.raises(ValueError, match="expected int32"):
            encoder.run(np.ones(4, np.int32)[::2], right, Stop())

    def test_more_tokens_than_before(self) -> None:
        """Workspaces of a smaller size are not used again."""
        encoder = random_model(BERT).encoder(loaded(), tokens=12)
        short, long = np.ones(12, np.int32), np.ones(140, np.int32)
        first = encoder.run(short, np.array([12], np.int32), Stop())
        with pytest.raises(ValueError, match="at most 12"):
            encoder.run(long, np.array([140], np.int32), Stop())
        encoder.reserve(140)
        assert encoder.run(long, np.array([140], np.int32), Stop()).shape == (1, 64)
        assert np.array_equal(encoder.run(short, np.array([12], np.int32), Stop()), first)

    def test_no_texts(self, encoder: Encoder) -> None:
        assert encoder.run(np.zeros(0, np.int32), np.zeros(0, np.int32), Stop()).shape == (0, 64)

    def test_ended_by_its_caller(self, encoder: Encoder) -> None:
        stop = Stop()
        stop.set()
        with pytest.raises(NativeError) as caught:
            encoder.run(np.ones(12, np.int32), np.array([12], np.int32), stop)
        assert caught.value.number == -110

    def test_memory(self) -> None:
        """Too small by one byte, not aligned, not there, or never prepared."""
        functions, ids, lengths = loaded().functions, np.ones(12, np.int32), np.array([12], np.int32)
        prepared = random_model(BERT).encoder(loaded())._prepared
        vectors, address = np.empty((1, 64), np.float32), prepared.ctypes.data
        size = functions.edge_encoder_workspace(address, 12)
        workspace = aligned_bytes(size + 64)

        def call(prepared: int, ids: int, vectors: int, workspace: int, size: int) -> int:
            return int(
                functions.edge_encoder_run(prepared, ids, lengths.ctypes.data, 1, vectors, workspace, size, None)
            )

        good = (address, ids.ctypes.data, vectors.ctypes.data, workspace.ctypes.data, size)
        assert call(*good) == 0
        for place, value in ((0, 0), (0, aligned_bytes(4096).ctypes.data), (1, 0), (2, 0), (3, 0), (4, size - 1)):
            assert call(*good[:place], value, *good[place + 1 :]) == -107
        assert call(*good[:3], workspace.ctypes.data + 1, size) == -107
        assert functions.edge_encoder_workspace(address, -1) == functions.edge_encoder_workspace(address, 2**40) == -108
        assert functions.edge_encoder_workspace(None, 12) == -107
        assert functions.edge_encoder_size(None) == -101

    def test_instruction_sets(self) -> None:
        model = random_model(BERT)
        for isa in (-1, 99, 2**31 - 1):
            with pytest.raises(NativeError) as caught:
                model.encoder(replace(loaded(), isa=isa))
            assert caught.value.number == -102
