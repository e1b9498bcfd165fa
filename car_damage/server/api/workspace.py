"""The same page in front of an endpoint in a Databricks workspace: what a Databricks App serves.

People sign in at a proxy before the app, which says in headers who asks, and lets nobody else through. The app asks the endpoint
and reads the desk's volumes as its own service principal. Source: https://docs.databricks.com/aws/en/dev-tools/databricks-apps/http-headers
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from car_damage.data.people.desk import Desk
from car_damage.server import backlog
from car_damage.server.api import page, review
from car_damage.server.api.failures import add_errors, response
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.queue import Queue
from car_damage.server.keeping import Keeper
from car_damage.server.requests import receive
from car_damage.settings import Settings

API = "/api/2.0/serving-endpoints"
_NAMES = ("x-forwarded-email", "x-forwarded-preferred-username", "x-forwarded-user")
"""Headers that name the person; the first one that is there counts."""
_SERVED_BY = "served-model-name"
AT_ONCE, WAITING = 16, 16
"""Photos that the endpoint is asked about at the same time, and that wait, at most. A page asks for two at a time, and again if refused."""


@dataclass(frozen=True)
class Answer:
    """What the workspace answers."""

    status: int
    body: bytes
    served_by: str = ""
    """The served entity that answered; empty: none did."""


Ask = Callable[[str, str, bytes], Answer]
"""(method, path, body in JSON) -> the workspace's answer. Raises Unavailable, or RequestRefused if the app's identity cannot be used."""


def application(settings: Settings, desk: Desk, ask: Ask) -> ASGIApp:
    """The ASGI application. It listens behind the proxy only: whoever reached it directly could take any name."""
    keeper = Keeper(desk) if settings.answers.keep_for_review else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await backlog.settle(*([] if keeper is None else [keeper.settle]))

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    add_errors(app)
    _add_endpoint(app, settings, keeper, ask)
    review.add(app, desk, settings, _who)
    page.add(app, settings.serving.max_request_bytes, _who)
    return _SignedIn(app)


def _who(request: Request) -> str:
    return next((name for header in _NAMES if (name := request.headers.get(header, "").strip())), "")


def _add_endpoint(app: FastAPI, settings: Settings, keeper: Keeper | None, ask: Ask) -> None:
    """The routes of the endpoint that the settings name, and of no other."""
    serving = settings.serving
    # Its own threads: an endpoint that starts from zero holds them for minutes, and people's words must not wait for them.
    asking, queue = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="asking"), Queue(AT_ONCE)

    @app.get(API)
    def endpoints() -> dict[str, Any]:
        there = ask("GET", f"{API}/{serving.endpoint}", b"").status == 200
        return {"endpoints": [{"name": serving.endpoint}] if there else []}

    @app.get(API + "/{name}")
    def endpoint(name: str) -> Response:
        return _passed_on(ask("GET", f"{API}/{_ours(name)}", b""))

    @app.post("/serving-endpoints/{name}/invocations")
    async def query(name: str, request: Request) -> Response:
        path = f"/serving-endpoints/{_ours(name)}/invocations"
        with queue.place(WAITING):
            data = await receive(request, serving.max_request_bytes, serving.request_timeout)
            answer = await asyncio.get_running_loop().run_in_executor(asking, ask, "POST", path, data)
        if keeper is not None and answer.status == 200:
            keeper.offer(data, answer.body, answer.served_by)
        return _passed_on(answer)

    def _ours(name: str) -> str:
        if name != serving.endpoint:
            raise ApiError(ErrorKind.NOT_FOUND, f"this page shows the endpoint {serving.endpoint} only")
        return name


def _passed_on(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {_SERVED_BY: answer.served_by}, "application/json")


class _SignedIn:
    """Lets in only who is signed in, and no form of another site: a browser sends JSON to this host only if a page of this host asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._problem(scope) if scope["type"] == "http" and scope["path"] != "/health" else None
        if scope["type"] == "http" and scope["path"] == "/health":
            await JSONResponse({"status": "ok"})(scope, receive, send)
        else:
            await (response(error) if error else self._app)(scope, receive, send)

    def _problem(self, scope: Scope) -> ApiError | None:
        request = Request(scope)
        if not _who(request):
            return ApiError(ErrorKind.NO_TOKEN, "nobody has signed in: open the app by its address in the workspace")
        if request.method != "GET" and request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return ApiError(ErrorKind.CONTENT_TYPE, "send application/json")
        return None
