"""CLAP and Whisper against transformers, through whole bundles: sounds and texts."""

from pathlib import Path

import numpy as np
import pytest
from builders import soundmodels
from builders.soundmodels import clap, whisper
from builders.sounds import swept

from edge_embed import Embedder
from edge_embed_export.exporter import export_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # of torch and transformers
    pytest.mark.usefixtures("short_receipt"),
]
EQUAL = 1e-5
# No longer than what the models hear at a time, of which transformers takes a part at random.
SOUNDS = [(swept(seconds, rate), rate) for seconds, rate in ((0.1, 48_000), (0.9, 48_000), (2.0, 48_000))]
TEXTS = ["rain on a tin roof", "a dog", "hello world"]


def exported(folder: Path, target: Path) -> Embedder:
    export_model(folder, target, precision="fp32")
    return Embedder(target)


@pytest.mark.parametrize("fusion", [False, True])
def test_clap_gives_the_vectors_of_transformers(tmp_path: Path, fusion: bool) -> None:
    """Sounds and texts, with fusion as the reference does it for a sound that is not marked as longer."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = clap(tmp_path / "clap", fusion=fusion)
    embedder = exported(folder, tmp_path / "bundle")
    model = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = embedder.encode_audio(SOUNDS)
    with torch.no_grad():
        for (samples, rate), vector in zip(SOUNDS, found, strict=True):
            features = extractor(samples, sampling_rate=rate, return_tensors="pt")["input_features"]
            state = model.audio_model(features, is_longer=torch.zeros(1, 1, dtype=torch.bool)).pooler_output
            expected = torch.nn.functional.normalize(model.audio_projection(state), dim=-1)[0]
            assert np.abs(expected.numpy() - vector).max() < EQUAL
        for text, vector in zip(TEXTS, embedder.encode(TEXTS), strict=True):
            state = model.text_model(**tokenizer(text, return_tensors="pt")).pooler_output
            expected = torch.nn.functional.normalize(model.text_projection(state), dim=-1)[0]
            assert np.abs(expected.numpy() - vector).max() < EQUAL
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.parametrize("seconds", [1, 30])
def test_whisper_gives_the_mean_of_the_frames_of_the_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """The encoder of transformers over the padded window; of its frames those count that begin in the sound. In 30
    seconds there are 1,500 of them, more than attention sees at a time."""
    monkeypatch.setattr(soundmodels, "FRAMES", 100 * seconds)
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = whisper(tmp_path / "whisper", extractor={"chunk_length": seconds})
    embedder = exported(folder, tmp_path / "bundle")
    model = transformers.WhisperModel.from_pretrained(folder).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    for samples in (swept(0.1, 16_000), swept(0.505, 16_000), swept(1.0, 16_000)):
        features = extractor(
            samples, sampling_rate=16_000, return_tensors="np", return_attention_mask=True, padding="max_length"
        )
        with torch.no_grad():
            levels = torch.from_numpy(
                extractor._np_extract_fbank_features(padded(samples, 16_000 * seconds)[None], "cpu")
            )
            frames = model.encoder(levels.float()).last_hidden_state[0].numpy()
        kept = features["attention_mask"][0][::2].astype(bool)
        expected = frames[kept].mean(axis=0)
        assert np.abs(expected / np.linalg.norm(expected) - embedder.encode_audio([(samples, 16_000)])[0]).max() < EQUAL


def padded(samples: np.ndarray, count: int) -> np.ndarray:
    return np.pad(samples, (0, count - len(samples)))
