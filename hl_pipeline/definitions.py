"""Everything Dagster knows of this project, assembled in one place. Wiring only."""

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.raw import raw_fills
from hl_pipeline.resources import LakeStorage, NodeData, Warehouse
from hl_pipeline.settings import Settings

ASSETS = [raw_fills, fills]


def build_resources(settings: Settings) -> dict[str, object]:
    """What the assets work with, as the settings say."""
    return {
        "node_data": NodeData(url=settings.node_data_url, region=settings.node_data_region),
        "lake_storage": LakeStorage(url=settings.lake),
        "warehouse": Warehouse(),
    }


def build_defs(settings: Settings | None = None) -> Definitions:
    """The code location; tests give settings of their own."""
    return Definitions(
        assets=ASSETS,
        jobs=[
            define_asset_job(
                "ingest_fills",
                AssetSelection.assets(*ASSETS),
                description="Bring a day's objects into the lake and its fills into PostgreSQL.",
            )
        ],
        resources=build_resources(settings or Settings()),
        # A run is a process already: work in parallel is across runs, and in threads within one.
        executor=in_process_executor,
    )


defs = build_defs()
