"""All settings with their HL_* variable, type, default, unit and meaning.

Sources, in order of precedence: the command line, the environment, `.env`, `hl.toml` (both in the working directory). Nothing
here opens the files or servers that a setting names.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from api.settings import ApiOptions, check_path_prefix

PREFIX = "HL_"
# Set for the children of `hl`, which receive every setting. They read no file, so a demo never picks up real settings.
RESOLVED = "HL_SETTINGS_RESOLVED"
NONE = "none"
"""The value of HL_TWAP_DATA_URL or HL_INFO_URL that disables this source."""


class Settings(ApiOptions, BaseSettings):
    """All settings of one process, validated."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        # Otherwise a traceback could show a password.
        hide_input_in_errors=True,
    )

    home: Path = Field(
        default=Path(".hl"),
        description="Directory of this installation: embedded PostgreSQL, Dagster's files, logs and, by default, the lake.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL 16 or newer for the data: postgresql://user:password@host:5432/hl. Unset: embedded PostgreSQL.",
    )
    dagster_database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL for Dagster's runs and events. Unset: NAME_dagster on the data's server, next to database NAME.",
    )
    lake_url: str | None = Field(
        default=None, description="The Parquet lake: a directory or s3://bucket/prefix. Unset: HL_HOME/lake."
    )
    node_data_url: str = Field(
        default="s3://hl-mainnet-node-data",
        description="Source of fills: s3://bucket/prefix (requester pays) or a directory with the same layout.",
    )
    node_data_region: str = Field(default="ap-northeast-1", description="AWS region of HL_NODE_DATA_URL.")
    node_data_requester_pays: bool = Field(
        default=True,
        description="Send the requester-pays header to HL_NODE_DATA_URL. false: for stores without requester pays.",
    )
    twap_data_url: str = Field(
        default="s3://artemis-hyperliquid-data/raw/twap_statuses",
        description="Source of TWAP statuses: s3://bucket/prefix (requester pays), a directory, or none to disable it.",
    )
    twap_data_region: str = Field(default="us-east-1", description="AWS region of HL_TWAP_DATA_URL.")
    twap_data_requester_pays: bool = Field(
        default=True,
        description="Send the requester-pays header to HL_TWAP_DATA_URL. false: for stores without requester pays.",
    )
    twap_publish_lag_hours: float = Field(
        default=48.0,
        ge=0,
        le=1_000_000,
        description="Grace period in hours after the end of a day. Only afterwards do missing TWAP statuses count as a hole.",
    )
    node_data_price_per_gb: Decimal = Field(
        default=Decimal("0.114"),
        ge=0,
        description="USD per GB (10^9 bytes) downloaded from HL_NODE_DATA_URL; 0 within its region.",
    )
    twap_data_price_per_gb: Decimal = Field(
        default=Decimal("0.09"),
        ge=0,
        description="USD per GB (10^9 bytes) downloaded from HL_TWAP_DATA_URL; 0 within its region.",
    )
    s3_price_per_1000_lists: Decimal = Field(
        default=Decimal("0.0047"), ge=0, description="USD per 1,000 LIST requests; each returns up to 1,000 objects."
    )
    s3_price_per_1000_gets: Decimal = Field(default=Decimal("0.00037"), ge=0, description="USD per 1,000 GET requests.")
    s3_budget_usd: Decimal | None = Field(
        default=None,
        ge=0,
        description="Maximum USD that all runs spend on S3 per UTC month; requests above it are not sent. Unset: no limit.",
    )
    s3_attempts: int = Field(
        default=6, ge=1, le=100, description="Maximum attempts per S3 request on transient failures, including the first."
    )
    s3_backoff_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Maximum seconds before the second attempt; doubles with each attempt, up to 30. The actual wait is random.",
    )
    s3_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds without a byte from S3 after which an attempt fails."
    )
    info_url: str = Field(
        default="https://api.hyperliquid.xyz/info",
        description="URL of Hyperliquid's info API, for fills and TWAPs from before the buckets. none: it is never called.",
    )
    info_weight_per_minute: int = Field(
        default=1200,
        ge=120,
        le=1_000_000,
        description="Maximum rate-limit weight per minute of info API calls from one IP address; a full page weighs 120.",
    )
    egress: str = Field(
        default="default",
        min_length=1,
        max_length=100,
        description="Name for this machine's public IP address. Machines with the same name share one weight limit.",
    )
    info_attempts: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Maximum attempts per info API call on transient failures, including the first.",
    )
    info_backoff_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Maximum seconds before the second attempt; doubles with each attempt, up to 60. The actual wait is random.",
    )
    info_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds within which an info API response must be complete."
    )
    backfill_from: datetime = Field(
        default=datetime(2023, 2, 26, tzinfo=UTC),
        description="Start of the backfill from the info API, in UTC, like 2023-02-26T00:00:00Z.",
    )
    backfill_to: datetime = Field(
        default=datetime(2025, 5, 26, tzinfo=UTC),
        description="End of the backfill, exclusive. The buckets have every fill from 2025-05-25T14:00:00Z on.",
    )
    s3_objects_at_once: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Objects downloaded in parallel; meanwhile two downloaded objects at a time are decoded.",
    )
    s3_megabytes_per_second: float | None = Field(
        default=None,
        ge=0.1,
        description="Maximum MB (10^6 bytes) per second for all downloads of one asset. Unset: no limit.",
    )
    publish_lag_hours: float = Field(
        default=3.0,
        ge=0,
        le=1_000_000,
        description="Grace period in hours after the end of an hour. Only afterwards does its missing object count as a hole.",
    )
    max_lag_hours: float = Field(
        default=4.0,
        gt=0,
        le=1_000_000,
        description="Maximum age in hours of the newest loaded hour of fills; above it, the check `fresh` fails.",
    )
    reconcile_cron: str = Field(
        default="30 2 * * *",
        description="Schedule (cron, UTC) of `reconcile`, which compares the buckets with the ledger and retries failed days.",
    )
    sensors: bool = Field(
        default=True,
        description="Whether sensors and `reconcile` are on until the UI switches them. S3 sources also need HL_S3_BUDGET_USD.",
    )
    sensor_seconds: int = Field(
        default=300, ge=5, le=86_400, description="Seconds between two checks of a sensor for new objects."
    )
    bad_lines_max_share: float = Field(
        default=0.0001,
        ge=0,
        le=1,
        description="Maximum share of an object's lines in quarantine; above it, a check fails with an error.",
    )
    decode_threads: int = Field(
        default=2, ge=1, le=64, description="Decoder threads for each of the two objects in progress; each needs about 150 MB."
    )
    swap_wait_seconds: int = Field(
        default=900,
        ge=1,
        description="Maximum seconds that reloading a day waits for queries on hl.fills to end; tries for 0.5 s at a time.",
    )
    fills_keep_days: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Number of recent days to keep in hl.fills; 0: none. Older days stay in the lake. Unset: all.",
    )
    compact_after_hours: float = Field(
        default=24.0,
        ge=0,
        le=1_000_000,
        description="Hours without a change after which the schedule `compact` compacts a day in the lake, unless it is pending.",
    )
    compact_cron: str = Field(
        default="30 3 * * *", description="Schedule (cron, UTC) of `compact`, which compacts the days at rest."
    )
    hours_keep_days: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Number of recent days whose hours of fills stay in the lake after they are compacted; 0: none. Unset: all.",
    )
    snapshots_keep_days: int = Field(
        default=7,
        ge=1,
        le=10_000,
        description="Days for which a replaced snapshot of the lake's Iceberg tables can still be read.",
    )
    disk_reserve_gb: float = Field(
        default=1.0,
        ge=0,
        description="GB to keep free on the disks of the lake and embedded PostgreSQL. A day that would use them fails.",
    )
    runs_at_once: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Maximum concurrent runs on this machine; others wait in the queue. Each needs 0.5 to 1.4 GB of memory.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Redis that passes runs to workers, for HL_LAUNCHER=celery: redis://:password@host:6379/0.",
    )
    launcher: Literal["default", "celery", "k8s"] = Field(
        default="default",
        description="Where runs execute: default (processes of this machine), celery (`hl worker`, on any machine; needs the "
        "extra `celery`) or k8s (jobs of a Kubernetes cluster, by Dagster's Helm chart).",
    )
    runs_keep_days: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Days to keep the log of a finished run. Its materializations and checks are kept. Unset: forever.",
    )
    alert_urls: SecretStr | None = Field(
        default=None,
        description="Where alerts go: Apprise URLs separated by commas, like json://host/path, slack://... or mailto://... "
        "(docs/alerts.md). Needs the extra `alerts`. Unset: no alerts.",
    )
    ui_url: str | None = Field(
        default=None,
        description="Address of the Dagster UI in alerts, like https://data.example.com/dagster. Unset: 127.0.0.1 with HL_PORT.",
    )
    port: int = Field(default=3000, ge=1, le=65535, description="Port of the Dagster UI that `hl up` starts, on 127.0.0.1.")

    path_prefix: str = Field(
        default="", description="Path prefix of the Dagster UI behind a proxy that does not strip it, like /dagster."
    )
    api_port: int = Field(
        default=8000, ge=1, le=65535, description="Port of the REST API that `hl up` and `hl api` start, on 127.0.0.1."
    )

    api_url: str | None = Field(
        default=None,
        description="Address of the REST API for `hl mcp` and the Python client, like https://data.example.com/hl. "
        "Unset: 127.0.0.1 with HL_API_PORT.",
    )
    api_key: SecretStr | None = Field(
        default=None, description="Key that `hl mcp` and the Python client send to the REST API. Unset: none."
    )

    @field_validator("database_url", "dagster_database_url", "api_database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return value

    @field_validator("path_prefix")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        return check_path_prefix(value)

    @field_validator("alert_urls")
    @classmethod
    def _can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            split_alert_urls(value)
            # Only looks for the package: importing it takes 0.3 s.
            if find_spec("apprise") is None:
                raise ValueError("needs the extra `alerts`: pip install 'hl-pipeline[alerts]', or uv sync --extra alerts")
        return value

    @field_validator("broker_url")
    @classmethod
    def _is_a_broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("must begin with redis:// or rediss://")
        return value

    @field_validator("launcher")
    @classmethod
    def _can_launch(cls, value: str, others: ValidationInfo) -> str:
        if value == "celery":
            if others.data.get("broker_url") is None:
                raise ValueError("celery needs HL_BROKER_URL, like redis://host:6379/0")
            if find_spec("dagster_celery") is None:
                raise ValueError("celery needs the extra `celery`: pip install 'hl-pipeline[celery]', or uv sync --extra celery")
        return value

    @field_validator("ui_url", "api_url")
    @classmethod
    def _is_a_web_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value and value.rstrip("/")

    @field_validator("reconcile_cron", "compact_cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError("must be a cron schedule (minute, hour, day, month, weekday), like 30 2 * * *")
        return value

    @field_validator("lake_url")
    @classmethod
    def _is_a_known_store(cls, value: str | None) -> str | None:
        """Refuse other stores: gs://bucket would become a directory called `gs:`."""
        if value is not None and "://" in value and not value.startswith("s3://"):
            raise ValueError("must be a directory or s3://bucket/prefix")
        return value

    @field_validator("lake_url", "node_data_url", "twap_data_url")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        """Make a directory absolute, so that it stays valid in a process with another working directory."""
        return value if value is None or value == NONE or value.startswith("s3://") else str(Path(value).absolute())

    @field_validator("backfill_from", "backfill_to")
    @classmethod
    def _is_in_utc(cls, value: datetime) -> datetime:
        """Treat a time without a zone as UTC."""
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @field_validator("backfill_to")
    @classmethod
    def _is_after_its_beginning(cls, value: datetime, others: ValidationInfo) -> datetime:
        start = others.data.get("backfill_from")
        if start is not None and value <= start:
            raise ValueError(f"must be after HL_BACKFILL_FROM, which is {start}")
        return value

    @property
    def address_of_ui(self) -> str:
        """Where a link to the Dagster UI leads, without a slash at the end."""
        return self.ui_url or f"http://127.0.0.1:{self.port}{self.path_prefix}"

    @property
    def address_of_api(self) -> str:
        """Where `hl mcp` finds the REST API, without a slash at the end."""
        return self.api_url or f"http://127.0.0.1:{self.api_port}{self.api_path_prefix}"

    @property
    def lake(self) -> str:
        return self.lake_url or str(self.home.absolute() / "lake")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if RESOLVED in os.environ:
            return init_settings, env_settings
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls, Path("hl.toml"))


class DemoSettings(Settings):
    """The settings of `hl demo`: a separate home and data. They ignore all variables and files."""

    home: Path = Path(".hl-demo")
    # The sample has two whole days and only the edges of the adjacent days, so there is nothing to look for.
    sensors: bool = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def split_alert_urls(value: SecretStr) -> list[str]:
    """Return the URLs of HL_ALERT_URLS. Raises ValueError, which names a wrong one by its position and never shows it."""
    # A comma within a URL, such as in ?to=a@x,b@x, separates nothing.
    urls = [url for url in re.split(r"[\s,]+(?=[a-z][a-z0-9]*://)|[\s,]+$", value.get_secret_value().strip(" ,")) if url]
    for position, url in enumerate(urls, 1):
        if not re.match(r"[a-z][a-z0-9]*://\S+$", url):
            raise ValueError(f"URL {position} must be an Apprise URL, like json://host/path or mailto://user:password@host")
    return urls


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def reveal(value: object) -> str:
    """Return a setting's value as text for its variable, secrets included."""
    if value is None:
        return ""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def as_environment(settings: Settings) -> dict[str, str]:
    """Return all settings as variables, for a child process that must use exactly these."""
    resolved = {variable(name): reveal(getattr(settings, name)) for name in Settings.model_fields}
    return {**resolved, variable("home"): str(settings.home.absolute()), RESOLVED: "1"}
