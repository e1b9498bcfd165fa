"""The endpoint's page: a person chooses photos in a browser and sees their severities.

The page itself needs no token, but every request that it sends does. The files in page_files/ are served unchanged. Response
headers restrict the page to this server: it cannot contact another host, and no other page can show it in a frame.
"""

from collections.abc import Callable
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import Response

_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/card.js": ("card.js", "text/javascript"),
    "/map.js": ("map.js", "text/javascript"),
    "/endpoint.js": ("endpoint.js", "text/javascript"),
    "/review.js": ("review.js", "text/javascript"),
    "/words.js": ("words.js", "text/javascript"),
}
PATHS = frozenset(_FILES)
"""Paths of the page and its parts."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def nobody(_: Request) -> str:
    """Who asks, where nobody has signed in: the token says only that the request may be made."""
    return ""


def add(app: FastAPI, max_request_bytes: int, who: Callable[[Request], str] = nobody) -> None:
    """Add the page's routes.

    Args:
        app: gets the routes.
        max_request_bytes: the page refuses a photo whose request would have more bytes.
        who: says who has signed in. The page then needs no token, and asks for no name.
    """
    folder = files("car_damage.server.api") / "page_files"
    texts = {path: (folder / name).read_text(encoding="utf-8") for path, (name, _) in _FILES.items()}
    index = Template(texts.pop("/"))
    for path, text in texts.items():
        _add(app, path, text, _FILES[path][1])

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        text = index.substitute(max_request_bytes=max_request_bytes, signed_in_as=escape(who(request)))
        return Response(text, media_type=_FILES["/"][1], headers=HEADERS)


def link(host: str, token: str | None = None) -> str:
    """The page's address. A token goes into the fragment, which browsers do not send."""
    return f"{host.rstrip('/')}/" + (f"#token={quote(token, safe='')}" if token else "")


def _add(app: FastAPI, path: str, text: str, media_type: str) -> None:
    @app.get(path, include_in_schema=False)
    async def part() -> Response:
        return Response(text, media_type=media_type, headers=HEADERS)
