"""A store that freezes, dies, or loses its functions, under load: what clients see meanwhile (CONTRACT §1, 500)."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
import redis

from edgeproxy.resolve import signature
from edgeproxy.store.embedded import EmbeddedStore
from tests.conftest import DEMO, web_request
from tests.processes import Running, pasted, run, started

pytestmark = pytest.mark.slow

CLIENTS = 8


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


class Load:
    """Paced clients, each on a connection of its own, and what they were answered: (when, how long, text)."""

    def __init__(self, edge: str) -> None:
        self._edge = edge
        self.answers: list[tuple[float, float, str]] = []
        self._stop = asyncio.Event()

    async def __aenter__(self) -> "Load":
        self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(CLIENTS)]
        await asyncio.sleep(0.7)
        self.answers.clear()  # a fresh worker's first answers may be late by themselves
        await asyncio.sleep(0.5)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._client.close()

    async def _ask(self, number: int) -> None:
        serial, session = 0, ""
        while not self._stop.is_set():
            serial += 1
            session = "" if number % 2 else session  # half of the clients stay in their session
            body = orjson.dumps(web_request(sessionId=session))
            headers = {
                "X-SIGN": signature.sign(body, b"freespee"),
                "X-Forwarded-For": f"10.{number}.{serial >> 8 & 255}.{serial & 255}",
            }
            begun = time.monotonic()
            async with self._client.post(self._edge + "/api", data=body, headers=headers) as response:
                answer = orjson.loads(await response.read())
            self.answers.append((begun, time.monotonic() - begun, answer.get("error", "success")))
            session = answer.get("sessionId", session)
            await asyncio.sleep(0.02)

    def seen(self, since: float = 0) -> Counter[str]:
        return Counter(text for begun, _, text in self.answers if begun >= since)

    async def answers_well(self, within_s: float) -> float:
        """Wait until the store's answers are back: a new session is served. How long that took, s."""
        begun = time.monotonic()
        while time.monotonic() - begun < within_s:
            await asyncio.sleep(0.02)
            late = [text for when, _, text in self.answers if when > time.monotonic() - 0.1]
            if len(late) >= CLIENTS and set(late) == {"success"}:
                return time.monotonic() - begun
        raise AssertionError(self.seen(begun))


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
    meanwhile = [(took, text) for begun, took, text in load.answers if frozen < begun < thawed - 0.1]
    assert {text for _, text in meanwhile} == {"success", "Store unavailable"}  # memory serves the known sessions
    took = sorted(took for took, _ in meanwhile)
    assert took[-1] < 0.060 + 0.040, took[-10:]  # the last 40 ms are the test's own: it shares two cores
    assert took[len(took) * 9 // 10] < 0.060
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
