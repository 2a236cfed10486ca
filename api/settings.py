"""The API's settings: HL_* variables from the environment and `.env`. Nothing here opens a connection."""

from __future__ import annotations

import os
import re
from typing import TypeVar

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_PREFIX = "HL_"
_PATH_PREFIX = re.compile(r"(/[0-9A-Za-z._~-]+)*")
# `hl` passes every setting to its children; they read no file again.
_RESOLVED = "HL_SETTINGS_RESOLVED"


def check_path_prefix(value: str) -> str:
    """Normalize a path prefix: `/hl`, `/a/b` or empty. Raises ValueError."""
    value = value.rstrip("/")
    if not _PATH_PREFIX.fullmatch(value):
        raise ValueError("must begin with a slash and contain only letters, digits, . _ ~ -, like /hl")
    return value


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
        default=10.0, ge=0.001, le=3600, description="Seconds that a query of a request may take before it gets 504."
    )
    api_exports: int = Field(
        default=2, ge=1, le=100, description="Maximum number of concurrent CSV and Parquet exports. Each uses its own connection."
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
    api_path_prefix: str = Field(
        default="", description="Path prefix of the REST API behind a proxy, whether or not the proxy strips it, like /hl."
    )

    @field_validator("api_path_prefix")
    @classmethod
    def _begins_with_a_slash(cls, value: str) -> str:
        return check_path_prefix(value)


class ApiSettings(ApiOptions, BaseSettings):
    """All settings of an API process, validated."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", env_ignore_empty=True, frozen=True)

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
