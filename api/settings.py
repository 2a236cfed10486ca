"""The API's settings: HL_* variables, from the environment and `.env`. Nothing here connects to what a setting names."""

from __future__ import annotations

import os
import re

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_PREFIX = "HL_"
_PATH_PREFIX = re.compile(r"(/[0-9A-Za-z._~-]+)*")
# `hl` hands its children every setting, and has them read no file again.
_RESOLVED = "HL_SETTINGS_RESOLVED"


def check_path_prefix(value: str) -> str:
    """A prefix as it is meant to be: `/hl`, `/a/b`, or nothing. Raises ValueError."""
    value = value.rstrip("/")
    if not _PATH_PREFIX.fullmatch(value):
        raise ValueError("must begin with a slash and have letters, digits, . _ ~ - alone: /hl")
    return value


class ApiOptions(BaseModel):
    """What is the API's alone; `hl` has these among its own settings, and hands them to the API that it starts."""

    api_database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL that the API reads, perhaps a replica: postgresql://user:password@host:5432/hl. "
        "Unset: HL_DATABASE_URL.",
    )
    api_pool_size: int = Field(default=4, ge=1, le=100, description="Connections to PostgreSQL that an API worker holds.")
    api_pool_timeout_seconds: float = Field(
        default=2.0, gt=0, le=60, description="How long a request waits for a free connection before it is answered with 503."
    )
    api_statement_timeout_seconds: float = Field(
        default=10.0, ge=0.001, le=3600, description="How long a query of a request may take before it is answered with 504."
    )
    api_exports: int = Field(
        default=2, ge=1, le=100, description="CSV and Parquet exports at a time; each has a connection of its own."
    )
    api_export_timeout_seconds: float = Field(
        default=600.0, ge=0.001, le=86_400, description="How long an export may take, its download included."
    )
    api_cache_mb: float = Field(
        default=32.0,
        ge=0,
        le=10_000,
        description="Memory of an API worker for answers that it can repeat while the database is unchanged. 0 keeps none.",
    )
    api_path_prefix: str = Field(
        default="", description="Path before all paths of the REST API, behind a proxy that takes it away or leaves it: /hl."
    )

    @field_validator("api_path_prefix")
    @classmethod
    def _begins_with_a_slash(cls, value: str) -> str:
        return check_path_prefix(value)


class ApiSettings(ApiOptions, BaseSettings):
    """All settings of the API's process, checked."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", env_ignore_empty=True, frozen=True)

    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL for the data: postgresql://user:password@host:5432/hl."
    )

    @field_validator("api_database_url", "database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        # Whoever starts without such a URL does without the driver.
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        try:
            conninfo_to_dict(value.get_secret_value())
        except ProgrammingError:
            # Its text may have the password in it.
            raise ValueError("is no URL of a PostgreSQL; signs like @ / % in a password are written %40 %2F %25") from None
        return value

    @model_validator(mode="after")
    def _has_a_database(self) -> ApiSettings:
        if self.api_database_url is None and self.database_url is None:
            raise ValueError("no database: set HL_API_DATABASE_URL or HL_DATABASE_URL to postgresql://user:password@host:5432/hl")
        return self

    @property
    def url(self) -> str:
        """The database's URL, password included."""
        url = self.api_database_url or self.database_url
        assert url is not None
        return url.get_secret_value()


def read_settings() -> ApiSettings:
    """The settings of this process. Ends it with what is wrong of them."""
    try:
        return ApiSettings(_env_file=None if _RESOLVED in os.environ else ".env")  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        wrong = (f"{'.'.join(f'{_PREFIX}{name}'.upper() for name in e['loc'])} {e['msg']}".strip() for e in error.errors())
        raise SystemExit("hl api: " + "; ".join(wrong)) from None
