"""Makes the endpoint serve a version, waits until it does, and checks its answer to a real photo.

The stage endpoint uses it to take a version live, and to put the champion back. Every wait has a limit. It waits for a service that
is away for a while, as during a restart.
"""

import hashlib
import logging
import math
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from car_damage.errors import RegistryError, RequestRefused, Unavailable, UpdateFailed, UpdateInProgress
from car_damage.model.run_files import PREDICTIONS_FILE, SMOKE_PHOTO_FILE, read_predictions
from car_damage.patience import Patience
from car_damage.photo.columns import probabilities
from car_damage.ports import EndpointState, ModelVersion, Platform, Prediction
from car_damage.promotion.tags import COVERAGE
from car_damage.stage import Progress

OTHER_MACHINE = 1e-2
"""Largest difference of a probability from the one after training: the endpoint may have another processor or build of its runtime."""
LOST_AFTER = 5
"""Looks at an endpoint that neither updates nor serves the requested version, until the update counts as lost."""
REQUESTS = 2
"""Times that a version is requested, when the endpoint loses the update."""
OUTAGE = 120.0
"""Seconds that the service may be away during an update, for a restart or a deployment of its own."""
SHOW_EVERY = 10.0
"""Seconds between two lines of progress: some updates take an hour."""

_log = logging.getLogger(__name__)


def bring(platform: Platform, version: int, progress: Progress) -> EndpointState:
    """Make the endpoint serve exactly this version, and wait until it does.

    Raises:
        UpdateFailed: the version did not become ready, or another update does not end.
        Unavailable: the service does not come back.
    """
    for _ in range(REQUESTS):
        state = _await(platform, version, _request(platform, version), progress)
        if serves(state, version):
            return state
    raise UpdateFailed(
        f"{platform.settings.serving.endpoint} neither updates nor serves version {version}, which was requested {REQUESTS} times"
    )


def with_its_coverage(platform: Platform, version: int, progress: Progress) -> EndpointState:
    """Make the endpoint, which serves this version, answer with the coverage that its tag names. An endpoint that serves another
    version, or is busy, is left alone.

    Raises:
        UpdateFailed: the update failed; the endpoint goes on as before.
        Unavailable: the service does not come back.
    """
    state, coverage = look(platform), coverage_of(platform, version)
    if not serves(state, version) or state.coverage == coverage:
        return state
    try:
        platform.serving.put(version, coverage)
    except UpdateInProgress:
        return look(platform)
    except RequestRefused as error:
        raise UpdateFailed(f"{platform.settings.serving.endpoint} refused the coverage {coverage}: {error}") from error
    return _await(platform, version, look(platform), progress)


def coverage_of(platform: Platform, version: int) -> float | None:
    """The coverage to which the endpoint raises that of a version; None: it does not."""
    if not platform.settings.monitoring.more_reviews:
        return None
    try:
        said = platform.registry.get(version).tags.get(COVERAGE)
    except RegistryError:
        return None
    return float(said) if said else None


def serves(state: EndpointState, version: int) -> bool:
    """Whether exactly this version answers, and no update is pending."""
    return state.exists and state.ready and not state.updating and state.pending is None and state.served == version


def look(platform: Platform) -> EndpointState:
    """The endpoint's state. Raises Unavailable when the service is away for longer than a restart takes."""
    return Patience(platform.clock, [platform.settings.serving.poll], OUTAGE, _LogOnce(OUTAGE))(platform.serving.state)


class _LogOnce:
    """Logs an outage when it begins, and not at every try.

    Args:
        limit: seconds that the outage may last.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._logged = limit, False

    def __call__(self, error: Unavailable, seconds: float) -> None:
        if not self._logged:
            _log.warning("waiting up to %.0f s for the endpoint's service to answer: %s", self._limit, error)
            self._logged = True


def _request(platform: Platform, version: int) -> EndpointState:
    """Request the version as soon as no other update is pending. Returns the state just after that."""
    settings, clock = platform.settings.serving, platform.clock
    deadline, waits_for = clock.monotonic() + settings.update_timeout, None
    while True:
        state = look(platform)
        if serves(state, version) or (state.updating and state.pending == version):
            return state
        if not state.updating:
            try:
                platform.serving.put(version, coverage_of(platform, version))
                _log.info("%s: version %d was requested", settings.endpoint, version)
                return look(platform)
            except UpdateInProgress:
                pass  # another update began first
            except RequestRefused as error:
                raise UpdateFailed(f"{settings.endpoint} refused to serve version {version}: {error}") from error
        if waits_for != state.pending:
            _log.info("%s is busy with version %s; version %d waits for it", settings.endpoint, state.pending, version)
            waits_for = state.pending
        if clock.monotonic() > deadline:
            raise UpdateFailed(f"{settings.endpoint} has been busy with version {state.pending} for {settings.update_timeout:.0f} s")
        clock.sleep(settings.poll)


def _await(platform: Platform, version: int, state: EndpointState, progress: Progress) -> EndpointState:
    """Wait until the version is served, or its update is lost."""
    settings, clock = platform.settings.serving, platform.clock
    started, shown, idle = clock.monotonic(), -math.inf, 0
    while not serves(state, version) and idle < LOST_AFTER:
        if state.failed and not state.updating:
            raise UpdateFailed(f"{settings.endpoint} could not serve version {version}: {state.message or 'it gave no reason'}")
        waited = clock.monotonic() - started
        if waited > settings.update_timeout:
            raise UpdateFailed(f"{settings.endpoint} was not ready with version {version} after {settings.update_timeout:.0f} s")
        idle = 0 if state.updating or not state.ready else idle + 1
        if waited - shown >= SHOW_EVERY:
            progress("endpoint", int(waited), math.ceil(settings.update_timeout), f"waiting for version {version}, {waited:.0f} s so far")
            shown = waited
        clock.sleep(settings.poll)
        state = look(platform)
    if shown > -math.inf and serves(state, version):
        limit = math.ceil(settings.update_timeout)
        progress("endpoint", limit, limit, f"version {version} is served, after {clock.monotonic() - started:.0f} s")
    return state


@dataclass(frozen=True)
class Smoke:
    """A real photo, and the answer of a version to it after its training."""

    sha256: str
    photo: bytes
    expected: dict[str, float]
    """Class -> probability."""


def smoke_photo(platform: Platform, version: ModelVersion) -> Smoke:
    """The test photo that the version's run keeps: a rollback must not depend on the landing folder.

    Raises:
        RegistryError: the run has lost it, or what was predicted for it.
    """
    photo = platform.tracking.fetch(version.run_id, SMOKE_PHOTO_FILE)
    predicted = read_predictions(platform.tracking.fetch(version.run_id, PREDICTIONS_FILE))
    sha256 = hashlib.sha256(photo).hexdigest()
    rows = predicted.filter(pc.equal(predicted["sha256"], sha256)).to_pylist()
    if not rows:
        raise RegistryError(f"run {version.run_id} of version {version.version} has no prediction for its own smoke photo {sha256}")
    return Smoke(sha256, photo, probabilities(rows[0]))


def ask(platform: Platform, version: ModelVersion, smoke: Smoke) -> Prediction:
    """Send the smoke photo. The right version must answer, and as it answered after its training.

    Raises:
        UpdateFailed: it refuses the photo, does not answer in time, or answers differently; or another version answers.
    """
    answer = _answer(platform, version, smoke)
    state = look(platform)
    if state.served != version.version or answer.served_by != state.entity:
        raise UpdateFailed(f"the answer to the smoke photo came from {answer.served_by}, and the endpoint serves version {state.served}")
    given = [answer.probabilities.get(name, math.nan) for name in smoke.expected]
    if not np.allclose(given, list(smoke.expected.values()), atol=OTHER_MACHINE):
        raise UpdateFailed(
            f"version {version.version} answered {dict(answer.probabilities)} to the smoke photo, and {smoke.expected} after its training"
        )
    return answer


def _answer(platform: Platform, version: ModelVersion, smoke: Smoke) -> Prediction:
    """Repeat the request until there is an answer. The version is served already, so an error must lead to the champion's return."""
    settings = platform.settings.serving
    patiently = Patience(platform.clock, [settings.poll], settings.request_timeout, _LogOnce(settings.request_timeout))
    try:
        return patiently(platform.serving.query, [smoke.photo])[0]
    except RequestRefused as error:
        raise UpdateFailed(f"version {version.version} refused the smoke photo: {error}") from error
    except Unavailable as error:
        raise UpdateFailed(f"version {version.version} gave no answer in {settings.request_timeout:.0f} s: {error}") from error
