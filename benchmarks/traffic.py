"""Mixed traffic at a steady rate, and what it was answered: visitors of several accounts, and users of the manage port.

Visitors' requests are due at random moments (exponential gaps), whether or not answers come; a latency counts from that
moment. Everything a store decided is checked as it comes: the kind of the answer, that no number is two sessions' at
once, and how many points an account has spent.
"""

import asyncio
import contextlib
import itertools
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import orjson

from benchmarks import workload

BUCKET_S = 0.5  # in which answers are counted, to see when the service was back
IDLE_S, MAX_S, COOLDOWN_S = 20, 60, 5  # of every lease
PAGE, SECOND_PAGE, OTHER_PAGE, UNKNOWN_PAGE = "+493015981100", "+493015981101", "+493015981102", "+493015981199"
SHARED_NUMBER = "+493099999999"
TOKEN, SITE = "soak-access-token", "7"
USER, PASSWORD = "soak", "soak-password"
STATIC = [f"7999100{index:04d}" for index in range(10)]
PARTNER_NUMBERS = "+493088880000..+493088880099"

CONNECTIONS = 64
_QUEUED_S = 1.0  # that a request waits for a connection before it counts as unanswered
_ANSWER_S = 5.0  # that an answer may take
_LOOK_S = 0.1
_VISITORS = 20_000  # who come again, and IPs of clients
_SESSIONS = 1500  # of an account that are under way
_HASTY_IP = 249 << 16
_CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_MANAGE_S = 0.1  # between two requests of a user of the manage port

# Kinds of requests, and how many of a thousand are of each.
SHARES = {
    "new": 200,
    "returning": 150,
    "renewed": 470,
    "several": 50,
    "app": 20,
    "crawler": 30,
    "dry run": 30,
    "bad signature": 20,
    "malformed": 10,
    "incomplete": 10,
    "hasty": 10,
}
_EXPECTED = {
    "bad signature": {"Invalid signature"},
    "malformed": {"Malformed JSON"},
    "incomplete": {"Missing parameter"},
    "hasty": {"success", "Blocked IP"},
}
_SPENT = "Daily point budget exhausted"


@dataclass(slots=True)
class Site:
    """An account as its visitors know it."""

    account: str
    weight: float
    key: str
    pages: tuple[str, ...] = (PAGE,)
    leases: bool = True  # its numbers are one session's at a time until their leases end
    budget: int = 0  # points a day; 0: more than any run spends
    revoked: str = ""  # a secret that it had before
    sessions: deque[str] = field(default_factory=lambda: deque(maxlen=_SESSIONS))


def sites(budget: int) -> list[Site]:
    """The accounts of a soak; their slots lie on all three primaries of a cluster. `budget` is that of one of them."""
    return [
        Site("main", 3, "main-secret", (PAGE, SECOND_PAGE, OTHER_PAGE)),
        Site("second", 2, "second-secret"),
        Site("small", 2, "small-secret"),
        Site("recycling", 0.5, "recycling-secret", leases=False),
        Site("shared", 0.5, "shared-secret"),
        Site("budget", 0.5, "budget-secret", budget=budget),
        Site("turning", 0.5, "turning-secret-0"),
    ]


def account_trees(these: list[Site]) -> dict[str, dict[str, Any]]:
    """The accounts of an account file."""
    first = itertools.count(0, 20_000)
    trees = {}
    for site in these:
        pool = {
            "replaces": [page for page in site.pages if page != OTHER_PAGE],
            "numbers": [_range(next(first), {"recycling": 50, "shared": 20}.get(site.account, 12_000))],
            "idle_ttl": f"{IDLE_S}s",
            "max_ttl": f"{MAX_S}s",
            "cooldown": f"{COOLDOWN_S}s",
        }
        tree: dict[str, Any] = {
            "secrets": [site.key],
            "region": "DE",
            "points": {"daily": str(site.budget or 10**12)},
            "visitors_kept": "1m",
            "visits_kept": "1m",
            "leases_kept": "70s",
            "calls_kept": "1m",
            "quarantine": "5s",
            "pools": {"north": pool},
        }
        if site.account == "recycling":
            pool["overflow"] = "recycle"
        if site.account == "shared":
            pool |= {"overflow": "shared", "shared_number": SHARED_NUMBER}
        if site.account == "main":
            tree["pools"]["south"] = pool | {"replaces": [OTHER_PAGE], "numbers": [_range(next(first), 4000)]}
            tree |= {
                "numbers": [PARTNER_NUMBERS, *(f"+{number}" for number in STATIC)],
                "static": {"site": SITE, "tokens": [TOKEN]},
                "networks": ["127.0.0.0/8"],
            }
        trees[site.account] = tree
    return trees


def _range(first: int, count: int) -> str:
    return f"{workload.number(first)}..{workload.number(first + count - 1)}"


@dataclass(slots=True)
class Asked:
    """A visitor's request; times are of `time.perf_counter`."""

    site: Site
    kind: str
    content: bytes
    due: float
    sent: float = 0.0


@dataclass(slots=True)
class Minute:
    """What was answered to the good requests that were due in one minute."""

    latencies: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    from_memory: int = 0


@dataclass(slots=True)
class _Held:
    """Who was last shown a number by the store's decision, and when."""

    session: str
    first_sent: float
    last_sent: float
    last_heard: float


class _Wire(asyncio.Protocol):
    """A connection to the edge port, with one request at a time."""

    def __init__(self, edge: "_Edge") -> None:
        self._edge = edge
        self._buffer = b""
        self.asked: Asked | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # of uvloop, whose class is its own
        self._edge.is_free(self)

    def send(self, asked: Asked) -> None:
        assert self.transport is not None
        self.asked, asked.sent = asked, time.perf_counter()
        self.transport.write(asked.content)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end]
        at = head.lower().find(b"content-length:")
        size = int(head[at + 15 :].partition(b"\r")[0])
        if len(self._buffer) < end + 4 + size:
            return
        body, self._buffer = self._buffer[end + 4 :], b""
        asked, self.asked = self.asked, None
        if b"connection: close" in head.lower():
            assert self.transport is not None
            self.transport.close()
        else:
            self._edge.is_free(self)
        if asked is not None:
            self._edge.on_answer(asked, head, body)

    def connection_lost(self, error: Exception | None) -> None:
        asked, self.asked = self.asked, None
        self._edge.has_gone(self)
        if asked is not None:
            self._edge.on_answer(asked, None, b"")


class _Edge:
    """Connections to the edge port, opened again as they end."""

    def __init__(self, host: str, port: int, on_answer: Callable[[Asked, bytes | None, bytes], None]) -> None:
        self._host, self._port = host, port
        self.on_answer = on_answer
        self._wires: set[_Wire] = set()
        self._free: deque[_Wire] = deque()
        self._waiting: deque[Asked] = deque()
        self._closing = False
        self._caretaker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._connect()
        self._caretaker = asyncio.create_task(self._take_care())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            for _ in range(CONNECTIONS - len(self._wires)):
                await loop.create_connection(lambda: _Wire(self), self._host, self._port)

    def ask(self, asked: Asked) -> None:
        while self._free:
            wire = self._free.popleft()
            if wire in self._wires:
                return wire.send(asked)
        return self._waiting.append(asked)

    def is_free(self, wire: _Wire) -> None:
        self._wires.add(wire)
        if self._waiting:
            wire.send(self._waiting.popleft())
        else:
            self._free.append(wire)

    def has_gone(self, wire: _Wire) -> None:
        self._wires.discard(wire)

    async def _take_care(self) -> None:
        while True:
            await self._connect()
            now = time.perf_counter()
            while self._waiting and self._waiting[0].due < now - _QUEUED_S:
                self.on_answer(self._waiting.popleft(), None, b"")
            for wire in list(self._wires):
                if wire.asked is not None and wire.asked.sent < now - _ANSWER_S and wire.transport is not None:
                    wire.transport.abort()
            await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        await asyncio.sleep(_ANSWER_S + _LOOK_S)  # by when all have been answered, or never will be
        if self._caretaker is not None:
            self._caretaker.cancel()
            await asyncio.wait([self._caretaker])
        for wire in list(self._wires):
            if wire.transport is not None:
                wire.transport.close()


class Visitors:
    """Visitors' requests to the edge port, and what is known of the answers.

    `minutes`, `buckets` (of `BUCKET_S`) and `unexpected` are of what was due since `begin`.
    """

    def __init__(self, url: str, these: list[Site]) -> None:
        where = urlsplit(url)
        self._edge = _Edge(where.hostname or "", where.port or 80, self._answered)
        self._host = where.netloc
        self.sites = these
        self._weights = list(itertools.accumulate(site.weight for site in these))
        self._shares = list(itertools.accumulate(SHARES.values()))
        self._kinds = list(SHARES)
        self._chance = random.Random(3)
        self._serial = 0
        self._held: dict[tuple[str, str], _Held] = {}
        self._closed: Callable[[], None] | None = None
        self.good = 0  # answers that were as they should be, and the store's
        self.restart_counts()

    def restart_counts(self) -> None:
        """Begin to count anew; points spent and numbers held stay known."""
        self.begin = time.perf_counter()
        self.minutes: list[Minute] = []
        self.buckets: dict[tuple[int, str], list[int]] = {}  # bucket, account → requests, those not served by the store
        self.answers: Counter[str] = Counter()
        self.unexpected: list[tuple[float, str]] = []  # when it was due, s since `begin`; kind and answer
        self.twice: list[tuple[float, str]] = []  # when a number was shown that another session held; account
        self.shown: deque[str] = deque(maxlen=200)  # numbers of `main`
        self.spent: list[float] = getattr(self, "spent", [])  # when a point of the account with a budget was spent

    async def open(self) -> None:
        """Connect."""
        await self._edge.open()

    async def close(self) -> None:
        """Wait for the answers that are due, and disconnect."""
        await self._edge.close()

    async def as_fast_as_answered(self, seconds: float, together: int) -> float:
        """A closed loop of `together` requests; gives how many a second were answered as they should be."""
        end, before, began = time.perf_counter() + seconds, self.good, time.perf_counter()
        self._closed = lambda: self._ask(time.perf_counter()) if time.perf_counter() < end else None
        for _ in range(together):
            self._ask(time.perf_counter())
        await asyncio.sleep(seconds)
        self._closed = None
        return (self.good - before) / (time.perf_counter() - began)

    async def steadily(self, rate: float, until: asyncio.Event) -> None:
        """`rate` requests a second until the event is set."""
        gap = self._chance.expovariate
        due = time.perf_counter()
        while not until.is_set():
            now = time.perf_counter()
            while due <= now:
                self._ask(due)
                due += gap(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    # Asking -------------------------------------------------------------------------------------------------------

    def _ask(self, due: float) -> None:
        chance = self._chance
        site = chance.choices(self.sites, cum_weights=self._weights)[0]
        kind = chance.choices(self._kinds, cum_weights=self._shares)[0]
        self._edge.ask(Asked(site, kind, self._request(site, kind), due))

    def _request(self, site: Site, kind: str) -> bytes:
        self._serial = serial = self._serial + 1
        chance = self._chance
        ip = workload.client_ip(_HASTY_IP if kind == "hasty" else serial % _VISITORS)
        visitor = chance.randrange(_VISITORS) if kind == "returning" else _VISITORS + serial
        session = chance.choice(site.sessions) if kind in ("renewed", "dry run") and site.sessions else ""
        numbers: str | list[str] = site.pages[0]
        if kind == "several":
            numbers = [*site.pages, UNKNOWN_PAGE, "030 15 98 11 98", "not a number"]
        tree: dict[str, Any] = {
            "advId": site.account,
            "numbers": numbers,
            "type": "app" if kind == "app" else "web",
            "fullUrl": f"https://www.example.com/cars/{serial}?utm_source=newsletter&utm_medium=email",
            "trackingId": f"visitor-{visitor}",
            "fullReferrer": "https://www.example.com/",
            "parameters": {"custnr": str(1000 + serial % 500), "custname": "Autohaus Mitte"},
            "userAgent": _CRAWLER if kind == "crawler" else workload.user_agent(serial),
            "requestIpAddress": ip,
            "sessionId": session,
        }
        if kind == "dry run":
            tree["dryRun"] = True
        if kind == "incomplete":
            del tree["parameters"]
        content = orjson.dumps(tree)
        if kind == "malformed":
            content = content[:-1]
        if kind == "bad signature":
            if site.revoked:
                return workload.http_request(content, site.revoked, ip, self._host)
            return workload.http_request(content, "", ip, self._host, signed="0" * 40)
        return workload.http_request(content, site.key, ip, self._host)

    # Answers ------------------------------------------------------------------------------------------------------

    def _answered(self, asked: Asked, head: bytes | None, body: bytes) -> None:
        heard = time.perf_counter()
        site, kind = asked.site, asked.kind
        decided = head is not None and b"\r\nRateLimit: " in head
        tree: dict[str, Any] = {}
        if head is None:
            text = "no answer"
        else:
            tree = orjson.loads(body) if body.startswith(b"{") else {}
            text = "success" if tree.get("success") else str(tree.get("error") or body[:60].decode("latin-1"))
            text = text.partition(":")[0]
        since = asked.due - self.begin
        self.answers[f"{kind}: {text}"] += 1
        expected = text in _EXPECTED.get(kind, {"success"}) or (text == _SPENT and bool(site.budget))
        if not expected:
            self.unexpected.append((since, f"{kind}: {text}"))
        if kind not in _EXPECTED:
            served = expected and decided
            self.good += served
            self._count(asked, heard, text, served, from_memory=expected and not decided)
        if text == "success" and decided:
            if site.budget:
                self.spent.append(since)
            if kind != "dry run" and kind != "crawler":
                self._note(site, asked, heard, tree)
        if self._closed is not None:
            self._closed()

    def _count(self, asked: Asked, heard: float, text: str, served: bool, *, from_memory: bool) -> None:
        since = max(0.0, asked.due - self.begin)
        bucket = self.buckets.setdefault((int(since / BUCKET_S), asked.site.account), [0, 0])
        bucket[0] += 1
        bucket[1] += not served
        while len(self.minutes) <= since / 60:
            self.minutes.append(Minute())
        minute = self.minutes[int(since / 60)]
        minute.answers[text] += 1
        minute.from_memory += from_memory
        if text != "no answer":
            minute.latencies.append(heard - asked.due)

    def _note(self, site: Site, asked: Asked, heard: float, tree: dict[str, Any]) -> None:
        session = tree["sessionId"]
        if asked.kind in ("new", "returning", "several"):
            site.sessions.append(session)
        for pair in tree["numbers"]:
            number = pair["replace_with"]["e164"]
            if not site.leases or number == SHARED_NUMBER:
                continue
            if site.account == "main":
                self.shown.append(number)
            self._hold(site, number, session, asked.sent, heard)

    def _hold(self, site: Site, number: str, session: str, sent: float, heard: float) -> None:
        """Note that the store gave a number to a session at some moment between `sent` and `heard`.

        A lease lasts for `IDLE_S` from a decision, and that was no earlier than the request was sent; but for `MAX_S`
        at most from its beginning, which may have been an idle time before its first answer that was heard.
        """
        held = self._held.get((site.account, number))
        if held is None:
            self._held[site.account, number] = _Held(session, sent, sent, heard)
        elif held.session == session:
            held.last_sent, held.last_heard = max(sent, held.last_sent), max(heard, held.last_heard)
        elif sent > held.last_heard:
            if heard < min(held.last_sent + IDLE_S, held.first_sent + MAX_S - IDLE_S):
                self.twice.append((heard - self.begin, site.account))
            self._held[site.account, number] = _Held(session, sent, sent, heard)

    def bad_buckets(self, first: float, last: float) -> list[float]:
        """The ends, s since `begin`, of those buckets between two moments in which an account was not served well."""
        found = set()
        for (index, _), (requests, failed) in self.buckets.items():
            if first <= index * BUCKET_S < last and failed >= 3 and failed > 0.1 * requests:
                found.add((index + 1) * BUCKET_S)
        return sorted(found)


def quantile(values: list[float], share: float) -> float:
    """The smallest of some values, in ms, that a share of them does not exceed; they are in s."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000 if ordered else 0.0


class Users:
    """Users of the manage port: partners, static numbers, calls. `answers` counts what each was answered."""

    def __init__(self, url: str, visitors: Visitors) -> None:
        self._url = url
        self._visitors = visitors
        self._serial = 0
        self._ids = itertools.count(1)
        self.answers: Counter[str] = Counter()
        self.unexpected: list[tuple[float, str]] = []  # when, s since the visitors' `begin`; what, and its status

    async def run(self, until: asyncio.Event) -> None:
        """Ask for everything in turn until the event is set."""
        timeout = aiohttp.ClientTimeout(total=10)
        digest = aiohttp.DigestAuthMiddleware(USER, PASSWORD)
        async with (
            aiohttp.ClientSession(timeout=timeout, middlewares=(digest,)) as partner,
            aiohttp.ClientSession(timeout=timeout, headers={"Access-Token": TOKEN, "SiteId": SITE}) as bearer,
            asyncio.TaskGroup() as group,
        ):
            for turn, client in ((self._partner, partner), (self._static, bearer), (self._call, bearer)):
                group.create_task(self._again(turn, client, until))

    async def _again(self, turn: Callable[..., Any], client: aiohttp.ClientSession, until: asyncio.Event) -> None:
        while not until.is_set():
            await turn(client)
            await asyncio.sleep(_MANAGE_S)

    async def _ask(
        self, client: aiohttp.ClientSession, what: str, method: str, path: str, tree: Any = None, *, forwarded: bool
    ) -> Any:
        """Ask; the answer's JSON, None where there is none or the status is not a success."""
        since = time.perf_counter() - self._visitors.begin
        self._serial += 1
        headers = {"X-Forwarded-For": workload.client_ip(self._serial % _VISITORS)} if forwarded else {}
        status: int | str = "no answer"
        answer = None
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with client.request(method, self._url + path, json=tree, headers=headers) as response:
                raw = await response.read()
                status = response.status
                if status < 300 and raw.startswith((b"{", b"[")):
                    answer = orjson.loads(raw)
        self.answers[f"{what}: {status}"] += 1
        if not isinstance(status, int) or status >= 300:
            self.unexpected.append((since, f"{what}: {status}"))
        await asyncio.sleep(_MANAGE_S)
        return answer

    async def _partner(self, client: aiohttp.ClientSession) -> None:
        async def ask(what: str, method: str, path: str, tree: Any = None) -> Any:
            return await self._ask(client, f"partner {what}", method, f"/2.4.9/{path}", tree, forwarded=False)

        serial = next(self._ids)
        made = await ask("create", "POST", "customers", {"name": f"Customer {serial}", "custnr": f"c{serial}"})
        if made:
            customer = made["customers"][0]["customer_id"]
            await ask("update", "PUT", f"customers/{customer}", {"name": f"Renamed {serial}"})
            await ask("read", "GET", f"customers/{customer}")
            if serial % 10 == 1:
                source = await ask("create source", "POST", "sources", {"name": "Flyer", "customer_id": customer})
                if source:
                    await ask("delete source", "DELETE", f"sources/{source['sources'][0]['source_id']}")
            else:
                await ask("delete", "DELETE", f"customers/{customer}")
        await ask("list", "GET", "customers?pagesize=20")
        await ask("call records", "GET", "statistics/cdrs?newest_first=1&pagesize=20")

    async def _static(self, client: aiohttp.ClientSession) -> None:
        async def ask(method: str, tree: Any) -> Any:
            path = f"/phone-service/v1/api/calltracking/ad-platform/phone/{method}"
            return await self._ask(client, f"static {method}", "POST", path, tree, forwarded=True)

        number = STATIC[next(self._ids) % len(STATIC)]
        listed = await ask("list", {"phoneNumbers": STATIC})
        in_use = {row["phoneNumber"] for row in listed or () if row["displayOptions"] is not None}
        if number not in in_use:
            await ask("create", {"phoneNumber": number, "displayOptions": {"source": "flyer"}, "poolName": "soak"})
        await ask("update", {"phoneNumber": number, "displayOptions": {"source": "radio"}})
        await ask("delete", {"phoneNumber": number})

    async def _call(self, client: aiohttp.ClientSession) -> None:
        async def ask(what: str, method: str, path: str, tree: Any = None) -> Any:
            return await self._ask(client, f"calls {what}", method, path, tree, forwarded=True)

        if not self._visitors.shown:
            return
        number, call_id = self._visitors.shown[-1], f"soak-{next(self._ids)}-{time.time_ns()}"
        event = {"call_id": call_id, "event": "started", "number": number, "caller": "+4930901820111"}
        if await ask("started", "POST", "/calls", event):
            await ask("lookup", "GET", f"/calls/lookup?number=%2B{number[1:]}")
            await ask("answered", "POST", "/calls", {"call_id": call_id, "event": "answered"})
            await ask("ended", "POST", "/calls", {"call_id": call_id, "event": "ended"})
