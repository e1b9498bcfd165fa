"""Stage endpoint: take the challenger live, or put everything back.

The alias `challenger` is the intention to go live, so this stage needs no memory of its own: it looks at what is
intended, what is live and what is served, and does what is left. Killed anywhere, the next run ends it.

The alias `champion` moves only after the endpoint has answered a real photo with the new version, and the champion
is still the one that the version was to replace. Each such move is written into the champion's history: before
anything changes, and again at its end. The challenger is removed last, so that a move that is underway is never forgotten.
"""

from typing import NoReturn

from car_damage.decision import DECISION, JUDGED_AGAINST, REASONS, TAG_LIMIT, named, numbers_of
from car_damage.errors import CarDamageError, PromotionRefused, RegistryError, Terminal, UpdateFailed
from car_damage.pipeline import EndpointReport, EndpointRequest, Progress, Stage
from car_damage.ports import (
    ABANDONED,
    CHALLENGER,
    CHAMPION,
    DONE,
    FAILED,
    PROMOTION,
    UNDERWAY,
    Answer,
    EndpointState,
    Intention,
    ModelVersion,
    Move,
    Platform,
)
from car_damage.promotion import PROMOTE
from car_damage.stages.swap import ask, bring, look, serves, smoke_photo

LOG_TAIL = 2000
"""Characters of the build log that an error carries."""


def work(request: EndpointRequest, platform: Platform, progress: Progress) -> EndpointReport:
    """Bring the endpoint to where the aliases want it; with a version in the request, that one.

    Raises:
        UpdateFailed: the endpoint could not serve the version; the champion is served.
        PromotionRefused: the request's version was to replace a champion that is none any more; the champion is served.
    """
    registry = platform.registry
    refused = _intend(request, platform) if request.version is not None else ""
    champion, challenger = registry.champion(), registry.challenger()
    move = _take_up(platform, champion, challenger)
    if challenger is not None and not refused:
        refused = _not_wanted(challenger, champion, move)
        if not refused:
            return _take_live(platform, challenger, move or _begin(request, platform, challenger, champion), progress)
    if challenger is not None:
        _drop(platform, challenger)
    report = _serve_champion(platform, champion, progress, refused)
    if request.version is not None and (champion is None or champion.version != request.version):
        raise PromotionRefused(f"version {request.version} did not go live: {report.message}")
    return report


def _intend(request: EndpointRequest, platform: Platform) -> str:
    """Make the version that a person asks for the challenger. Returns why not, where that cannot be."""
    assert request.version is not None  # noqa: S101 - for the type checker
    champion = platform.registry.champion()
    live = champion.version if champion else None
    if live == request.version:
        return ""
    if live != request.replaces:
        return f"it was to replace {_named(request.replaces)}, and {_named(live)} is live by now; look again, and decide again"
    version = platform.registry.get(request.version)
    if not any(_is_this(move, version, champion) for move in platform.history.moves(UNDERWAY)):
        intention = Intention(request.kind, version.version, live, request.reason, request.by, request.flow_run, numbers_of(version))
        platform.history.begin(intention)
    platform.registry.move(CHALLENGER, version.version)
    return ""


def _begin(request: EndpointRequest, platform: Platform, challenger: ModelVersion, champion: ModelVersion | None) -> Move:
    """The move of a version that the rule has decided for."""
    return platform.history.begin(
        Intention(
            kind=PROMOTION,
            version=challenger.version,
            replaces=champion.version if champion else None,
            reason=challenger.tags.get(REASONS, ""),
            by=request.by,
            flow_run=request.flow_run,
            metrics=numbers_of(challenger),
        )
    )


def _take_up(platform: Platform, champion: ModelVersion | None, challenger: ModelVersion | None) -> Move | None:
    """The move that a run before this one has begun with this challenger; all others that are underway are closed."""
    found = None
    for move in platform.history.moves(UNDERWAY):
        if champion is not None and move.intention.version == champion.version:
            platform.history.close(move, DONE)  # a kill came after the alias had moved
        elif found is None and challenger is not None and _is_this(move, challenger, champion):
            found = move
        else:
            platform.history.close(move, ABANDONED, "the run that began it was killed, and another version is wanted by now")
    return found


def _is_this(move: Move, version: ModelVersion, champion: ModelVersion | None) -> bool:
    return move.intention.version == version.version and move.intention.replaces == (champion.version if champion else None)


def _not_wanted(challenger: ModelVersion, champion: ModelVersion | None, move: Move | None) -> str:
    """Why this challenger must not go live; empty when it may: by a move that a person began, or by the rule's decision."""
    if champion is not None and champion.version == challenger.version:
        return f"version {challenger.version} is live"  # a kill came between the two aliases
    if move is not None:
        return ""
    if challenger.tags.get(DECISION) != PROMOTE:
        return f"version {challenger.version} was meant to go live, but its decision is {challenger.tags.get(DECISION, 'not made')}"
    judged_against = challenger.tags.get(JUDGED_AGAINST)
    if judged_against != named(champion):
        return f"version {challenger.version} was judged against champion {judged_against}, which is {named(champion)} by now"
    return ""


def _serve_champion(platform: Platform, champion: ModelVersion | None, progress: Progress, dropped: str) -> EndpointReport:
    """With nothing to take live, whatever the endpoint serves is put back to the champion."""
    state = look(platform)
    if champion is None:
        return _report("nothing to serve", None, state, message=dropped or "no version is live yet")
    if serves(state, champion.version):
        return _report(
            "kept" if dropped else "unchanged", champion, state, message=dropped or f"version {champion.version} is served already"
        )
    smoke = smoke_photo(platform, champion)
    served = bring(platform, champion.version, progress)
    answer = ask(platform, champion, smoke)
    message = f"{dropped + '; ' if dropped else ''}the endpoint was put back to version {champion.version}"
    return _report("kept" if dropped else "repaired", champion, served, message=message, answer=answer)


def _take_live(platform: Platform, challenger: ModelVersion, move: Move, progress: Progress) -> EndpointReport:
    registry, replaces = platform.registry, move.intention.replaces
    try:
        smoke = smoke_photo(platform, challenger)
        state = bring(platform, challenger.version, progress)
        answer = ask(platform, challenger, smoke)
    except (UpdateFailed, RegistryError) as error:
        _refuse(platform, challenger, move, error, progress)
    now = registry.champion()
    if (now and now.version) != replaces:
        changed = f"{_named(now.version if now else None)} became champion meanwhile"
        platform.history.close(move, ABANDONED, changed)
        _drop(platform, challenger)
        return _serve_champion(platform, now, progress, changed)
    registry.tag(challenger.version, {"promoted_by_flow_run": move.intention.flow_run})
    registry.move(CHAMPION, challenger.version)
    platform.history.close(move, DONE)
    _drop(platform, challenger)
    message = f"version {challenger.version} answers, in place of {_named(replaces)}"
    return _report("promoted", challenger, state, message=message, previous=replaces, answer=answer)


def _refuse(platform: Platform, challenger: ModelVersion, move: Move, error: Terminal, progress: Progress) -> NoReturn:
    """The version cannot be served: keep the log before it is gone, serve the champion again, drop the intention, say so."""
    log, champion = _log_tail(platform, challenger.version), move.intention.replaces
    if champion is None:
        after = "there is no champion to put in its place"
    else:
        try:
            if not serves(look(platform), champion):
                bring(platform, champion, progress)
            after = f"the endpoint serves champion {champion}"
        except CarDamageError as second:
            answers = f", champion {champion} goes on answering" if _answers(platform, champion) else ""
            after = f"putting back champion {champion} failed too{answers} ({second}); the next run tries again"
    platform.registry.tag(challenger.version, {"refused": str(error)[:TAG_LIMIT]})
    platform.history.close(move, FAILED, str(error))
    _drop(platform, challenger)
    raise UpdateFailed(f"version {challenger.version} did not go live: {error}; {after}{log}") from error


def _drop(platform: Platform, challenger: ModelVersion) -> None:
    """Remove the intention, unless another run has meanwhile put one of its own there."""
    meant = platform.registry.challenger()
    if meant is not None and meant.version == challenger.version:
        platform.registry.move(CHALLENGER, None)


def _log_tail(platform: Platform, version: int) -> str:
    """The end of the version's build log; where it was never built, that of the version in its way."""
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


def _named(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


def _report(
    outcome: str,
    champion: ModelVersion | None,
    state: EndpointState,
    *,
    message: str,
    previous: int | None = None,
    answer: Answer | None = None,
) -> EndpointReport:
    return EndpointReport(
        outcome=outcome,
        champion=champion.version if champion else None,
        previous=previous,
        state=("READY" if state.ready else "NOT_READY") if state.exists else "ABSENT",
        latency=answer.latency if answer else None,
        message=message,
    )


ENDPOINT = Stage("endpoint", EndpointRequest, EndpointReport, work, control_plane=True)
