"""Routes of the review desk, which are ours and no part of Databricks' API. Docstrings of routes are published in /openapi.json."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field, StringConstraints, with_config
from typing_extensions import TypedDict

from car_damage.data.people import reviews
from car_damage.data.people.desk import Desk
from car_damage.data.people.spoken import Statements
from car_damage.data.people.waiting import Waiting
from car_damage.photo.encoded import decoded
from car_damage.photo.thumbnails import picture
from car_damage.server.api.openapi import BODY, TOKEN, errors, json_body
from car_damage.server.api.page import HEADERS, nobody
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.requests import Body, parse, receive
from car_damage.settings import Settings

API = "/reviews"
_closed = with_config(ConfigDict(extra="forbid"))
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photo's file.")]
_Text = Annotated[str, StringConstraints(max_length=reviews.LONGEST)]


class Review(Body):
    """What a person says about a photo, which is named by its SHA-256, or sent."""

    label: Annotated[str, Field(min_length=1, max_length=reviews.LONGEST, description="A class, not_a_car, cannot_tell, or undone.")]
    by: Annotated[str, Field(min_length=1, max_length=reviews.LONGEST, description="Who says it.")]
    sha256: Sha256 | None = None
    """Not needed if the photo is sent."""
    image: Annotated[str, Field(description="The photo's file in base64, if the desk does not have it.")] | None = None
    served_by: Annotated[_Text, Field(description="The served entity whose answer the person saw.")] = ""
    answered: Annotated[_Text, Field(description="The label of that answer.")] = ""


@_closed
class Statement(TypedDict):
    """What one person said."""

    label: str
    by: str
    said: Annotated[str, Field(description="ISO 8601, UTC.")]
    counts: Annotated[bool, Field(description="Whether this is the word that counts.")]


@_closed
class PhotoHistory(TypedDict):
    """What was said about a photo, in the order of time."""

    sha256: Sha256
    history: list[Statement]


@_closed
class WaitingPhoto(PhotoHistory):
    """A photo that waits for a word, and what a model said of it."""

    label: str
    probabilities: dict[str, float]
    classes: Annotated[list[str], Field(description="The classes that the answer cannot exclude.")]
    served_by: Annotated[str, Field(description="The served entity whose answer asks for a person; empty: a training doubts the label.")]
    asked: Annotated[str, Field(description="ISO 8601, UTC.")]
    labelled: Annotated[str | None, Field(description="The label that looks wrong; null: the answer asks for a person.")]


@_closed
class ReviewDesk(TypedDict):
    """What waits: answers that ask for a person, then labels that look wrong, of each the largest doubt first."""

    keeps: Annotated[bool, Field(description="Whether photos are kept for review at all.")]
    classes: list[str]
    others: list[Literal["not_a_car", "cannot_tell", "undone"]]
    waiting: list[WaitingPhoto]
    dropped: Annotated[int, Field(description="Photos that were not kept since the server started, for lack of room.")]


def add(app: FastAPI, desk: Desk, settings: Settings, who: Callable[[Request], str] = nobody) -> None:
    """Add the routes. `who` says who has signed in: then this name counts, and not the one in a request."""
    limit, timeout = settings.serving.max_request_bytes, settings.serving.request_timeout

    @app.get(API, responses=errors(ErrorKind.DISK, *TOKEN))
    def review_desk() -> ReviewDesk:
        """Show the photos that wait for a person's word."""
        return {
            "keeps": settings.answers.keep_for_review is not None,
            "classes": list(settings.labels.classes),
            "others": ["not_a_car", "cannot_tell", "undone"],
            "waiting": [_waiting(one) for one in desk.waiting()],
            "dropped": desk.dropped,
        }

    @app.get(
        API + "/{sha256}/photo",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}, **errors(ErrorKind.NO_PHOTO, ErrorKind.DISK, *TOKEN)},
    )
    def kept_photo(sha256: Sha256) -> Response:
        """Get the file of a photo that waits."""
        return Response(_photo(sha256, desk), media_type="application/octet-stream", headers=HEADERS)

    @app.get(
        API + "/{sha256}/picture",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, **errors(ErrorKind.NO_PHOTO, ErrorKind.DISK, *TOKEN)},
    )
    def picture_of_kept_photo(sha256: Sha256) -> Response:
        """Get a photo that waits as a JPEG, for a browser that cannot show its format."""
        drawn = picture(_photo(sha256, desk), settings.images.limits())
        if drawn is None:
            raise ApiError(ErrorKind.NO_PHOTO, "this photo cannot be drawn")
        return Response(drawn, media_type="image/jpeg", headers=HEADERS)

    @app.post(API, responses=errors(*_FIELDS, ErrorKind.DISK, *TOKEN, *BODY), openapi_extra=json_body(Review))
    async def take_review(request: Request) -> PhotoHistory:
        """Take a person's word about a photo. The next run trains with it."""
        given = parse(Review, await receive(request, limit, timeout))
        return await asyncio.to_thread(_take, given, who(request) or given.by, desk, settings)


_FIELDS = ErrorKind.MALFORMED, ErrorKind.INVALID


def _photo(sha256: str, desk: Desk) -> bytes:
    photo = desk.photo(sha256)
    if photo is None:
        raise ApiError(ErrorKind.NO_PHOTO, "this photo does not wait for a person any more")
    return photo


def _take(given: Review, by: str, desk: Desk, settings: Settings) -> PhotoHistory:
    try:
        photo = None if given.image is None else decoded(given.image)
        sha256 = (given.sha256 or "") if photo is None else hashlib.sha256(photo).hexdigest()
        label = reviews.checked(given.label, settings.labels.classes, settings.labels.aliases)
        said = desk.take(sha256, label, by, photo=photo, served_by=given.served_by, answered=given.answered)
    except ValueError as error:
        raise ApiError(ErrorKind.INVALID, str(error)) from error
    return {"sha256": sha256, "history": _history(said)}


def _waiting(one: Waiting) -> WaitingPhoto:
    answer = one.answer
    return {
        "sha256": one.sha256,
        "history": _history(Statements(one.history, None)),
        "label": answer.label,
        "probabilities": dict(answer.probabilities),
        "classes": list(answer.classes),
        "served_by": answer.served_by,
        "asked": answer.asked,
        "labelled": one.labelled,
    }


def _history(said: Statements) -> list[Statement]:
    return [{"label": word.label, "by": word.by, "said": word.said.isoformat(), "counts": word is said.counts} for word in said.history]
