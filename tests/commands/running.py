"""Running a command beside a store, as the tests of commands do."""

import click.testing

from edgeproxy.commands import main
from edgeproxy.store.sealing import new_key

NUMBERS = "phoneNumber,poolName\n79990000001,x\n"  # a file for `numbers import`
KEY = new_key()


def run(url: str, *arguments: str, replicas: int = 0) -> click.testing.Result:
    """Run `edgeproxy ARGUMENTS` against the store at that URL; `a-password` is on its standard input."""
    settings = {
        "EDGEPROXY_STORE_URL": url, "EDGEPROXY_DURABLE_REPLICAS": str(replicas), "EDGEPROXY_STORE_KEYS": KEY,
    }  # fmt: skip
    return click.testing.CliRunner().invoke(main, arguments, env=settings, input="a-password\n")
