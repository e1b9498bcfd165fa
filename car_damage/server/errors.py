"""What the server answers when it does not do what it was asked: Databricks' error JSON, with its documented codes."""

from collections.abc import Mapping
from types import MappingProxyType


class ApiError(Exception):
    """An answer other than 200, on its way to the caller."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers

    @property
    def body(self) -> dict[str, str]:
        """The JSON that databricks-sdk makes its exception from."""
        return {"error_code": self.code, "message": self.message}


def invalid(message: str) -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def absent(message: str) -> ApiError:
    """What the request is about is not there."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def conflict(message: str) -> ApiError:
    """An update is in progress."""
    return ApiError(409, "RESOURCE_CONFLICT", message)


def unavailable(message: str, after: int = 1) -> ApiError:
    """No model answers at this moment. databricks-sdk tries again after so many seconds."""
    return ApiError(503, "TEMPORARILY_UNAVAILABLE", message, {"Retry-After": str(after)})


def full(message: str) -> ApiError:
    """Too many requests wait already."""
    return ApiError(429, "RESOURCE_EXHAUSTED", message, {"Retry-After": "1"})
