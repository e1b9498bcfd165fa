"""Line charts as SVG text: panels below each other, with one axis of nights. Readable on a light and on a dark page."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 130, 64, 26, 44
"""Pixels: of a panel, of the space left of it and above it, and between two panels."""
GREY, COLOURS = "#8a8a8a", ("#2f7ed8", "#e07b00", "#8a8a8a")
POINTS = 200
"""Points of a line, at most."""


@dataclass(frozen=True)
class Line:
    """A named line."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), by x."""


@dataclass(frozen=True)
class Panel:
    """Lines with one axis."""

    title: str
    lines: Sequence[Line]
    floor: float | None = 0.0
    """The lowest value of the axis; None: the smallest value of the lines."""


def svg(panels: Sequence[Panel], x_title: str) -> str:
    """The panels as one picture. They share the values of x."""
    last = max(x for panel in panels for line in panel.lines for x, _ in line.points) or 1.0
    height = len(panels) * (TOP + HEIGHT + GAP)
    box = f"0 0 {LEFT + WIDTH + 16} {height}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="12" fill="{GREY}">']
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * (TOP + HEIGHT + GAP) + TOP, last, x_title)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: float, last: float, x_title: str) -> list[str]:
    values = [y for line in panel.lines for _, y in line.points]
    low, high = min(values) if panel.floor is None else panel.floor, max(values)
    span = (high - low) or 1.0
    parts = [f'<text x="{LEFT}" y="{top - 10}" font-weight="bold">{escape(panel.title)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = top + HEIGHT * (1 - share)
        parts.append(f'<path d="M{LEFT} {y:g}h{WIDTH}" stroke="{GREY}" stroke-opacity=".3"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:g}" text-anchor="end">{low + share * span:.3g}</text>')
        parts.append(f'<text x="{LEFT + share * WIDTH:g}" y="{top + HEIGHT + 18:g}" text-anchor="middle">{share * last:,.0f}</text>')
    parts.append(f'<text x="{LEFT + WIDTH * 0.75:g}" y="{top + HEIGHT + 18:g}" text-anchor="middle">{escape(x_title)}</text>')
    at = LEFT + WIDTH
    for line, colour in reversed(list(zip(panel.lines, COLOURS, strict=False))):
        drawn = " ".join(f"{LEFT + x / last * WIDTH:.0f},{top + HEIGHT - (y - low) / span * HEIGHT:.0f}" for x, y in _thinned(line.points))
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{at}" y="{top - 10}" text-anchor="end" fill="{colour}">{escape(line.name)}</text>')
        at -= 8 * len(line.name) + 24
    return parts


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Medians of neighbours, so that at most POINTS are left."""
    size = -(-len(points) // POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[len(group) // 2][0], sorted(y for _, y in group)[len(group) // 2]) for group in groups]
