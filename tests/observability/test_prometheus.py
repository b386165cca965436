"""What Prometheus itself makes of the figures, the alerts and the dashboard."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.certificates import Authority
from tests.support.pages import blocks
from tests.support.servers.ports import free_port
from tests.support.servers.prometheus import PrometheusServer, promtool
from towline import Client, JobRequest, TlsCredentials, Worker, job
from towline.registry import Registry
from towline_broker.server.metrics import families

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "towline-alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "towline.json"

PATIENCE = 60.0
#: What Grafana puts in.
VARIABLES = {"$job": "towline", "$queue": ".*", "$__rate_interval": "1m"}


def test_the_alerts_are_sound_and_fire_for_what_they_are_about() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(ALERTS.with_name("towline-alerts.test.yml")))


def test_each_alert_has_a_test_and_a_row_in_the_docs() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    tested = set(
        re.findall(r"alertname: (\w+)", ALERTS.with_name("towline-alerts.test.yml").read_text())
    )
    page = (DEPLOY.parent / "docs" / "observability.md").read_text()
    told = set(re.findall(r"^\| `(Towline\w+)` \|", page, re.MULTILINE))
    assert alerts == tested == told


def test_the_configuration_of_prometheus_is_sound_as_is_that_of_the_page(tmp_path: Path) -> None:
    promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    (shown,) = blocks("docs/observability.md", "yaml")
    (tmp_path / "shown.yml").write_text(shown)
    promtool("check", "config", str(tmp_path / "shown.yml"))


def queries(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for below in panel.get("panels", []):
        yield from queries(below)
    for target in panel.get("targets", []):
        expression: str = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        yield panel.get("title", ""), expression


@dataclass(frozen=True)
class Target:
    broker: BrokerProcess
    #: HOST:PORT of its figures.
    web: str


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("shown")
    web = f"127.0.0.1:{free_port()}"
    authority = Authority()
    cert, key = authority.issue().write(folder)
    options = ("--http", web, "--tls-cert", str(cert), "--tls-key", str(key))
    with BrokerProcess(f"sqlite:///{folder / 'jobs.db'}", *options) as broker:
        work(broker.address, TlsCredentials(authority.pem))
        yield Target(broker, web)


def work(address: str, credentials: TlsCredentials) -> None:
    """Something of everything: jobs that succeed, that fail and die, and that wait."""
    registry = Registry()

    @job(type="SendEmail", registry=registry, max_attempts=1)
    def send(to: str) -> None:
        if to == "nobody":
            raise ValueError(to)

    with Client(address, credentials=credentials) as client:
        for to in ("ada", "nobody", "grace"):
            client.dispatch("SendEmail", {"to": to}, queue="emails", max_attempts=1)
        client.dispatch_batch([JobRequest("Build", {})] * 3, queue="reports")
        Worker(client, ["emails"], registry=registry, stop_when_empty=True).run()


def test_prometheus_accepts_a_scrape(target: Target) -> None:
    with urllib.request.urlopen(f"http://{target.web}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert 'towline_jobs_dead_lettered_total{queue="emails",store="default"} 1.0' in text
    promtool("check", "metrics", text=text)


def test_every_query_of_the_dashboard_and_every_alert_finds_its_figures(target: Target) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [query for panel in dashboard["panels"] for query in queries(panel)]
    assert len(asked) > 40
    with PrometheusServer(target.web, rules=ALERTS) as prometheus:
        empty, deadline = asked, time.monotonic() + PATIENCE
        while empty := [(title, query) for title, query in empty if not prometheus.query(query)]:
            assert time.monotonic() < deadline, f"these show nothing: {empty}"
            time.sleep(0.5)  # it scrapes once a second
        assert {rule["health"] for rule in prometheus.rules()} <= {"ok", "unknown"}
        for name in metrics_of_the_alerts():
            assert prometheus.query(name), f"no broker tells {name}"


def metrics_of_the_alerts() -> set[str]:
    return set(re.findall(r"\btowline_\w+", ALERTS.read_text()))


def test_the_variables_of_the_dashboard_are_asked_of_figures_that_there_are() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    known = {family.name for family in families.ALL}
    asked = [one["query"]["query"] for one in dashboard["templating"]["list"][1:]]
    assert {re.findall(r"towline_\w+", query)[0] for query in asked} <= known


def test_the_panels_of_the_dashboard_stand_beside_each_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(column for column, _ in cells) < 24, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
