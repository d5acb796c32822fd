"""The front end of an audio tower: a sound as the arrays that the tower reads, one for each of its windows.

Windows lie side by side from the beginning of the sound, so the same sound always gives the same arrays. (The reference
of CLAP takes one window of a long sound at random.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.inputs.mel import LogRule, Mel
from edge_embed_runtime.inputs.sounds import HIGHEST_RATE, LOWEST_RATE, Samples, mono

MODALITY: Literal["audio"] = "audio"
# What a front end may ask for, so that no manifest makes one window take all memory.
LONGEST_WINDOW = 2**24
LARGEST_FFT = 2**16
MOST_BANDS = 1024
SAMPLE_LAYOUTS = (["batch", "sample"], ["batch", "channel", "sample"])


@dataclass(frozen=True)
class AudioFront:
    """What the manifest says of an audio tower's front end.

    rate:   Hz
    window: samples that the tower hears at a time; hop: from one window to the next
    short:  how a sound shorter than a window fills it: "repeatpad", repeated whole times, then zeros; "repeat", repeated
            and cut; "pad", zeros
    last:   what becomes of the samples behind the last whole window of a longer sound: "back", the window that ends with
            the sound; "pad", zeros behind them; "drop", nothing
    mel:    None: the tower reads the samples themselves
    marks:  whether one band more says which frames begin in the sound (1) and which in padding (0)
    layout: the axes of what the tower reads
    """

    rate: int
    window: int
    hop: int
    short: Literal["repeatpad", "repeat", "pad"]
    last: Literal["back", "pad", "drop"]
    mel: Mel | None
    marks: bool
    layout: tuple[str, ...]
    modality: str = MODALITY

    @property
    def shape(self) -> tuple[int, ...]:
        """What `feeds` gives, as (1, 1, 1001, 64)."""
        bands = (self.mel.bands + self.marks, self.mel.frames) if self.mel else (0, 0)
        sizes = {"batch": 1, "channel": 1, "sample": self.window, "band": bands[0], "frame": bands[1]}
        return tuple(sizes[axis] for axis in self.layout)

    def feeds(self, given: object) -> Iterator[Samples]:
        """What the tower reads of one sound: float32 of `shape` for each window, one after the other.

        given: the path of a file, the bytes of one, or (samples, rate) with samples float [n] or [n, channels]

        Raises MediaError, with the name of the file, where it is no sound or only part of one.
        """
        for samples, heard in self.windows(mono(given, self.rate)):
            yield self._arranged(samples, heard)

    def windows(self, blocks: Iterator[Samples]) -> Iterator[tuple[Samples, int]]:
        """Every window [window] of a sound given as blocks [n], and how many of its samples are the sound's."""
        held: Samples = np.zeros(0, np.float32)  # from the beginning of the last window that was given
        begin = 0  # in `held`, of the next window
        for block in blocks:
            held = np.concatenate((held, block))
            while len(held) >= begin + self.window:
                held, begin = held[begin:], self.hop
                yield held[: self.window], self.window
        if not begin:
            yield self._filled(held), len(held)
        elif len(held) > self.window and self.last == "back":
            yield held[-self.window :], self.window
        elif len(held) > self.window and self.last == "pad":
            rest = held[begin:]
            yield np.pad(rest, (0, self.window - len(rest))), len(rest)

    def _filled(self, samples: Samples) -> Samples:
        """The one window of a sound that is shorter."""
        if self.short == "repeat":
            samples = np.resize(samples, self.window)
        elif self.short == "repeatpad":
            samples = np.tile(samples, self.window // len(samples))
        return np.pad(samples, (0, self.window - len(samples)))

    def _arranged(self, samples: Samples, heard: int) -> Samples:
        if self.mel is None:
            return np.ascontiguousarray(samples).reshape(self.shape)
        levels = self.mel(samples)
        if self.marks:
            begun = np.arange(self.mel.frames) * self.mel.hop < heard
            levels = np.column_stack((levels, begun.astype(np.float32)))
        if self.layout.index("band") < self.layout.index("frame"):
            levels = levels.T
        return np.ascontiguousarray(levels).reshape(self.shape)


def read_audio_front(front: object) -> AudioFront:
    """A front end by what the manifest says. Raises BundleFormatError, which names the key, for what is not understood."""
    data = _Reader(front, "front")
    data.one_of("channels", "mean")
    data.one_of("resampler", "soxr_hq")
    rate = data.whole("rate", LOWEST_RATE, HIGHEST_RATE)
    window = data.whole("window", 1, LONGEST_WINDOW)
    hop = data.whole("hop", 1, window)
    short, last = data.one_of("short", "repeatpad", "repeat", "pad"), data.one_of("last", "back", "pad", "drop")
    spec, marks, layout = data.take("mel"), data.take("marks"), data.take("layout")
    data.finish()
    if not isinstance(marks, bool):
        raise data.wrong("marks", marks, "true or false")
    mel = None if spec is None else _read_mel(_Reader(spec, "front.mel"), rate, window)
    if mel is None and (layout not in SAMPLE_LAYOUTS or marks):
        raise data.wrong("layout", layout, f"{SAMPLE_LAYOUTS[0]} or {SAMPLE_LAYOUTS[1]}, without marks, where mel is null")
    if mel is not None and not _fits(layout):
        raise data.wrong("layout", layout, 'axes of "batch" first, "frame", "band" and possibly "channel"')
    return AudioFront(rate, window, hop, short, last, mel, marks, tuple(layout))


def _fits(layout: Any) -> bool:
    axes = [axis for axis in layout if axis != "channel"] if isinstance(layout, list) else []
    return axes[:1] == ["batch"] == layout[:1] and sorted(map(str, axes)) == ["band", "batch", "frame"] and len(layout) < 5


def _read_mel(data: "_Reader", rate: int, window: int) -> Mel:
    fft = data.whole("fft", 2, LARGEST_FFT)
    mel = Mel(
        rate=rate,
        frame=data.whole("frame", 2, fft),
        fft=fft,
        hop=data.whole("hop", 1, window),
        window=data.one_of("window", "hann", "hamming", "none"),
        place=data.one_of("place", "start", "middle"),
        pad=data.one_of("pad", "", "reflect", "constant"),
        power=data.whole("power", 1, 2),
        bands=data.whole("bands", 1, MOST_BANDS),
        low=data.number("low", 0, rate / 2),
        high=data.number("high", 1, rate / 2),
        scale=data.one_of("scale", "htk", "slaney"),
        triangles=data.one_of("triangles", "hertz", "mel"),
        norm=data.one_of("norm", "", "slaney"),
        log=_read_log(_Reader(data.take("log"), "front.mel.log")),
        frames=data.whole("frames", 1, window + 1),
    )
    data.finish()
    if mel.low >= mel.high:
        raise data.wrong("low", mel.low, f"less than high, {mel.high}")
    if mel.pad == "reflect" and window <= mel.margin:
        raise data.wrong("fft", fft, f"at most twice the window of {window} samples")
    if mel.frames > mel.frames_of(window):
        raise data.wrong("frames", mel.frames, f"at most {mel.frames_of(window)}, which {window} samples give")
    return mel


def _read_log(data: "_Reader") -> LogRule:
    span = data.take("range")
    rule = LogRule(
        base=data.one_of("base", "10", "e"),
        floor=data.number("floor", 0, 1),
        offset=data.number("offset", 0, 1),
        factor=data.number("factor", 1e-3, 1e3),
        range=None if span is None else data.between("range", span, 1e-3, 1e3),
        shift=data.number("shift", -1e3, 1e3),
        scale=data.number("scale", 1e-3, 1e3),
    )
    data.finish()
    if not rule.floor + rule.offset > 0:
        raise data.wrong("floor", rule.floor, "more than 0 where offset is 0: silence has no logarithm")
    return rule


class _Reader:
    """An object of the manifest, whose keys are all taken once."""

    def __init__(self, data: object, name: str) -> None:
        if not isinstance(data, Mapping):
            raise BundleFormatError(f"the manifest's {name} is {type(data).__name__}, expected an object")
        self._left, self._name = dict(data), name

    def take(self, key: str) -> Any:
        if key not in self._left:
            raise BundleFormatError(f"the manifest's {self._name} lacks {key!r}")
        return self._left.pop(key)

    def finish(self) -> None:
        if self._left:
            raise BundleFormatError(
                f"the manifest's {self._name} has {listed(sorted(map(str, self._left)))}, which this release does not know"
            )

    def wrong(self, key: str, value: object, expected: str) -> BundleFormatError:
        return BundleFormatError(f"the manifest's {self._name}.{key} is {shown(value)}, expected {expected}")

    def one_of(self, key: str, *names: str) -> Any:
        value = self.take(key)
        if not isinstance(value, str) or value not in names:
            raise self.wrong(key, value, listed(names, quoted=True))
        return value

    def whole(self, key: str, least: int, most: int) -> int:
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(key, value, f"a whole number from {least:,} to {most:,}")
        return value

    def number(self, key: str, least: float, most: float) -> float:
        return self.between(key, self.take(key), least, most)

    def between(self, key: str, value: Any, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.wrong(key, value, f"a number from {least:g} to {most:g}")
        return float(value)
