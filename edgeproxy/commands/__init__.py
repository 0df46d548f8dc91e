"""The command line, one file a group of commands; `main` is where `edgeproxy` begins."""

import click

from edgeproxy import __version__
from edgeproxy.commands import (
    accounts,
    calls,
    check,
    clock,
    demo,
    explain,
    keys,
    numbers,
    pools,
    serve,
    sign,
    simulate,
    users,
)  # fmt: skip

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """A low-latency gateway for call tracking: a signed page of numbers in, tracking numbers out."""


pools.pool.add_command(simulate.size)
for command in (
    serve.serve, demo.demo, accounts.load, accounts.accounts, numbers.numbers, users.user, calls.export, calls.erase,
    keys.keys_group, check.check, clock.clock, pools.pool, simulate.simulate, explain.explain, sign.sign,
):  # fmt: skip
    main.add_command(command)
