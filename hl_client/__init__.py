"""The Python client of hl-pipeline's REST API: exact decimals, and answers that say what is missing.

It imports nothing of hl-pipeline, so it can be installed alone: docs/guides/python-client.md.
"""

from hl_client.client import AsyncClient, Client
from hl_client.coverage import Coverage, Days
from hl_client.errors import (
    AccessError,
    ApiError,
    ChangedError,
    HlError,
    IncompleteError,
    IncompleteWarning,
    NotFoundError,
    TooManyRequestsError,
    TooSlowError,
    UnavailableError,
    UnreachableError,
    WrongParameterError,
)
from hl_client.result import Answer, Result

__all__ = [
    "AccessError",
    "Answer",
    "ApiError",
    "AsyncClient",
    "ChangedError",
    "Client",
    "Coverage",
    "Days",
    "HlError",
    "IncompleteError",
    "IncompleteWarning",
    "NotFoundError",
    "Result",
    "TooManyRequestsError",
    "TooSlowError",
    "UnavailableError",
    "UnreachableError",
    "WrongParameterError",
]
