"""`hl upgrade`: upgrades an installation of an earlier version: schema, Dagster's tables, and days that must be rebuilt.

It prints the plan and an estimate of the time first.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.ingest import run_days
from hl_pipeline.cli.terminal import Demo, connect, console, errors, fail, load_settings, open_existing, program

if TYPE_CHECKING:
    import psycopg

    from hl_pipeline.settings import Settings
    from hl_pipeline.warehouse.migrate import Migration
    from hl_pipeline.warehouse.outdated_days import OutdatedDay

# Measured on two cores (docs/guides/upgrade.md).
_ROWS_REWRITTEN_A_SECOND = 30_000
_ROWS_MADE_A_SECOND = 40_000
_SECONDS_A_DAY = 3.5
_FIRST_RELEASE = "0010"
"""The schema of 0.1.0. Outdated days of older schemas are only reported after the migration."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """The work to do: migrations, Dagster's revision (current, required) and days; the `lost` days are not in the lake."""

    revision: str | None
    migrations: list[Migration]
    dagster: tuple[str, str]
    days: list[OutdatedDay]
    lost: list[OutdatedDay]
    rows: int

    @property
    def has_work(self) -> bool:
        return bool(self.migrations or self.days) or self.is_dagster_old

    @property
    def is_dagster_old(self) -> bool:
        return self.dagster[0] != self.dagster[1]

    @property
    def seconds(self) -> float:
        """Estimated duration."""
        rewritten = self.rows * sum(len(one.rewrites) for one in self.migrations) / _ROWS_REWRITTEN_A_SECOND
        return rewritten + _SECONDS_A_DAY * len(self.days) + sum(day.rows for day in self.days) / _ROWS_MADE_A_SECOND


def upgrade(
    to: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION", help="Undo the migrations after this one (0010), for an earlier version of hl-pipeline."
        ),
    ] = None,
    schema_only: Annotated[bool, typer.Option("--schema-only", help="Do not rebuild days.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    demo: Demo = False,
) -> None:
    """Upgrade an installation of an earlier version: its schema, Dagster's tables and outdated days.

    Outdated days are rebuilt from the lake. The plan and the estimated time are printed first.
    After an interruption, the same command continues.
    """
    settings = load_settings(demo)
    with open_existing(settings, migrated=False) as url:
        if to is not None:
            if schema_only:
                fail("--to and --schema-only exclude each other: --to never rebuilds days", code=ExitCode.USAGE)
            _downgrade(url, to, settings, dry_run=dry_run, yes=yes)
            return
        plan = _make_plan(url, settings, schema_only=schema_only)
        _print_plan(plan)
        if dry_run or not plan.has_work:
            return
        if not yes:
            typer.confirm("Do it now?", abort=True)
        with _not_up(settings):
            _carry_out(plan, url, settings)


@contextmanager
def _not_up(settings: Settings) -> Generator[None]:
    """Prevent `hl up` from running meanwhile: its runs would fail on a changing schema."""
    from hl_pipeline.ops.services import AlreadyUpError, only_one

    with ExitStack() as stack:
        try:
            stack.enter_context(only_one(settings.home.absolute()))
        except AlreadyUpError as error:
            fail(str(error))
        yield


def _make_plan(url: str, settings: Settings, *, schema_only: bool) -> _Plan:
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.ops.dagster_schema import read_dagster_revisions
    from hl_pipeline.stages.rebuild import days_in_lake
    from hl_pipeline.warehouse.migrate import pending, read_revision
    from hl_pipeline.warehouse.outdated_days import read_outdated_days

    with connect(url, "hl upgrade") as connection:
        revision = read_revision(connection)
        is_released = revision is not None and revision >= _FIRST_RELEASE
        days = read_outdated_days(connection) if is_released and not schema_only else []
        rows = _count_rows(connection) if revision else 0
    in_lake = set(days_in_lake(open_lake(settings.lake), days[0].date, days[-1].date)) if days else set[date]()
    return _Plan(
        revision=revision,
        migrations=pending(revision),
        dagster=read_dagster_revisions(),
        days=[day for day in days if day.date in in_lake],
        lost=[day for day in days if day.date not in in_lake],
        rows=rows,
    )


def _count_rows(connection: psycopg.Connection) -> int:
    [(rows,)] = connection.execute("SELECT coalesce(sum(rows), 0)::bigint FROM hl.fills_days").fetchall()
    return rows


def _print_plan(plan: _Plan) -> None:
    from hl_pipeline.warehouse.outdated_days import count_by_reason

    if not plan.has_work and not plan.lost:
        console.print(f"nothing to do: the schema is at migration {plan.revision}, as this version needs it", highlight=False)
    for one in plan.migrations:
        rewriting = "".join(f" [yellow](rewrites every row of {table})[/]" for table in one.rewrites) if plan.rows else ""
        console.print(f"migration {one.revision}  {escape(one.summary)}{rewriting}", highlight=False)
    if plan.is_dagster_old:
        console.print(f"Dagster's tables: from revision {plan.dagster[0]} to {plan.dagster[1]}", highlight=False)
    if plan.days:
        fills = sum(day.rows for day in plan.days)
        console.print(f"{_span(plan.days)} to rebuild from the lake, {fills:,} fills; no bucket is read:", highlight=False)
        for reason, days in count_by_reason(plan.days).items():
            console.print(f"  {len(days):>5}  {escape(reason)}", highlight=False)
    if plan.lost:
        again = "load them from the buckets (`hl ingest --from DAY --to DAY`)"
        console.print(
            f"[yellow]{_span(plan.lost)} cannot be rebuilt[/], because the lake has no data for them: {again}", highlight=False
        )
    if plan.has_work:
        console.print(f"estimated time: {_describe_time(plan.seconds)}, based on measurements with two cores", highlight=False)


def _span(days: Sequence[OutdatedDay]) -> str:
    first, last = days[0].date, days[-1].date
    return f"1 day, {first}," if len(days) == 1 else f"{len(days):,} days, {first} to {last},"


def _describe_time(seconds: float) -> str:
    if seconds < 10:
        return "a few seconds"
    if seconds < 100:
        return f"about {round(seconds, -1):.0f} seconds"
    return f"about {seconds / 60:.0f} minutes" if seconds < 7200 else f"about {seconds / 3600:.1f} hours"


def _carry_out(plan: _Plan, url: str, settings: Settings) -> None:
    from hl_pipeline.ops.dagster_schema import upgrade_dagster
    from hl_pipeline.ops.run_days import Outcome
    from hl_pipeline.ops.run_in_process import RunInterruptedError
    from hl_pipeline.warehouse.migrate import migrate

    try:
        if plan.migrations:
            with console.status("migrating"):
                taken = migrate(url, done=lambda revision: console.print(f"migrated to {revision}", highlight=False))
            console.print(f"the schema is at migration {taken[-1] if taken else plan.migrations[-1].revision}", highlight=False)
        if plan.is_dagster_old:
            upgrade_dagster()
            console.print(f"Dagster's tables are at revision {plan.dagster[1]}", highlight=False)
        outcomes = _make_days_again([day.date for day in plan.days], url, settings)
    except (RunInterruptedError, KeyboardInterrupt):
        fail("interrupted; run the same command to continue", code=ExitCode.INTERRUPTED)
    failed = [day for day, outcome in outcomes.items() if outcome == Outcome.FAILED]
    if failed:
        fail(
            f"{len(failed)} days could not be rebuilt ({failed[0]}, …): "
            "run the same command again, or see the reason in the Dagster UI"
        )
    console.print("done", highlight=False)


def _make_days_again(days: list[date], url: str, settings: Settings) -> dict[date, object]:
    """Rebuild days and return the outcome of each. Days that were only in the lake are removed from hl.fills again."""
    from hl_pipeline.warehouse.fills_partitions import DayInUseError, thin_day
    from hl_pipeline.warehouse.locks import lock_fills_day
    from hl_pipeline.warehouse.status_queries import read_thinned_days

    if not days:
        return {}
    with connect(url, "hl upgrade") as connection:
        thinned = set(read_thinned_days(connection))
        done = run_days([day for day in days if day not in thinned], settings, from_lake=True, command="hl upgrade")
        for day in sorted(thinned.intersection(days)):
            done += run_days([day], settings, from_lake=True, command="hl upgrade")
            try:
                with lock_fills_day(connection, day):
                    if day not in read_thinned_days(connection, day):
                        thin_day(connection, day, settings.swap_wait_seconds)
            except DayInUseError as error:
                errors.print(f"[yellow]warning:[/] {day} is in hl.fills again: {escape(str(error))}; see `hl drop`")
    return {day.day: day.outcome for day in done}


def _downgrade(url: str, to: str, settings: Settings, *, dry_run: bool, yes: bool) -> None:
    """Undo the migrations after `to`."""
    from hl_pipeline.warehouse.migrate import SchemaError, list_migrations, migrate, read_revision

    known = [one.revision for one in list_migrations()]
    if to not in known:
        fail(f"--to is {to!r}; it must be a migration of this version, {known[0]} to {known[-1]}", code=ExitCode.USAGE)
    with connect(url, "hl upgrade") as connection:
        revision = read_revision(connection)
    undone = [one for one in reversed(list_migrations()) if to < one.revision <= (revision or "")]
    if not undone:
        fail(f"the schema is at migration {revision}: --to only undoes migrations; leave it out to upgrade")
    for one in undone:
        console.print(f"undo {one.revision}  {escape(one.summary)}", highlight=False)
    console.print(
        "Everything that these migrations added to the schema is dropped, with its data. The lake keeps everything.",
        highlight=False,
    )
    if dry_run:
        return
    if not yes:
        typer.confirm("Stop everything that uses the database. Undo these migrations now?", abort=True)
    try:
        with _not_up(settings):
            migrate(url, to, down=True)
    except SchemaError as error:
        fail(str(error))
    console.print(
        f"the schema is at migration {to}: continue with the earlier version. Any command of this version, including "
        f"`{program()} upgrade`, migrates it again",
        highlight=False,
    )
