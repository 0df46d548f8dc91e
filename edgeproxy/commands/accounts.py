"""The commands `edgeproxy load`, and `edgeproxy account list`, `show` and `remove`."""

from pathlib import Path
from typing import Any

import click

from edgeproxy import wording
from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.account import ACCOUNT_NAME
from edgeproxy.accounts.file import AccountFile, AccountFileError
from edgeproxy.commands.audited import audited
from edgeproxy.commands.faults import NOTHING_CHANGED, fail, run, unreadable
from edgeproxy.commands.opened import load_settings, store_of
from edgeproxy.errors import PartlyDoneError, StoreError
from edgeproxy.settings import Settings
from edgeproxy.store import inventory, keys
from edgeproxy.store.functions import Functions
from edgeproxy.store.holdings import Entry, Holdings, entries, holdings
from edgeproxy.store.removal import remove

_ALSO = "what is known of its sessions and visitors"


@click.group("account")
def accounts() -> None:
    """Accounts in the store: which there are, what each has, and removing one."""


@accounts.command("list")
def list_accounts() -> None:
    """List all accounts, each with its numbers and users."""
    settings = load_settings()
    for entry in run(_entries(settings), settings):
        cut_off = " (its removal, or its first load, was cut off)" if entry.state == "removed" else ""
        counts = (_many(entry.pools, "pool"), _many(entry.numbers, "number"), _many(entry.users, "user"))
        click.echo(f"{entry.account}: {', '.join(counts)}{cut_off}")


@accounts.command()
@click.argument("name")
def show(name: str) -> None:
    """Tell how the account NAME is set up, without its secrets, and what it has in the store."""
    settings = load_settings()
    found = run(_one(settings, name), settings)
    click.echo(f"version: {found.version}")
    click.echo(f"secrets: {found.secrets}")
    for setting, value in found.config.items():
        _show(setting, value)
    for line in _what(found):
        click.echo(line)


@accounts.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for the account's name.")
def remove_account(name: str, yes: bool) -> None:
    """Remove the account NAME with all that it has, for good.

    Tells what that is, and asks for the name again. Its visitors see the numbers of the page from then on, its partners
    are refused. Numbers that cool down, or rest after a source, do so in whichever account they come to next. A removal
    that was cut off goes on when it is started again.
    """
    settings = load_settings()
    found = run(_one(settings, name), settings)
    click.echo(f"with {name} go:")
    for line in _what(found):
        click.echo(f"  {line}")
    click.echo(f"  {_ALSO}")
    if not yes and click.prompt("Type the account's name to remove it", default="", show_default=False) != name:
        fail("nothing was removed")
    gone = run(_remove(settings, found), settings)
    click.echo(f"{name} is removed: {_many(gone, 'key')}")


@click.command()
@click.argument("file", type=Path)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def load(file: Path, dry_run: bool) -> None:
    """Bring an account file into the store: accounts, secrets, pools, numbers, limits, budgets.

    What is as the file says stays as it is; accounts that the file does not name are left alone.
    """
    settings = load_settings()
    accounts = account_file_of(file)
    changes = run(_load(settings, accounts, dry_run), settings)
    for change in changes:
        for line in change.lines:
            click.echo(f"{change.account}: {line}")
    count = f"{len(changes)} of {len(accounts.accounts)} accounts"
    click.echo(f"{count} would change" if dry_run else f"{count} changed")


def account_file_of(file: Path) -> AccountFile:
    """The account file, its warnings told on stderr; ends the command where it is refused."""
    try:
        accounts, warnings = account_file.read_closely(file)
    except AccountFileError as error:
        fail(f"{error}\n{NOTHING_CHANGED}")
    except OSError as error:
        fail(unreadable(file, error))
    for line in wording.first_of(
        [f"{file}:{warning.line}: warning: {warning.text}" for warning in warnings], "warnings"
    ):
        click.echo(line, err=True)
    return accounts


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _show(setting: str, value: Any) -> None:
    """Print a setting as the store has it: what is nested, a line each."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _show(f"{setting}.{name}", inner)
    elif isinstance(value, list):
        click.echo(f"{setting}: {', '.join(map(str, value)) or '-'}")
    else:
        click.echo(f"{setting}: {'-' if value is None else value}")


def _what(found: Holdings) -> list[str]:
    """What an account has, a line each; what it has none of is left out."""
    counts = {f"{state} numbers": count for state, count in found.numbers.items()}
    counts |= {
        "claimed numbers": found.claimed,
        "access tokens": found.tokens,
        "users of the partner API": len(found.users),
        "customers": found.customers,
        "sources": found.sources,
        "voicemail greetings": found.greetings,
        "leases, live and past": found.leases,
        "entries of visits": found.visits,
        "events of calls": found.events,
        "records of calls": found.calls,
    }
    return [f"{what}: {count:,}" for what, count in counts.items() if count]


async def _entries(settings: Settings) -> list[Entry]:
    async with store_of(settings) as store:
        return await entries(store)


async def _one(settings: Settings, name: str) -> Holdings:
    async with store_of(settings) as store:
        found = await holdings(store, name) if ACCOUNT_NAME.fullmatch(name) else None
        if not found:
            raise StoreError(f"there is no account {name}")
        return found


async def _remove(settings: Settings, found: Holdings) -> int:
    async with store_of(settings) as store:
        with audited("accounts.remove", account=found.account):
            return await remove(store, found, replicas=settings.durable_replicas)


async def _load(settings: Settings, accounts: AccountFile, dry_run: bool) -> list[inventory.Change]:
    async with store_of(settings) as store:
        if dry_run:
            return await inventory.compare(store, accounts)
        with audited("accounts.load", account=",".join(accounts.accounts)) as write:
            changes = await inventory.compare(store, accounts)
            write.account = ",".join(change.account for change in changes) or None
            write.fields = {name for change in changes for name in change.names()}
            names = [keys.account(change.account) for change in changes] + [keys.ACCOUNTS, keys.OWNERS, keys.TOKENS]
            functions = Functions(store, settings.durable_replicas)
            try:
                await inventory.apply(store, changes)
            except PartlyDoneError:
                await functions.flush(*names)
                raise
            await functions.flush(*names)  # lest a revoked secret or token come back after a crash
        return changes
