"""What the streams of visits and calls hold between two moments; deploy/streams/README.md describes their entries."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions

ENTRIES_MOST = 500  # of a piece
_FIRST_PIECE = 10  # until it is known how large entries are
_PIECE_SIZE = 1_000_000  # characters that a piece is to have: few enough that a visitor does not wait for it
_FIRST_ENTRIES = 50  # of all, likewise
_ENTRIES_SIZE = 250_000  # characters of all that are read in one call

_Id = tuple[int, int]  # epoch ms, and a number within it


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry, under the id it first had: an erasure appends what it leaves of an entry under another one."""

    id: str
    text: str  # JSON

    @property
    def time_ms(self) -> int:
        """When it was first written, epoch ms."""
        return _read_id(self.id)[0]


@dataclass(frozen=True, slots=True)
class Piece:
    """Entries in the order of their ids, maybe none; and the share of the reading that is done with them, 0 to 1."""

    entries: list[Entry]
    share: float


def visits(store: Store, account_name: str, from_ms: int, to_ms: int) -> AsyncIterator[Piece]:
    """The visits from one moment until before another, each entry a JSON array; raises `Fault` if the store fails."""
    return _Reading(store, keys.visits(account_name), "visits", from_ms, to_ms).pieces()


def calls(store: Store, account_name: str, from_ms: int, to_ms: int) -> AsyncIterator[Piece]:
    """The events of calls from one moment until before another, each a JSON object; raises `Fault`."""
    return _Reading(store, keys.calls(account_name), "call", from_ms, to_ms).pieces()


async def all_entries(store: Store, stream: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Every entry of a stream, id and fields, to the end that it has when that is read: what erasures append comes too.

    Raises:
        RedisError, OSError: the store failed.
    """
    client = store.client(stream)
    after, count = "-", _FIRST_ENTRIES
    while True:
        entries: Any = await client.xrange(stream, after, "+", count)
        for entry_id, fields in entries:
            yield entry_id, fields
        if len(entries) < count:
            return
        after = f"({entries[-1][0]}"
        size = sum(len(text) for _, fields in entries for text in fields.values()) // count
        count = max(1, min(ENTRIES_MOST, _ENTRIES_SIZE // max(1, size)))


class _Reading:
    """Reads a stream once, while others write to it and erase from it.

    What an erasure leaves of an entry is appended to the stream, far from its time. So where something was erased, what
    was appended is looked through after each piece is read, and what is found comes in its old place: an entry that is
    erased from while it is read comes as it was or as it is, and is not missed.
    """

    def __init__(self, store: Store, stream: str, field: str, from_ms: int, to_ms: int) -> None:
        self._store = store
        self._functions = Functions(store, None)
        self._stream, self._field = stream, field
        self._from, self._to = (from_ms, 0), (to_ms, 0)
        self._count = _FIRST_PIECE
        self._next = self._from  # where to look on for what erasures left
        self._left: dict[_Id, str] = {}  # id of an entry → the one under which the rest of it stands now

    async def pieces(self) -> AsyncIterator[Piece]:
        """The entries, in order."""
        known = await self._known()
        if known is None or self._from >= self._to:
            return
        first = known["first-entry"]
        begin = max(self._from, _read_id(first[0])) if first else self._from
        newest = _read_id(known["last-generated-id"])
        end = min(self._to, newest)
        looked, span = 0, max(1, end[0] - begin[0])
        if self._was_erased(known):
            looked = max(1, newest[0] - begin[0])
            async for at in self._look(newest):
                yield Piece([], max(0, at[0] - begin[0]) / (looked + span))
        done, last = self._from, False  # `done` is the first id that is not
        while not last:
            count = self._count
            found = await self._range(_write_id(done), f"({_write_id(self._to)}", count)
            last = len(found) < count
            until = self._to if last else _after(_read_id(found[-1][0]))
            if (known := await self._known()) is not None and self._was_erased(known):
                async for _ in self._look(_read_id(known["last-generated-id"])):
                    pass
            entries = await self._merged(found, done, until)
            share = 1.0 if last else (looked + min(span, max(0, until[0] - begin[0]))) / (looked + span)
            yield Piece(entries, share)
            done = until

    def _was_erased(self, known: dict[str, Any]) -> bool:
        """Whether an erasure may have left anything: it appends the rest of an entry and deletes that, in one step."""
        return _read_id(known["max-deleted-entry-id"]) >= self._from

    async def _look(self, newest: _Id) -> AsyncIterator[_Id]:
        """Look for what erasures appended, up to there, since it was last looked; gives how far it has come."""
        while self._next <= newest:
            count = self._count
            found = await self._range(_write_id(self._next), _write_id(newest), count)
            for entry_id, fields in found:
                if (replaced := fields.get("replaces")) and self._from <= _read_id(replaced) < self._to:
                    self._left[_read_id(replaced)] = entry_id
            self._next = _after(_read_id(found[-1][0]) if len(found) == count else newest)
            yield self._next

    async def _merged(self, found: list[Any], begin: _Id, end: _Id) -> list[Entry]:
        """What was found, and what erasures left of entries from one id until before another, in its old place."""
        entries = {_read_id(entry_id): fields[self._field] for entry_id, fields in found if "replaces" not in fields}
        for entry in [entry for entry in self._left if entry < end]:
            if entry >= begin:  # or else it was given before it was erased
                entries.pop(entry, None)
                if (text := await self._rest(entry)) is not None:
                    entries[entry] = text
            del self._left[entry]
        return [Entry(_write_id(entry), entries[entry]) for entry in sorted(entries)]

    async def _rest(self, entry: _Id) -> str | None:
        """What is left of an entry; None where that is gone too."""
        while True:
            stands = self._left[entry]
            for _, fields in await self._range(stands, stands, 1):
                return str(fields[self._field])
            known = await self._known()  # it was erased again
            if known is not None:
                async for _ in self._look(_read_id(known["last-generated-id"])):
                    pass
            if self._left[entry] == stands:
                return None

    async def _known(self) -> dict[str, Any] | None:
        """What the store knows of the stream; None where there is none."""
        with self._functions.faults():
            try:
                known: dict[str, Any] = await self._store.client(self._stream).xinfo_stream(self._stream)
            except ResponseError as error:
                if "no such key" in str(error):
                    return None
                raise
            return known

    async def _range(self, first: str, last: str, count: int) -> list[Any]:
        """Up to `count` entries: id, fields."""
        with self._functions.faults():
            reply: Any = await self._store.client(self._stream).xrange(self._stream, first, last, count)
        found: list[Any] = reply
        if found:
            size = sum(len(fields.get(self._field, "")) for _, fields in found) / len(found)
            self._count = min(ENTRIES_MOST, max(1, int(_PIECE_SIZE / max(1, size))))
        return found


def _read_id(text: str) -> _Id:
    ms, _, serial = text.partition("-")
    return int(ms), int(serial or 0)


def _write_id(entry: _Id) -> str:
    return f"{entry[0]}-{entry[1]}"


def _after(entry: _Id) -> _Id:
    return entry[0], entry[1] + 1
