"""The update of the endpoint against worlds that do as they are told: what is served and where the aliases point."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from car_damage.errors import RegistryError, RequestRefused, Unavailable, UpdateFailed, UpdateInProgress
from car_damage.pipeline import EndpointReport, EndpointRequest, silent
from car_damage.ports import Answer
from car_damage.settings import Serving, Settings
from car_damage.stages.endpoint import work
from car_damage.stages.train import PREDICTIONS_FILE, write_predictions
from tests.fakes import Endpoint, Photos, Runs, Versions, World, sha256

CLASSES = ("minor", "moderate", "major")
PATH, PHOTO = "/landing/major/1.jpg", b"a photo of a wreck"
OLD, NEW = {"minor": 0.6, "moderate": 0.3, "major": 0.1}, {"minor": 0.1, "moderate": 0.2, "major": 0.7}


def predictions(probabilities: dict[str, float]) -> bytes:
    import numpy as np

    from car_damage.photos import Photos as Decoded

    photos = Decoded(np.zeros((1, 224, 224, 3), np.uint8), np.array([2]), (sha256(PHOTO),), (PATH,))
    return write_predictions(photos, np.array([list(probabilities.values())]), CLASSES)


def world(served: int | None = 1, champion: int | None = 1, challenger: int | None = 2, judged_against: str = "1") -> World:
    registry = Versions()
    registry.add(1, decision="promote", judged_against="none")
    registry.add(2, decision="promote", judged_against=judged_against)
    registry.aliases = {name: to for name, to in (("champion", champion), ("challenger", challenger)) if to is not None}
    runs = Runs({("run-1", PREDICTIONS_FILE): predictions(OLD), ("run-2", PREDICTIONS_FILE): predictions(NEW)})
    settings = Settings(serving=Serving(update_timeout=60, poll=1))
    return World(settings, Photos({PATH: PHOTO}), registry, Endpoint({1: OLD, 2: NEW}, served=served), runs)


def update(where: World) -> EndpointReport:
    return work(EndpointRequest("flow"), where, silent)  # type: ignore[arg-type]


def test_a_challenger_goes_live_and_then_the_aliases_move() -> None:
    here = world()
    report = update(here)
    assert (report.outcome, report.champion, report.previous, report.state) == ("promoted", 2, 1, "READY")
    assert here.serving.served == 2
    assert here.registry.aliases == {"champion": 2}
    assert here.registry.moves == [("champion", 2), ("challenger", None)]


def test_the_first_model_goes_live_where_there_was_no_endpoint() -> None:
    here = world(served=None, champion=None, challenger=1)
    here.registry.versions[1] = replace(here.registry.versions[1], tags={"decision": "promote", "judged_against": "none"})
    assert update(here).outcome == "promoted"
    assert here.registry.aliases == {"champion": 1}


def test_the_alias_does_not_move_before_the_endpoint_has_answered() -> None:
    here = world()
    moved_while_waiting = []
    here.clock.happenings.append(lambda: moved_while_waiting.extend(here.registry.moves))
    update(here)
    assert moved_while_waiting == []


def test_without_a_challenger_a_served_champion_is_left_alone() -> None:
    here = world(challenger=None)
    assert update(here).outcome == "unchanged"
    assert here.serving.puts == []


def test_without_a_challenger_the_endpoint_is_put_back_to_the_champion() -> None:
    here = world(served=2, challenger=None)
    report = update(here)
    assert (report.outcome, here.serving.served) == ("repaired", 1)


def test_without_any_version_there_is_nothing_to_serve() -> None:
    here = world(served=None, champion=None, challenger=None)
    report = update(here)
    assert (report.outcome, report.state) == ("nothing to serve", "ABSENT")


def test_a_version_that_does_not_start_leaves_the_champion_serving_and_tells_the_build_log() -> None:
    here = world()
    here.serving.broken.add(2)
    with pytest.raises(UpdateFailed) as raised:
        update(here)
    assert "version 2 did not go live" in str(raised.value)
    assert "no module named nothing" in str(raised.value)
    assert "the endpoint serves champion 1" in str(raised.value)
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})
    assert "refused" in here.registry.get(2).tags


def test_a_version_that_answers_differently_than_after_its_training_is_swapped_out_again() -> None:
    here = world()
    here.serving.answers[2] = {"minor": 0.8, "moderate": 0.1, "major": 0.1}
    with pytest.raises(UpdateFailed, match="after its training"):
        update(here)
    assert here.serving.puts == [2, 1]
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})


def test_a_version_that_refuses_the_photo_is_swapped_out_again() -> None:
    here = world()
    here.serving.refusals = [RequestRefused("row 0: corrupt")]
    with pytest.raises(UpdateFailed, match=r"refused /landing/major/1\.jpg: row 0: corrupt"):
        update(here)
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})


def test_an_endpoint_that_hiccups_at_the_smoke_request_is_asked_again() -> None:
    here = world()
    here.serving.refusals = [Unavailable("503"), Unavailable("503")]
    assert update(here).outcome == "promoted"


def test_an_endpoint_that_never_answers_the_smoke_request_gets_the_champion_back() -> None:
    here = world()
    here.serving.refusals = [Unavailable("503") for _ in range(400)]
    with pytest.raises(UpdateFailed, match="gave no answer in 300 s"):
        update(here)
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})


def test_a_photo_that_no_request_can_hold_is_not_the_smoke_photo() -> None:
    here = world()
    serving = here.settings.serving.model_copy(update={"max_request_bytes": 4096})
    here.settings = here.settings.model_copy(update={"serving": serving})
    with pytest.raises(RegistryError, match="nothing to test the endpoint with"):
        update(here)


def test_a_version_of_another_run_that_slips_in_is_not_taken_for_ours() -> None:
    here = world(served=2)
    asked = here.serving.ask

    def slip(photos: Sequence[bytes]) -> list[Answer]:
        here.serving.served = 3
        here.serving.answers[3] = NEW
        return asked(photos)

    here.serving.ask = slip  # type: ignore[method-assign]
    with pytest.raises(UpdateFailed, match="the endpoint serves version 3"):
        update(here)
    assert here.registry.aliases["champion"] == 1


@pytest.mark.parametrize("decision", ["keep", "deciding"])
def test_a_challenger_without_the_decision_to_promote_does_not_go_live(decision: str) -> None:
    here = world()
    here.registry.tag(2, {"decision": decision})
    assert update(here).outcome == "kept"
    assert (here.serving.puts, here.registry.aliases) == ([], {"champion": 1})


def test_a_version_that_never_gets_ready_is_given_up_after_the_update_timeout() -> None:
    here = world()
    here.serving.looks = 10**9
    with pytest.raises(UpdateFailed, match="not ready with version 2 after 60 s"):
        update(here)
    assert here.clock.seconds < 200
    assert here.registry.aliases == {"champion": 1}


def test_somebody_else_s_update_is_waited_for() -> None:
    here = world()
    here.serving.put(1)
    here.serving.left = 10
    assert update(here).outcome == "promoted"
    assert here.serving.puts == [1, 2]


def test_an_update_that_does_not_end_is_an_error_that_leaves_the_intention() -> None:
    here = world()
    here.serving.put(7)
    here.serving.left = 10**9
    with pytest.raises(UpdateInProgress, match="busy with version 7"):
        update(here)
    assert here.registry.aliases == {"champion": 1, "challenger": 2}


def test_an_endpoint_that_forgets_the_update_is_worth_another_try() -> None:
    here = world()

    def restart() -> None:
        here.serving.pending = None

    here.serving.looks = 10**9
    here.clock.happenings.append(restart)
    with pytest.raises(Unavailable, match="neither updates nor serves version 2"):
        update(here)
    assert here.registry.aliases["challenger"] == 2
    here.clock.happenings.clear()
    here.serving.looks = 2
    assert update(here).outcome == "promoted"


def test_a_challenger_judged_against_another_champion_is_dropped() -> None:
    here = world(judged_against="9")
    report = update(here)
    assert report.outcome == "kept"
    assert report.message == "version 2 was judged against champion 9, which is 1 by now"
    assert (here.serving.puts, here.registry.aliases) == ([], {"champion": 1})


def test_an_undecided_challenger_does_not_go_live() -> None:
    here = world()
    here.registry.versions[2] = replace(here.registry.versions[2], tags={"judged_against": "1"})
    assert update(here).outcome == "kept"
    assert here.registry.aliases == {"champion": 1}


def test_a_champion_that_changes_during_the_update_is_served_and_the_challenger_dropped() -> None:
    here = world()
    here.registry.add(3, decision="promote", judged_against="1")
    here.serving.answers[3] = OLD
    here.tracking.files["run-3", PREDICTIONS_FILE] = predictions(OLD)
    here.clock.happenings.append(lambda: here.registry.aliases.update(champion=3))
    report = update(here)
    assert (report.outcome, report.champion) == ("kept", 3)
    assert (here.serving.served, here.registry.aliases) == (3, {"champion": 3})


def test_a_kill_between_the_two_aliases_leaves_only_the_challenger_to_remove() -> None:
    here = world(served=2, champion=2, challenger=2)
    assert update(here).champion == 2
    assert (here.serving.puts, here.registry.aliases) == ([], {"champion": 2})


def test_a_kill_after_the_swap_is_continued_without_another_update() -> None:
    here = world(served=2)
    assert update(here).outcome == "promoted"
    assert here.serving.puts == []


def test_with_no_photo_left_to_test_with_nothing_is_touched() -> None:
    here = world()
    here.files.photos.clear()
    with pytest.raises(RegistryError, match="nothing to test the endpoint with"):
        update(here)
    assert here.serving.puts == []
