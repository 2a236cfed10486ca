"""One wallet's year of TWAPs, from the REST API to a chart. `marimo edit docs/notebooks/twaps_of_a_year.py` opens it."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="One wallet's year of TWAPs")


@app.cell
def _():
    from datetime import UTC, date, datetime, timedelta
    from decimal import Decimal
    from html import escape

    import marimo as mo

    from hl_client import Client

    # HL_API_URL and HL_API_KEY say which API to ask. What is missing is shown below, so no warning is needed.
    client = Client(on_incomplete="ignore")
    return Decimal, UTC, client, date, datetime, escape, mo, timedelta


@app.cell
def _(client, date, mo):
    newest = client.leaderboard("twaps", period="1d", top=1).facts["end"]
    year = mo.ui.number(start=2023, stop=date.today().year, value=newest.year, label="year")
    year
    return (year,)


@app.cell
def _(client, date, mo, year):
    first, last = date(year.value, 1, 1), date(year.value, 12, 31)
    # By default, the wallet with the most TWAPs in that year.
    busiest = client.leaderboard("twaps", start=first, end=last, top=1)
    wallet = mo.ui.text(value=busiest[0]["wallet"] if busiest else "", label="wallet", full_width=True)
    wallet
    return first, last, wallet


@app.cell
def _(client, first, last, mo, wallet):
    mo.stop(not wallet.value, mo.md("No TWAP began in this year: choose another year."))
    twaps = client.twaps(wallet.value, first, last)
    # A TWAP without figures has not been computed yet; one without a beginning has not begun.
    figures = [twap["analytics"] for twap in twaps if twap["analytics"] and twap["analytics"]["begins_at"]]
    figures.sort(key=lambda one: one["begins_at"])
    return figures, twaps


@app.cell
def _(mo, twaps):
    # First what is missing: a month without bars may be a month that nobody has loaded.
    missing = [f"* {run}" for run in twaps.missing.days]
    notice = (
        mo.callout(mo.md("**Data is missing.** Sums are lower bounds.\n\n" + "\n".join(missing)), kind="warn")
        if missing
        else mo.callout("Nothing is known to be missing.", kind="success")
    )
    notice
    return (notice,)


@app.cell
def _(Decimal, figures, mo):
    by_month = {}
    for one in figures:
        row = by_month.setdefault(f"{one['begins_at']:%Y-%m}", {"TWAPs": 0, "executed": Decimal(0), "profit": Decimal(0)})
        row["TWAPs"] += 1
        row["executed"] += one["notional_observed"]
        # Unknown once is unknown in the sum.
        known = row["profit"] is not None and one["closed_pnl"] is not None
        row["profit"] = row["profit"] + one["closed_pnl"] if known else None
    months = [{"month": month, **row} for month, row in by_month.items()]
    mo.ui.table([{name: str(value) for name, value in row.items()} for row in months], selection=None)
    return (months,)


@app.cell
def _(UTC, datetime, escape, figures, first, last, mo, timedelta, twaps):
    begin, end = (datetime.combine(day, datetime.min.time(), UTC) for day in (first, last + timedelta(1)))
    width, height, edge = 900, 220, 30

    def across(time):
        return edge + (time - begin) / (end - begin) * (width - 2 * edge)

    def draw(points, title, unit):
        """Return a bar for each (time, value) of the year as SVG. Only the pixels are rounded, not the values."""
        high = max([0, *(value for _, value in points)])
        low = min([0, *(value for _, value in points)])
        per_pixel = (high - low) / (height - 2 * edge) or 1
        gaps, bars = [], []
        for run in twaps.missing.days:
            left, right = (
                across(datetime.combine(day, datetime.min.time(), UTC)) for day in (run.first, run.last + timedelta(1))
            )
            gaps.append(
                f'<path d="M{left:.1f} {edge}H{right:.1f}V{height - edge}H{left:.1f}Z" opacity="0.12"><title>'
                f"{escape(str(run))}</title></path>"
            )
        for time, value in points:
            top, tall = edge + float((high - max(value, 0)) / per_pixel), max(1.0, float(abs(value) / per_pixel))
            label = escape(f"{time:%Y-%m-%d %H:%M}: {value:f} {unit}")
            bars.append(f'<rect x="{across(time):.1f}" y="{top:.1f}" width="3" height="{tall:.1f}"><title>{label}</title></rect>')
        zero = edge + float(high / per_pixel)
        return mo.Html(
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" fill="currentColor">'
            f'<text x="{edge}" y="18">{escape(title)}: {low:,.4f} to {high:,.4f} {unit}. Grey: data is missing</text>'
            f'{"".join(gaps)}<line x1="{edge}" x2="{width - edge}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="currentColor"/>'
            f'<text x="{edge}" y="{height - 6}">{first}</text>'
            f'<text x="{width - edge}" y="{height - 6}" text-anchor="end">{last}</text>{"".join(bars)}</svg>'
        )

    executed = [(one["begins_at"], one["notional_observed"]) for one in figures]
    slippage = [(one["begins_at"], one["slippage_bps"]) for one in figures if one["slippage_bps"] is not None]
    chart = mo.vstack(
        [draw(executed, "Executed by each TWAP", "quote"), draw(slippage, "Slippage against the market's VWAP", "bps")]
    )
    chart
    return chart, executed, slippage


if __name__ == "__main__":
    app.run()
