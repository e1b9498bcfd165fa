"""Stage choose: finds the version that a person wants live, and whether it may replace the champion.

Chosen once a flow run, before anything changes: asked again after a fault, `previous` would mean another version.
"""

from car_damage.errors import PromotionRefused, RegistryError
from car_damage.moves import DONE, PROMOTION, ROLLBACK, line_of_champions, previous
from car_damage.pipeline import AWAIT, PROMOTE, ChooseReport, ChooseRequest
from car_damage.ports import ModelVersion, Platform
from car_damage.promotion.tags import DECISION, JUDGED_AGAINST, REASONS, is_decided, named
from car_damage.stage import Progress, Stage


def work(request: ChooseRequest, platform: Platform, _progress: Progress) -> ChooseReport:
    """Find the version, and change nothing.

    Raises:
        PromotionRefused: there is no such version, or it must not go live; the message says why.
    """
    champion = platform.registry.champion()
    live = champion.version if champion else None
    moves = platform.history.moves(DONE)
    if request.version == "previous":
        if live is None:
            raise PromotionRefused("no version is live, so there is no version before it; name a version")
        number = previous(moves, live)
        if number is None:
            raise PromotionRefused(f"the history has no version that was live before version {live}; name a version")
    else:
        number = request.version
    line = line_of_champions(moves, live)
    try:
        version = platform.registry.get(number)
    except RegistryError as error:
        raise PromotionRefused(f"there is no version {number} to take live: {error}") from error
    been_live = number in line or any(move.intention.version == number for move in moves)
    if number != live and not been_live:
        _check_evidence(version, champion)
    return ChooseReport(number, live, ROLLBACK if number in line[:-1] else PROMOTION)


def _check_evidence(version: ModelVersion, champion: ModelVersion | None) -> None:
    """A version that was never live needs a decision for it, made against the present champion."""
    decision = version.tags.get(DECISION)
    if not is_decided(version):
        raise PromotionRefused(f"version {version.version} has not been judged; run retrain, which judges it")
    if decision not in (PROMOTE, AWAIT):
        raise PromotionRefused(
            f"version {version.version} was judged, and the decision is against it: {version.tags.get(REASONS, 'for no reason given')}"
        )
    if (judged_against := version.tags.get(JUDGED_AGAINST)) != named(champion):
        raise PromotionRefused(
            f"version {version.version} was judged against champion {judged_against}, but the champion is {named(champion)}; "
            "run retrain with judge_again, and decide by its result"
        )


STAGE = Stage("choose", ChooseRequest, ChooseReport, work)
