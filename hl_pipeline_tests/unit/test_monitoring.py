"""Protects deploy/monitoring and its pages: they name metrics, labels and sections that exist, and Prometheus reads them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.metrics import make_metrics
from api.system_metrics import METRICS
from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.tools.write_dashboards import DASHBOARDS, make_dashboards

MONITORING = PROJECT / "deploy" / "monitoring"
_DOCS = PROJECT / "docs"


def read_rules() -> list[dict[str, Any]]:
    """The alert rules."""
    [group] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return group["rules"]


def read_dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards by the name of their file."""
    return {path.name: json.loads(path.read_text()) for path in DASHBOARDS.glob("*.json")}


def read_targets() -> Iterator[tuple[str, str]]:
    """The queries of all panels, each with its legend."""
    for dashboard in read_dashboards().values():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield target["expr"], target["legendFormat"]


def read_metric_names() -> set[str]:
    """Every metric that a rule or a dashboard names; those of a histogram by their own names."""
    expressions = [rule["expr"] for rule in read_rules()] + [expression for expression, _ in read_targets()]
    return {name for text in expressions for name in re.findall(r"\bhl_\w+", text)}


def test_the_dashboards_are_those_that_make_dashboards_writes() -> None:
    assert {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")} == make_dashboards()
    assert set(make_dashboards()) == {"operations.json", "data-quality.json"}


@pytest.mark.parametrize("name", ["operations.json", "data-quality.json"])
def test_a_dashboard_has_what_grafana_needs_and_its_panels_do_not_overlap(name: str) -> None:
    dashboard = read_dashboards()[name]
    assert {"uid", "title", "schemaVersion", "time", "templating", "panels"} <= set(dashboard)
    variables = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in ("timeseries", "stat")
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_every_system_metric_is_on_a_dashboard() -> None:
    shown = {name for expression, _ in read_targets() for name in re.findall(r"\bhl_\w+", expression)}
    assert set(METRICS) <= shown


def test_a_legend_and_a_rule_name_only_labels_of_their_metrics() -> None:
    of_scrapes = {"instance", "job"}
    own = {
        "hl_api_requests_total": {"route", "method", "status"},
        "hl_api_request_seconds_bucket": {"route", "le"},
        "hl_api_pool_connections": {"pool", "what"},
    }
    labels = {name: {*metric.labels} for name, metric in METRICS.items()} | own

    texts = [(expression, legend) for expression, legend in read_targets()]
    texts += [(rule["expr"], " ".join(rule["annotations"].values())) for rule in read_rules()]
    for expression, shown in texts:
        names = re.findall(r"\bhl_\w+", expression)
        there = of_scrapes.union(*(labels.get(name, set()) for name in names))
        asked = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", shown)) | set(re.findall(r"(\w+)[!=]~?\"", expression))
        assert asked <= there, (expression, asked - there)


def test_each_alert_says_how_bad_it_is_and_has_a_section_in_the_runbooks() -> None:
    text = (_DOCS / "runbooks.md").read_text()
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    names = [rule["alert"] for rule in read_rules()]
    assert names == sections
    assert text.count("\n") <= 250
    for rule in read_rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        annotations = rule["annotations"]
        assert set(annotations) == {"summary", "description", "runbook_url"}
        assert annotations["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert all(annotations.values())
    for anchor in re.findall(r"\(#(\w+)\)", text):
        assert anchor in {section.lower() for section in sections}, anchor


def test_the_page_lists_every_metric_as_the_code_describes_it() -> None:
    text = (_DOCS / "monitoring.md").read_text()
    listed = re.findall(r"^\| `(hl_\w+)` \| ([^|]*) \| ([^|]+) \|$", text, re.MULTILINE)
    of_system = [(name, ", ".join(metric.labels), metric.help) for name, metric in METRICS.items()]
    assert [row for row in listed if not row[0].startswith("hl_api_")] == of_system
    own = {family.name: family.documentation for family in make_metrics().registry.collect()}
    told = {
        name.removesuffix("_total"): meaning.removesuffix(" (a histogram)") for name, _, meaning in listed if "hl_api_" in name
    }
    assert told == own
    assert text.count("\n") <= 150


@pytest.mark.slow
def test_prometheus_accepts_the_configuration_and_the_rules(tmp_path: Path) -> None:
    for command in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ):
        done = promtool(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout
    # The queries of the dashboards, as rules: so Prometheus parses them.
    queries = [expression.replace("$instance", ".*") for expression, _ in read_targets()]
    rules = [{"record": f"a:b{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", str(file))
    assert (done.returncode, f"{len(rules)} rules found" in done.stdout) == (0, True), done.stdout + done.stderr
    # It does find what is wrong.
    file.write_text(file.read_text().replace("hl_fills{", "hl_fills{{"))
    assert promtool("check", "rules", str(file)).returncode == 1


def promtool(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool where the rules are."""
    return subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, input=given, capture_output=True, text=True, check=False, timeout=60
    )
