"""hl.s3_requests: the ledger of spending. The cost of each request is reserved before it is sent, so concurrent or killed runs
never spend more than HL_S3_BUDGET_USD in a month. It is separate from the ledger of objects, because money is spent first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import psycopg

from hl_pipeline.domain.errors import BudgetError
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.locks import lock_money

_BYTES_OF_GB = 10**9

_RESERVE = """
INSERT INTO hl.s3_requests (bucket, method, key, bytes, dollars, error, run_id)
SELECT %(bucket)s, %(method)s, %(key)s, %(bytes)s, %(dollars)s::numeric, 'not finished', %(run_id)s
WHERE %(budget)s::numeric IS NULL
   OR %(budget)s::numeric >= %(dollars)s::numeric
      + (SELECT coalesce(sum(dollars), 0) FROM hl.s3_requests WHERE at >= date_trunc('month', now(), 'UTC'))
RETURNING id
"""

_FINISH = """
UPDATE hl.s3_requests
SET status = %s, bytes = %s, dollars = %s, error = %s, seconds = extract(epoch FROM clock_timestamp() - at)
WHERE id = %s
"""

_SPENT = """
SELECT count(*), coalesce(sum(dollars), 0), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'),
       to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY-MM-DD')
FROM hl.s3_requests WHERE at >= date_trunc('month', now(), 'UTC')
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """The spending of all runs this month in USD (`month` like 2026-03, UTC; `next_month`: the first day of the next)."""

    requests: int
    dollars: Decimal
    month: str
    next_month: str


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of a bucket in USD: per LIST, per GET, and per byte received."""

    per_list: Decimal
    per_get: Decimal
    per_byte: Decimal

    def of_request(self, method: str, size: int) -> Decimal:
        """Return the cost of one LIST or GET with this many bytes."""
        return (self.per_list if method == "LIST" else self.per_get) + size * self.per_byte

    def of_downloads(self, sizes: Iterable[int]) -> Decimal:
        """Return the cost of downloading objects of these sizes without retries."""
        return sum((self.of_request("GET", size) for size in sizes), Decimal(0))


def find_prices(url: str, price_per_gb: Decimal, settings: Settings) -> Prices:
    """Return the prices of the bucket at `url`; a directory is free."""
    return _prices_of_s3(price_per_gb, settings) if url.startswith("s3://") else Prices(Decimal(0), Decimal(0), Decimal(0))


def _prices_of_s3(price_per_gb: Decimal, settings: Settings) -> Prices:
    return Prices(settings.s3_price_per_1000_lists / 1000, settings.s3_price_per_1000_gets / 1000, price_per_gb / _BYTES_OF_GB)


def read_spent(connection: psycopg.Connection) -> Spent:
    """Return the spending of this month. Requests in progress count with their maximum cost."""
    row = connection.execute(_SPENT).fetchone()
    assert row is not None
    return Spent(*row)


class Spending:
    """The meter of one bucket in one run: writes each request to the ledger, and adds them up in `requests` and `dollars`."""

    def __init__(self, settings: Settings, price_per_gb: Decimal, run_id: str | None = None) -> None:
        self._url = find_database_url(settings)
        self._prices = _prices_of_s3(price_per_gb, settings)
        self._budget = settings.s3_budget_usd
        self._run_id = run_id
        self._under_way: dict[int, str] = {}
        self._lock = threading.Lock()
        self.requests = 0
        self.dollars = Decimal(0)

    def begin(self, method: str, bucket: str, key: str, expected_bytes: int) -> int:
        """Reserve the maximum cost of a request. Returns its number in the ledger. Raises BudgetError."""
        dollars = self._prices.of_request(method, expected_bytes)
        asked = {"bucket": bucket, "method": method, "key": key, "bytes": expected_bytes, "dollars": dollars}
        # A new connection each time: threads share this object, and a request takes far longer.
        with connect(self._url, "hl spending") as connection, lock_money(connection):
            row = connection.execute(_RESERVE, {**asked, "budget": self._budget, "run_id": self._run_id}).fetchone()
            if row is None:
                spent = read_spent(connection)
                raise BudgetError(
                    f"HL_S3_BUDGET_USD: ${spent.dollars:.6f} of ${self._budget} for {spent.month} (UTC) are spent, and {method} "
                    f"{key} ({expected_bytes / 1e6:,.1f} MB) can cost ${dollars:.6f}, so it was not sent. Fetched objects are in "
                    f"the lake. Raise HL_S3_BUDGET_USD, or wait for {spent.next_month}, and run again: it continues from here"
                )
        with self._lock:
            self._under_way[row[0]] = method
        return row[0]

    def end(self, request: int, status: int | None, received_bytes: int, error: str | None) -> None:
        """Record the result and the actual cost of a request."""
        with self._lock:
            dollars = self._prices.of_request(self._under_way.pop(request), received_bytes)
            self.requests += 1
            self.dollars += dollars
        with connect(self._url, "hl spending") as connection:
            connection.execute(_FINISH, [status, received_bytes, dollars, error, request])
