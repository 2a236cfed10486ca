"""Records shared between layers: objects of a bucket, files of the lake, pages of the info API. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from hl_pipeline.domain.datasets import API_FILLS, TWAP_STATUSES
from hl_pipeline.domain.object_keys import hour_in_name

if TYPE_CHECKING:
    import polars as pl

    from hl_pipeline.formats.fills import BadLine

ObjectVersion = tuple[str, str, int]
"""The version of an object as it was read: key, ETag, parser version."""


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """Metadata of a source object in the lake. Block times in ns, fill times in ms, since 1970 UTC."""

    key: str
    etag: str
    size: int
    source: str
    object_date: str
    hour: int
    parser: int
    rows: int
    lines: int
    bad_lines: int
    blocks: int
    repeated_blocks: int
    first_block: int | None
    last_block: int | None
    first_block_time_ns: int | None
    last_block_time_ns: int | None
    missing_blocks: list[tuple[int, int]]
    first_time_ms: int | None
    last_time_ms: int | None
    fetched_at: str

    @property
    def dataset(self) -> str:
        return self.source

    @property
    def missing_block_count(self) -> int:
        return sum(last - first + 1 for first, last in self.missing_blocks)


@dataclass(frozen=True, slots=True)
class HourOfFills:
    """Metadata of an hour of fills in the lake: an `id` that is unique for ever, and its source objects."""

    id: str
    objects: frozenset[ObjectVersion]


def version_of(meta: ObjectMeta | ApiShard) -> ObjectVersion:
    """Return key, ETag and parser version. Objects with the same version have the same rows."""
    return meta.key, meta.etag, meta.parser


@dataclass(frozen=True, slots=True)
class ApiShard:
    """Metadata of a shard's fills of a day in the lake. `etag` is a digest of its rows."""

    key: str
    etag: str
    shard: str
    date: str
    parser: int
    rows: int
    wallets: int
    first_time_ms: int
    last_time_ms: int
    fetched_at: str

    @property
    def dataset(self) -> str:
        return API_FILLS


@dataclass(frozen=True, slots=True)
class StatusObject:
    """Metadata of an object of statuses in the lake. `unit_ns`: the coarsest unit that its times are multiples of."""

    key: str
    etag: str
    size: int
    object_date: str
    hour: int | None
    parser: int
    rows: int
    lines: int
    bad_lines: int
    notes: list[str]
    unit_ns: int
    first_time_ns: int | None
    last_time_ns: int | None
    fetched_at: str

    @property
    def dataset(self) -> str:
        return TWAP_STATUSES.name


StoredObject = ObjectMeta | StatusObject
"""A source object in the lake, of any dataset."""


@dataclass(frozen=True, slots=True)
class SourceObject:
    """A listed object of a bucket. `size` in bytes, `modified` in UTC."""

    key: str
    etag: str
    size: int
    modified: datetime

    @property
    def codec(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def is_parquet(self) -> bool:
        return self.key.lower().endswith(".parquet")

    @property
    def hour(self) -> int | None:
        """The hour, if an object of lines is named by one."""
        return hour_in_name(self.key)


@dataclass(frozen=True, slots=True)
class IgnoredObject:
    """An ignored object of a bucket, with the reason."""

    key: str
    reason: str


HistoryKind = Literal["fills", "twap_slices"]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """The new items of a page: `fills` (FILL_SCHEMA, in API order; `line` counts the items of all pages) and `bad` items.
    `next_ms`: where the next page starts, None after the last one.

    `crowded_ms`: a millisecond that filled a whole page. If it had more fills, they cannot be fetched.
    """

    fills: pl.DataFrame
    bad: list[BadLine]
    next_ms: int | None
    crowded_ms: int | None
    requests: int
    weight: int


@dataclass(frozen=True, slots=True)
class WalletVerdict:
    """Whether a wallet is complete in the window and, if not, why. `oldest_ms`: its oldest fetched fill."""

    state: Literal["complete", "truncated"]
    fills: int
    oldest_ms: int | None
    reason: str | None
