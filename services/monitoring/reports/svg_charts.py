"""Charts as SVG, without scripts and inline styles: a distribution, a series over time. Pure.

Colours come from CSS classes of the page, so a chart follows its light or dark theme.
"""

import dataclasses
import html
import itertools
import math
from collections.abc import Sequence

from streams.records import Bins

WIDTH, HEIGHT = 320, 84
LINE_WIDTH, LINE_HEIGHT = 760, 170
MARGIN_LEFT, MARGIN_BOTTOM, MARGIN_TOP = 52, 22, 10
RIGHT = LINE_WIDTH - 8


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bin: its name, its expected and its current share of the values."""

    name: str
    expected: float
    current: float
    count: int

    @property
    def difference(self) -> float:
        """Current minus expected share."""
        return self.current - self.expected


@dataclasses.dataclass(frozen=True)
class Line:
    """One series over the windows; None for a window without a value."""

    name: str
    css: str
    values: Sequence[float | None]


def bars(bins: Bins) -> list[Bar]:
    """Return the bins with their names, without bins that are expected empty and are empty."""
    total = max(sum(bins.counts), 1)
    all_bars = [
        Bar(name, expected, count / total, count)
        for name, expected, count in zip(_names(bins), bins.expected, bins.counts, strict=True)
    ]
    return [bar for bar in all_bars if bar.expected or bar.count]


def overlay(feature: str, shown: Sequence[Bar]) -> str:
    """Draw a pair of bars for each bin: the expected share filled, the current share outlined."""
    top = max([max(bar.expected, bar.current) for bar in shown], default=0.0) or 1.0
    step = WIDTH / max(len(shown), 1)
    head = f'<svg class="overlay" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    parts = [f'{head}aria-label="{html.escape(_described(feature, shown))}">']
    for number, bar in enumerate(shown):
        left = number * step
        expected, current = (HEIGHT * share / top for share in (bar.expected, bar.current))
        parts.append(
            f"<g><title>{html.escape(bar.name)}: expected {bar.expected:.1%}, now {bar.current:.1%}</title>"
            f'<rect class="expected" x="{left + step * 0.08:.1f}" y="{HEIGHT - expected:.1f}" '
            f'width="{step * 0.84:.1f}" height="{expected:.1f}"/>'
            f'<rect class="{"current more" if bar.difference > 0 else "current"}" '
            f'x="{left + step * 0.26:.1f}" y="{HEIGHT - current:.1f}" width="{step * 0.48:.1f}" '
            f'height="{current:.1f}"/></g>'
        )
    parts.append(f'<path class="axis" d="M0 {HEIGHT - 0.5}H{WIDTH}"/></svg>')
    return "".join(parts)


def timeline(
    title: str,
    lines: Sequence[Line],
    times: Sequence[str],
    *,
    limit: float | None = None,
    marked: int = -1,
    bounds: tuple[float, float] | None = None,
) -> str:
    """Draw series over the windows, a dashed line at the limit, and a mark at the reported window.

    ``bounds`` are the ends of the axis; by default they follow from the values.
    """
    values = [value for line in lines for value in line.values if value is not None]
    values += [] if limit is None else [limit]
    if not values or not times:
        return ""
    frame = _Frame(*(bounds or _padded(min(values), max(values))), len(times))
    head = f'<svg class="timeline" viewBox="0 0 {LINE_WIDTH} {LINE_HEIGHT}" role="img" '
    mark_x, first, last = frame.x(marked % len(times)), html.escape(times[0]), html.escape(times[-1])
    parts = [
        f'{head}aria-label="{html.escape(title)}">',
        *map(frame.rule, (frame.low, (frame.low + frame.high) / 2, frame.high)),
        f'<path class="mark" d="M{mark_x:.1f} {MARGIN_TOP}V{LINE_HEIGHT - MARGIN_BOTTOM}"/>',
        f'<text class="tick" x="{MARGIN_LEFT}" y="{LINE_HEIGHT - 6}">{first}</text>',
        f'<text class="tick" x="{RIGHT}" y="{LINE_HEIGHT - 6}" text-anchor="end">{last}</text>',
    ]
    if limit is not None:
        parts.append(f'<path class="limit" d="M{MARGIN_LEFT} {frame.y(limit):.1f}H{RIGHT}"/>')
    return "".join([*parts, *(frame.drawn(line) for line in lines), "</svg>"])


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Maps values and windows to coordinates of the chart."""

    low: float
    high: float
    windows: int

    def x(self, window: int) -> float:
        return MARGIN_LEFT + (RIGHT - MARGIN_LEFT) * (window + 0.5) / self.windows

    def y(self, value: float) -> float:
        height = LINE_HEIGHT - MARGIN_BOTTOM - MARGIN_TOP
        return MARGIN_TOP + height * (self.high - value) / (self.high - self.low)

    def rule(self, value: float) -> str:
        return (
            f'<path class="grid" d="M{MARGIN_LEFT} {self.y(value):.1f}H{RIGHT}"/>'
            f'<text class="tick" x="{MARGIN_LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">'
            f"{value:.3g}</text>"
        )

    def drawn(self, line: Line) -> str:
        points = [(self.x(n), self.y(value)) for n, value in enumerate(line.values) if value is not None]
        if not points:
            return ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        x, y = points[-1]
        return (
            f'<polyline class="line {line.css}" points="{path}"/>'
            f'<circle class="dot {line.css}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        )


def _names(bins: Bins) -> list[str]:
    if bins.categories is not None:
        return [*bins.categories, "(missing)"]
    edges = bins.edges or []
    if not edges:
        return ["(all values)", "(missing)"]
    inner = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
    return [f"below {edges[0]:.4g}", *inner, f"{edges[-1]:.4g} and above", "(missing)"]


def _described(feature: str, shown: Sequence[Bar]) -> str:
    largest = max(shown, key=lambda bar: abs(bar.difference), default=None)
    if largest is None:
        return f"{feature}: no values"
    return (
        f"{feature}: expected and current shares in {len(shown)} bins; largest change: {largest.name}, "
        f"from {largest.expected:.1%} to {largest.current:.1%}"
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return the bounds with a margin of 8 %, so that they are never equal."""
    margin = (high - low) * 0.08 or max(abs(high) * 0.1, 1e-6)
    return low - margin, high + margin if math.isfinite(high) else low + 1.0
