"""The commands `edgeproxy keys new` and `rotate`: keys that seal the secrets in the store."""

import sys

import click

from edgeproxy.commands.audited import audited
from edgeproxy.commands.faults import fail, run
from edgeproxy.commands.opened import load_settings, store_of
from edgeproxy.errors import SealError
from edgeproxy.settings import Settings
from edgeproxy.store import rotation, sealing
from edgeproxy.store.functions import Functions
from edgeproxy.store.rotation import Tally


@click.group("keys")
def keys_group() -> None:
    """Keys that seal the secrets in the store: EDGEPROXY_STORE_KEYS."""


@keys_group.command("new")
def new_key() -> None:
    """Print a fresh key."""
    click.echo(sealing.new_key())


@keys_group.command("rotate")
def rotate_keys() -> None:
    """Seal every secret in the store with the first key, those that are plain too.

    It may be interrupted, and run again; the gateways go on meanwhile. Exit status 1 if a secret cannot be opened.
    """
    settings = load_settings()
    if not settings.store_keys:
        fail(f"{settings.told_as('store_keys')} is not set: there is no key to seal with")
    before = run(_rotate(settings), settings)
    click.echo(
        f"{before.counts['plain']} that were plain and {before.counts['older']} under an older key are sealed with "
        f"the first key, {before.counts['first']} were"
    )
    for place in before.shut:
        click.echo(str(SealError(place)), err=True)
    if before.shut:
        sys.exit(1)


async def _rotate(settings: Settings) -> Tally:
    async with store_of(settings) as store:
        with audited("keys.rotate"):
            before = await rotation.rotate(store)
            await Functions(store, settings.durable_replicas).flush(*before.keys)
        return before
