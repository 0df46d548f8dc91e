"""Calls in the store: who held a number at a moment, what is known of a call and its record."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import orjson

from edgeproxy.accounts.account import Account, Pool
from edgeproxy.accounts.number import country_and_national
from edgeproxy.errors import RefusedError
from edgeproxy.store import Store, keys, sealing
from edgeproxy.store.functions import Functions
from edgeproxy.store.streams import all_entries
from edgeproxy.store.visits import Visit

CDR_FILTERS = ("customer_id", "source_id", "custnr")
CONCEALED = "#"  # begins the name of a call that is kept under a hash of its id; no id holds one
_SHORTEST = 6  # digits of a national number that are looked for in a call's id


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


class Calls:
    """Typed access to calls. Every method raises `Fault` (`STORE_UNAVAILABLE`) where the store fails."""

    def __init__(self, store: Store, replicas: int | None = 0) -> None:
        self.store = store
        self.functions = Functions(store, replicas)

    async def now_ms(self, account: Account) -> int:
        """The account's store's time, epoch ms."""
        if now_ms := self.store.clock():
            return now_ms
        with self.functions.faults():
            seconds, micros = await self.store.client(keys.account(account.name)).time()
        return int(seconds * 1000 + micros // 1000)

    async def state(self, account: Account, number: str) -> str | None:
        """The state of the number in the account's inventory."""
        with self.functions.faults():
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
        reply = await self.functions.read("ep1_find_leases", names, self.store.clock(), number, at_ms, reach_ms)
        return [
            Lease(session, page, int(begin), int(end) or None, cools)
            for session, page, begin, end, cools in reply["leases"]
        ]

    async def visits(self, account: Account, session_ids: list[str]) -> list[Visit | None]:
        """The visit of each session; None where it is not known any more."""
        if not session_ids:
            return []
        prefix = keys.session_prefix(account.name)
        reply = await self.functions.read("ep1_read_visits", [prefix + session_id for session_id in session_ids])
        return [None if tree is None else Visit.read(tree) for tree in reply["visits"]]

    async def known(self, account: Account, call_id: str) -> Known:
        """What is known of a call, to be replaced by `put`."""
        hashed = CONCEALED + await self._hash(account, f"call {call_id}")
        names = [keys.call(account.name, hashed), keys.call(account.name, call_id)]
        with self.functions.faults():
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
        with self.functions.faults():
            client = self.store.client(name)
            if not (kept := await client.hget(name, "salt")):
                await client.hsetnx(name, "salt", seal.seal_text(secrets.token_hex(16), place))
                kept = await client.hget(name, "salt")
            salt = seal.open_text(str(kept), place)
        return hashlib.md5((salt + text).encode(), usedforsecurity=False).hexdigest()

    async def next_cdr_id(self, account: Account) -> str:
        """An id for a call's record; one that is not used is lost."""
        with self.functions.faults():
            return str(await self.store.client(keys.ids(account.name)).hincrby(keys.ids(account.name), "cdrs", 1))

    async def prove(self, account: Account) -> None:
        """Wait until what is known of the account's calls is durable.

        Raises:
            NotDurableError: see `Functions`.
        """
        await self.functions.flush(keys.account(account.name))

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
            await (self.functions.write if durable else self.functions.read)(
                "ep1_put_call", names, self.store.clock(), account.calls_kept_ms, account.visits_kept_ms, before.raw,
                orjson.dumps(known), b"" if event is None else orjson.dumps(event), _effect(account, effect), *listed,
            )  # fmt: skip
        except RefusedError:
            return False
        return True

    async def _conceal_events(self, name: str, call: Known) -> None:
        """Take the id of a call that is concealed out of the events that are in the stream."""
        with self.functions.faults():
            async for entry_id, fields in all_entries(self.store, keys.calls(name)):
                event = orjson.loads(fields["call"])
                if event["call_id"] == call.call_id:
                    text = orjson.dumps(event | {"call_id": call.hashed})
                    again = (entry_id, "call", text, fields.get("replaces", entry_id))
                    await self.functions.read("ep1_replace_entry", [keys.calls(name)], *again)

    async def release(self, account: Account, effect: Effect) -> None:
        """End a lease there and then; its number cools down."""
        names = [keys.history(account.name), *keys.pool(account.name, effect.pool.name)]
        await self.functions.read(
            "ep1_release_lease", names, self.store.clock(), _effect(account, effect, does="release")
        )


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
