"""The command `edgeproxy export`: visits and events of calls as JSON Lines or Parquet, for a warehouse to take in."""

import asyncio
import contextlib
import errno
import functools
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import click
import orjson
from pydantic import TypeAdapter, ValidationError

from edgeproxy.accounts import moments
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.fields import Duration
from edgeproxy.commands import UNAVAILABLE, fail, known_account, load_settings, store_fault, store_of
from edgeproxy.errors import StoreError
from edgeproxy.settings import Settings
from edgeproxy.store import streams, visits
from edgeproxy.store.calls import Calls
from edgeproxy.store.visits import Page, Visit

_ROW_GROUP_BYTES = 32 * 1024 * 1024  # of Arrow's memory: a row group is written when it has so many
_SESSIONS = 500  # that the store is asked about at once
_STEPS = 1000  # of the progress bar, for each stream

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
_COLUMNS = {"visits": _VISITS, "calls": _CALLS, "all": _VISITS | _CALLS}


class ExportError(Exception):
    """Nothing was exported, and why."""


@dataclass(frozen=True, slots=True)
class When:
    """A moment as it was written (`text`); or, where that is empty, so many ms before the store's time."""

    text: str
    ago_ms: int = 0

    def at(self, now_ms: int, zone: tzinfo) -> int:
        """The moment, epoch ms; a stamp without an offset is one of `zone`.

        Raises:
            ValueError: it is before 1970 there.
        """
        return moments.read_ms(self.text, zone) if self.text else max(0, now_ms - self.ago_ms)


def _when(context: click.Context, option: click.Parameter, text: str) -> When:
    """Read a moment, or a time ago; `now` is no time ago."""
    if text == "now":
        return When("")
    try:
        moments.read(text)
    except ValueError as error:
        try:
            return When("", TypeAdapter(Duration).validate_python(text))
        except ValidationError:
            raise click.BadParameter(f"{text!r} {error}, or a time ago such as 1h", context, option) from None
    return When(text)


@click.command()
@click.option("--account", required=True, help="The account whose visits and calls they are.")
@click.option(
    "--what", type=click.Choice(["visits", "calls", "all"]), default="all", show_default=True,
    help="Visits, events of calls, or the ones after the others.",
)  # fmt: skip
@click.option(
    "--from", "begin", metavar="WHEN", callback=_when, required=True,
    help="The first moment: RFC 3339, in the account's time zone where it does not say; seconds or milliseconds "
    "since 1970; or a time ago such as 1h.",
)  # fmt: skip
@click.option(
    "--to", "end", metavar="WHEN", callback=_when, default="now", show_default=True,
    help="The moment before which the last one was.",
)  # fmt: skip
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
def export(account: str, what: str, begin: When, end: When, file: Path) -> None:
    """Write the visits and the events of calls between two moments, by the store's clock, to FILE.

    FILE ends in .jsonl (JSON Lines; - writes them to standard output) or in .parquet. It is there whole or not at all:
    what was there before is replaced at the end.
    """
    writer = _writer(file, what)
    settings = load_settings()
    try:
        counts = asyncio.run(_export(settings, account, what, (begin, end), file, writer))
    except asyncio.CancelledError:
        click.echo("ended before all was written", err=True)
        sys.exit(128 + signal.SIGTERM)
    except (ExportError, StoreError) as error:
        fail(str(error))
    except UNAVAILABLE as error:
        fail(store_fault(error, settings))
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # whoever read standard output has enough; click ends quietly
        fail(f"{file}: {error.strerror or error}")
    told = " and ".join(f"{count} {_NAMES[kind][count != 1]}" for kind, count in counts.items())
    click.echo(told, err=_is_stdout(file))


_NAMES = {"visits": ("visit", "visits"), "calls": ("call event", "call events")}


async def _export(
    settings: Settings, account: str, what: str, span: tuple[When, When], file: Path, writer: "_Opens"
) -> dict[str, int]:
    """Write the file; gives how many rows of each kind it has."""
    # Ended by a signal, it clears away what it began; asyncio sees to SIGINT in the same way.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _this_task().cancel)
    counts: dict[str, int] = {}
    async with store_of(settings) as store:
        known = await known_account(store, account)
        calls = Calls(store, None)
        now_ms = await calls.now_ms(known)
        try:
            begin_ms, end_ms = (when.at(now_ms, moments.zone(known.timezone)) for when in span)
        except ValueError as error:
            raise ExportError(f"--from and --to: {error}") from None
        if begin_ms >= end_ms:
            raise ExportError("--from is not before --to")
        end_ms = min(now_ms, end_ms)  # later entries are yet to come
        with _written_whole(file) as sink, writer(sink) as rows:
            if what in ("visits", "all"):
                pieces = streams.visits(store, account, begin_ms, end_ms)
                visits_of = functools.partial(_visits, calls, known)
                counts["visits"] = await _copy(pieces, visits_of, rows, "visits")
            if what in ("calls", "all"):
                pieces = streams.calls(store, account, begin_ms, end_ms)
                counts["calls"] = await _copy(pieces, _calls, rows, "calls")
    return counts


async def _copy(
    pieces: AsyncIterator[streams.Piece],
    rows_of: Callable[[list[streams.Entry]], Awaitable[list[_Row]]],
    writer: "_Writer",
    kind: str,
) -> int:
    """Write the rows of all pieces; gives how many there are."""
    count = shown = 0
    with click.progressbar(length=_STEPS, label=kind, file=sys.stderr) as bar:
        async for piece in pieces:
            _end_if_cancelled()
            if rows := await rows_of(piece.entries):
                writer.write(rows)
                count += len(rows)
            bar.update(int(piece.share * _STEPS) - shown)
            shown = int(piece.share * _STEPS)
        _end_if_cancelled()
        bar.update(_STEPS - shown)
    return count


def _end_if_cancelled() -> None:
    """Raise a cancellation that redis-py may have swallowed."""
    if _this_task().cancelling():
        raise asyncio.CancelledError


def _this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task")
    return task


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


class _Writer(Protocol):
    def write(self, rows: list[_Row]) -> None: ...


_Opens = Callable[[IO[bytes]], contextlib.AbstractContextManager[_Writer]]


def _writer(file: Path, what: str) -> _Opens:
    """What writes such a file.

    Raises:
        ClickException: nothing does.
    """
    columns = _COLUMNS[what]
    if _is_stdout(file) or file.suffix == ".jsonl":
        return lambda sink: contextlib.nullcontext(_JSONLines(sink, columns))
    if file.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401 - only the extra `export` installs it
        except ImportError:
            raise click.ClickException("a .parquet needs pyarrow: pip install '.[export]'") from None
        return lambda sink: _Parquet(sink, columns)
    raise click.BadParameter(f"{file} ends neither in .jsonl nor in .parquet", param_hint="'FILE'")


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


def _is_stdout(file: Path) -> bool:
    return str(file) == "-"


@contextlib.contextmanager
def _written_whole(file: Path) -> Iterator[IO[bytes]]:
    """A file that is there whole or not at all; what is no regular file, such as a pipe, is written to as it is."""
    if _is_stdout(file):
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    if file.exists() and not file.is_file():
        with file.open("wb") as sink:
            yield sink
        return
    file = file.resolve()  # of a link, what it leads to is replaced
    beside = file.with_name(f".edgeproxy-{os.getpid()}")
    try:
        with beside.open("xb") as sink:
            if file.exists():
                shutil.copymode(file, beside)
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
