"""Health, readiness, metrics and the access log."""

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Edge, serving, web_request


async def get(edge: Edge, url: str) -> tuple[int, str]:
    async with edge.client.get(url) as response:
        return response.status, await response.text()


async def test_health_on_both_ports(edge: Edge) -> None:
    await edge.post(web_request())
    for base in (edge.url, edge.manage):
        assert await get(edge, base + "/healthz") == (200, "alive\n")
        assert await get(edge, base + "/readyz") == (200, "ready\n")


async def test_a_draining_gateway_is_alive_and_not_ready_and_closes_connections(edge: Edge) -> None:
    await edge.post(web_request())
    edge.gateway.drain()
    for base in (edge.url, edge.manage):
        assert await get(edge, base + "/healthz") == (200, "alive\n")
        assert await get(edge, base + "/readyz") == (503, "draining\n")
    status, _, headers = await edge.post(web_request())
    assert (status, headers["Connection"]) == (200, "close")


async def test_metrics_count_what_happened(edge: Edge) -> None:
    await edge.post(web_request())
    await edge.post(web_request(), "wrong")
    await edge.post(b"{")
    status, text = await get(edge, edge.manage + "/metrics")
    assert status == 200
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["edgeproxy_requests_total", "success"] == 1
    assert found["edgeproxy_requests_total", "invalid_signature"] == 1
    assert found["edgeproxy_requests_total", "malformed_json"] == 1
    assert found["edgeproxy_numbers_total", "granted"] == 1
    assert found["edgeproxy_batch_requests_sum",] == 1
    assert found["edgeproxy_workers_store_up",] == 1
    assert found["edgeproxy_request_seconds_count",] == 3


async def test_the_access_log_is_off_by_default(edge: Edge, capsys: pytest.CaptureFixture[str]) -> None:
    await edge.post(web_request())
    assert capsys.readouterr().out == ""


async def test_the_access_log_holds_no_signature_secret_body_or_full_ip(
    store_url: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    async with serving(store_url, access_log=True) as edge:
        await edge.post(web_request(), ip="198.51.100.77", query="?sign=" + "ab" * 20)
        await edge.post(web_request(), ip="198.51.100.77")
        await edge.post(web_request(advId="\r\nforged"), ip="198.51.100.77")
        await edge.post(web_request(), None, ip="198.51.100.77")
    out = capsys.readouterr().out
    lines: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [(line["status"], line["outcome"], line["account"]) for line in lines] == [
        (403, "invalid_signature", None),
        (200, "success", "demo"),
        (403, "invalid_signature", None),
        (403, "missing_signature", None),
    ]
    assert {line["ip"] for line in lines} == {"198.51.100.0"}
    for secret in ("abab", "freespee", "198.51.100.77", "203.0.113.7", "forged", "example.com"):
        assert secret not in out
        assert secret not in caplog.text
