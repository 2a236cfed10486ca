"""Objects of TWAP statuses: the day of each object, whether a day is present, deduplicated events. Plain values in and out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hl_pipeline.domain.deduplicate_statuses import deduplicate_statuses
from hl_pipeline.domain.object_keys import day_in_key
from hl_pipeline.domain.records import StatusObject
from hl_pipeline.domain.status_completeness import find_strays, judge_status_day
from hl_pipeline.formats.twap_statuses import TWAP_STATUS_SCHEMA
from hl_pipeline.lake.twaps import status_object_path
from hl_pipeline.sources.buckets import Bucket, list_twap_objects, open_bucket
from hl_pipeline.sources.s3 import S3Bucket
from hl_pipeline_tests.servers.s3 import REGION, FreeMeter, S3Server

DAY = date(2025, 11, 3)
NOW = datetime(2025, 12, 1, tzinfo=UTC)
LAG = timedelta(hours=48)
NOON_NS = 1_762_171_200_000_000_000  # 2025-11-03T12:00:00Z
Row = dict[str, Any]


@pytest.mark.parametrize(
    ("key", "day"),
    [
        ("2025/11/03/part-0.parquet", DAY),
        ("date=2025-11-03/part-0.parquet", DAY),
        ("20251103.parquet", DAY),
        ("hourly/20251103/17", DAY),
        ("year=2025/month=11/day=3/x.parquet", DAY),
        ("twap_2025-11-03_full.parquet", DAY),
        # The day of the directory, not that of the moment of writing in the name.
        ("date=2025-11-03/run_20251104.parquet", DAY),
        # No day: a part's number, a month without its day, a 13th month.
        ("part-99999999.parquet", None),
        ("2025/11/part-0.parquet", None),
        ("2025/13/03/part-0.parquet", None),
        ("120251103/x.parquet", None),
    ],
)
def test_the_day_is_found_in_every_form_of_key(key: str, day: date | None) -> None:
    assert day_in_key(key) == day


@pytest.fixture
def lay_out(tmp_path: Path, s3: S3Server) -> Callable[[str, list[str]], Bucket]:
    def make(kind: str, keys: list[str]) -> Bucket:
        if kind == "directory":
            for key in keys:
                (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / key).write_bytes(key.encode())
            return open_bucket(str(tmp_path), lambda: pytest.fail("a directory needs no S3"))
        name = f"twaps-{abs(hash(tuple(keys)))}"
        s3.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        for key in keys:
            s3.client().put_object(Bucket=name, Key=f"raw/twap_statuses/{key}", Body=key.encode())
        return S3Bucket(f"s3://{name}/raw/twap_statuses", s3.client(), FreeMeter())

    return make


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_objects_of_every_layout_are_found_by_their_day_and_junk_is_none(
    kind: str, lay_out: Callable[[str, list[str]], Bucket]
) -> None:
    good = ["2025/11/03/a.parquet", "date=2025-11-04/b.snappy.parquet", "hourly/20251103/0", "hourly/20251103/1.lz4"]
    more = ["hourly/20251103/10.jsonl", "x/y/20251104/c.jsonl.gz"]
    junk = ["2025/11/03/._a.parquet", "2025/11/03/_SUCCESS", "2025/11/03/readme.txt", "hourly/20251103/24", "no-day.parquet"]

    found = list_twap_objects(lay_out(kind, good + more + junk))

    assert {day: [item.key for item in items] for day, items in found.items()} == {
        DAY: ["2025/11/03/a.parquet", "hourly/20251103/0", "hourly/20251103/1.lz4", "hourly/20251103/10.jsonl"],
        date(2025, 11, 4): ["date=2025-11-04/b.snappy.parquet", "x/y/20251104/c.jsonl.gz"],
    }
    assert [(item.hour, item.is_parquet) for item in found[DAY]] == [(None, True), (0, False), (1, False), (10, False)]


def test_objects_of_one_name_have_files_of_their_own() -> None:
    paths = {status_object_path(DAY, key) for key in ("date=2025-11-03/a.parquet", "2025/11/03/a.parquet", "20251103/a.jsonl")}
    assert len(paths) == 3
    assert all(path.startswith("raw_twap_statuses/object_date=2025-11-03/a-") for path in paths)


def _meta(key: str = "date=2025-11-03/a.parquet", **changed: object) -> StatusObject:
    values: dict[str, object] = {
        "key": key,
        "etag": "e",
        "size": 1,
        "object_date": "2025-11-03",
        "hour": None,
        "parser": 1,
        "rows": 7,
        "lines": 7,
        "bad_lines": 0,
        "notes": [],
        "unit_ns": 1,
        "first_time_ns": NOON_NS,
        "last_time_ns": NOON_NS,
        "fetched_at": "",
    }
    return StatusObject(**{**values, **changed})  # type: ignore[arg-type]


def test_a_day_with_an_object_is_there_and_unprovable() -> None:
    judged = judge_status_day(DAY, [_meta()], {}, NOW, LAG)
    assert (judged.state, judged.explanation) == ("unprovable", "1 objects with 7 rows; they cannot be proven complete.")


def test_a_day_without_an_object_is_pending_until_the_lag_and_then_incomplete() -> None:
    due = datetime(2025, 11, 6, tzinfo=UTC)
    before, after = (judge_status_day(DAY, [], {}, now, LAG) for now in (due - timedelta(seconds=1), due))
    assert before.state == "pending"
    assert "due at 2025-11-06 00:00 UTC" in before.explanation
    assert (after.state, after.explanation) == ("incomplete", "No object of statuses has this day in its key.")


def test_an_object_of_the_next_day_alone_is_not_one_of_the_day() -> None:
    next_day = _meta("date=2025-11-04/a.parquet", object_date="2025-11-04")
    assert judge_status_day(DAY, [next_day], {}, NOW, LAG).state == "incomplete"


def test_days_that_no_source_has_say_so() -> None:
    assert judge_status_day(date(2025, 8, 16), [], {}, NOW, LAG).state == "no source"
    assert "HL_TWAP_DATA_URL is none" in judge_status_day(DAY, [], {}, NOW, LAG, is_wanted=False).explanation
    # But what is there counts.
    assert judge_status_day(DAY, [_meta()], {}, NOW, LAG, is_wanted=False).state == "unprovable"


def test_with_hourly_objects_every_hour_and_the_first_of_the_next_day_are_wanted() -> None:
    hours = [_meta(f"hourly/20251103/{hour}.lz4", hour=hour) for hour in range(24)]
    first_of_next = _meta("hourly/20251104/0.lz4", hour=0, object_date="2025-11-04")
    assert judge_status_day(DAY, [*hours, first_of_next], {}, NOW, LAG).state == "unprovable"
    judged = judge_status_day(DAY, hours[:5] + hours[6:], {}, NOW, LAG)
    assert judged.state == "incomplete"
    assert judged.explanation == "2 of 25 hourly objects of statuses are missing: 2025-11-03 05 h, 2025-11-04 00 h."


def test_beside_an_object_of_the_day_hour_0_is_but_the_end_of_the_day_before() -> None:
    first = _meta("hourly/20251103/0.jsonl", hour=0)
    assert judge_status_day(DAY, [_meta(), first], {}, NOW, LAG).state == "unprovable"
    assert judge_status_day(DAY, [first], {}, NOW, LAG).state == "incomplete"
    second = _meta("hourly/20251103/1.jsonl", hour=1)
    assert judge_status_day(DAY, [_meta(), first, second], {}, NOW, LAG).state == "incomplete"


def test_an_object_that_could_not_be_had_makes_the_day_incomplete_by_name() -> None:
    judged = judge_status_day(DAY, [_meta()], {("date=2025-11-03/b.parquet", None): "truncated"}, NOW, LAG)
    assert judged.state == "incomplete"
    assert judged.explanation == "1 objects failed: date=2025-11-03/b.parquet: truncated."


def test_events_far_from_the_day_in_the_key_are_told() -> None:
    day_ns = 86_400 * 10**9
    near = _meta(first_time_ns=NOON_NS - day_ns, last_time_ns=NOON_NS + day_ns)
    far = _meta("date=2025-11-03/far.parquet", last_time_ns=NOON_NS + 2 * day_ns)
    assert find_strays([near]) == []
    [said] = find_strays([near, far])
    assert said.startswith("date=2025-11-03/far.parquet has events from 2025-11-03 to 2025-11-05")


def _event(time_ns: int, unit_ns: int = 1, *, key: str = "a", status: str = "activated", twap_id: int = 1, **more: object) -> Row:
    row: Row = dict.fromkeys(TWAP_STATUS_SCHEMA)
    row |= {"twap_id": twap_id, "time_ns": time_ns, "status": status, "wallet": "0x", "coin": "BTC", "side": "B"}
    row |= {"size_requested": Decimal(1), "line": 1, "raw": "{}", "object": key, "unit_ns": unit_ns}
    return row | more


def _once(*rows: Row) -> tuple[list[tuple[int, str]], int, int]:
    schema = {**TWAP_STATUS_SCHEMA, "object": pl.String, "unit_ns": pl.Int64}
    once = deduplicate_statuses(pl.DataFrame([*rows], schema=schema))
    kept = list(once.statuses.select("time_ns", "object").iter_rows())
    return kept, once.duplicates, once.conflicts


EXACT = NOON_NS + 123_456_789


@pytest.mark.parametrize(("unit_ns", "seen"), [(10**9, NOON_NS), (10**6, NOON_NS + 123_000_000), (10**3, NOON_NS + 123_456_000)])
def test_an_event_seen_in_a_coarser_unit_is_the_same_and_the_finest_stays(unit_ns: int, seen: int) -> None:
    coarse, fine = _event(seen, unit_ns, key="coarse"), _event(EXACT, key="fine")
    assert _once(coarse, fine) == _once(fine, coarse) == ([(EXACT, "fine")], 1, 0)


def test_events_of_three_units_are_one() -> None:
    rows = [_event(NOON_NS, 10**9, key="s"), _event(NOON_NS + 123_000_000, 10**6, key="ms"), _event(EXACT, key="ns")]
    assert _once(*rows) == ([(EXACT, "ns")], 2, 0)


def test_what_is_no_rounding_of_the_other_stays_another_event() -> None:
    # Another ms, another kind, another TWAP; and two moments of one second, each to the last digit.
    assert len(_once(_event(NOON_NS + 124_000_000, 10**6), _event(EXACT, key="b"))[0]) == 2
    assert len(_once(_event(NOON_NS, 10**9, status="finished"), _event(EXACT, key="b"))[0]) == 2
    assert len(_once(_event(NOON_NS, 10**9, twap_id=2), _event(EXACT, key="b"))[0]) == 2
    assert len(_once(_event(EXACT), _event(EXACT + 5, key="b"))[0]) == 2


def test_an_event_in_two_objects_is_kept_once_and_a_contradicting_one_is_counted() -> None:
    assert _once(_event(EXACT, key="b"), _event(EXACT, key="a")) == ([(EXACT, "a")], 1, 0)
    # Unknown is no contradiction.
    assert _once(_event(EXACT, key="a"), _event(EXACT, key="b", size_requested=None)) == ([(EXACT, "a")], 1, 0)
    assert _once(_event(EXACT, key="a"), _event(EXACT, key="b", size_requested=Decimal(2))) == ([(EXACT, "a")], 1, 1)
