"""The native engine: which bundles and machines it runs, one vector for a text, and what it refuses."""

import json
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.nativebundles import native_bundle, with_model, with_tensors

from edge_embed import Embedder
from edge_embed.embedder import bundle_path
from edge_embed.errors import (
    BundleDamagedError,
    BundleFormatError,
    DeadlineError,
    GoldenError,
    InputError,
    MemoryBudgetError,
    MissingExtraError,
)
from edge_embed_runtime.bundle.bundle import open_bundle
from edge_embed_runtime.bundle.manifest import MODEL, Golden
from edge_embed_runtime.model import native as module
from edge_embed_runtime.model.native import NativeModel
from edge_embed_runtime.model.options import Call, RunOptions
from edge_embed_runtime.model.watchdog import Watchdog
from edge_embed_runtime.native import library
from edge_embed_runtime.native.encoder import STOPPED, Encoder, NativeError, Stop

pytestmark = pytest.mark.skipif(bool(library.reason()), reason="needs the native library")

TEXTS = ["the river bank", "", "a cat", "money at the bank and in the house", "the dog is in the garden at night " * 9]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native_bundle(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def embedder(bundle: Path) -> Embedder:
    return Embedder(bundle, threads=1)


def encoder_of(bundle: Path) -> Encoder:
    """The encoder of a bundle, as its model has it."""
    found = library.native()
    assert found is not None
    loaded = open_bundle(bundle)
    assert loaded.manifest.native is not None
    tensors = module.mapped_tensors(loaded.model, "the model")
    encoder = module.prepared(found, loaded.manifest.native, tensors, "the model")
    encoder.reserve(64)
    return encoder


def numbers(*given: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(given, np.int32)


class TestOneVector:
    def test_in_any_batch_and_on_any_threads(self, bundle: Path, embedder: Embedder) -> None:
        """The same bits alone, in batches of any size, on several threads, in the background, and cut."""
        texts = TEXTS * 40
        whole = embedder.encode(texts)
        assert np.array_equal(whole[: len(TEXTS)], np.vstack([embedder.encode([text]) for text in TEXTS]))
        assert np.linalg.norm(whole, axis=1) == pytest.approx(1, abs=1e-5)
        for options in ({"threads": 3}, {"background": True}):
            assert np.array_equal(Embedder(bundle, **options).encode(texts), whole)  # type: ignore[arg-type]
        for tokens in (1, 30, 4096):
            assert np.array_equal(embedder.encode(texts, batch_tokens=tokens), whole)
        cut = Embedder(bundle, truncate_dim=16).encode(TEXTS)
        assert cut == pytest.approx(embedder.encode(TEXTS, truncate_dim=16))
        assert cut.shape == (len(TEXTS), 16)

    def test_a_hundred_thousand_texts(self, embedder: Embedder) -> None:
        """Of one word each: every one has the vector that it has alone."""
        texts = ["cat", "dog", "bank", "zebra"] * 25_000
        vectors = embedder.encode(texts)
        assert np.array_equal(vectors, np.tile(embedder.encode(texts[:4]), (25_000, 1)))

    def test_tokens_beyond_the_limit_do_not_count(self, embedder: Embedder) -> None:
        """A text of exactly the limit, and the same with one word more."""
        most = " ".join(["cat"] * (embedder.max_tokens - 2))
        at, beyond = embedder.encode([most, most + " dog"])
        assert embedder.count_tokens([most, most + " dog"]) == [embedder.max_tokens, embedder.max_tokens + 1]
        assert np.array_equal(at, beyond)

    def test_threads_that_share_an_embedder(self, embedder: Embedder) -> None:
        """Each call has memory of its own."""
        expected, wrong = embedder.encode(TEXTS), []

        def run() -> None:
            for _ in range(50):
                if not np.array_equal(embedder.encode(TEXTS), expected):
                    wrong.append(1)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_every_instruction_set(self, bundle: Path) -> None:
        """All that this CPU has give the same bits."""
        names = ["baseline", *(library.native() or pytest.fail("no library")).facts["instruction_sets"]]
        program = (
            "import sys, hashlib; from edge_embed import Embedder\n"
            f"e = Embedder({str(bundle)!r}); assert e.engine == 'native', e.engine_reason\n"
            f"print(hashlib.sha256(e.encode({TEXTS!r}).tobytes()).hexdigest())"
        )
        found = {
            name: subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, library.LIMIT: name},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for name in names
            if name != "vpopcnt"  # which stands beside another
        }
        assert len(set(found.values())) == 1, found


class TestChoice:
    def test_the_bundle_chooses(self, bundle: Path, embedder: Embedder) -> None:
        """Its engine, or the one that is asked for; `exact` names a form of other bundles in onnxruntime."""
        assert (embedder.engine, embedder.engine_reason) == ("native", "")
        assert [Embedder(bundle, **o).engine for o in ({"engine": "native"}, {"exact": True})] == ["native"] * 2  # type: ignore[arg-type]
        other = Embedder(bundle, engine="onnxruntime")
        assert (other.engine, other.engine_reason) == ("onnxruntime", "")
        assert (other.encode(TEXTS) * embedder.encode(TEXTS)).sum(axis=1).min() > 0.999
        with pytest.raises(InputError, match="exact names a form"):
            Embedder(bundle, exact=True, engine="native")
        with pytest.raises(InputError, match="engine is 'cuda'"):
            Embedder(bundle, engine="cuda")

    def test_bundles_that_are_none_for_it(self, tiny_bundle: Path) -> None:
        """A bundle for onnxruntime has no block for the native engine, a table needs no engine."""
        assert Embedder(tiny_bundle).engine == "onnxruntime"
        with pytest.raises(InputError, match="edge-embed export --engine native"):
            Embedder(tiny_bundle, engine="native")
        assert Embedder("static").engine == ""
        with pytest.raises(InputError, match="needs no engine"):
            Embedder("static", engine="native")

    def test_pickled(self, bundle: Path, embedder: Embedder) -> None:
        """The engine that was asked for is kept."""
        for one in (Embedder(bundle, engine="onnxruntime"), embedder):
            assert pickle.loads(pickle.dumps(one)).engine == one.engine  # noqa: S301 - our own

    def test_without_the_library(self, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """onnxruntime takes its place and says why, unless the engine was asked for; without both there is an error."""
        monkeypatch.setattr(library, "PACKAGE", library.Loader(tmp_path))
        other = Embedder(bundle)
        assert (other.engine, "not built" in other.engine_reason) == ("onnxruntime", True)
        with pytest.raises(MissingExtraError, match=r"native library.*ziglang"):
            Embedder(bundle, engine="native")
        monkeypatch.delitem(sys.modules, "edge_embed_runtime.model.network", raising=False)
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingExtraError, match=r"nor is onnxruntime here.*pip install"):
            Embedder(bundle)

    def test_a_cpu_without_an_encoder(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """onnxruntime takes the native engine's place."""
        found = library.native()
        assert found is not None
        monkeypatch.setattr(library, "native", lambda: library.Native(found.functions, 99, "none", found.facts))
        other = Embedder(bundle)
        assert (other.engine, "no encoder for this CPU" in other.engine_reason) == ("onnxruntime", True)
        with pytest.raises(MissingExtraError, match="no encoder for this CPU"):
            Embedder(bundle, engine="native")

    def test_nothing_else_is_imported(self, bundle: Path) -> None:
        """Neither onnxruntime nor usearch, for vectors of texts; states of tokens say what they need."""
        program = (
            "import sys; sys.modules['onnxruntime'] = sys.modules['usearch'] = None\n"
            "from edge_embed import Embedder, MissingExtraError\n"
            f"e = Embedder({str(bundle)!r}, max_rss_mb=2000); e.encode({TEXTS!r}); print(e.engine)\n"
            "try: e.encode_tokens(['a cat'])\n"
            "except MissingExtraError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        engine, error = done.stdout.splitlines()
        assert engine == "native"
        assert "what a model knows of each token needs onnxruntime" in error

    def test_states_of_tokens(self, bundle: Path, embedder: Embedder) -> None:
        """onnxruntime gives them: their mean is near the text's vector."""
        (found,) = embedder.encode_tokens([TEXTS[0]])
        mean = found.vectors.mean(axis=0)
        assert mean @ embedder.encode([TEXTS[0]])[0] / np.linalg.norm(mean) > 0.999
        other = Embedder(bundle, engine="onnxruntime").encode_tokens([TEXTS[0]])[0]
        assert np.array_equal(found.vectors, other.vectors)

    def test_onnxruntime_keeps_to_the_same_options(self, bundle: Path) -> None:
        """Its threads are those of the embedder; under a limit what it needs counts as well."""
        made = Embedder(bundle, threads=3)
        made.threads = 2
        assert made.network.threads == 2
        made.threads = 1
        assert (made.network.threads, made.network is made.network) == (1, True)
        limited = Embedder(bundle, max_rss_mb=2000)
        before = limited.predicted_peak
        loaded = limited.network.loaded
        assert limited.predicted_peak == loaded.peak > before
        with pytest.raises(MemoryBudgetError):
            _ = Embedder(bundle, max_rss_mb=math.ceil(before / 1e6) + 1).network


class TestBudget:
    def test_it_is_kept_or_refused(self, bundle: Path) -> None:
        """The least that an error names is enough, and is what the process then needs."""
        with pytest.raises(MemoryBudgetError, match="the least is") as refused:
            Embedder(bundle, max_rss_mb=20)
        needed = refused.value.needed_mb
        assert needed is not None
        made = Embedder(bundle, max_rss_mb=needed + 20)
        assert 0 < made.predicted_peak <= (needed + 20) * 1e6
        assert np.array_equal(made.encode(TEXTS), Embedder(bundle).encode(TEXTS))

    def test_fewer_threads_where_memory_is_short(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A workspace of a thread counts."""
        reserve = Encoder.reserve

        def large(self: Encoder, tokens: int) -> None:
            reserve(self, tokens)
            self.workspace_bytes += 100_000_000

        monkeypatch.setattr(Encoder, "reserve", large)
        with pytest.raises(MemoryBudgetError) as refused:
            Embedder(bundle, max_rss_mb=20, threads=4)
        assert Embedder(bundle, max_rss_mb=(refused.value.needed_mb or 0) + 150, threads=4).threads == 2


class TestEnding:
    def test_a_late_run(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The watchdog sets the flag that the library looks at."""
        embedder = Embedder(bundle)

        def slow(_: Encoder, ids: Any, lengths: Any, stop: Stop) -> Any:
            while not stop.is_set:
                pass
            raise NativeError(STOPPED)

        monkeypatch.setattr(Encoder, "run", slow)
        monkeypatch.setattr(module, "WATCHDOG", Watchdog(0.01))
        with pytest.raises(DeadlineError, match="gave no vectors"):
            embedder.encode(["a cat"])

    def test_what_is_not_needed_any_more(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As at an interrupt: calls that go on in other threads are ended, and waited for."""
        run, waiting, ended = Encoder.run, threading.Event(), []

        def later(self: Encoder, ids: Any, lengths: Any, stop: Stop) -> Any:
            if not waiting.is_set():
                waiting.set()
                return run(self, ids, lengths, stop)
            until = time.monotonic() + 10
            while not stop.is_set and time.monotonic() < until:
                pass
            ended.append(stop.is_set)
            raise NativeError(STOPPED)

        found = library.native()
        assert found is not None
        model = NativeModel(open_bundle(bundle), RunOptions(threads=2), found)
        monkeypatch.setattr(Encoder, "run", later)
        vectors = model.encode(TEXTS * 100, Call(32, batch_tokens=512))
        next(vectors)
        vectors.close()  # type: ignore[attr-defined]  # a generator
        assert ended
        assert all(ended)

    def test_a_stopped_call(self, bundle: Path) -> None:
        """The library looks at the flag."""
        stop = Stop()
        stop.set()
        with pytest.raises(NativeError) as error:
            encoder_of(bundle).run(numbers(2, 5, 3), numbers(3), stop)
        assert error.value.number == STOPPED


class TestRefused:
    """Numbers that do not fit: an error, and the encoder goes on to work."""

    @pytest.mark.parametrize(
        ("ids", "lengths", "why"),
        [
            ((2, 99, 3), (3,), "not in the vocabulary"),
            ((2, -1, 3), (3,), "not in the vocabulary"),
            ((2, 5, 3), (3, 0), "no tokens"),
            (tuple([5] * 25), (25,), "more than the model has positions"),
        ],
    )
    def test_ids_and_lengths(self, bundle: Path, ids: tuple[int, ...], lengths: tuple[int, ...], why: str) -> None:
        encoder = encoder_of(bundle)
        with pytest.raises(NativeError, match=why):
            encoder.run(numbers(*ids), numbers(*lengths), Stop())
        assert np.isfinite(encoder.run(numbers(2, 5, 3), numbers(3), Stop())).all()

    def test_more_than_was_reserved(self, bundle: Path) -> None:
        """Lengths that do not add up to the ids, one token more than there is memory for, negative ones."""
        encoder = encoder_of(bundle)
        for ids, lengths in (((2, 5, 3), (2,)), ((2, 5, 3), (4,)), (tuple([5] * 65), (20, 20, 20, 5))):
            with pytest.raises(ValueError, match="at most 64"):
                encoder.run(numbers(*ids), numbers(*lengths), Stop())
        with pytest.raises(NativeError, match="no tokens"):
            encoder.run(numbers(2, 5, 3), numbers(4, -1), Stop())
        with pytest.raises(NativeError):
            encoder.reserve(2**40)

    def test_golden_vectors_of_another_engine(self, bundle: Path, tmp_path: Path) -> None:
        """One digit is off: the bits are not the exporter's."""
        golden = open_bundle(bundle).manifest.golden
        first = Golden(golden[0].text, [round(golden[0].vector[0] + 1e-6, 6), *golden[0].vector[1:]])
        changed = with_model(bundle, tmp_path / "b", (bundle / MODEL).read_bytes(), golden=[first, *golden[1:]])
        with pytest.raises(GoldenError, match="to the bit"):
            Embedder(changed)
        assert Embedder(changed, engine="onnxruntime").golden_cosine > 0.999

    def test_a_file_that_was_cut(self, bundle: Path, tmp_path: Path) -> None:
        """Without a fitting hash it is not read; with one it is no model. At any place."""
        whole = (bundle / MODEL).read_bytes()
        for size in (0, 1, 100, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1):
            if size:
                with pytest.raises(BundleFormatError):
                    Embedder(with_model(bundle, tmp_path / "b", whole[:size]), engine="native")
            damaged = with_model(bundle, tmp_path / "b", whole)
            (damaged / MODEL).write_bytes(whole[:size])
            with pytest.raises(BundleDamagedError):
                Embedder(damaged)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
    @pytest.mark.parametrize("name", ["layers.0.query.scale", "layers.1.down.scale", "embedding.scale"])
    def test_scales(self, bundle: Path, tmp_path: Path, name: str, value: float) -> None:
        """Those that are no positive number."""

        def change(tensors: dict[str, Any]) -> None:
            array = np.frombuffer(tensors[name].raw_data, np.float32).copy()
            array[7] = value
            tensors[name].raw_data = array.tobytes()

        with pytest.raises(BundleFormatError, match="not finite, or a scale is not above 0"):
            Embedder(with_tensors(bundle, tmp_path / "b", change))

    def test_weights_that_would_overflow(self, bundle: Path, tmp_path: Path) -> None:
        """A -128, and two neighbours of 127."""

        def change(tensors: dict[str, Any], codes: bytes) -> None:
            weight = tensors["layers.0.up.weight"]
            weight.raw_data = codes + weight.raw_data[len(codes) :]

        for codes in (b"\x80", b"\x7f\x7f"):
            with pytest.raises(BundleFormatError, match="a weight is -128, or two neighbouring"):
                Embedder(with_tensors(bundle, tmp_path / "b", lambda t, codes=codes: change(t, codes)))  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("layers.1.down.weight", "no such weight"),
            ("embedding.position.scale", "no such weight"),
            ("embedding.word", "no weight 'embedding.word'"),
            ("layers.0.query.weight", "no weight 'layers.0.query.weight'"),
        ],
    )
    def test_missing_weights(self, bundle: Path, tmp_path: Path, name: str, why: str) -> None:
        with pytest.raises(BundleFormatError, match=why):
            Embedder(with_tensors(bundle, tmp_path / "b", lambda tensors: tensors.pop(name)))

    @pytest.mark.parametrize(
        "dims", [[2, 8, 16], [2**40, 2**40, 16, 4], [2**62, 4], [1], [], [-2, -8, 16, 4], [4, 4, 16, 4]]
    )
    def test_other_sizes(self, bundle: Path, tmp_path: Path, dims: list[int]) -> None:
        """Those that overflow, that are negative, and as many numbers in another form."""

        def change(tensors: dict[str, Any]) -> None:
            del tensors["layers.0.key.weight"].dims[:]
            tensors["layers.0.key.weight"].dims.extend(dims)

        with pytest.raises(BundleFormatError, match=r"layers\.0\.key\.weight"):
            Embedder(with_tensors(bundle, tmp_path / "b", change))

    @pytest.mark.parametrize("form", ["twice", "float_data", "external", "segment"])
    def test_other_forms_of_a_tensor(self, bundle: Path, tmp_path: Path, form: str) -> None:
        """A name that comes twice, numbers elsewhere than in the file's bytes."""

        def change(tensors: dict[str, Any]) -> None:
            norm = tensors["layers.0.output_norm.weight"]
            if form == "twice":
                tensors["again"] = type(norm).FromString(norm.SerializeToString())
            elif form == "float_data":
                norm.float_data.extend(np.frombuffer(norm.raw_data, np.float32))
                norm.ClearField("raw_data")
            elif form == "external":
                norm.data_location = norm.EXTERNAL
            else:
                norm.segment.begin = 1

        with pytest.raises(BundleFormatError):
            Embedder(with_tensors(bundle, tmp_path / "b", change))


class TestManifest:
    """What it says of the engine is looked at before anything is loaded."""

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda m: m.update(engine="cuda"), "engine is 'cuda'"),
            (lambda m: m.update(engine="onnxruntime"), "`native` is there"),
            (lambda m: m.pop("native"), "`native` is missing"),
            (lambda m: m.update(native=[]), "native is list"),
            (lambda m: m.update(adapters=[{"name": "a", "roles": [], "prompt": ""}]), "engine is 'native'"),
            (lambda m: m.update(pooling="max"), "engine is 'native'"),
            (lambda m: m["native"].update(layout=2), "layout 2; this release knows 1"),
            (lambda m: m["native"].update(layout=True), "layout True"),
            (lambda m: m["native"].update(more=1), "says 'more', which this release does not know"),
            (lambda m: m["native"].pop("eps"), "does not say 'eps'"),
            (lambda m: m["native"].update(eps=float("nan")), "eps is nan"),
            (lambda m: m["native"].update(layers=3), "does not say 'layers.2"),
            (lambda m: m["native"].update(layers=2**70), "layers is"),
            (lambda m: m["native"].update(heads=0), "heads is 0"),
            (lambda m: m["native"].update(heads=2.0), "heads is 2.0"),
            (lambda m: m["native"].update(activation="relu"), "activation is 'relu'"),
            (lambda m: m["native"].update(pooling="max"), "pooling is 'max'"),
            (lambda m: site(m).update(zero_point=256), "zero_point is 256"),
            (lambda m: site(m).update(zero_point=-1), "zero_point is -1"),
            (lambda m: site(m).update(scale=0.1), "no float32 number"),
            (lambda m: site(m).update(scale=float("inf")), "scale is inf"),
            (lambda m: site(m).update(scale=-0.5), "scale is -0.5"),
            (lambda m: site(m).update(scale=1), "scale is 1,"),
            (lambda m: site(m).update(other=1), "says 'other'"),
        ],
    )
    def test_refused_by_name(
        self, bundle: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str
    ) -> None:
        (tmp_path / "b").mkdir()
        for path in bundle.iterdir():
            (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
        content = json.loads((tmp_path / "b" / "manifest.json").read_text())
        change(content)
        (tmp_path / "b" / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(BundleFormatError, match=why):
            open_bundle(tmp_path / "b")

    def test_heads_that_do_not_divide(self, bundle: Path, tmp_path: Path) -> None:
        """They are seen where weights are."""
        described = open_bundle(bundle).manifest.native
        assert described is not None
        for heads, why in ((3, "32 numbers in 3 heads"), (4, "no multiple of 16"), (32, "no multiple of 16")):
            wrong = with_model(
                bundle, tmp_path / "b", (bundle / MODEL).read_bytes(), native=replace(described, heads=heads)
            )
            with pytest.raises(BundleFormatError, match=why):
                Embedder(wrong)

    def test_other_schema(self, bundle: Path, tiny_bundle: Path) -> None:
        """Earlier releases say which they read; bundles for onnxruntime have the one that they always had."""
        assert json.loads((bundle / "manifest.json").read_text())["schema"] == 3
        plain = json.loads((tiny_bundle / "manifest.json").read_text())
        assert (plain["schema"], "engine" in plain, "native" in plain) == (1, False, False)
        assert open_bundle(bundle_path("static")).manifest.engine == "onnxruntime"


def site(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["native"]["inputs"]["layers.1.up.input"]
    return found


def test_the_model_itself(bundle: Path) -> None:
    """What callers of `load_model` see."""
    found = library.native()
    assert found is not None
    model = NativeModel(open_bundle(bundle), RunOptions(threads=2), found)
    call = Call(32, batch_tokens=512)
    assert (model.threads, model.loaded.engine, model.loaded.exact) == (2, "native", False)
    together = np.empty((len(TEXTS), 32), np.float32)
    for places, vectors in model.encode(TEXTS, call):
        together[list(places)] = vectors
    assert np.array_equal(together, np.vstack([model.one(text, call) for text in TEXTS]))
    assert list(model.encode([], call)) == []
