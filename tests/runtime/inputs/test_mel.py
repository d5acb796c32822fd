"""Log-mel levels: against the definition written out, and against transformers."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from builders.sounds import swept

from edge_embed_runtime.inputs.mel import LogRule, Mel

TEN_LOG = LogRule("10", 1e-10, 0.0, 10.0, None, 0.0, 1.0)
CLAP = Mel(
    rate=48_000, frame=1024, fft=1024, hop=480, window="hann", place="start", pad="reflect", power=2, bands=64,
    low=50.0, high=14_000.0, scale="slaney", triangles="hertz", norm="slaney", log=TEN_LOG, frames=1001,
)  # fmt: skip
WHISPER = Mel(
    rate=16_000, frame=400, fft=400, hop=160, window="hann", place="start", pad="reflect", power=2, bands=80, low=0.0,
    high=8000.0, scale="slaney", triangles="hertz", norm="slaney", log=LogRule("10", 1e-10, 0.0, 1.0, 8.0, 4.0, 0.25),
    frames=3000,
)  # fmt: skip
YAMNET = Mel(
    rate=16_000, frame=400, fft=512, hop=160, window="hann", place="start", pad="", power=1, bands=64, low=125.0,
    high=7500.0, scale="htk", triangles="mel", norm="", log=LogRule("e", 0.0, 0.001, 1.0, None, 0.0, 1.0), frames=96,
)  # fmt: skip


def sounds(seconds: float, rate: int) -> dict[str, np.ndarray]:
    random, time = np.random.default_rng(0), np.arange(int(seconds * rate)) / rate
    return {
        "noise": (0.1 * random.standard_normal(len(time))).astype(np.float32),
        "tone": np.sin(2 * np.pi * 1000 * time).astype(np.float32),  # whose neighbours in pitch are all but silent
        "hush": (1e-5 * random.standard_normal(len(time))).astype(np.float32),
        "silence": np.zeros(len(time), np.float32),
        "loud": (1e4 * random.standard_normal(len(time))).astype(np.float32),
        "sweep": swept(seconds, rate),
    }


@pytest.mark.parametrize("sound", ["noise", "tone", "silence", "sweep"])
def test_yamnet_as_published(sound: str) -> None:
    """Frames of 400 samples of which the transform of 512 is taken, magnitudes, TensorFlow's bank, ln(x + 0.001)."""
    samples = sounds(0.975, 16_000)[sound]
    mel = 1127 * np.log1p(np.linspace(0, 8000, 257) / 700)
    edges = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)
    expected = np.zeros((96, 64))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for frame in range(96):
        magnitudes = np.abs(np.fft.rfft(samples[160 * frame : 160 * frame + 400].astype(np.float64) * window, 512))
        for band in range(64):
            low, middle, high = edges[band : band + 3]
            share = np.clip(np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)), 0, None)
            expected[frame, band] = np.log((magnitudes * share).sum() + 0.001)
    found = YAMNET(samples)
    assert found.shape == (96, 64)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


def test_frames_in_the_middle_of_the_transform() -> None:
    """As torch.stft has them: the same magnitudes, of samples that lie elsewhere."""
    samples = swept(1.0, 16_000)
    middle = replace(YAMNET, place="middle", frames=94)
    assert middle.frames_of(15_600) == 95
    late = YAMNET(samples[56:])  # (512 - 400) / 2
    np.testing.assert_allclose(middle(samples), late[:94], atol=1e-5)
    padded = replace(YAMNET, place="middle", pad="constant", frames=101)
    np.testing.assert_allclose(padded(samples), middle_of(np.pad(samples, 256), 101), atol=1e-5)


def middle_of(samples: np.ndarray, frames: int) -> np.ndarray:
    return replace(YAMNET, place="middle", frames=frames)(samples)


def test_rules_of_logarithms() -> None:
    energies = np.array([[0.0, 1e-12, 1e-3, 1.0]])
    np.testing.assert_allclose(TEN_LOG(energies), [[-100, -100, -30, 0]])
    np.testing.assert_allclose(replace(TEN_LOG, range=20.0)(energies), [[-20, -20, -20, 0]])
    np.testing.assert_allclose(WHISPER.log(energies * 1e-5), [[-1.5, -1.5, -1.0, -0.25]])
    np.testing.assert_allclose(WHISPER.log(energies), [[-1.0, -1.0, 0.25, 1.0]])
    np.testing.assert_allclose(YAMNET.log(energies), np.log(energies + 0.001))


def test_windows_of_frames() -> None:
    assert np.allclose(replace(YAMNET, window="none").shape, 1)
    assert replace(YAMNET, window="hamming").shape.min() == pytest.approx(0.08)
    assert YAMNET.shape[0] == 0
    assert YAMNET.shape.max() == 1


@pytest.mark.parity
@pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers")
@pytest.mark.parametrize("kind", ["rand_trunc", "fusion"])
def test_clap_within_a_ten_thousandth_of_a_decibel(kind: str) -> None:
    from transformers import ClapFeatureExtractor

    reference: Any = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, truncation=kind)
    mel = CLAP if kind == "rand_trunc" else replace(CLAP, scale="htk", norm="")
    for name, samples in sounds(10, 48_000).items():
        expected = reference(samples, sampling_rate=48_000, return_tensors="np")["input_features"][0, 0]
        assert np.abs(mel(samples) - expected).max() < 1e-4, name


@pytest.mark.parity
@pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers")
def test_whisper_within_a_ten_thousandth_of_a_decibel() -> None:
    """Of its numpy path, in decibels: its levels are a fortieth of them."""
    from transformers import WhisperFeatureExtractor

    reference: Any = WhisperFeatureExtractor(feature_size=80)
    for name, samples in sounds(30, 16_000).items():
        expected = reference._np_extract_fbank_features(samples[None], "cpu")[0].T
        assert 40 * np.abs(WHISPER(samples) - expected).max() < 1e-4, name
