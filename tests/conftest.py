import asyncio
import contextlib
import fcntl
import functools
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import hypothesis
import orjson
import pytest

from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.account import Account
from edgeproxy.dynamic import signature
from edgeproxy.http.room import Room
from edgeproxy.node.gateway import Gateway
from edgeproxy.node.rooms import ROOMS
from edgeproxy.node.supervisor import listen
from edgeproxy.settings import Settings
from edgeproxy.store import Ask, Resolution, Store, inventory, keys, store_time
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.sealing import Seal
from edgeproxy.telemetry.metrics import READY, Board
from tests.servers import async_client_of, client_of, cluster, on_primaries, watched

# The first run on a machine builds Hypothesis' tables of Unicode, and noisy machines pause: neither is a failure.
hypothesis.settings.register_profile(
    "edgeproxy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("edgeproxy")

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
DEMO = Path(account_file.__file__).with_name("demo.yaml")
NOON = 1_780_000_000_000 // 86_400_000 * 86_400_000 + 43_200_000  # a noon in UTC


WORKERS_MOST = 4  # of one run: each is a process with a store of its own


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in several processes; what is slow, a part, or on a store that is chosen runs in one."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and config.option.markexpr == "not slow"
    chosen = any(name.startswith("EDGEPROXY_TEST_STORE") for name in os.environ)
    unsaid = getattr(config.option, "numprocesses", 0) is None  # by `-n`, the option of pytest-xdist
    one_of_them = "PYTEST_XDIST_WORKER" in os.environ  # which would start others, and they others
    if whole and unsaid and not one_of_them and not chosen and not config.option.keyword and not config.option.usepdb:
        config.option.numprocesses = min(len(os.sched_getaffinity(0)), WORKERS_MOST)
        config.option.dist = "worksteal"  # neighbours stay together, and share what a module makes once


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let other processes of the run wait while a test that is marked `alone` runs."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with in_turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextlib.contextmanager
def in_turn(*, alone: bool) -> Iterator[None]:
    """Go through a gate into a room, which one has alone or several share: these files stand for both.

    Who waits for the room to be empty holds the gate, so that it does become empty.
    """
    here = Path(__file__)
    with here.open() as gate, here.with_name("__init__.py").open() as room:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            if not alone:
                fcntl.flock(gate, fcntl.LOCK_UN)
            yield
        finally:  # also where a test has forked, and its child has the files open
            fcntl.flock(room, fcntl.LOCK_UN)
            fcntl.flock(gate, fcntl.LOCK_UN)


@functools.cache
def demo_accounts() -> account_file.AccountFile:
    return account_file.read(DEMO)  # 10 ms each time


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("EDGEPROXY_") and not name.startswith("EDGEPROXY_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the store under test.

    EDGEPROXY_TEST_STORE_URL names one that is empty and may be flushed; else one is started: an embedded store, or with
    EDGEPROXY_TEST_STORE=cluster, or =sentinel, several servers.
    """
    if url := os.environ.get("EDGEPROXY_TEST_STORE_URL"):
        with client_of(url) as client:
            assert client.dbsize() == 0, "the store under test is flushed by the tests, and it is not empty"
        yield url
        return
    directory = tmp_path_factory.mktemp("store")
    match os.environ.get("EDGEPROXY_TEST_STORE"):
        case "cluster":
            with cluster(directory) as nodes:
                yield nodes.url
        case "sentinel":
            with watched(directory) as nodes:
                yield nodes.url
        case _:
            with EmbeddedStore(directory) as embedded:
                yield embedded.url


@pytest.fixture
def store_url(store_server: str) -> Iterator[str]:
    """An empty store; after the test, every key in it must have a TTL or a declared reason to last."""
    with client_of(store_server) as client:
        on_primaries(client, "FLUSHALL")
        on_primaries(client, "FUNCTION FLUSH")
        yield store_server
        check_keys(client)
        on_primaries(client, "FLUSHALL")


def check_keys(client: Any) -> None:
    found = list(client.scan_iter(count=1000))
    with client.pipeline() as pipeline:
        for key in found:
            pipeline.ttl(key)
        ttls = pipeline.execute()
    for key, ttl in zip(found, ttls, strict=True):
        lasting = ttl == -1
        declared = keys.LASTING if lasting else keys.TTLS
        kind = "a reason to last" if lasting else "a TTL"
        assert any(re.fullmatch(pattern, key) for pattern in declared), (
            f"{key} has {kind} that keys.py does not declare"
        )


class Clock:
    """A clock that stands until it is moved; epoch ms."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Desk:
    """A store, its clock, and short words for what tests do with it."""

    store: Store
    clock: Clock
    _ips: Iterator[int]
    redis: Any = None  # a client of the store, for looking at keys

    @contextlib.contextmanager
    def servers(self) -> Iterator[Any]:
        """A synchronous client of the store, for `tests.servers`' looks at all of its servers."""
        with client_of(self.store._url) as client:
            yield client

    async def load(self, text: str | Path) -> list[inventory.Change]:
        if text == DEMO:
            file = demo_accounts()
        else:
            file = account_file.read(text) if isinstance(text, Path) else account_file.parse(text.encode())
        changes = await inventory.compare(self.store, file)
        await inventory.apply(self.store, changes)
        return changes

    async def account(self, name: str) -> Account:
        account = await self.store.account(name, far())
        assert account is not None
        return account

    async def ask(
        self,
        account: str | Account,
        page: str | list[str] = "",
        session: str = "",
        *,
        ip: str = "",
        visitor: str = "",
        bare: bool = False,
        pool: int = 0,
    ) -> Resolution:
        """Ask for a session's numbers, as a client with an IP of its own unless `ip` is given."""
        if isinstance(account, str):
            account = await self.account(account)
        pages = [page] if isinstance(page, str) else page
        return await self.store.resolve(
            account,
            Ask(
                ip=ip or self.fresh_ip(),
                session_id=session,
                visitor=visitor,
                bare=bare,
                pages=tuple((number, pool) for number in pages if number),
            ),
            far(),
        )

    def fresh_ip(self) -> str:
        serial = next(self._ips)
        return f"10.{serial >> 16 & 255}.{serial >> 8 & 255}.{serial & 255}"


def far() -> float:
    """A deadline that no test reaches."""
    return time.monotonic() + 30


@pytest.fixture
async def desk(store_url: str, clock: Clock) -> AsyncIterator[Desk]:
    async with Store(store_url, clock=clock) as store:
        await store.load_functions()
        async with async_client_of(store_url) as client:
            yield Desk(store, clock, itertools.count(1), client)


@dataclass
class Edge:
    """A gateway in this process, over HTTP."""

    url: str
    manage: str
    client: aiohttp.ClientSession
    gateway: Gateway
    board: Board
    _ips: Iterator[int]

    async def post(
        self,
        body: dict[str, Any] | bytes,
        key: str | None = "freespee",
        *,
        statuses: bool = True,
        ip: str = "",
        headers: dict[str, str] | None = None,
        query: str = "",
    ) -> tuple[int, Any, Any]:
        """POST /api, signed with `key`: status, decoded answer, headers. Without `ip`, a fresh client IP."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"X-Forwarded-For": ip or self.fresh_ip()}
        if key is not None:
            sent["X-SIGN"] = signature.sign(raw, key.encode())
        if statuses:
            sent["X-HTTP-STATUSES"] = "1"
        async with self.client.post(f"{self.url}/api{query}", data=raw, headers=sent | (headers or {})) as response:
            return response.status, orjson.loads(await response.read()), response.headers

    def fresh_ip(self) -> str:
        serial = next(self._ips)
        return f"10.{serial >> 16 & 255}.{serial >> 8 & 255}.{serial & 255}"


class serving:  # noqa: N801 - used as a function
    """A context in which a gateway serves the demo accounts; settings may be given."""

    def __init__(
        self,
        store_url: str,
        *,
        clock: Callable[[], int] = store_time,
        rooms: tuple[Room, ...] = ROOMS,
        **settings: Any,
    ) -> None:
        self._url = store_url
        self._clock, self._rooms = clock, rooms
        # A client in the same process slows the gateway down, so only the tests of the budget go by the real one.
        own: dict[str, Any] = {"trusted_proxies": ["127.0.0.0/8"], "drain_s": 0, "budget_ms": 2000}
        self._settings = Settings(**own | settings)

    async def __aenter__(self) -> Edge:
        async with Store(self._url, seal=Seal(self._settings.store_keys)) as store:
            await store.load_functions()
            await inventory.apply(store, await inventory.compare(store, demo_accounts()))
        (edge,), (manage,) = listen("127.0.0.1", 0, 1), listen("127.0.0.1", 0, 1)
        urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in (edge, manage)]
        board = Board(1, [room.manage.NAME for room in self._rooms if room.manage is not None])
        board.row(0).started()
        self._gateway = Gateway(self._settings, self._url, edge, manage, board, 0, rooms=self._rooms, clock=self._clock)
        self._context = self._gateway.serving()
        await self._context.__aenter__()
        while board.total("state") != READY:
            await asyncio.sleep(0.005)
        self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return Edge(urls[0], urls[1], self._client, self._gateway, board, itertools.count(1))

    async def __aexit__(self, *error: Any) -> None:
        await self._client.close()
        await self._context.__aexit__(None, None, None)


@pytest.fixture
async def edge(store_url: str) -> AsyncIterator[Edge]:
    async with serving(store_url) as edge:
        yield edge


def web_request(**changes: Any) -> dict[str, Any]:
    """A complete request of the demo account; a change to None removes the field."""
    request = {
        "advId": "demo",
        "numbers": "+493015981100",
        "type": "web",
        "fullUrl": "https://www.example.com/cars/42",
        "trackingId": "",
        "fullReferrer": "",
        "parameters": {"custnr": "1412"},
        "userAgent": BROWSER,
        "requestIpAddress": "203.0.113.7",
        "sessionId": "",
    } | changes
    return {name: value for name, value in request.items() if value is not None}
