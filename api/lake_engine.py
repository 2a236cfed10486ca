"""Reads fills from the lake's Parquet files with DuckDB. Which files those are is not decided here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.database import read_sql
from api.lake_files import (
    DayInLake,
    LakeChangedError,
    LakeCorruptError,
    LakeMemoryError,
    LakeRefusedError,
    LakeSlowError,
    LakeUnreadableError,
    check_hours,
)

if TYPE_CHECKING:
    import duckdb

    from api.lake_s3 import S3Lake

_DECIMALS = (
    "px",
    "sz",
    "start_position",
    "closed_pnl",
    "fee",
    "builder_fee",
    "deployer_fee",
    "priority_gas",
    "liquidation_mark_px",
)
# Ten decimals, of which the last ones are often zeros.
_QUERY = read_sql("lake_fills").decode()
_OF_HOURS = read_sql("lake_fills_by_hour").decode().rstrip().removesuffix(")")
# Every compacted file has every column. To plan for files that may lack some takes longer than to read a day.
_AT_REST = "fills AS (\n    SELECT * FROM read_parquet($files, hive_partitioning = false)\n"
for _name in _DECIMALS:
    _QUERY = _QUERY.replace(f"{{{_name}}}", f"rtrim(rtrim({_name}::VARCHAR, '0'), '.') AS {_name}")
_FILTERS = ("wallet", "coin", "twap_id")
_PROTOCOL = "hl-lake"
_ROWS = "SELECT file_name, num_rows FROM parquet_file_metadata($files)"
_WHOLE = "SELECT bit_xor(hash(file)) FROM read_parquet($files, hive_partitioning = false) AS file"
_METADATA = "SELECT file_name, value FROM parquet_kv_metadata($files) WHERE key = 'hl'::BLOB"
# Sorts that do not fit into memory continue on disk.
_SPILL_SHARE = 16


class LakeEngine:
    """A DuckDB in this process that reads the lake at `url`: a directory or s3://bucket/prefix. Nothing happens before `open`."""

    def __init__(self, url: str, memory_mb: int, threads: int, s3_timeout_seconds: float = 5) -> None:
        self.url, self._memory_mb, self._threads, self._s3_timeout_seconds = url, memory_mb, threads, s3_timeout_seconds
        self._database: duckdb.DuckDBPyConnection | None = None
        self._spill: tempfile.TemporaryDirectory[str] | None = None
        self._root = url.rstrip("/")
        self._s3: S3Lake | None = None

    def open(self) -> None:
        """Start DuckDB, unless it runs. Raises LakeUnreadableError if the lake is not there."""
        if not self.url.startswith("s3://") and not Path(self.url).is_dir():
            raise LakeUnreadableError(f"{self.url} is not a directory")
        if self._database is not None:
            return
        # Imported here: most processes never read the lake.
        import duckdb

        self._spill = tempfile.TemporaryDirectory(prefix="hl-api-lake-")
        database = duckdb.connect(
            config={
                "threads": self._threads,
                "memory_limit": f"{self._memory_mb}MB",
                "temp_directory": self._spill.name,
                "max_temp_directory_size": f"{self._memory_mb * _SPILL_SHARE}MB",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        database.execute("SET enable_progress_bar = false; SET enable_external_file_cache = false")
        # A file's footer is kept until the file changes.
        database.execute("SET parquet_metadata_cache = true")
        if self.url.startswith("s3://"):
            from api.lake_s3 import S3Lake

            self._s3 = S3Lake(self.url, _PROTOCOL, self._s3_timeout_seconds)
            database.register_filesystem(self._s3)
            self._root = f"{_PROTOCOL}://{self.url.removeprefix('s3://').rstrip('/')}"
        database.execute("SET lock_configuration = true")
        self._database = database

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection for one thread."""
        assert self._database is not None
        return self._database.cursor()

    def close(self) -> None:
        """Stop DuckDB and remove its files."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._spill is not None:
            self._spill.cleanup()

    def read(
        self, cursor: duckdb.DuckDBPyConnection, days: Sequence[DayInLake], values: dict[str, Any], limit: int | None, batch: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield batches of rows in the order and form of api/sql/fills.sql; as tuples.

        `values`: as in fills.sql.

        Raises LakeSlowError, LakeMemoryError, LakeRefusedError, LakeCorruptError, and LakeChangedError if the files are not those
        of the ledger, before or after the rows were read.
        """
        import duckdb

        start, end = values["start"], values["end"]
        files = [path for day in days for path in day.files(start, end)]
        if not files:
            return
        wanted = {name: values[name] for name in _FILTERS if values[name] is not None}
        filters = "".join(f" AND {name} = ${name}" for name in wanted)
        parameters = {"files": self._urls(files), "start": start, "end": end, "given": values["given"], **wanted}
        # DuckDB needs a number here.
        parameters["limit"] = 2**62 if limit is None else limit
        source = _AT_REST if all(day.compacted for day in days) else _OF_HOURS
        query = _QUERY.replace("{source}", source).replace("{filters}", filters)
        try:
            before = self._check(cursor, days, start, end)
            cursor.execute(query, parameters)
            while rows := cursor.fetchmany(batch):
                yield rows
            if before != self._check(cursor, days, start, end):
                raise LakeChangedError(f"an hour of {days[0].date} to {days[-1].date} was replaced while it was read")
        except duckdb.InterruptException as error:
            raise LakeSlowError from error
        except duckdb.OutOfMemoryException as error:
            raise LakeMemoryError from error
        except (duckdb.Error, OSError) as error:
            # A file that vanished, was replaced between two reads of its parts, cannot be fetched, or is damaged.
            raise self._explain(cursor, query, parameters, files, error) from error

    def _explain(
        self,
        cursor: duckdb.DuckDBPyConnection,
        query: str,
        parameters: dict[str, Any],
        files: Sequence[str],
        error: Exception,
    ) -> Exception:
        """Return the error of a query that says what happened, and to which file."""
        import duckdb

        if self._s3 is not None and (failure := self._s3.failure_of(self._urls(files))) is not None:
            return _explain_s3(*failure)
        # Where the error does not name a file, read one after the other.
        for path in files:
            [url] = self._urls([path])
            try:
                cursor.execute(query, {**parameters, "files": [url]}).fetchall()
            except duckdb.InterruptException as interrupt:
                slow = LakeSlowError()
                slow.__cause__ = interrupt
                return slow
            except (duckdb.Error, OSError) as found:
                return self._explain_file(cursor, path, url, found)
        return LakeChangedError(f"a file was replaced while it was read: {_one_line(error)}")

    def _explain_file(self, cursor: duckdb.DuckDBPyConnection, path: str, url: str, error: Exception) -> Exception:
        if self._s3 is not None and (failure := self._s3.failure_of([url])) is not None:
            return _explain_s3(*failure)
        if self._s3 is None:
            try:
                Path(url).open("rb").close()
            except FileNotFoundError:
                return LakeChangedError(f"{path} is not there; `hl lake verify` says whether it is lost")
            except OSError as refused:
                return LakeRefusedError(f"{url} cannot be read: {refused.strerror}")
        # A file that can be read whole is not damaged: DuckDB refuses the query.
        return error if _is_readable(cursor, url) else LakeCorruptError(path, _one_line(error))

    def _check(
        self, cursor: duckdb.DuckDBPyConnection, days: Sequence[DayInLake], start: datetime, end: datetime
    ) -> dict[str, bytes]:
        """Compare files of hours with the ledger. Returns their metadata, which differ for each version of a file.

        Compacted files never change.
        """
        found: dict[str, bytes] = {}
        for day in days:
            if day.compacted:
                continue
            files = self._urls(day.files(start, end))
            if self._s3 is not None:
                self._s3.renew(files)
            rows = {self._path(name): count for name, count in cursor.execute(_ROWS, {"files": files}).fetchall()}
            metadata = {self._path(name): value for name, value in cursor.execute(_METADATA, {"files": files}).fetchall()}
            check_hours(day, rows, metadata)
            found |= metadata
        return found

    def _urls(self, paths: Sequence[str]) -> list[str]:
        return [f"{self._root}/{path}" for path in paths]

    def _path(self, name: str) -> str:
        return name.removeprefix(f"{self._root}/")


def _is_readable(cursor: duckdb.DuckDBPyConnection, url: str) -> bool:
    """Read a whole file. Raises LakeSlowError and LakeMemoryError, which say nothing about the file."""
    import duckdb

    try:
        cursor.execute(_WHOLE, {"files": [url]}).fetchall()
    except duckdb.InterruptException as error:
        raise LakeSlowError from error
    except duckdb.OutOfMemoryException as error:
        raise LakeMemoryError from error
    except (duckdb.Error, OSError):
        return False
    return True


def _explain_s3(url: str, answer: OSError) -> Exception:
    if isinstance(answer, FileNotFoundError):
        return LakeChangedError(f"{url} is not there; `hl lake verify` says whether it is lost")
    return LakeRefusedError(f"{url} cannot be read: {_one_line(answer)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
