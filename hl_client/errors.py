"""The errors of the client. Each carries the words of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx


class HlError(Exception):
    """Anything that keeps the client from answering."""


class UnreachableError(HlError):
    """The API did not answer: no connection, a broken one, or no answer in time."""


class IncompleteError(HlError):
    """Data of the range is missing, and the client was made with `on_incomplete="raise"`."""


class IncompleteWarning(UserWarning):
    """Data of the range is missing. The message says which days."""


class ApiError(HlError):
    """The API refused a request. `detail` is its own explanation."""

    def __init__(self, status: int, detail: str, request: str, body: Mapping[str, Any], request_id: str | None) -> None:
        self.status, self.detail, self.request, self.body, self.request_id = status, detail, request, body, request_id
        of = "" if request_id is None else f", request {request_id}"
        super().__init__(f"{detail} (HTTP {status} for {request}{of})")


class AccessError(ApiError):
    """401 or 403: the key is missing, unknown, or may not do this."""


class NotFoundError(ApiError):
    """404: no such TWAP, coin or path."""

    @property
    def candidates(self) -> list[str]:
        """Coins with a similar name, best match first."""
        return list(self.body.get("candidates", ()))


class ChangedError(ApiError):
    """409: the fills at the cursor were loaded again while they were paged. `detail` says from where to continue."""


class WrongParameterError(ApiError):
    """422: a parameter is missing, wrong or unknown."""

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by parameter."""
        return {str(one["loc"][-1]): str(one["msg"]) for one in _list(self.body.get("detail"))}


class TooManyRequestsError(ApiError):
    """429, even after all retries."""


class UnavailableError(ApiError):
    """503, even after all retries: the database is unavailable or busy."""


class TooSlowError(ApiError):
    """504: the query took too long. Ask for less."""


_KINDS: dict[int, type[ApiError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    409: ChangedError,
    422: WrongParameterError,
    429: TooManyRequestsError,
    503: UnavailableError,
    504: TooSlowError,
}
_MOST_OF_A_BODY = 200


def api_error(response: httpx.Response) -> ApiError:
    """Return the error for a response that is not a success."""
    request = f"{response.request.method} {response.request.url.raw_path.decode()}"
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "detail" in body:
        detail = _in_words(body["detail"])
    else:
        # A proxy's own page.
        text = " ".join(response.text.split())[:_MOST_OF_A_BODY]
        to = response.headers.get("location")
        detail = f"redirected to {to}" if to else text or response.reason_phrase
    kind = _KINDS.get(response.status_code, ApiError)
    request_id = response.headers.get("x-request-id")
    return kind(response.status_code, detail, request, body if isinstance(body, dict) else {}, request_id)


def _in_words(detail: Any) -> str:
    return "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in detail) if isinstance(detail, list) else str(detail)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
