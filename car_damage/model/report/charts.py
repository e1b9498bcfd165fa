"""Charts of the report as inline SVG. Their colours are those of the page, also in the dark."""

from collections.abc import Iterator, Sequence

from car_damage.model.quality.bootstrap import Interval
from car_damage.model.quality.conformal import Workload
from car_damage.model.report.contents import CurvePoint

_WIDTH, _HEIGHT = 560, 240
"""Pixels of a chart of curves."""
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
    across = _WIDTH - _LEFT - _RIGHT
    most = max(point.photos for point in points)

    def x(point: CurvePoint) -> float:
        return _LEFT + across * point.photos / most

    parts = [*_frame("Macro-F1 by training photos")]
    path = " ".join(f"{x(point):.1f},{_y(point.macro_f1):.1f}" for point in points)
    parts.append(f'<polyline class="curve" points="{path}" stroke-width="2"/>')
    for point in points:
        at = x(point)
        if point.interval:
            low, high = map(_y, point.interval)
            parts.append(f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke-width="2"/>')
        parts.append(f'<circle class="dot" cx="{at:.1f}" cy="{_y(point.macro_f1):.1f}" r="4.5"/>')
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{point.photos:,}</text>')
    parts.append(f'<text x="{_LEFT + across / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">training photos</text></svg>')
    return "".join(parts)


def coverage_curve(workloads: Sequence[Workload], chosen: Workload) -> str:
    """The share for a person, the accuracy of the other answers and the cost of a photo, by coverage. The chosen one is marked."""
    every = sorted({*workloads, chosen}, key=lambda one: one.coverage)
    first, last = every[0].coverage, every[-1].coverage
    dearest = max(1e-9, *(one.cost for one in every))

    def x(coverage: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (coverage - first) / (last - first)

    def curve(place: int, name: str, values: Sequence[float | None], dashes: str) -> str:
        points = (f"{x(one.coverage):.1f},{_y(value):.1f}" for one, value in zip(every, values, strict=True) if value is not None)
        left, line = _LEFT + 170 * place, f'class="curve" stroke-width="2" stroke-dasharray="{dashes}"'
        key = f'<line {line} x1="{left}" x2="{left + 26}" y1="{_HEIGHT - 9}" y2="{_HEIGHT - 9}"/>'
        return f'<polyline {line} points="{" ".join(points)}"/>{key}<text x="{left + 32}" y="{_HEIGHT - 5}">{name}</text>'

    at, foot = x(chosen.coverage), _HEIGHT - _BOTTOM
    return "".join(
        (
            *_frame("Share for a person, accuracy and cost by coverage"),
            f'<line class="floor" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{foot}" stroke-width="2"/>',
            curve(0, "to a person", [one.review for one in every], "none"),
            curve(1, "accuracy of the others", [one.accuracy for one in every], "7 4"),
            curve(2, f"cost, 1.0 is {dearest:.3g}", [one.cost / dearest for one in every], "2 4"),
            *(f'<text x="{x(one):.1f}" y="{foot + 18}" text-anchor="middle">{one:g}</text>' for one in (first, last)),
            "</svg>",
        )
    )


def _y(share: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)


def _frame(label: str) -> Iterator[str]:
    """The beginning of a chart whose values go from 0 to 1, with lines at each fifth."""
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{label}">'
    for line in range(6):
        at = _y(line / 5)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{line / 5:.1f}</text>'
