"""The command `edgeproxy pool status`, and the group that it is in."""

import click

from edgeproxy.accounts.account import PoolState
from edgeproxy.commands.faults import run
from edgeproxy.commands.opened import load_settings, store_of
from edgeproxy.errors import StoreError
from edgeproxy.settings import Settings
from edgeproxy.store.pools import Pools

_HEAD = ("account", "pool", "numbers", "free", "leased", "cooling", "original", "shared", "recycled")
_TEXTS = 2  # columns of text, before those of figures


@click.group()
def pool() -> None:
    """Pools of tracking numbers."""


@pool.command()
@click.argument("account", required=False)
def status(account: str | None) -> None:
    """Tell how the pools of ACCOUNT stand, or all pools.

    How many of their numbers are free, leased, and cooling down; and how many numbers on page found none free in the
    last hour, and so stayed (original), were shown the pool's shared number, or got one whose lease ended early
    (recycled).
    """
    settings = load_settings()
    rows = [_HEAD, *map(_row, run(_states(settings, account), settings))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        texts = [text.ljust(width) for text, width in zip(row[:_TEXTS], widths, strict=False)]
        figures = [text.rjust(width) for text, width in zip(row[_TEXTS:], widths[_TEXTS:], strict=True)]
        click.echo("  ".join(texts + figures))


def _row(state: PoolState) -> tuple[str, ...]:
    return (
        state.account, state.pool, f"{state.numbers:,}", f"{state.free:,}", f"{state.leased:,}", f"{state.cooling:,}",
        f"{state.original:,}", f"{state.shared:,}", f"{state.recycled:,}",
    )  # fmt: skip


async def _states(settings: Settings, account: str | None) -> list[PoolState]:
    async with store_of(settings) as store:
        pools = Pools(store)
        names = await pools.accounts()
        if account is not None and account not in names:
            raise StoreError(f"there is no account {account}")
        return [state for name in names if account in (None, name) for state in await pools.states(name)]
