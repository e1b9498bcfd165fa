"""Stage endpoint: take the challenger live, or put everything back.

The alias `challenger` is the intention to go live, so this stage needs no memory of its own: it looks at what is
intended, what is live and what is served, and does what is left. Killed anywhere, the next run ends it.

The alias `champion` moves only after the endpoint has answered a real photo with the new version, and the champion
is still the one that the challenger was judged against.
"""

import math
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from car_damage.errors import (
    CarDamageError,
    PhotoChanged,
    RegistryError,
    RequestRefused,
    Transient,
    Unavailable,
    UpdateFailed,
    UpdateInProgress,
)
from car_damage.photos import read_checked
from car_damage.pipeline import EndpointReport, EndpointRequest, Progress, Stage
from car_damage.ports import CHALLENGER, CHAMPION, Answer, EndpointState, ModelVersion, Platform
from car_damage.promotion import PROMOTE
from car_damage.stages.register import DECISION, JUDGED_AGAINST, NOBODY, TAG_LIMIT
from car_damage.stages.train import PREDICTIONS_FILE, read_predictions

OTHER_MACHINE = 1e-2
"""How far the endpoint's probabilities may be from those after training: another processor, another TensorFlow build."""
FORGOTTEN_AFTER = 5
"""Looks at an endpoint that neither updates nor serves the version asked for, until the update counts as forgotten."""
TOLD_EVERY = 10.0
"""Seconds between two words on how long an update has taken: some take an hour."""
ENVELOPE = 4096
"""Bytes of a request beside the photo itself."""
LOG_TAIL = 2000
"""Characters of the build log that an error carries."""


def work(request: EndpointRequest, platform: Platform, progress: Progress) -> EndpointReport:
    """Bring the endpoint to where the aliases want it."""
    registry = platform.registry
    champion, challenger = registry.champion(), registry.challenger()
    if challenger is not None and (refusal := _not_wanted(challenger, champion)):
        registry.move(CHALLENGER, None)
        return _serve_champion(platform, champion, progress, refusal)
    if challenger is None:
        return _serve_champion(platform, champion, progress, "")
    return _take_live(request, platform, challenger, champion, progress)


def _not_wanted(challenger: ModelVersion, champion: ModelVersion | None) -> str:
    """Why this challenger must not go live; empty when it may."""
    if champion is not None and champion.version == challenger.version:
        return f"version {challenger.version} is live"  # a kill came between the two aliases
    if challenger.tags.get(DECISION) != PROMOTE:
        return f"version {challenger.version} was meant to go live, but its decision is {challenger.tags.get(DECISION, 'not made')}"
    judged_against = challenger.tags.get(JUDGED_AGAINST)
    now = str(champion.version) if champion else NOBODY
    if judged_against != now:
        return f"version {challenger.version} was judged against champion {judged_against}, which is {now} by now"
    return ""


def _serve_champion(platform: Platform, champion: ModelVersion | None, progress: Progress, dropped: str) -> EndpointReport:
    """With nothing to take live, whatever the endpoint serves is put back to the champion."""
    state = platform.serving.state()
    if champion is None:
        return _report("nothing to serve", None, state, message=dropped or "no version is live yet")
    if _serves(state, champion.version):
        return _report(
            "kept" if dropped else "unchanged", champion, state, message=dropped or f"version {champion.version} is served already"
        )
    smoke = _smoke(platform, champion)
    served = _bring(platform, champion.version, progress)
    answer = _ask(platform, champion, smoke)
    message = f"{dropped + '; ' if dropped else ''}the endpoint was put back to version {champion.version}"
    return _report("kept" if dropped else "repaired", champion, served, message=message, answer=answer)


def _take_live(
    request: EndpointRequest, platform: Platform, challenger: ModelVersion, champion: ModelVersion | None, progress: Progress
) -> EndpointReport:
    registry = platform.registry
    smoke = _smoke(platform, challenger)
    try:
        state = _bring(platform, challenger.version, progress)
        answer = _ask(platform, challenger, smoke)
    except UpdateFailed as error:
        _refuse(platform, challenger, champion, error, progress)
    now = registry.champion()
    if (now and now.version) != (champion and champion.version):
        registry.move(CHALLENGER, None)
        return _serve_champion(platform, now, progress, f"version {now.version if now else NOBODY} became champion meanwhile")
    registry.tag(challenger.version, {"promoted_by_flow_run": request.flow_run})
    registry.move(CHAMPION, challenger.version)
    registry.move(CHALLENGER, None)
    message = f"version {challenger.version} answers, in place of {f'version {champion.version}' if champion else 'nothing'}"
    return _report("promoted", challenger, state, message=message, previous=champion, answer=answer)


def _refuse(
    platform: Platform, challenger: ModelVersion, champion: ModelVersion | None, error: UpdateFailed, progress: Progress
) -> NoReturn:
    """The version cannot be served: keep the log before it is gone, serve the champion again, drop the intention, say so."""
    log = _log_tail(platform, challenger.version)
    if champion is None:
        after = "there is no champion to put in its place"
    else:
        try:
            if not _serves(platform.serving.state(), champion.version):
                _bring(platform, champion.version, progress)
            after = f"the endpoint serves champion {champion.version}"
        except CarDamageError as second:
            after = f"putting back champion {champion.version} failed too ({second}); the next run tries again"
    platform.registry.tag(challenger.version, {"refused": str(error)[:TAG_LIMIT]})
    platform.registry.move(CHALLENGER, None)
    raise UpdateFailed(f"version {challenger.version} did not go live: {error}; {after}{log}") from error


def _log_tail(platform: Platform, version: int) -> str:
    try:
        log = platform.serving.build_log(version).strip()
    except CarDamageError as error:
        return f"; its build log could not be read: {error}"
    return f"; the end of its build log:\n{log[-LOG_TAIL:]}" if log else ""


def _serves(state: EndpointState, version: int) -> bool:
    return state.exists and state.ready and not state.updating and state.pending is None and state.served == version


def _bring(platform: Platform, version: int, progress: Progress) -> EndpointState:
    """Have the endpoint serve exactly this version, and wait for it.

    Raises:
        UpdateInProgress: somebody else's update does not end.
        UpdateFailed: the version did not become ready.
        Unavailable: the endpoint forgot about the update, as after a restart.
    """
    settings, clock, serving = platform.settings.serving, platform.clock, platform.serving
    deadline = clock.monotonic() + settings.update_timeout
    state = serving.state()
    while state.updating and state.pending != version:
        if clock.monotonic() > deadline:
            raise UpdateInProgress(f"{settings.endpoint} has been busy with version {state.pending} for {settings.update_timeout:.0f} s")
        clock.sleep(settings.poll)
        state = serving.state()
    if _serves(state, version):
        return state
    if not state.updating:
        serving.put(version)
        state = serving.state()
    started, told, idle = clock.monotonic(), -math.inf, 0
    deadline = started + settings.update_timeout  # waiting for somebody else does not count against this version
    while not _serves(state, version):
        if state.failed and not state.updating:
            raise UpdateFailed(f"{settings.endpoint} could not serve version {version}: {state.message or 'it gave no reason'}")
        if clock.monotonic() > deadline:
            raise UpdateFailed(f"{settings.endpoint} was not ready with version {version} after {settings.update_timeout:.0f} s")
        idle = 0 if state.updating or not state.ready else idle + 1
        if idle > FORGOTTEN_AFTER:
            raise Unavailable(f"{settings.endpoint} neither updates nor serves version {version}; was it restarted meanwhile?")
        waited = clock.monotonic() - started
        if waited - told >= TOLD_EVERY:
            progress("endpoint", int(waited), math.ceil(settings.update_timeout), f"waiting for version {version}, {waited:.0f} s so far")
            told = waited
        clock.sleep(settings.poll)
        state = serving.state()
    return state


@dataclass(frozen=True)
class _Smoke:
    """A real photo, and what the version answered to it after its training."""

    path: str
    photo: bytes
    expected: dict[str, float]
    """Class -> probability."""


def _smoke(platform: Platform, version: ModelVersion) -> _Smoke:
    """The first of the version's own test photos that is still what it was."""
    predicted = read_predictions(platform.tracking.fetch(version.run_id, PREDICTIONS_FILE))
    names = [name for name in predicted.column_names if name.startswith("probability_")]
    for row in predicted.select(["path", "sha256", *names]).to_pylist():
        try:
            photo = read_checked(platform.files, row["path"], row["sha256"])
        except (PhotoChanged, Transient):
            continue
        if len(photo) * 4 // 3 > platform.settings.serving.max_request_bytes - ENVELOPE:
            continue
        return _Smoke(row["path"], photo, {name.removeprefix("probability_"): row[name] for name in names})
    raise RegistryError(
        f"none of the {predicted.num_rows} test photos of version {version.version} is in the landing folder any more, "
        "so there is nothing to test the endpoint with; run retrain on the photos that are there"
    )


def _ask(platform: Platform, version: ModelVersion, smoke: _Smoke) -> Answer:
    """The smoke request: the right version must answer, with what it answered after its training.

    Raises:
        UpdateFailed: it refuses the photo, does not answer in time, answers otherwise, or another version answers.
    """
    answer = _answered(platform, version, smoke)
    state = platform.serving.state()
    if state.served != version.version or answer.served_by != state.entity:
        raise UpdateFailed(f"the answer to {smoke.path} came from {answer.served_by}, and the endpoint serves version {state.served}")
    given = [answer.probabilities.get(name, math.nan) for name in smoke.expected]
    if not np.allclose(given, list(smoke.expected.values()), atol=OTHER_MACHINE):
        raise UpdateFailed(
            f"version {version.version} answered {dict(answer.probabilities)} to {smoke.path}, and {smoke.expected} after its training"
        )
    return answer


def _answered(platform: Platform, version: ModelVersion, smoke: _Smoke) -> Answer:
    """Ask until there is an answer: the version is swapped in by now, so giving up must put the champion back."""
    settings, clock = platform.settings.serving, platform.clock
    deadline = clock.monotonic() + settings.request_timeout
    while True:
        try:
            return platform.serving.ask([smoke.photo])[0]
        except RequestRefused as error:
            raise UpdateFailed(f"version {version.version} refused {smoke.path}: {error}") from error
        except Unavailable as error:
            if clock.monotonic() > deadline:
                raise UpdateFailed(f"version {version.version} gave no answer in {settings.request_timeout:.0f} s: {error}") from error
            clock.sleep(settings.poll)


def _report(
    outcome: str,
    champion: ModelVersion | None,
    state: EndpointState,
    *,
    message: str,
    previous: ModelVersion | None = None,
    answer: Answer | None = None,
) -> EndpointReport:
    return EndpointReport(
        outcome=outcome,
        champion=champion.version if champion else None,
        previous=previous.version if previous else None,
        state=("READY" if state.ready else "NOT_READY") if state.exists else "ABSENT",
        latency=answer.latency if answer else None,
        message=message,
    )


ENDPOINT = Stage("endpoint", EndpointRequest, EndpointReport, work, control_plane=True)
