"""The command `edgeproxy check`."""

import sys

import click

from edgeproxy.commands import load_settings, run, store_of
from edgeproxy.settings import Settings
from edgeproxy.store import ServerFacts, rotation
from edgeproxy.store.rotation import Tally
from edgeproxy.store.sealing import SealError, Standing

_SKEW_MOST_MS = 60_000
_STANDINGS: dict[Standing, str] = {
    "first": "sealed with the first key", "older": "with an older one", "plain": "plain",
    "shut": "that cannot be opened",
}  # fmt: skip


@click.command()
def check() -> None:
    """Tell whether settings, store, functions and time are right; exit status 1 if not."""
    settings = load_settings()
    click.echo("settings: good")
    servers, secrets = run(_facts(settings))
    wrong = 0
    for server in servers:
        place = f"store {server.place}" if server.place else "store"
        click.echo(f"{place}: {server.product}")
        if not server.durable:
            click.echo(f"{place}: keeps no append-only file; what it holds is gone when it stops")
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
    if wrong:
        sys.exit(1)


async def _facts(settings: Settings) -> tuple[list[ServerFacts], Tally]:
    async with store_of(settings) as store:
        return await store.facts(), await rotation.survey(store)
