"""Plots of points on two axes, as SVG that stands in an HTML page."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edge_embed.report.text import escape, shown

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 16, 48
TICKS = 5
# Colours of groups in page.css: `.g0` and so on; what comes after them shares the last.
COLOURS = 8
# Pixels of a letter, about, and of a line of text.
LETTER, LINE = 6.8, 14
# Where a label may stand beside its point, the best first: how far from it, and which end of the text is there.
BESIDE = [(9, 4, "start"), (-9, 4, "end"), (0, -9, "middle"), (0, 19, "middle")]
BESIDE += [(7, -7, "start"), (-7, -7, "end"), (7, 17, "start"), (-7, 17, "end")]

# Left, top, right and bottom.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """x, y: in the units of the axes; label: stands beside it where there is room, and is shown by a pointer over it"""

    x: float
    y: float
    label: str
    group: int = 0


@dataclass(frozen=True)
class Axis:
    """name: with the unit; log: in powers of ten; bare: without numbers, which mean nothing; most: the last number"""

    name: str
    log: bool = False
    bare: bool = False
    most: float = math.inf

    def scale(self, values: Sequence[float], start: float, end: float) -> tuple[Callable[[float], float], list[float]]:
        """From values to places between `start` and `end` in the picture, and the values that get a tick."""
        bent = [math.log10(max(value, 1e-12)) for value in values] if self.log else list(values)
        low, high = min(bent), max(bent)
        room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        low, high = low - room, high + room

        def place(value: float) -> float:
            number = math.log10(max(value, 1e-12)) if self.log else value
            return start + (number - low) / (high - low) * (end - start)

        if self.bare:
            return place, []
        ticks = _powers(low, high) if self.log else _ticks(low, high)
        return place, [tick for tick in ticks if tick <= self.most]


def _ticks(low: float, high: float) -> Iterator[float]:
    """Round numbers between two others, some TICKS of them."""
    rough = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    number = math.ceil(low / step)
    while number * step <= high:
        yield number * step
        number += 1


def _powers(low: float, high: float) -> Iterator[float]:
    """Numbers between 10^low and 10^high: powers of ten, with what lies between them where there are few."""
    if high - low < 0.8:
        yield from _ticks(10**low, 10**high)
        return
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    for power in range(math.floor(low), math.ceil(high) + 1):
        yield from (step * 10**power for step in steps if low <= power + math.log10(step) <= high)


def scatter(what: str, points: Sequence[Point], x: Axis, y: Axis, *, quiet: bool = False) -> str:
    """Points on two axes. what: is said in place of the picture; quiet: small, and without labels: for many"""
    if not points:
        return ""
    across, x_ticks = x.scale([point.x for point in points], LEFT, WIDTH - RIGHT)
    up, y_ticks = y.scale([point.y for point in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<div class="wide" tabindex="0"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(what)}">'
    ]
    for tick in x_ticks:
        at = across(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{shown(tick)}</text>')
    for tick in y_ticks:
        at = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{shown(tick)}</text>')
    places = [(across(point.x), up(point.y)) for point in points]
    parts += [_mark(point, place, 3 if quiet else 5) for point, place in zip(points, places, strict=True)]
    parts += [] if quiet else _labels(points, places)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x.name)}</text>')
    turned = f'transform="rotate(-90)" x="{-(TOP + HEIGHT - BOTTOM) / 2}" y="14"'
    parts.append(f'<text class="axis" {turned} text-anchor="middle">{escape(y.name)}</text></svg></div>')
    return "".join(parts)


def _mark(point: Point, place: tuple[float, float], radius: int) -> str:
    where = f'cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius}"'
    return f'<circle class="g{min(point.group, COLOURS - 1)}" {where}><title>{escape(point.label)}</title></circle>'


def _labels(points: Sequence[Point], places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Each label where it covers no point and no other label; where there is no such place the pointer has to do."""
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for point, (x, y) in zip(points, places, strict=True):
        width = LETTER * len(point.label)
        for right, down, anchor in BESIDE:
            left = x + right - {"start": 0, "middle": width / 2, "end": width}[anchor]
            box = (left, y + down - LINE + 3, left + width, y + down + 3)
            inside = box[0] >= LEFT and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                where = f'x="{x + right:.1f}" y="{y + down:.1f}" text-anchor="{anchor}"'
                yield f"<text {where}>{escape(point.label)}</text>"
                break


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
