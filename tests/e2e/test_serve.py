"""`edgeproxy serve`: workers, their replacement, the drain; and the commands beside it."""

import asyncio
import os
import re
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import orjson
import pytest
import redis

from edgeproxy.dynamic import signature
from edgeproxy.store.embedded import EmbeddedStore
from tests.conftest import DEMO, web_request
from tests.processes import pasted, run, started

pytestmark = pytest.mark.slow

PORTS = {"EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0", "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8"}
BODY = orjson.dumps(web_request())
SIGNED = {"X-SIGN": signature.sign(BODY, b"freespee"), "X-HTTP-STATUSES": "1"}


async def clients(edge: str, until: asyncio.Event, count: int = 16) -> Counter[object]:
    """Clients that ask until told to stop: how often each status, or each fault of the connection, was seen.

    Each asks anew where its connection was closed after an answer, as HTTP clients do.
    """
    seen: Counter[object] = Counter()

    async def one(client: aiohttp.ClientSession, number: int) -> None:
        serial = 0
        while not until.is_set():
            serial += 1
            ip = f"10.{number}.{serial >> 8 & 255}.{serial & 255}"
            try:
                async with client.post(edge + "/api", data=BODY, headers=SIGNED | {"X-Forwarded-For": ip}) as response:
                    await response.read()
                    seen[response.status] += 1
            except aiohttp.ClientConnectorError:
                return  # the port is closed
            except aiohttp.ClientError as error:
                seen[type(error).__name__] += 1
            await asyncio.sleep(0.005)

    async with aiohttp.ClientSession() as client:
        await asyncio.gather(*(one(client, number) for number in range(count)))
    return seen


def test_a_crashed_worker_is_replaced(store_url: str, tmp_path: Path) -> None:
    settings = PORTS | {"EDGEPROXY_STORE_URL": store_url}
    assert run("load", str(DEMO), **settings).returncode == 0
    with started("serve", "--workers", "2", stderr=tmp_path / "log", settings=settings) as serve:
        before = serve.workers()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 10
        while len(set(serve.workers()) - {before[0]}) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for i in range(40):  # over connections of their own, so over both workers
            assert pasted(f"curl -s {serve.edge}/healthz") == "alive\n", i
        assert "worker 0 ended (signal 9); starting another" in (tmp_path / "log").read_text()
        assert "edgeproxy_worker_starts_total 3.0" in pasted(f"curl -s {serve.manage}/metrics")
        assert serve.stop() == 0


def test_a_drain_cuts_nothing(store_url: str) -> None:
    settings = PORTS | {"EDGEPROXY_STORE_URL": store_url, "EDGEPROXY_DRAIN_S": "1", "EDGEPROXY_BUDGET_MS": "1000"}
    assert run("load", str(DEMO), **settings).returncode == 0

    async def drive(edge: str, pid: int) -> Counter[object]:
        until = asyncio.Event()
        load = asyncio.create_task(clients(edge, until))
        await asyncio.sleep(0.5)
        # A request whose body is slow is in flight while the gateway drains, and is answered.
        host, port = edge.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "".join(f"{name}: {value}\r\n" for name, value in SIGNED.items())
        writer.write(f"POST /api HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:9])
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.3)
        async with aiohttp.ClientSession() as client:
            async with client.get(edge + "/readyz") as response:
                assert response.status == 503
            async with client.get(edge + "/healthz") as response:
                assert response.status == 200
        await asyncio.sleep(0.3)
        until.set()  # the load balancer has seen it
        seen = await load
        await asyncio.sleep(1)
        writer.write(BODY[9:])
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close" in answer
        return seen

    with started("serve", "--workers", "2", settings=settings) as serve:
        seen = asyncio.run(drive(serve.edge, serve.process.pid))
        assert set(seen) == {200}, seen
        assert seen[200] > 100
        assert serve.process.wait(10) == 0


def test_workers_end_with_a_supervisor_that_was_killed(store_url: str) -> None:
    settings = PORTS | {"EDGEPROXY_STORE_URL": store_url, "EDGEPROXY_DRAIN_S": "0"}
    with started("serve", "--workers", "2", settings=settings) as serve:
        workers = serve.workers()
        serve.stop(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_without_a_store_url_it_uses_the_embedded_store_and_says_so(tmp_path: Path) -> None:
    settings = PORTS | {"EDGEPROXY_DATA_DIR": str(tmp_path)}
    with started("serve", stderr=tmp_path / "log", settings=settings) as serve:
        assert f"the embedded store, in {tmp_path / 'store'}" in (tmp_path / "log").read_text()
        assert run("load", str(DEMO), **settings).stdout.endswith("4 of 4 accounts changed\n")
        checked = run("check", **settings)
        assert checked.returncode == 0
        assert re.search("functions ep1_resolve_[0-9a-f]{8}: loaded", checked.stdout)
        answer = pasted(f"curl -s {serve.edge}/api -H 'X-SIGN: {SIGNED['X-SIGN']}' -d '{BODY.decode()}'")
        assert '"success":true' in answer
        with redis.Redis.from_url(serve.said["store:"]) as store:
            os.kill(store.info("server")["process_id"], signal.SIGKILL)
        deadline = time.monotonic() + 10
        while "was started again" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answer = pasted(f"curl -s {serve.edge}/api -H 'X-SIGN: {SIGNED['X-SIGN']}' -d '{BODY.decode()}'")
        assert '"success":true' in answer


def test_it_starts_without_its_store_and_is_ready_once_that_is_there(tmp_path: Path) -> None:
    store, log = EmbeddedStore(tmp_path / "store"), tmp_path / "log"
    settings = PORTS | {"EDGEPROXY_STORE_URL": store.url}
    log.touch()

    def start_late() -> None:
        deadline = time.monotonic() + 30
        while "not ready" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        store.start()

    with ThreadPoolExecutor(1) as thread:  # lives on: the store ends with the thread that started it
        try:
            late = thread.submit(start_late)
            with started("serve", stderr=log, settings=settings) as serve:
                assert "not ready" in log.read_text()
                assert pasted(f"curl -s {serve.edge}/readyz") == "ready\n"
            late.result()
        finally:
            store.stop()


def test_sign_prints_the_documented_vector() -> None:
    signed = run("sign", "--key", "freespee", body='{"advid":"123","numbers":"321"}')
    assert signed.stdout == "bdc98a82e1d0c873ea95c35c2e7decbd3752a2fb\n"


def test_load_shows_what_changes_and_refuses_a_bad_file_whole(store_url: str, tmp_path: Path) -> None:
    settings = {"EDGEPROXY_STORE_URL": store_url}
    dry = run("load", "--dry-run", str(DEMO), **settings)
    assert dry.stdout.endswith("4 of 4 accounts would change\n")
    assert "demo: pool berlin: is created, +40 numbers\n" in dry.stdout
    assert run("load", str(DEMO), **settings).stdout.endswith("4 of 4 accounts changed\n")
    assert run("load", str(DEMO), **settings).stdout == "0 of 4 accounts changed\n"
    bad = tmp_path / "bad.yaml"
    bad.write_text(DEMO.read_text().replace("daily: 20}", "daily: many}").replace("region: DE", "region: XX"))
    refused = run("load", str(bad), **settings)
    assert refused.returncode == 1
    assert refused.stderr.count(f"{bad}:") == 2
    assert refused.stderr.endswith("nothing was changed\n")
    assert run("load", str(DEMO), **settings).stdout == "0 of 4 accounts changed\n"


@pytest.mark.parametrize("command", [["check"], ["load", str(DEMO)]])
def test_a_store_that_is_not_there_is_told_without_its_password(command: list[str]) -> None:
    told = run(*command, EDGEPROXY_STORE_URL="redis://user:hunter2@127.0.0.1:1/0")
    assert told.returncode == 1
    assert "the store cannot be used" in told.stderr
    assert "hunter2" not in told.stderr + told.stdout
    assert "Traceback" not in told.stderr


def test_bad_settings_are_told_together() -> None:
    told = run("serve", EDGEPROXY_PORT="x", EDGEPROXY_WORKERS="0", EDGEPROXY_PROT="1")
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 3


def test_killed_and_started_again_at_once_it_serves_what_it_held(tmp_path: Path) -> None:
    with socket.socket() as edge, socket.socket() as manage:
        for probe in (edge, manage):
            probe.bind(("127.0.0.1", 0))
        ports = [str(probe.getsockname()[1]) for probe in (edge, manage)]
    settings = PORTS | {
        "EDGEPROXY_DATA_DIR": str(tmp_path), "EDGEPROXY_PORT": ports[0], "EDGEPROXY_MANAGE_PORT": ports[1],
        "EDGEPROXY_DRAIN_S": "3",
    }  # fmt: skip
    log = tmp_path / "log"
    for round_ in range(3):
        with started("serve", "--workers", "2", stderr=log, settings=settings) as serve:
            if round_ == 0:
                assert run("load", str(DEMO), **settings).returncode == 0
            answer = pasted(f"curl -s {serve.edge}/api -H 'X-SIGN: {SIGNED['X-SIGN']}' -d '{BODY.decode()}'")
            assert '"success":true' in answer
            serve.process.kill()
    told = log.read_text()
    assert "in use by" not in told
    assert "Traceback" not in told
