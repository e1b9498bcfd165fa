"""What has to be there before a flow can run: each item has a look and a fix, so a second run changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.stages import ENDPOINT_LIMIT


@dataclass(frozen=True)
class Item:
    """One thing that must be there."""

    name: str
    look: Callable[[], str | None]
    """What is wrong, or None."""
    fix: Callable[[], None]


@dataclass(frozen=True)
class Result:
    """What became of an item."""

    name: str
    problem: str | None
    """What was wrong before the fix."""


def items() -> list[Item]:
    """Everything on the Prefect server that the flows rely on."""
    return [Item(f"concurrency limit {ENDPOINT_LIMIT}", _look_at_limit, _fix_limit)]


def bootstrap() -> list[Result]:
    """Fix what is wrong; return what was looked at."""
    results = []
    for item in items():
        problem = item.look()
        if problem is not None:
            item.fix()
        results.append(Result(item.name, problem))
    return results


def _look_at_limit() -> str | None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(ENDPOINT_LIMIT)
        except ObjectNotFound:
            return "is not there"
    if not limit.active:
        return "is not active"
    return None if limit.limit == 1 else f"allows {limit.limit} at once, not 1"


def _fix_limit() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(ENDPOINT_LIMIT, 1)
        # The upsert leaves alone a limit that somebody has switched off.
        client.update_global_concurrency_limit(ENDPOINT_LIMIT, GlobalConcurrencyLimitUpdate(active=True, limit=1))
