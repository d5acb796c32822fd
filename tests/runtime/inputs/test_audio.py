"""The front end of sounds: windows as the data says, and data that is not understood."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.sounds import encoded, swept

from edge_embed.errors import BundleFormatError, MediaError
from edge_embed_runtime.inputs import sounds
from edge_embed_runtime.inputs.audio import AudioFront
from edge_embed_runtime.inputs.base import read_front

PLAIN: dict[str, Any] = {
    "rate": 8000, "channels": "mean", "resampler": "soxr_hq", "window": 800, "hop": 800, "short": "repeatpad",
    "last": "back", "mel": None, "marks": False, "layout": ["batch", "sample"],
}  # fmt: skip
LOG: dict[str, Any] = {
    "base": "10", "floor": 1e-10, "offset": 0.0, "factor": 10.0, "range": None, "shift": 0.0, "scale": 1.0,
}  # fmt: skip
MEL: dict[str, Any] = {
    "frame": 256, "fft": 256, "hop": 80, "window": "hann", "place": "start", "pad": "reflect", "power": 2, "bands": 12,
    "low": 0.0, "high": 4000.0, "scale": "htk", "triangles": "hertz", "norm": "", "log": LOG, "frames": 11,
}  # fmt: skip
LEVELS = {**PLAIN, "mel": MEL, "layout": ["batch", "channel", "frame", "band"]}


def front(**changed: Any) -> AudioFront:
    found = read_front("audio", {**PLAIN, **changed})
    assert isinstance(found, AudioFront)
    return found


def feeds(samples: np.ndarray, **changed: Any) -> list[np.ndarray]:
    return list(front(**changed).feeds((samples, 8000)))


@pytest.mark.parametrize("count", [801, 1600, 2000, 4001])
@pytest.mark.parametrize("hop", [800, 400, 300])
@pytest.mark.parametrize("last", ["back", "pad", "drop"])
def test_windows_of_a_longer_sound(count: int, hop: int, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "BLOCK", 333)
    samples = swept(count / 8000, 8000)
    found = feeds(samples, hop=hop, last=last)
    starts = list(range(0, count - 799, hop))
    ends = [samples[start : start + 800] for start in starts]
    if starts[-1] + 800 < count and last != "drop":
        rest = samples[starts[-1] + hop :]
        ends.append(samples[-800:] if last == "back" else np.pad(rest, (0, 800 - len(rest))))
    np.testing.assert_array_equal(np.concatenate(found), np.stack(ends))


@pytest.mark.parametrize("last", ["back", "pad", "drop"])
@pytest.mark.parametrize("short", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("count", [1, 300, 799, 800])
def test_a_sound_of_one_window(count: int, short: str, last: str) -> None:
    samples = swept(1, 8000)[:count]
    (found,) = feeds(samples, short=short, last=last)
    times = {"repeatpad": 800 // count, "repeat": 801, "pad": 1}[short]
    expected = np.tile(samples, times)[:800]
    np.testing.assert_array_equal(found[0], np.pad(expected, (0, 800 - len(expected))))


def test_windows_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is there before the rest of the sound was read."""
    monkeypatch.setattr(sounds, "BLOCK", 800)
    read = []

    class Watched(np.ndarray[Any, Any]):
        def __getitem__(self, place: Any) -> Any:
            read.append(place)
            return super().__getitem__(place)

    given = swept(100, 8000).view(Watched)
    next(front().feeds((given, 8000)))
    assert len(front(hop=800).shape) == 2
    assert len(read) < 10


def test_axes() -> None:
    samples = swept(0.1, 8000)
    (levels,) = front(**LEVELS).feeds((samples, 8000))
    assert levels.shape == front(**LEVELS).shape == (1, 1, 11, 12)
    (turned,) = front(**{**LEVELS, "layout": ["batch", "band", "frame"]}).feeds((samples, 8000))
    np.testing.assert_array_equal(turned[0], levels[0, 0].T)
    (plain,) = feeds(samples, layout=["batch", "channel", "sample"])
    np.testing.assert_array_equal(plain[0, 0], samples)


def test_marks_say_which_frames_begin_in_the_sound() -> None:
    data = {**LEVELS, "marks": True, "short": "pad", "layout": ["batch", "band", "frame"], "last": "pad"}
    (short,) = front(**data).feeds((swept(0.05, 8000), 8000))
    np.testing.assert_array_equal(short[0, -1], [1] * 5 + [0] * 6)
    first, second = front(**data).feeds((swept(0.13, 8000), 8000))
    np.testing.assert_array_equal(first[0, -1], [1] * 10 + [0])
    np.testing.assert_array_equal(second[0, -1], [1] * 3 + [0] * 8)


def test_a_sound_of_hours_takes_no_more_memory() -> None:
    """What is held at a time does not grow with the sound."""
    found = front()
    held = max(
        len(window.base) for window, _ in found.windows(iter([swept(0.05, 8000)] * 4000)) if window.base is not None
    )
    assert held <= 800 + 800 + 400


def test_a_budget(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(swept()))
    tight = front(**LEVELS).within(1_000_000)
    with pytest.raises(MediaError, match="reading a sound takes 6 MB, and the budget leaves 1") as caught:
        next(tight.feeds(path))
    assert caught.value.code == "memory_budget"
    assert len(list(tight.within(tight.usual_bytes).feeds(path))) == 10


def test_what_it_is_read_with() -> None:
    assert front().modality == "audio"
    assert "soxr" in front().library
    assert front().modules == ("soundfile", "soxr")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("rate", 500, "front.rate is 500, expected a whole number from 1000 to 768000"),
        ("channels", "left", "front.channels is 'left', expected one of mean"),
        ("resampler", "linear", "front.resampler is 'linear'"),
        ("window", 0, "front.window is 0"),
        ("hop", 801, "front.hop is 801, expected a whole number from 1 to 800"),
        ("short", "loop", "front.short is 'loop', expected one of repeatpad, repeat, pad"),
        ("last", None, "front.last is None"),
        ("marks", 1, "front.marks is 1"),
        ("layout", ["batch", "frame"], "front.layout is ['batch', 'frame'], expected batch, then"),
        ("layout", ["frame", "band", "batch"], "front.layout"),
        ("layout", 3, "front.layout is 3"),
        ("more", 1, "front has fields that this release does not know: more"),
        ("mel", 3, "front.mel is 3, expected names and values"),
        ("mel", None, "front.layout is ['batch', 'channel', 'frame', 'band'], expected ['batch', 'sample'] or"),
        ("mel.fft", 255, "front.mel.frame is 256"),
        ("mel.hop", 0, "front.mel.hop is 0"),
        ("mel.window", "kaiser", "front.mel.window is 'kaiser'"),
        ("mel.place", "end", "front.mel.place"),
        ("mel.pad", "edge", "front.mel.pad"),
        ("mel.power", 3, "front.mel.power"),
        ("mel.low", 4000.0, "front.mel.low is 4000.0, expected less than high"),
        ("mel.high", 4001, "front.mel.high is 4001.0, expected a number from 1 to 4000"),
        ("mel.scale", "bark", "front.mel.scale"),
        ("mel.frames", 12, "front.mel.frames is 12, expected at most 11, which 800 samples give"),
        ("mel.log", None, "front.mel.log is None"),
        ("mel.log.base", "2", "front.mel.log.base is '2', expected one of 10, e"),
        ("mel.log.floor", 0.0, "front.mel.log.floor is 0.0, expected more than 0 where offset is 0"),
        ("mel.log.factor", float("nan"), "front.mel.log.factor"),
        ("mel.log.range", 0, "front.mel.log.range is 0"),
        ("mel.log.more", 0, "front.mel.log has fields that this release does not know: more"),
    ],
)
def test_data_that_is_not_understood(place: str, value: object, said: str) -> None:
    data = copy.deepcopy(LEVELS)
    *outer, last = place.split(".")
    inner = data
    for name in outer:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(BundleFormatError) as caught:
        read_front("audio", data)
    assert said in str(caught.value)
    if last in LEVELS or last in MEL or last in LOG:
        del inner[last]
        with pytest.raises(BundleFormatError, match=rf"\.{last} is missing"):
            read_front("audio", data)


def test_the_front_end_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "frontends.md").read_text("utf-8")
    block = page.partition("## Sounds")[2].partition("```text\n")[2].partition("```")[0]
    assert front(**json.loads(block)).shape == (1, 1, 1001, 64)


def test_reflection_needs_a_longer_window() -> None:
    data = {**LEVELS, "window": 128, "hop": 128, "mel": {**MEL, "frames": 1}}
    with pytest.raises(BundleFormatError, match=r"front\.mel\.fft is 256, expected less than twice the window"):
        read_front("audio", data)
