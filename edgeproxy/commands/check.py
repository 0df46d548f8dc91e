"""The command `edgeproxy check`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from edgeproxy.commands import clock
from edgeproxy.commands.accounts import account_file_of
from edgeproxy.commands.audited import audited
from edgeproxy.commands.faults import fail, run
from edgeproxy.commands.opened import load_settings, store_of
from edgeproxy.errors import SealError
from edgeproxy.http import aiohttp_private
from edgeproxy.settings import Settings
from edgeproxy.store import keys, leftovers, rotation
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.facts import ServerFacts, facts_of
from edgeproxy.store.functions import Functions
from edgeproxy.store.rotation import Tally
from edgeproxy.store.sealing import Standing

_SKEW_MOST_MS = 60_000
_STANDINGS: dict[Standing, str] = {
    "first": "sealed with the first key", "older": "with an older one", "plain": "plain",
    "shut": "that cannot be opened",
}  # fmt: skip


@click.command()
@click.argument("file", required=False, type=Path)
@click.option("--repair", is_flag=True, help="Free what loads that were cut off have claimed.")
def check(file: Path | None, repair: bool) -> None:
    """Tell whether settings, store, functions and time are right; exit status 1 if not.

    With FILE, tell instead whether that account file is: what would be refused, and what is most likely not meant. No
    store is needed for that.
    """
    if file is not None:
        if repair:
            fail("--repair is for a store: leave the FILE out")
        _check_file(file)
        return
    settings = load_settings()
    click.echo("settings: good")
    click.echo(f"aiohttp: {aiohttp_private.tested()}")
    servers, secrets = run(_facts(settings), settings)
    wrong = 0
    for server in servers:
        place = f"store {server.place}" if server.place else "store"
        click.echo(f"{place}: {server.product}")
        click.echo(f"{place}: {_allocator(server, settings)}")
        forgets = list(_forgets(server, settings))
        wrong += len(forgets)
        for text in forgets:
            click.echo(f"{place}: CAN FORGET: {text}")
        for name, loaded in server.functions.items():
            click.echo(f"{place}: functions {name}: {'loaded' if loaded else 'not loaded yet; serve loads them'}")
        for name in server.others:
            click.echo(f"{place}: functions {name}: another release's (FUNCTION DELETE {name} once that is gone)")
        apart_ms = abs(round(server.ahead_ms))
        wrong += apart_ms > _SKEW_MOST_MS
        click.echo(f"{place}: its clock is {apart_ms} ms from this host's{', TOO FAR' * (apart_ms > _SKEW_MOST_MS)}")
    click.echo("secrets: " + ", ".join(f"{secrets.counts[how]} {text}" for how, text in _STANDINGS.items()))
    for secret in secrets.shut:
        click.echo(f"secrets: {SealError(secret)}")
    wrong += bool(secrets.shut)
    wrong += run(_look_for_leftovers(settings, repair=repair), settings)
    for name, future in run(clock.find(settings), settings).items():
        click.echo(f"account {name}: {clock.text_of(future)} from the future (edgeproxy clock repair)")
        wrong += 1
    if wrong:
        sys.exit(1)


def _allocator(server: ServerFacts, settings: Settings) -> str:
    """Which allocator a server has its memory from: the one it was built with, or was started with on this host."""
    allocator, url = server.allocator, settings.store_url
    here = url is None or url.get_secret_value().startswith("unix:")
    if here and "jemalloc" not in allocator:
        allocator = EmbeddedStore.allocator(server.process) or allocator
    if "jemalloc" in allocator:
        return f"its memory is {allocator}'s"
    return f"its memory is {allocator}'s; with jemalloc it takes a quarter to half less CPU (on Debian: libjemalloc2)"


def _forgets(server: ServerFacts, settings: Settings) -> Iterator[str]:
    """How a server may lose what it holds, and what to set."""
    if server.eviction != "noeviction":
        yield (
            f"maxmemory-policy is {server.eviction}, which drops leases, budgets and accounts when memory is full: "
            "set maxmemory-policy noeviction"
        )
    if not server.durable:
        yield "it keeps no append-only file, and what it took last is gone when it stops: set appendonly yes"
    for name, what in (("lease_replicas", "visitors get no numbers"), ("durable_replicas", "writes fail")):
        asked = getattr(settings, name)
        if server.replicas < asked:
            wanted = f"{asked} replica{'s' * (asked != 1)}"
            there = f"{server.replicas} follow{'s' * (server.replicas == 1)}"
            yield f"{settings.told_as(name)} asks for {wanted}, and {there}: {what} before there are as many"


def _check_file(file: Path) -> None:
    accounts = account_file_of(file).accounts
    pools = [pool for entry in accounts.values() for pool in entry.pools.values()]
    numbers = sum(len(pool.all_numbers()) for pool in pools)
    others = sum(len(entry.other_numbers()) for entry in accounts.values())
    click.echo(
        f"{file}: good: {len(accounts)} accounts; {len(pools)} pools of {numbers} numbers, {others} other numbers"
    )


async def _facts(settings: Settings) -> tuple[list[ServerFacts], Tally]:
    async with store_of(settings) as store:
        return await facts_of(store.servers), await rotation.survey(store)


async def _look_for_leftovers(settings: Settings, *, repair: bool) -> int:
    """Tell what loads and removals that were cut off have left, and free it to `repair`; gives how much then stays."""
    async with store_of(settings) as store:
        found = await leftovers.find(store)
        for name in found.removals:
            click.echo(f"account {name}: its removal was cut off (edgeproxy account remove {name})")
        if not found:
            return len(found.removals)
        owners = sorted({*found.numbers, *found.tokens.values(), *found.names})
        numbers = sum(map(len, found.numbers.values()))
        click.echo(
            f"claims: {numbers} numbers are claimed for accounts that do not use them, and {len(found.tokens)} access "
            f"tokens; {len(found.names)} accounts were never saved: {', '.join(owners)}"
        )
        if not repair:
            click.echo(
                "claims: edgeproxy check --repair frees them; a load that runs meanwhile may have to be repeated"
            )
            return 1 + len(found.removals)
        with audited("claims.free", account=",".join(owners)):
            await leftovers.free(store, found)
            await Functions(store, settings.durable_replicas).flush(keys.OWNERS, keys.TOKENS, keys.ACCOUNTS)
        click.echo("claims: they are free")
        return len(found.removals)
