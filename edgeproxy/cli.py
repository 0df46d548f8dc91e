"""The command line: serve, demo, load, account, user, numbers, erase, keys, export, simulate, pool, check, sign."""

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click
import orjson

from edgeproxy import __version__, wording
from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.file import AccountFile
from edgeproxy.commands import (
    NOTHING_CHANGED,
    account_file_of,
    audited,
    calls,
    demo_data,
    demo_directory,
    embedded_directory,
    fail,
    known_account,
    load_settings,
    run,
    store_at,
    store_of,
)
from edgeproxy.commands.accounts import accounts
from edgeproxy.commands.check import check
from edgeproxy.commands.clock import clock
from edgeproxy.commands.explain import explain
from edgeproxy.commands.pools import pool
from edgeproxy.commands.simulate import simulate, size
from edgeproxy.dynamic import signature
from edgeproxy.errors import PartlyDoneError, SealError
from edgeproxy.node.supervisor import ListenError, Supervisor
from edgeproxy.numbers import file as numbers_file
from edgeproxy.numbers import wire
from edgeproxy.numbers.file import NumbersFileError
from edgeproxy.partner import digest
from edgeproxy.settings import Settings
from edgeproxy.store import inventory, keys, rotation, sealing
from edgeproxy.store.embedded import EmbeddedStore, EmbeddedStoreError
from edgeproxy.store.functions import Functions
from edgeproxy.store.rotation import Tally
from edgeproxy.store.static import Static
from edgeproxy.store.users import User, Users
from edgeproxy.telemetry.logs import log_to_stderr

_PASSWORD_LEAST = 8
_USER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}|[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")
_LOOPBACK = ["127.0.0.0/8", "::1/128"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """A low-latency gateway for call tracking: a signed page of numbers in, tracking numbers out."""


@main.command()
@click.option("--workers", type=int, help="Gateway processes.")
@click.option("--port", type=int, help="Edge port; 0 chooses one.")
@click.option("--manage-port", type=int, help="Manage port; 0 chooses one.")
def serve(workers: int | None, port: int | None, manage_port: int | None) -> None:
    """Serve, with the settings of EDGEPROXY_* and of the TOML file that EDGEPROXY_CONFIG names."""
    settings = load_settings(workers=workers, port=port, manage_port=manage_port)
    log_to_stderr()
    if settings.store_url is not None:
        _supervise(settings, settings.store_url.get_secret_value(), None)
        return
    directory = embedded_directory(settings)
    click.echo(f"no EDGEPROXY_STORE_URL: the embedded store, in {directory}, for this machine alone", err=True)
    with _embedded(directory) as embedded:
        run(_prepare(settings, embedded.url, None), settings)
        _supervise(settings, embedded.url, embedded)


@main.command()
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
    with _embedded(data_dir or demo_directory(settings)) as embedded:
        run(_prepare(settings, embedded.url, accounts), settings)
        _supervise(
            settings,
            embedded.url,
            embedded,
            lambda edge, manage: (_example(edge), _partner_example(manage, settings.api_version)),
        )


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def load(file: Path, dry_run: bool) -> None:
    """Bring an account file into the store: accounts, secrets, pools, numbers, limits, budgets.

    What is as the file says stays as it is; accounts that the file does not name are left alone.
    """
    settings = load_settings()
    accounts = account_file_of(file)
    changes = run(_load(settings, accounts, dry_run), settings)
    for change in changes:
        for line in change.lines:
            click.echo(f"{change.account}: {line}")
    count = f"{len(changes)} of {len(accounts.accounts)} accounts"
    click.echo(f"{count} would change" if dry_run else f"{count} changed")


@main.command()
@click.option("--key", required=True, help="The account's secret.")
@click.argument("file", type=click.File("rb"), default="-")
def sign(key: str, file: Any) -> None:
    """Print the signature of a request body (HMAC-SHA1, for X-SIGN) from FILE, or from standard input."""
    click.echo(signature.sign(file.read(), key.encode()))


@main.group()
def user() -> None:
    """Users of the partner API: who may ask for an account, and with which password."""


@user.command("add")
@click.argument("name")
@click.option("--account", required=True, help="The account that the user asks for.")
def add_user(name: str, account: str) -> None:
    """Add the user NAME, or give it another password or account. Asks for the password, or reads it from a pipe."""
    if not _USER_NAME.fullmatch(name):
        fail("a user's name is an e-mail address, or has 1 to 64 letters, digits, dots, dashes and underscores")
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < _PASSWORD_LEAST:
        fail(f"the password has less than {_PASSWORD_LEAST} characters")
    hashes = {algorithm: digest.ha1(algorithm, name, digest.REALM, password) for algorithm in digest.OFFERED}
    settings = load_settings()
    run(_save_user(settings, name, User(account, hashes)), settings)
    click.echo(f"{name} may ask for {account}")


@user.command("remove")
@click.argument("name")
def remove_user(name: str) -> None:
    """Remove the user NAME; its next request is refused."""
    settings = load_settings()
    if not run(_remove_user(settings, name), settings):
        fail(f"there is no user {name}")
    click.echo(f"{name} is removed")


@user.command("list")
def list_users() -> None:
    """List all users with their accounts."""
    settings = load_settings()
    for name, account in run(_users(settings), settings).items():
        click.echo(f"{name} {account}")


@main.group()
def numbers() -> None:
    """Static numbers, many at once: their display options, redirect scenarios and pool names as CSV or YAML."""


@numbers.command("import")
@click.option("--account", required=True, help="The account whose numbers they are.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_numbers(account: str, file: Path) -> None:
    """Bring the numbers of FILE to use, or change them; an empty cell leaves what is set.

    Each row is taken whole or refused whole; refused ones are listed, and the exit status is 1. Rows that are as the
    file says are left alone, so an import that was interrupted goes on when it is started again. Spends no points.
    """
    try:
        rows = numbers_file.read(file)
    except NumbersFileError as error:
        fail(f"{error}\n{NOTHING_CHANGED}")
    except OSError as error:
        fail(f"{file}: {error.strerror}\n{NOTHING_CHANGED}")
    settings = load_settings()
    with click.progressbar(length=len(rows), label="numbers", file=sys.stderr) as bar:
        report = run(_import_numbers(settings, account, rows, bar.update), settings)
    for text in wording.first_of([f"{file}:{line}: {fault}" for line, fault in report.refused]):
        click.echo(text, err=True)
    click.echo(
        f"{report.counts['create']} put to use, {report.counts['update']} changed, "
        f"{report.counts['unchanged']} as they were, {len(report.refused)} refused"
    )
    if report.refused:
        sys.exit(1)


@numbers.command("export")
@click.option("--account", required=True, help="The account whose numbers they are.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_numbers(account: str, file: Path) -> None:
    """Write all numbers in use to FILE: YAML if it ends in .yaml, else CSV. An import takes it as it is."""
    settings = load_settings()
    in_use = run(_numbers_in_use(settings, account), settings)
    bodies = [{"phoneNumber": number.removeprefix("+"), **wire.show(parts)} for number, parts in in_use.items()]
    try:
        _write(file, numbers_file.write(bodies, as_yaml=numbers_file.is_yaml(file)))
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    click.echo(f"{len(bodies)} numbers")


@main.group("keys")
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


def _write(file: Path, text: str) -> None:
    """Write a file whole or not at all; what is no regular file, such as a pipe, is written to as it is."""
    if file.exists() and not file.is_file():
        file.write_text(text, encoding="utf-8")
        return
    file = file.resolve()  # of a link, what it leads to is replaced
    beside = file.with_name(f".edgeproxy-{os.getpid()}")
    try:
        beside.touch(exist_ok=False)
        if file.exists():
            shutil.copymode(file, beside)
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


main.add_command(accounts)
main.add_command(check)
main.add_command(clock)
main.add_command(explain)
main.add_command(calls.export)
main.add_command(calls.erase)
main.add_command(simulate)
main.add_command(pool)
pool.add_command(size)


@contextlib.contextmanager
def _embedded(directory: Path) -> Any:
    try:
        with EmbeddedStore(directory) as embedded:
            yield embedded
    except EmbeddedStoreError as error:
        fail(str(error))


async def _prepare(settings: Settings, url: str, accounts: AccountFile | None) -> None:
    """Put functions, and accounts if given, into an embedded store, which no other release shares."""
    async with store_at(settings, url) as store:
        await store.load_functions(alone=True)
        if accounts is not None:
            await inventory.apply(store, await inventory.compare(store, accounts))
            await demo_data.fill(store)


async def _load(settings: Settings, accounts: AccountFile, dry_run: bool) -> list[inventory.Change]:
    async with store_of(settings) as store:
        if dry_run:
            return await inventory.compare(store, accounts)
        with audited("accounts.load", account=",".join(accounts.accounts)) as write:
            changes = await inventory.compare(store, accounts)
            write.account = ",".join(change.account for change in changes) or None
            write.fields = {name for change in changes for name in change.names()}
            names = [keys.account(change.account) for change in changes] + [keys.ACCOUNTS, keys.OWNERS, keys.TOKENS]
            functions = Functions(store, settings.durable_replicas)
            try:
                await inventory.apply(store, changes)
            except PartlyDoneError:
                await functions.flush(*names)
                raise
            await functions.flush(*names)  # lest a revoked secret or token come back after a crash
        return changes


async def _users(settings: Settings) -> dict[str, str]:
    async with store_of(settings) as store:
        return await Users(store).all()


async def _save_user(settings: Settings, name: str, user: User) -> None:
    async with store_of(settings) as store:
        with audited("users.add", account=user.account, record=name, fields=("account", "password")):
            await known_account(store, user.account)
            await Users(store).save(name, user)
            await Functions(store, settings.durable_replicas).flush(keys.USERS)


async def _remove_user(settings: Settings, name: str) -> bool:
    async with store_of(settings) as store:
        with audited("users.remove", record=name) as write:
            removed = await Users(store).remove(name)
            write.refused = not removed
            await Functions(store, settings.durable_replicas).flush(keys.USERS)
        return removed


async def _import_numbers(
    settings: Settings, account_name: str, rows: list[numbers_file.Row], done: Callable[[int], object]
) -> numbers_file.Report:
    parts = {name for row in rows if row.change is not None for name in row.change.parts()}
    async with store_of(settings) as store:
        with audited("numbers.import", account=account_name, fields=parts) as write:
            await store.load_functions()
            account = await known_account(store, account_name)
            report = await numbers_file.bring_in(store, account, rows, done, replicas=settings.durable_replicas)
            write.refused = len(report.refused) == len(rows) > 0
        return report


async def _numbers_in_use(settings: Settings, account_name: str) -> dict[str, Any]:
    async with store_of(settings) as store:
        return await Static(store).in_use(await known_account(store, account_name))


async def _rotate(settings: Settings) -> Tally:
    async with store_of(settings) as store:
        with audited("keys.rotate"):
            before = await rotation.rotate(store)
            await Functions(store, settings.durable_replicas).flush(*before.keys)
        return before


def _supervise(
    settings: Settings,
    store_url: str,
    embedded: EmbeddedStore | None,
    say: Callable[[str, str], Sequence[str]] = lambda edge, manage: (),
) -> None:
    try:
        supervisor = Supervisor(settings, store_url, embedded)
    except ListenError as error:
        fail(str(error))
    edge = f"http://{_reachable(settings.host)}:{supervisor.edge_port}"
    scheme = "http" if settings.manage_tls() is None else "https"
    manage = f"{scheme}://{_reachable(settings.manage_host)}:{supervisor.manage_port}"
    if embedded is not None:
        click.echo(f"store: {store_url}")
    click.echo(f"edge: {edge}")
    click.echo(f"manage: {manage}")
    click.echo(f"docs: {manage}/docs")
    for line in say(edge, manage):
        click.echo(line)
    sys.stdout.flush()
    supervisor.run(on_ready=lambda: click.echo("ready"))


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"[{host}]" if ":" in host else host


def _partner_example(manage: str, version: str) -> str:
    user = shlex.quote(f"{demo_data.USER}:{demo_data.PASSWORD}")
    return f"curl -sS --digest -u {user} {manage}/{version}/customers"


def _example(edge: str) -> str:
    body = orjson.dumps(
        {
            "advId": "demo",
            "numbers": "+493015981100",
            "type": "web",
            "fullUrl": "https://www.example.com/cars/42?utm_source=newsletter",
            "trackingId": "visitor-1",
            "fullReferrer": "https://www.example.com/",
            "parameters": {"custnr": "1412", "custname": "Autohaus Mitte"},
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "requestIpAddress": "203.0.113.7",
            "sessionId": "",
        }
    )
    signed = signature.sign(body, b"freespee")
    return f"curl -sS {edge}/api -H 'X-SIGN: {signed}' -d {shlex.quote(body.decode())}"
