"""Every setting: its HL_* variable, type, default, unit and meaning. From, in this order: the command line, the environment,
`.env`, `hl.toml` (both in the working directory). Nothing here opens or checks what a setting names.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from api.settings import ApiOptions, check_path_prefix

PREFIX = "HL_"
# Set for the children of `hl`, which hands them every setting: no file is read again, so a demo's never meet a real one's.
RESOLVED = "HL_SETTINGS_RESOLVED"
NONE = "none"
"""The value of HL_TWAP_DATA_URL with which no statuses are looked for."""


class Settings(ApiOptions, BaseSettings):
    """All settings of one process, checked."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        # A traceback would show a password.
        hide_input_in_errors=True,
    )

    home: Path = Field(
        default=Path(".hl"),
        description="Directory of this installation: the embedded PostgreSQL, Dagster's files, the log, by default the lake.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL (16 or newer) for the data: postgresql://user:password@host:5432/hl. Unset: the embedded one.",
    )
    dagster_database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL for Dagster's runs and events. Unset: database NAME_dagster on the same server as the data.",
    )
    lake_url: str | None = Field(
        default=None, description="The Parquet lake: a directory, or s3://bucket/prefix. Unset: HL_HOME/lake."
    )
    node_data_url: str = Field(
        default="s3://hl-mainnet-node-data",
        description="Where fills come from: s3://bucket/prefix (the requester pays) or a directory of the same layout.",
    )
    node_data_region: str = Field(default="ap-northeast-1", description="AWS region of HL_NODE_DATA_URL.")
    node_data_requester_pays: bool = Field(
        default=True,
        description="Whether each request to HL_NODE_DATA_URL says that we pay; false for stores without that.",
    )
    twap_data_url: str = Field(
        default="s3://artemis-hyperliquid-data/raw/twap_statuses",
        description="Where TWAP statuses come from: s3://bucket/prefix (the requester pays), a directory, or none: do without.",
    )
    twap_data_region: str = Field(default="us-east-1", description="AWS region of HL_TWAP_DATA_URL.")
    twap_data_requester_pays: bool = Field(
        default=True,
        description="Whether each request to HL_TWAP_DATA_URL says that we pay; false for stores without that.",
    )
    twap_publish_lag_hours: float = Field(
        default=48.0,
        ge=0,
        le=1_000_000,
        description="Hours after the end of a day at which its missing TWAP statuses count as a hole, not as yet to come.",
    )
    node_data_price_per_gb: Decimal = Field(
        default=Decimal("0.114"),
        ge=0,
        description="USD for a GB (10^9 bytes) out of HL_NODE_DATA_URL; 0 within its region.",
    )
    twap_data_price_per_gb: Decimal = Field(
        default=Decimal("0.09"),
        ge=0,
        description="USD for a GB (10^9 bytes) out of HL_TWAP_DATA_URL; 0 within its region.",
    )
    s3_price_per_1000_lists: Decimal = Field(
        default=Decimal("0.0047"), ge=0, description="USD for 1,000 LIST requests, each a page of up to 1,000 objects."
    )
    s3_price_per_1000_gets: Decimal = Field(default=Decimal("0.00037"), ge=0, description="USD for 1,000 GET requests.")
    s3_budget_usd: Decimal | None = Field(
        default=None,
        ge=0,
        description="USD that all runs may spend on S3 a UTC month: a request that would go over is not made. Unset: none.",
    )
    s3_attempts: int = Field(
        default=6, ge=1, le=100, description="How often a request to S3 is tried that fails in passing, the first time included."
    )
    s3_backoff_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Longest wait before the second attempt, in seconds; doubles with each to 30. A random part of it is waited.",
    )
    s3_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds without a byte from S3 after which an attempt is given up."
    )
    info_url: str = Field(
        default="https://api.hyperliquid.xyz/info",
        description="Hyperliquid's info API: fills and TWAPs from before the buckets; none: it is never asked.",
    )
    info_weight_per_minute: int = Field(
        default=1200,
        ge=120,
        le=1_000_000,
        description="Weight that all calls to the info API from one address may have in a minute: a full page has 120.",
    )
    egress: str = Field(
        default="default",
        min_length=1,
        max_length=100,
        description="Name of the IP address from which this machine calls the info API: those of one name share its weight.",
    )
    info_attempts: int = Field(
        default=10,
        ge=1,
        le=100,
        description="How often a call to the info API is tried that fails in passing, the first included.",
    )
    info_backoff_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Longest wait before the second attempt, in seconds; doubles with each to 60. A random part of it is waited.",
    )
    info_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds in which an answer of the info API must have come as a whole."
    )
    backfill_from: datetime = Field(
        default=datetime(2023, 2, 26, tzinfo=UTC),
        description="From when on the info API is asked for fills, in UTC: 2023-02-26T00:00:00Z.",
    )
    backfill_to: datetime = Field(
        default=datetime(2025, 5, 26, tzinfo=UTC),
        description="Up to when, itself not included. The buckets have every fill from 2025-05-25T14:00:00Z on.",
    )
    s3_objects_at_once: int = Field(
        default=4, ge=1, le=64, description="Objects downloaded side by side; those that came are decoded meanwhile, two at once."
    )
    s3_megabytes_per_second: float | None = Field(
        default=None,
        ge=0.1,
        description="MB (10^6 bytes) a second of the link that the downloads of one asset may take together. Unset: no bound.",
    )
    publish_lag_hours: float = Field(
        default=3.0,
        ge=0,
        le=1_000_000,
        description="Hours after the end of an hour at which its missing object counts as a hole, not as yet to come.",
    )
    max_lag_hours: float = Field(
        default=4.0,
        gt=0,
        le=1_000_000,
        description="Hours that the newest loaded hour of fills may lie back before the check `fresh` fails.",
    )
    reconcile_cron: str = Field(
        default="30 2 * * *",
        description="When (cron, UTC) everything is listed and compared, and failed days are asked for again.",
    )
    sensors: bool = Field(
        default=True,
        description="Whether sensors and the nightly look are on until they are switched in the UI; on S3 only with a budget.",
    )
    sensor_seconds: int = Field(
        default=300, ge=5, le=86_400, description="Seconds between two looks of the sensors for new objects in the buckets."
    )
    bad_lines_max_share: float = Field(
        default=0.0001,
        ge=0,
        le=1,
        description="Share of an object's lines that may be quarantined before a check fails as an error.",
    )
    decode_threads: int = Field(
        default=2, ge=1, le=64, description="Threads that decode each of the two objects in work; each needs about 150 MB."
    )
    swap_wait_seconds: int = Field(
        default=900,
        ge=1,
        description="How long a reload of a day waits, in tries of half a second, for queries that are reading hl.fills.",
    )
    fills_keep_days: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="How many days back from today hl.fills keeps; older ones stay in the lake, and statistics stay. Unset: all.",
    )
    disk_reserve_gb: float = Field(
        default=1.0,
        ge=0,
        description="GB that stay free on the disks of lake and embedded PostgreSQL: a day that needs them fails.",
    )
    runs_at_once: int = Field(
        default=2, ge=1, le=1000, description="Runs in work side by side, the others wait; each needs 0.5 to 1.4 GB."
    )
    runs_keep_days: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Days after which an ended run loses the lines of its log; what it made and checked stays. Unset: never.",
    )
    port: int = Field(default=3000, ge=1, le=65535, description="Port of the Dagster UI that `hl up` starts, on 127.0.0.1.")

    path_prefix: str = Field(
        default="", description="Path before all paths of the Dagster UI, behind a proxy that leaves it: /dagster."
    )
    api_port: int = Field(
        default=8000, ge=1, le=65535, description="Port of the REST API that `hl up` and `hl api` start, on 127.0.0.1."
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

    @field_validator("reconcile_cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError("must be minute, hour, day, month, weekday, like 30 2 * * *")
        return value

    @field_validator("lake_url")
    @classmethod
    def _is_a_known_store(cls, value: str | None) -> str | None:
        """gs://bucket would become a directory called `gs:`."""
        if value is not None and "://" in value and not value.startswith("s3://"):
            raise ValueError("must be a directory or s3://bucket/prefix")
        return value

    @field_validator("lake_url", "node_data_url", "twap_data_url")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        """A directory keeps its meaning in a process that works elsewhere."""
        return value if value is None or value == NONE or value.startswith("s3://") else str(Path(value).absolute())

    @field_validator("backfill_from", "backfill_to")
    @classmethod
    def _is_in_utc(cls, value: datetime) -> datetime:
        """A time without a zone is in UTC."""
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @field_validator("backfill_to")
    @classmethod
    def _is_after_its_beginning(cls, value: datetime, others: ValidationInfo) -> datetime:
        start = others.data.get("backfill_from")
        if start is not None and value <= start:
            raise ValueError(f"must be after HL_BACKFILL_FROM, which is {start}")
        return value

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
    """The settings of `hl demo`: a home and data of its own, deaf to every variable and file."""

    home: Path = Path(".hl-demo")
    # Nothing comes after the sample's two days; of the days beside them it has the edges alone, which are no whole days.
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


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def reveal(value: object) -> str:
    """A setting's value as its variable would have it."""
    if value is None:
        return ""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def as_environment(settings: Settings) -> dict[str, str]:
    """Every setting as its variable, for a child process that is to have just these."""
    resolved = {variable(name): reveal(getattr(settings, name)) for name in Settings.model_fields}
    return {**resolved, variable("home"): str(settings.home.absolute()), RESOLVED: "1"}
