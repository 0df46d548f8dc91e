"""Visits and events of calls, written as JSON Lines or Parquet for a warehouse to take in."""

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import orjson

from edgeproxy.accounts import moments
from edgeproxy.accounts.account import Account
from edgeproxy.store import streams, visits
from edgeproxy.store.calls import Calls
from edgeproxy.store.visits import Page, Visit
from edgeproxy.whole_file import written_whole

_ROW_GROUP_BYTES = 32 * 1024 * 1024  # of Arrow's memory: a row group is written when it has so many
_SESSIONS = 500  # that the store is asked about at once

_Row = dict[str, Any]

# Columns and what they hold: a `moment` (epoch ms here), `text`, a `flag`, a `map` of texts, or `numbers`.
_OF_ALL = {"time": "moment", "kind": "text"}
_OF_A_VISIT = {
    "trackingId": "text",
    "type": "text",
    "fullUrl": "text",
    "fullReferrer": "text",
    "parameters": "map",
    "userAgent": "text",
    "requestIpAddress": "text",
}
_OF_AN_EVENT = {
    "call_id": "text",
    "event": "text",
    "at": "moment",
    "number": "text",
    "anum_md5": "text",
    "session_id": "text",
    "tracking_id": "text",
    "source_id": "text",
    "customer_id": "text",
}
_OTHER_THAN_TEXT = {
    "first_at": "moment",
    "last_at": "moment",
    "last_after_call": "flag",
    "first_parameters": "map",
    "parameters": "map",
}
_FIRST_TOUCH = {name: _OTHER_THAN_TEXT.get(name, "text") for name in visits.FIRST_TOUCH}
_OF_ITS_VISIT = {name: _OTHER_THAN_TEXT.get(name, "text") for name in visits.FIELDS}  # of a call's
_VISITS = _OF_ALL | {"session": "text", "new": "flag"} | _OF_A_VISIT | {"numbers": "numbers"} | _FIRST_TOUCH
_CALLS = _OF_ALL | _OF_AN_EVENT | _OF_ITS_VISIT
COLUMNS = {"visits": _VISITS, "calls": _CALLS, "all": _VISITS | _CALLS}


class FormatError(Exception):
    """The file's name does not say in which format it is to be written."""


class LibraryError(Exception):
    """What writes that format is not installed; the text tells what is to be."""


class Writer(Protocol):
    """What appends rows to a file that is open."""

    def write(self, rows: list[_Row]) -> None:
        """Append rows."""


Opens = Callable[[IO[bytes]], contextlib.AbstractContextManager[Writer]]
# What is told how an export of `visits` or `calls` goes on: a context in which it is given the share that is written.
Follow = Callable[[str], contextlib.AbstractContextManager[Callable[[float], object]]]


async def export(
    calls: Calls, account: Account, what: str, span: tuple[int, int], file: Path, writer: Opens, follow: Follow
) -> dict[str, int]:
    """Write what happened from the first moment of `span` until before the second, by the store's clock, epoch ms.

    `what` is `visits`, `calls` or `all`, as for `writer_of`, which gives the `writer`. Gives how many rows of each kind
    were written. The file is there whole or not at all, also where the task is cancelled.

    Raises:
        OSError: the file cannot be written; or the store cannot be used.
        RedisError, Fault: the store cannot be used.
    """
    counts: dict[str, int] = {}
    with _sink(file) as sink, writer(sink) as rows:
        if what in ("visits", "all"):
            pieces = streams.visits(calls.store, account.name, *span)
            visits_of = functools.partial(_visits, calls, account)
            with follow("visits") as told:
                counts["visits"] = await _copy(pieces, visits_of, rows, told)
        if what in ("calls", "all"):
            pieces = streams.calls(calls.store, account.name, *span)
            with follow("calls") as told:
                counts["calls"] = await _copy(pieces, _calls, rows, told)
    return counts


async def _copy(
    pieces: AsyncIterator[streams.Piece],
    rows_of: Callable[[list[streams.Entry]], Awaitable[list[_Row]]],
    writer: Writer,
    told: Callable[[float], object],
) -> int:
    """Write the rows of all pieces, and tell which share of them is written; gives how many rows there are."""
    count = 0
    async for piece in pieces:
        _end_if_cancelled()
        if rows := await rows_of(piece.entries):
            writer.write(rows)
            count += len(rows)
        told(piece.share)
    _end_if_cancelled()
    told(1)
    return count


def _end_if_cancelled() -> None:
    """Raise a cancellation that redis-py may have swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


# Rows -----------------------------------------------------------------------------------------------------------------


async def _visits(calls: Calls, account: Account, entries: list[streams.Entry]) -> list[_Row]:
    """A row a visit, each with the first touch of its session, as far as that is still known."""
    told = [(entry.time_ms, tree) for entry in entries for tree in orjson.loads(entry.text)]
    sessions = list({tree["session"] for _, tree in told})
    known: dict[str, Visit | None] = {}
    for first in range(0, len(sessions), _SESSIONS):
        some = sessions[first : first + _SESSIONS]
        known |= zip(some, await calls.visits(account, some), strict=True)
    return [
        {
            "time": time_ms,
            "kind": "visit",
            "session": tree["session"],
            "new": tree["new"],
            **{name: tree["visit"].get(name) for name in _OF_A_VISIT},
            "numbers": [
                {"number_on_page": page, "number": number, "how": how}
                for page, (number, how) in tree["numbers"].items()
            ],
            **_first_touch(tree, known[tree["session"]]),
        }
        for time_ms, tree in told
    ]


def _first_touch(tree: dict[str, Any], known: Visit | None) -> _Row:
    if tree["new"]:
        page = Page(tree.get("first_at"), tree["visit"])
        known = Visit(page, page)
    fields = visits.fields(known)
    fields["first_at"] = fields["first_at"] or tree.get("first_at")
    return {name: fields[name] for name in _FIRST_TOUCH}


async def _calls(entries: list[streams.Entry]) -> list[_Row]:
    columns = (*_OF_AN_EVENT, *_OF_ITS_VISIT)
    events = ((entry.time_ms, orjson.loads(entry.text)) for entry in entries)
    return [
        {"time": time_ms, "kind": "call", **{name: event.get(name) for name in columns}} for time_ms, event in events
    ]


# Files ----------------------------------------------------------------------------------------------------------------


def writer_of(file: Path, what: str) -> Opens:
    """What writes the rows of `what` (`visits`, `calls` or `all`) to such a file, as its name says.

    Raises:
        FormatError: its name ends in that of no format.
        LibraryError: nothing is installed that writes its format.
    """
    columns = COLUMNS[what]
    if is_stdout(file) or file.suffix == ".jsonl":
        return lambda sink: contextlib.nullcontext(_JSONLines(sink, columns))
    if file.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401 - only the extra `export` installs it
        except ImportError:
            raise LibraryError("a .parquet needs pyarrow: pip install '.[export]'") from None
        return lambda sink: _Parquet(sink, columns)
    raise FormatError(f"{file} ends neither in .jsonl nor in .parquet")


class _JSONLines:
    """One JSON object a line; moments are ISO 8601 in UTC."""

    def __init__(self, sink: IO[bytes], columns: Mapping[str, str]) -> None:
        self._sink = sink
        self._moments = [name for name, kind in columns.items() if kind == "moment"]

    def write(self, rows: list[_Row]) -> None:
        """Append rows."""
        for row in rows:
            for name in self._moments:
                if row.get(name) is not None:
                    row[name] = moments.text(row[name])
        self._sink.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))


class _Parquet:
    """Typed columns, compressed; a column that rows of one kind lack is null in them. Use as a context manager."""

    def __init__(self, sink: IO[bytes], columns: Mapping[str, str]) -> None:
        import pyarrow
        import pyarrow.parquet

        text = pyarrow.string()
        types = {
            "moment": pyarrow.timestamp("ms", tz="UTC"),
            "text": text,
            "flag": pyarrow.bool_(),
            "map": pyarrow.map_(text, text),
            "numbers": pyarrow.list_(pyarrow.struct([(name, text) for name in ("number_on_page", "number", "how")])),
        }
        self._arrow: Any = pyarrow
        self._schema: Any = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._maps = [name for name, kind in columns.items() if kind == "map"]
        self._file: Any = pyarrow.parquet.ParquetWriter(sink, self._schema, compression="zstd")
        self._batches: list[Any] = []  # of the next row group
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self._batches:
                self._write_group()
            self._file.close()
        else:  # or else it would be closed when its sink is
            with contextlib.suppress(Exception):
                self._file.close()

    def write(self, rows: list[_Row]) -> None:
        """Append rows."""
        for row in rows:
            for name in self._maps:
                if row.get(name) is not None:
                    row[name] = list(row[name].items())
        batch = self._arrow.RecordBatch.from_pylist(rows, self._schema)
        self._batches.append(batch)
        self._size += batch.nbytes
        if self._size >= _ROW_GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        table = self._arrow.Table.from_batches(self._batches)
        self._file.write_table(table, row_group_size=max(1, table.num_rows))
        self._batches, self._size = [], 0


def is_stdout(file: Path) -> bool:
    """Whether `-` was given for a file."""
    return str(file) == "-"


@contextlib.contextmanager
def _sink(file: Path) -> Iterator[IO[bytes]]:
    """What an export is written to: stdout, or a file that is there whole or not at all."""
    if is_stdout(file):
        yield sys.stdout.buffer
        sys.stdout.flush()
    else:
        with written_whole(file) as sink:
            yield sink
