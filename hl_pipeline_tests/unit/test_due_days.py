"""Which days are due: examples worked out by hand, and a randomly changing bucket compared with what each day was loaded from."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.domain.due_days import Due, Taken, find_due_days
from hl_pipeline.domain.records import SourceObject

SOURCE = "node_fills_by_block"
DAY = date(2026, 3, 15)
BEFORE, AFTER = date(2026, 3, 14), date(2026, 3, 16)
NOON = datetime(2026, 3, 17, 12, tzinfo=UTC)


def _key(day: date, hour: int) -> str:
    return f"{SOURCE}/hourly/{day:%Y%m%d}/{hour}.lz4"


def _object(day: date, hour: int, etag: str = "a") -> SourceObject:
    return SourceObject(_key(day, hour), etag, 1000, NOON)


def _listed(*objects: tuple[date, int, str]) -> dict[str, dict[date, list[SourceObject]]]:
    days: dict[date, list[SourceObject]] = {}
    for day, hour, etag in objects:
        days.setdefault(day, []).append(_object(day, hour, etag))
    return {SOURCE: days}


def _taken(day: date, hour: int, etag: str | None = "a") -> tuple[str, Taken]:
    """An object whose rows begin a second before its hour, as an object's do, and end a second before the next."""
    begins = datetime(day.year, day.month, day.day, hour, tzinfo=UTC) - timedelta(seconds=1)
    return _key(day, hour), Taken(etag, begins, begins + timedelta(hours=1))


def _days(due: list[Due]) -> dict[date, str]:
    return {day.day: day.why for day in due}


def test_a_new_object_is_of_its_day_and_hour_0_of_the_day_before_too() -> None:
    listed = _listed((DAY, 0, "a"))
    assert _days(find_due_days([BEFORE, DAY, AFTER], listed, {}, {})) == {BEFORE: "objects: 1 new", DAY: "objects: 1 new"}
    assert _days(find_due_days([BEFORE, DAY, AFTER], _listed((DAY, 1, "a")), {}, {})) == {DAY: "objects: 1 new"}


def test_nothing_is_due_once_the_days_have_their_objects() -> None:
    taken = dict([_taken(DAY, 0), _taken(DAY, 1)])
    loaded = {BEFORE: {_key(DAY, 0): "a"}, DAY: {_key(DAY, 0): "a", _key(DAY, 1): "a"}}
    assert find_due_days([BEFORE, DAY, AFTER], _listed((DAY, 0, "a"), (DAY, 1, "a")), taken, loaded) == []


def test_an_object_that_came_with_another_day_is_due_where_it_has_rows() -> None:
    listed, taken = _listed((DAY, 0, "a")), dict([_taken(DAY, 0)])
    assert _days(find_due_days([BEFORE, DAY], listed, taken, {DAY: {_key(DAY, 0): "a"}})) == {BEFORE: "objects: 1 behind"}
    within = Taken("a", datetime(2026, 3, 15, 0, 1, tzinfo=UTC), datetime(2026, 3, 15, 0, 59, tzinfo=UTC))
    assert find_due_days([BEFORE, DAY], listed, {_key(DAY, 0): within}, {DAY: {_key(DAY, 0): "a"}}) == []
    without = Taken("a", None, None)
    assert find_due_days([BEFORE, DAY], listed, {_key(DAY, 0): without}, {}) == []


def test_a_rewritten_object_is_due_until_each_of_its_days_has_it() -> None:
    listed = _listed((DAY, 0, "b"))
    old = {BEFORE: {_key(DAY, 0): "a"}, DAY: {_key(DAY, 0): "a"}}
    changed = {BEFORE: "objects: 1 changed", DAY: "objects: 1 changed"}
    assert _days(find_due_days([BEFORE, DAY], listed, dict([_taken(DAY, 0)]), old)) == changed
    fetched = dict([_taken(DAY, 0, "b")])
    one = {**old, DAY: {_key(DAY, 0): "b"}}
    assert _days(find_due_days([BEFORE, DAY], listed, fetched, one)) == {BEFORE: "objects: 1 behind"}
    assert find_due_days([BEFORE, DAY], listed, fetched, {**one, BEFORE: {_key(DAY, 0): "b"}}) == []


def test_a_day_whose_rows_a_rewritten_object_has_no_more_is_due() -> None:
    within = {_key(DAY, 0): Taken("b", datetime(2026, 3, 15, 0, 1, tzinfo=UTC), datetime(2026, 3, 15, 0, 59, tzinfo=UTC))}
    loaded = {BEFORE: {_key(DAY, 0): "a"}, DAY: {_key(DAY, 0): "b"}}
    assert _days(find_due_days([BEFORE, DAY], _listed((DAY, 0, "b")), within, loaded)) == {BEFORE: "objects: 1 behind"}


def test_a_failed_object_stays_due_with_the_same_mark_until_the_bucket_changes() -> None:
    failed = {_key(DAY, 5): Taken(None, None, None)}
    [due] = find_due_days([DAY], _listed((DAY, 5, "a")), failed, {})
    [again] = find_due_days([DAY], _listed((DAY, 5, "a")), failed, {DAY: {}})
    [other] = find_due_days([DAY], _listed((DAY, 5, "b")), failed, {DAY: {}})
    [more] = find_due_days([DAY], _listed((DAY, 5, "a"), (DAY, 6, "a")), failed, {DAY: {}})
    assert due.mark == again.mark
    assert len({due.mark, other.mark, more.mark}) == 3


def test_the_mark_of_a_day_does_not_change_while_its_run_takes_object_after_object() -> None:
    listed = _listed(*[(DAY, hour, "a") for hour in range(24)])
    marks = {
        due.mark
        for n in range(24)
        for due in find_due_days([DAY], listed, dict(_taken(DAY, hour) for hour in range(n)), {DAY: {}})
    }
    assert len(marks) == 1


def test_an_object_of_no_s3_source_of_the_day_is_none_of_its() -> None:
    early = date(2025, 3, 1)
    listed = {SOURCE: {early: [_object(early, 3)]}}
    assert find_due_days([early], listed, {}, {}) == []


@given(
    st.lists(
        st.tuples(st.sampled_from([BEFORE, DAY, AFTER]), st.integers(0, 23), st.sampled_from("ab")),
        max_size=40,
        unique_by=lambda place: place[:2],
    ),
    st.sets(st.tuples(st.sampled_from([BEFORE, DAY, AFTER]), st.integers(0, 23))),
)
def test_no_object_is_lost_whatever_was_taken_before(places: list[tuple[date, int, str]], had: set[tuple[date, int]]) -> None:
    taken = dict(_taken(day, hour) for day, hour in had)
    loaded = {day: {_key(*place): "a" for place in had if _of(day, *place)} for day in (BEFORE, DAY, AFTER)}
    due = set(_days(find_due_days([BEFORE, DAY, AFTER], _listed(*places), taken, loaded)))
    assert due == {
        day
        for day in (BEFORE, DAY, AFTER)
        for d, hour, etag in places
        if _of(day, d, hour) and ((d, hour) not in had or etag == "b")
    }


def _of(day: date, object_date: date, hour: int) -> bool:
    return object_date == day or (hour == 0 and object_date == day + timedelta(days=1))


STATUSES = "2026-03-15.parquet"


def _status(key: str, etag: str = "a") -> SourceObject:
    return SourceObject(key, etag, 1000, NOON)


def test_a_new_or_changed_object_of_statuses_is_of_the_day_in_its_key() -> None:
    days = [BEFORE, DAY, AFTER]
    listed = {"twap_statuses": {DAY: [_status(STATUSES)]}}
    within = Taken("a", datetime(2026, 3, 15, 1, tzinfo=UTC), datetime(2026, 3, 15, 23, tzinfo=UTC))
    assert _days(find_due_days(days, listed, {}, {})) == {DAY: "objects: 1 new"}
    changed = {"twap_statuses": {DAY: [_status(STATUSES, "b")]}}
    assert _days(find_due_days(days, changed, {STATUSES: within}, {DAY: {STATUSES: "a"}})) == {DAY: "objects: 1 changed"}
    assert find_due_days(days, listed, {STATUSES: within}, {DAY: {STATUSES: "a"}}) == []


def test_statuses_that_came_with_a_neighbour_are_due_where_they_have_events() -> None:
    listed = {"twap_statuses": {DAY: [_status(STATUSES)]}}
    over = Taken("a", datetime(2026, 3, 14, 23, 59, tzinfo=UTC), datetime(2026, 3, 15, 23, tzinfo=UTC))
    assert _days(find_due_days([BEFORE, DAY, AFTER], listed, {STATUSES: over}, {BEFORE: {}, DAY: {STATUSES: "a"}})) == {
        BEFORE: "objects: 1 behind"
    }
    assert _days(find_due_days([DAY], listed, {STATUSES: over}, {})) == {DAY: "objects: 1 behind"}
