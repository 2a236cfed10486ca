"""The explorer's pages. Each asks the REST routes for its figures; api/pages has the templates and what they need."""

from __future__ import annotations

from asyncio import gather
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, get_args
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from api import parameters
from api.pages.ask import Answer, RefusedError, ask, ask_all
from api.pages.calendar import DATASETS, SIGNS, make_calendar, month_of, next_month, state_of
from api.pages.picture import as_parameter, draw, draw_candles, find_window, make_rows, rows_of_market
from api.pages.render import PageRoute, respond_page, respond_static

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_ROWS = 50
_MOST_ROWS = parameters.MAX_LIMIT
# A TWAP of three days has 8,640 slices, most of them of one or two fills.
_MOST_FILL_PAGES = 5
_MOST_HOUR_PAGES = 3
_DAYS_AT_HOME = 30
# Each moment is a query.
_FLOW_HOURS = 2
_COIN_INTERVALS = ("5m", "15m", "1h")
BOARDS: dict[str, tuple[str, Any]] = {
    "twaps": ("TWAPs", parameters.TwapSort),
    "volume": ("Volume", parameters.VolumeSort),
    "pnl": ("Profit", parameters.PnlSort),
    "fees": ("Fees", parameters.FeesSort),
    "builders": ("Builders", parameters.BuilderSort),
}


async def show_home(request: Request) -> Response:
    """Show what is stored, and where to begin."""
    status = await _read_status(request)
    newest = status.content["fills"]["last"]
    sources: list[tuple[str, Answer]] = [("What is loaded", status)]
    coins = twaps = days = None
    if newest is not None:
        first = max(
            date.fromisoformat(status.content["fills"]["first"]), date.fromisoformat(newest) - timedelta(_DAYS_AT_HOME - 1)
        )
        coins, twaps, days = await gather(
            ask(request, "/api/v1/stats/daily", start=newest, end=newest, sort="notional", top=10, limit=10),
            ask(request, "/api/v1/leaderboards/twaps", start=newest, end=newest, top=10, limit=10),
            ask(request, "/api/v1/coverage/days", start=first, end=newest, limit=2 * _DAYS_AT_HOME),
        )
        sources += [("Coins of the day", coins), ("TWAPs of the day", twaps), ("Verdicts on days", days)]
    return respond_page(
        request, "home", stored=status.content, newest=newest, coins=coins, twaps=twaps, days=days, sources=sources
    )


@router.get("/search")
async def search(request: Request) -> Response:
    """Go to the page of a wallet, a TWAP or a coin."""
    text = _read_query(request, "q").get("q", "").strip()
    if not text:
        path = ""
    elif text[:2].lower() == "0x":
        path = f"wallet/{text.lower()}"
    else:
        path = f"twap/{text}" if text.isascii() and text.isdigit() else f"coin/{text}"
    kind, _, name = path.partition("/")
    location = f"{request.scope.get('root_path', '')}/{kind}" + (f"/{quote(name, safe='')}" if name else "")
    return Response(status_code=303, headers={"Location": location, "Cache-Control": "no-store"})


@router.get("/wallet/{wallet}")
async def show_wallet(request: Request) -> Response:
    """Show a wallet's summary and its TWAPs."""
    wallet = request.path_params["wallet"]
    given = _read_query(request, "start", "end", "asset", "cursor")
    summary = await ask(request, f"/api/v1/wallets/{wallet}", start=given.get("start"), end=given.get("end"))
    span = {name: summary.content[name] for name in ("start", "end")}
    asset, cursor = given.get("asset"), given.get("cursor")
    twaps = await ask(request, "/api/v1/twaps", wallet=summary.content["wallet"], **span, asset=asset, limit=_ROWS, cursor=cursor)
    of_fills = {"wallet": summary.content["wallet"], **span, **({"coin": asset} if asset else {})}
    fills = Answer("/api/v1/fills", of_fills, {}, twaps.formats)
    sources = [("Summary", summary), ("TWAPs", twaps), ("Fills", fills)]
    return respond_page(
        request, "wallet", wallet=summary.content, twaps=twaps.content, asset=asset, cursor=cursor, sources=sources
    )


@router.get("/twap/{twap_id}")
async def show_twap(request: Request) -> Response:
    """Show one TWAP: its figures, its picture and its events."""
    twap_id = request.path_params["twap_id"]
    _read_query(request)
    path = f"/api/v1/twaps/{twap_id}"
    events = await ask(request, path)
    twap = events.content["analytics"]
    window = None if twap is None else find_window(twap)
    if twap is None or window is None:
        # Its fills may be loaded before its analytics are computed.
        fills = await ask(request, f"{path}/fills", limit=1)
        sources = [("Events and figures", events), ("Fills", fills)]
        return respond_page(
            request, "twap", twap_id=twap_id, twap=twap, events=events.content["rows"], window=None, sources=sources
        )
    market = {"coin": twap["coin"], "start": as_parameter(window.start), "end": as_parameter(window.end)}
    (fills, filled, more), candles = await gather(
        ask_all(request, f"{path}/fills", "fills", _MOST_FILL_PAGES, limit=_MOST_ROWS),
        ask(request, "/api/v1/candles", **market, interval=window.interval, limit=_MOST_ROWS),
    )
    rows = make_rows(twap, window, candles.content["candles"], filled)
    return respond_page(
        request,
        "twap",
        twap_id=twap_id,
        twap=twap,
        events=events.content["rows"],
        window=window,
        rows=rows,
        chart=draw(twap, window, rows, filled),
        more=more,
        drawn=len(filled),
        coverage_of_fills=fills.content["coverage"],
        market_coverage=candles.content["coverage"],
        sources=[("Events and figures", events), ("Fills", fills), ("Candles", candles)],
    )


@router.get("/coin/{coin:path}")
async def show_coin(request: Request) -> Response:
    """Show a coin's day: its candles, its statistics, and the flow of its TWAPs."""
    coin = request.path_params["coin"]
    given = _read_query(request, "day", "interval")
    day = given.get("day") or (await _read_status(request)).content["fills"]["last"] or str(datetime.now(UTC).date())
    midnight = _parse_day(day)
    interval = given.get("interval", "15m")
    hours = [midnight + timedelta(hours=hour) for hour in range(0, 24, _FLOW_HOURS)]
    now = datetime.now(UTC)
    asked = {"coin": coin, "start": day, "end": day}
    stats, candles, wallets, *flows = await gather(
        ask(request, "/api/v1/stats/daily", **asked),
        ask(request, "/api/v1/candles", **asked, interval=interval, limit=_MOST_ROWS),
        ask(request, "/api/v1/leaderboards/twaps", **asked, limit=10, top=10),
        *(ask(request, f"/api/v1/coins/{coin}/twap-flow", at=as_parameter(hour)) for hour in hours if hour <= now),
    )
    chart = {
        "kind": "coin",
        "coin": coin,
        "step": {"5m": 300, "15m": 900, "1h": 3600}.get(interval, 60),
        "from": midnight.timestamp(),
        "to": midnight.timestamp() + 86_400,
        **draw_candles(rows_of_market(candles.content["candles"])),
        "flow": _draw_flow(flows),
    }
    sources = [
        ("Statistics", stats),
        ("Candles", candles),
        *([("Flow at midnight", flows[0])] if flows else []),
        ("Wallets", wallets),
    ]
    return respond_page(
        request,
        "coin",
        coin=coin,
        day=day,
        days=(_day(midnight, -1), _day(midnight, 1)),
        interval=interval,
        intervals=_COIN_INTERVALS,
        stats=stats.content,
        candles=candles.content["candles"],
        flows=flows,
        wallets=wallets.content,
        chart=chart,
        sources=sources,
    )


@router.get("/leaderboards")
async def show_leaderboards(request: Request) -> Response:
    """Show a leaderboard. The URL has its period, coin, sort and page."""
    names = ("board", "period", "start", "end", "coin", "top", "sort", "order", "cursor")
    given = _read_query(request, *names)
    board = given.pop("board", "twaps")
    if board not in BOARDS:
        raise _wrong("board", f"must be {', '.join(BOARDS)}", board)
    if not {"period", "start", "end"} & given.keys():
        given["period"] = "7d"
    if board not in ("twaps", "builders"):
        given.pop("coin", None)
    sorts = get_args(BOARDS[board][1])
    # The link to another leaderboard keeps what that one has.
    if given.get("sort") not in sorts:
        given.pop("sort", None)
    ranking = await ask(request, f"/api/v1/leaderboards/{board}", **given, limit=_ROWS)
    return respond_page(
        request,
        "leaderboards",
        board=board,
        boards={name: label for name, (label, _) in BOARDS.items()},
        given={name: given.get(name) for name in names},
        ranking=ranking.content,
        sorts=sorts,
        periods=get_args(parameters.LastDays),
        sources=[("Ranking", ranking)],
    )


@router.get("/coverage")
async def show_coverage(request: Request) -> Response:
    """Show a month of days and hours or, with `day`, what became of each object of a day."""
    given = _read_query(request, "month", "day", "of")
    of = given.get("of", "fills")
    if of not in DATASETS:
        raise _wrong("of", f"must be {' or '.join(DATASETS)}", of)
    if "day" in given:
        return await _show_day(request, given["day"])
    month = given.get("month")
    if month is None:
        status = (await _read_status(request)).content
        month = (status["fills"]["last"] or status["twap_statuses"]["last"] or str(datetime.now(UTC).date()))[:7]
    try:
        first, last = month_of(month)
    except ValueError:
        raise _wrong("month", "must be a month like 2025-11", month) from None
    asked = {"start": first, "end": last, "limit": _MOST_ROWS}
    verdicts, (hours, listed, _) = await gather(
        ask(request, "/api/v1/coverage/days", **asked),
        ask_all(request, "/api/v1/coverage", "hours", _MOST_HOUR_PAGES, **asked),
    )
    return respond_page(
        request,
        "coverage",
        month=month,
        months=(next_month(first, -1), next_month(first, 1)),
        of=of,
        datasets=DATASETS,
        calendar=make_calendar(of, verdicts.content["days"], listed),
        signs=SIGNS,
        runs=hours.content["days"][of],
        info_api=hours.content.get("info_api"),
        sources=[("Verdicts on days", verdicts), ("Hours", hours)],
    )


@router.get("/static/{name}")
async def get_static(request: Request) -> Response:
    """Return a file that pages load."""
    return respond_static(request.path_params["name"])


async def _show_day(request: Request, day: str) -> Response:
    midnight = _parse_day(day)
    verdicts, (hours, listed, _) = await gather(
        ask(request, "/api/v1/coverage/days", start=day, end=day),
        ask_all(request, "/api/v1/coverage", "hours", 1, start=day, end=day, limit=_MOST_ROWS),
    )
    return respond_page(
        request,
        "coverage_day",
        day=day,
        days=(_day(midnight, -1), _day(midnight, 1)),
        verdicts=verdicts.content["days"],
        hours=listed,
        signs=SIGNS,
        state_of=state_of,
        datasets=DATASETS,
        sources=[("Verdicts", verdicts), ("Hours", hours)],
    )


def _draw_flow(flows: list[Answer]) -> dict[str, list[float | None]]:
    moments = [datetime.fromisoformat(flow.content["at"]).timestamp() for flow in flows]
    nets = [flow.content["until_end"]["net_size"] for flow in flows]
    return {"time": [*moments], "net": [None if net is None else float(net) for net in nets]}


async def _read_status(request: Request) -> Answer:
    """Return which days are loaded. Raises RefusedError if the database does not answer."""
    status = await ask(request, "/api/v1/status")
    if status.content["fills"] is None:
        raise RefusedError(503, status.content["database"])
    return status


def _read_query(request: Request, *names: str) -> dict[str, str]:
    """Return the parameters of a page. Empty ones count as absent: a form sends every field. Raises RefusedError."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            accepted = f"its parameters are: {', '.join(names)}" if names else "it has none"
            raise _wrong(name, f"is not a parameter of this page; {accepted}", value)
        if name in found:
            raise _wrong(name, "is given more than once", value)
        found[name] = value.strip()
    return {name: value for name, value in found.items() if value}


def _wrong(name: str, message: str, value: str) -> RefusedError:
    return RefusedError(422, [{"loc": ["query", name], "msg": message, "input": value}])


def _day(midnight: datetime, more: int) -> str:
    return str((midnight + timedelta(more)).date())


def _parse_day(text: str) -> datetime:
    """Return the midnight at which a day begins. Raises RefusedError."""
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), time.min, UTC)
    except ValueError:
        pass
    raise _wrong("day", "must be a day like 2025-11-03", text)
