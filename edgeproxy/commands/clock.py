"""The command `edgeproxy clock repair`, and what `check` tells of the future."""

import click

from edgeproxy.commands.audited import audited
from edgeproxy.commands.faults import run
from edgeproxy.commands.opened import known_account, load_settings, store_of
from edgeproxy.settings import Settings
from edgeproxy.store.clock import Clock, Future
from edgeproxy.store.pools import Pools


@click.group()
def clock() -> None:
    """What a store's clock leaves behind that was ahead and came back."""


@clock.command()
def repair() -> None:
    """Bring leases, cooldowns and points from the future to the present, of all accounts.

    Gateways do so by themselves with the first request of an account after the clock came back; `edgeproxy check` tells
    whether anything is left.
    """
    settings = load_settings()
    found = run(_repair(settings), settings)
    for name, future in found.items():
        click.echo(f"account {name}: {text_of(future)} from the future, brought to the present")
    if not found:
        click.echo("nothing is from the future")


def text_of(future: Future) -> str:
    """How much is from the future, in words."""
    counts = f"{future.leases} leases, {future.cooldowns} cooldowns, {future.sources} sources"
    return f"{counts}, {future.points} days of points"


async def find(settings: Settings) -> dict[str, Future]:
    """The accounts of which anything is from the future."""
    async with store_of(settings) as store:
        await store.load_functions()
        looking, found = Clock(store), {}
        for name in await Pools(store).accounts():
            if future := await looking.find(await known_account(store, name)):
                found[name] = future
        return found


async def _repair(settings: Settings) -> dict[str, Future]:
    async with store_of(settings) as store:
        with audited("clock.repair"):
            await store.load_functions()
            mending, found = Clock(store), {}
            for name in await Pools(store).accounts():
                if future := await mending.mend(await known_account(store, name)):
                    found[name] = future
        return found
