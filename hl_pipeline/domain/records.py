"""The records that travel between layers: objects of a bucket, files of the lake, pages of the info API. No I/O."""

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
"""An object as it was read: its key, its ETag, the version of the parser."""


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What is known of a source object that is in the lake. Times of blocks in ns, of fills in ms, since 1970 UTC."""

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
    """What is known of an hour of fills in the lake: an `id` that no other file ever has, and the objects it was made of."""

    id: str
    objects: frozenset[ObjectVersion]


def version_of(meta: ObjectMeta | ApiShard) -> ObjectVersion:
    """Key, ETag and parser: an object whose version is the same gives the same rows."""
    return meta.key, meta.etag, meta.parser


@dataclass(frozen=True, slots=True)
class ApiShard:
    """What is known of a shard's fills of a day that are in the lake. `etag` is a digest of its rows."""

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
    """What is known of an object of statuses that is in the lake. `unit_ns`: the coarsest unit of which its times are whole."""

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
"""A source object that is in the lake, of whatever dataset."""


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One object of a bucket as it is listed: `size` in bytes, `modified` in UTC."""

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
        """The hour of an object of lines that is named by one."""
        return hour_in_name(self.key)


@dataclass(frozen=True, slots=True)
class IgnoredObject:
    """An object of a bucket that is not taken, and why in words."""

    key: str
    reason: str


HistoryKind = Literal["fills", "twap_slices"]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What an answer brought that was not there before: `fills` (FILL_SCHEMA, in the API's order; `line` counts items of the
    walk), and `bad` items. `next_ms` is from where the next page is asked for, None after the last one.

    `crowded_ms` is a millisecond of which a whole page came: were there more, they could not be had.
    """

    fills: pl.DataFrame
    bad: list[BadLine]
    next_ms: int | None
    crowded_ms: int | None
    requests: int
    weight: int


@dataclass(frozen=True, slots=True)
class WalletVerdict:
    """Whether everything of a wallet in the window came, and if not, why; `oldest_ms` is the oldest fill that did."""

    state: Literal["complete", "truncated"]
    fills: int
    oldest_ms: int | None
    reason: str | None
