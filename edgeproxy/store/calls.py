"""Calls in the store: who held a number at a moment, what is known of a call, its record, erasure."""

import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import orjson

from edgeproxy.accounts.account import Account, Pool
from edgeproxy.accounts.number import country_and_national
from edgeproxy.errors import RefusedError
from edgeproxy.store import Store, keys, sealing
from edgeproxy.store.functions import Functions
from edgeproxy.store.visits import Visit

CDR_FILTERS = ("customer_id", "source_id", "custnr")
_SOME = 500  # records that erasure looks at in one call
_VALUES = 50  # values that may be large
_ENTRIES_SIZE = 250_000  # characters of a stream that it reads in one call
_CONCEALED = "#"  # begins the name of a call that is kept under a hash of its id; no id holds one
_SHORTEST = 6  # digits of a national number that are looked for in a call's id
# What an erasure leaves of a call's record and of what is known of a call: nothing of who called, nor of the visit.
# `custnr` goes too where it is the visit's.
_OF_RECORD = {"cdr_id", "start", "bnum", "cnum", "duration", "duration_adjusted", "answered", "quarantined",
              "customer_id", "customer_name", "source_id", "source_name", "source_media", "source_class", "custnr",
              "certainty"}  # fmt: skip
_OF_CALL = {"started", "answered", "ended", "number", "cdr_id", "answer", "record"}
_NAMES_SESSION, _NAMES_VISITOR = ("session", "session_id", "sessionId"), ("tracking_id", "trackingId")
_SENT_BY_VISITORS = ("parameters", "first_parameters")  # whose names are theirs


@dataclass(frozen=True, slots=True)
class Lease:
    """A session's hold on a number, in the place of a number on page. `end_ms` is None where it is not known."""

    session_id: str
    page: str
    begin_ms: int
    end_ms: int | None
    cools: bool = False  # the number cooled down after this lease at the moment that was asked for

    def reaches(self, at_ms: int, cooldown_ms: int) -> bool:
        """Whether the lease, which had begun, is not over at that moment, or so shortly that its cooldown is not."""
        return self.end_ms is None or at_ms < self.end_ms + cooldown_ms


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
class Known:
    """What is known of a call, as it was read.

    It is kept under the call's id; or, if the caller's number stands in that, or somebody was erased from the call,
    under a hash of it: `concealed`.
    """

    call_id: str
    hashed: str
    raw: str = field(repr=False)  # "" where nothing is known
    concealed: bool  # to be kept under the hash
    plain: bool  # it was kept under the id

    @property
    def fields(self) -> dict[str, Any]:
        """What is known, by name: the moments of events, `number`, `anum`, `anum_md5`, `answer`, `record`, `cdr_id`."""
        fields: dict[str, Any] = orjson.loads(self.raw or b"{}")
        return fields

    @property
    def shown_id(self) -> str:
        """The id that the stream tells."""
        return self.hashed if self.concealed else self.call_id

    def holding(self, number: str) -> "Known":
        """The same, concealed if the number (E.164) stands in the id, in whatever form."""
        digits = re.sub(r"\D", "", unquote(self.call_id))
        _, national = country_and_national(number)
        national = national.lstrip("0")
        held = number[1:] in digits or (len(national) >= _SHORTEST and national in digits)
        return replace(self, concealed=self.concealed or held)


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
        names = [keys.history(account.name), keys.free(account.name)]
        if pool is not None:
            names[1:] = keys.pool(account.name, pool.name)[:2]
        reply = await self._functions.read("ep1_find_leases", names, self.store.clock(), number, at_ms, reach_ms)
        return [
            Lease(session, page, int(begin), int(end) or None, cools)
            for session, page, begin, end, cools in reply["leases"]
        ]

    async def visits(self, account: Account, session_ids: list[str]) -> list[Visit | None]:
        """The visit of each session; None where it is not known any more."""
        if not session_ids:
            return []
        prefix = keys.session_prefix(account.name)
        reply = await self._functions.read("ep1_read_visits", [prefix + session_id for session_id in session_ids])
        return [None if tree is None else Visit.read(tree) for tree in reply["visits"]]

    async def known(self, account: Account, call_id: str) -> Known:
        """What is known of a call, to be replaced by `put`."""
        hashed = _CONCEALED + await self._hash(account, f"call {call_id}")
        names = [keys.call(account.name, hashed), keys.call(account.name, call_id)]
        with self._functions.faults():
            concealed, plain = await self.store.client(names[0]).mget(names)
        kept_plain = concealed is None and plain is not None
        return Known(call_id, hashed, str(concealed or plain or ""), concealed is not None, kept_plain)

    async def caller(self, account: Account, number: str) -> dict[str, str]:
        """What is kept of a caller (E.164): the number without its last three digits (`anum`), and a hash that is the
        same for every call of this caller to this account (`anum_md5`).
        """
        return {"anum": number[:-3] + "xxx", "anum_md5": await self._hash(account, number)}

    async def _hash(self, account: Account, text: str) -> str:
        """A hash by which nobody without the account's salt finds the text."""
        name, place = keys.account(account.name), sealing.callers_salt(account.name)
        seal = self.store.seal
        with self._functions.faults():
            client = self.store.client(name)
            if not (kept := await client.hget(name, "salt")):
                await client.hsetnx(name, "salt", seal.seal_text(secrets.token_hex(16), place))
                kept = await client.hget(name, "salt")
            salt = seal.open_text(str(kept), place)
        return hashlib.md5((salt + text).encode(), usedforsecurity=False).hexdigest()

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
        before: Known,
        known: dict[str, Any],
        *,
        event: dict[str, Any] | None = None,
        effect: Effect | None = None,
        record: Record | None = None,
        durable: bool = True,
    ) -> bool:
        """Replace what is known of a call; False if somebody else did since `before` was read.

        In the same step the `event` goes to the stream, the lease is extended or released, and the `record` is listed,
        under `known["cdr_id"]`. A call that was not concealed and is to be is so from its first event on.

        Raises:
            NotDurableError: see `Functions`.
        """
        name, history = account.name, keys.history(account.name)
        call_keys = [keys.call(name, before.hashed), keys.call(name, before.call_id)]
        if not before.concealed:
            call_keys.reverse()
        elif before.plain:
            await self._conceal_events(name, before)
        pool_keys = (history,) * 3 if effect is None else keys.pool(name, effect.pool.name)
        names = [*call_keys, keys.calls(name), history, *pool_keys]
        listed: tuple[Any, ...] = ()
        if record is not None:
            cdr_id = known["cdr_id"]
            fields = record.fields | {"cdr_id": cdr_id, "start": str(record.start_ms)}
            names += [keys.cdr(name, cdr_id), keys.cdrs(name)]
            names += [keys.cdrs(name, of, value) for of in CDR_FILTERS if (value := fields.get(of))]
            listed = (record.start_ms, cdr_id, orjson.dumps(fields))
        try:
            await (self._functions.write if durable else self._functions.read)(
                "ep1_put_call", names, self.store.clock(), account.calls_kept_ms, account.visits_kept_ms, before.raw,
                orjson.dumps(known), b"" if event is None else orjson.dumps(event), _effect(account, effect), *listed,
            )  # fmt: skip
        except RefusedError:
            return False
        return True

    async def _conceal_events(self, name: str, call: Known) -> None:
        """Take the id of a call that is concealed out of the events that are in the stream."""
        with self._functions.faults():
            async for entry_id, fields in self._entries(keys.calls(name)):
                event = orjson.loads(fields["call"])
                if event["call_id"] == call.call_id:
                    text = orjson.dumps(event | {"call_id": call.hashed})
                    again = (entry_id, "call", text, fields.get("replaces", entry_id))
                    await self._functions.read("ep1_replace_entry", [keys.calls(name)], *again)

    # Erasure ------------------------------------------------------------------------------------------------------

    async def erase(
        self, account: Account, *, tracking_id: str = "", session_id: str = "", caller: str = ""
    ) -> Receipt:
        """Erase all that is kept of a visitor, of one session, or of a caller (E.164).

        Everything of the account is looked through, a piece at a time: a visitor's sessions are found by nothing else.
        Records of calls stay without what leads to a person, and the names of keys that held an id go with it.
        """
        name = account.name
        with self._functions.faults():
            sessions = {session_id} if session_id else set()
            if tracking_id:
                sessions |= {found async for found in self._sessions_of(account, tracking_id)}
            person = _Person(sessions, tracking_id, await self._hash(account, caller) if caller else "")
            calls, events = await self._erase_calls(account, person)
            erased = visits = leases = visitors = 0
            if sessions or tracking_id:
                visits = await self._erase_visits(name, person)
                visitors = await self._erase_visitors(account, person)
            if sessions:
                leases = await self._erase_leases(account, sessions)
                client = self.store.client(keys.account(name))
                for session in sessions:
                    erased += await client.delete(keys.session_prefix(name) + session)
        await self._functions.flush(keys.account(name))
        return Receipt(sessions=erased, leases=leases, visits=visits + events, visitors=visitors, calls=calls)

    async def _sessions_of(self, account: Account, tracking_id: str) -> AsyncIterator[str]:
        """The sessions of a visitor, by whatever is kept that names both; some more than once."""
        name = account.name
        prefix = keys.session_prefix(name)
        async for some in self._scanned(prefix):
            for session in await self._of_visitor(account, [key.removeprefix(prefix) for key in some], tracking_id):
                yield session
        remembered = await self._functions.read("ep1_sessions_of_visitor", [keys.visitor_prefix(name) + tracking_id])
        for session in remembered["sessions"]:
            yield session
        person = _Person(set(), tracking_id, "")
        async for _, fields in self._entries(keys.visits(name)):
            for visit in orjson.loads(fields["visits"]):
                if person.is_named_by(visit):
                    yield visit["session"]
        for prefix in (keys.call(name, ""), keys.cdr(name, "")):
            async for _, raw in self._values(prefix):
                for session in person.sessions_in(orjson.loads(raw)):
                    yield session

    async def _scanned(self, prefix: str, most: int = _SOME) -> AsyncIterator[list[str]]:
        """The keys that begin with that text, some at a time."""
        pending: list[str] = []
        async for key in self.store.client(prefix).scan_iter(match=_literally(prefix) + "*", count=1000):
            pending.append(str(key))
            if len(pending) == most:
                yield pending
                pending = []
        if pending:
            yield pending

    async def _values(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        """What the keys that begin with that text hold, by the rest of their names."""
        async for some in self._scanned(prefix, _VALUES):
            for key, raw in zip(some, await self.store.client(prefix).mget(some), strict=True):
                if raw is not None:
                    yield key.removeprefix(prefix), str(raw)

    async def _of_visitor(self, account: Account, session_ids: list[str], tracking_id: str) -> list[str]:
        visits = await self.visits(account, session_ids)
        return [
            session
            for session, visit in zip(session_ids, visits, strict=True)
            if visit is not None and tracking_id in visit.tracking_ids
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

    async def _erase_visits(self, name: str, person: "_Person") -> int:
        """Take visits out of their stream.

        What else an entry held, be it nothing, is appended again with the id that it `replaces`: readers go by that.
        """
        erased = 0
        while True:
            overtaken = False  # by another erasure, which appended the rest of an entry
            async for entry_id, fields in self._entries(keys.visits(name)):
                visits = orjson.loads(fields["visits"])
                others = [visit for visit in visits if not person.is_named_by(visit)]
                if len(others) < len(visits):
                    again = (entry_id, "visits", orjson.dumps(others), fields.get("replaces", entry_id))
                    reply = await self._functions.read("ep1_replace_entry", [keys.visits(name)], *again)
                    overtaken |= not reply["replaced"]
                    erased += len(visits) - len(others) if reply["replaced"] else 0
            if not overtaken:
                return erased

    async def _erase_visitors(self, account: Account, person: "_Person") -> int:
        """Forget the visitor's last numbers, and those that the sessions gave to a visitor of another name."""
        prefix, erased = keys.visitor_prefix(account.name), 0
        if person.tracking_id:
            erased += int(await self.store.client(prefix).delete(prefix + person.tracking_id))
        if person.sessions:
            async for some in self._scanned(prefix):
                erased += (await self._functions.read("ep1_forget_sessions", some, *person.sessions))["visitors"]
        return erased

    async def _erase_calls(self, account: Account, person: "_Person") -> tuple[int, int]:
        """Take the person out of the calls' records and out of what else is known of them; drop the calls' events.

        Of the records, how many; of the events, how many.
        """
        name, records, events = account.name, 0, 0
        client = self.store.client(keys.account(name))
        call_ids: set[str] = set()
        async for call_id, raw in self._values(keys.call(name, "")):
            if person.is_named_by(orjson.loads(raw)):
                call_ids |= await self._erase_call(account, call_id, person)
        async for _, fields in self._entries(keys.calls(name)):
            event = orjson.loads(fields["call"])
            if person.is_named_by(event):
                call_ids.add(event["call_id"])
        async for entry_id, fields in self._entries(keys.calls(name)):
            if orjson.loads(fields["call"])["call_id"] in call_ids:
                events += await client.xdel(keys.calls(name), entry_id)
        async for cdr_id, raw in self._values(keys.cdr(name, "")):
            if person.is_named_by(orjson.loads(raw)):
                records += await self._erase_record(name, cdr_id, person)
        return records, events

    async def _erase_call(self, account: Account, call_id: str, person: "_Person") -> set[str]:
        """Take the person out of what is known of a call: it can go on, and its events come again.

        The ids under which the stream may tell of it, if it was the person's; they lead to nobody from then on.
        """
        while True:
            before = await self.known(account, call_id)
            if call_id.startswith(_CONCEALED):
                before = replace(before, hashed=call_id, concealed=True)
            fields = before.fields
            rest, was_the_person_s = person.cleared(fields)
            if rest == fields:
                return set()
            # Its events are not concealed one by one: they go.
            before = replace(before, concealed=before.concealed or was_the_person_s, plain=False)
            if await self.put(account, before, rest, durable=False):
                return {before.call_id, before.hashed} if was_the_person_s else set()

    async def _erase_record(self, name: str, cdr_id: str, person: "_Person") -> bool:
        """Take the person out of a call's record, and this out of the list that its `custnr` names."""
        key = keys.cdr(name, cdr_id)
        while True:
            raw = str(await self.store.client(key).get(key) or "{}")
            record = orjson.loads(raw)
            if not person.is_named_by(record):
                return False
            cleared = _cleared_record(record)
            names = [key]
            if (custnr := record.get("custnr")) and not cleared["custnr"]:
                names.append(keys.cdrs(name, "custnr", custnr))
            with contextlib.suppress(RefusedError):
                await self._functions.read("ep1_clear_record", names, raw, orjson.dumps(cleared), cdr_id)
                return True

    async def _entries(self, stream: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """Every entry of the stream, to the end that it has when that is read: what an erasure appends comes too."""
        client = self.store.client(stream)
        after, count = "-", _VALUES
        while True:
            entries: Any = await client.xrange(stream, after, "+", count)
            for entry_id, fields in entries:
                yield entry_id, fields
            if len(entries) < count:
                return
            after = f"({entries[-1][0]}"
            size = sum(len(text) for _, fields in entries for text in fields.values()) // count
            count = max(1, min(_SOME, _ENTRIES_SIZE // max(1, size)))


@dataclass(frozen=True, slots=True)
class _Person:
    """Who is to be forgotten: by sessions and the visitor's id, or by the hash of a caller."""

    sessions: set[str]
    tracking_id: str
    caller_hash: str

    def is_named_by(self, tree: Any) -> bool:
        """Whether anything in the tree names the person, but for what visitors send."""
        if isinstance(tree, list):
            return any(self.is_named_by(branch) for branch in tree)
        if not isinstance(tree, dict):
            return False
        return (
            any(tree.get(name) in self.sessions for name in _NAMES_SESSION)
            or bool(self.tracking_id and any(tree.get(name) == self.tracking_id for name in _NAMES_VISITOR))
            or bool(self.caller_hash and tree.get("anum_md5") == self.caller_hash)
            or any(self.is_named_by(branch) for name, branch in tree.items() if name not in _SENT_BY_VISITORS)
        )

    def sessions_in(self, tree: Any) -> list[str]:
        """The sessions that stand beside the visitor in the tree."""
        if isinstance(tree, list):
            return [session for branch in tree for session in self.sessions_in(branch)]
        if not isinstance(tree, dict) or not self.is_named_by(tree):
            return []
        beside = [session for name in _NAMES_SESSION if isinstance(session := tree.get(name), str)]
        branches = [branch for name, branch in tree.items() if name not in _SENT_BY_VISITORS]
        return beside + self.sessions_in(branches)

    def cleared(self, known: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """What is known of a call without the person; and whether it was the person's, or of others too."""
        answer = known.get("answer", {})
        matches = answer.get("matches", [])
        if self.is_named_by({name: value for name, value in known.items() if name != "answer"}):
            cleared = {name: value for name, value in known.items() if name in _OF_CALL}
            cleared |= {"anum": None, "anum_md5": None}
            if "record" in known:
                cleared["record"] = _cleared_record(known["record"])
            others = []
        else:
            cleared = dict(known)
            others = [match for match in matches if not self.is_named_by(match)]
        if len(others) < len(matches):
            cleared["answer"] = answer | {"matches": others}
        return cleared, others == [] and cleared != known


def _cleared_record(record: dict[str, Any]) -> dict[str, Any]:
    cleared = {name: value if name in _OF_RECORD else None for name, value in record.items()}
    if record.get("session_id"):
        cleared["custnr"] = None
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
