"""Stage endpoint: takes the intended version live, or puts everything back.

It compares what is intended, what is live and what is served, and does what is left. After a kill anywhere, the next run completes
it. The alias `champion` moves only after the endpoint has answered a real photo with the intended version, and only while the
champion is the one that the version was intended to replace.
"""

import logging
from dataclasses import replace
from typing import NoReturn

from car_damage.errors import CarDamageError, PromotionRefused, RegistryError, Terminal, UpdateFailed
from car_damage.moves import ABANDONED, FAILED, Move, version_text
from car_damage.pipeline import AWAIT, PROMOTE, EndpointReport, EndpointRequest
from car_damage.ports import CHAMPION, TAG_LIMIT, EndpointState, ModelVersion, Platform, Prediction
from car_damage.promotion.tags import COVERAGE, DECISION
from car_damage.stage import Progress, Stage
from car_damage.stages.versions import intention
from car_damage.stages.versions.intention import Intended
from car_damage.stages.versions.swap import ask, bring, look, serves, smoke_photo, with_its_coverage

LOG_TAIL = 2000
"""Characters of the build log that an error carries."""

_log = logging.getLogger(__name__)


def work(request: EndpointRequest, platform: Platform, progress: Progress) -> EndpointReport:
    """Bring the endpoint to the intended version, or to the champion. A version in the request is the intended one.

    Raises:
        UpdateFailed: the endpoint could not serve the version. It serves the champion.
        PromotionRefused: the request's version was chosen to replace another champion. The endpoint serves the present one.
    """
    champion = platform.registry.champion()
    found = intention.find(request, platform, champion)
    if found.intended is not None:
        report = _take_live(platform, found.intended, progress)
    else:
        report = _serve_champion(platform, champion, progress, found.refused)
        report = _promoted(report, found.ended) if found.ended is not None else report
    if request.version is not None and report.champion != request.version:
        raise PromotionRefused(f"version {request.version} did not go live: {report.message}")
    return report


def cancel(flow_run: str, platform: Platform, progress: Progress) -> str:
    """Withdraw what a cancelled flow run intended, and put the champion back if the endpoint serves anything else. Returns what is live.

    The caller holds the concurrency limit of the endpoint, so no other run is in the middle of an update.
    """
    state = look(platform)
    intention.cancel(flow_run, platform, {state.served, state.pending})
    champion = platform.registry.champion()
    if champion is None:
        return "no version is live" + (f"; version {state.served} still answers" if state.served is not None else "")
    put_back = "" if serves(state, champion.version) else put_right(platform, progress) + "; "
    return f"{put_back}{version_text(champion.version)} is live"


def is_right(platform: Platform) -> bool:
    """Whether the endpoint serves the champion, or there is none."""
    champion = platform.registry.champion()
    return champion is None or serves(look(platform), champion.version)


def raise_coverage(platform: Platform, progress: Progress) -> str:
    """Let more of the champion's answers ask for a person, where its tag says so, or no more than its model does. Returns what is done.

    The caller holds the concurrency limit of the endpoint.

    Raises:
        UpdateFailed: the endpoint goes on with the coverage that it had.
    """
    champion = platform.registry.champion()
    if champion is None:
        return "no version is live"
    state = with_its_coverage(platform, champion.version, progress)
    return f"version {state.served} answers with " + ("its own coverage" if state.coverage is None else f"the coverage {state.coverage:g}")


def put_right(platform: Platform, progress: Progress) -> str:
    """Serve the champion, whatever a killed run has left there, and return what was done. An intention stays: `work` goes on with it."""
    return _serve_champion(platform, platform.registry.champion(), progress, "").message


def _serve_champion(platform: Platform, champion: ModelVersion | None, progress: Progress, dropped: str) -> EndpointReport:
    """Make the endpoint serve the champion, whatever it serves at present."""
    state = look(platform)
    if champion is None:
        return _report("nothing to serve", None, state, message=dropped or "no version is live yet")
    if serves(state, champion.version):
        return _report(
            "kept" if dropped else "unchanged", champion, state, message=dropped or f"version {champion.version} is served already"
        )
    _log.warning("the endpoint serves %s instead of champion %d: it is put back", state.served, champion.version)
    served = bring(platform, champion.version, progress)
    message = f"{dropped + '; ' if dropped else ''}the endpoint was put back to version {champion.version}"
    answer = None
    try:
        answer = ask(platform, champion, smoke_photo(platform, champion))
    except RegistryError as error:  # the champion must be served all the same
        message += f", which could not be tested: {error}"
    return _report("kept" if dropped else "repaired", champion, served, message=message, answer=answer)


def _take_live(platform: Platform, intended: Intended, progress: Progress) -> EndpointReport:
    registry, version, move = platform.registry, intended.version, intended.move
    replaces = move.intention.replaces
    if version.tags.get(DECISION) == AWAIT:
        # A person has approved it: after a rollback it waits for no approval.
        registry.tag(version.version, {"approved_by": move.intention.by[:TAG_LIMIT], DECISION: PROMOTE})
    try:
        smoke = smoke_photo(platform, version)
        state = bring(platform, version.version, progress)
        answer = ask(platform, version, smoke)
    except (UpdateFailed, RegistryError) as error:
        _refuse(platform, intended, error, progress)
    champion = registry.champion()
    if (champion and champion.version) != replaces:
        changed = f"{version_text(champion.version if champion else None)} became champion meanwhile"
        intention.withdraw(platform, intended, ABANDONED, changed)
        return _serve_champion(platform, champion, progress, changed)
    registry.tag(version.version, {"promoted_by_flow_run": move.intention.flow_run})
    if champion is not None and champion.tags.get(COVERAGE):
        registry.tag(champion.version, {COVERAGE: ""})  # if it goes live again, its new answers decide
    registry.move(CHAMPION, version.version)
    intention.end(platform, intended)
    message = f"version {version.version} answers, in place of {version_text(replaces)}"
    return _promoted(_report("promoted", version, state, message=message, answer=answer), move)


def _refuse(platform: Platform, intended: Intended, error: Terminal, progress: Progress) -> NoReturn:
    """Put the champion back, withdraw the intention, and raise the reason with the end of the build log, read before it is gone."""
    version, champion = intended.version.version, intended.move.intention.replaces
    log = _log_tail(platform, version)
    if champion is None:
        after = "there is no champion to put in its place"
    else:
        try:
            if not serves(look(platform), champion):
                _log.warning("version %d did not go live, so champion %d is put back: %s", version, champion, error)
                bring(platform, champion, progress)
            after = f"the endpoint serves champion {champion}"
        except CarDamageError as second:
            answers = f", champion {champion} still answers" if _answers(platform, champion) else ""
            after = f"putting back champion {champion} failed too{answers} ({second}); the next run tries again"
    platform.registry.tag(version, {"refused": str(error)[:TAG_LIMIT]})
    intention.withdraw(platform, intended, FAILED, str(error))
    raise UpdateFailed(f"version {version} did not go live: {error}; {after}{log}") from error


def _log_tail(platform: Platform, version: int) -> str:
    """The end of the version's build log; where it was never built, the end of the pending version's."""
    try:
        pending = platform.serving.state().pending
        logs = (platform.serving.build_log(number).strip() for number in (version, pending) if number is not None)
        log = next(filter(None, logs), "")
    except CarDamageError as error:
        return f"; its build log could not be read: {error}"
    return f"; the end of its build log:\n{log[-LOG_TAIL:]}" if log else ""


def _answers(platform: Platform, version: int) -> bool:
    try:
        return platform.serving.state().served == version
    except CarDamageError:
        return False


def _promoted(report: EndpointReport, move: Move) -> EndpointReport:
    """The report of a champion that went live by this move. An earlier attempt, or an earlier run, may have moved the alias."""
    cause = move.intention
    return replace(report, outcome="promoted", previous=cause.replaces, kind=cause.kind, reason=cause.reason, by_person=cause.by_person)


def _report(
    outcome: str, champion: ModelVersion | None, state: EndpointState, *, message: str, answer: Prediction | None = None
) -> EndpointReport:
    return EndpointReport(
        outcome=outcome,
        champion=champion.version if champion else None,
        previous=None,
        state=("READY" if state.ready else "NOT_READY") if state.exists else "ABSENT",
        latency=answer.latency if answer else None,
        message=message,
    )


STAGE = Stage("endpoint", EndpointRequest, EndpointReport, work)
