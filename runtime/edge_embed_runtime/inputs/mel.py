"""Log-mel spectrograms of one window of a sound, in numpy.

Everything is computed in float64, as the references do: in float32 the quiet bands beside a loud tone are off by a
thousandth of a decibel, at two thirds of the time. Mel scales: O'Shaughnessy's formula as in HTK, and Slaney's of the
Auditory Toolbox.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Float64 = NDArray[np.float64]
# Frames that are transformed at a time: their FFTs fit into a core's cache.
BLOCK = 64


@dataclass(frozen=True)
class LogRule:
    """What becomes of the energy x of a band.

    y = factor * log(max(x, floor) + offset), then y = max(y, highest y of the window - range), (y + shift) * scale
    """

    base: str
    floor: float
    offset: float
    factor: float
    range: float | None
    shift: float
    scale: float

    def __call__(self, energies: Float64) -> Float64:
        log = np.log10 if self.base == "10" else np.log
        levels = log(np.maximum(energies, self.floor) + self.offset) * self.factor
        if self.range is not None:
            levels = np.maximum(levels, levels.max() - self.range)
        return (levels + self.shift) * self.scale


@dataclass(frozen=True)
class Mel:
    """How a window of samples becomes numbers for each frame and band.

    frame, fft, hop: samples in a frame, of its transform, and from one frame to the next
    window:    what a frame is multiplied by, periodic
    place:     where in its transform a frame shorter than it lies
    pad:       how the window of samples goes on beyond its ends, so that the first frame's middle is its first sample
    power:     of the spectrum's magnitude: 1 or 2
    triangles: whether the sides of a band's triangle are straight over hertz or over the scale
    norm:      "slaney": every triangle has the same area
    frames:    how many frames are kept, the first ones
    """

    rate: int
    frame: int
    fft: int
    hop: int
    window: str
    place: str
    pad: str
    power: int
    bands: int
    low: float
    high: float
    scale: str
    triangles: str
    norm: str
    log: LogRule
    frames: int

    @property
    def span(self) -> int:
        """Samples that one transform takes in."""
        return self.fft if self.place == "middle" else self.frame

    @property
    def margin(self) -> int:
        """Samples that padding adds at each end."""
        return self.span // 2 if self.pad else 0

    def frames_of(self, samples: int) -> int:
        """How many whole frames there are in so many samples."""
        return max(0, 1 + (samples + 2 * self.margin - self.span) // self.hop)

    @cached_property
    def shape(self) -> Float64:
        """What the samples of one span are multiplied by [span]."""
        places = np.arange(self.frame)
        alpha = {"hann": 0.5, "hamming": 0.54, "none": 1.0}[self.window]
        window = alpha - (1 - alpha) * np.cos(2 * np.pi * places / self.frame)
        before = (self.span - self.frame) // 2
        return np.pad(window, (before, self.span - self.frame - before))

    @cached_property
    def bank(self) -> Float64:
        """What the bins of a spectrum count for each band [fft / 2 + 1, bands]."""
        edges = np.linspace(to_mel(self.low, self.scale), to_mel(self.high, self.scale), self.bands + 2)
        bins = np.linspace(0, self.rate / 2, self.fft // 2 + 1)
        hertz = to_hertz(edges, self.scale)
        if self.triangles == "mel":
            corners, places = edges, np.array([to_mel(float(bin), self.scale) for bin in bins])
        else:
            corners, places = hertz, bins
        rising = (places[:, None] - corners[None, :-2]) / np.diff(corners)[:-1]
        falling = (corners[None, 2:] - places[:, None]) / np.diff(corners)[1:]
        bank = np.maximum(0, np.minimum(rising, falling))
        if self.norm:
            bank *= 2 / (hertz[2:] - hertz[:-2])
        return np.asarray(bank)

    def __call__(self, samples: Samples) -> NDArray[np.float32]:
        """The levels of one window of samples [n]: float32 [frames, bands]."""
        padded = samples.astype(np.float64)
        if self.pad == "reflect":
            padded = np.pad(padded, self.margin, mode="reflect")
        elif self.pad:
            padded = np.pad(padded, self.margin)
        spans = np.lib.stride_tricks.sliding_window_view(padded, self.span)[:: self.hop][: self.frames]
        energies = np.empty((len(spans), self.bands))
        for start in range(0, len(spans), BLOCK):
            spectrum = np.fft.rfft(spans[start : start + BLOCK] * self.shape, self.fft)
            magnitudes = spectrum.real**2 + spectrum.imag**2
            if self.power == 1:
                magnitudes = np.sqrt(magnitudes)
            energies[start : start + BLOCK] = magnitudes @ self.bank
        return self.log(energies).astype(np.float32)


def to_mel(hertz: float, scale: str) -> float:
    """1000 Hz -> 999.99 mel of HTK, 15 of Slaney, whose scale is linear up to there."""
    if scale == "htk":
        return float(2595 * np.log10(1 + hertz / 700))
    return float(hertz * 3 / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) * 27 / np.log(6.4))


def to_hertz(mels: Float64, scale: str) -> Float64:
    """The other way, of many."""
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    above = 1000 * np.exp((np.maximum(mels, 15) - 15) * np.log(6.4) / 27)
    return np.where(mels < 15, mels * 200 / 3, above)
