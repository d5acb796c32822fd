"""The front end of an audio tower: a sound as the arrays that the tower reads, one for each of its windows.

Windows lie side by side from the beginning of the sound, so the same sound always gives the same arrays. (The reference
of CLAP takes one window of a long sound at random.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_embed_runtime.errors import MediaError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.fields import Fields
from edge_embed_runtime.inputs.mel import LogRule, Mel
from edge_embed_runtime.inputs.sounds import BLOCK, EXTRA, HIGHEST_RATE, LOWEST_RATE, Samples, mono

SHORT = ("repeatpad", "repeat", "pad")
LAST = ("back", "pad", "drop")
# What a front end may ask for, so that no manifest makes one window take all memory.
LONGEST_WINDOW = 2**24
LARGEST_FFT = 2**16
DECODER_BYTES = 4_000_000
MOST_BANDS = 1024
SAMPLE_LAYOUTS = (["batch", "sample"], ["batch", "channel", "sample"])
LEVEL_AXES = (["band", "batch", "frame"], ["band", "batch", "channel", "frame"])


@dataclass(frozen=True)
class AudioFront:
    """What the manifest says of an audio tower's front end.

    rate:   Hz
    window: samples that the tower hears at a time; hop: from one window to the next
    short:  how a sound shorter than a window fills it: "repeatpad", repeated whole times, then zeros; "repeat",
            repeated and cut; "pad", zeros
    last:   what becomes of the samples behind the last whole window of a longer sound: "back", the window that ends
            with the sound; "pad", zeros behind them; "drop", nothing
    mel:    None: the tower reads the samples themselves
    marks:  whether one band more says which frames begin in the sound (1) and which in padding (0)
    layout: the axes of what the tower reads
    memory: bytes that reading a sound may take
    """

    rate: int
    window: int
    hop: int
    short: str
    last: str
    mel: Mel | None
    marks: bool
    layout: tuple[str, ...]
    memory: int | None = None

    @property
    def modality(self) -> str:
        """ "audio"."""
        return "audio"

    @property
    def shape(self) -> tuple[int, ...]:
        """What `feeds` gives, as (1, 1, 1001, 64)."""
        bands = (self.mel.bands + self.marks, self.mel.frames) if self.mel else (0, 0)
        sizes = {"batch": 1, "channel": 1, "sample": self.window, "band": bands[0], "frame": bands[1]}
        return tuple(sizes[axis] for axis in self.layout)

    @property
    def usual_bytes(self) -> int:
        """Of a sound of any length: some windows of samples, one of them in float64 with its levels."""
        held = 4 * (2 * (self.window + self.hop) + 4 * BLOCK)
        levels = 8 * (2 * self.window + 4 * self.mel.frames * self.mel.bands) if self.mel else 0
        return DECODER_BYTES + held + levels

    @property
    def library(self) -> str:
        """ "soundfile 0.14.0, libsndfile 1.2.2, soxr 1.1.0"."""
        soundfile, soxr = require("soundfile", EXTRA), require("soxr", EXTRA)
        return (
            f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """What decodes and what resamples."""
        return ("soundfile", "soxr")

    def within(self, most: int) -> "AudioFront":
        """The same front end, which refuses every sound where reading one takes more than so many bytes."""
        return replace(self, memory=most)

    def feeds(self, given: object) -> Iterator[Samples]:
        """What the tower reads of one sound: float32 of `shape` for each window, one after the other.

        given: the path of a file, the bytes of one, or (samples, rate) with samples float [n] or [n, channels]

        Raises MediaError, with the name of the file, where it is no sound or only part of one.
        """
        if self.memory is not None and self.usual_bytes > self.memory:
            needed, left = (round(count / 1e6) for count in (self.usual_bytes, self.memory))
            raise MediaError(f"reading a sound takes {needed} MB, and the budget leaves {left}", code="memory_budget")
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


def read_audio_front(front: Mapping[str, Any]) -> AudioFront:
    """The front end that a manifest describes. Raises BundleFormatError for what this release does not know."""
    fields = Fields(front, "front")
    fields.choice("channels", ["mean"])
    fields.choice("resampler", ["soxr_hq"])
    rate = fields.whole("rate", LOWEST_RATE, HIGHEST_RATE)
    window = fields.whole("window", 1, LONGEST_WINDOW)
    hop = fields.whole("hop", 1, window)
    short, last = fields.choice("short", SHORT), fields.choice("last", LAST)
    spec, marks, layout = fields.part("mel"), fields.take("marks"), fields.take("layout")
    fields.done()
    mel = None if spec is None else _read_mel(spec, rate, window)
    if not isinstance(marks, bool) or (marks and mel is None):
        raise fields.wrong("marks", marks, "true or false, and false where mel is null")
    fits = layout in SAMPLE_LAYOUTS if mel is None else _has_axes(layout)
    if not fits:
        axes = (
            f"{SAMPLE_LAYOUTS[0]} or {SAMPLE_LAYOUTS[1]}"
            if mel is None
            else "batch, then frame, band and perhaps channel"
        )
        raise fields.wrong("layout", layout, axes)
    return AudioFront(rate, window, hop, short, last, mel, marks, tuple(layout))


def _has_axes(layout: Any) -> bool:
    """Whether these are the axes of levels: ["batch", "channel", "frame", "band"]."""
    names = layout if isinstance(layout, list) else []
    return names[:1] == ["batch"] and sorted(map(str, names)) in LEVEL_AXES


def _read_mel(fields: Fields, rate: int, window: int) -> Mel:
    fft = fields.whole("fft", 2, LARGEST_FFT)
    log = fields.part("log")
    if log is None:
        raise fields.wrong("log", None, "names and values")
    mel = Mel(
        rate=rate,
        frame=fields.whole("frame", 2, fft),
        fft=fft,
        hop=fields.whole("hop", 1, window),
        window=fields.choice("window", ["hann", "hamming", "none"]),
        place=fields.choice("place", ["start", "middle"]),
        pad=fields.choice("pad", ["", "reflect", "constant"]),
        power=fields.whole("power", 1, 2),
        bands=fields.whole("bands", 1, MOST_BANDS),
        low=_between(fields, "low", 0, rate / 2),
        high=_between(fields, "high", 1, rate / 2),
        scale=fields.choice("scale", ["htk", "slaney"]),
        triangles=fields.choice("triangles", ["hertz", "mel"]),
        norm=fields.choice("norm", ["", "slaney"]),
        log=_read_log(log),
        frames=fields.whole("frames", 1, window + 1),
    )
    fields.done()
    if mel.low >= mel.high:
        raise fields.wrong("low", mel.low, f"less than high, {mel.high}")
    if mel.pad == "reflect" and window <= mel.margin:
        raise fields.wrong("fft", fft, f"less than twice the window of {window} samples")
    if mel.frames > mel.frames_of(window):
        raise fields.wrong("frames", mel.frames, f"at most {mel.frames_of(window)}, which {window} samples give")
    return mel


def _read_log(fields: Fields) -> LogRule:
    ranged = not fields.holds("range", type(None))
    rule = LogRule(
        base=fields.choice("base", ["10", "e"]),
        floor=_between(fields, "floor", 0, 1),
        offset=_between(fields, "offset", 0, 1),
        factor=_between(fields, "factor", 1e-3, 1e3),
        range=_between(fields, "range", 1e-3, 1e3) if ranged else fields.take("range"),
        shift=_between(fields, "shift", -1e3, 1e3),
        scale=_between(fields, "scale", 1e-3, 1e3),
    )
    fields.done()
    if rule.floor + rule.offset <= 0:
        raise fields.wrong("floor", rule.floor, "more than 0 where offset is 0: silence has no logarithm")
    return rule


def _between(fields: Fields, name: str, least: float, most: float) -> float:
    value = fields.number(name)
    if not least <= value <= most:
        raise fields.wrong(name, value, f"a number from {least:g} to {most:g}")
    return value
