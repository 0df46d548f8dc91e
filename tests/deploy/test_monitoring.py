"""Prometheus' configuration and alerts, and the dashboard: they parse, and name only what a gateway exports."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Edge
from tests.deploy.servers import DEPLOY, needs

MONITORING = DEPLOY / "monitoring"
METRIC = re.compile(r"\b(?:edgeproxy|process)_\w+")


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]
    ]


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return board


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


@pytest.fixture
async def scraped(edge: Edge) -> str:
    async with edge.client.get(f"{edge.manage}/metrics") as response:
        return await response.text()


@pytest.fixture
def exported(scraped: str) -> dict[str, list[dict[str, str]]]:
    """Sample → its labels, of a gateway's /metrics."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"),
                  ("test", "rules", "rules.test.yml")],
    ids=" ".join,
)  # fmt: skip
def test_promtool_accepts_it(arguments: tuple[str, ...]) -> None:
    told = subprocess.run([needs("promtool"), *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr


def test_promtool_accepts_what_a_gateway_exports(scraped: str) -> None:
    told = subprocess.run(
        [needs("promtool"), "check", "metrics"], input=scraped, capture_output=True, text=True, timeout=60
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_every_alert_is_seen_firing_by_a_test() -> None:
    tested = yaml.safe_load((MONITORING / "rules.test.yml").read_text())["tests"]
    fire = {alert["alertname"] for test in tested for alert in test.get("alert_rule_test", []) if alert["exp_alerts"]}
    assert fire == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_alert_has_its_line_in_the_page() -> None:
    page = (MONITORING / "README.md").read_text()
    assert [rule["alert"] for rule in rules() if "alert" in rule and f"`{rule['alert']}`" not in page] == []


@pytest.mark.parametrize("source", ["rules", "dashboard", "tests"])
def test_only_what_a_gateway_exports_is_named(source: str, exported: dict[str, list[dict[str, str]]]) -> None:
    series = [
        entry["series"]
        for test in yaml.safe_load((MONITORING / "rules.test.yml").read_text())["tests"]
        for entry in test["input_series"]
        if not entry["series"].startswith("up{")
    ]
    variables = [variable["definition"] for variable in dashboard()["templating"]["list"] if "definition" in variable]
    expressions = {
        "rules": [rule["expr"] for rule in rules()], "dashboard": [*queries(), *variables], "tests": series
    }[source]  # fmt: skip
    for expression in expressions:
        for name in METRIC.findall(expression):
            assert name in exported, name
        for name, selector in re.findall(r"((?:edgeproxy|process)_\w+)\{([^}]*)\}", expression):
            for label, equals, value in re.findall(r'(\w+)(=~?)"([^"]*)"', selector):
                if label in ("instance", "job", "worker"):
                    continue
                values = {labels.get(label, "") for labels in exported[name]}
                wanted = value.split("|") if equals == "=~" else [re.escape(value)]
                for pattern in wanted:
                    assert any(re.fullmatch(pattern, one) for one in values), (name, label, pattern)


def test_the_dashboard_shows_every_metric(exported: dict[str, list[dict[str, str]]]) -> None:
    shown = {name for query in queries() for name in METRIC.findall(query)}
    whole = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported} - whole == set()


def test_the_dashboard_s_queries_parse(tmp_path: Path) -> None:
    assert queries()
    recorded = [
        {
            "record": f"query:{i}".replace(":", "_"),
            "expr": query.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for i, query in enumerate(queries())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    subprocess.run([needs("promtool"), "check", "rules", tmp_path / "rules.yml"], check=True, timeout=60)


def test_the_dashboard_s_panels_are_complete_and_stand_beside_each_other() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"
