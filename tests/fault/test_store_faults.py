"""A store that freezes, dies, or loses its functions, under load: what clients see meanwhile."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from edgeproxy.store.embedded import EmbeddedStore
from tests.conftest import DEMO
from tests.fault.load import Load
from tests.processes import Running, pasted, run, started

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "store") as store:
        yield store


@pytest.fixture
def serve(store: EmbeddedStore, tmp_path: Path) -> Iterator[Running]:
    settings = {
        "EDGEPROXY_STORE_URL": store.url, "EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0",
        "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8", "EDGEPROXY_DRAIN_S": "0",
    }  # fmt: skip
    assert run("load", str(DEMO), **settings).returncode == 0
    with started("serve", stderr=tmp_path / "log", settings=settings) as serve:
        yield serve


async def test_a_frozen_store_makes_no_answer_late(store: EmbeddedStore, serve: Running, tmp_path: Path) -> None:
    async with Load(serve.edge) as load:
        assert set(load.seen()) == {"success"}
        logged = len((tmp_path / "log").read_text())
        os.kill(store.pid, signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            await asyncio.sleep(3)
        finally:
            os.kill(store.pid, signal.SIGCONT)
        thawed = time.monotonic()
        await load.answers_well(within_s=2)
    meanwhile = (frozen, thawed - 0.1)
    assert set(load.seen(*meanwhile)) == {"success", "Store unavailable"}  # memory serves the known sessions
    took = load.took(*meanwhile)
    assert took[-1] < 0.060 + 0.040, took[-10:]  # the last 40 ms are the test's own: it shares two cores
    assert took[len(took) * 9 // 10] < 0.060
    waited = [answer for answer in load.answers if frozen + 0.3 < answer.begun < meanwhile[1] and answer.took > 0.03]
    assert len(waited) <= len(took) // 20, waited[:5]  # once it is known to be silent, nobody waits for it
    metrics = pasted(f"curl -s {serve.manage}/metrics").splitlines()
    counted = dict(line.rsplit(" ", 1) for line in metrics if line.startswith("edgeproxy_request_seconds_"))
    within = counted['edgeproxy_request_seconds_bucket{le="0.06"}']
    assert within == counted["edgeproxy_request_seconds_count"]  # by the gateway's clock: every answer, without margin
    log = (tmp_path / "log").read_text()[logged:]
    assert log.count("the store is unavailable") == 1
    assert log.count("the store answers again") == 1


async def test_a_killed_store_that_comes_back_without_functions(store: EmbeddedStore, serve: Running) -> None:
    async with Load(serve.edge) as load:
        store.kill()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(store.start)
        with redis.Redis.from_url(store.url) as client:
            client.function_flush()
        assert await load.answers_well(within_s=5) < 1.1
    assert set(load.seen()) == {"success", "Store unavailable"}


async def test_a_store_that_comes_back_empty_is_unavailable_until_it_is_loaded(
    store: EmbeddedStore, serve: Running
) -> None:
    async with Load(serve.edge) as load:
        with redis.Redis.from_url(store.url) as client:
            client.flushall()
        await asyncio.sleep(0.3)
        emptied = time.monotonic()
        await asyncio.sleep(0.3)
        assert set(load.seen(emptied)) == {"Store unavailable"}
        loaded = await asyncio.to_thread(run, "load", str(DEMO), EDGEPROXY_STORE_URL=store.url)
        assert loaded.returncode == 0
        await load.answers_well(within_s=5)
    assert set(load.seen()) == {"success", "Store unavailable"}
