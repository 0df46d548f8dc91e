"""What a broken store gets for an answer, a log line and a metric: one of each fault, under load, and its end."""

import asyncio
import contextlib
import logging
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import DEMO
from tests.fault.load import Load
from tests.fault.metrics import in_time, metric
from tests.processes import Running, pasted, run, started
from tests.servers import ServerProcess, free_ports

pytestmark = pytest.mark.slow


_log = logging.getLogger(__name__)


NO_LIMIT = resource.RLIM_INFINITY


@contextlib.contextmanager
def frozen(server: ServerProcess) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextlib.contextmanager
def gone(server: ServerProcess) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def out_of_memory(server: ServerProcess) -> Iterator[None]:
    with server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextlib.contextmanager
def read_only(server: ServerProcess) -> Iterator[None]:
    with server.client() as client:
        client.replicaof("127.0.0.1", free_ports(1)[0])
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextlib.contextmanager
def another_password(server: ServerProcess) -> Iterator[None]:
    with server.client() as client:
        client.config_set("requirepass", "another")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        try:
            yield
        finally:
            client.config_set("requirepass", "")


@contextlib.contextmanager
def full_disk(server: ServerProcess) -> Iterator[None]:
    """No file of the server may grow beyond what the append-only file has now."""
    (increment,) = server.directory.glob("appendonlydir/*.incr.aof")
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (increment.stat().st_size, NO_LIMIT))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (NO_LIMIT, NO_LIMIT))


@contextlib.contextmanager
def too_few_replicas(server: ServerProcess) -> Iterator[None]:
    with server.client() as client:
        client.config_set("min-replicas-to-write", "1")
        try:
            yield
        finally:
            client.config_set("min-replicas-to-write", "0")


class Case(NamedTuple):
    breaking: Callable[[ServerProcess], AbstractContextManager[None]]
    fault: str  # as metrics and the log name it
    waits: bool = False  # calls go unanswered at first


FAULTS = {
    "frozen": Case(frozen, "timeout", waits=True),
    "gone": Case(gone, "unreachable"),
    "out of memory": Case(out_of_memory, "memory"),
    "a read-only replica": Case(read_only, "readonly"),
    "another password": Case(another_password, "denied"),
    "a full disk": Case(full_disk, "disk"),
    "too few replicas": Case(too_few_replicas, "replicas"),
}


@contextlib.contextmanager
def serving(server: ServerProcess, log: Path, **settings: str) -> Iterator[Running]:
    settings = {
        "EDGEPROXY_STORE_URL": server.url, "EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0",
        "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8", "EDGEPROXY_DRAIN_S": "0",
    } | settings  # fmt: skip
    assert run("load", str(DEMO), **settings).returncode == 0
    with started("serve", stderr=log, settings=settings) as serve:
        yield serve


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
async def test_a_broken_store_has_a_defined_answer_a_line_and_a_metric(case: Case, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ServerProcess(tmp_path / "store") as server, serving(server, log) as serve:
        async with Load(serve.edge) as load:
            assert load.seen()["success"] > 50
            before = len(log.read_text())
            began = time.monotonic()
            with case.breaking(server):
                await asyncio.sleep(1.5)
                store_up = metric(serve, "edgeproxy_workers_store_up")
                ended = time.monotonic()
            recovered = await load.answers_well(within_s=5)
        meanwhile = (began + 0.3, ended - 0.1)
        assert set(load.seen(*meanwhile)) == {"success", "Store unavailable"}  # memory serves the known sessions
        took = load.took(*meanwhile)
        told = f"{took[len(took) // 2] * 1000:.0f}, {took[len(took) * 9 // 10] * 1000:.0f}, {took[-1] * 1000:.0f} ms"
        _log.info("%s: p50, p90, max %s; served anew %.0f ms after its end", case.fault, told, recovered * 1000)
        assert took[len(took) * 9 // 10] < 0.060
        in_time(serve)
        assert recovered < 1.5
        assert store_up == 0
        assert metric(serve, "edgeproxy_workers_store_up") == 1
        assert metric(serve, f'edgeproxy_store_faults_total{{fault="{case.fault}"}}') >= 1
        *down, up = log.read_text()[before:].splitlines()
        faults = [re.search("the store is unavailable: ([a-z]+)", line) for line in down]
        names = [found[1] for found in faults if found]
        assert len(names) == len(down) == len(set(names)) <= 2, down  # a line each, of those that it showed as
        assert case.fault in names
        assert "the store answers again" in up


async def test_a_server_that_is_too_old_makes_no_gateway_ready_and_says_so_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = {"EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0", "EDGEPROXY_DRAIN_S": "0"}
    with ServerProcess(tmp_path / "store", 'rename-command FUNCTION ""') as server:
        settings["EDGEPROXY_STORE_URL"] = server.url
        loaded = run("load", str(DEMO), **settings)
        assert (loaded.returncode, loaded.stderr.splitlines()[-1]) == (
            1,
            "the store is too old: Redis 7 or Valkey 8 is needed",
        )
        with started("serve", stderr=log, settings=settings, until="manage:") as serve:
            await asyncio.sleep(1.5)
            assert pasted(f"curl -s -o /dev/null -w %{{http_code}} {serve.edge}/readyz") == "503"
            assert pasted(f"curl -s -o /dev/null -w %{{http_code}} {serve.edge}/healthz") == "200"
        assert log.read_text().count("the store is too old") == 1


async def test_replicas_that_lack_a_lease_keep_it_from_being_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ServerProcess(tmp_path / "store") as server, ServerProcess(tmp_path / "replica") as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", server.port)
            while client.info("replication")["master_link_status"] != "up":
                await asyncio.sleep(0.02)
        with serving(server, log, EDGEPROXY_LEASE_REPLICAS="1") as serve:
            async with Load(serve.edge) as load:
                assert load.seen()["success"] > 100
                began = time.monotonic()
                replica.freeze()
                await asyncio.sleep(1)
                ended = time.monotonic()
                replica.thaw()
                await load.answers_well(within_s=5)
            assert set(load.seen(began + 0.1, ended - 0.1)) == {"success", "Store unavailable"}
            assert all(
                not answer.limited for answer in load.answers if began + 0.1 < answer.begun < ended - 0.1
            )  # what was answered came from memory
            assert metric(serve, 'edgeproxy_store_faults_total{fault="replicas"}') >= 1
