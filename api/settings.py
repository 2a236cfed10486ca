"""The API's settings: HL_* variables from the environment and `.env`. Nothing here opens a connection."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.keys import parse_keys

NEVER_SHOWN = ("api_keys", "api_key", "api_metrics_token", "alert_urls")
"""Settings that are secret as a whole; of a URL only the password is."""
_PREFIX = "HL_"
_PATH_PREFIX = re.compile(r"(/[0-9A-Za-z._~-]+)*")
# `hl` passes every setting to its children; they read no file again.
_RESOLVED = "HL_SETTINGS_RESOLVED"
_LEAST_TOKEN = 16
_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::\d{1,5})?", re.ASCII)


def check_path_prefix(value: str) -> str:
    """Normalize a path prefix: `/hl`, `/a/b` or empty. Raises ValueError."""
    value = value.rstrip("/")
    if not _PATH_PREFIX.fullmatch(value):
        raise ValueError("must begin with a slash and contain only letters, digits, . _ ~ -, like /hl")
    return value


def parse_origins(value: str) -> list[str]:
    """Return the origins of HL_API_CORS_ORIGINS, or `*` alone. Raises ValueError."""
    origins = [origin for origin in re.split(r"[\s,]+", value) if origin]
    if origins == ["*"]:
        return origins
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} must be an origin like https://app.example.com, in lower case, without a path; or * alone"
            )
    return origins


class ApiOptions(BaseModel):
    """Settings that only the API uses. `hl` has them among its settings and passes them to the API that it starts."""

    api_database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL that the API reads; it can be a replica: postgresql://user:password@host:5432/hl. "
        "Unset: HL_DATABASE_URL.",
    )
    api_pool_size: int = Field(default=4, ge=1, le=100, description="Connections to PostgreSQL per API worker.")
    api_pool_timeout_seconds: float = Field(
        default=2.0, gt=0, le=60, description="Seconds that a request waits for a free connection before it gets 503."
    )
    api_statement_timeout_seconds: float = Field(
        default=10.0,
        ge=0.001,
        le=3600,
        description="Seconds that a query of a request may take, in PostgreSQL or the lake, before it gets 504.",
    )
    api_exports: int = Field(
        default=2, ge=1, le=100, description="Maximum number of concurrent exports of files. Each uses its own connection."
    )
    api_export_timeout_seconds: float = Field(
        default=600.0, ge=0.001, le=86_400, description="Seconds that an export may take, including its download."
    )
    api_cache_mb: float = Field(
        default=32.0,
        ge=0,
        le=10_000,
        description="Megabytes of answers that an API worker keeps and repeats while the database is unchanged. 0 disables it.",
    )
    api_lake_memory_mb: int = Field(
        default=256,
        ge=64,
        le=1_000_000,
        description="Megabytes that an API worker uses to read days from the lake (HL_LAKE_URL); larger sorts use the disk.",
    )
    api_lake_threads: int = Field(default=2, ge=1, le=64, description="Threads per API worker that read the lake's files.")
    api_lake_queries: int = Field(
        default=2,
        ge=1,
        le=100,
        description="Requests per API worker that read the lake at once. More wait HL_API_POOL_TIMEOUT_SECONDS, then get 503.",
    )
    log_format: Literal["human", "json"] = Field(
        default="human",
        description="Format of logs: human, or json for one JSON object a line (docs/logs.md).",
    )
    api_path_prefix: str = Field(
        default="", description="Path prefix of the REST API behind a proxy, whether or not the proxy strips it, like /hl."
    )

    api_meta_file: Path | None = Field(
        default=None,
        description="JSON file with Hyperliquid's answers to `meta` and `spotMeta`, which POST /info returns: "
        '{"meta": …, "spotMeta": …}. Unset: a minimal universe of the coins that were seen, marked synthetic.',
    )

    api_keys: SecretStr | None = Field(
        default=None,
        description="Keys of the REST API: NAME:SHA256HEX or NAME:SHA256HEX:exports, separated by commas or whitespace. "
        "`hl api-key NAME` makes one. Unset: none, so the API answers on this machine only.",
    )
    api_without_keys: bool = Field(
        default=False, description="Without HL_API_KEYS, serve other machines too: everyone who reaches the API may read."
    )
    api_metrics_token: SecretStr | None = Field(
        default=None, description="Token that /metrics accepts as Authorization: Bearer TOKEN, beside the keys."
    )
    api_requests_per_minute: int = Field(
        default=600,
        ge=0,
        le=1_000_000,
        description="Maximum requests per minute and API worker for each key, or each address without a key. "
        "Loopback addresses without a key have no limit. 0: no limit.",
    )
    api_cors_origins: str = Field(
        default="",
        description="Web origins whose pages may call the API: https://app.example.com, separated by commas or whitespace, or *.",
    )

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_keys(value.get_secret_value())
        return value

    @field_validator("api_meta_file")
    @classmethod
    def _is_a_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"{value} is not a file")
        return value and value.absolute()

    @field_validator("api_metrics_token")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(rf"[!-~]{{{_LEAST_TOKEN},}}", value.get_secret_value()):
            raise ValueError(
                f"must be at least {_LEAST_TOKEN} ASCII characters without a space, like `openssl rand -hex 32` prints"
            )
        return value

    @field_validator("api_cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        parse_origins(value)
        return value

    @field_validator("api_path_prefix")
    @classmethod
    def _begins_with_a_slash(cls, value: str) -> str:
        return check_path_prefix(value)


class ApiSettings(ApiOptions, BaseSettings):
    """All settings of an API process, validated."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL for the data: postgresql://user:password@host:5432/hl."
    )

    @field_validator("api_database_url", "database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        return check_database_url(value)

    @model_validator(mode="after")
    def _has_a_database(self) -> ApiSettings:
        if self.api_database_url is None and self.database_url is None:
            raise ValueError("no database: set HL_API_DATABASE_URL or HL_DATABASE_URL to postgresql://user:password@host:5432/hl")
        return self

    @property
    def url(self) -> str:
        """The database's URL, with the password."""
        url = self.api_database_url or self.database_url
        assert url is not None
        return url.get_secret_value()


def check_database_url(value: SecretStr | None) -> SecretStr | None:
    """Return the URL of a PostgreSQL database if it can be read. Raises ValueError, without the URL."""
    if value is None:
        return None
    # Imported here: without a URL, the driver is not needed.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql://")
    try:
        conninfo_to_dict(value.get_secret_value())
    except ProgrammingError:
        # The driver's text may contain the password.
        raise ValueError("is not a PostgreSQL URL; write @ / % in a password as %40 %2F %25") from None
    return value


_Model = TypeVar("_Model", bound=BaseSettings)


def read_settings() -> ApiSettings:
    """Return the settings of this process. Ends it with a message if a setting is invalid."""
    return read_variables(ApiSettings)


def read_variables(model: type[_Model]) -> _Model:
    """Return a model of HL_* variables. Ends the process with a message if one is invalid."""
    try:
        return model(_env_file=None if _RESOLVED in os.environ else ".env")  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        wrong = (f"{'.'.join(f'{_PREFIX}{name}'.upper() for name in e['loc'])} {e['msg']}".strip() for e in error.errors())
        raise SystemExit("hl api: " + "; ".join(wrong)) from None
