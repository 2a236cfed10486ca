"""`python -m hl_pipeline_tests.tools.compare LEFT RIGHT`: compares two installations (HL_HOME directories).

Tables of schema hl are compared by definition and rows; files of the lake by schema, layout, metadata and rows in order.
`not_compared` lists what may differ (random IDs, clocks). Exit code 0: equal, 1: different, 2: the comparison failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hl_pipeline_tests.tools.compare_database import NoSchemaError, compare_databases
from hl_pipeline_tests.tools.compare_lake import compare_lakes
from hl_pipeline_tests.tools.compare_rows import Compared

_LIMIT = 3
_LINES = 5
"""The number of lines printed per example, for each table and each part of the lake."""


def main(arguments: list[str] | None = None) -> int:
    """Compare, and print the differences. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("left", type=Path, nargs="?", metavar="LEFT", help="an HL_HOME: its embedded PostgreSQL and its lake")
    parser.add_argument("right", type=Path, nargs="?", metavar="RIGHT")
    for side in ("left", "right"):
        parser.add_argument(f"--{side}-database", metavar="URL", help="instead of the embedded PostgreSQL of that home")
        parser.add_argument(f"--{side}-lake", type=Path, metavar="DIRECTORY", help="instead of the lake of that home")
    parser.add_argument("--limit", type=int, default=_LIMIT, help=f"examples of each difference (default {_LIMIT})")
    given = parser.parse_args(arguments)
    databases = [_database(parser, side, getattr(given, f"{side}_database"), getattr(given, side)) for side in ("left", "right")]
    lakes = [_lake(parser, side, getattr(given, f"{side}_lake"), getattr(given, side)) for side in ("left", "right")]
    for what, sides in (("database", databases), ("lake", lakes)):
        if (sides[0] is None) != (sides[1] is None):
            parser.error(f"one side has a {what}, the other does not: give both homes, or both --left-{what} and --right-{what}")
    if databases[0] is None and lakes[0] is None:
        parser.error("nothing to compare: give LEFT and RIGHT")
    started = time.monotonic()
    try:
        is_equal = _print_differences(_compare(databases, lakes, given.limit), given.limit, started)
    except NoSchemaError as error:
        parser.error(str(error))
    return 0 if is_equal else 1


def _database(parser: argparse.ArgumentParser, side: str, url: str | None, home: Path | None) -> str | Path | None:
    """Return a URL, or the home of an embedded server."""
    if url is None and home is not None and not (home / "postgres" / "PG_VERSION").exists():
        parser.error(f"{side}: {home} has no embedded PostgreSQL; is it an HL_HOME? Else give --{side}-database")
    return url or home


def _lake(parser: argparse.ArgumentParser, side: str, lake: Path | None, home: Path | None) -> Path | None:
    directory = lake or (home and home / "lake")
    if directory is not None and not directory.is_dir():
        parser.error(f"{side}: there is no lake in {directory}; give --{side}-lake")
    return directory


def _compare(databases: list[str | Path | None], lakes: list[Path | None], limit: int) -> Iterator[Compared]:
    if databases[0] is not None and databases[1] is not None:
        with ExitStack() as servers:
            left, right = (servers.enter_context(_running(database)) for database in (databases[0], databases[1]))
            yield from compare_databases(left, right, limit)
    if lakes[0] is not None and lakes[1] is not None:
        yield from compare_lakes(lakes[0], lakes[1], limit)


@contextmanager
def _running(database: str | Path) -> Generator[str]:
    """Yield the URL of a database. The embedded server of a home runs during the block."""
    if isinstance(database, str):
        yield database
        return
    # This is the only code of the pipeline here, since the pipeline is what is compared.
    from hl_pipeline.warehouse.embedded import hold

    with hold(database) as url:
        yield url


def _print_differences(compared: Iterable[Compared], limit: int, started: float) -> bool:
    """Print differences as they are found, at most _LINES * `limit` lines per table or part of the lake, and the totals."""
    tables: set[str] = set()
    files: set[str] = set()
    rows, totals, lines = Counter[str](), dict[str, Counter[str]](), Counter[str]()
    for item in compared:
        if item.group.startswith("lake"):
            files.add(item.place)
            rows["files"] += item.rows
        elif item.group.startswith("hl."):
            tables.add(item.group)
            rows["tables"] += item.rows
        for difference in item.differences:
            totals.setdefault(item.group, Counter())[difference.what] += difference.count
            told = [f"{item.place}: {difference.what}: {difference.count:,}", *(f"    {text}" for text in difference.examples)]
            for line in told[: max(_LINES * limit - lines[item.group], 0)]:
                _say(line)
            lines[item.group] += len(told)
    for group, counts in totals.items():
        hidden = max(lines[group] - _LINES * limit, 0)
        sums = ", ".join(f"{what} {count:,}" for what, count in counts.most_common(limit))
        more = f", and {len(counts) - limit} more kinds" if len(counts) > limit else ""
        _say(f"{group}: {sum(counts.values()):,} differences ({sums}{more}){f'; {hidden:,} lines not shown' if hidden else ''}")
    counts = f"{len(tables)} tables with {rows['tables']:,} rows, {len(files):,} files with {rows['files']:,} rows"
    _say(f"{'different' if totals else 'equal'}: {counts}; {time.monotonic() - started:.1f} s")
    return not totals


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
