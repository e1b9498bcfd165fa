"""The picture of docs/promotion.md: what the confidence asked for buys and costs over 250 nights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

PICTURE = Path("docs/gate.svg")
_COLOURS = {"alike": "#1f6fb4", "independent": "#c2571a"}


@dataclass(frozen=True)
class TradeOff:
    """One point for each confidence that the first look may ask for."""

    candidates: str
    """alike | independent"""
    confidences: tuple[float, ...]
    false: tuple[float, ...]
    """Share of the series of 250 nights in which an equally good candidate ever goes live."""
    power: tuple[float, ...]
    """Share of candidates five points better that go live in night 250."""


def draw(nights: npt.NDArray[np.int64], ever: dict[str, npt.NDArray[np.float64]], trade_offs: list[TradeOff], chosen: float) -> None:
    """Write the picture as SVG with text as text, the same bytes from the same figures.

    Args:
        nights: (n,) the nights of the left plot.
        ever: rule -> (n,) share of the series in which an equally good candidate has gone live by that night.
        trade_offs: the right plot's curves.
        chosen: the default confidence, which is marked.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gate", "font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (rule, shares), style in zip(ever.items(), ("-", "--"), strict=True):
            left.step(nights, 100 * shares, style, color=_COLOURS["alike"], where="post", label=rule)
        left.set(xlabel="nights", ylabel="% of series", ylim=(0, 100), title="An equally good candidate has gone live")
        left.legend(frameon=False, loc="center right")
        for curve in trade_offs:
            colour = _COLOURS[curve.candidates]
            x, y = 100 * np.array(curve.false), 100 * np.array(curve.power)
            right.plot(x, y, "o-", color=colour, markersize=3, label=f"candidates {curve.candidates}")
            for confidence, across, up in zip(curve.confidences, x, y, strict=True):
                mark = confidence == chosen
                right.annotate(
                    f"{confidence:.4g}", (across, up), (3, -10), textcoords="offset points", fontsize=7, weight="bold" if mark else None
                )
        right.axvline(5, color="grey", linewidth=0.7, linestyle=":")
        right.set(xlabel="% of series: an equally good one ever goes live", ylabel="% of better candidates live in night 250")
        right.set(ylim=(0, 105), title="First confidence: price and gain")
        right.legend(frameon=False, loc="lower right")
        FigureCanvasSVG(figure).print_svg(PICTURE, metadata={"Date": None, "Creator": None})
