import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeproxy.telemetry.logs import log_access
from edgeproxy.telemetry.metrics import READY, Board


def samples(board: Board) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(board.exposition().decode())
        for sample in family.samples
    }


def test_workers_add_up_and_a_successor_goes_on_counting() -> None:
    board = Board(2)
    board.row(0).request("success", 0.0041)
    board.row(1).request("success", 0.2)
    board.row(1).request("blocked_ip", 0.0001)
    board.row(1).died()
    board.row(1).request("success", 0.0499)
    found = samples(board)
    assert found["edgeproxy_requests_total", (("outcome", "success"),)] == 3
    assert found["edgeproxy_requests_total", (("outcome", "blocked_ip"),)] == 1
    assert found["edgeproxy_request_seconds_count", ()] == 4
    assert found["edgeproxy_request_seconds_sum", ()] == pytest.approx(0.2541)
    assert found["edgeproxy_request_seconds_bucket", (("le", "0.005"),)] == 2
    assert found["edgeproxy_request_seconds_bucket", (("le", "0.05"),)] == 3
    assert found["edgeproxy_request_seconds_bucket", (("le", "+Inf"),)] == 4


def test_batches_and_what_they_did() -> None:
    board = Board(1)
    events = {"granted": 2, "renewed": 30, "recycled": 0, "original": 1, "shared": 0}
    board.row(0).batch(33, events)
    board.row(0).batch(1, dict.fromkeys(events, 0))
    found = samples(board)
    assert found["edgeproxy_batch_requests_sum", ()] == 34
    assert found["edgeproxy_batch_requests_bucket", (("le", "1"),)] == 1
    assert found["edgeproxy_batch_requests_bucket", (("le", "64"),)] == 2
    assert found["edgeproxy_numbers_total", (("event", "renewed"),)] == 30


def test_what_is_true_of_living_workers_alone_goes_with_them() -> None:
    board = Board(2)
    for worker in (0, 1):
        board.row(worker).store_up(True)
        board.row(worker).state = READY
    board.row(0).died()
    assert samples(board)["edgeproxy_workers_store_up", ()] == 1
    assert board.total("state") == READY


def test_an_access_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_access(account="demo", ip="203.0.113.0", status=200, outcome="success", took_s=0.0012, size=180)
    line: dict[str, Any] = json.loads(capsys.readouterr().out)
    line.pop("time")
    assert line == {
        "request": "POST /api", "account": "demo", "ip": "203.0.113.0", "status": 200, "outcome": "success",
        "ms": 1.2, "bytes": 180,
    }  # fmt: skip
