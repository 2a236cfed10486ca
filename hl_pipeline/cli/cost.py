"""`hl cost`: prints the cost estimate for a range of days. `stages.cost` computes it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.markup import escape

from hl_pipeline.cli.progress import showing_listings
from hl_pipeline.cli.terminal import (
    Demo,
    FromDay,
    ToDay,
    check_days,
    connect,
    console,
    fail,
    load_settings,
    open_existing,
    open_installation,
    wide,
)

if TYPE_CHECKING:
    from hl_pipeline.settings import Settings
    from hl_pipeline.stages.cost import Bill
    from hl_pipeline.warehouse.spending import Spent


def cost(first: FromDay, last: ToDay, demo: Demo = False) -> None:
    """Estimate from bucket listings what ingesting days costs: objects, GiB, dollars and disk. Nothing is downloaded.

    Objects already in the lake cost nothing.
    """
    from hl_pipeline.domain.errors import BucketError
    from hl_pipeline.stages.cost import draw_up_bill
    from hl_pipeline.warehouse.ledger import read_reset
    from hl_pipeline.warehouse.spending import read_spent

    days = check_days(first, last)
    settings = load_settings(demo)
    with (open_existing if demo else open_installation)(settings) as url, connect(url, "hl cost") as connection:
        try:
            with showing_listings():
                bill = draw_up_bill(days, settings, read_reset(connection))
        except BucketError as error:
            fail(str(error))
        _print_bill(bill, settings, read_spent(connection))


def _print_bill(bill: Bill, settings: Settings, spent: Spent) -> None:
    from rich.table import Table

    from hl_pipeline.settings import NONE, variable

    table = Table(box=None, header_style="bold")
    for name in ("dataset", "objects", "GiB", "in the\nlake", "GiB", "to\ndownload", "GiB", "dollars", "not in\nthe bucket"):
        table.add_column(name, justify="left" if name == "dataset" else "right")
    for item in bill.costs:
        amounts = [
            f for a in (item.wanted, item.in_lake, item.to_download) for f in (f"{a.objects:,}", f"{a.bytes / 2**30:,.3f}")
        ]
        lacking = "" if item.hours_not_there is None else f"{item.hours_not_there:,}"
        table.add_row(item.dataset, *amounts, f"{item.dollars:,.4f}", lacking)
    wide.print(table, highlight=False)
    console.print(f"\nto download  ${bill.dollars:,.4f}", highlight=False)
    console.print(
        f"listing      ${bill.dollars_of_lists:,.6f} for {bill.lists:,} requests, spent by this command", highlight=False
    )
    for name in ("node_data_url", "twap_data_url"):
        place = getattr(settings, name)
        if not place.startswith("s3://"):
            why = "nothing is requested" if place == NONE else "a directory costs nothing"
            console.print(f"free         {variable(name)} is {place}: {why}", highlight=False)
    elsewhere = "" if settings.database_url is None else " in the database of HL_DATABASE_URL (its disk is not checked)"
    console.print(f"lake         about {bill.disk.lake / 1e9:,.1f} GB more in {settings.lake}", highlight=False)
    console.print(f"hl.fills     about {(bill.disk.database or 0) / 1e9:,.1f} GB more{elsewhere}", highlight=False)
    for disk in bill.disks:
        free = f"{max(disk.free, 0) / 1e9:,.1f} GB free above the {settings.disk_reserve_gb:g} GB of HL_DISK_RESERVE_GB"
        console.print(f"disk         {disk.path}: about {disk.needed / 1e9:,.1f} GB needed, {free}", highlight=False)
    budget = settings.s3_budget_usd
    left = None if budget is None else max(budget - spent.dollars, Decimal(0))
    of_budget = "HL_S3_BUDGET_USD is not set" if left is None else f"${left:,.4f} of ${budget:,} left for {spent.month} (UTC)"
    console.print(f"budget       {of_budget}", highlight=False)
    obstacles = bill.find_obstacles(left)
    console.print(
        f"[yellow]it does not fit: {escape('; '.join(obstacles))}[/]" if obstacles else "[green]it fits[/]", highlight=False
    )
