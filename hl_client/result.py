"""What the client returns: rows with their coverage, or one object with its coverage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from hl_client.columns import Row
from hl_client.coverage import Coverage, worst
from hl_client.frames import check_installed, make_arrow, make_pandas, make_polars

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, slots=True, repr=False)
class Result(Sequence[Row]):
    """Rows in the order of the API, and what is known to be missing among them.

    A row is a dict with Decimal, datetime, date and int values. None means unknown, never 0.
    """

    kind: str
    """The kind of the rows: a key of `hl_client.columns.KINDS`."""
    rows: list[Row]
    coverage: Coverage
    has_more: bool = False
    """Whether `limit` cut the rows, or more pages follow."""
    info_api: Mapping[str, Any] | None = None
    """How far the info API was asked for the wallet, if the range reaches into its window. See docs/rest/fills.md."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The other fields of the answer, such as the range that a period stands for."""

    @property
    def is_complete(self) -> bool:
        """Whether no data of the range is known to be missing. If False, a sum is a lower bound and an empty list no proof."""
        return self.coverage.is_complete

    @property
    def missing(self) -> Coverage:
        """The days on which data is missing."""
        return Coverage(self.coverage.missing)

    def to_polars(self) -> pl.DataFrame:
        """Return a polars frame with exact decimals."""
        check_installed("polars", "to_polars()")
        return make_polars(self.kind, self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas frame. Decimals are Decimal objects. `attrs["coverage"]` has the coverage."""
        check_installed("pandas", "to_pandas()")
        return make_pandas(self.kind, self.rows, self._notes())

    def to_arrow(self) -> pa.Table:
        """Return an Arrow table with exact decimals. The metadata of its schema has the coverage."""
        check_installed("pyarrow", "to_arrow()")
        return make_arrow(self.kind, self.rows, self._notes())

    def _notes(self) -> dict[str, Any]:
        # As in the API's Parquet files.
        notes: dict[str, Any] = {"coverage": self.coverage.as_json()}
        return notes if self.info_api is None else {**notes, "info_api": dict(self.info_api)}

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        """Return the number of rows and the coverage: an empty list does not look like "nothing happened"."""
        return f"<{len(self.rows)} {self.kind}{', more follow' if self.has_more else ''}; {describe(self.coverage)}>"


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Mapping[str, Any]):
    """One object, such as a TWAP or the summary of a wallet, and what is known to be missing."""

    fields: Row
    coverage: Coverage | None
    """None: the question has no range that could be incomplete."""
    info_api: Mapping[str, Any] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether no data is known to be missing."""
        return self.coverage is None or self.coverage.is_complete

    @property
    def missing(self) -> Coverage:
        """The days on which data is missing."""
        return Coverage(() if self.coverage is None else self.coverage.missing)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def __len__(self) -> int:
        return len(self.fields)

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __repr__(self) -> str:
        """Return the values and the coverage."""
        return f"<{self.fields}; {describe(self.coverage)}>"


def describe(coverage: Coverage | None) -> str:
    """Return in words whether something is missing."""
    if coverage is None:
        return "without a range"
    return str(coverage) if coverage.is_complete else f"INCOMPLETE: {coverage}"


def join(pages: Sequence[Result]) -> Result:
    """Return the rows of all pages. A day counts as complete only if every page says so."""
    last = pages[-1]
    if len(pages) == 1:
        return last
    rows = [row for page in pages for row in page.rows]
    return Result(last.kind, rows, worst(page.coverage for page in pages), last.has_more, last.info_api, pages[0].facts)
