"""How often the promotion rule is wrong over 250 nights, by simulation, and what its statistics cost.

The baseline of the simulation asks for 80 % confidence every night, on all test photos, and counts no looks. That of the cost resamples
photos in place of their counts. `python -m benchmarks gate` takes some minutes, and writes the table and the picture of docs/promotion.md.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate_nights import BETTER, CLASSES, NIGHTS, RULE, Place, TestPhotos, chances, ending, goes_live
from benchmarks.gate_picture import TradeOff, draw
from car_damage.model.quality.evaluation import Labels, macro_f1, macro_f1_of
from car_damage.model.quality.paired import cells_of, intervals
from car_damage.promotion.certainty import confidence
from car_damage.settings import Promotion

BASELINE = Promotion(min_confidence=0.8)
LIKENESS = {"alike": 0.9, "independent": 0.0}
RUNS = 200
FEWER_RUNS = 100
ENDING_RUNS = 40
FIRST_CONFIDENCES = (0.8, 0.9, 0.95, 0.98, 0.99, 0.998)
PAGE = Path("docs/promotion.md")
_BEGIN, _END = "<!-- figures: written by python -m benchmarks gate -->", "<!-- end of figures -->"
_ALL = tuple(range(1, NIGHTS + 1))
_MONTH = tuple(range(1, 31))
_LATE = tuple(range(NIGHTS, NIGHTS + 5))

PHOTOS = 150_000
_BASELINE_RESAMPLES = 20


def run() -> list[dict[str, Any]]:
    rows = _cost()
    lines = ["| candidates | test photos | measured | alike | independent | before |", "| --- | --- | --- | ---: | ---: | ---: |"]
    equal = {name: chances(Place(100, 5, like), 0.0, _ALL, RUNS) for name, like in LIKENESS.items()}
    fixed = {name: chances(Place(100, 0, like), 0.0, _ALL, RUNS) for name, like in LIKENESS.items()}
    worse = {name: chances(Place(60, 0, like), -BETTER, _ALL, RUNS) for name, like in LIKENESS.items()}
    better = {name: chances(Place(100, 5, like), BETTER, (*_MONTH, *_LATE), FEWER_RUNS) for name, like in LIKENESS.items()}
    ever = "one of 250 ever goes live"
    for kind, photos, found in (("as good", "100, 5 new a night", equal), ("as good", "100", fixed), ("5 points worse", "60", worse)):
        rows.append(_line(lines, (kind, photos, "go live"), {n: (_share(f, RULE), _share(f, BASELINE, False)) for n, f in found.items()}))
        rows.append(_line(lines, (kind, photos, ever), {n: (_ever(f, RULE), _ever(f, BASELINE, False)) for n, f in found.items()}))
    for when, nights, start in (
        ("night 1", 1, 0),
        ("one of the first 30 nights", 30, 0),
        ("night 250", 1, 30),
        ("one of nights 250 to 254", 5, 30),
    ):
        part = {name: found[:, start : start + nights] for name, found in better.items()}
        looks = (*_MONTH, *_LATE)[start : start + nights]
        values = {n: (_ever(f, RULE, looks=looks), _ever(f, BASELINE, False, looks)) for n, f in part.items()}
        rows.append(_line(lines, ("5 points better", "100, 5 new a night", f"live in {when}"), values))
    for photos, arriving in (("100", 0), ("100, 5 new a night", 5)):
        ends = {
            name: [ending(Place(100, arriving, like), rule, counted, ENDING_RUNS) for rule, counted in ((RULE, True), (BASELINE, False))]
            for name, like in LIKENESS.items()
        }
        errors = {name: (new.error, old.error) for name, (new, old) in ends.items()}
        rows.append(
            _line(lines, ("as good", photos, "champion's shown macro-F1 less the true one after 250 nights, points"), errors, "points")
        )
        power = {name: (new.power, old.power) for name, (new, old) in ends.items()}
        rows.append(_line(lines, ("5 points better", photos, "live in the night after these 250 nights"), power))
    _write(lines)
    shares = {
        "confidence rises with each look": _by_night(equal["alike"], RULE),
        "80 % every night": _by_night(equal["alike"], BASELINE, False),
    }
    draw(np.array(_ALL), shares, [_trade_off(name, equal[name], better[name]) for name in LIKENESS], RULE.min_confidence)
    return rows


def _line(lines: list[str], what: tuple[str, str, str], values: dict[str, tuple[float, float]], unit: str = "%") -> dict[str, Any]:
    """Add a line to the page's table. The row for the console is of candidates that are alike."""
    candidates, photos, measured = what
    value, baseline = values["alike"]
    shown = " | ".join(_number(new) for new, _ in values.values())
    lines.append(f"| {candidates} | {photos} | {measured} | {shown} | {_number(baseline)} |")
    return {
        "name": f"{candidates}, {photos} test photos: {measured}",
        "value": 100 * value,
        "unit": unit,
        "baseline": f"80 % confidence every night, {_number(baseline)}",
        "ratio": value / baseline if baseline else float("nan"),
    }


def _number(share: float) -> str:
    return f"{100 * share:.2g}" if abs(share) < 0.1 else f"{100 * share:.0f}"


def _share(found: Any, rule: Promotion, counted: bool = True) -> float:
    return float(goes_live(found, _ALL, rule, counted).mean())


def _ever(found: Any, rule: Promotion, counted: bool = True, looks: tuple[int, ...] = _ALL) -> float:
    return float(goes_live(found, looks, rule, counted).any(axis=1).mean())


def _by_night(found: Any, rule: Promotion, counted: bool = True) -> Any:
    return np.maximum.accumulate(goes_live(found, _ALL, rule, counted), axis=1).mean(axis=0)


def _trade_off(name: str, equal: Any, better: Any) -> TradeOff:
    rules = [RULE.model_copy(update={"min_confidence": confidence}) for confidence in FIRST_CONFIDENCES]
    late = better[:, len(_MONTH) : len(_MONTH) + 1]
    return TradeOff(
        name, FIRST_CONFIDENCES, tuple(_ever(equal, rule) for rule in rules), tuple(_ever(late, rule, looks=(NIGHTS,)) for rule in rules)
    )


def _write(lines: list[str]) -> None:
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}\n\n" + "\n".join(lines) + f"\n\n{_END}{rest.partition(_END)[2]}")


def _cost() -> list[dict[str, Any]]:
    """Seconds for the confidence and the intervals of one decision. The baseline is extrapolated from a few resamples."""
    here = TestPhotos(PHOTOS, 0.9, seed=0)
    truth, candidate, champion = here.truth, here.model(0.753).answers, here.model(0.75).answers
    started = time.perf_counter()
    cells = cells_of(truth, candidate, champion, len(CLASSES))
    confidence(cells, macro_f1_of, RULE.resamples, RULE.seed)
    intervals(cells, macro_f1_of, RULE.seed)
    value = time.perf_counter() - started
    started = time.perf_counter()
    _resample_photos(truth, candidate, champion)
    baseline = (time.perf_counter() - started) * 2_000 / _BASELINE_RESAMPLES
    return [
        {
            "name": f"confidence and intervals of a decision on {PHOTOS:,} test photos",
            "value": value,
            "unit": "s",
            "baseline": f"2,000 resamples of photos, {baseline:.0f} s",
            "ratio": round(value / baseline, 5),
        }
    ]


def _resample_photos(truth: Labels, candidate: Labels, champion: Labels) -> list[float]:
    random = np.random.default_rng(0)
    drawn = (random.integers(0, len(truth), len(truth)) for _ in range(_BASELINE_RESAMPLES))
    return [macro_f1(truth[rows], candidate[rows], 3) - macro_f1(truth[rows], champion[rows], 3) for rows in drawn]


if __name__ == "__main__":
    for row in run():
        print(row)
