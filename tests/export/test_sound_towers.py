"""Folders of CLAP and Whisper: bundles with an audio tower, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.soundmodels import CLAP_EXTRACTOR, WHISPER_EXTRACTOR, clap, whisper
from builders.sounds import encoded, swept

from edge_embed import Embedder
from edge_embed.errors import EdgeEmbedError, ExportError, SourceError
from edge_embed_export import export_model
from edge_embed_export.calibration import sounds as calibration
from edge_embed_export.calibration.sounds import calibration_sounds, golden_sounds
from edge_embed_export.families.audio import read_audio_tower
from edge_embed_export.families.audiofront import read_audio_front, read_front_file
from edge_embed_export.files.reading import read_json
from edge_embed_export.files.tensors import read_weights
from edge_embed_export.options import TowerOptions
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.swin import cubic, regions, windows
from edge_embed_runtime.inputs.base import read_front

pytestmark = pytest.mark.usefixtures("short_receipt")
SOUNDS = [(swept(0.1, 16_000), 16_000), (swept(2, 44_100, 2), 44_100), encoded(swept(11, 8_000), 8_000, "FLAC")]
AUDIO = TowerOptions(only=["audio"])


def checkpoint(folder: Path) -> Checkpoint:
    tensors, sha256 = read_weights(folder)
    return Checkpoint(folder, read_json(folder / "config.json"), tensors, {}, None, None, (), {}, sha256, None)


def read(folder: Path) -> Any:
    return read_audio_tower(checkpoint(folder), read_audio_front(folder))


@pytest.fixture
def few_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration and receipts on one short sound of each kind."""
    monkeypatch.setattr(calibration, "COUNTS", {"calibration": 1, "receipt": 1})
    monkeypatch.setattr(calibration, "LENGTHS", (0.3, 0.9))


@pytest.fixture(scope="module")
def clap_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clap")
    export_model(clap(folder / "model"), folder / "bundle", precision="fp32", verify="skip")
    return folder / "bundle"


def test_clap_becomes_one_bundle(clap_bundle: Path) -> None:
    embedder = Embedder(clap_bundle)
    assert embedder.modalities == ("text", "audio")
    vectors = embedder.encode_audio(SOUNDS)
    assert vectors.shape == (3, embedder.encode(["rain"]).shape[1])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors @ vectors.T)[0, 1:].max() < 0.9999


def test_the_same_bits_alone_and_beside_others(clap_bundle: Path) -> None:
    together = Embedder(clap_bundle).encode_audio(SOUNDS * 2)
    alone = Embedder(clap_bundle, threads=1)
    for sound, first, second in zip(SOUNDS, together[:3], together[3:], strict=True):
        np.testing.assert_array_equal(alone.encode_audio([sound])[0], first)
        np.testing.assert_array_equal(first, second)


def test_windows_of_a_long_sound_are_averaged(clap_bundle: Path) -> None:
    """Each counts the same, brought to length 1 first; the last one ends with the sound."""
    embedder, samples = Embedder(clap_bundle), swept(5, 48_000)
    parts = [samples[:96_000], samples[96_000:192_000], samples[-96_000:]]
    mean = embedder.encode_audio([(part, 48_000) for part in parts]).mean(axis=0)
    found = embedder.encode_audio([(samples, 48_000)])[0]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.usefixtures("few_sounds")
@pytest.mark.parametrize("make", [clap, whisper])
def test_int8_keeps_the_vectors(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    manifest = export_model(make(tmp_path / "model"), tmp_path / "bundle", verify="skip", towers=AUDIO)
    receipt = manifest.towers["audio"].receipt
    assert receipt["cosine_to_fp32"]["mean"] > 0.99
    assert receipt["inputs"] == "11 of sounds made by code"
    assert manifest.towers["audio"].quantization["rounding"] == "GPTQ on the calibration sounds"
    assert Embedder(tmp_path / "bundle").encode_audio(SOUNDS[:1]).shape == (1, manifest.dim)


def test_whisper_hears_a_sound_and_not_what_pads_it(tmp_path: Path) -> None:
    """The mean is of the frames that begin in the sound, also where padding sounds like it."""
    export_model(whisper(tmp_path / "model"), tmp_path / "bundle", precision="fp32")
    embedder = Embedder(tmp_path / "bundle")
    assert embedder.modalities == ("audio",)
    half, whole = np.zeros(8000), np.zeros(16_000)
    half[:4000] = whole[:4000] = swept(0.25)
    found = embedder.encode_audio([(half, 16_000), (whole, 16_000)])
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_fusion_is_left_out_and_said(tmp_path: Path) -> None:
    """No window is longer than the model hears; the banks are those of its training."""
    tower = read(clap(tmp_path / "fused", fusion=True))
    assert tower.notes == ("fusion is left out, as the reference does for sounds that are not longer than a window",)
    assert (tower.front["mel"]["scale"], tower.front["mel"]["norm"]) == ("htk", "")
    plain = read(clap(tmp_path / "plain"))
    assert plain.notes == ()
    assert (plain.front["mel"]["scale"], plain.front["mel"]["norm"]) == ("slaney", "slaney")


@pytest.mark.parametrize("make", [clap, whisper])
def test_every_part_of_the_graph_counts(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Whatever weight is changed, the vector is another: parity with the reference proves all of them. Of each kind of
    weight one is tried, of layers of several the last that has it."""
    tower = read(make(tmp_path / "model"))
    feed = {"input_features": next(read_front("audio", tower.front).feeds(SOUNDS[1]))}

    def vector(weights: dict[str, Any]) -> np.ndarray:
        import onnxruntime

        content = tower.spec.build(weights).SerializeToString()
        return np.asarray(onnxruntime.InferenceSession(content).run(None, feed)[0])

    expected, random = vector(tower.weights), np.random.default_rng(0)
    kinds = {re.sub(r"\d+", "", name): name for name in tower.weights}
    for name in kinds.values():
        if not name.endswith(".key.bias"):  # the same for all that a query sees
            weight = tower.weights[name]
            changed = weight + random.standard_normal(weight.shape).astype(np.float32) * 0.5
            assert np.abs(vector({**tower.weights, name: changed}) - expected).max() > 1e-5, name


def test_shifted_windows() -> None:
    order = windows(4, 2, 1)
    # the second token of each of the four windows, shifted by one down and to the right
    assert order.reshape(4, 4)[0].tolist() == [5, 7, 13, 15]
    assert sorted(order) == list(range(16))
    hidden = regions(4, 2, 1)
    assert hidden[0].max() == hidden[0].min() == 0
    assert (hidden[3] != 0).sum() == 12  # every token but itself is of another region


def test_stretching_keeps_both_ends() -> None:
    places = [places for places, _ in cubic(11, 16)]
    shares = np.stack([shares for _, shares in cubic(11, 16)])
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-6)
    assert (places[1][0], places[1][-1]) == (0, 10)
    line = sum(np.arange(11)[at] * share for at, share in zip(places, shares, strict=True))
    np.testing.assert_allclose(line[3:-3], np.linspace(0, 10, 16)[3:-3], atol=0.05)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: clap(f, layer_norm_eps=1e-3), "layer_norm_eps 0.001 is not supported"),
        (lambda f: clap(f, qkv_bias=False), "qkv_bias False is not supported"),
        (lambda f: clap(f, patch_stride=[2, 2]), "patches that overlap"),
        (lambda f: clap(f, patch_size=[4, 2]), "patch_size is [4, 2]"),
        (lambda f: clap(f, depths=[2, 2]), "num_attention_heads is [1, 2, 4], expected a whole number for each"),
        (lambda f: clap(f, depths=[2, 2, 0]), "depths is [2, 2, 0]"),
        (lambda f: clap(f, num_attention_heads=[1, 1, 4]), "stage 1 of 8 x 8 tokens and 16 numbers in 1 heads"),
        (lambda f: clap(f, window_size=7), "stage 0 of 16 x 16 tokens"),
        (lambda f: clap(f, window_size=2), "offsets for windows of 2"),
        (lambda f: clap(f, fusion=True, fusion_type="channel_map"), "fusion_type 'channel_map' is not supported"),
        (lambda f: clap(f, patch_embeds_hidden_size=16), "has shape"),
        (lambda f: clap(f, extractor={"feature_size": 20}), "the front end gives 20 bands"),
        (lambda f: clap(f, extractor={"max_length_s": 3}), "gives 301 frames, the model reads at most 256"),
        (lambda f: clap(f, extractor={"padding": "mirror"}), "padding is 'mirror'"),
        (lambda f: clap(f, extractor={"truncation": "none"}), "truncation is 'none'"),
        (lambda f: clap(f, extractor={"frequency_max": 30_000}), "front.mel.high is 30000"),
        (lambda f: clap(f, extractor={"preemphasis": 0.97}), "the key 'preemphasis' (0.97) is not known"),
        (lambda f: whisper(f, scale_embedding=True), "scale_embedding True is not supported"),
        (lambda f: whisper(f, max_source_positions=40), "max_source_positions is not 50"),
        (lambda f: whisper(f, num_mel_bins=40), "the front end gives 20 bands and 100 frames, the model reads 40"),
        (lambda f: whisper(f, d_model=16), "has shape"),
        (lambda f: whisper(f, extractor={"chunk_length": 2}), "20 bands and 200 frames, the model reads 20 and 100"),
        (lambda f: whisper(f, extractor={"dither": 0.1}), "dither 0.1 is not supported"),
        (lambda f: whisper(f, extractor={"hop_length": 160.5}), "hop_length is 160.5"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    with pytest.raises(EdgeEmbedError) as caught:
        read(make(tmp_path / "model"))
    assert said in str(caught.value)


def test_unknown_keys_and_tensors_are_refused(tmp_path: Path) -> None:
    folder = whisper(tmp_path / "odd", gated=True)
    with pytest.raises(ExportError, match="the key 'gated' is True"):
        export_model(folder, tmp_path / "bundle", precision="fp32")
    folder = clap(tmp_path / "model", second_norm=True)
    with pytest.raises(ExportError, match=r"the key 'audio_config\.second_norm' is True"):
        export_model(folder, tmp_path / "bundle", precision="fp32", towers=AUDIO)


def test_a_folder_that_does_not_say_how_sounds_are_read(tmp_path: Path) -> None:
    folder = clap(tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SourceError, match="does not say how a sound becomes the model's numbers"):
        read(folder)


def test_front_ends_from_files(tmp_path: Path) -> None:
    """preprocessor_config.json, what newer releases put into processor_config.json, and our own keys."""
    path = tmp_path / "front.json"
    for extractor in (CLAP_EXTRACTOR, WHISPER_EXTRACTOR):
        path.write_text(json.dumps(extractor))
        front = read_front_file(path)
        for said in ({"processor_class": "X", "feature_extractor": extractor}, front):
            path.write_text(json.dumps(said))
            assert read_front_file(path) == front
    path.write_text("{}")
    with pytest.raises(ExportError, match="is not known as a description of how sounds are read"):
        read_front_file(path)


@pytest.mark.usefixtures("few_sounds")
def test_sounds_that_ship_as_code() -> None:
    first, receipt = calibration_sounds("calibration"), calibration_sounds("receipt")
    again = calibration_sounds("receipt")
    assert all(np.array_equal(one, two) for (one, _), (two, _) in zip(receipt, again, strict=True))
    assert not any(np.array_equal(one, two) for one, _ in first for two, _ in receipt)
    for samples, _ in first + receipt:
        assert samples.dtype == np.float32
        assert 1e-4 < np.abs(samples).max() <= 1
    files = golden_sounds()
    assert [name for name, _ in files] == ["voice.wav", "bell.flac"]
    assert sum(len(content) for _, content in files) < 16_000
