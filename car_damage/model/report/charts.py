"""Charts of the report as inline SVG. Their colours are those of the page, also in the dark."""

from collections.abc import Sequence

from car_damage.model.quality.bootstrap import Interval
from car_damage.model.report.contents import CurvePoint

_WIDTH, _HEIGHT = 560, 240
"""Pixels of the learning curve."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 30, 14, 44


def whisker(value: float, spread: Interval, floor: float = 0.0) -> str:
    """A score from 0 to 1 as a dot, with its interval as a line, and a floor, if there is one, as a mark."""
    low, high, at = (4 + 192 * share for share in (*spread, value))
    mark = f'<line class="floor" x1="{4 + 192 * floor:.1f}" x2="{4 + 192 * floor:.1f}" y1="1" y2="15" stroke-width="2"/>' if floor else ""
    return (
        f'<svg viewBox="0 0 200 16" role="img" aria-label="{value:.3f}, from {spread[0]:.3f} to {spread[1]:.3f}">'
        '<line class="track" x1="4" x2="196" y1="8" y2="8" stroke-width="4" stroke-linecap="round"/>'
        f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8" stroke-width="4" stroke-linecap="round"/>'
        f'{mark}<circle class="dot" cx="{at:.1f}" cy="8" r="5"/></svg>'
    )


def learning_curve(points: Sequence[CurvePoint]) -> str:
    """Macro-F1 by the number of training photos, with intervals where they are known. At least one point."""
    across, up = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    most = max(point.photos for point in points)

    def x(point: CurvePoint) -> float:
        return _LEFT + across * point.photos / most

    def y(score: float) -> float:
        return _TOP + up * (1 - score)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="Macro-F1 by training photos">']
    for line in range(6):
        score = line / 5
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(score):.1f}" y2="{y(score):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(score) + 4:.1f}" text-anchor="end">{score:.1f}</text>')
    path = " ".join(f"{x(point):.1f},{y(point.macro_f1):.1f}" for point in points)
    parts.append(f'<polyline class="curve" points="{path}" stroke-width="2"/>')
    for point in points:
        at = x(point)
        if point.interval:
            low, high = map(y, point.interval)
            parts.append(f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke-width="2"/>')
        parts.append(f'<circle class="dot" cx="{at:.1f}" cy="{y(point.macro_f1):.1f}" r="4.5"/>')
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{point.photos:,}</text>')
    parts.append(f'<text x="{_LEFT + across / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">training photos</text></svg>')
    return "".join(parts)
