"""The course of a live version over the latest windows of its requests, as a PNG file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from car_damage.model.quality.plots import BLUE, GREY, LIGHT, ORANGE, figure_of, png_of, without_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """One window."""

    ends: datetime
    estimated: float | None
    """Macro-F1 without labels."""
    measured: tuple[float, float, float] | None
    """Macro-F1 on labelled photos, and both ends of its interval."""
    review: float
    """Share of answers that asked for a person."""
    over: Mapping[str, float]
    """Signal that speaks -> how much, as a multiple of what matters."""
    alarm: bool


def course(points: Sequence[Point], title: str) -> bytes:
    """Above, macro-F1 and the share for a person; below, what was unusual, and how much. A line marks each alarm. At least one point."""
    figure = figure_of(9, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw_quality(upper, points)
    _draw_signals(lower, points)
    for axes in (upper, lower):
        for at in [point.ends for point in points if point.alarm]:
            axes.axvline(at, color=ORANGE, linestyle=":", linewidth=1)
        axes.grid(alpha=0.25)
        without_box(axes)
    figure.autofmt_xdate()
    figure.suptitle(f"{title}: {len(points)} windows, {sum(point.alarm for point in points)} with an alarm", fontsize=11)
    return png_of(figure)


def _draw_quality(axes: "Axes", points: Sequence[Point]) -> None:
    estimated = [(point.ends, point.estimated) for point in points if point.estimated is not None]
    if estimated:
        axes.plot(*zip(*estimated, strict=True), color=BLUE, marker=".", label="macro-F1, estimated")
    if known := [(point.ends, *point.measured) for point in points if point.measured is not None]:
        ends, values, low, high = zip(*known, strict=True)
        # A bootstrap interval need not contain its own score.
        spread = [[max(0.0, value - bound) for value, bound in zip(values, low, strict=True)]]
        spread.append([max(0.0, bound - value) for value, bound in zip(values, high, strict=True)])
        axes.errorbar(ends, values, yerr=spread, color=ORANGE, fmt="o", markersize=4, label="macro-F1, labelled photos")
    axes.plot(*zip(*((point.ends, point.review) for point in points), strict=True), color=GREY, linestyle="--", label="share for a person")
    axes.set_ylim(0.0, 1.02)
    axes.legend(frameon=False, fontsize=8, ncols=3)


def _draw_signals(axes: "Axes", points: Sequence[Point]) -> None:
    names = sorted({name for point in points for name in point.over})
    for name, (colour, line) in zip(names, _styles(), strict=False):
        there = [(point.ends, point.over[name]) for point in points if name in point.over]
        axes.plot(*zip(*there, strict=True), color=colour, linestyle=line, marker=".", label=name)
    axes.set_ylabel("unusual: multiple of\nwhat matters", fontsize=9)
    axes.set_ylim(bottom=0.0)
    if names:
        axes.legend(frameon=False, fontsize=8, ncols=3)


def _styles() -> list[tuple[str, str]]:
    return [(colour, line) for line in ("-", "--", ":", "-.") for colour in (BLUE, ORANGE, LIGHT, GREY)]
