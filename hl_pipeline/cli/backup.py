"""`hl backup` and `hl restore`: save and restore what cannot be rebuilt from the lake."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hl_pipeline.cli.terminal import Demo, check_demo, check_existing, console, fail, load_settings, program

if TYPE_CHECKING:
    from hl_pipeline.settings import Settings
    from hl_pipeline.stages.backup import Databases, Manifest


def backup(
    directory: Annotated[Path, typer.Argument(help="Parent directory. The backup is written to hl-backup-TIME in it.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Include fills, candles, statistics and TWAPs, which `hl rebuild` can also rebuild.")
    ] = False,
    demo: Demo = False,
) -> None:
    """Back up what cannot be rebuilt from the lake.

    These are the ledgers of requests and objects, acknowledgements, backfill progress and Dagster's history.
    It can run while `hl up` runs. The lake is not part of the backup.
    """
    from importlib.metadata import version

    from hl_pipeline.stages.backup import write_backup

    settings = load_settings(demo)
    check_existing(settings)
    with _saying_errors(), _open_databases(settings) as databases, _showing("backing up") as show:
        made, manifest = write_backup(databases, settings.home, directory, version("hl-pipeline"), show, everything=everything)
    size = sum(path.stat().st_size for path in made.iterdir())
    console.print(f"{made}: {size / 1e6:,.1f} MB, {_describe(manifest)}", highlight=False)


def restore(
    directory: Annotated[Path, typer.Argument(metavar="BACKUP", help="A directory made by `hl backup`.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the rows of an installation that is not empty.")
    ] = False,
    demo: Demo = False,
) -> None:
    """Restore a backup into an empty installation. Afterwards, `hl rebuild` rebuilds the rest from the lake."""
    from hl_pipeline.stages.backup import check_target, read_manifest, restore_backup
    from hl_pipeline.warehouse.connect import ensure_database

    settings = load_settings(demo)
    check_demo(settings)
    with _saying_errors():
        manifest = read_manifest(directory)
        with _open_databases(settings) as databases, _showing("restoring") as show:
            for url in (databases.data, databases.dagster):
                ensure_database(url)
            check_target(databases, overwrite=overwrite)
            restore_backup(directory, manifest, databases, settings.home, show)
    console.print(f"restored, as of {manifest.made_at}: {_describe(manifest)}", highlight=False)
    if manifest.days and not manifest.everything:
        console.print(
            f"next: run `{program()} rebuild` to rebuild fills, candles, statistics and TWAPs from the lake. "
            f"When the backup was made, {len(manifest.days)} days were loaded: {manifest.days[0]} to {manifest.days[-1]}",
            highlight=False,
        )


@contextmanager
def _open_databases(settings: Settings) -> Generator[Databases]:
    from hl_pipeline.ops.installation import hold_server
    from hl_pipeline.stages.backup import Databases
    from hl_pipeline.warehouse.connect import find_dagster_url

    with hold_server(settings) as url:
        yield Databases(url, find_dagster_url(settings))


@contextmanager
def _saying_errors() -> Generator[None]:
    """End the command with a one-line message for errors that the user can fix."""
    import psycopg

    from hl_pipeline.stages.backup import BackupError
    from hl_pipeline.warehouse.connect import NoDatabaseError
    from hl_pipeline.warehouse.dump import DumpError
    from hl_pipeline.warehouse.embedded import EmbeddedServerError

    try:
        yield
    except (NoDatabaseError, EmbeddedServerError, BackupError, DumpError, psycopg.Error, OSError) as error:
        fail(str(error).strip())


@contextmanager
def _showing(what: str) -> Generator[Callable[[str, int], None]]:
    with console.status(what) as status:
        yield lambda name, done: status.update(f"{what} {name}: {done / 1e6:,.1f} MB")


def _describe(manifest: Manifest) -> str:
    counts = manifest.data
    parts = [
        f"schema {manifest.schema}",
        f"{counts.get('hl.s3_requests', 0):,} S3 requests",
        f"{counts.get('hl.s3_ingest_log', 0):,} objects",
        f"{counts.get('hl.acknowledged', 0):,} acknowledgements",
        f"{counts.get('hl.backfill_progress', 0):,} wallets",
        f"{sum(count for name, count in manifest.dagster.items() if name.endswith('.runs')):,} runs",
    ]
    if manifest.everything:
        parts.append(f"{counts.get('hl.fills', 0):,} fills")
    return ", ".join(parts)
