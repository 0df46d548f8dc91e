"""The command `edgeproxy serve`, and what serves for `edgeproxy demo` too."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from edgeproxy.commands.faults import fail, run
from edgeproxy.commands.opened import embedded_directory, load_settings, store_at
from edgeproxy.node.supervisor import ListenError, Supervisor
from edgeproxy.settings import Settings
from edgeproxy.store.embedded import EmbeddedStore, EmbeddedStoreError
from edgeproxy.telemetry.logs import log_to_stderr


@click.command()
@click.option("--workers", type=int, help="Gateway processes.")
@click.option("--port", type=int, help="Edge port; 0 chooses one.")
@click.option("--manage-port", type=int, help="Manage port; 0 chooses one.")
def serve(workers: int | None, port: int | None, manage_port: int | None) -> None:
    """Serve, with the settings of EDGEPROXY_* and of the TOML file that EDGEPROXY_CONFIG names."""
    settings = load_settings(workers=workers, port=port, manage_port=manage_port)
    log_to_stderr()
    if settings.store_url is not None:
        supervise(settings, settings.store_url.get_secret_value(), None)
        return
    directory = embedded_directory(settings)
    click.echo(f"no EDGEPROXY_STORE_URL: the embedded store, in {directory}, for this machine alone", err=True)
    with embedded(directory) as store:
        run(_load_functions(settings, store.url), settings)
        supervise(settings, store.url, store)


def supervise(
    settings: Settings,
    store_url: str,
    store: EmbeddedStore | None,
    say: Callable[[str, str], Sequence[str]] = lambda edge, manage: (),
) -> None:
    """Serve until this process is told to end: tell where, and the lines that `say` makes of the ports' addresses."""
    try:
        supervisor = Supervisor(settings, store_url, store)
    except ListenError as error:
        fail(str(error))
    edge = f"http://{_reachable(settings.host)}:{supervisor.edge_port}"
    scheme = "http" if settings.manage_tls() is None else "https"
    manage = f"{scheme}://{_reachable(settings.manage_host)}:{supervisor.manage_port}"
    if store is not None:
        click.echo(f"store: {store_url}")
    click.echo(f"edge: {edge}")
    click.echo(f"manage: {manage}")
    click.echo(f"docs: {manage}/docs")
    for line in say(edge, manage):
        click.echo(line)
    sys.stdout.flush()
    supervisor.run(on_ready=lambda: click.echo("ready"))


@contextlib.contextmanager
def embedded(directory: Path) -> Iterator[EmbeddedStore]:
    """A context in which the embedded store of a directory runs; ends the command where it does not."""
    try:
        with EmbeddedStore(directory) as store:
            yield store
    except EmbeddedStoreError as error:
        fail(str(error))


async def _load_functions(settings: Settings, url: str) -> None:
    async with store_at(settings, url) as store:
        await store.load_functions(alone=True)  # no other release shares an embedded store


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"[{host}]" if ":" in host else host
