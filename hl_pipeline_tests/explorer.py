"""The sample behind the explorer's pages, and the paths of one page of each kind. Not a test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.processes import program, run, users_environment

FIRST, LAST = date(2025, 11, 1), date(2025, 11, 2)
MISSING_HOUR = 13
"""Of LAST."""
# An ordinary TWAP whose slices all lie on a whole day, and the coin of it.
_CHOSEN = """
    SELECT twap_id, wallet, coin, begins_at::date::text FROM hl.twaps
    WHERE verdict = 'match' AND ended_at < '2025-11-02' AND begins_at >= '2025-11-01' AND slippage_arrival_bps IS NOT NULL
      AND slices < 200
    ORDER BY slices DESC, twap_id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Twap:
    """A TWAP of the sample, and the day on which it began."""

    twap_id: int
    wallet: str
    coin: str
    day: str


def load_sample(directory: Path, url: str) -> None:
    """Ingest two days, of which the second lacks an hour, into the database at `url`."""
    sample = write_sample(directory / "sample", first_day=FIRST, days=2, fills_per_hour=800)
    (sample.node_data_dir / f"node_fills_by_block/hourly/{LAST:%Y%m%d}/{MISSING_HOUR}.lz4").unlink()
    settings = {"HL_HOME": str(directory / "home"), "HL_DATABASE_URL": url, "HL_TWAP_DATA_URL": str(sample.twap_data_dir)}
    environment = users_environment(HL_SETTINGS_RESOLVED="1", HL_NODE_DATA_URL=str(sample.node_data_dir), **settings)
    done = run([program("hl"), "ingest", "--from", str(FIRST), "--to", str(LAST)], environment, directory, 300)
    assert done.returncode == 3, done.stdout


def choose_twap(url: str) -> Twap:
    """Return the TWAP whose pages are opened."""
    with connect(url, "test") as connection:
        row = connection.execute(_CHOSEN).fetchone()
    assert row is not None
    return Twap(*row)


def page_paths(twap: Twap) -> dict[str, str]:
    """Return the path of a page of each kind, by name."""
    return {
        "home": "/",
        "wallet": f"/wallet/{twap.wallet}",
        "twap": f"/twap/{twap.twap_id}",
        "coin": f"/coin/{quote(twap.coin, safe='')}?day={twap.day}",
        "leaderboards": "/leaderboards?board=pnl",
        "coverage": "/coverage",
        "coverage-day": f"/coverage?day={LAST}",
    }
