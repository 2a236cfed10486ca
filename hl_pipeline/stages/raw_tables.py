"""Maps each dataset to its format and to the table of the lake that holds its objects, one file per object.

`domain.datasets` has the datasets' names, places and hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import BinaryIO, Generic, TypeVar

from hl_pipeline.domain.datasets import BY_NAME, BucketName, Dataset, RawTable, datasets_of
from hl_pipeline.domain.object_keys import Place
from hl_pipeline.domain.records import ObjectMeta, StatusObject, StoredObject
from hl_pipeline.formats import by_block, node_fills, node_trades, twap_statuses
from hl_pipeline.formats.decoding import DecodeChunk, Decoded, decode
from hl_pipeline.formats.framing import decompress, whole_lines
from hl_pipeline.formats.twap_statuses import DecodedStatuses
from hl_pipeline.lake.fills import list_raw_objects, raw_path, write_raw_object
from hl_pipeline.lake.store import Lake, find_meta
from hl_pipeline.lake.twaps import list_status_objects, status_object_path, write_status_object

Meta = TypeVar("Meta", ObjectMeta, StatusObject)
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Format(Generic[Part]):
    """The format of a dataset. `decode` takes the bytes of an object, their codec (lz4, gz, parquet, otherwise plain) and the
    number of threads. `parser`: the version of its output.
    """

    parser: int
    decode: Callable[[BinaryIO, str, int], Iterator[Part]]


@dataclass(frozen=True, slots=True)
class ObjectBytes:
    """The contents of an object: a stream of `size` bytes, compressed with `codec`, and its ETag."""

    stream: BinaryIO
    codec: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class ObjectTable(Generic[Meta]):
    """A table of the lake that holds objects: its name, its datasets, the metadata of an object, the path of an object, the
    listing of a day, and how to decode (with a number of threads) and write an object.
    """

    name: RawTable
    meta: type[Meta]
    path: Callable[[Place], str]
    list_objects: Callable[[Lake, date], list[Meta]]
    write: Callable[[Lake, Place, ObjectBytes, int], Meta]

    @property
    def datasets(self) -> list[Dataset]:
        return datasets_of(self.name)

    @property
    def bucket(self) -> BucketName:
        """The bucket of all its datasets."""
        names: set[BucketName] = {dataset.bucket for dataset in self.datasets}
        [name] = names
        return name

    def find(self, lake: Lake, place: Place) -> Meta | None:
        """Return the object of that place in the lake, if any."""
        return find_meta(lake, self.path(place), self.meta)


def _lines(decode_chunk: DecodeChunk, parser: int) -> Format[Decoded]:
    def decode_lines(stream: BinaryIO, codec: str, threads: int) -> Iterator[Decoded]:
        return decode(whole_lines(decompress(stream, codec)), decode_chunk, threads)

    return Format(parser, decode_lines)


def _decode_statuses(stream: BinaryIO, codec: str, threads: int) -> Iterator[DecodedStatuses]:  # noqa: ARG001
    return twap_statuses.decode_statuses(stream, codec, is_parquet=codec.lower() == "parquet")


FILL_FORMATS = {
    "node_trades": _lines(node_trades.decode_chunk, node_trades.PARSER),
    "node_fills": _lines(node_fills.decode_chunk, node_fills.PARSER),
    "node_fills_by_block": _lines(by_block.decode_chunk, by_block.PARSER),
}
STATUS_FORMAT = Format(twap_statuses.PARSER, _decode_statuses)


def _path_of_fills(place: Place) -> str:
    assert place.hour is not None
    return raw_path(place.object_date, place.hour, place.dataset)


def _write_fills(lake: Lake, place: Place, content: ObjectBytes, threads: int) -> ObjectMeta:
    assert place.hour is not None
    form = FILL_FORMATS[place.dataset]
    return write_raw_object(
        lake,
        form.decode(content.stream, content.codec, threads),
        key=place.key,
        etag=content.etag,
        size=content.size,
        source=place.dataset,
        object_date=place.object_date,
        hour=place.hour,
        parser=form.parser,
    )


def _path_of_statuses(place: Place) -> str:
    return status_object_path(place.object_date, place.key)


def _write_statuses(lake: Lake, place: Place, content: ObjectBytes, threads: int) -> StatusObject:
    return write_status_object(
        lake,
        STATUS_FORMAT.decode(content.stream, content.codec, threads),
        key=place.key,
        etag=content.etag,
        size=content.size,
        object_date=place.object_date,
        hour=place.hour,
    )


RAW_FILLS = ObjectTable("raw_fills", ObjectMeta, _path_of_fills, list_raw_objects, _write_fills)
RAW_TWAP_STATUSES = ObjectTable("raw_twap_statuses", StatusObject, _path_of_statuses, list_status_objects, _write_statuses)

TABLES = (RAW_FILLS, RAW_TWAP_STATUSES)


def table_of(dataset: str) -> ObjectTable[ObjectMeta] | ObjectTable[StatusObject]:
    """Return the table that holds the objects of a dataset."""
    return next(table for table in TABLES if table.name == BY_NAME[dataset].raw_table)


def find_in_lake(lake: Lake, place: Place) -> StoredObject | None:
    """Return the object of that place in the lake, if any."""
    return table_of(place.dataset).find(lake, place)
