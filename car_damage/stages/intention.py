"""Which version is meant to go live: found where a run left off, begun, or given up.

The rule means a version by the alias `challenger` on one that it has decided for. A person means a version by the flow
promote: the alias is on it too, and a move of the champion's history that is underway says why. A move that a killed run
left behind is gone on with while its alias is there and its champion is the present one; every other one is closed.
"""

import logging
from dataclasses import dataclass

from car_damage.errors import RegistryError
from car_damage.moves import ABANDONED, DONE, PROMOTION, UNDERWAY, Intention, Move, version_text
from car_damage.pipeline import EndpointRequest
from car_damage.ports import CHALLENGER, ModelVersion, Platform
from car_damage.promotion.rule import PROMOTE
from car_damage.promotion.tags import DECISION, JUDGED_AGAINST, REASONS, named, numbers_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Meant:
    """A version that is to go live, and its move, which is underway."""

    version: ModelVersion
    move: Move


@dataclass(frozen=True)
class Found:
    """What there is to do."""

    meant: Meant | None = None
    refused: str = ""
    """Why a version that was meant to go live must not."""
    ended: Move | None = None
    """The move by which the champion went live, where this run began it, or has just found it at its end."""


def find(request: EndpointRequest, platform: Platform, champion: ModelVersion | None) -> Found:
    """Look for the version that is meant to go live in place of this champion, and begin its move."""
    history = platform.history
    live = champion.version if champion else None
    underway, ended = [], None
    for move in history.moves(UNDERWAY):
        if move.intention.version == live:
            history.close(move, DONE)  # a kill, or an error, came after the alias had moved
            _log.info("version %d had gone live before an earlier attempt was broken off; its move is closed", live)
            ended = move
        else:
            underway.append(move)
    found = (
        _by_person(request, platform, live, underway) if request.version is not None else _by_rule(request, platform, champion, underway)
    )
    if found.meant is None and ended is None:
        last = next(iter(history.moves(DONE)), None)
        ended = last if last and last.intention.flow_run == request.flow_run and last.intention.version == live else None
    return Found(found.meant, found.refused, ended)


def end(platform: Platform, meant: Meant) -> None:
    """The alias has moved. The challenger goes last, so that a move that is underway is never forgotten."""
    platform.history.close(meant.move, DONE)
    _replace_challenger(platform, meant.version.version, None)


def give_up(platform: Platform, meant: Meant, state: str, why: str) -> None:
    """The version does not go live. One that a person displaced for it is meant to go live again, if its decision still holds."""
    platform.history.close(meant.move, state, why)
    _replace_challenger(platform, meant.version.version, _displaced(platform, meant.move))


def _by_person(request: EndpointRequest, platform: Platform, live: int | None, underway: list[Move]) -> Found:
    assert request.version is not None  # noqa: S101 - for the type checker
    if request.version == live:
        _replace_challenger(platform, live, None)  # a kill, or an error, may have come between the two aliases
        return Found()
    if live != request.replaces:
        return Found(
            refused=f"it was to replace {version_text(request.replaces)}, and {version_text(live)} is live by now; "
            "look again, and decide again"
        )
    version, challenger = platform.registry.get(request.version), platform.registry.challenger()
    mine = None
    for move in underway:
        if move.intention.flow_run == request.flow_run and _is(move, request.version, live):
            mine = move
        else:
            platform.history.close(move, ABANDONED, "a person decided otherwise")
    other = challenger is None or challenger.version != version.version
    if mine is None:
        displaced = challenger.version if challenger is not None and other else None
        mine = platform.history.begin(_intention(request, version, live, displaced))
    if other:
        platform.registry.move(CHALLENGER, version.version)
    return Found(Meant(version, mine))


def _by_rule(request: EndpointRequest, platform: Platform, champion: ModelVersion | None, underway: list[Move]) -> Found:
    challenger, live = platform.registry.challenger(), champion.version if champion else None
    mine = None
    for move in underway:
        if mine is None and challenger is not None and _is(move, challenger.version, live):
            mine = move
        else:
            platform.history.close(move, ABANDONED, "the run that began it was killed, and another version is wanted by now")
    if challenger is None or challenger.version == live:
        _replace_challenger(platform, live, None)  # a kill, or an error, may have come between the two aliases
        return Found()
    if (mine is None or not mine.intention.by_person) and (refused := _unfit(challenger, champion)):
        if mine is not None:
            platform.history.close(mine, ABANDONED, refused)
        _replace_challenger(platform, challenger.version, None)
        return Found(refused=refused)
    return Found(Meant(challenger, mine or platform.history.begin(_intention(request, challenger, live, None))))


def _intention(request: EndpointRequest, version: ModelVersion, live: int | None, displaced: int | None) -> Intention:
    by_person = request.version is not None
    return Intention(
        kind=request.kind if by_person else PROMOTION,
        version=version.version,
        replaces=live,
        reason=request.reason if by_person else version.tags.get(REASONS, ""),
        by=request.by,
        flow_run=request.flow_run,
        by_person=by_person,
        displaced=displaced,
        metrics=numbers_of(version),
    )


def _is(move: Move, version: int, live: int | None) -> bool:
    return move.intention.version == version and move.intention.replaces == live


def _unfit(challenger: ModelVersion, champion: ModelVersion | None) -> str:
    """Why the rule's decision does not carry this challenger; empty when it does."""
    decision, judged_against = challenger.tags.get(DECISION), challenger.tags.get(JUDGED_AGAINST)
    if decision != PROMOTE:
        return f"version {challenger.version} was meant to go live, but its decision is {decision or 'not made'}"
    if judged_against != named(champion):
        return f"version {challenger.version} was judged against champion {judged_against}, which is {named(champion)} by now"
    return ""


def _displaced(platform: Platform, move: Move) -> int | None:
    if move.intention.displaced is None:
        return None
    try:
        version = platform.registry.get(move.intention.displaced)
    except RegistryError:  # deleted meanwhile
        return None
    return None if _unfit(version, platform.registry.champion()) else version.version


def _replace_challenger(platform: Platform, version: int | None, by: int | None) -> None:
    """Where this version is the challenger: another run may meanwhile have put an intention of its own there."""
    challenger = platform.registry.challenger()
    if challenger is not None and challenger.version == version:
        platform.registry.move(CHALLENGER, by)
