"""The endpoint update against fakes that each test configures: what is served and where the aliases point."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from car_damage.errors import PromotionRefused, RequestRefused, Unavailable, UpdateFailed
from car_damage.model.run_files import PREDICTIONS_FILE, SMOKE_PHOTO_FILE, write_predictions
from car_damage.pipeline import EndpointReport, EndpointRequest
from car_damage.ports import Intention, Prediction
from car_damage.promotion.tags import waits_for_approval
from car_damage.settings import Monitoring, Serving, Settings
from car_damage.stage import silent
from car_damage.stages.endpoint import cancel, is_right, put_right, raise_coverage, work
from tests.fakes import Endpoint, Photos, Runs, Versions, World, sha256

CLASSES = ("minor", "moderate", "major")
PATH, PHOTO = "/landing/major/1.jpg", b"a photo of a wreck"
OLD, NEW = {"minor": 0.6, "moderate": 0.3, "major": 0.1}, {"minor": 0.1, "moderate": 0.2, "major": 0.7}


def predictions(probabilities: dict[str, float]) -> bytes:
    import numpy as np

    from car_damage.model.pixels.photos import Photos as Decoded

    photos = Decoded(np.zeros((1, 224, 224, 3), np.uint8), np.array([2]), (sha256(PHOTO),), (PATH,))
    return write_predictions(photos, np.array([list(probabilities.values())]), CLASSES)


def world(served: int | None = 1, champion: int | None = 1, challenger: int | None = 2, judged_against: str = "1") -> World:
    registry = Versions()
    registry.add(1, decision="promote", judged_against="none")
    registry.add(2, decision="promote", judged_against=judged_against)
    registry.aliases = {name: to for name, to in (("champion", champion), ("challenger", challenger)) if to is not None}
    runs = Runs({("run-1", PREDICTIONS_FILE): predictions(OLD), ("run-2", PREDICTIONS_FILE): predictions(NEW)})
    runs.files |= {("run-1", SMOKE_PHOTO_FILE): PHOTO, ("run-2", SMOKE_PHOTO_FILE): PHOTO}
    settings = Settings(serving=Serving(update_timeout=60, poll=1))
    return World(settings, Photos({PATH: PHOTO}), registry, Endpoint({1: OLD, 2: NEW}, served=served), runs)


def update(where: World) -> EndpointReport:
    return work(EndpointRequest("flow", "retrain, by the schedule"), where, silent)  # type: ignore[arg-type]


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
    asked, moved_before = here.serving.query, []

    def ask(photos: Sequence[bytes]) -> list[Prediction]:
        moved_before.append(list(here.registry.moves))
        return asked(photos)

    here.serving.query = ask  # type: ignore[method-assign]
    update(here)
    assert moved_before == [[]]


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
    with pytest.raises(UpdateFailed, match="refused the smoke photo: row 0: corrupt"):
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


def test_a_version_of_another_run_that_slips_in_is_not_taken_for_ours() -> None:
    here = world(served=2)
    asked = here.serving.query

    def slip(photos: Sequence[bytes]) -> list[Prediction]:
        here.serving.served = 3
        here.serving.answers[3] = NEW
        return asked(photos)

    here.serving.query = slip  # type: ignore[method-assign]
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


def test_a_challenger_judged_against_another_champion_is_dropped() -> None:
    here = world(judged_against="9")
    report = update(here)
    assert report.outcome == "kept"
    assert report.message == "version 2 was judged against champion 9, but the champion is 1"
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
    here.tracking.files |= {("run-3", PREDICTIONS_FILE): predictions(OLD), ("run-3", SMOKE_PHOTO_FILE): PHOTO}
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


def test_an_update_of_somebody_else_that_does_not_end_is_given_up_with_its_log_and_the_challenger_dropped() -> None:
    here = world()
    here.serving.put(7)
    here.serving.left = 10**9
    with pytest.raises(UpdateFailed, match=r"(?s)busy with version 7 for 60 s.*building version") as raised:
        update(here)
    assert "version 2 did not go live" in str(raised.value)
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})


def test_an_update_that_comes_between_our_look_and_our_request_is_waited_for() -> None:
    here = world()
    put, quicker = here.serving.put, [7]

    def meet(version: int, _: float | None) -> None:
        if quicker:
            put(quicker.pop())
        put(version)

    here.serving.put = meet  # type: ignore[method-assign]
    here.serving.answers[7] = OLD
    assert update(here).outcome == "promoted"
    assert here.serving.puts == [7, 2]


def test_a_service_that_is_away_for_the_time_of_a_restart_is_waited_for() -> None:
    here = world()
    here.serving.outages = [Unavailable("restarting")] * 20
    assert update(here).outcome == "promoted"


def test_a_service_that_stays_away_is_unavailable_and_the_intention_stays_for_the_next_try() -> None:
    here = world()
    here.serving.outages = [Unavailable("gone")] * 10_000
    with pytest.raises(Unavailable):
        update(here)
    assert here.registry.aliases == {"champion": 1, "challenger": 2}
    here.serving.outages = []
    assert update(here).outcome == "promoted"
    assert here.history.told == [("promotion", 1, 2, "done")]


def test_an_endpoint_that_forgets_the_update_is_asked_once_more_and_then_given_up() -> None:
    here = world()
    here.serving.looks = 10**9
    here.clock.happenings.append(lambda: setattr(here.serving, "pending", None))
    with pytest.raises(UpdateFailed, match="neither updates nor serves version 2"):
        update(here)
    assert here.serving.puts == [2, 2]
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})


def test_a_version_whose_smoke_photo_is_lost_does_not_go_live_and_nothing_is_touched() -> None:
    here = world()
    del here.tracking.files["run-2", SMOKE_PHOTO_FILE]
    with pytest.raises(UpdateFailed, match="run-2 has no smoke_photo"):
        update(here)
    assert (here.serving.puts, here.registry.aliases) == ([], {"champion": 1})


def test_photos_that_are_gone_from_the_landing_folder_hinder_no_update() -> None:
    here = world()
    here.files.photos.clear()
    assert update(here).outcome == "promoted"


def test_a_promotion_is_written_down_before_the_endpoint_changes_and_ended_after_the_alias_moved() -> None:
    here = world()
    here.registry.tag(2, {"decision_reasons": "macro-F1 0.900 against 0.700", "test_macro_f1": "0.9"})
    seen = []
    put, move = here.serving.put, here.registry.move
    here.serving.put = lambda version, _: (seen.append(("put", here.history.told[-1][-1])), put(version))[0]  # type: ignore[method-assign]
    here.registry.move = lambda alias, to: (seen.append((alias, here.history.told[-1][-1])), move(alias, to))[0]  # type: ignore[method-assign]
    update(here)
    assert seen == [("put", "underway"), ("champion", "underway"), ("challenger", "done")]
    (entry,) = here.history.moves()
    told = entry.intention
    assert (told.kind, told.replaces, told.version, told.by) == ("promotion", 1, 2, "retrain, by the schedule")
    assert (told.reason, dict(told.metrics), told.flow_run) == ("macro-F1 0.900 against 0.700", {"test_macro_f1": 0.9}, "flow")


def test_a_refused_version_is_a_failed_move_with_its_reason() -> None:
    here = world()
    here.serving.broken.add(2)
    with pytest.raises(UpdateFailed):
        update(here)
    assert here.history.told == [("promotion", 1, 2, "failed")]
    assert "could not serve version 2" in here.history.all[0].failure


def test_an_update_without_a_challenger_is_no_move() -> None:
    here = world(served=2, challenger=None)
    update(here)
    assert here.history.told == []


def test_a_move_that_a_kill_left_underway_is_gone_on_with_and_stays_one() -> None:
    here = world()
    here.history.begin(Intention("promotion", 2, 1, "why", "who", "killed"))
    assert update(here).outcome == "promoted"
    assert here.history.told == [("promotion", 1, 2, "done")]


def test_a_move_whose_alias_has_moved_is_ended_as_done() -> None:
    here = world(served=2, champion=2, challenger=2)
    here.history.begin(Intention("promotion", 2, 1, "why", "who", "killed"))
    update(here)
    assert here.history.told == [("promotion", 1, 2, "done")]
    assert here.registry.aliases == {"champion": 2}


def test_a_move_that_nobody_wants_any_more_is_abandoned() -> None:
    here = world(challenger=None)
    here.history.begin(Intention("promotion", 2, 1, "why", "who", "killed"))
    update(here)
    assert here.history.told == [("promotion", 1, 2, "abandoned")]


def test_a_person_takes_an_earlier_version_live_by_the_same_way() -> None:
    here = world(served=2, champion=2, challenger=None)
    report = by_a_person(here, 1, replaces=2, kind="rollback")
    assert (report.outcome, report.champion, report.previous) == ("promoted", 1, 2)
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})
    assert here.history.told == [("rollback", 2, 1, "done")]
    assert here.history.all[0].intention.reason == "it calls wrecks minor"


def test_a_person_s_word_asked_again_after_it_was_done_changes_nothing() -> None:
    here = world(served=2, champion=2, challenger=None)
    by_a_person(here, 1, replaces=2, kind="rollback")
    report = by_a_person(here, 1, replaces=2, kind="rollback")
    assert (report.outcome, here.serving.puts, here.history.told) == ("promoted", [1], [("rollback", 2, 1, "done")])


def test_a_rollback_that_was_killed_is_ended_by_the_next_run_whatever_its_version_s_decision_says() -> None:
    here = world(served=2, champion=2, challenger=None)
    put = here.serving.put
    here.serving.put = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        by_a_person(here, 1, replaces=2, kind="rollback")
    here.serving.put = put  # type: ignore[method-assign]
    assert update(here).outcome == "promoted"
    assert here.registry.aliases == {"champion": 1}
    assert here.history.told == [("rollback", 2, 1, "done")]


def test_a_person_s_word_about_a_champion_that_is_none_any_more_is_refused_and_the_champion_served() -> None:
    here = world(challenger=None)
    with pytest.raises(PromotionRefused, match="it was to replace version 9, but version 1 is live by this time"):
        by_a_person(here, 2, replaces=9)
    assert (here.serving.served, here.registry.aliases, here.history.told) == (1, {"champion": 1}, [])


def test_an_intention_that_another_run_has_meanwhile_is_not_removed_with_ours() -> None:
    here = world()
    here.registry.add(3, decision="promote", judged_against="1")
    here.clock.happenings.append(lambda: here.registry.aliases.update(challenger=3))
    assert update(here).champion == 2
    assert here.registry.aliases == {"champion": 2, "challenger": 3}


def test_a_rollback_during_which_the_champion_changes_is_refused_and_not_said_to_be_done() -> None:
    here = world(served=2, champion=2, challenger=None)
    here.registry.add(3, decision="promote", judged_against="2")
    here.serving.answers[3] = NEW
    here.tracking.files |= {("run-3", PREDICTIONS_FILE): predictions(NEW), ("run-3", SMOKE_PHOTO_FILE): PHOTO}
    here.clock.happenings.append(lambda: here.registry.aliases.update(champion=3))
    with pytest.raises(PromotionRefused, match="version 1 did not go live: version 3 became champion meanwhile"):
        by_a_person(here, 1, replaces=2, kind="rollback")
    assert (here.serving.served, here.registry.aliases) == (3, {"champion": 3})
    assert here.history.told == [("rollback", 2, 1, "abandoned")]


def test_asking_for_the_version_that_is_live_takes_no_other_one_live() -> None:
    here = world()
    report = by_a_person(here, 1, replaces=1)
    assert (report.outcome, report.champion, here.serving.puts) == ("unchanged", 1, [])
    assert here.registry.aliases == {"champion": 1, "challenger": 2}


def test_a_word_that_is_refused_leaves_the_rule_s_challenger_alone() -> None:
    here = world()
    with pytest.raises(PromotionRefused):
        by_a_person(here, 2, replaces=9)
    assert here.registry.aliases == {"champion": 1, "challenger": 2}
    assert update(here).outcome == "promoted"


def test_a_challenger_that_a_person_s_version_displaced_is_meant_to_go_live_again_when_that_one_fails() -> None:
    here = world()
    here.registry.add(3, decision="promote", judged_against="1")
    here.serving.broken.add(3)
    here.tracking.files |= {("run-3", PREDICTIONS_FILE): predictions(NEW), ("run-3", SMOKE_PHOTO_FILE): PHOTO}
    with pytest.raises(UpdateFailed, match="version 3 did not go live"):
        by_a_person(here, 3, replaces=1)
    assert here.registry.aliases == {"champion": 1, "challenger": 2}
    assert update(here).champion == 2


def test_a_challenger_that_was_displaced_is_forgotten_once_the_champion_it_was_judged_against_is_none() -> None:
    here = world()
    here.registry.add(3, decision="promote", judged_against="1")
    here.serving.answers[3] = NEW
    here.tracking.files |= {("run-3", PREDICTIONS_FILE): predictions(NEW), ("run-3", SMOKE_PHOTO_FILE): PHOTO}
    by_a_person(here, 3, replaces=1)
    assert here.registry.aliases == {"champion": 3}


def test_a_person_s_approval_is_written_down_so_that_the_version_waits_no_more_when_it_is_taken_back() -> None:
    here = world(challenger=None)
    here.registry.tag(2, {"decision": "await_approval"})
    by_a_person(here, 2, replaces=1)
    tags = here.registry.get(2).tags
    assert (tags["decision"], tags["approved_by"]) == ("promote", "promote, by anna")
    by_a_person(here, 1, replaces=2, kind="rollback")
    assert not waits_for_approval(here.registry.get(2), here.registry.champion())


def test_a_move_that_the_rule_began_is_not_taken_for_a_person_s_word() -> None:
    here = world()
    here.history.begin(Intention("promotion", 2, 1, "why", "retrain", "killed"))
    by_a_person(here, 2, replaces=1)
    assert [(move.state, move.intention.reason) for move in here.history.all] == [("abandoned", "why"), ("done", "it calls wrecks minor")]


def test_an_undecided_version_does_not_go_live_because_a_killed_run_had_begun_its_move() -> None:
    here = world()
    here.registry.tag(2, {"decision": "deciding"})
    here.history.begin(Intention("promotion", 2, 1, "why", "retrain", "killed"))
    assert update(here).outcome == "kept"
    assert (here.registry.aliases, here.history.told) == ({"champion": 1}, [("promotion", 1, 2, "abandoned")])


def test_a_config_that_the_service_refuses_is_a_version_that_does_not_go_live() -> None:
    here = world()
    here.serving.put = refuse  # type: ignore[method-assign]
    with pytest.raises(UpdateFailed, match="refused to serve version 2: no such version"):
        update(here)
    assert here.registry.aliases == {"champion": 1}
    assert "refused" in here.registry.get(2).tags


def test_a_champion_is_served_again_even_when_its_smoke_photo_is_lost() -> None:
    here = world(served=2, challenger=None)
    del here.tracking.files["run-1", SMOKE_PHOTO_FILE]
    report = update(here)
    assert (report.outcome, here.serving.served) == ("repaired", 1)
    assert "could not be tested: run run-1 has no smoke_photo" in report.message


def killed_in_the_swap(where: World, act: Callable[[], object]) -> None:
    """The version is served, and the run ends before its answer is looked at."""
    ask = where.serving.query
    where.serving.query = interrupted  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        act()
    where.serving.query = ask  # type: ignore[method-assign]


def test_a_rollback_that_is_cancelled_in_the_swap_is_withdrawn_and_the_champion_served() -> None:
    here = world(served=2, champion=2, challenger=None)
    killed_in_the_swap(here, lambda: by_a_person(here, 1, replaces=2, kind="rollback"))
    assert here.serving.served == 1
    told = cancel("flow", here, silent)  # type: ignore[arg-type]
    assert told == "the endpoint was put back to version 2; version 2 is live"
    assert (here.serving.served, here.registry.aliases) == (2, {"champion": 2})
    assert here.history.told == [("rollback", 2, 1, "abandoned")]
    assert update(here).outcome == "unchanged"


def test_a_retraining_that_is_cancelled_in_the_swap_leaves_the_champion_live() -> None:
    here = world()
    killed_in_the_swap(here, lambda: update(here))
    assert cancel("flow", here, silent) == "the endpoint was put back to version 1; version 1 is live"  # type: ignore[arg-type]
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1})


def test_a_retraining_that_is_cancelled_before_the_swap_withdraws_its_version() -> None:
    here = world()
    here.registry.tag(2, {"flow_run": "flow"})
    assert cancel("flow", here, silent) == "version 1 is live"  # type: ignore[arg-type]
    assert (here.registry.aliases, here.serving.puts) == ({"champion": 1}, [])


def test_what_a_kill_has_left_at_the_endpoint_is_put_right_first_and_goes_live_later() -> None:
    here = world()
    assert is_right(here)  # type: ignore[arg-type]
    killed_in_the_swap(here, lambda: update(here))
    assert not is_right(here)  # type: ignore[arg-type]
    assert put_right(here, silent) == "the endpoint was put back to version 1"  # type: ignore[arg-type]
    assert is_right(here)  # type: ignore[arg-type]
    assert (here.serving.served, here.registry.aliases) == (1, {"champion": 1, "challenger": 2})
    assert update(here).outcome == "promoted"
    assert here.history.told == [("promotion", 1, 2, "done")]


def test_where_nothing_is_live_nothing_is_wrong() -> None:
    assert is_right(world(served=None, champion=None, challenger=1))  # type: ignore[arg-type]


def test_a_rollback_that_a_cancelled_run_went_on_with_is_withdrawn_though_a_killed_one_began_it() -> None:
    here = world(served=2, champion=2, challenger=None)
    killed_in_the_swap(here, lambda: by_a_person(here, 1, replaces=2, kind="rollback"))
    assert cancel("another", here, silent) == "the endpoint was put back to version 2; version 2 is live"  # type: ignore[arg-type]
    assert (here.serving.served, here.registry.aliases) == (2, {"champion": 2})
    assert update(here).outcome == "unchanged"


def test_a_first_version_that_is_cancelled_in_the_swap_is_not_live_and_said_to_answer() -> None:
    here = world(served=None, champion=None, challenger=1)
    here.registry.versions[1] = replace(here.registry.versions[1], tags={"decision": "promote", "judged_against": "none"})
    killed_in_the_swap(here, lambda: update(here))
    assert cancel("flow", here, silent) == "no version is live; version 1 still answers"  # type: ignore[arg-type]
    assert here.registry.aliases == {}


def test_what_is_live_when_a_run_is_cancelled_stays_live() -> None:
    here = world(served=2, champion=2, challenger=2)
    here.history.begin(Intention("promotion", 2, 1, "why", "who", "flow"))
    assert cancel("flow", here, silent) == "version 2 is live"  # type: ignore[arg-type]
    assert (here.serving.served, here.registry.aliases["champion"]) == (2, 2)


def test_a_cancelled_run_withdraws_nothing_of_another_one() -> None:
    here = world()
    here.registry.tag(2, {"flow_run": "another"})
    here.history.begin(Intention("promotion", 2, 1, "why", "who", "another"))
    assert cancel("flow", here, silent) == "version 1 is live"  # type: ignore[arg-type]
    assert here.registry.aliases == {"champion": 1, "challenger": 2}
    assert update(here).outcome == "promoted"


def by_a_person(where: World, version: int, replaces: int, kind: str = "promotion") -> EndpointReport:
    request = EndpointRequest("flow", "promote, by anna", version, replaces, kind, "it calls wrecks minor")
    return work(request, where, silent)  # type: ignore[arg-type]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def refuse(_version: int, _coverage: float | None) -> None:
    raise RequestRefused("no such version")


def careful_world(**tags: str) -> World:
    here = world(challenger=None)
    here.settings = here.settings.model_copy(update={"monitoring": Monitoring(more_reviews=True)})
    here.registry.tag(1, tags)
    return here


def test_a_champion_that_is_worse_answers_with_the_coverage_of_its_tag_until_another_version_is_live() -> None:
    here = careful_world(coverage="0.95")
    assert raise_coverage(here, silent) == "version 1 answers with the coverage 0.95"  # type: ignore[arg-type]
    assert (here.serving.served, here.serving.coverage, here.serving.puts) == (1, 0.95, [1])
    raise_coverage(here, silent)  # type: ignore[arg-type]
    assert here.serving.puts == [1]
    here.registry.move("challenger", 2)
    update(here)
    assert (here.serving.served, here.serving.coverage) == (2, None)
    assert by_a_person(here, 1, 2, "rollback").champion == 1
    assert (here.serving.served, here.serving.coverage) == (1, None), "how it answers now decides, and not how it did then"


def test_a_champion_that_is_put_back_answers_with_its_coverage() -> None:
    here = careful_world(coverage="0.95")
    here.serving.served = 2
    assert update(here).outcome == "repaired"
    assert (here.serving.served, here.serving.coverage) == (1, 0.95)


def test_a_coverage_is_put_back_when_the_setting_is_switched_off() -> None:
    here = careful_world(coverage="0.95")
    raise_coverage(here, silent)  # type: ignore[arg-type]
    here.settings = Settings(serving=here.settings.serving)
    assert raise_coverage(here, silent) == "version 1 answers with its own coverage"  # type: ignore[arg-type]
    assert here.serving.coverage is None


def test_an_endpoint_that_serves_another_version_keeps_its_coverage() -> None:
    here = careful_world(coverage="0.95")
    here.serving.served = 2
    raise_coverage(here, silent)  # type: ignore[arg-type]
    assert here.serving.puts == []
