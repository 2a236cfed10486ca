"""`hl backup` and `hl restore`: what the lake cannot give back, kept and put back."""

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
    directory: Annotated[Path, typer.Argument(help="Where the backup's own directory is made: hl-backup-TIME.")],
    everything: Annotated[
        bool, typer.Option("--all", help="With fills, candles, statistics and TWAPs, which `hl rebuild` makes again otherwise.")
    ] = False,
    demo: Demo = False,
) -> None:
    """Back up what the lake cannot give back: the ledger of money and objects, acknowledgements, how far wallets were asked,
    and Dagster's history. It may run beside `hl up`. The lake is not in it.
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the rows of an installation that has some.")] = False,
    demo: Demo = False,
) -> None:
    """Put a backup back into an empty installation. Afterwards `hl rebuild` makes from the lake what is not in it."""
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
            f"next: `{program()} rebuild` makes fills, candles, statistics and TWAPs of every day in the lake. "
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
    """Say in one line what can be mended."""
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
        f"{counts.get('hl.s3_requests', 0):,} requests of S3",
        f"{counts.get('hl.s3_ingest_log', 0):,} objects",
        f"{counts.get('hl.acknowledged', 0):,} acknowledgements",
        f"{counts.get('hl.backfill_progress', 0):,} wallets",
        f"{sum(count for name, count in manifest.dagster.items() if name.endswith('.runs')):,} runs",
    ]
    if manifest.everything:
        parts.append(f"{counts.get('hl.fills', 0):,} fills")
    return ", ".join(parts)
