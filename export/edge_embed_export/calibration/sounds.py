"""The sounds that ship with the exporter, as code that makes them: an encoder is calibrated on some, judged by others.

They are what such an encoder meets: voices without words, struck and blown notes, noise that falls with frequency as
wind and rain do, engines, birds, clicks, near silence and clipping. They mean nothing; sounds of one's own are the
better choice for a model that is to hear such sounds.
"""

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from edge_embed_runtime.extras import require

Numbers = NDArray[np.float64]
Sound = tuple[NDArray[np.float32], int]
Part = Literal["calibration", "receipt"]

RATE = 48_000
SEEDS = {"calibration": 1, "receipt": 2}
# Of each kind of sound, by part.
COUNTS = {"calibration": 3, "receipt": 2}
# Seconds, in turn: shorter than what CLAP and Whisper hear at a time, and longer.
LENGTHS = (1.5, 10.0, 4.0, 13.0, 0.4, 7.0)


def calibration_sounds(part: Part) -> list[Sound]:
    """Sounds as (float32 samples [n], Hz); no sound is in both parts."""
    random = np.random.default_rng(SEEDS[part])
    found: list[Sound] = []
    for _ in range(COUNTS[part]):
        for make in KINDS:
            time = np.arange(int(LENGTHS[len(found) % len(LENGTHS)] * RATE)) / RATE
            samples = make(random, time)
            loudest = max(float(np.abs(samples).max()), 1e-9)
            samples = samples / loudest * 10 ** random.uniform(-2.5, 0.2)  # the loudest are clipped
            found.append((np.clip(samples, -1, 1).astype(np.float32), RATE))
    return found


def golden_sounds() -> list[tuple[str, bytes]]:
    """Small files, (name, content), that try a device's decoder, mixing and resampler: stereo of 8 bits and a low rate,
    and a lossless one of an odd rate. Raises MissingExtraError without soundfile."""
    random = np.random.default_rng(3)
    files = []
    for name, rate, channels, seconds, form in (
        ("voice.wav", 11_025, 2, 0.3, {"format": "WAV", "subtype": "PCM_U8"}),
        ("bell.flac", 22_050, 1, 0.25, {"format": "FLAC", "subtype": "PCM_16"}),
    ):
        time = np.arange(int(seconds * rate)) / rate
        first, second = (_voice(random, time), _bell(random, time))
        samples = np.stack((first, second), axis=1)[:, :channels] if channels > 1 else second[:, None]
        samples = samples / np.abs(samples).max() * 0.8
        content = io.BytesIO()
        require("soundfile", "audio").write(content, samples.astype(np.float32), rate, **form)
        files.append((name, content.getvalue()))
    return files


def _noise(random: Generator, count: int, fall: float) -> Numbers:
    """Noise whose amplitudes fall with this power of the frequency."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.maximum(np.arange(len(spectrum)), 1.0)
    return np.asarray(np.fft.irfft(spectrum / frequency**fall, count))


def _harmonics(pitch: Numbers, shares: Any) -> Numbers:
    """A sound of a pitch [n] in Hz and its multiples, which count `shares`."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.asarray(sum(share * np.sin((i + 1) * phase) for i, share in enumerate(shares)), np.float64)


def _voice(random: Generator, time: Numbers) -> Numbers:
    """Syllables: harmonics of a wandering pitch through two formants that move."""
    pitch = random.uniform(90, 260) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.5, 3) * time))
    formants = random.uniform((300, 900), (800, 2600))
    total = np.zeros_like(time)
    phase = 2 * np.pi * np.cumsum(pitch) * (time[1] - time[0])
    for i in range(1, 24):
        moved = [centre * (1 + 0.2 * np.sin(4 * np.pi * time)) for centre in formants]
        share = sum(1 / (1 + ((i * pitch - centre) / 120) ** 2) for centre in moved)
        total = total + (share + 0.02 / i) * np.sin(i * phase)
    syllables = np.clip(np.sin(2 * np.pi * random.uniform(2, 5) * time + random.uniform(0, 6)), 0, 1)
    return np.asarray(total * syllables, np.float64)


def _bell(random: Generator, time: Numbers) -> Numbers:
    """Struck: partials that are no multiples and die away."""
    pitch, total = random.uniform(200, 1200), np.zeros_like(time)
    for ratio in (1, 2.76, 5.4, 8.93):
        total = total + np.sin(2 * np.pi * pitch * ratio * time) * np.exp(-random.uniform(2, 8) * np.sqrt(ratio) * time)
    return total


def _notes(random: Generator, time: Numbers) -> Numbers:
    """A tune: some notes after each other, two at a time."""
    steps = (time * random.uniform(2, 6)).astype(int)
    total = np.zeros_like(time)
    for _ in range(2):
        tune = 220 * 2 ** (random.integers(-5, 20, steps.max() + 1) / 12)
        total = total + _harmonics(tune[steps], 1 / np.arange(1, 9) ** random.uniform(0.8, 2))
    return total


def _wind(random: Generator, time: Numbers) -> Numbers:
    slow = 1 + 0.8 * np.sin(2 * np.pi * random.uniform(0.1, 0.6) * time + random.uniform(0, 6))
    return _noise(random, len(time), random.uniform(0.5, 1.2)) * slow


def _rain(random: Generator, time: Numbers) -> Numbers:
    """Drops over a hiss."""
    drops = np.where(random.random(len(time)) < random.uniform(0.0005, 0.005), random.standard_normal(len(time)), 0)
    return np.convolve(drops, np.exp(-np.arange(400) / 60), "same") + 0.05 * random.standard_normal(len(time))


def _engine(random: Generator, time: Numbers) -> Numbers:
    pitch = random.uniform(20, 80) * (1 + 0.5 * time / max(float(time[-1]), 1e-3))
    return _harmonics(pitch, random.uniform(0.1, 1, 30)) + 20 * _noise(random, len(time), 0.5)


def _bird(random: Generator, time: Numbers) -> Numbers:
    """Short calls that rise and fall."""
    calls = np.clip(np.sin(2 * np.pi * random.uniform(1, 4) * time), 0, 1) ** 4
    swing = np.sin(2 * np.pi * random.uniform(5, 20) * time)
    return np.asarray(_harmonics(random.uniform(2000, 6000) * (1 + 0.2 * swing), (1, 0.2)) * calls, np.float64)


def _clicks(random: Generator, time: Numbers) -> Numbers:
    """A beat of clicks and thumps."""
    found, every = np.zeros_like(time), int(RATE / random.uniform(2, 12))
    found[::every] = random.uniform(0.3, 1, len(found[::every]))
    return np.convolve(found, np.exp(-np.arange(2000) / random.uniform(20, 600)) * np.cos(np.arange(2000) / 9), "same")


def _hush(random: Generator, time: Numbers) -> Numbers:
    """Silence, but for a moment."""
    found = 1e-4 * random.standard_normal(len(time))
    place = int(random.uniform(0, 0.8) * len(time))
    found[place : place + 500] += np.hanning(len(found[place : place + 500]))
    return found


def _hiss(random: Generator, time: Numbers) -> Numbers:
    return random.standard_normal(len(time))


def _sweep(random: Generator, time: Numbers) -> Numbers:
    low, high = random.uniform(30, 400), random.uniform(4000, 16000)
    part = time / max(float(time[-1]), 1e-3)
    return _harmonics(low * (high / low) ** part, (1, 0.3, 0.1))


KINDS: tuple[Callable[[Generator, Numbers], Numbers], ...] = (
    *(_voice, _bell, _notes, _wind, _rain, _engine, _bird, _clicks, _hush, _hiss, _sweep),
)
