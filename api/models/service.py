"""Response models of / and /healthz."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.models.common import Answer, Instant


class Health(Answer):
    status: Literal["healthy", "degraded"]
    database: Annotated[str, Field(examples=["connected"], description="`connected`, or `error:` and the reason.")]
    last_ingested_object: str | None
    last_ingested_at: Instant | None


class Service(Answer):
    service: str
    version: str
    docs: str
    openapi: str
    health: str
    metrics: str
