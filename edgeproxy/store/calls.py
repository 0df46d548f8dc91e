"""Calls in the store: who held a number at a moment, what is known of a call, its record, erasure (CONTRACT §5)."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from edgeproxy.model import Account, Pool
from edgeproxy.store import Store, keys, sealing
from edgeproxy.store.functions import Functions, RefusedError

CDR_FILTERS = ("customer_id", "source_id", "custnr")
_SOME = 500  # records that erasure looks at in one call
_ERASED = ("anum", "anum_md5", "session_id", "tracking_id")  # of a call's record


@dataclass(frozen=True, slots=True)
class Lease:
    """A session's hold on a number, in the place of a number on page. `end_ms` is None where it is not known."""

    session_id: str
    page: str
    begin_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Effect:
    """What a call does to the lease that it came on, as the pool's `on_call` says."""

    pool: Pool
    number: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class Record:
    """A call's record (CDR) to be listed: when the call began, and its fields."""

    start_ms: int
    fields: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure found and erased."""

    sessions: int = 0
    leases: int = 0
    visits: int = 0  # visits and events in the streams
    visitors: int = 0  # what was remembered of a visitor's last numbers
    calls: int = 0


class Calls:
    """Typed access to calls. Every method raises `Fault` (`STORE_UNAVAILABLE`) where the store fails."""

    def __init__(self, store: Store, replicas: int | None = 0) -> None:
        self.store = store
        self._functions = Functions(store, replicas)

    async def now_ms(self, account: Account) -> int:
        """The account's store's time, epoch ms."""
        if now_ms := self.store.clock():
            return now_ms
        with self._functions.faults():
            seconds, micros = await self.store.client(keys.account(account.name)).time()
        return int(seconds * 1000 + micros // 1000)

    async def state(self, account: Account, number: str) -> str | None:
        """The state of the number in the account's inventory."""
        with self._functions.faults():
            found = await self.store.client(keys.numbers(account.name)).hget(keys.numbers(account.name), number)
        return None if found is None else str(found)

    async def leases(self, account: Account, number: str, pool: Pool | None, at_ms: int, reach_ms: int) -> list[Lease]:
        """The leases that held the number at that moment, or had ended less than `reach_ms` before, and the one that it
        cools down after; latest first, and at most 64. `pool` is the one that the number is in.

        One that began while the store's clock was ahead is told as beginning at that moment, if that is about now.
        """
        names = [keys.history(account.name)]
        if pool is not None:
            names.append(keys.pool(account.name, pool.name)[1])
        reply = await self._functions.read("ep1_find_leases", names, self.store.clock(), number, at_ms, reach_ms)
        return [Lease(session, page, int(begin), int(end) or None) for session, page, begin, end in reply["leases"]]

    async def visits(self, account: Account, session_ids: list[str]) -> list[dict[str, Any] | None]:
        """The last visit of each session; None where none is known any more."""
        if not session_ids:
            return []
        prefix = keys.session_prefix(account.name)
        reply = await self._functions.read("ep1_read_visits", [prefix + session_id for session_id in session_ids])
        visits: list[dict[str, Any] | None] = reply["visits"]
        return visits

    async def known(self, account: Account, call_id: str) -> tuple[str, dict[str, Any]]:
        """What is known of a call: as it stands in the store (for `put`), and read."""
        with self._functions.faults():
            key = keys.call(account.name, call_id)
            raw = str(await self.store.client(key).get(key) or "")
        return raw, orjson.loads(raw or b"{}")

    async def caller(self, account: Account, number: str) -> dict[str, str]:
        """What is kept of a caller: the number without its last three digits (`anum`), and a hash that is the same for
        every call of this caller to this account (`anum_md5`).
        """
        return {"anum": number[:-3] + "xxx", "anum_md5": await self._caller_hash(account, number)}

    async def _caller_hash(self, account: Account, caller: str) -> str:
        name, place = keys.account(account.name), sealing.callers_salt(account.name)
        seal = self.store.seal
        with self._functions.faults():
            client = self.store.client(name)
            await client.hsetnx(name, "salt", seal.seal_text(secrets.token_hex(16), place))
            salt = seal.open_text(str(await client.hget(name, "salt")), place)
        return hashlib.md5((salt + caller).encode(), usedforsecurity=False).hexdigest()

    async def next_cdr_id(self, account: Account) -> str:
        """An id for a call's record; one that is not used is lost."""
        with self._functions.faults():
            return str(await self.store.client(keys.ids(account.name)).hincrby(keys.ids(account.name), "cdrs", 1))

    async def prove(self, account: Account) -> None:
        """Wait until what is known of the account's calls is durable.

        Raises:
            NotDurableError: see `Functions`.
        """
        await self._functions.flush(keys.account(account.name))

    async def put(
        self,
        account: Account,
        call_id: str,
        before: str,
        known: dict[str, Any],
        *,
        event: dict[str, Any] | None = None,
        effect: Effect | None = None,
        record: Record | None = None,
        durable: bool = True,
    ) -> bool:
        """Replace what is known of a call; False if somebody else did since `before` was read.

        In the same step the `event` goes to the stream, the lease is extended or released, and the `record` is listed,
        under `known["cdr_id"]`.

        Raises:
            NotDurableError: see `Functions`.
        """
        name, history = account.name, keys.history(account.name)
        pool_keys = (history,) * 3 if effect is None else keys.pool(name, effect.pool.name)
        names = [keys.call(name, call_id), keys.calls(name), history, *pool_keys]
        listed: tuple[Any, ...] = ()
        if record is not None:
            cdr_id = known["cdr_id"]
            fields = record.fields | {"cdr_id": cdr_id, "start": str(record.start_ms)}
            names += [keys.cdr(name, cdr_id), keys.cdrs(name)]
            names += [keys.cdrs(name, of, value) for of in CDR_FILTERS if (value := fields.get(of))]
            listed = (record.start_ms, cdr_id, orjson.dumps(fields))
        try:
            await (self._functions.write if durable else self._functions.read)(
                "ep1_put_call", names, self.store.clock(), account.calls_kept_ms, account.visits_kept_ms, before,
                orjson.dumps(known), b"" if event is None else orjson.dumps(event), _effect(account, effect), *listed,
            )  # fmt: skip
        except RefusedError:
            return False
        return True

    # Erasure ------------------------------------------------------------------------------------------------------

    async def erase(
        self, account: Account, *, tracking_id: str = "", session_id: str = "", caller: str = ""
    ) -> Receipt:
        """Erase all that is kept of a visitor, of one session, or of a caller (E.164).

        Everything of the account is looked through, a piece at a time: a visitor's sessions are found by nothing else.
        Records of calls stay without what leads to a person.
        """
        name = account.name
        sessions = {session_id} if session_id else set()
        if tracking_id:
            sessions |= {found async for found in self._sessions_of(account, tracking_id)}
            with self._functions.faults():
                async for _, fields in self._entries(keys.visits(name)):
                    for visit in orjson.loads(fields["visits"]):
                        if visit["visit"].get("trackingId") == tracking_id:
                            sessions.add(visit["session"])
        caller_hash = await self._caller_hash(account, caller) if caller else None

        def of_person(tree: dict[str, Any]) -> bool:
            return bool(
                tree.get("session_id") in sessions
                or (tracking_id and tree.get("tracking_id") == tracking_id)
                or (caller_hash and caller_hash == tree.get("anum_md5"))
            )

        client = self.store.client(keys.account(name))
        with self._functions.faults():
            visits = await self._erase_visits(name, sessions, tracking_id) if sessions or tracking_id else 0
            calls, events = await self._erase_calls(account, of_person)
            leases = await self._erase_leases(account, sessions) if sessions else 0
            erased = 0
            for session in sessions:
                erased += await client.delete(keys.session_prefix(name) + session)
            visitors = await client.delete(keys.visitor_prefix(name) + tracking_id) if tracking_id else 0
        await self._functions.flush(keys.account(name))
        return Receipt(sessions=erased, leases=leases, visits=visits + events, visitors=int(visitors), calls=calls)

    async def _sessions_of(self, account: Account, tracking_id: str) -> AsyncIterator[str]:
        prefix = keys.session_prefix(account.name)
        pending: list[str] = []
        with self._functions.faults():
            async for key in self.store.client(prefix).scan_iter(match=_literally(prefix) + "*", count=1000):
                pending.append(str(key)[len(prefix) :])
                if len(pending) == _SOME:
                    for session in await self._of_visitor(account, pending, tracking_id):
                        yield session
                    pending = []
            for session in await self._of_visitor(account, pending, tracking_id):
                yield session

    async def _of_visitor(self, account: Account, session_ids: list[str], tracking_id: str) -> list[str]:
        visits = await self.visits(account, session_ids)
        return [
            session
            for session, visit in zip(session_ids, visits, strict=True)
            if visit is not None and visit.get("trackingId") == tracking_id
        ]

    async def _erase_leases(self, account: Account, sessions: set[str]) -> int:
        """Take the sessions' leases out of the history, and end those that live."""
        name, erased = account.name, 0
        client = self.store.client(keys.account(name))
        for pool in account.pools:
            leased = keys.pool(name, pool.name)[1]
            async for member, _ in client.zscan_iter(leased, count=1000):
                number, _, session = str(member).partition(":")
                if session in sessions:
                    release = Effect(pool, number, Lease(session, "", 0, None))
                    await self._release(account, release)
        history = keys.history(name)
        found = [
            member
            async for member, _ in client.zscan_iter(history, count=1000)
            if str(member).split("\0")[3] in sessions
        ]
        for first in range(0, len(found), _SOME):
            erased += await client.zrem(history, *found[first : first + _SOME])
        return erased

    async def _release(self, account: Account, effect: Effect) -> None:
        """End a lease there and then; its number cools down."""
        names = [keys.history(account.name), *keys.pool(account.name, effect.pool.name)]
        await self._functions.read(
            "ep1_release_lease", names, self.store.clock(), _effect(account, effect, does="release")
        )

    async def _erase_visits(self, name: str, sessions: set[str], tracking_id: str) -> int:
        """Take visits out of their stream.

        What else an entry held, be it nothing, is appended again with the id that it `replaces`: readers go by that.
        """
        erased = 0
        while True:
            overtaken = False  # by another erasure, which appended the rest of an entry
            async for entry_id, fields in self._entries(keys.visits(name)):
                visits = orjson.loads(fields["visits"])
                others = [
                    visit
                    for visit in visits
                    if visit["session"] not in sessions
                    and not (tracking_id and visit["visit"].get("trackingId") == tracking_id)
                ]
                if len(others) < len(visits):
                    again = (entry_id, orjson.dumps(others), fields.get("replaces", entry_id))
                    reply = await self._functions.read("ep1_replace_visits", [keys.visits(name)], *again)
                    overtaken |= not reply["replaced"]
                    erased += len(visits) - len(others) if reply["replaced"] else 0
            if not overtaken:
                return erased

    async def _erase_calls(self, account: Account, of_person: Callable[[dict[str, Any]], bool]) -> tuple[int, int]:
        """Take the person out of the calls' records and out of what else is known of them; drop their events."""
        name, calls, events = account.name, 0, 0
        client = self.store.client(keys.account(name))
        async for entry_id, fields in self._entries(keys.calls(name)):
            if of_person(orjson.loads(fields["call"])):
                events += await client.xdel(keys.calls(name), entry_id)
        pattern = _literally(keys.call(name, "")) + "*"
        call_keys = [key async for key in client.scan_iter(match=pattern, count=1000)]
        for key in call_keys:
            call_id = str(key).removeprefix(keys.call(name, ""))
            while True:
                before, known = await self.known(account, call_id)
                rest = _cleared(known, of_person)
                if rest == known or await self.put(account, call_id, before, rest, durable=False):
                    break
        async for member, _ in client.zscan_iter(keys.cdrs(name), count=1000):
            key = keys.cdr(name, str(member))
            record = orjson.loads(await client.get(key) or b"{}")
            if of_person(record):
                cleared = orjson.dumps(record | dict.fromkeys(_ERASED))
                await client.set(key, cleared, xx=True, keepttl=True)
                calls += 1
        return calls, events

    async def _entries(self, stream: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """Every entry of the stream, to the end that it has when that is read: what an erasure appends comes too."""
        client = self.store.client(stream)
        after = "-"
        while True:
            entries: Any = await client.xrange(stream, after, "+", _SOME)
            for entry_id, fields in entries:
                yield entry_id, fields
            if len(entries) < _SOME:
                return
            after = f"({entries[-1][0]}"


def _cleared(known: dict[str, Any], of_person: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What is known of a call without the person: it can go on, and its events come again."""
    cleared = dict(known)
    if "answer" in known:
        matches = known["answer"]["matches"]
        others = [
            match
            for match in matches
            if not of_person({"session_id": match.get("sessionId"), "tracking_id": match.get("trackingId")})
        ]
        cleared["answer"] = known["answer"] | {"matches": others}
    if of_person(known.get("record", {}) | {"anum_md5": known.get("anum_md5")}):
        cleared |= {"anum": None, "anum_md5": None}
        if "record" in known:
            cleared["record"] = known["record"] | {"session_id": None, "tracking_id": None}
        if "answer" in known:
            cleared["answer"] = known["answer"] | {"matches": []}
    return cleared


def _literally(text: str) -> str:
    """A pattern for keys that begin with this text."""
    return "".join(f"\\{char}" if char in "*?[]^\\" else char for char in text)


def _effect(account: Account, effect: Effect | None, *, does: str = "") -> bytes:
    does = does or ("keep" if effect is None else effect.pool.on_call)
    if effect is None or does == "keep":
        return b""
    return orjson.dumps(
        {
            "does": does,
            "number": effect.number,
            "session": effect.lease.session_id,
            "begin": effect.lease.begin_ms,
            "idle": effect.pool.idle_ttl_ms,
            "max": effect.pool.max_ttl_ms,
            "cooldown": effect.pool.cooldown_ms,
            "kept": account.leases_kept_ms,
        }
    )
