"""Settings of `hl` that the API uses: the lake, and what /metrics reports. All of them are optional."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.settings import check_database_url, read_variables

_DEFAULT_DATABASE = "postgres"


class Installation(BaseSettings):
    """`hl` passes these to the API that it starts. Elsewhere a setting is unknown unless the environment or .env has it."""

    model_config = SettingsConfigDict(
        env_prefix="HL_", extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    home: Path | None = None
    lake_url: str | None = None
    database_url: SecretStr | None = None
    dagster_database_url: SecretStr | None = None
    s3_budget_usd: Decimal | None = Field(default=None, ge=0)
    info_weight_per_minute: int | None = Field(default=None, ge=1)

    @field_validator("dagster_database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        return check_database_url(value)

    @property
    def lake(self) -> str | None:
        """The lake, a directory or s3://bucket/prefix, as far as it is known."""
        return self.lake_url or (None if self.home is None else str(self.home / "lake"))

    @property
    def directories(self) -> dict[str, Path]:
        """The local directories of the lake and of the embedded database, as far as they are known."""
        found: dict[str, Path] = {}
        if self.lake is not None and "://" not in self.lake:
            found["lake"] = Path(self.lake)
        if self.database_url is None and self.home is not None:
            found["database"] = self.home / "postgres"
        return found

    def find_dagster(self, url: str) -> str:
        """How to connect to Dagster's database: by its own URL, or beside the one at `url` as the same user."""
        if self.dagster_database_url is not None:
            return self.dagster_database_url.get_secret_value()
        name = conninfo_to_dict(url).get("dbname", _DEFAULT_DATABASE)
        return make_conninfo(url, dbname=f"{name}_dagster")


def read_installation() -> Installation:
    """Return the settings of this process. Ends it with a message if a setting is invalid."""
    return read_variables(Installation)
