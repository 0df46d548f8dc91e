"""Erasure: taking all out of the store that is kept of a visitor, a session, or a caller."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import orjson

from edgeproxy.accounts.account import Account
from edgeproxy.errors import RefusedError
from edgeproxy.store import keys
from edgeproxy.store.calls import CONCEALED, Calls, Effect, Lease
from edgeproxy.store.person import Person, cleared_record
from edgeproxy.store.streams import all_entries

_SOME = 500  # records that are looked at in one call
_VALUES = 50  # values that may be large


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure found and erased."""

    sessions: int = 0
    leases: int = 0
    visits: int = 0  # visits and events in the streams
    visitors: int = 0  # what was remembered of a visitor's last numbers
    calls: int = 0


async def erase(
    calls: Calls, account: Account, *, tracking_id: str = "", session_id: str = "", caller: str = ""
) -> Receipt:
    """Erase all that is kept of a visitor, of one session, or of a caller (E.164).

    Everything of the account is looked through, a piece at a time: a visitor's sessions are found by nothing else.
    Records of calls stay without what leads to a person, and the names of keys that held an id go with it.

    Raises:
        Fault: `STORE_UNAVAILABLE`.
        NotDurableError: see `Functions`.
    """
    erasure = _Erasure(calls, account)
    with calls.functions.faults():
        sessions = {session_id} if session_id else set()
        if tracking_id:
            sessions |= {found async for found in erasure.sessions_of(tracking_id)}
        person = Person(sessions, tracking_id, (await calls.caller(account, caller))["anum_md5"] if caller else "")
        records, events = await erasure.calls(person)
        erased = visits = leases = visitors = 0
        if sessions or tracking_id:
            visits = await erasure.visits(person)
            visitors = await erasure.visitors(person)
        if sessions:
            leases = await erasure.leases(sessions)
            erased = await erasure.sessions(sessions)
    await calls.prove(account)
    return Receipt(sessions=erased, leases=leases, visits=visits + events, visitors=visitors, calls=records)


class _Erasure:
    """What is kept of persons in an account, and taking it out; each tells how many there were of its kind."""

    def __init__(self, calls: Calls, account: Account) -> None:
        self._calls, self._account = calls, account
        self._store, self._name = calls.store, account.name

    async def sessions_of(self, tracking_id: str) -> AsyncIterator[str]:
        """The sessions of a visitor, by whatever is kept that names both; some more than once."""
        prefix = keys.session_prefix(self._name)
        async for some in self._scanned(prefix):
            for session in await self._of_visitor([key.removeprefix(prefix) for key in some], tracking_id):
                yield session
        remembered = await self._calls.functions.read(
            "ep1_sessions_of_visitor", [keys.visitor_prefix(self._name) + tracking_id]
        )
        for session in remembered["sessions"]:
            yield session
        person = Person(set(), tracking_id, "")
        async for _, fields in all_entries(self._store, keys.visits(self._name)):
            for visit in orjson.loads(fields["visits"]):
                if person.is_named_by(visit):
                    yield visit["session"]
        for prefix in (keys.call(self._name, ""), keys.cdr(self._name, "")):
            async for _, raw in self._values(prefix):
                for session in person.sessions_in(orjson.loads(raw)):
                    yield session

    async def calls(self, person: Person) -> tuple[int, int]:
        """Take the person out of the calls' records and out of what else is known of them; drop the calls' events.

        Of the records, how many; of the events, how many.
        """
        records = events = 0
        client = self._store.client(keys.account(self._name))
        call_ids: set[str] = set()
        async for call_id, raw in self._values(keys.call(self._name, "")):
            if person.is_named_by(orjson.loads(raw)):
                call_ids |= await self._call(call_id, person)
        async for _, fields in all_entries(self._store, keys.calls(self._name)):
            event = orjson.loads(fields["call"])
            if person.is_named_by(event):
                call_ids.add(event["call_id"])
        async for entry_id, fields in all_entries(self._store, keys.calls(self._name)):
            if orjson.loads(fields["call"])["call_id"] in call_ids:
                events += await client.xdel(keys.calls(self._name), entry_id)
        async for cdr_id, raw in self._values(keys.cdr(self._name, "")):
            if person.is_named_by(orjson.loads(raw)):
                records += await self._record(cdr_id, person)
        return records, events

    async def _call(self, call_id: str, person: Person) -> set[str]:
        """Take the person out of what is known of a call: it can go on, and its events come again.

        The ids under which the stream may tell of it, if it was the person's; they lead to nobody from then on.
        """
        while True:
            before = await self._calls.known(self._account, call_id)
            if call_id.startswith(CONCEALED):
                before = replace(before, hashed=call_id, concealed=True)
            fields = before.fields
            rest, was_the_person_s = person.cleared(fields)
            if rest == fields:
                return set()
            # Its events are not concealed one by one: they go.
            before = replace(before, concealed=before.concealed or was_the_person_s, plain=False)
            if await self._calls.put(self._account, before, rest, durable=False):
                return {before.call_id, before.hashed} if was_the_person_s else set()

    async def _record(self, cdr_id: str, person: Person) -> bool:
        """Take the person out of a call's record, and this out of the list that its `custnr` names."""
        key = keys.cdr(self._name, cdr_id)
        while True:
            raw = str(await self._store.client(key).get(key) or "{}")
            record = orjson.loads(raw)
            if not person.is_named_by(record):
                return False
            cleared = cleared_record(record)
            names = [key]
            if (custnr := record.get("custnr")) and not cleared["custnr"]:
                names.append(keys.cdrs(self._name, "custnr", custnr))
            with contextlib.suppress(RefusedError):
                await self._calls.functions.read("ep1_clear_record", names, raw, orjson.dumps(cleared), cdr_id)
                return True

    async def visits(self, person: Person) -> int:
        """Take visits out of their stream.

        What else an entry held, be it nothing, is appended again with the id that it `replaces`: readers go by that.
        """
        erased = 0
        while True:
            overtaken = False  # by another erasure, which appended the rest of an entry
            async for entry_id, fields in all_entries(self._store, keys.visits(self._name)):
                visits = orjson.loads(fields["visits"])
                others = [visit for visit in visits if not person.is_named_by(visit)]
                if len(others) < len(visits):
                    again = (entry_id, "visits", orjson.dumps(others), fields.get("replaces", entry_id))
                    reply = await self._calls.functions.read("ep1_replace_entry", [keys.visits(self._name)], *again)
                    overtaken |= not reply["replaced"]
                    erased += len(visits) - len(others) if reply["replaced"] else 0
            if not overtaken:
                return erased

    async def visitors(self, person: Person) -> int:
        """Forget the visitor's last numbers, and those that the sessions gave to a visitor of another name."""
        prefix, erased = keys.visitor_prefix(self._name), 0
        if person.tracking_id:
            erased += int(await self._store.client(prefix).delete(prefix + person.tracking_id))
        if person.sessions:
            async for some in self._scanned(prefix):
                erased += (await self._calls.functions.read("ep1_forget_sessions", some, *person.sessions))["visitors"]
        return erased

    async def leases(self, sessions: set[str]) -> int:
        """Take the sessions' leases out of the history, and end those that live."""
        erased = 0
        client = self._store.client(keys.account(self._name))
        for pool in self._account.pools:
            leased = keys.pool(self._name, pool.name)[1]
            async for member, _ in client.zscan_iter(leased, count=1000):
                number, _, session = str(member).partition(":")
                if session in sessions:
                    release = Effect(pool, number, Lease(session, "", 0, None))
                    await self._calls.release(self._account, release)
        history = keys.history(self._name)
        found = [
            member
            async for member, _ in client.zscan_iter(history, count=1000)
            if str(member).split("\0")[3] in sessions
        ]
        for first in range(0, len(found), _SOME):
            erased += await client.zrem(history, *found[first : first + _SOME])
        return erased

    async def sessions(self, sessions: set[str]) -> int:
        """Forget the sessions themselves."""
        client, erased = self._store.client(keys.account(self._name)), 0
        for session in sessions:
            erased += await client.delete(keys.session_prefix(self._name) + session)
        return erased

    async def _of_visitor(self, session_ids: list[str], tracking_id: str) -> list[str]:
        visits = await self._calls.visits(self._account, session_ids)
        return [
            session
            for session, visit in zip(session_ids, visits, strict=True)
            if visit is not None and tracking_id in visit.tracking_ids
        ]

    async def _scanned(self, prefix: str, most: int = _SOME) -> AsyncIterator[list[str]]:
        """The keys that begin with that text, some at a time."""
        pending: list[str] = []
        async for key in self._store.client(prefix).scan_iter(match=_literally(prefix) + "*", count=1000):
            pending.append(str(key))
            if len(pending) == most:
                yield pending
                pending = []
        if pending:
            yield pending

    async def _values(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        """What the keys that begin with that text hold, by the rest of their names."""
        async for some in self._scanned(prefix, _VALUES):
            for key, raw in zip(some, await self._store.client(prefix).mget(some), strict=True):
                if raw is not None:
                    yield key.removeprefix(prefix), str(raw)


def _literally(text: str) -> str:
    """A pattern for keys that begin with this text."""
    return "".join(f"\\{char}" if char in "*?[]^\\" else char for char in text)
