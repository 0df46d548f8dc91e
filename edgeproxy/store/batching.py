"""Batching: all requests of one loop turn leave in one pipeline a server, one `ep1_resolve` call for each account.

A turn has one timer. What has no answer when it fires is answered `STORE_UNAVAILABLE`, and the connection is dropped.
The limiter of client IPs spans accounts: on one server it is part of that call, on a cluster it is asked before.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from edgeproxy.accounts.account import Account, Pool
from edgeproxy.errors import Kind
from edgeproxy.store import keys, layout
from edgeproxy.store.layout import LEFT, SESSION, SHOWN
from edgeproxy.store.lua_libraries import function_name
from edgeproxy.store.server import Server, end
from edgeproxy.store.servers import Servers

BATCH_MOST = 256  # requests in one call: bounds the time for which a call holds the store
FLIGHTS_MOST = 1  # turns under way to a server, full ones apart; while they are, requests gather into larger batches
_DEADLINE_SLACK_MS = 20  # what the estimate of the store's clock may be wrong by
_PLAN_LIFE_S = 3600  # how long the list of an account's midnights is used

_WITH_SESSION, _WITH_VISITOR, _WITHOUT_TRACE, _JOINING = layout.HOW.values()
_OK, _BLOCKED, _SPENT, _, _JOIN = layout.CODES.values()
_RESOLVE, _ADMIT = function_name("ep1_resolve"), function_name("ep1_admit")


class Ask(NamedTuple):
    """What one request asks of the store."""

    ip: str  # what the limiter counts: an IPv4 address or an IPv6 /64; before one that was signed, its account's name
    session_id: str  # "" for none
    visitor: str  # the partner's trackingId, "" for none
    bare: bool  # a crawler or a dry run: no number is spent, nothing is recorded
    pages: tuple[tuple[str, int], ...]  # numbers on the page (E.164), each with the index of its pool; −1 for no pool
    # The visit, as it is kept:
    browser: bytes = b'""'  # the user agent, JSON text
    context: bytes = (
        b'"requestIpAddress":"","parameters":{}'  # the visitor's network, "" if not known; custom dimensions
    )
    page: bytes = b'{"type":"web"}'  # the rest, a JSON object that is not empty
    admitted: int = -1  # places left in its client's window, if the limiter let it pass before; −1: it was not asked
    joining: bool = False  # `session_id` is that of a `Resolution` to join


class Resolution(NamedTuple):
    """What the store decided. `numbers` are in the order of `Ask.pages`."""

    refused: Kind | None  # None: success, unless `moved`
    moved: bool = False  # the account's configuration is another one: read it again, and check again
    join: bool = False  # the visitor has the session of this id: ask again with it, joining; no point was spent
    session_id: str = ""
    # False: the number on the page stays. `NUMBER/I`: leased from the pool of index I (from 1), not the one asked for.
    numbers: Sequence[str | bool] = ()
    window_left: int = 0  # requests that the client IP has left in this second; if to ask again, for `Ask.admitted`
    wait_ms: int = 0  # until a refused client may come again
    points_left: int | None = 0  # None: not known, as the account was not asked
    day_left_ms: int = 0  # until the account's midnight


_fresh_ids: list[str] = []


def _fresh_id() -> str:
    """A random UUID (version 4); they are made a hundred at a time, from one call for randomness."""
    if not _fresh_ids:
        many = secrets.token_hex(16 * 100)
        for text in [many[at : at + 32] for at in range(0, len(many), 32)]:
            variant = "89ab"[int(text[16], 16) & 3]
            _fresh_ids.append(f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}")
    return _fresh_ids.pop()


_UNAVAILABLE = Resolution(Kind.STORE_UNAVAILABLE)
_MOVED = Resolution(None, moved=True, window_left=-1)


class _Batch:
    """Requests of one account that leave in one call."""

    __slots__ = ("asks", "futures", "plan")

    def __init__(self, plan: "_Plan") -> None:
        self.plan = plan
        self.asks: list[Ask] = []
        self.futures: list[asyncio.Future[Resolution]] = []

    def command(self, now_ms: int, deadline_ms: int) -> tuple[Any, ...]:
        plan = self.plan
        names = list(plan.keys)
        arguments: list[str | bytes | int] = []
        for ask in self.asks:
            how = _WITHOUT_TRACE if ask.bare else 0
            if ask.session_id:
                how += _WITH_SESSION
                names.append(plan.session_prefix + ask.session_id)
            names.append(plan.session_prefix + _fresh_id())
            if ask.visitor:
                how += _WITH_VISITOR
                names.append(plan.visitor_prefix + ask.visitor)
            if ask.joining:
                how += _JOINING
            arguments += (ask.ip, how, ask.browser, ask.context, ask.page, len(ask.pages))
            for page, pool in ask.pages:
                arguments += (page, pool + 1)
        return ("FCALL", _RESOLVE, len(names), *names, now_ms, plan.head, deadline_ms, *arguments)

    def settle_all(self, resolution: Resolution) -> None:
        """Give every request that still waits the same answer."""
        for future in self.futures:
            if not future.done():
                future.set_result(resolution)

    def settle(self, reply: dict[str, Any], lefts: Sequence[int] | None) -> None:
        """Give each waiting request its own answer out of the function's reply.

        `lefts` are the places left in each client's window, where the limiter was asked before.
        """
        budget = self.plan.budget
        points_left = max(0, budget - reply["spent"])
        day_left_ms = reply["day_end"] - reply["now"]
        for i, (future, result) in enumerate(zip(self.futures, reply["results"], strict=True)):
            if future.done():
                continue
            code = result[0]
            if code == _OK:
                left = result[LEFT] if lefts is None else lefts[i]
                if self.asks[i].joining:
                    left = self.asks[i].admitted
                shown = result[SHOWN:]
                resolution = Resolution(None, False, False, result[SESSION], shown, left, 0, points_left, day_left_ms)
            elif code == _JOIN:
                left = result[LEFT] if lefts is None else lefts[i]
                resolution = Resolution(None, join=True, session_id=result[SESSION], window_left=left)
            elif code == _BLOCKED:
                resolution = Resolution(
                    Kind.BLOCKED_IP, wait_ms=result[1], points_left=points_left, day_left_ms=day_left_ms
                )
            else:
                resolution = Resolution(
                    Kind.BUDGET_EXHAUSTED if code == _SPENT else Kind.NO_POOL,
                    window_left=result[LEFT] if lefts is None else lefts[i],
                    points_left=points_left,
                    day_left_ms=day_left_ms,
                )
            future.set_result(resolution)

    def settle_moved(self, lefts: Sequence[int]) -> None:
        """Have every request asked again, without taking a place in its client's window again."""
        for future, left in zip(self.futures, lefts, strict=True):
            if not future.done():
                future.set_result(Resolution(None, moved=True, window_left=left))

    def admit(self, results: Iterator[Sequence[Any]]) -> list[int]:
        """Answer those requests that the limiter refuses, and keep the others; the places left for each of these.

        `results` are the limiter's, of those that it has not let pass before.
        """
        asks, futures, lefts = [], [], []
        for ask, future in zip(self.asks, self.futures, strict=True):
            passed, number = next(results) if ask.admitted < 0 else (True, ask.admitted)
            if passed:
                asks.append(ask)
                futures.append(future)
                lefts.append(number)
            elif not future.done():
                future.set_result(Resolution(Kind.BLOCKED_IP, wait_ms=number, points_left=None))
        self.asks, self.futures = asks, futures
        return lefts


class _Plan:
    """What every batch of one version of an account has in common."""

    __slots__ = (
        "budget",
        "head",
        "keys",
        "name",
        "per_second",
        "session_prefix",
        "stale_at",
        "version",
        "visitor_prefix",
    )

    def __init__(self, account: Account, now_ms: int, cost: int, *, limited_before: bool) -> None:
        name = account.name
        self.name = name
        self.version = account.version
        self.budget = account.points_daily
        self.stale_at = time.monotonic() + _PLAN_LIFE_S
        self.session_prefix = keys.session_prefix(name)
        self.visitor_prefix = keys.visitor_prefix(name)
        self.per_second = account.per_second
        self.keys = [getattr(keys, key)(name) for key in layout.KEYS]
        self.keys += [*(() if limited_before else keys.LIMITER)]
        for pool in account.pools:
            self.keys += keys.pool(name, pool.name)
        head = orjson.dumps(
            {
                "version": account.version,
                "cost": cost,
                "budget": account.points_daily,
                "per_second": not limited_before and account.per_second,
                "days": account.midnights_ms(now_ms),
                "session_idle": account.session_idle_ms(),
                "visitor_ttl": account.visitor_ttl_ms,
                "visits_kept": account.visits_kept_ms,
                "leases_kept": account.leases_kept_ms,
                "join": account.join,
                "session_prefix": self.session_prefix,
                "pools": [_settings(pool) for pool in account.pools],
            }
        )
        self.head = bytes(memoryview(head))  # a copy: what orjson gives holds the 4 KiB that it was written into


def _settings(pool: Pool) -> list[Any]:
    """A pool's settings as `ep1_resolve` has them."""
    named = {"name": pool.name, "idle": pool.idle_ttl_ms, "max": pool.max_ttl_ms, "cooldown": pool.cooldown_ms}
    named |= {"overflow": pool.overflow, "shared": pool.shared_number or False}
    return [named[name] for name in layout.POOL]


def explaining(account: Account, ask: Ask, now_ms: int) -> tuple[Any, ...]:
    """The keys, and the arguments after the clock, with which `ep1_explain_resolve` is asked of a request.

    The limiter's keys are not among them: its answer would depend on the moment alone.
    """
    batch = _Batch(_Plan(account, now_ms, account.costs["numbers"], limited_before=True))
    batch.asks.append(ask)
    _, _, count, *rest = batch.command(0, 0)
    return (rest[:count], *rest[count + 1 :])


class _Turn:
    """The batches that leave together, and their one timer."""

    __slots__ = ("batches", "deadline", "task", "timer")
    timer: asyncio.TimerHandle

    def __init__(self, deadline: float) -> None:
        self.batches: dict[tuple[str, int], _Batch] = {}
        self.deadline = deadline
        self.task: asyncio.Task[None] | None = None

    def fail(self) -> None:
        for batch in self.batches.values():
            batch.settle_all(_UNAVAILABLE)


class _Lane:
    """The way to one server: the turn that gathers, and those under way."""

    __slots__ = ("flying", "server", "turn")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.turn: _Turn | None = None
        self.flying: set[_Turn] = set()


def _give_up(future: asyncio.Future[Resolution]) -> None:
    if not future.done():
        future.set_result(_UNAVAILABLE)


class Batcher:
    """Gathers requests into turns, and sends the turns.

    `call` takes a server, commands for it, and how many replicas must have what they write; it gives their replies in
    order, None where one failed, and is cancelled when the time is up. `replicas` is that number for visitors' leases:
    windows of the limiter are over before a replica takes over. `clock` gives epoch ms for tests; 0 leaves time to the
    store. `on_batch` is told each batch's size and what the store counted,
    `on_back` of an account at whose request the store's clock had gone back by so many ms since the one before.
    """

    def __init__(
        self,
        servers: Servers,
        call: Callable[[Server, list[tuple[Any, ...]], int], Awaitable[list[bytes | None]]],
        *,
        replicas: int,
        clock: Callable[[], int],
        on_batch: Callable[[int, dict[str, int]], None],
        on_back: Callable[[str, int], None],
    ) -> None:
        self._replicas = replicas
        self._servers = servers
        self._call = call
        self._clock = clock
        self._on_batch = on_batch
        self._on_back = on_back
        self._loop = asyncio.get_running_loop()
        self._flying: set[_Turn] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._plans: dict[str, _Plan] = {}

    def resolve(self, account: Account, ask: Ask, deadline: float) -> asyncio.Future[Resolution]:
        """Decide `ask` in the store, with this turn's batch; there is a result by `deadline` (of `time.monotonic`)."""
        loop = self._loop
        future: asyncio.Future[Resolution] = loop.create_future()
        plan = self._plan(account)
        server = self._servers.server(plan.keys[0])
        if server.silent:
            future.set_result(_UNAVAILABLE)
            return future
        lane = server.lane
        if not isinstance(lane, _Lane):
            lane = server.lane = _Lane(server)
        turn = lane.turn
        if turn is None:
            turn = lane.turn = _Turn(deadline)
            turn.timer = loop.call_at(deadline, self._expire, lane, turn)
            loop.call_soon(self._leave, lane)
        elif deadline < turn.deadline:  # it has waited before: for the account, or for another version of it
            loop.call_at(deadline, _give_up, future)
        batch = turn.batches.get((account.name, account.version))
        if batch is None:
            batch = turn.batches[account.name, account.version] = _Batch(plan)
        batch.asks.append(ask)
        batch.futures.append(future)
        if len(batch.futures) >= BATCH_MOST:
            self._send(lane, turn)
        return future

    def _plan(self, account: Account) -> _Plan:
        plan = self._plans.get(account.name)
        if plan is None or plan.version != account.version or plan.stale_at < time.monotonic():
            now_ms = self._clock() or int(time.time() * 1000)
            plan = self._plans[account.name] = _Plan(
                account, now_ms, account.costs["numbers"], limited_before=self._servers.spread
            )
        return plan

    def forget(self, name: str) -> None:
        """Drop what is remembered of an account."""
        self._plans.pop(name, None)

    def _leave(self, lane: _Lane) -> None:
        if lane.turn is not None and len(lane.flying) < FLIGHTS_MOST:
            self._send(lane, lane.turn)

    def _send(self, lane: _Lane, turn: _Turn) -> None:
        lane.turn = None
        lane.flying.add(turn)
        self._flying.add(turn)
        turn.task = self._loop.create_task(self._fly(lane, turn))

    async def _fly(self, lane: _Lane, turn: _Turn) -> None:
        try:
            batches = list(turn.batches.values())
            lefts: Sequence[Sequence[int] | None] = [None] * len(batches)
            if self._servers.spread:
                batches, lefts = await self._admit(batches, turn.deadline)
            if lane.server.silent or not batches:
                return
            now_ms, deadline_ms = self._clock(), self._deadline_ms(lane.server, turn.deadline)
            commands = [batch.command(now_ms, deadline_ms) for batch in batches]
            replies = await self._call(lane.server, commands, self._replicas)
            for batch, reply, left in zip(batches, replies, lefts, strict=True):
                self._land(lane.server, batch, reply, left)
        finally:
            turn.fail()
            turn.timer.cancel()
            lane.flying.discard(turn)
            self._flying.discard(turn)
            self._leave(lane)

    async def _admit(self, batches: list[_Batch], deadline: float) -> tuple[list[_Batch], list[list[int]]]:
        """Ask the limiter: batches of those requests that may go on, and the places left for each of them."""
        server = self._servers.server(keys.LIMITER[0])
        if server.silent:
            return [], []
        waiting = [(ask.ip, batch.plan.per_second) for batch in batches for ask in batch.asks if ask.admitted < 0]
        head = ("FCALL", _ADMIT, len(keys.LIMITER), *keys.LIMITER, self._clock(), self._deadline_ms(server, deadline))
        replies = await self._call(
            server,
            [
                (*head, *(value for pair in waiting[first : first + BATCH_MOST] for value in pair))
                for first in range(0, len(waiting), BATCH_MOST)
            ],
            0,
        )
        found: list[Sequence[Any]] = []
        for raw in replies:
            reply = orjson.loads(raw or b"{}")
            if "now" in reply:
                server.is_at(reply["now"])
            if "results" not in reply:
                return [], []
            found += reply["results"]
        results = iter(found)
        admitted, lefts = [], []
        for batch in batches:
            if left := batch.admit(results):
                admitted.append(batch)
                lefts.append(left)
        return admitted, lefts

    def _deadline_ms(self, server: Server, deadline: float) -> int:
        """The deadline by the server's clock, and a little; 0 where its clock is not known, or a test's goes."""
        if server.ahead_ms is None or self._clock():
            return 0
        return int(deadline * 1000 + server.ahead_ms) + _DEADLINE_SLACK_MS

    def _land(self, server: Server, batch: _Batch, raw: bytes | None, lefts: Sequence[int] | None) -> None:
        if raw is None:
            return batch.settle_all(_UNAVAILABLE)
        reply = orjson.loads(raw)
        if reply.get("stale"):
            if lefts is None:
                return batch.settle_all(_MOVED)
            return batch.settle_moved(lefts)
        server.is_at(reply["now"])
        if reply.get("late"):
            return batch.settle_all(_UNAVAILABLE)
        self._on_batch(len(batch.futures), reply["events"])
        if "back" in reply:
            self._on_back(batch.plan.name, reply["back"])
        return batch.settle(reply, lefts)

    def _expire(self, lane: _Lane, turn: _Turn) -> None:
        turn.fail()
        if turn.task is not None:
            lane.flying.discard(turn)
            ending = self._loop.create_task(end(turn.task))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._leave(lane)
        elif turn is lane.turn:
            lane.turn = None

    async def close(self) -> None:
        """Wait for the turns under way; each ends by its own timer at the latest."""
        tasks = [turn.task for turn in self._flying if turn.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
