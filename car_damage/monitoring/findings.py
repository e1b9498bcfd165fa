"""What is unusual in a window: every signal with how much it is, how much is allowed, and whether it speaks.

A signal that is compared with the baseline speaks if so large a difference is improbable, corrected for the number of signals, and large
enough to matter. Of few photos only large differences are improbable; of many nearly all are, and then the size decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers import inference_log
from car_damage.monitoring import quality
from car_damage.monitoring.drift import FEWEST, Drift, holm, unlike_least
from car_damage.monitoring.quality import Estimated, Measured
from car_damage.monitoring.samples import Numbers, Sample, together
from car_damage.settings import Monitoring

OK, THROTTLED, BROKEN = 200, 429, 500
"""HTTP status: answered; too many requests; from here on the endpoint's fault."""

REFUSED, ERRORS, TURNED_AWAY, SLOW = "refused photos", "errors", "requests turned away", "slow answers"
OF_THE_ENDPOINT = frozenset({REFUSED, ERRORS, TURNED_AWAY, SLOW})
"""Signals that another model would not change."""
WRONG = "wrong answers to labelled photos"


@dataclass(frozen=True)
class Finding:
    """One signal of a window."""

    name: str
    value: float
    """How much: population stability index, maximum mean discrepancy, difference of macro-F1 or of shares, share, or milliseconds."""
    limit: float
    """More than this matters."""
    p: float | None = None
    """Probability of so large a difference between samples of the same kind, corrected for the number of tests. None: not compared."""
    speaks: bool = False


@dataclass(frozen=True)
class Traffic:
    """How the endpoint answered the rows of a window."""

    rows: int
    """Photos, and requests without any."""
    answered: int
    """With a class."""
    refused: float
    """Share of the photos that the model took for none, of those that it looked at."""
    errors: float
    """Share of the requests with a status from 500."""
    throttled: float
    """Share of the requests with status 429."""
    review: float
    """Share of the answers that asked for a person."""
    milliseconds: tuple[float, float, float] | None
    """Median, 95 and 99 percent quantiles of the time of answered requests; None without any."""


@dataclass(frozen=True)
class Verdict:
    """Everything that a window says."""

    findings: tuple[Finding, ...]
    estimated: Estimated | None
    measured: Measured | None

    @property
    def speaks(self) -> frozenset[str]:
        """The names of the signals that speak."""
        return frozenset(finding.name for finding in self.findings if finding.speaks)


def traffic(rows: pa.Table) -> Traffic:
    """What the request log's rows of a window say of the endpoint. There is a row."""
    answered = np.asarray(rows["probabilities"].is_valid())
    # A request that failed has the code of its error there.
    refused = np.asarray(rows["refused"].is_valid()) & np.isin(_status(rows), (OK, inference_log.REFUSED))
    requests = inference_log.requests(rows)
    status = _status(requests)
    times = np.asarray(requests["milliseconds"].filter(pa.array(status == OK)).drop_null(), np.float64)
    middle, late, last = np.quantile(times, [0.5, 0.95, 0.99]).tolist() if len(times) else (0.0, 0.0, 0.0)
    return Traffic(
        rows=rows.num_rows,
        answered=int(answered.sum()),
        refused=float(refused.sum() / max(1, (refused | answered).sum())),
        errors=float((status >= BROKEN).mean()),
        throttled=float((status == THROTTLED).mean()),
        review=float(np.asarray(pc.fill_null(rows["review"], False), bool)[answered].sum() / max(1, answered.sum())),
        milliseconds=(middle, late, last) if len(times) else None,
    )


def verdict(baseline: Sample | None, latest: Sequence[Sample], of: Traffic, drifts: Sequence[Drift], settings: Monitoring) -> Verdict:
    """Compare a window with its version's baseline; without one, say what the window alone says.

    Args:
        baseline: None: the version has none.
        latest: the latest windows, because labels arrive late, oldest first; the last one is the window.
        of: how the endpoint answered.
        drifts: see `car_damage.monitoring.drift`.
        settings: limits.
    """
    window, found = latest[-1], [_of_drift(drift, settings) for drift in drifts]
    if baseline is not None and min(len(baseline.probabilities), len(window.probabilities)) >= FEWEST:
        found += _of_answers(baseline, window, settings)
    if baseline is not None and baseline.known.sum() >= FEWEST:
        found += _of_labels(baseline, latest, settings)
    adjusted = holm({finding.name: finding.p for finding in found if finding.p is not None})
    judged = [replace(finding, p=adjusted[finding.name], speaks=_speaks(finding, adjusted[finding.name], settings)) for finding in found]
    estimate, truth = quality.estimated(window.probabilities), quality.measured(window)
    return Verdict((*judged, *_of_traffic(of, settings)), estimate, truth)


def _speaks(finding: Finding, p: float, settings: Monitoring) -> bool:
    return p <= settings.level and finding.value > finding.limit


def _of_drift(drift: Drift, settings: Monitoring) -> Finding:
    if drift.psi is None:  # of so few photos that whatever is improbable is large, too
        return Finding(drift.quantity, drift.distance, 0.0, drift.p)
    return Finding(drift.quantity, drift.psi, settings.least_psi, drift.p)


def _of_answers(baseline: Sample, window: Sample, settings: Monitoring) -> Iterator[Finding]:
    before, now = _estimate(baseline.probabilities), _estimate(window.probabilities)
    yield Finding("estimated macro-F1", before - now, settings.fall, quality.less_sure(baseline.probabilities, window.probabilities))
    more = float(window.review.mean() - baseline.review.mean())
    yield Finding("answers for a person", more, settings.review_rise, quality.share_more(baseline.review, window.review))


def _of_labels(baseline: Sample, latest: Sequence[Sample], settings: Monitoring) -> list[Finding]:
    """The same two looks as those of `car_damage.monitoring.drift.drifts`, where they have FEWEST labels."""
    promised = float(quality.shortfalls(baseline).mean())

    def wrong(of: Sample) -> float:
        return float((quality.shortfalls(of) - promised).sum())

    *earlier, window = latest
    usual = unlike_least(earlier, wrong, settings.speaking - 1)
    looks = [of for of in (window, together([*usual, window])) if of.known.sum() >= FEWEST]
    found = [Finding(WRONG, wrong(of) / float(of.known.sum()), settings.fall, quality.more_wrong(baseline, of)) for of in looks]
    chosen = sorted(found, key=lambda one: (one.value <= one.limit, one.p))[:1]
    return [replace(one, p=min(1.0, 2 * (one.p or 0.0))) for one in chosen]


def _estimate(probabilities: Numbers) -> float:
    found = quality.estimated(probabilities)
    return 0.0 if found is None else found.macro_f1


def _status(rows: pa.Table) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(rows["status"], OK), np.int64)


def _of_traffic(of: Traffic, settings: Monitoring) -> Iterator[Finding]:
    shares = {
        REFUSED: (of.refused, settings.refused),
        ERRORS: (of.errors, settings.errors),
        TURNED_AWAY: (of.throttled, settings.throttled),
    }
    for name, (value, limit) in shares.items():
        yield Finding(name, value, limit, speaks=value > limit)
    if settings.slow is not None and of.milliseconds is not None:
        yield Finding(SLOW, of.milliseconds[1], settings.slow, speaks=of.milliseconds[1] > settings.slow)
