"""Errors of the serving REST API, with the status and the error code that Databricks documents for each."""

from enum import Enum


class ErrorKind(Enum):
    """Every error that a call of the API can return: its status, its code, and what it means to the caller."""

    MALFORMED = 400, "MALFORMED_REQUEST", "The body is not a JSON object."
    INVALID = 400, "INVALID_PARAMETER_VALUE", "A field is missing, unknown or has a wrong value; the message names it."
    EXISTS = 400, "RESOURCE_ALREADY_EXISTS", "An endpoint of this name exists."
    BAD_PHOTOS = 400, "BAD_REQUEST", "The body is not JSON, has none of the three forms, or comes without a Content-Type."
    BAD_ROW = 400, "INVALID_PARAMETER_VALUE", "A row is not a photo, or there are too many rows; the message says which and why."
    NO_TOKEN = 401, "UNAUTHENTICATED", "The request has no token."
    WRONG_TOKEN = 403, "PERMISSION_DENIED", "The token is wrong."
    NOT_FOUND = 404, "RESOURCE_DOES_NOT_EXIST", "The endpoint does not exist, or serves no entity of this name."
    NO_PHOTO = 404, "RESOURCE_DOES_NOT_EXIST", "The photo does not wait for a person, or cannot be drawn."
    SLOW_BODY = 408, "REQUEST_TIMEOUT", "The body did not arrive in time."
    UPDATING = 409, "RESOURCE_CONFLICT", "An update is in progress."
    LARGE_BODY = 413, "MAX_REQUEST_SIZE_EXCEEDED", "The body is too large."
    CONTENT_TYPE = 415, "BAD_REQUEST", "The server cannot read this Content-Type."
    QUEUE_FULL = 429, "RESOURCE_EXHAUSTED", "The endpoint's queue is full; try again after the seconds in Retry-After."
    DISK = 500, "INTERNAL_ERROR", "The server cannot write to its disk; nothing has changed."
    MODEL_FAILED = 500, "INTERNAL_ERROR", "The model failed on a valid request."
    NOT_READY = 503, "TEMPORARILY_UNAVAILABLE", "No model is ready; the message says why. Try again after the seconds in Retry-After."
    MODEL_TIMEOUT = 504, "INTERNAL_ERROR", "The model took too long; send fewer photos at once."

    def __init__(self, status: int, code: str, meaning: str) -> None:
        self.status, self.code, self.meaning = status, code, meaning

    @property
    def has_retry_after(self) -> bool:
        """Whether the response has the header Retry-After, which databricks-sdk follows."""
        return self.status in {429, 503}


class ApiError(Exception):
    """A call fails.

    Args:
        kind: decides the status and the error code.
        message: what happened, and what the caller can do.
        retry_after: seconds, for the kinds that have Retry-After.
    """

    def __init__(self, kind: ErrorKind, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message
        self.headers = {"Retry-After": str(retry_after)} if kind.has_retry_after else {}
