"""The commands `edgeproxy export` and `edgeproxy erase`: what is known of visits and calls, taken out and forgotten."""

import asyncio
import contextlib
import errno
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import tzinfo
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from edgeproxy.accounts import moments
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.fields import Duration
from edgeproxy.calls.caller import read_caller
from edgeproxy.calls.export import FormatError, LibraryError, Opens, is_stdout, writer_of
from edgeproxy.calls.export import export as write_export
from edgeproxy.commands.audited import audited
from edgeproxy.commands.faults import UNAVAILABLE, fail, run, store_fault
from edgeproxy.commands.opened import known_account, load_settings, store_of
from edgeproxy.errors import StoreError
from edgeproxy.settings import Settings
from edgeproxy.store import erasure
from edgeproxy.store.calls import Calls

_BAR_STEPS = 1000
_NAMES = {"visits": ("visit", "visits"), "calls": ("call event", "call events")}


@dataclass(frozen=True, slots=True)
class _When:
    """A moment as it was written (`text`); or, where that is empty, so many ms before the store's time."""

    text: str
    ago_ms: int = 0

    def at(self, now_ms: int, zone: tzinfo) -> int:
        """The moment, epoch ms; a stamp without an offset is one of `zone`.

        Raises:
            ValueError: it is before 1970 there.
        """
        return moments.read_ms(self.text, zone) if self.text else max(0, now_ms - self.ago_ms)


def _when(context: click.Context, option: click.Parameter, text: str) -> _When:
    """Read a moment, or a time ago; `now` is no time ago."""
    if text == "now":
        return _When("")
    try:
        moments.read(text)
    except ValueError as error:
        try:
            return _When("", TypeAdapter(Duration).validate_python(text))
        except ValidationError:
            raise click.BadParameter(f"{text!r} {error}, or a time ago such as 1h", context, option) from None
    return _When(text)


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
def export(account: str, what: str, begin: _When, end: _When, file: Path) -> None:
    """Write the visits and the events of calls between two moments, by the store's clock, to FILE.

    FILE ends in .jsonl (JSON Lines; - writes them to standard output) or in .parquet. It is there whole or not at all:
    what was there before is replaced at the end.
    """
    try:
        writer = writer_of(file, what)
    except FormatError as error:
        raise click.BadParameter(str(error), param_hint="'FILE'") from None
    except LibraryError as error:
        raise click.ClickException(str(error)) from None
    settings = load_settings()
    try:
        counts = asyncio.run(_export(settings, account, what, (begin, end), file, writer))
    except asyncio.CancelledError:
        click.echo("ended before all was written", err=True)
        sys.exit(128 + signal.SIGTERM)
    except StoreError as error:
        fail(str(error))
    except UNAVAILABLE as error:
        fail(store_fault(error, settings))
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # whoever read standard output has enough; click ends quietly
        fail(f"{file}: {error.strerror or error}")
    told = " and ".join(f"{count} {_NAMES[kind][count != 1]}" for kind, count in counts.items())
    click.echo(told, err=is_stdout(file))


@click.command()
@click.option("--account", required=True, help="The account that has the records.")
@click.option("--tracking-id", default="", help="A visitor, by the partner's id.")
@click.option("--session-id", default="", help="One session.")
@click.option("--caller", default="", help="A caller's phone number.")
def erase(account: str, tracking_id: str, session_id: str, caller: str) -> None:
    """Forget a visitor, a session or a caller: leases, visits, events of calls. Records of calls then name nobody."""
    if sum(bool(value) for value in (tracking_id, session_id, caller)) != 1:
        fail("exactly one of --tracking-id, --session-id, --caller is needed")
    settings = load_settings()
    receipt = run(_erase(settings, account, tracking_id, session_id, caller), settings)
    for name, count in asdict(receipt).items():
        click.echo(f"{name}: {count}")


async def _export(
    settings: Settings, account: str, what: str, span: tuple[_When, _When], file: Path, writer: Opens
) -> dict[str, int]:
    # Ended by a signal, it clears away what it began; asyncio sees to SIGINT in the same way.
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with store_of(settings) as store:
        known = await known_account(store, account)
        calls = Calls(store, None)
        return await write_export(calls, known, what, await _moments(calls, known, span), file, writer, _bar)


async def _moments(calls: Calls, account: Account, span: tuple[_When, _When]) -> tuple[int, int]:
    """Both moments, epoch ms; the second is none that is yet to come."""
    now_ms = await calls.now_ms(account)
    try:
        begin_ms, end_ms = (when.at(now_ms, moments.zone(account.timezone)) for when in span)
    except ValueError as error:
        raise StoreError(f"--from and --to: {error}") from None
    if begin_ms >= end_ms:
        raise StoreError("--from is not before --to")
    return begin_ms, min(now_ms, end_ms)


@contextlib.contextmanager
def _bar(kind: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, which shows the share that it is told."""
    with click.progressbar(length=_BAR_STEPS, label=kind, file=sys.stderr) as bar:
        yield lambda share: bar.update(int(share * _BAR_STEPS) - bar.pos)


async def _erase(
    settings: Settings, account_name: str, tracking_id: str, session_id: str, caller: str
) -> erasure.Receipt:
    named = {"trackingId": tracking_id, "sessionId": session_id, "caller": caller}
    async with store_of(settings) as store:
        with audited("calls.erase", account=account_name, fields=[name for name, value in named.items() if value]):
            account = await known_account(store, account_name)
            number = read_caller(caller, account.region).number if caller else ""
            if number is None:
                raise StoreError("--caller: is not a phone number")
            calls = Calls(store, settings.durable_replicas)
            return await erasure.erase(calls, account, tracking_id=tracking_id, session_id=session_id, caller=number)
