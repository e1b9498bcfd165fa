"""The intention to take a version live: finds it, begins it, or withdraws it.

The rule intends a version by the alias `challenger` on a version that it has decided for. A person intends a version by the flow
promote: the alias is on it, too, and a move that is underway in the champion's history has the reason. A move that a killed run has
left is continued if its version still has the alias and its champion is the present one; every other move is closed.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from car_damage.errors import RegistryError
from car_damage.moves import ABANDONED, DONE, PROMOTION, UNDERWAY, Intention, Move, version_text
from car_damage.pipeline import PROMOTE, EndpointRequest
from car_damage.ports import CHALLENGER, FLOW_RUN_TAG, ModelVersion, Platform
from car_damage.promotion.tags import DECISION, JUDGED_AGAINST, REASONS, named, numbers_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Intended:
    """A version that is to go live, and its move, which is underway."""

    version: ModelVersion
    move: Move


@dataclass(frozen=True)
class Standing:
    """The intention that there is, if any."""

    intended: Intended | None = None
    refused: str = ""
    """Why an intended version must not go live."""
    ended: Move | None = None
    """The move by which the champion went live, if this run began that move, or has just closed it."""


def find(request: EndpointRequest, platform: Platform, champion: ModelVersion | None) -> Standing:
    """Find the version that is intended to replace this champion, and begin its move."""
    history = platform.history
    live = champion.version if champion else None
    underway, ended = [], None
    for move in history.moves(UNDERWAY):
        if move.intention.version == live:
            history.close(move, DONE)  # after a kill or an error behind the move of the alias
            _log.info("version %d had gone live before an earlier attempt was interrupted; its move is closed", live)
            ended = move
        else:
            underway.append(move)
    found = (
        _by_person(request, platform, live, underway) if request.version is not None else _by_rule(request, platform, champion, underway)
    )
    if found.intended is None and ended is None:
        last = next(iter(history.moves(DONE)), None)
        ended = last if last and last.intention.flow_run == request.flow_run and last.intention.version == live else None
    return Standing(found.intended, found.refused, ended)


def end(platform: Platform, intended: Intended) -> None:
    """Close the move after the alias has moved. The challenger goes last, so that no move stays underway for good."""
    platform.history.close(intended.move, DONE)
    _replace_challenger(platform, intended.version.version, None)


def withdraw(platform: Platform, intended: Intended, state: str, why: str) -> None:
    """Withdraw the intention. A version that a person displaced for it is intended again, if its decision still holds."""
    platform.history.close(intended.move, state, why)
    _replace_challenger(platform, intended.version.version, _displaced(platform, intended.move))


def cancel(flow_run: str, platform: Platform, swapping: Collection[int | None] = ()) -> None:
    """Withdraw what a cancelled flow run intended. What is live already stays live.

    Args:
        flow_run: the run. A move that it began is its own.
        platform: registry and history.
        swapping: versions that the endpoint serves or starts. Only a run in the middle of its update leaves one that is not the champion;
            so its move is withdrawn, too, also where a killed run began it and the cancelled one went on with it.
    """
    champion = platform.registry.champion()
    live = champion.version if champion else None
    for move in platform.history.moves(UNDERWAY):
        version = move.intention.version
        if version == live or not (move.intention.flow_run == flow_run or version in swapping):
            continue
        try:
            withdraw(platform, Intended(platform.registry.get(version), move), ABANDONED, "the run was cancelled")
        except RegistryError:  # the version was deleted
            platform.history.close(move, ABANDONED, "the run was cancelled")
    challenger = platform.registry.challenger()  # the rule's, before its move began
    if challenger is not None and challenger.version != live and challenger.tags.get(FLOW_RUN_TAG) == flow_run:
        platform.registry.move(CHALLENGER, None)


def _by_person(request: EndpointRequest, platform: Platform, live: int | None, underway: list[Move]) -> Standing:
    assert request.version is not None  # noqa: S101 - for the type checker
    if request.version == live:
        _replace_challenger(platform, live, None)  # a kill or an error may have come between the two aliases
        return Standing()
    if live != request.replaces:
        return Standing(
            refused=f"it was to replace {version_text(request.replaces)}, but {version_text(live)} is live by this time; "
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
    return Standing(Intended(version, mine))


def _by_rule(request: EndpointRequest, platform: Platform, champion: ModelVersion | None, underway: list[Move]) -> Standing:
    challenger, live = platform.registry.challenger(), champion.version if champion else None
    mine = None
    for move in underway:
        if mine is None and challenger is not None and _is(move, challenger.version, live):
            mine = move
        else:
            platform.history.close(move, ABANDONED, "the run that began it was killed, and another version is intended")
    if challenger is None or challenger.version == live:
        _replace_challenger(platform, live, None)  # a kill or an error may have come between the two aliases
        return Standing()
    if (mine is None or not mine.intention.by_person) and (refused := _unfit(challenger, champion)):
        if mine is not None:
            platform.history.close(mine, ABANDONED, refused)
        _replace_challenger(platform, challenger.version, None)
        return Standing(refused=refused)
    return Standing(Intended(challenger, mine or platform.history.begin(_intention(request, challenger, live, None))))


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
    """Why the rule's decision does not allow this challenger to go live; empty when it does."""
    decision, judged_against = challenger.tags.get(DECISION), challenger.tags.get(JUDGED_AGAINST)
    if decision != PROMOTE:
        return f"version {challenger.version} is the challenger, but its decision is {decision or 'not made'}"
    if judged_against != named(champion):
        return f"version {challenger.version} was judged against champion {judged_against}, but the champion is {named(champion)}"
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
    """Replace the challenger, only if it is still this version: another run may have set an intention of its own."""
    challenger = platform.registry.challenger()
    if challenger is not None and challenger.version == version:
        platform.registry.move(CHALLENGER, by)
