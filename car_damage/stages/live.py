"""Stage live: finds out what is decided, intended and served, so that a night with nothing to do ends early.

It asks services only, so it starts neither a cluster nor TensorFlow.
"""

from car_damage.moves import UNDERWAY
from car_damage.pipeline import LiveReport, LiveRequest
from car_damage.ports import Platform
from car_damage.promotion.tags import decided_of, is_outdated, waits_for_approval
from car_damage.stage import Progress, Stage


def work(request: LiveRequest, platform: Platform, _progress: Progress) -> LiveReport:
    """Read the state. It only creates the registered model where there is none, so that a failed look-up differs from an empty one."""
    found = (platform.tracking.run_for(key, request.packages) for key in (request.training_key, request.fallback_key) if key)
    run = next((one for one in found if one is not None), None)
    versions = platform.registry.versions_for(run.run_id) if run else []
    decided = decided_of(versions)
    champion, challenger = platform.registry.champion(), platform.registry.challenger()
    moves = platform.history.moves()
    endpoint = platform.serving.state()
    answering = endpoint.ready and not endpoint.updating
    return LiveReport(
        run_id=run.run_id if run else None,
        decided=decided.version if decided else None,
        champion=champion.version if champion else None,
        challenger=challenger.version if challenger else None,
        served=endpoint.served if answering else None,
        underway=sum(move.state == UNDERWAY for move in moves),
        awaiting=decided is not None and waits_for_approval(decided, champion),
        outdated=decided is not None and is_outdated(decided, champion, moves),
    )


STAGE = Stage("live", LiveRequest, LiveReport, work)
