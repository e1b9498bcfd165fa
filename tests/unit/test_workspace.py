"""The page in front of an endpoint in a workspace: words of people do not wait behind photos."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.folder import Folder
from car_damage.data.people.desk import Desk
from car_damage.server.api.workspace import AT_ONCE, WAITING, Answer, application
from car_damage.settings import Settings
from tests.fakes import sha256

ANN = {"X-Forwarded-Email": "ann@example.com"}
LIMIT = 30.0
"""Seconds that anything here may take."""


def test_a_word_is_taken_while_the_endpoint_starts_and_photos_that_are_too_many_are_asked_to_come_again(tmp_path):
    settings, asking, started = Settings(home=tmp_path), threading.Event(), threading.Event()

    def ask(method, path, body):
        asking.set()
        assert started.wait(LIMIT)
        return Answer(200, b'{"predictions": []}', "model-1")

    async def story():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        app = application(settings, Desk(Folder(), settings.answers, SystemClock()), ask)
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with asyncio.timeout(LIMIT), httpx.AsyncClient(transport=transport, base_url="http://app", headers=ANN) as client:
            path = f"/serving-endpoints/{settings.serving.endpoint}/invocations"
            asked = [asyncio.create_task(client.post(path, json={"dataframe_records": []})) for _ in range(AT_ONCE + WAITING + 1)]
            word = {"label": "major", "by": "Eve", "sha256": sha256(b"a")}
            try:
                while not asking.is_set():
                    await asyncio.sleep(0.01)
                taken = await client.post("/reviews", json=word)
            finally:
                started.set()
            return taken, [await one for one in asked]

    taken, answers = asyncio.run(story())
    assert [one["by"] for one in taken.json()["history"]] == ["ann@example.com"]
    assert [one.status_code for one in answers] == [200] * (AT_ONCE + WAITING) + [429]
    assert (answers[-1].json()["error_code"], answers[-1].headers["Retry-After"]) == ("RESOURCE_EXHAUSTED", "1")
