"""`python -m hl_pipeline_tests.tools.write_dashboards`: the dashboards of deploy/monitoring, from the panels listed here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hl_pipeline_tests.processes import PROJECT

DASHBOARDS = PROJECT / "deploy" / "monitoring" / "grafana"
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _COLUMNS = 6, 24
_INSTANCE = 'instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class _Panel:
    """A panel of a dashboard. `queries` are PromQL, each with the text of its legend."""

    title: str
    queries: dict[str, str]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    red_above: float | None = None
    description: str = ""


def _stat(title: str, query: str, unit: str = "short", *, red_above: float | None = None, description: str = "") -> _Panel:
    return _Panel(title, {query: ""}, "stat", unit, _WIDTH, red_above, description)


_OPERATIONS = [
    _stat("API", 'up{job="hl-api", $i}', description="1: Prometheus can scrape the API."),
    _stat("Database", "hl_api_database_up{$i}", description="1: PostgreSQL answers the API."),
    _stat("Newest loaded hour", 'hl_newest_loaded_hour_lag_seconds{dataset="node_fills_by_block", $i}', "s", red_above=14_400),
    _stat("S3 budget spent", "hl_s3_month_spent_dollars{$i} / hl_s3_budget_dollars{$i}", "percentunit", red_above=0.8),
    _Panel(
        "Lag of the newest hour",
        {
            "hl_newest_loaded_hour_lag_seconds{$i}": "{{dataset}}, loaded",
            "hl_newest_whole_hour_lag_seconds{$i}": "{{dataset}}, whole",
        },
        unit="s",
        description="Datasets that have ended lag for ever.",
    ),
    _Panel(
        "Spent on S3 this month",
        {"hl_s3_month_spent_dollars{$i}": "spent", "hl_s3_budget_dollars{$i}": "budget"},
        unit="currencyUSD",
    ),
    _Panel("Received from S3 this month", {"hl_s3_month_received_bytes{$i}": "received"}, unit="bytes"),
    _Panel("S3 requests this month", {"hl_s3_month_requests{$i}": "all", "hl_s3_month_failed_requests{$i}": "with an error"}),
    _Panel("Objects that failed", {"hl_objects_failed{$i}": "{{dataset}}"}),
    _Panel("Objects loaded", {"hl_objects_loaded{$i}": "{{dataset}}", "hl_objects_fetched{$i}": "{{dataset}}, in the lake"}),
    _Panel("Dagster runs", {"hl_runs{$i}": "{{status}}", "hl_last_day_failed_runs{$i}": "failed in the last 24 hours"}),
    _Panel("Queue", {"hl_runs_queued{$i}": "queued"}),
    _Panel("Oldest run in the queue", {"hl_oldest_queued_run_seconds{$i}": "waits"}, unit="s"),
    _Panel("Daemon: last sign of life", {"hl_daemon_heartbeat_age_seconds{$i}": "{{daemon}}"}, unit="s"),
    _Panel("Backfill: wallets", {"hl_backfill_wallets{$i}": "{{state}}"}),
    _Panel(
        "Info API: weight per minute",
        {"hl_info_weight_last_minute{$i}": "{{egress}}", "hl_info_weight_limit{$i}": "limit"},
    ),
    _Panel("Info API: told to wait", {"hl_info_blocked_seconds{$i}": "{{egress}}"}, unit="s"),
    _Panel("API: requests per second", {"sum by (route) (rate(hl_api_requests_total{$i}[5m]))": "{{route}}"}, unit="reqps"),
    _Panel(
        "API: share of errors",
        {
            'sum(rate(hl_api_requests_total{status=~"5..", $i}[5m])) / sum(rate(hl_api_requests_total{$i}[5m]))': "5xx",
            'sum(rate(hl_api_requests_total{status=~"4..", $i}[5m])) / sum(rate(hl_api_requests_total{$i}[5m]))': "4xx",
        },
        unit="percentunit",
    ),
    _Panel(
        "API: 95 % of requests are faster than",
        {"histogram_quantile(0.95, sum by (route, le) (rate(hl_api_request_seconds_bucket{$i}[5m])))": "{{route}}"},
        unit="s",
    ),
    _Panel("API: connections", {"hl_api_pool_connections{$i}": "{{pool}}, {{what}}"}),
    _Panel("API: answers from memory per second", {"rate(hl_api_cache_hits_total{$i}[5m])": "cache hits"}, unit="ops"),
    _Panel("API: cache", {"hl_api_cache_bytes{$i}": "size"}, unit="bytes"),
    _Panel("Free disk", {"hl_disk_free_bytes{$i}": "{{what}}, free", "hl_disk_size_bytes{$i}": "{{what}}, size"}, unit="bytes"),
    _Panel("Size of the database", {"hl_database_size_bytes{$i}": "database"}, unit="bytes"),
    _Panel("Versions", {"hl_build_info{$i}": "API {{version}}", "hl_schema_version{$i}": "schema"}),
    _Panel("Seconds to read these metrics", {"hl_metrics_read_seconds{$i}": "reading"}, unit="s"),
]

_QUALITY = [
    _stat("Fills", "hl_fills{$i}"),
    _stat("TWAP events", "hl_twap_status_events{$i}"),
    _stat(
        "Holes",
        "max(sum by (instance) (hl_holes{$i}))",
        red_above=0.5,
        description="Hours with missing data that nobody has acknowledged.",
    ),
    _stat("Days to load again", "hl_reloads_due{$i}", red_above=0.5),
    _Panel("Holes by cause", {"hl_holes{$i}": "{{dataset}}, {{cause}}"}),
    _Panel("Acknowledged holes", {"hl_acknowledged_holes{$i}": "{{dataset}}"}),
    _Panel("Days by verdict", {"hl_day_verdicts{$i}": "{{dataset}}, {{verdict}}"}),
    _Panel("Hours by state", {"hl_hour_states{$i}": "{{dataset}}, {{state}}"}),
    _Panel(
        "Share of lines in quarantine, last 24 hours",
        {"hl_last_day_quarantined_lines{$i} / (hl_last_day_rows{$i} + hl_last_day_quarantined_lines{$i})": "{{dataset}}"},
        unit="percentunit",
    ),
    _Panel(
        "Lines in quarantine",
        {"hl_quarantined_lines{$i}": "{{dataset}}", "hl_backfill_quarantined_items{$i}": "info API"},
    ),
    _Panel("Rows read from objects", {"hl_objects_rows{$i}": "{{dataset}}"}),
    _Panel("Rows of the last 24 hours", {"hl_last_day_rows{$i}": "{{dataset}}"}),
    _Panel("Fills of the newest day", {"hl_newest_day_fills{$i}": "fills"}),
    _Panel("Size of the source objects", {"hl_objects_size_bytes{$i}": "{{dataset}}"}, unit="bytes"),
    _Panel("Backfill: wallets", {"hl_backfill_wallets{$i}": "{{state}}"}),
    _Panel("Metrics that could be read", {"hl_metrics_readable{$i}": "{{group}}"}),
]


def main() -> None:
    """Write the dashboards."""
    for name, text in make_dashboards().items():
        (DASHBOARDS / name).write_text(text)


def make_dashboards() -> dict[str, str]:
    """The text of each dashboard by the name of its file."""
    return {
        "operations.json": _dashboard("hl-operations", "hl-pipeline: operations", _OPERATIONS),
        "data-quality.json": _dashboard("hl-data-quality", "hl-pipeline: data quality", _QUALITY),
    }


def _dashboard(uid: str, title: str, panels: list[_Panel]) -> str:
    placed: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, 1):
        height = 4 if panel.kind == "stat" else 8
        if x + panel.width > _COLUMNS:
            x, y = 0, y + placed[-1]["gridPos"]["h"]
        placed.append({"id": number, "gridPos": {"x": x, "y": y, "w": panel.width, "h": height}, **_describe(panel)})
        x += panel.width
    variables = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "label": "API",
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": "label_values(hl_build_info, instance)", "refId": "instances"},
            "includeAll": True,
            "multi": True,
            # A scrape of another name works too.
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "refresh": 2,
        },
    ]
    dashboard = {
        "uid": uid,
        "title": title,
        "tags": ["hl-pipeline"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-7d", "to": "now"},
        "timezone": "utc",
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": placed,
    }
    return json.dumps(dashboard, indent=2) + "\n"


def _describe(panel: _Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _DATASOURCE,
            "expr": query.replace("$i", _INSTANCE),
            "legendFormat": legend,
        }
        for number, (query, legend) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {},
    }


if __name__ == "__main__":
    main()
