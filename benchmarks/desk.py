"""What it costs that photos are kept for review: three endpoints of one model. One has no desk, one a full desk, and one a desk with room.
Both desks have photos and words of months.

They take turns of answers that follow each other, because a photo is kept beside the answers after its own. Every answer asks for a person,
and each photo is another one. Processor time of the server is of all its threads, and hardly depends on other load.
"""

import hashlib
import statistics
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.endpoint import TIMEOUT, Endpoint, endpoint, network, photo, request
from benchmarks.serving import client, timed
from car_damage.adapters.folder import Folder
from car_damage.data.people import reviews
from car_damage.data.people.reviews import Word
from car_damage.data.people.waiting import Answer

DESKS = {"no desk": None, "a full desk": 0, "a desk with room": 10_000}
"""Photos for which there is room."""
PHOTOS, WORDS = 1_000, 3_000
"""What lies on a desk. `answers.keep_photos` is 1,000 by default."""
TURNS, TURN = 30, 10


def run() -> list[dict[str, Any]]:
    """Median time of an answer, and the server's processor time for each."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as temporary, ExitStack() as stack:
        home, data = Path(temporary), photo()
        files = network(home)
        served = []
        homes = [home / str(number) for number in range(len(DESKS))]
        for own, room in zip(homes, DESKS.values(), strict=True):
            variables = {} if room is None else _desk(own, PHOTOS + room)
            served.append(stack.enter_context(endpoint(own, files, data, **variables)))
        bodies = [request(data + number.to_bytes(4, "big")) for number in range(TURN * (TURNS + 1))]
        calls = [client(one.port, one.path, bodies, one.headers) for one in served]
        for call in calls * TURN:
            call()
        _await_kept(homes[2], TURN)
        before = [_processor_time(one) for one in served]
        times = _turns(calls)
        _await_kept(homes[2], TURN * (TURNS + 1))
        spent = [(_processor_time(one) - start) / (TURNS * TURN) for one, start in zip(served, before, strict=True)]
        assert _kept(homes[1]) == PHOTOS
    return [
        *_rows("an answer that asks for a person, p50", [statistics.median(some) * 1000 for some in times]),
        *_rows("processor time of the server for such an answer", [some * 1000 for some in spent]),
    ]


def _turns(calls: list[Any]) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(TURNS):
        for place in range(len(calls)):  # each begins as often as the others
            which = (turn + place) % len(calls)
            times[which] += [timed(calls[which]) for _ in range(TURN)]
    return times


def _desk(home: Path, most: int) -> dict[str, str]:
    """Fill a desk. Returns the variables of its server."""
    kept, now = home / "kept", datetime.now(UTC)
    kept.mkdir(parents=True)
    answer = Answer("minor", {"minor": 0.5, "major": 0.5}, ("minor", "major"), "model-1", now.isoformat())
    for number in range(PHOTOS):
        name = hashlib.sha256(b"%d" % number).hexdigest()
        (kept / f"{name}.photo").write_bytes(b"%d" % number)
        (kept / f"{name}.json").write_bytes(answer.written())
    for number in range(WORDS):
        word = Word(hashlib.sha256(b"said %d" % number).hexdigest(), "major", "Ann", now - timedelta(hours=number))
        reviews.say(Folder(), f"{home / 'corrections'}/", word, "1")
    return {"CAR_DAMAGE_ANSWERS__KEEP_FOR_REVIEW": str(kept), "CAR_DAMAGE_ANSWERS__KEEP_PHOTOS": str(most)}


def _kept(home: Path) -> int:
    return len(list((home / "kept").glob("*.json")))


def _await_kept(home: Path, more: int) -> None:
    end = time.monotonic() + TIMEOUT
    while (kept := _kept(home)) < PHOTOS + more:
        if time.monotonic() > end:
            raise SystemExit(f"{kept - PHOTOS} of {more} photos were kept within {TIMEOUT:.0f} s")
        time.sleep(0.1)


def _processor_time(served: Endpoint) -> float:
    import psutil

    used = psutil.Process(served.pid).cpu_times()
    return float(used.user + used.system)


def _rows(name: str, values: list[float]) -> list[dict[str, Any]]:
    (none, base), *desks = zip(DESKS, values, strict=True)
    baseline = f"{none}: {base:.2f} ms"
    return [{"name": f"{name}, {desk}", "value": value, "unit": "ms", "baseline": baseline, "ratio": value / base} for desk, value in desks]
