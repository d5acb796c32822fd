"""Plots as SVG, to stand in an HTML page: points on two axes, and bars."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 16, 48
TICKS = 5
# Colours of groups in page.css: `.g0` and so on; what comes after them shares the last.
COLOURS = 10
BAR = 22


@dataclass(frozen=True)
class Point:
    """x, y: in the units of the axes; label: what is shown beside it, or by a pointer over it where `Plot.quiet`"""

    x: float
    y: float
    label: str
    group: int = 0


@dataclass(frozen=True)
class Axis:
    """name: with the unit; log: in powers of ten; bare: without numbers, which mean nothing"""

    name: str
    log: bool = False
    bare: bool = False

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
        return place, list(_powers(low, high) if self.log else _ticks(low, high))


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
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    for power in range(math.floor(low), math.ceil(high) + 1):
        yield from (step * 10**power for step in steps if low <= power + math.log10(step) <= high)


def shown(value: float) -> str:
    """A number of a tick or a table: 4 digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def scatter(points: Sequence[Point], x: Axis, y: Axis, *, quiet: bool = False) -> str:
    """Points on two axes. quiet: small, and labels only by a pointer over them: for many"""
    if not points:
        return ""
    across, x_ticks = x.scale([point.x for point in points], LEFT, WIDTH - RIGHT)
    up, y_ticks = y.scale([point.y for point in points], HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{y.name} against {x.name}")}">']
    for tick in x_ticks:
        at = across(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{shown(tick)}</text>')
    for tick in y_ticks:
        at = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{shown(tick)}</text>')
    parts += [_point(point, across(point.x), up(point.y), quiet) for point in points]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x.name)}</text>')
    turned = f'transform="rotate(-90)" x="{-(TOP + HEIGHT - BOTTOM) / 2}" y="14"'
    parts.append(f'<text class="axis" {turned} text-anchor="middle">{escape(y.name)}</text></svg>')
    return "".join(parts)


def _point(point: Point, x: float, y: float, quiet: bool) -> str:
    title, group = f"<title>{escape(point.label)}</title>", min(point.group, COLOURS - 1)
    mark = f'<circle class="g{group}" cx="{x:.1f}" cy="{y:.1f}" r="{3 if quiet else 5}">{title}</circle>'
    if quiet:
        return mark
    where = f'x="{x + 9:.1f}" y="{y + 4:.1f}"'
    if x > WIDTH * 0.75:  # above, where there is no room at the right
        where = f'x="{min(x, WIDTH - RIGHT) + RIGHT / 2:.1f}" y="{y - 9:.1f}" text-anchor="end"'
    return f"{mark}<text {where}>{escape(point.label)}</text>"


def bars(values: Sequence[tuple[str, float, str]]) -> str:
    """One bar a row: its name, its length, and what is written behind it."""
    if not values:
        return ""
    most = max(value for _, value, _ in values) or 1
    height, start, room = BAR * len(values) + 4, 170, WIDTH - 170 - 110
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="bars">']
    for row, (name, value, said) in enumerate(values):
        y, length = row * BAR + 2, max(1.0, room * value / most)
        parts.append(f'<text x="{start - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="g0" x="{start}" y="{y + 3}" width="{length:.1f}" height="{BAR - 6}" rx="2"/>')
        parts.append(f'<text x="{start + length + 6:.1f}" y="{y + 15}">{escape(said)}</text>')
    return "".join([*parts, "</svg>"])
