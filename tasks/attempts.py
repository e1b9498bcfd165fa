"""A flow run may start several times: an automation or `make up` starts it again when its process is gone, or a person after it ended.

The automation can be wrong: the server forgets the order of events when it is restarted, and then sees the end of a run too late. So a
run reads its own states when it starts, and one that had ended before does nothing and ends in the same way.
"""

from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.events.related import tags_as_related_resources
from prefect.flows import Flow

from car_damage.errors import Terminal
from tasks import events, run_processes, succession
from tasks.progress import if_possible

MOST = 5
"""Limit for the starts of one flow run without a person: a run that crashes its machine must not do so for ever."""
TOO_OFTEN = (
    f"this run was lost {MOST} times: read its log and the logs of its workers to find out why, then start a new run, which continues "
    "where this one stopped"
)
LOST, STOPPED = "no heartbeat for", "`make up` was stopped"
"""How the message of a run begins that the automation or `make up` has scheduled again. A person's retry has another message."""
ENDED = "car-damage.run.ended"
"""Event: a run has ended. The server takes it at once. It may keep the event of a final state for a quarter of an hour, if it was restarted
and waits for the event of the state before."""
_WAITING = ("AwaitingConcurrencySlot", "Late")
"""Names of scheduled states that the server sets while a run waits."""


def take_over() -> State[Any] | None:
    """Make this process the only one of its flow run.

    When the Prefect server was down for longer than `alerts.zombie_after`, the automation restarts a run that is still alive. This
    kills the earlier process, because otherwise both would do the same work at the same time. One on another machine, or in another
    container, ends by itself: see `succession`.

    Returns:
        The state in which the flow must end at once, because the run had ended in it before; None for a run that must go on.

    Raises:
        Terminal: this flow run was lost too often.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    run = context.flow_run
    states = states_of(run)
    if (ending := ended(states)) is not None:
        get_run_logger().warning("this run had ended as %s before it was started again: it does nothing", ending.name)
        with if_possible("the event of the run's end"):
            tell_end(None, run, ending)  # no hook is called when a flow returns Cancelled
        return State(type=ending.type, name=ending.name, message=ending.message, data=ending.message if ending.is_completed() else None)
    if losses(states) >= MOST:
        raise Terminal(TOO_OFTEN)
    if run.run_count > 1 and (earlier := run_processes.of_run(str(run.id))):
        get_run_logger().warning("an earlier process of this run is still active on this machine (PID %s): killing it", earlier[0].pid)
        run_processes.end(earlier)
    succession.watch(run)
    return None


def tell_end(flow: Flow[..., Any] | None, flow_run: FlowRun, state: State[Any]) -> None:
    """Send the event that a run has ended. A hook of the flows, for each of their endings."""
    del flow
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.name": flow_run.name}
    events.send(ENDED, resource, {"state": state.name}, tags_as_related_resources(flow_run.tags))


def states_of(run: FlowRun) -> list[State[Any]]:
    """All states of a run, oldest first."""
    with get_client(sync_client=True) as client:
        return sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)


def ended(states: Sequence[State[Any]]) -> State[Any] | None:
    """The final state after which no person has started the run again; None if there is none.

    Args:
        states: of one run, oldest first.
    """
    return next((state for state in reversed(_since_a_person(states)) if state.is_final()), None)


def losses(states: Sequence[State[Any]]) -> int:
    """How often the automation or `make up` has started a run again since a person started it, whether its flow began or not."""
    return sum(_again(state) for state in _since_a_person(states))


def again(run: FlowRun, message: str) -> State[Any]:
    """The next state of a run whose process is gone: scheduled once more, or failed if it was lost too often."""
    if losses(states_of(run)) >= MOST:
        return State(type=StateType.FAILED, message=TOO_OFTEN)
    return State(type=StateType.SCHEDULED, name="AwaitingRetry", message=message)


def _since_a_person(states: Sequence[State[Any]]) -> Sequence[State[Any]]:
    """The states after the latest one by which a person or a schedule has started the run."""
    starts = [place for place, state in enumerate(states) if state.is_scheduled() and not _again(state) and state.name not in _WAITING]
    return states[starts[-1] + 1 :] if starts else states


def _again(state: State[Any]) -> bool:
    if not state.message and state.name == "AwaitingRetry":
        return True  # by the run itself, in a pod that Kubernetes ends
    return state.is_scheduled() and (state.message or "").startswith((LOST, STOPPED))
