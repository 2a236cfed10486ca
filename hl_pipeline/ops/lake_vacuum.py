"""Removes expired snapshots and unreferenced files of the lake's Iceberg tables every night."""

from dagster import DefaultScheduleStatus, OpExecutionContext, ScheduleDefinition, job, op

from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.settings import Settings


@op
def vacuum_tables(context: OpExecutionContext, warehouse: WarehouseParam, settings: SettingsParam) -> None:
    """Removes the snapshots that were replaced HL_SNAPSHOTS_KEEP_DAYS ago, and the files that no snapshot has."""
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.hours_retention import remove_old_hours
    from hl_pipeline.stages.vacuum import vacuum

    with warehouse.connect("hl vacuum") as connection:
        lake = open_lake(settings.lake)
        for table in vacuum(lake, connection, settings):
            context.log.info(f"hl.{table.table}: {len(table.snapshots)} snapshots expired, {len(table.files)} files removed")
        hours = remove_old_hours(lake, connection, settings)
        context.log.info(f"hours of {len(hours.files)} compacted days removed (HL_HOURS_KEEP_DAYS)")
        for why in hours.kept.values():
            context.log.warning(why)


@job(description="Removes snapshots that were replaced HL_SNAPSHOTS_KEEP_DAYS ago, and files that no snapshot has.")
def vacuum_lake() -> None:
    """Vacuum the lake's tables."""
    vacuum_tables()


def vacuum_schedule(settings: Settings) -> ScheduleDefinition:
    """Return the nightly schedule. It reads no bucket, so it needs no budget."""
    return ScheduleDefinition(
        name="vacuum_lake_nightly",
        job=vacuum_lake,
        cron_schedule="10 4 * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING if settings.sensors else DefaultScheduleStatus.STOPPED,
        description="Removes snapshots of the lake's tables that were replaced HL_SNAPSHOTS_KEEP_DAYS ago, and unneeded files.",
    )
