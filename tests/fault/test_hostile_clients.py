"""Hostile clients in small doses, beside good ones that must not notice; afterwards the gateway is as it was before."""

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.attacks import KINDS
from benchmarks.hostile import SLOW
from edgeproxy.store.embedded import EmbeddedStore
from tests.conftest import DEMO
from tests.fault.load import Load
from tests.processes import Running, pasted, run, started

pytestmark = pytest.mark.slow

SECONDS = 3
LISTENING = "0A"  # in /proc/net/tcp
STORE_CONNECTIONS = 32  # that stay for the next look-ups of accounts
BOUND_S = 1  # that heads and bodies have; idle connections have twice that
GROWTH_MIB = 48  # for 500 connections and what they may send ahead
COUNTED = {
    "slow heads": "slow_head",
    "idle connections": "idle",
    "oversized heads": "large_head",
    "smuggling shapes": "broken",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("hostile")
    with EmbeddedStore(directory / "store") as store:
        settings = {
            "EDGEPROXY_STORE_URL": store.url, "EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0",
            "EDGEPROXY_HOST": "127.0.0.1", "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8", "EDGEPROXY_DRAIN_S": "0",
            "EDGEPROXY_BUDGET_MS": "500", "EDGEPROXY_HEADER_S": str(BOUND_S), "EDGEPROXY_BODY_S": str(BOUND_S),
            "EDGEPROXY_KEEPALIVE_S": str(2 * BOUND_S), "EDGEPROXY_CONNECTIONS_MOST": "500",
        }  # fmt: skip
        assert run("load", str(DEMO), **settings).returncode == 0
        with started("serve", stderr=directory / "log", settings=settings) as gateway:
            yield gateway
        assert (directory / "log").read_text().count('"level": "error"') == 0


def connections(gateway: Running) -> int:
    """The client connections that the gateway holds at its edge port."""
    port = f":{int(gateway.edge.rpartition(':')[2]):04X}"
    held = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, state, inode = fields[1], fields[3], fields[9]
        held += local.endswith(port) and state != LISTENING and inode != "0"  # 0: the kernel's, no longer a process's
    return held


def files(gateway: Running) -> int:
    (worker,) = gateway.workers()
    return len(list(Path(f"/proc/{worker}/fd").iterdir()))


def rss_mib(gateway: Running) -> float:
    (worker,) = gateway.workers()
    return int(Path(f"/proc/{worker}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def counted(gateway: Running, name: str) -> float:
    metrics = pasted(f"curl -s {gateway.manage}/metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in metrics if line.startswith(name))


def command(kind: str, url: str) -> list[str]:
    if kind not in SLOW:
        return [sys.executable, "-m", "benchmarks.attacks", kind, url, str(SECONDS)]
    tool = shutil.which("slowhttptest")
    if tool is None:
        pytest.skip("slowhttptest is not installed (Debian: apt-get install slowhttptest)")
    return [tool, *SLOW[kind], "-c", "300", "-r", "300", "-l", str(SECONDS), "-u", url + "/api"]


@pytest.mark.parametrize("kind", [*SLOW, *KINDS])
async def test_good_clients_are_answered_beside(gateway: Running, kind: str) -> None:
    attack = command(kind, gateway.edge)
    metric = f'edgeproxy_connections_refused_total{{reason="{COUNTED.get(kind)}"}}'
    files_before, counted_before = files(gateway), counted(gateway, metric)
    unread_before = counted(gateway, "edgeproxy_unread_bodies_total")
    async with Load(gateway.edge) as load:
        resident_before = rss_mib(gateway)
        process = await asyncio.create_subprocess_exec(
            *attack, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(SECONDS + 20):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert connections(gateway) <= 500
    ended = time.monotonic()
    assert set(load.seen()) == {"success"}
    took = sorted(answer.took for answer in load.answers)
    assert took[len(took) * 99 // 100] < 0.5 + 0.2, took[-10:]  # the budget, and the test's own share of two cores
    while connections(gateway):
        assert time.monotonic() - ended < 2 * BOUND_S + 3, f"{connections(gateway)} connections are left"
        await asyncio.sleep(0.05)
    assert files(gateway) <= files_before + STORE_CONNECTIONS
    assert rss_mib(gateway) - resident_before < GROWTH_MIB
    if kind in COUNTED:
        assert counted(gateway, metric) > counted_before
    if kind == "slow bodies":
        assert counted(gateway, "edgeproxy_unread_bodies_total") > unread_before
