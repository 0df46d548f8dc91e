"""The commands `edgeproxy account list`, `show` and `remove`."""

from typing import Any

import click

from edgeproxy.accounts.account import ACCOUNT_NAME
from edgeproxy.commands import audited, fail, load_settings, run, store_of
from edgeproxy.errors import StoreError
from edgeproxy.settings import Settings
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
