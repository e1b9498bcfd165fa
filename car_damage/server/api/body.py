"""Reads request bodies: never more bytes than allowed, never longer than allowed."""

import asyncio

from fastapi import Request

from car_damage.server.errors import ApiError, ErrorKind

_DISCARDED = 64 << 20
"""Bytes of a request that is too large which are read and dropped, so that its sender gets to read the response."""


async def read(request: Request, limit: int, timeout: float) -> bytes:
    """Read a request's body.

    Raises:
        ApiError: LARGE_BODY when it is longer than `limit` bytes, of which no more is ever kept; SLOW_BODY when it has not
            arrived after `timeout` seconds: a client that stops in the middle must not hold its place for ever.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _read(request, limit)
    except TimeoutError as error:
        raise ApiError(ErrorKind.SLOW_BODY, f"the request's body did not arrive within {timeout:g} seconds; send it again") from error


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    kept, size = bytearray(), 0
    too_long = announced.isdecimal() and int(announced) > limit
    async for part in request.stream():
        size += len(part)
        too_long = too_long or size > limit
        if not too_long:
            kept += part
        elif size > _DISCARDED:
            break
    if too_long:
        raise ApiError(ErrorKind.LARGE_BODY, f"a request may have {limit} bytes; send fewer or smaller photos at once")
    return bytes(kept)
