import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeproxy import telemetry
from edgeproxy.accounts.account import PoolState
from edgeproxy.telemetry import processes
from edgeproxy.telemetry.metrics import METRICS, READY, STATUSES, Board, Counts, pools_exposition

PAGE = (Path(telemetry.__file__).parent / "README.md").read_text()
ROW = re.compile(r"\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\| ([^|]+) \| ([^|]+) \|")
WITHOUT_LIST = {
    "version",
    "python",
    "aiohttp",
    "worker",
    "account",
    "pool",
    "status",
}  # labels whose values the page does not list


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
        board.row(worker).started()
        board.row(worker).store_up(True)
        board.row(worker).state = READY
    board.row(0).died()
    found = samples(board)
    assert found["edgeproxy_workers_store_up", ()] == 1
    assert found["edgeproxy_worker_starts_total", ()] == 2
    assert [labels for name, labels in found if name == "process_open_fds"] == [(("worker", "1"),)]
    assert board.total("state") == READY


@pytest.mark.parametrize(("api", "name"), [("partner", "partner"), ("numbers", "static"), ("calls", "calls")])
def test_each_api_is_counted_by_status_and_timed(api: str, name: str) -> None:
    board = Board(1)
    for status in STATUSES[api]:
        board.row(0).answered(api, status, 0.3)
    found = samples(board)
    for status in STATUSES[api]:
        assert found[f"edgeproxy_{name}_requests_total", (("status", str(status)),)] == 1
    for told in ("dynamic", *STATUSES):
        count = found["edgeproxy_api_request_seconds_count", (("api", told),)]
        assert count == (len(STATUSES[api]) if told == api else 0)
    bucket = ("edgeproxy_api_request_seconds_bucket", (("api", api), ("le", "0.25")))
    assert (found[bucket], found[bucket[0], (("api", api), ("le", "0.5"))]) == (0, len(STATUSES[api]))


def test_the_statuses_of_post_api_follow_from_outcomes_and_from_bodies_that_are_not_read() -> None:
    board = Board(1)
    counts = board.row(0)
    for outcome in ("success", "success", "malformed_json", "body_too_large", "blocked_ip", "no_pool"):
        counts.request(outcome, 0.001)
    for status in (400, 408, 415):
        counts.unread(status)
    found = samples(board)
    told = {
        dict(labels)["status"]: count
        for (name, labels), count in found.items()
        if name == "edgeproxy_dynamic_requests_total"
    }
    assert told == {"200": 2, "400": 3, "403": 1, "408": 1, "415": 1, "500": 0, "501": 1, "other": 0}
    assert found["edgeproxy_unread_bodies_total", ()] == 3
    assert found["edgeproxy_api_request_seconds_count", (("api", "dynamic"),)] == 6


@pytest.mark.parametrize(
    ("count", "name", "label"),
    [
        (lambda counts: counts.request("strange", 0.001), "edgeproxy_requests_total", "outcome"),
        (lambda counts: counts.unread(499), "edgeproxy_dynamic_requests_total", "status"),
        (lambda counts: counts.batch(1, {"strange": 1}), "edgeproxy_numbers_total", "event"),
        (lambda counts: counts.answered("partner", 418, 0.001), "edgeproxy_partner_requests_total", "status"),
        (lambda counts: counts.answered("numbers", 418, 0.001), "edgeproxy_static_requests_total", "status"),
        (lambda counts: counts.answered("calls", 418, 0.001), "edgeproxy_calls_requests_total", "status"),
        (lambda counts: counts.store_fault("strange"), "edgeproxy_store_faults_total", "fault"),
        (lambda counts: counts.refused("strange"), "edgeproxy_connections_refused_total", "reason"),
    ],
)
def test_what_the_table_does_not_have_is_counted_as_other(
    count: Callable[[Counts], None], name: str, label: str
) -> None:
    board = Board(1)
    count(board.row(0))
    assert samples(board)[name, ((label, "other"),)] == 1


# What is read when it is scraped --------------------------------------------------------------------------------------


def test_the_versions_that_run() -> None:
    ((_, labels),) = [key for key in samples(Board(1)) if key[0] == "edgeproxy_build_info"]
    assert dict(labels)["python"] == ".".join(map(str, sys.version_info[:3]))


async def test_what_a_process_takes() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c",
        "import resource; held = [open('/dev/null') for _ in range(40)]; kept = b'x' * 50_000_000\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (123, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "sum(range(3_000_000)); print(flush=True); input()",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    found = processes.look(process.pid)
    process.kill()
    await process.communicate()
    assert 50e6 < found["process_resident_memory_bytes"] < 150e6
    assert 43 <= found["process_open_fds"] < 60
    assert found["process_max_fds"] == 123
    assert 0.02 <= found["process_cpu_seconds_total"] < 30
    assert processes.look(process.pid) == {}


def test_a_process_without_a_place_in_the_system_is_told_nothing_of() -> None:
    assert processes.look(0) == {}
    assert not [name for name, _ in samples(Board(1)) if name.startswith("process_")]


# The table and its page -----------------------------------------------------------------------------------------------


def told(board: Board) -> dict[str, tuple[str, str]]:
    """All families that a node tells: name → kind, help."""
    text = board.exposition() + pools_exposition([PoolState("a", "p", 1, 1, 0, 0, 0, 0)])
    return {
        family.name + "_total" * (family.type == "counter"): (family.type, family.documentation)
        for family in text_string_to_metric_families(text.decode())
    }


def test_a_node_tells_every_metric_of_the_table_in_its_order() -> None:
    board = Board(1)
    board.row(0).started()
    assert list(told(board).items()) == [(metric.name, (metric.kind, metric.help)) for metric in METRICS]
    assert board.total("process") == os.getpid()


def test_the_page_documents_every_metric_in_the_table_s_words() -> None:
    rows = {name: (kind, labels.strip(), meaning) for name, kind, labels, meaning, _ in ROW.findall(PAGE)}
    assert rows == {
        metric.name: (metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    }


def test_the_page_names_every_value_of_a_label() -> None:
    for metric in METRICS:
        if metric.labels and metric.labels[0] not in WITHOUT_LIST:
            assert [value for value in metric.cells if f"`{value}`" not in PAGE] == []
