"""`kill -9` between every two effects of a run: the next run ends in the same state as an undisturbed run.

The test records the calls of an undisturbed run, so it cannot miss one. Every run starts from the same state: a live
champion, and new photos that make a better model.
"""

import base64
import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from car_damage.adapters.backup import back_up
from car_damage.adapters.folder import Folder
from car_damage.data.people import reviews
from car_damage.data.people.reviews import Word
from car_damage.settings import CONFIG_VARIABLE, PREFIX
from deployments import demo_photos
from deployments.processes import free_port, service
from deployments.stack import ENDPOINT_START
from tests.searched import found

ROOT = Path(__file__).parents[2]
SERVE = [sys.executable, "-m", "tests.kill.light_server", "serve"]
KEPT = ("tables", "mlflow.db", "artifacts", "landing", "corrections", "kept")
"""The parts of the home folder that are restored before each run."""
STAGES = ("validate", "silver", "train", "register", "endpoint", "tidy")
EFFECTS = ("merge", "tidy", "start", "log", "finish", "attach", "create", "move", "tag", "begin", "close", "put")
"""Methods of ports that change state."""


@dataclass
class Ground:
    """A home folder, the copies of it to restore before each run, and the process that runs commands on it."""

    home: Path
    kept: Path
    process: "subprocess.Popen[str]"
    environment: dict[str, str]

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def done(self, **command: Any) -> Any:
        answer = self.ask(**command)
        assert answer["code"] == 0, f"{command} ended with {answer['code']}"
        return answer["answer"]

    def keep(self, stage: str) -> None:
        """Copy the state before a stage."""
        for name in KEPT:
            source, kept = self.home / name, self.kept / stage / name
            kept.parent.mkdir(exist_ok=True)
            if source.exists():
                shutil.copytree(source, kept) if source.is_dir() else shutil.copy2(source, kept)

    def restore(self, stage: str, served: int = 1) -> None:
        for name in KEPT:
            home, kept = self.home / name, self.kept / stage / name
            if kept.is_file():
                shutil.copy2(kept, home)
                continue
            shutil.rmtree(home, ignore_errors=True)
            if kept.is_dir():
                shutil.copytree(kept, home)
        self.done(do="serve", version=served)


MODIFIED = 1_700_000_000
BETTER = {"TOLD_RIGHT": "1.0"}
PROMOTION = {"min_test_photos": 1, "min_test_photos_per_class": 1, "first_version": "any", "min_confidence": 0.5, "recall_floor": {}}


@contextlib.contextmanager
def prepared(home: Path, kept: Path) -> Iterator[Ground]:
    """Make a champion live, then land photos and delete one. The next run, with BETTER, trains a better model."""
    demo_photos.write(home / "landing", seed=3, valid=30, unusable=True)
    port = free_port()
    variables = {
        "CAR_DAMAGE_HOME": str(home),
        "CAR_DAMAGE_LANDING__FOLDER": str(home / "landing"),
        "CAR_DAMAGE_SERVING__HOST": f"http://127.0.0.1:{port}",
        "CAR_DAMAGE_SERVING__POLL": "0.1",
        "CAR_DAMAGE_TABLES__KEEP_DAYS": "0",
        "CAR_DAMAGE_PROMOTION": json.dumps(PROMOTION),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name == CONFIG_VARIABLE}
    environment |= variables
    with (
        service("endpoint server", SERVE, home / "server.log", f"http://127.0.0.1:{port}/health", environment) as server,
        subprocess.Popen(
            [sys.executable, "-m", "tests.kill.world"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process,
    ):
        here = Ground(home, kept, process, environment)
        server.await_ready(ENDPOINT_START)
        same_times(home / "landing")
        here.done(do="run", upto="endpoint", environment={"TOLD_RIGHT": "0.4"})
        for label in ("minor", "moderate", "major"):
            for number in range(4):
                (home / "landing" / label / f"later_{number}.jpg").write_bytes(demo_photos.photo(label, seed=700 + number))
        (home / "landing" / "major" / "major_001.jpg").unlink()
        review(home)
        same_times(home / "landing")
        same_times(home / "corrections")
        yield here
        assert process.stdin is not None
        process.stdin.close()


def review(home: Path) -> None:
    """A person corrects the label of a photo that has landed, and the answer to one that has not."""
    landed, sent = (home / "landing" / "minor" / "later_0.jpg").read_bytes(), demo_photos.photo("major", seed=800)
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    for photo, label, data in ((landed, "moderate", None), (sent, "major", sent)):
        word = Word(hashlib.sha256(photo).hexdigest(), label, "Ann", noon)
        reviews.say(Folder(), f"{home}/corrections/", word, "one", photo=data, suffix=".jpg")


def same_times(folder: Path) -> None:
    """Set fixed file times: bronze records them, and they must be the same on both grounds."""
    for path in folder.rglob("*.*"):
        os.utime(path, (MODIFIED, MODIFIED))


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Ground]]:
    """Two grounds, so that two runs can go in parallel."""
    folders = [(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("kept")) for _ in range(2)]
    with prepared(*folders[0]) as one, prepared(*folders[1]) as other:
        yield [one, other]


@pytest.fixture(scope="module")
def undisturbed(grounds: list[Ground]) -> dict[str, Any]:
    """The calls of an undisturbed run and the state after each stage. Every ground keeps a copy of the state before each stage."""
    with ThreadPoolExecutor(len(grounds)) as pool:
        list(pool.map(remember, grounds))
    grounds[0].restore(STAGES[0])
    answer: dict[str, Any] = grounds[0].done(do="run", upto="tidy", worlds=True, environment=BETTER)
    return answer


def remember(ground: Ground) -> None:
    for stage in STAGES:
        ground.keep(stage)
        if stage != STAGES[-1]:
            ground.done(do="run", upto=stage, environment=BETTER)


def points(calls: list[str]) -> list[tuple[str, int, str]]:
    """Where to kill: (call, number of earlier identical calls, "before" or "after").

    The state does not change between two effects of a stage, so a kill after one effect equals a kill before the next,
    and calls that only read need no kill. Each state is tested once.
    """
    wanted, seen = [], Counter[str]()
    for number, call in enumerate(calls):
        stage, method = call.split(" ")
        if is_effect(method):
            wanted.append((call, seen[call], "before"))
            following = next((later.split(" ")[0] for later in calls[number + 1 :] if is_effect(later)), None)
            if following != stage or method == "serving.put":  # the server continues an update on its own
                wanted.append((call, seen[call], "after"))
        seen[call] += 1
    return wanted


def is_effect(call: str) -> bool:
    return call.rpartition(".")[2] in EFFECTS


def test_an_undisturbed_run_goes_live_and_leaves_no_intention(undisturbed: dict[str, Any]) -> None:
    world = undisturbed["worlds"]["endpoint"]
    assert (world["champion"], world["challenger"], world["served"]) == (2, None, [True, False, 2, None])
    assert [version for version, _ in world["versions"]] == [1, 2]
    assert len(world["finished_runs"]) == 2
    assert len(world["reviews"]) == 2
    assert [json.loads(row)["label"] for row in world["silver"] if "minor/later_0" in row] == ["moderate"]
    assert [json.loads(row)["label"] for row in world["silver"] if "/corrections/photos/" in row] == ["major"]
    ports = {call.split(" ")[1].split(".")[0] for call in undisturbed["calls"]}
    assert ports == {"files", "tables", "tracking", "registry", "history", "archive", "serving"}
    assert world["history"] == [["promotion", 1, 2, "done"], ["promotion", None, 1, "done"]]
    effects = {call.split(" ")[1] for call in undisturbed["calls"] if is_effect(call)}
    assert {"tables.merge", "tracking.log", "registry.create", "registry.move", "registry.tag", "serving.put"} <= effects
    assert {"history.begin", "history.close"} <= effects


def test_a_backup_that_is_taken_while_a_run_goes_on_retrains_promotes_rolls_back_and_serves_at_another_path(
    grounds: list[Ground], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    ground, home, port = grounds[1], tmp_path / "restored" / "home", free_port()
    ground.restore(STAGES[0])
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(ground.done, do="run", upto="register", environment=BETTER)
        copies = []
        while not run.done() or not copies:
            copies.append(tmp_path / f"copy{len(copies)}")
            back_up(ground.home, copies[-1])
        run.result()
    original = files_of(ground.home)
    shutil.move(copies[len(copies) // 2], home)  # in the middle of the run
    variables = {
        "CAR_DAMAGE_HOME": str(home),
        "CAR_DAMAGE_LANDING__FOLDER": str(home / "landing"),
        "CAR_DAMAGE_SERVING__HOST": f"http://127.0.0.1:{port}",
    }
    environment = ground.environment | variables
    with service("endpoint server", SERVE, tmp_path / "server.log", f"http://127.0.0.1:{port}/health", environment) as server:
        server.await_ready(ENDPOINT_START)
        assert ground.done(do="run", upto="tidy", environment=BETTER | variables)["ended"] == "tidy"
        world = ground.done(do="world", environment=variables)
        assert {**world, "versions": None} == {**undisturbed["worlds"]["tidy"], "versions": None}  # its silver has one version more
        assert ground.done(do="promote", environment=variables)["ended"] == "promoted"
        after = ground.done(do="world", environment=variables)
        assert ground.done(do="run", upto="tidy", environment=BETTER | variables)["ended"] == "settled"
    assert (after["champion"], after["served"], after["history"][0]) == (1, [True, False, 1, None], ["rollback", 2, 1, "done"])
    assert files_of(ground.home) == original


def files_of(home: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file that a run writes."""
    found = [path for name in KEPT for path in (home / name, *(home / name).rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_after_a_kill_at_any_call_the_next_run_ends_like_an_undisturbed_one(grounds: list[Ground], undisturbed: dict[str, Any]) -> None:
    worlds = undisturbed["worlds"]
    differences = tried_on(grounds, points(undisturbed["calls"]), lambda ground, point: kill_and_run_again(ground, worlds, *point))
    assert not differences, "\n".join(differences)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_rollback_that_is_killed_at_any_call_is_ended_or_left_undone_by_the_next_run_and_done_when_asked_again(
    grounds: list[Ground], undisturbed: dict[str, Any]
) -> None:
    del undisturbed  # requested because it fills the copies of every ground
    for ground in grounds:
        ground.restore("endpoint")
        ground.done(do="run", upto="endpoint", environment=BETTER)
        ground.keep("live")
    before = grounds[0].done(do="world")
    recorded = grounds[0].done(do="promote")
    after = grounds[0].done(do="world")
    assert (recorded["ended"], after["champion"], after["served"]) == ("promoted", 1, [True, False, 1, None])
    assert after["history"][0] == ["rollback", 2, 1, "done"]
    effects = points(recorded["calls"])

    def kill_and_ask_again(ground: Ground, point: tuple[str, int, str]) -> list[str]:
        call, nth, when = point
        ground.restore("live", served=2)
        killed = ground.ask(do="promote", call=call, nth=nth, when=when)
        if killed["code"] != -signal.SIGKILL:
            return [f"{when} {call} {nth}: not killed, but ended with {killed['code']}"]
        ground.done(do="run", upto="endpoint", environment=BETTER)
        between = ground.done(do="world")
        ground.done(do="promote")
        ended = ground.done(do="world")
        told = [f"{when} {call} {nth}: retrain left {key} {between[key]}" for key in LEFT if between[key] not in (before[key], after[key])]
        told += [f"{when} {call} {nth}: {key} is {ended[key]} and not {after[key]}" for key in LEFT if ended[key] != after[key]]
        return told + [f"{when} {call} {nth}: {move} is left" for move in ended["history"] if move[-1] == "underway"]

    differences = tried_on(grounds, effects, kill_and_ask_again)
    assert not differences, "\n".join(differences)


FORGETS = (*EFFECTS, "purge", "remove", "keep", "replace")
FORGETTING = {"CAR_DAMAGE_SCORING__CLAIMS": "folder"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_after_a_kill_at_any_call_a_photo_is_forgotten_by_the_next_one_and_nothing_else_is_lost(
    grounds: list[Ground], undisturbed: dict[str, Any]
) -> None:
    """A test photo of two versions, which is a mistake in the report of one of them."""
    del undisturbed  # requested because it fills the copies of every ground
    sha256, _ = [known_everywhere(ground) for ground in grounds]
    wanted = traces_of(grounds[0], sha256)
    assert {name.rpartition(" in ")[0] for name in searched(grounds[0], wanted)} == set(wanted)
    recorded = grounds[0].done(do="forget", photo=sha256, environment=variables(grounds[0]))
    assert not searched(grounds[0], wanted)
    after, report = recorded["world"], told(recorded, grounds[0])

    def kill_and_forget_again(ground: Ground, point: tuple[str, int, str]) -> list[str]:
        call, nth, when = point
        ground.restore("forget", served=2)
        killed = ground.ask(do="forget", photo=sha256, call=call, nth=nth, when=when, environment=variables(ground))
        if killed["code"] != -signal.SIGKILL:
            return [f"{when} {call} {nth}: not killed, but ended with {killed['code']}"]
        again = ground.done(do="forget", photo=sha256, environment=variables(ground))
        ended, says = again["world"], told(again, ground)
        left = [f"{when} {call} {nth}: {name}" for name in searched(ground, wanted)]
        left += [f"{when} {call} {nth}: told {says} and not {report}"] if says != report else []
        return left + [f"{when} {call} {nth}: {key} is {ended[key]} and not {after[key]}" for key in after if ended[key] != after[key]]

    effects = steps(recorded["calls"])
    assert {call.partition(" ")[2] for call, *_ in effects} >= {"tables.merge", "tables.purge", "archive.replace", "files.remove"}
    differences = tried_on(grounds, effects, kill_and_forget_again)
    assert not differences, "\n".join(differences)
    for example in examples_of(grounds[0]):  # what a model's process answers at its start is in its log
        grounds[0].restore("forget", served=2)
        grounds[0].done(do="forget", photo=example, environment=variables(grounds[0]))
        assert not searched(grounds[0], {"hash": example.encode()})


def examples_of(ground: Ground) -> set[str]:
    """The sha256 of each photo that an endpoint is tested with."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in ground.home.glob("artifacts/*/artifacts/smoke_photo")}


def steps(calls: list[str]) -> list[tuple[str, int, str]]:
    """Where to kill: before each effect. Of equal effects in a row, such as changes of a training's files, before the first and the last.

    The endpoint's copies of models, which are changed once, are not restored.
    """
    effects = [(call, calls[:number].count(call)) for number, call in enumerate(calls) if call.rpartition(".")[2] in FORGETS]
    around = zip([("", 0), *effects], effects, [*effects[1:], ("", 0)], strict=False)
    around = ((before, effect, after) for before, effect, after in around if effect[0] != "forget files.replace")
    return [(call, nth, "before") for before, (call, nth), after in around if {call} != {before[0], after[0]}]


def variables(ground: Ground) -> dict[str, str]:
    return {**BETTER, **FORGETTING, "CAR_DAMAGE_ANSWERS__KEEP_FOR_REVIEW": str(ground.home / "kept")}


def told(answer: dict[str, Any], ground: Ground) -> Any:
    """What a report tells, without ids and times."""
    found = [(trace["place"], trace["what"], trace["items"]) for trace in answer["ended"]["found"]]
    return json.loads(json.dumps(found).replace(str(ground.home), "HOME"))


def known_everywhere(ground: Ground) -> str:
    """Have two versions and every folder and table know a test photo. Returns its sha256."""
    ground.restore(STAGES[0])
    ground.done(do="run", upto="endpoint", environment=BETTER)
    photo = Path(mistake_of(ground)["path"])
    same_times(ground.home / "landing")
    answer = ground.done(do="learn", photo=str(photo), environment=variables(ground))
    assert answer["kept"]
    ground.keep("forget")
    return str(answer["sha256"])


def mistake_of(ground: Ground) -> dict[str, Any]:
    """The first test photo, in the order of hashes, for which version 1 was wrong; that of both grounds is the same."""
    lists = [pq.read_table(path).to_pylist() for path in sorted(ground.home.glob("artifacts/*/artifacts/test_predictions.parquet"))]
    wrong = [row for rows in lists for row in rows if row["predicted"] != row["label"]]
    return min(wrong, key=lambda row: str(row["sha256"]))


def traces_of(ground: Ground, sha256: str) -> dict[str, bytes]:
    """The photo's hash, bytes, and thumbnail in the report of version 1."""
    photo = Path(mistake_of(ground)["path"])
    figures = [
        figure
        for page in ground.home.glob("artifacts/*/artifacts/report.html")
        for figure in page.read_text().split("<figure>")
        if f'title="{photo}"' in figure
    ]
    thumbnail = figures[0].partition("base64,")[2].partition('"')[0]
    return {"hash": sha256.encode(), "bytes": photo.read_bytes(), "thumbnail": base64.b64decode(thumbnail)}


def searched(ground: Ground, wanted: dict[str, bytes]) -> list[str]:
    """What is left in any file of the home, but for the landing folder, and the predictions that only the light model has."""
    return [
        one
        for one in found(ground.home, wanted, but=("landing",))
        if not one.endswith("/artifacts/predictions.json") or "endpoint" not in one
    ]


LEFT = ("champion", "challenger", "served", "silver", "splits", "finished_runs")
"""Keys of the state that a rollback changes, and keys that it must not change."""


def tried_on(
    grounds: list[Ground], wanted: list[tuple[str, int, str]], attempt: Callable[[Ground, tuple[str, int, str]], list[str]]
) -> list[str]:
    """Test every point, one at a time on each ground; return all differences."""
    left = queue.SimpleQueue[tuple[str, int, str]]()
    for point in wanted:
        left.put(point)

    def try_points(ground: Ground) -> list[str]:
        differences = []
        while True:
            try:
                point = left.get_nowait()
            except queue.Empty:
                return differences
            differences += attempt(ground, point)

    with ThreadPoolExecutor(len(grounds)) as pool:
        return [told for tried in pool.map(try_points, grounds) for told in tried]


def kill_and_run_again(ground: Ground, worlds: dict[str, Any], call: str, nth: int, when: str) -> list[str]:
    """Kill a run at this call, run again, and return the differences from the undisturbed run."""
    stage = call.split(" ", maxsplit=1)[0]
    ground.restore(stage)  # the run finds the earlier stages done
    killed = ground.ask(do="run", upto=stage, call=call, nth=nth, when=when, environment=BETTER)
    if killed["code"] != -signal.SIGKILL:
        return [f"{when} {call} {nth}: not killed, but ended with {killed['code']}"]
    ground.done(do="run", upto=stage, environment=BETTER)
    after, wanted = ground.done(do="world"), worlds[stage]
    return [f"{when} {call} {nth}: {key} is {after[key]} and not {wanted[key]}" for key in wanted if after[key] != wanted[key]]
