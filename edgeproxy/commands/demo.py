"""The command `edgeproxy demo`."""

import shlex
from importlib.resources import as_file, files
from pathlib import Path

import click
import orjson

from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.file import AccountFile
from edgeproxy.commands import demo_records
from edgeproxy.commands.faults import run
from edgeproxy.commands.opened import demo_directory, load_settings, store_at
from edgeproxy.commands.serve import embedded, supervise
from edgeproxy.dynamic import signature
from edgeproxy.dynamic.openapi import EXAMPLE
from edgeproxy.settings import Settings
from edgeproxy.store import inventory
from edgeproxy.telemetry.logs import log_to_stderr

_LOOPBACK = ["127.0.0.0/8", "::1/128"]


@click.command()
@click.option("--port", type=int, default=8080, show_default=True, help="Edge port; 0 chooses one.")
@click.option("--manage-port", type=int, default=8081, show_default=True, help="Manage port; 0 chooses one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the store keeps its data.")
@click.option("--workers", type=int, help="Gateway processes.")
def demo(port: int, manage_port: int, data_dir: Path | None, workers: int | None) -> None:
    """Serve the bundled accounts from an embedded store, and show a request that works."""
    settings = load_settings(
        host="127.0.0.1",
        port=port,
        manage_host="127.0.0.1",
        manage_port=manage_port,
        workers=workers,
        trusted_proxies=_LOOPBACK,
        allow_plain_http=True,
        drain_s=0,
    )
    log_to_stderr()
    with as_file(files("edgeproxy.accounts").joinpath("demo.yaml")) as path:
        accounts = account_file.read(path)
    with embedded(data_dir or demo_directory(settings)) as store:
        run(_fill(settings, store.url, accounts), settings)
        supervise(
            settings,
            store.url,
            store,
            lambda edge, manage: (_example(edge), _partner_example(manage, settings.api_version)),
        )


async def _fill(settings: Settings, url: str, accounts: AccountFile) -> None:
    """Put functions, accounts and records into an embedded store, which no other release shares."""
    async with store_at(settings, url) as store:
        await store.load_functions(alone=True)
        await inventory.apply(store, await inventory.compare(store, accounts))
        await demo_records.fill(store)


def _partner_example(manage: str, version: str) -> str:
    user = shlex.quote(f"{demo_records.USER}:{demo_records.PASSWORD}")
    return f"curl -sS --digest -u {user} {manage}/{version}/customers"


def _example(edge: str) -> str:
    body = orjson.dumps(EXAMPLE)
    signed = signature.sign(body, b"freespee")
    return f"curl -sS {edge}/api -H 'X-SIGN: {signed}' -d {shlex.quote(body.decode())}"
